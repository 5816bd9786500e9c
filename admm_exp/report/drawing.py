"""Figures of a run that is over, for those that were not drawn when it ended."""

from pathlib import Path

from admm_exp.report.figures.run import draw_all
from admm_exp.report.run import markdown, read_report
from admm_exp.results import FIGURES, PAGE
from admm_exp.training.checkpoint import write_atomically


def draw_run(run_dir: Path) -> list[Path]:
    """Draw what a finished run's report holds, unless that is done, and show it in its page.

    Args:
        run_dir: Folder of the run.

    Returns:
        The files written, of which the first is the page; none if there were figures.
    """
    folder = run_dir / FIGURES
    if folder.is_dir():
        return []
    report = read_report(run_dir)
    figures = draw_all(report, folder)
    write_atomically(run_dir / PAGE, markdown(report, has_figures=bool(figures)).encode())
    return [run_dir / PAGE, *figures]
