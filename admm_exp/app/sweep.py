"""A sweep as one story: what is missing runs, and the parent run holds what came out of all."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf, open_dict

from admm_exp.app.errors import sentence
from admm_exp.app.watch import Watch, job_accuracy, job_row
from admm_exp.comparison import best_per_sparsity, settings_of
from admm_exp.config import ExperimentConfig, config_hash, digest
from admm_exp.figures.comparison import draw_comparison
from admm_exp.job_file import Job, finished_reports, job_path, read_job, write_job
from admm_exp.provenance import ask_git, command
from admm_exp.schema import check_config
from admm_exp.sweep_report import finished_rows, sweep_page, write_sweep
from admm_exp.sweep_terminal import SweepTerminal
from admm_exp.tracking import NullTracker, Tracker, open_tracker, tracked
from admm_exp.tracking.address import without_password
from admm_exp.tracking.queries import Held, close_lost_children, look_up

ARTIFACTS = Path("outputs/artifacts")
LOST = "its process died: killed, or out of memory"

Launch = Callable[[Sequence[Sequence[str]]], Sequence[JobReturn]]


@dataclass(frozen=True)
class Planned:
    """A job of the grid: its name, the overrides that make it, its composed configuration."""

    name: str
    overrides: Sequence[str]
    composed: DictConfig


def run_sweep(planned: Sequence[Planned], grid: str, master: DictConfig, launch: Launch) -> None:
    """Run the jobs of a grid that have no result yet, and put all results together.

    Args:
        planned: the jobs.
        grid: what is swept, as the user wrote it.
        master: configuration of the sweep, changed where its folder is taken.
        launch: runs jobs and returns when all are over.

    Raises:
        AdmmExpError: a job's settings are wrong, or the store cannot be used; nothing has run.
        SystemExit: a job failed.
    """
    configs = [_checked(plan.composed) for plan in planned]
    first = configs[0]
    hashes = [config_hash(config) for config in configs]
    sweep_hash = digest([first.experiment_name, *sorted(hashes)])
    held = None
    if first.tracking.name != "none":
        held = look_up(first.tracking_uri, first.experiment_name, ARTIFACTS, sweep_hash)
    reports = {} if first.force else _reusable(held, first.tracking_uri)
    jobs = [_job(plan.name, key, reports) for plan, key in zip(planned, hashes, strict=True)]

    title = first.name or grid or jobs[0].name
    folder = claim_folder(master)
    tags = {"grid": grid, "sweep_hash": sweep_hash, "command": shown_command()}
    tracker = _open_parent(first, title, folder, tags, None if first.force else held)
    jobs = [replace(job, parent_run_id=tracker.run_id) for job in jobs]
    terminal = SweepTerminal(len(jobs))
    terminal.started(title, folder)
    OmegaConf.save(master, folder / "multirun.yaml")
    with tracked(tracker):
        try:
            jobs = _run_missing(jobs, planned, folder, launch, terminal)
        finally:
            close_lost_children(tracker)
        _conclude(jobs, title, folder, tracker, terminal)


def claim_folder(master: DictConfig) -> Path:
    """Make the sweep's folder, under another name if another sweep has just taken it.

    Args:
        master: configuration of the sweep; names the folder afterwards.
    """
    wanted = Path(master.hydra.sweep.dir).absolute()
    is_fixed = any(o.startswith("hydra.sweep.dir=") for o in master.hydra.overrides.hydra)
    folder, count = wanted, 1
    wanted.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            folder.mkdir(exist_ok=is_fixed)
            break
        except FileExistsError:
            count += 1
            folder = wanted.with_name(f"{wanted.name}-{count}")
    with open_dict(master):
        master.hydra.sweep.dir = str(folder)
        quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
        master.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
    return folder


def shown_command() -> str:
    """Return what the user typed, without passwords."""
    return shlex.join(without_password(word) for word in command())


def _checked(composed: DictConfig) -> ExperimentConfig:
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
    return check_config(settings)


def _reusable(held: Held | None, tracking_uri: str) -> dict[str, Path]:
    """Find finished runs by configuration hash; where runs are tracked, those in the store."""
    runs = Path("outputs").absolute()
    reports = finished_reports([*runs.glob("runs/*"), *runs.glob("sweeps/*/*")])
    if held is None:
        return reports
    return {
        key: path
        for key, path in reports.items()
        if json.loads(path.read_text())["mlflow"]["run_id"] in held.finished
    }


def _job(name: str, key: str, reports: dict[str, Path]) -> Job:
    if key not in reports:
        return Job(name, key)
    return Job(name, key, status="reused", run_dir=str(reports[key].parent))


def _open_parent(
    config: ExperimentConfig, title: str, folder: Path, tags: dict[str, str], held: Held | None
) -> Tracker:
    if config.tracking.name == "none":
        return NullTracker()
    commit = ask_git("rev-parse", "HEAD")
    try:
        return open_tracker(
            config.tracking_uri,
            config.experiment_name,
            title[:250],
            ARTIFACTS.absolute(),
            folder / "metrics.jsonl",
            tags={"kind": "sweep", "run_dir": str(folder)}
            | tags
            | ({"mlflow.source.git.commit": commit} if commit else {}),
            run_id=held.sweep_run_id if held else None,
        )
    except Exception:
        folder.rmdir()
        raise


def _run_missing(
    jobs: Sequence[Job],
    planned: Sequence[Planned],
    folder: Path,
    launch: Launch,
    terminal: SweepTerminal,
) -> list[Job]:
    """Run the jobs that wait; return all as they ended."""
    missing = [index for index, job in enumerate(jobs) if not job.is_over]
    for job in jobs:
        if job.is_over:
            terminal.job_changed(job, job_accuracy(job))
    for number, index in enumerate(missing):
        write_job(job_path(folder, number), jobs[index])
    paths = [job_path(folder, number) for number in range(len(missing))]
    ended = dict(enumerate(jobs))
    with Watch(paths, terminal) as watch:
        try:
            if missing:
                launch([planned[index].overrides for index in missing])
        except KeyboardInterrupt:
            watch.close("killed", None)
            raise
        except Exception as error:
            watch.close("failed", sentence(error))
        else:
            watch.close("failed", LOST)
    ended |= {index: read_job(path) for index, path in zip(missing, paths, strict=True)}
    return [ended[index] for index in range(len(jobs))]


def _conclude(
    jobs: Sequence[Job], title: str, folder: Path, tracker: Tracker, terminal: SweepTerminal
) -> None:
    rows = [job_row(job) for job in jobs]
    finished = finished_rows(rows)
    figures = draw_comparison(finished, folder / "figures")
    page = sweep_page(title, shown_command(), rows, figures)
    for path in write_sweep(page, rows, folder):
        tracker.log_artifact(path)
    for path in figures:
        tracker.log_artifact(path, "figures")
    best = {
        f"best_run_id.{setting.sparsity:g}": ",".join(str(row["run_id"]) for row in setting.rows)
        for setting in best_per_sparsity(settings_of(finished))
    }
    note = sweep_page(title, shown_command(), rows)  # a note shows no pictures
    tracker.set_tags({"mlflow.note.content": note} | best)
    counts = {"jobs": len(rows), "finished": len(finished)}
    tracker.log_metrics({f"sweep/{name}": count for name, count in counts.items()}, step=0)
    terminal.finished(rows)
    terminal.note(f"\nsweep    {folder / 'sweep.md'}")
    terminal.note(f"figures  {folder / 'figures'}")
    if tracker.tracking_uri:
        terminal.note(f"curves   mlflow ui --backend-store-uri {shlex.quote(tracker.tracking_uri)}")
    failed = [job.name for job in jobs if job.status not in ("finished", "reused")]
    if failed:
        text = f"{len(failed)} of {len(jobs)} jobs failed: {'; '.join(failed)}"
        tracker.finish("FAILED", text)
        raise SystemExit(f"error: {text}; the same command runs them again")
