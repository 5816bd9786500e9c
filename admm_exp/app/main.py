"""From the command line to a run: compose, go on or repeat; one sentence when it cannot be."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.command_line import (
    forget_empty_address,
    options_first,
    pipe_may_close,
    require_one_option,
    require_single,
)
from admm_exp.app.help_text import asks_for_help, explained
from admm_exp.app.parts_here import look_for_confirmed_parts, look_for_parts_here
from admm_exp.app.rerun import (
    REPEAT,
    RESUME,
    asked_for,
    is_finished,
    new_folder_like,
    require_finished,
    stored_settings,
)
from admm_exp.app.run import RunRequest, follow, run
from admm_exp.app.sweep_job import left_by_an_earlier_process
from admm_exp.app.wording import PlainSigns, explain
from admm_exp.config.settings import ExperimentConfig
from admm_exp.sweep.job import find_job, job_path
from admm_exp.tracking.process_tracker import RARELY
from admm_exp.training.processes import is_follower

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = "ADMM_EXP_TRACEBACK"
PLUGINS = str(Path(__file__).parent / "_plugins")

# Hydra looks for sweepers and launchers in the package hydra_plugins alone, in every process.
if PLUGINS not in sys.path:
    sys.path.append(PLUGINS)


def conf_dir() -> Path:
    """Find conf/: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"conf/config.yaml is neither in {package} nor beside it: reinstall")


# Lets a preset name a file that lies beside it: ${conf:experiment/lenet5_71x.layers.yml}
OmegaConf.register_new_resolver("conf", lambda name: str(conf_dir() / name), replace=True)


def main() -> None:
    """Run `admm-exp`."""
    if is_follower():
        _follow()
        return
    run_command("config", ExperimentConfig, _task, _earlier, sweeps=True)


def _follow() -> None:
    """Take part in a run that another process leads."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault(WANTS_TRACEBACK, os.environ.get(FULL_ERROR, "0"))
    with one_sentence():
        asked = asked_for(RESUME, sys.argv[1:]) or asked_for(REPEAT, sys.argv[1:])
        if asked:
            look_for_confirmed_parts(*asked)
        else:
            look_for_parts_here()
        follow()


def run_command(
    config_name: str,
    schema: type,
    task: Callable[[DictConfig], Any],
    shortcut: Callable[[list[str]], bool] = lambda arguments: False,
    *,
    sweeps: bool = False,
    builds: bool = True,
) -> None:
    """Compose the settings of a command and run its task; say in one sentence what goes wrong.

    Args:
        config_name: File in conf/, which starts from `schema`.
        schema: Dataclass of the settings.
        task: What to do with them.
        shortcut: Looks at the arguments first; True if that was all.
        sweeps: Whether it takes -m.
        builds: Whether it builds parts, which may lie in the current folder; a command that only
            reads what others may have made runs nothing that lies there.
    """
    gc.set_threshold(RARELY)
    # Hydra raises instead of printing, so that every error is worded in one place.
    wants_traceback = os.environ.setdefault(WANTS_TRACEBACK, os.environ.get(FULL_ERROR, "0"))
    os.environ[FULL_ERROR] = "1"
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other
    if logging.lastResort is not None:  # what shows warnings: Hydra's own logging is left out
        logging.lastResort.setFormatter(PlainSigns())
    ConfigStore.instance().store(name="schema", node=schema)
    forget_empty_address()
    try:
        with pipe_may_close():
            if shortcut(sys.argv[1:]):
                return
            sys.argv[1:] = options_first(sys.argv[1:])
            if not sweeps:
                require_single(sys.argv[1:])
            require_one_option(sys.argv[1:], conf_dir())
            if builds:
                look_for_parts_here()
            with explained(conf_dir(), asks_for_help(sys.argv[1:])):
                hydra.main(
                    version_base="1.3", config_path=str(conf_dir()), config_name=config_name
                )(task)()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except Exception as error:
        if wants_traceback == "1":
            raise
        sys.exit(explain(error, schema))


@contextmanager
def one_sentence(schema: type = ExperimentConfig) -> Iterator[None]:
    """End the command with one sentence if the body fails, past Hydra, which would add lines."""
    try:
        yield
    except Exception as error:
        if os.environ[WANTS_TRACEBACK] != "1":
            sys.exit(explain(error, schema))
        raise


def _task(composed: DictConfig) -> float:
    """Run one job and return the finetuned network's validation accuracy."""
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    start = Path(hydra_config.runtime.cwd)
    os.chdir(start)  # a cluster's process begins elsewhere, and relative paths mean the user's
    is_inside = bool(hydra_config.job.chdir)
    if hydra_config.mode == RunMode.RUN:
        given = hydra_config.overrides.task
        with one_sentence():
            return run(RunRequest(composed, run_dir, is_inside=is_inside, given=given))
    look_for_parts_here()
    path = job_path(start / hydra_config.sweep.dir, hydra_config.job.num)
    is_resumed, accuracy = left_by_an_earlier_process(path, run_dir)
    if accuracy is not None:
        return accuracy
    return run(RunRequest(composed, run_dir, path, is_resumed=is_resumed, is_inside=is_inside))


def _earlier(arguments: list[str]) -> bool:
    """Go on with a run or repeat it, if that is what the user asks for."""
    if asked := asked_for(REPEAT, arguments):
        _repeat(*asked)
    elif asked := asked_for(RESUME, arguments):
        _resume(*asked)
    return asked is not None


def _settings_of(run_dir: Path, word: str, changes: list[str]) -> DictConfig:
    look_for_confirmed_parts(run_dir, changes)
    own_store: Any = OmegaConf.load(conf_dir() / "address.yaml")
    return stored_settings(run_dir, word, changes, own_store)


def _repeat(run_dir: Path, changes: list[str]) -> None:
    """Run the settings of a run again and compare the results."""
    settings = _settings_of(run_dir, REPEAT, changes)
    require_finished(run_dir)
    from admm_exp.experiment.repeat import compare_runs, require_comparable

    require_comparable(run_dir)
    again = new_folder_like(run_dir)
    run(RunRequest(settings, again))
    print("\n".join(compare_runs(run_dir, again)))


def _resume(run_dir: Path, changes: list[str]) -> None:
    """Go on where a run stopped."""
    settings = _settings_of(run_dir, RESUME, changes)
    if is_finished(run_dir):
        from admm_exp.report.drawing import draw_run

        draw_run(run_dir)  # a job of a sweep may have none
        print(f"{run_dir} is finished: its results are in {run_dir / 'report.md'}")
    else:
        job_file = find_job(run_dir)
        run(RunRequest(settings, run_dir.absolute(), job_file, is_resumed=True, is_shown=True))
