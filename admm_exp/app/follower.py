"""A process that another one leads: it does what the first process of a run says."""

import json
from pathlib import Path

from admm_exp.training.processes import READY, WORK, launched


def follow() -> None:
    """Do what the first process says; what a run leaves behind is left by the first alone.

    Raises:
        AdmmExpError: What goes wrong in all processes, or in this one alone.
    """
    from admm_exp.app.build import build_components
    from admm_exp.config.check import check_config
    from admm_exp.results import History
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
