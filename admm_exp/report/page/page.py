"""Writing the page."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from admm_exp.report.comparison import (
    Row,
    best_per_amount,
    foremost,
    group_settings,
    judged_by,
    named,
    references,
    remark,
)
from admm_exp.report.figures.comparison import Drawing
from admm_exp.report.page.tables import SHOWN, runs_table, settings_table, unfinished_table

FIGURES = {
    "pareto": (
        "Accuracy against cost",
        "Points are settings, lines their std over seeds. Settings of the same MACs stand side by "
        "side, by rho.",
    ),
    "heatmaps": ("rho and sparsity", "Mean over seeds; empty cells were not run."),
    "residuals": ("Residuals", "Per ADMM iteration, one line a seed."),
    "channels": ("What is kept", "Channels, or finer units, that each group keeps."),
}


def comparison_page(
    title: str,
    facts: Mapping[str, str],
    rows: Sequence[Row],
    figures: Sequence[Drawing],
    *,
    unfinished: Sequence[Mapping[str, str]] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """Write a page that shows runs beside each other.

    Args:
        title: Headline, plain text.
        facts: What the reader should know about where the runs come from, plain text.
        rows: Finished runs, as `report.comparison` describes them; at least one with a result.
        figures: Those that `FIGURES` names are shown under their headline.
        unfinished: `run_name`, `status` and `error` of runs without a result.
        links: Addresses of runs by run id.

    Returns:
        HTML that holds its images and asks for nothing else.
    """
    settings = group_settings(rows)
    best, against = best_per_amount(settings), references(settings)
    remarks = {setting.amount: remark(setting, settings) for setting in best}
    has_seeds = any(setting.n > 1 for setting in settings)
    template = _environment().get_template("page.html.jinja")
    return template.render(
        title=title,
        facts=facts,
        chosen_on="validation" if judged_by(settings) == "val_accuracy" else "test",
        references={amount: named(setting) for amount, setting in against.items()},
        shown=SHOWN,
        figures={drawing.path.stem: _figure(drawing) for drawing in figures},
        best=settings_table(best, remarks=remarks),
        settings=settings_table(foremost(settings, SHOWN), against) if has_seeds else None,
        runs=runs_table(settings, links or {}),
        unfinished=unfinished_table(unfinished) if unfinished else None,
    )


def _figure(drawing: Drawing) -> dict[str, Any]:
    title, caption = FIGURES[drawing.path.stem]
    data = base64.b64encode(drawing.path.read_bytes()).decode()
    source = f"data:image/png;base64,{data}"
    return {"title": title, "caption": caption, "source": source, "spots": drawing.spots}


def _environment() -> Any:
    """Return the environment of the templates, in which every text is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _resource(name: str) -> str:
    return (files("admm_exp.report.page") / name).read_text(encoding="utf-8")
