"""One run from its settings to its result, in the process that leads it or in one that follows."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from admm_exp.app import run_folder
from admm_exp.app.library_warnings import shown_once
from admm_exp.app.rerun import keep_settings
from admm_exp.app.sweep_job import noted
from admm_exp.config.settings import ExperimentConfig
from admm_exp.results import ARTIFACTS, CACHE, History
from admm_exp.sweep.job import Job, read_job
from admm_exp.training.processes import READY, WORK, Team, launched, leading, usable_cores

if TYPE_CHECKING:
    from admm_exp.experiment.components import Components
    from admm_exp.phases.observers import Observer
    from admm_exp.phases.snapshot import Snapshot
    from admm_exp.report.terminal import Terminal
    from admm_exp.tracking.process_tracker import StoreProcess
    from admm_exp.tracking.tracker import Tracker


@dataclass(frozen=True)
class RunRequest:
    """What is asked of a run.

    Args:
        composed: Its settings.
        run_dir: Its folder.
        job_path: File of the job that it is in a sweep; the sweep tells of it, the terminal does
            not.
        is_resumed: Go on with what is in the folder.
        is_shown: Show it on the terminal although it is a job of a sweep.
        is_inside: Let the user's own code work in the run's folder; paths start here all the same.
        given: The overrides that the user gave.
    """

    composed: DictConfig
    run_dir: Path
    job_path: Path | None = None
    is_resumed: bool = False
    is_shown: bool = False
    is_inside: bool = False
    given: Sequence[str] = ()

    @property
    def told_by(self) -> Path | None:
        """The job's file, if the sweep tells of the run."""
        return None if self.is_shown else self.job_path

    def settings(self) -> dict[str, Any]:
        """Resolve the settings to nested plain containers."""
        settings: Any = OmegaConf.to_container(self.composed, resolve=True, enum_to_str=True)
        return run_folder.with_absolute_paths(settings) if self.is_inside else settings


@dataclass(frozen=True)
class Prepared:
    """What a run needs: checked, built, and reachable."""

    settings: dict[str, Any]
    config: ExperimentConfig
    job: Job | None
    terminal: "Terminal"
    observer: "Observer"
    team: Team
    components: "Components"
    earlier: "Snapshot | None"
    tracker: "Tracker"


def run(request: RunRequest) -> float:
    """Run an experiment and return the finetuned network's validation accuracy.

    Raises:
        AdmmExpError: If it cannot be run as asked; the folder that Hydra made for it is gone then.
    """
    path = request.job_path
    with (
        shown_once(None if path is None else path.parent),
        run_folder.alone_in(request.run_dir),
        nullcontext() if path is None else noted(path, request.run_dir),
        ExitStack() as others,
    ):
        return _execute(request, _prepare(request, others), others)


def _prepare(request: RunRequest, others: ExitStack) -> Prepared:
    from admm_exp.config.check import check_config

    run_dir, path = request.run_dir, request.told_by
    job = None if path is None else read_job(path)
    try:
        settings = request.settings()
        # before torch is imported: a person waits for the answer
        config = check_config(settings, request.given)
        if request.is_resumed:
            run_folder.remove_half_written(run_dir)
        else:
            run_folder.require_outside(run_dir, config.pretrained, config.from_run)
        beside = _store_beside(config, job, others)
        from admm_exp.app.build import build_components, tracker_of
        from admm_exp.report.terminal import Terminal
        from admm_exp.sweep.job import JobObserver

        terminal = Terminal()
        others.callback(terminal.close)
        team = others.enter_context(leading(config.trainer.devices, job is not None))
        if path is None:
            terminal.working("reading the data, building the network, proving its groups")
        components = build_components(config, team)
        terminal.close()
        from admm_exp.experiment.run import find_checkpoint

        earlier = find_checkpoint(config, components, run_dir) if request.is_resumed else None
        if not request.is_resumed:
            keep_settings(settings, run_dir)
            run_folder.remove_result(run_dir)  # of the run that force=true gives up
        return Prepared(
            settings=settings,
            config=config,
            job=job,
            terminal=terminal,
            observer=terminal if path is None else JobObserver(path),
            team=team,
            components=components,
            earlier=earlier,
            tracker=tracker_of(
                *(config, components.previous, run_dir, job, request.is_resumed), beside=beside
            ),
        )
    except Exception:
        if job is None and not request.is_resumed:
            run_folder.remove_unused(run_dir)
        raise


def _store_beside(
    config: ExperimentConfig, job: Job | None, others: ExitStack
) -> "StoreProcess | None":
    """Load MLflow in a process of its own where that saves time.

    Returns:
        The process; None for jobs, of which many share a processor or a process that has loaded
        MLflow already.
    """
    is_loaded = "mlflow" in sys.modules
    if job is not None or is_loaded or config.tracking.name == "none" or usable_cores() < 2:
        return None
    from admm_exp.tracking.process_tracker import StoreProcess

    return others.enter_context(StoreProcess(config.tracking_uri, Path(ARTIFACTS)))


def _execute(request: RunRequest, made: Prepared, others: ExitStack) -> float:
    from admm_exp.experiment.artifacts import Folders
    from admm_exp.experiment.functions import steps_per_epoch
    from admm_exp.experiment.run import run_experiment
    from admm_exp.tracking.run_status import tracked
    from admm_exp.training.step_rates import all_steps

    config, components, terminal = made.config, made.components, made.terminal
    cache = Path(CACHE).absolute() if request.is_inside else Path(CACHE)
    folders = Folders(request.run_dir, cache)
    work = {"settings": made.settings, "is_resumed": request.is_resumed}
    work |= {"run_dir": str(folders.run_dir), "cache_dir": str(cache)}
    is_alone = made.job is None
    try:
        with (
            tracked(made.tracker),
            made.team.working(work, components.device, config.trainer.patience_seconds),
            run_folder.room_in(folders.run_dir),
            chdir(folders.run_dir if request.is_inside else "."),
        ):
            if is_alone:
                terminal.started(config, steps_per_epoch(config, components.dataset))
                others.enter_context(all_steps(terminal.stepped))
            report = run_experiment(
                *(config, components, folders, made.observer, made.tracker),
                earlier=made.earlier,
                is_drawn=is_alone if config.figures == "auto" else config.figures == "all",
            )
    finally:
        terminal.close()
    if is_alone:
        terminal.finished(report, run_folder.from_here(folders.run_dir))
    return float(report["models"]["finetuned"]["val_accuracy"])


def follow() -> None:
    """Do what the first process says; what a run leaves behind is left by the first alone.

    Raises:
        AdmmExpError: What goes wrong in all processes, or in this one alone.
    """
    from admm_exp.app.build import build_components
    from admm_exp.config.check import check_config
    from admm_exp.training.distribution import joined, told

    team = launched()
    assert team.store is not None
    work = json.loads(told(team.store, WORK))
    if work is None:  # the first process has said why
        return
    config = check_config(work["settings"])
    components = build_components(config, team)
    team.store.set(f"{READY}/{team.rank}", "")
    patience = config.trainer.patience_seconds
    with joined(team.rank, team.world, team.store, components.device, patience):
        from admm_exp.experiment.artifacts import Folders
        from admm_exp.experiment.run import find_checkpoint, run_experiment
        from admm_exp.tracking.tracker import NullTracker

        folders = Folders(Path(work["run_dir"]), Path(work["cache_dir"]))
        is_resumed = work["is_resumed"]
        earlier = find_checkpoint(config, components, folders.run_dir) if is_resumed else None
        run_experiment(config, components, folders, History(), NullTracker(), earlier=earlier)
