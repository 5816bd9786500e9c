"""The command `admm-exp-search`: trials that Optuna chooses, under one parent run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from admm_exp.app.help_text import asks_for_help, search_help
from admm_exp.app.main import conf_dir
from admm_exp.app.main import main as run_admm_exp
from admm_exp.app.parent_run import JobSpec, Launch, open_sweep
from admm_exp.config.hashes import digest, group_hash
from admm_exp.report.run import read_report
from admm_exp.results import REPORT
from admm_exp.sweep.job import Job
from admm_exp.sweep.study import (
    RESULT,
    SearchSettings,
    TrialResult,
    ask,
    dead_energy_limits,
    open_study,
    result_of,
    usable,
)
from admm_exp.tracking.queries import close_lost_children
from admm_exp.tracking.run_status import tracked

SpecOf = Callable[[Mapping[str, Any]], JobSpec]


def main() -> None:
    """Run `admm-exp-search`."""
    if asks_for_help(sys.argv[1:]):
        print(search_help(conf_dir()))
    asks_only = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"} & set(sys.argv)
    sys.argv[1:1] = ["hydra/sweeper=search"] if asks_only else ["-m", "hydra/sweeper=search"]
    run_admm_exp()


def run_search(
    title: str,
    ranges: Mapping[str, Any],
    settings: SearchSettings,
    *,
    spec_of: SpecOf,
    master: DictConfig,
    launch: Launch,
) -> None:
    """Run trials until the study has as many as asked for.

    Args:
        title: What is searched.
        ranges: By key, a range as Hydra parses it.
        settings: How to search.
        spec_of: Makes a job of the value of every key.
        master: Configuration of the search.
        launch: Runs jobs and returns when all are over.

    Raises:
        AdmmExpError: A setting is wrong, or the store cannot be used; nothing has run.
        SystemExit: A trial failed.
    """
    from admm_exp.experiment.identity import run_code

    settings.check()
    base = spec_of({}).config
    decisive: list[Any] = [group_hash(base), title, list(settings.objectives)]
    if own := run_code(base):  # trials of other code are no trials of this search
        decisive.append(own)
    identity = digest(decisive)
    study = open_study(settings, settings.study_name or identity)
    left = settings.trials - _told(study)
    sweep = open_sweep(base, title, max(left, 0), identity, master)
    with tracked(sweep.tracker):
        try:
            while (left := settings.trials - _told(study)) > 0:
                with usable(settings.storage):
                    trials = [ask(study, ranges) for _ in range(min(left, settings.batch))]
                try:
                    specs = [_limited(spec_of(values), study, settings) for _, values in trials]
                    jobs = sweep.run(specs, launch)
                except BaseException:
                    for trial, _ in trials:
                        study.tell(trial, state=_state("killed"))
                    raise
                with usable(settings.storage):
                    for (trial, _), spec, job in zip(trials, specs, jobs, strict=True):
                        _tell(study, trial, spec, job, settings.objectives)
        finally:
            close_lost_children(sweep.tracker, sweep.folder)
        sweep.jobs = _earlier_jobs(study, sweep.jobs) + sweep.jobs
        sweep.conclude()


def _told(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _limited(spec: JobSpec, study: Any, settings: SearchSettings) -> JobSpec:
    """Compare with the trials that are over."""
    if not settings.stops_hopeless:
        return spec
    attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    results = [result for found in attributes if (result := result_of(found)) is not None]
    schedule = spec.config.schedule
    limits = dead_energy_limits(results, spec.config.sparsity, schedule.admm_iterations)
    return replace(spec, limits=limits)


def _tell(study: Any, trial: Any, spec: JobSpec, job: Job, objectives: Sequence[str]) -> None:
    if job.status not in ("finished", "reused") or job.run_dir is None:
        study.tell(trial, state=_state(job.status))
        return
    report = read_report(Path(job.run_dir))
    small = report["models"]["finetuned"]
    values = {"accuracy": small["val_accuracy"], "macs": small["macs"]}
    dead_energy = [row["dead_energy"] for row in report["admm"]["iterations"]]
    if dead_energy:
        result = TrialResult(spec.config.sparsity, small["val_accuracy"], dead_energy)
        trial.set_user_attr(RESULT, asdict(result))
    trial.set_user_attr("name", job.name)
    trial.set_user_attr("run_dir", job.run_dir)
    study.tell(trial, [values[name] for name in objectives])


def _state(status: str) -> Any:
    from optuna.trial import TrialState

    return TrialState.PRUNED if status == "stopped" else TrialState.FAIL


def _earlier_jobs(study: Any, known: Sequence[Job]) -> list[Job]:
    """Find the trials that earlier starts of the search have finished."""
    folders = {job.run_dir for job in known}
    attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    named = [(found.get("name"), found.get("run_dir")) for found in attributes]
    return [
        Job(name, "", status="reused", run_dir=run_dir)
        for name, run_dir in named
        if isinstance(name, str) and isinstance(run_dir, str) and run_dir not in folders
        if (Path(run_dir) / REPORT).exists()
    ]
