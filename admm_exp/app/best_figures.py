"""Figures of the best runs of a sweep, whose jobs draw none: most of them nobody looks at."""

from collections.abc import Sequence
from pathlib import Path

from admm_exp.report.comparison import Setting
from admm_exp.report.drawing import draw_run
from admm_exp.results import FIGURES
from admm_exp.tracking.late_files import add_files

MOST = 6


def draw_best(best: Sequence[Setting], tracking_uri: str | None) -> None:
    """Draw one run of each setting and add the figures to its MLflow run.

    Args:
        best: The best settings of a sweep; the first six are drawn.
        tracking_uri: Where MLflow keeps the runs; None if it does not.
    """
    for setting in best[:MOST]:
        run = setting.rows[0]
        files = draw_run(Path(run["run_dir"]))
        if files and tracking_uri and run["run_id"]:
            page, *figures = files
            add_files(tracking_uri, run["run_id"], [page])
            add_files(tracking_uri, run["run_id"], figures, FIGURES)
