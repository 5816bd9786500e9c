"""Writing the page."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from admm_exp.report.comparison import (
    Row,
    Setting,
    best_per_amount,
    judged_by,
    named,
    references,
    remark,
    settings_of,
)
from admm_exp.report.page.tables import runs_table, settings_table, unfinished_table

# Nothing outside the file is asked for, also if a name in it were to try.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
FIGURES = {
    "pareto": ("Accuracy against cost", "Points are settings, lines their std over seeds."),
    "heatmaps": ("rho and sparsity", "Mean over seeds; empty cells were not run."),
    "residuals": ("Residuals", "Per ADMM iteration, one line a seed."),
    "channels": ("What is kept", "Channels, or finer units, that each group keeps."),
}


def comparison_page(
    title: str,
    facts: Mapping[str, str],
    rows: Sequence[Row],
    figures: Sequence[Path],
    *,
    unfinished: Sequence[Mapping[str, str]] = (),
    links: Mapping[str, str] | None = None,
) -> str:
    """Write a page that shows runs beside each other.

    Args:
        title: Headline, plain text.
        facts: What the reader should know about where the runs come from, plain text.
        rows: Finished runs, as `report.comparison` describes them; at least one with a result.
        figures: PNG files; those that `FIGURES` names are shown under their headline.
        unfinished: `run_name`, `status` and `error` of runs without a result.
        links: Addresses of runs by run id.

    Returns:
        HTML that holds its images and asks for nothing else.
    """
    settings = settings_of(rows)
    pictures = {path.stem: _figure(path) for path in figures}
    sections = [_best(settings), *(pictures.get(name, "") for name in ("pareto", "heatmaps"))]
    if any(setting.n > 1 for setting in settings):
        sections.append(_all(settings))
    sections += [pictures.get(name, "") for name in ("residuals", "channels")]
    sections.append("<h2>Runs</h2>" + runs_table(settings, links or {}))
    if unfinished:
        sections.append("<h2>Without a result</h2>" + unfinished_table(unfinished))
    body = "\n".join(section for section in sections if section)
    known = "".join(f"<dt>{escape(key)}</dt><dd>{escape(facts[key])}</dd>" for key in facts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_resource("page.css")}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<dl>{known}</dl>
{body}
<script>
{_resource("page.js")}</script>
</body>
</html>
"""


def _best(settings: Sequence[Setting]) -> str:
    chosen_on = "validation" if judged_by(settings) == "val_accuracy" else "test"
    best = best_per_amount(settings)
    remarks = {setting.amount: remark(setting, settings) for setting in best}
    return (
        "<h2>Best of each sparsity or budget</h2>"
        f'<p class="quiet">Chosen on {chosen_on} accuracy, among equals by the smaller primal '
        "residual; test accuracy is what it then reaches. A choice is told apart from another by "
        "more than 2 standard errors of their difference, seed by seed. "
        "“After the cut” is test accuracy before any finetuning; one MAC is two FLOPs.</p>"
        + settings_table(best, remarks=remarks)
    )


def _all(settings: Sequence[Setting]) -> str:
    against = references(settings)
    names = {amount: named(setting) for amount, setting in against.items()}
    told = "; ".join(f"{amount}: {name}" for amount, name in names.items())
    explained = (
        f'<p class="quiet">Differences are of test accuracy in percentage points ± standard error, '
        f"seed by seed, to {escape(told)}. Training is what came after the dense network: "
        f"multiply-adds of forward and backward passes, and seconds.</p>"
    )
    return "<h2>Settings</h2>" + (explained if told else "") + settings_table(settings, against)


def _figure(path: Path) -> str:
    title, caption = FIGURES[path.stem]
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<h2>{title}</h2><figure><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _resource(name: str) -> str:
    return (files("admm_exp.report.page") / name).read_text(encoding="utf-8")
