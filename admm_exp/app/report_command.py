"""`admm-exp-report`: from a store to a page that compares its runs."""

import os
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.main import one_sentence, run_command
from admm_exp.errors import TrackingError
from admm_exp.results import REPORTS, write_atomically

if TYPE_CHECKING:
    from admm_exp.tracking.runs import Selection


@dataclass
class ReportSettings:
    """Which runs to compare, and where the page goes."""

    experiment_name: Annotated[str, MinLen(1)]
    tracking_uri: Annotated[str, MinLen(1)]
    parent: str | None
    filter: str | None
    output: str | None


def main() -> None:
    """Run `admm-exp-report`."""
    sys.argv[1:] = [_quoted(word) for word in sys.argv[1:]]
    run_command("report", ReportSettings, _task, builds=False)


def _quoted(word: str) -> str:
    """Quote a filter for Hydra's grammar, in which spaces and = end a value."""
    key, _, value = word.partition("=")
    if key != "filter" or value in ("", "null") or value[0] in "'\"":
        return word
    return 'filter="{}"'.format(value.replace('"', '\\"'))


def _task(composed: DictConfig) -> None:
    from admm_exp.config.check import check_settings

    settings: Any = OmegaConf.to_container(composed, resolve=True)
    with one_sentence(ReportSettings):
        page = write_comparison(check_settings(settings, ReportSettings))
    print(f"page     {os.path.relpath(page)}")
    print(f"figures  {os.path.relpath(page.parent)}{os.sep}*.png")


def write_comparison(settings: ReportSettings) -> Path:
    """Write the page and its figures.

    Returns:
        The page.

    Raises:
        TrackingError: If the runs cannot be read, or none has finished.
    """
    from admm_exp.report.figures.comparison import draw_comparison
    from admm_exp.report.figures.panels import rows_in_detail
    from admm_exp.report.page.page import comparison_page
    from admm_exp.sweep.terminal import SweepTerminal
    from admm_exp.tracking.runs import read_runs
    from admm_exp.tracking.view import run_links

    found = read_runs(
        settings.tracking_uri,
        settings.experiment_name,
        parent=settings.parent,
        among=settings.filter,
        detailed=rows_in_detail,
    )
    name = "-".join(filter(None, (found.experiment, settings.parent)))
    folder = Path(settings.output or Path(REPORTS, re.sub(r"[^\w.-]", "_", name)))
    rows, unfinished = _comparable(found)
    figures = draw_comparison(rows, folder)
    page = comparison_page(
        f"{found.experiment}: {len(rows)} run{'s' * (len(rows) != 1)}",
        _facts(settings, found),
        rows,
        figures,
        unfinished=unfinished,
        links=run_links(settings.tracking_uri, found.experiment_id, rows),
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    SweepTerminal(0).compared(rows)
    return path


def _comparable(found: "Selection") -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Part the runs that can be compared from those without a result, or that do not say enough.

    Raises:
        TrackingError: None can be.
    """
    from admm_exp.report.comparison import lacking

    rows = [row for row in found.rows if not lacking(row)]
    unfinished = [*found.unfinished]
    for row in found.rows:
        if missing := lacking(row):
            reason = f"says no {' and no '.join(missing)} that is a number"
            unfinished.append(
                {"run_name": row["run_name"], "status": row["status"], "error": reason}
            )
    if not rows:
        raise TrackingError(
            f"of the {len(found.rows)} finished runs of experiment {found.experiment!r} none can "
            f"be compared: {unfinished[-1]['run_name']!r} {unfinished[-1]['error']}"
        )
    return rows, unfinished


def _facts(settings: ReportSettings, found: "Selection") -> dict[str, str]:
    from admm_exp.tracking.address import without_password

    facts = {"experiment": found.experiment, "store": without_password(settings.tracking_uri)}
    if settings.parent:
        facts["sweep"] = settings.parent
    if settings.filter:
        facts["filter"] = settings.filter
    for name in ("dataset", "model", "method", "metric", "schedule"):
        facts[name] = ", ".join(sorted({str(row[name]) for row in found.rows if row.get(name)}))
    facts["written"] = datetime.now().strftime("%Y-%m-%d %H:%M")
    if found.repeats:
        facts["left out"] = f"{found.repeats} older runs with the settings of a newer one"
    if found.without_report:
        facts["without curves"] = (
            f"{found.without_report} of the runs shown, whose report.json cannot be reached here"
        )
    return facts
