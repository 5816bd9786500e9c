"""A process that another one leads: it does what the first process of a run says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.training.processes import READY, WORK, launched

if TYPE_CHECKING:
    pass


def follow() -> None:
    """Do what the first process says; what a run leaves behind is left by the first alone.

    Raises:
        AdmmExpError: What goes wrong in all processes, or in this one alone.
    """
    from admm_exp.app.build import build_materials
    from admm_exp.config.check import check_config
    from admm_exp.results import History
    from admm_exp.training.distribution import joined, told

    team = launched()
    assert team.store is not None
    work = json.loads(told(team.store, WORK))
    if work is None:  # the first process has said why
        return
    config = check_config(work["settings"])
    materials = build_materials(config, History(), team)
    team.store.set(f"{READY}/{team.rank}", "")
    patience = config.trainer.patience_seconds
    with joined(team.rank, team.world, team.store, materials.device, patience):
        from admm_exp.experiment.run import find_checkpoint, run_experiment

        run_dir = Path(work["run_dir"])
        earlier = find_checkpoint(config, materials, run_dir) if work["is_resumed"] else None
        run_experiment(config, materials, run_dir, Path(work["cache_dir"]), earlier)
