"""`admm-exp-sync`: deliver what a tracking server did not take."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.main import one_sentence, run_command
from admm_exp.app.trust import all_in
from admm_exp.errors import AdmmExpError, ConfigError
from admm_exp.report.wording import one_line
from admm_exp.results import JOURNAL


@dataclass
class SyncSettings:
    """Which runs, and where they are kept."""

    runs: Annotated[str, MinLen(1)]
    tracking_uri: Annotated[str, MinLen(1)]


def main() -> None:
    """Run `admm-exp-sync`."""
    run_command("sync", SyncSettings, _task, builds=False)


def _task(composed: DictConfig) -> None:
    from admm_exp.config.check import check_settings

    settings: Any = OmegaConf.to_container(composed, resolve=True)
    with one_sentence(SyncSettings):
        checked = check_settings(settings, SyncSettings)
        given = HydraConfig.get().overrides.task
        is_chosen = any(override.lstrip("+").startswith("tracking_uri=") for override in given)
        if not sync(Path(checked.runs), checked.tracking_uri, is_chosen=is_chosen):
            sys.exit(1)


def sync(runs: Path, tracking_uri: str, *, is_chosen: bool = True) -> bool:
    """Deliver the journal files of all runs in a folder, and say what became of each.

    Args:
        runs: Folder of runs, at any depth.
        tracking_uri: Where the runs are kept.
        is_chosen: The user has named that store for these runs; otherwise those that were tracked
            elsewhere are left alone.

    Returns:
        Whether nothing is left to deliver, runs that still go on left out.

    Raises:
        ConfigError: If there is no such folder.
    """
    from admm_exp.tracking.sync import deliver_journal

    if not runs.is_dir():
        raise ConfigError(f"runs must be a folder that holds runs, got {runs}")
    is_complete = True
    for path in sorted(path for path in all_in(runs) if path.name == JOURNAL):
        shown = one_line(str(path.parent))
        try:
            print(f"{shown}: {deliver_journal(path, tracking_uri, is_chosen=is_chosen)}")
        except AdmmExpError as error:
            print(f"{shown}: {one_line(str(error))}", file=sys.stderr)
            is_complete = False
    return is_complete
