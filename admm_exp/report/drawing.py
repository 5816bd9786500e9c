"""Figures of a run that is over, for those that were not drawn when it ended."""

from pathlib import Path

from admm_exp.errors import CheckpointError
from admm_exp.report.figures.run import draw_all
from admm_exp.report.run import markdown, read_report
from admm_exp.results import FIGURES, PAGE, REPORT, write_atomically

DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def draw_run(run_dir: Path) -> list[Path]:
    """Draw what a finished run's report holds, unless that is done, and show it in its page.

    Args:
        run_dir: Folder of the run.

    Returns:
        The files written, of which the first is the page; none if there were figures.

    Raises:
        CheckpointError: If its report is damaged.
    """
    folder = run_dir / FIGURES
    if folder.is_dir() or folder.is_symlink():
        return []
    report = read_report(run_dir)
    try:
        page = markdown(report)
        figures = draw_all(report, folder)
    except DAMAGE as error:
        raise CheckpointError(
            f"{run_dir / REPORT} is damaged ({type(error).__name__}: {error})"
        ) from error
    if not figures:
        page = markdown(report, has_figures=False)
    write_atomically(run_dir / PAGE, page.encode())
    return [run_dir / PAGE, *figures]
