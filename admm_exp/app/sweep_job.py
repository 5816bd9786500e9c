"""A job of a sweep: what its file says while it runs, and whether it goes on with earlier work."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from admm_exp.app.rerun import is_finished
from admm_exp.app.wording import sentence
from admm_exp.errors import StoppedError
from admm_exp.results import ERROR, REPORT, read_json
from admm_exp.sweep.job import MAY_COME_BACK, begin_job, end_job, interrupt_job, read_job


def left_by_an_earlier_process(path: Path, run_dir: Path) -> tuple[bool, float | None]:
    """Look for what an earlier process of the same job has left: a cluster starts jobs again.

    Args:
        path: The job's file.
        run_dir: Its folder.

    Returns:
        Whether there is something to go on with; the validation accuracy, if that is all there is
        to do because the process died between the result and the job's file.
    """
    if not read_job(path).goes_on_in(run_dir):
        return False, None
    if not is_finished(run_dir):
        return True, None
    end_job(path, "finished")
    report = read_json(run_dir / REPORT)
    return True, float(report["models"]["finetuned"]["val_accuracy"])


@contextmanager
def noted(path: Path, run_dir: Path) -> Iterator[None]:
    """Say in the file of a sweep's job how it goes."""
    (run_dir / ERROR).unlink(missing_ok=True)
    begin_job(path, run_dir)
    try:
        yield
    except StoppedError as error:
        end_job(path, "stopped", str(error))
        raise
    except Exception as error:
        (run_dir / ERROR).write_text("".join(traceback.format_exception(error)))
        end_job(path, "failed", sentence(error))
        raise
    except BaseException:
        if MAY_COME_BACK in os.environ:
            interrupt_job(path)
        else:
            end_job(path, "killed")
        raise
    end_job(path, "finished")
