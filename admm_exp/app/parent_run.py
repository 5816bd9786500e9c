"""A sweep: what is missing runs, and the parent run holds what came out of all jobs."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.best_figures import draw_best
from admm_exp.app.reuse import changes_since_report
from admm_exp.app.sweep_folder import claim_folder, give_back, next_number, set_aside
from admm_exp.app.wording import sentence
from admm_exp.config.check import check_config
from admm_exp.config.hashes import config_hash
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import AdmmExpError
from admm_exp.report.comparison import best_per_amount, group_settings
from admm_exp.report.figures.comparison import draw_comparison
from admm_exp.results import ARTIFACTS, FIGURES, JOURNAL, write_atomically
from admm_exp.sweep.differences import difference_metrics, key_of
from admm_exp.sweep.finished import FinishedReports
from admm_exp.sweep.job import OVER_WELL, Job, job_path, read_job, write_job
from admm_exp.sweep.tables import best_by_amount, finished_rows, sweep_page, write_sweep
from admm_exp.sweep.terminal import SweepTerminal
from admm_exp.sweep.watch import Watch, job_accuracy, job_row
from admm_exp.tracking.address import without_password
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.provenance import ask_git, command
from admm_exp.tracking.queries import earlier_sweep, finished_among
from admm_exp.tracking.tracker import NullTracker, Tracker

LOST = "its process died: killed, or out of memory"

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]
Reports = Callable[[Iterable[str]], dict[str, list[Path]]]


@dataclass(frozen=True)
class JobSpec:
    """A job to be: its name, the overrides that make it, its checked configuration."""

    name: str
    overrides: Sequence[str]
    config: ExperimentConfig
    limits: tuple[float, ...] = ()


@dataclass
class Sweep:
    """What goes on under one parent run.

    Args:
        title: What it is about.
        experiment_name: Of the parent run and its children.
        folder: Where it is kept.
        tracker: The parent run.
        terminal: Who watches.
        reports: Finds the reports of finished runs by configuration hash.
        jobs: All jobs that are over.
        launched: Number of jobs that a launcher has had.
        draws_best: Draw the figures of the best runs, where the jobs drew none.
    """

    title: str
    experiment_name: str
    folder: Path
    tracker: Tracker
    terminal: SweepTerminal
    reports: Reports
    jobs: list[Job] = field(default_factory=list)
    launched: int = 0
    draws_best: bool = True

    def run(self, specs: Sequence[JobSpec], launch: Launch) -> list[Job]:
        """Run the jobs that have no result yet, and return all as they ended.

        Args:
            specs: The jobs.
            launch: Runs the jobs of these overrides, numbered from its second argument on, and
                returns when all are over.
        """
        keys = [config_hash(spec.config) for spec in specs]
        reports = self.reports(keys)
        jobs = [self._job(spec, key, reports) for spec, key in zip(specs, keys, strict=True)]
        missing = [index for index, job in enumerate(jobs) if not job.is_over]
        for job in jobs:
            if job.is_over:
                self.terminal.job_changed(job, job_accuracy(job))
        paths = [job_path(self.folder, self.launched + n) for n in range(len(missing))]
        for path, index in zip(paths, missing, strict=True):
            write_job(path, jobs[index])
        with Watch(paths, self.terminal) as watch:
            try:
                if missing:
                    launch([specs[index].overrides for index in missing], self.launched)
            except KeyboardInterrupt:
                watch.close("killed", None)
                raise
            except AdmmExpError as error:
                nothing_began = watch.is_all_waiting
                watch.close("failed", sentence(error), is_told=not nothing_began)
                if nothing_began:  # the launcher refused all jobs for one reason, told once
                    raise
            except Exception as error:
                watch.close("failed", sentence(error))
            else:
                watch.close("failed", LOST)
        self.launched += len(missing)
        for path, index in zip(paths, missing, strict=True):
            jobs[index] = read_job(path)
        self.jobs += jobs
        return jobs

    def conclude(self) -> None:
        """Put all results together: tables, figures, parent run.

        Raises:
            SystemExit: A job failed.
        """
        rows = [job_row(job) for job in self.jobs]
        finished = finished_rows(rows)
        drawings = draw_comparison(finished, self.folder / FIGURES)
        figures = [drawing.path for drawing in drawings]
        page = sweep_page(self.title, shown_command(), rows, figures)
        for path in write_sweep(page, rows, self.folder):
            self.tracker.log_artifact(path)
        for path in figures:
            self.tracker.log_artifact(path, FIGURES)
        settings = group_settings(finished)
        chosen = best_per_amount(settings)
        if self.draws_best:
            draw_best(chosen, self.tracker.tracking_uri)
        best = {f"best.{key_of(best)}": said for best, said in best_by_amount(finished).values()}
        note = sweep_page("", shown_command(), rows)  # a note shows no pictures, its run the title
        self.tracker.set_tags({"mlflow.note.content": note} | best)
        counts = {"sweep/jobs": len(rows), "sweep/finished": len(finished)}
        self.tracker.log_metrics(counts | difference_metrics(settings), step=0)
        self.terminal.finished(rows)
        self.terminal.where(self.folder, self.tracker.tracking_uri, self.experiment_name)
        failed = [job.name for job in self.jobs if job.status not in OVER_WELL]
        if failed:
            text = f"{len(failed)} of {len(rows)} jobs failed: {'; '.join(failed)}"
            self.tracker.finish("FAILED", text)
            raise SystemExit(f"error: {text}; the same command runs them again")

    def _job(self, spec: JobSpec, key: str, reports: Mapping[str, Sequence[Path]]) -> Job:
        """Make a job, over already if a finished run has its settings, data, versions and code."""
        parent = self.tracker.run_id
        missing = Job(spec.name, key, parent, limits=spec.limits)
        changes: Sequence[str] = ()
        for path in reversed(reports.get(key, ())):
            found = changes_since_report(path, spec.config)
            if not found:
                return Job(spec.name, key, parent, status="reused", run_dir=str(path.parent))
            changes = changes or found
        if changes:
            self.terminal.job_warned(missing, f"runs again: {', '.join(changes)}")
        return missing


def open_sweep(
    config: ExperimentConfig, title: str, total: int, identity: str, master: DictConfig
) -> Sweep:
    """Look for what is finished, take a folder and open the parent run.

    Args:
        config: Settings that all jobs share.
        title: What is swept.
        total: Number of jobs.
        identity: Names the set of jobs; the same one goes on under the same parent run.
        master: Configuration of the sweep, changed where its folder is taken.

    Raises:
        AdmmExpError: The store cannot be used; nothing is written.
    """
    earlier = None
    if config.tracking.name != "none":
        artifacts = Path(ARTIFACTS)
        earlier = earlier_sweep(config.tracking_uri, config.experiment_name, artifacts, identity)
    reports = _reusable(config, Path(master.hydra.sweep.dir))
    folder = claim_folder(master)
    tags = {"kind": "sweep", "grid": title, "sweep_hash": identity, "command": shown_command()}
    shown = config.name or title
    run_id = None if config.force else earlier
    set_aside(folder, run_id)
    tracker = _open_parent(config, shown, folder, tags, run_id)
    stored = without_password(OmegaConf.to_yaml(master))
    write_atomically(folder / "multirun.yaml", stored.encode())
    terminal = SweepTerminal(total)
    terminal.started(shown, folder)
    draws_best = config.figures == "auto"
    return Sweep(
        *(shown, config.experiment_name, folder, tracker, terminal, reports),
        draws_best=draws_best,
        launched=next_number(folder),
    )


def shown_command() -> str:
    """Return what the user typed, without passwords."""
    return shlex.join(without_password(word) for word in command())


def checked(composed: DictConfig, given: Sequence[str]) -> ExperimentConfig:
    """Check the composed configuration of a job, and what was typed for it.

    Raises:
        ConfigError: A setting is wrong.
    """
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)
    try:
        settings: Any = OmegaConf.to_container(
            OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]),
            resolve=True,
            enum_to_str=True,
        )
    finally:
        HydraConfig.instance().cfg = before
    return check_config(settings, given)


def _reusable(config: ExperimentConfig, sweep_dir: Path) -> Reports:
    """Prepare to find finished runs; where runs are tracked, those in the store alone count."""
    if config.force:
        return lambda keys: {}
    outputs = Path("outputs").absolute()
    places = ("runs/*", "sweeps/*/*", "searches/*/*")
    folders = [folder for place in places for folder in outputs.glob(place)]
    reports = FinishedReports([*folders, *sweep_dir.glob("*")])

    def of(keys: Iterable[str]) -> dict[str, list[Path]]:
        found = list(reports.of(keys))
        if config.tracking.name != "none":
            run_ids = [report.run_id for report in found if report.run_id]
            known = finished_among(config.tracking_uri, config.experiment_name, run_ids)
            found = [report for report in found if report.run_id in known]
        paths: dict[str, list[Path]] = {}
        for report in found:
            paths.setdefault(report.config_hash, []).append(report.path)
        return paths

    return of


def _open_parent(
    config: ExperimentConfig, title: str, folder: Path, tags: dict[str, str], run_id: str | None
) -> Tracker:
    if config.tracking.name == "none":
        return NullTracker()
    commit = ask_git("rev-parse", "HEAD")
    try:
        return open_tracker(
            config.tracking_uri,
            config.experiment_name,
            title[:250],
            Path(ARTIFACTS).absolute(),
            folder / JOURNAL,
            tags=tags
            | {"run_dir": str(folder)}
            | ({"mlflow.source.git.commit": commit} if commit else {}),
            run_id=run_id,
        )
    except Exception:
        give_back(folder)
        raise
