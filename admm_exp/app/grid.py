"""The jobs of a grid under one parent run."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from math import prod

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from admm_exp.app.parent_run import JobSpec, Launch, open_sweep
from admm_exp.config.hashes import config_hash, digest
from admm_exp.errors import ConfigError
from admm_exp.tracking.queries import close_lost_children
from admm_exp.tracking.run_status import tracked

MOST_JOBS = 100_000


def require_values(overrides: Iterable[Override]) -> None:
    """Check that every swept setting has values that a grid can take one by one.

    Raises:
        ConfigError: If one is a range, its pattern matches nothing, or they span too many jobs.
    """
    counts = []
    for override in overrides:
        key = override.get_key_element()
        if override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line} is a range, of which a grid takes no values: search it "
                f"with admm-exp-search, or list values as in {key}=0.01,0.1"
            )
        if not override.is_sweep_override():
            continue
        counts.append(sum(1 for _ in islice(override.sweep_string_iterator(), MOST_JOBS + 1)))
        if not counts[-1]:
            raise ConfigError(
                f"{override.input_line} matches no option: --help lists those of {key}"
            )
        if prod(counts) > MOST_JOBS:
            raise ConfigError(
                f"{override.input_line} makes more than {MOST_JOBS} jobs: sweep fewer values, or "
                f"search them with admm-exp-search"
            )


def distinct(specs: Sequence[JobSpec]) -> list[JobSpec]:
    """Leave out jobs whose settings are those of an earlier one, as in sparsity=0.3,0.3."""
    return list({digest(asdict(spec.config)): spec for spec in reversed(specs)}.values())[::-1]


def run_sweep(specs: Sequence[JobSpec], grid: str, master: DictConfig, launch: Launch) -> None:
    """Run the jobs of a grid that have no result yet, and put all results together.

    Args:
        specs: The jobs.
        grid: What is swept, as the user wrote it.
        master: Configuration of the sweep, changed where its folder is taken.
        launch: Runs jobs and returns when all are over.

    Raises:
        AdmmExpError: The store cannot be used; nothing has run.
        SystemExit: A job failed.
    """
    first = specs[0].config
    hashes = sorted(config_hash(spec.config) for spec in specs)
    identity = digest([first.experiment_name, *hashes])
    sweep = open_sweep(first, grid or specs[0].name, len(specs), identity, master)
    with tracked(sweep.tracker):
        try:
            sweep.run(specs, launch)
        finally:
            close_lost_children(sweep.tracker, sweep.folder)
        sweep.conclude()
