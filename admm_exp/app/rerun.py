"""`admm-exp resume=RUN_DIR` and `repeat=RUN_DIR`: what a run left in its folder."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from admm_exp.app.trust import (
    TARGET,
    is_plain,
    read_settings,
    require_own_code,
    require_plain_folder,
    require_plain_values,
    targets,
)
from admm_exp.errors import ConfigError, TrackingError
from admm_exp.results import JOURNAL, REPORT, RUNS, read_json
from admm_exp.tracking.address import without_password
from admm_exp.tracking.journal import read_entries, recorded_run
from admm_exp.tracking.own_store import chosen_address

RESUME = "resume"
REPEAT = "repeat"
ALLOWED = ("tracking_uri", "device", "trainer.devices")
ADDRESS = "tracking_uri"


def asked_for(word: str, arguments: Sequence[str]) -> tuple[Path, list[str]] | None:
    """Find WORD=RUN_DIR on the command line.

    Args:
        word: What is to be done with the run.
        arguments: The command line.

    Returns:
        The run's folder and the other arguments; None if the word is absent.

    Raises:
        ConfigError: If the folder is missing.
    """
    given = [a for a in arguments if a.startswith(f"{word}=")]
    if not given:
        return None
    run_dir = Path(given[-1].partition("=")[2])
    if not (run_dir / ".hydra" / "config.yaml").is_file():
        raise ConfigError(
            f"{word} must name the folder of a run, which holds .hydra/config.yaml, got {run_dir}"
        )
    return run_dir, [a for a in arguments if a not in given]


def stored_settings(
    run_dir: Path, word: str, changes: Sequence[str], own_store: DictConfig
) -> DictConfig:
    """Read the settings of a run, with the few changes that leave its result alone.

    The folder may be someone else's: its settings are plain values, the code that they name is this
    package's or confirmed, and the run is told of at the user's own address.

    Args:
        run_dir: Folder of the run.
        word: What is to be done with the run.
        changes: KEY=VALUE.
        own_store: Where the user's own settings keep runs, as conf/address.yaml says it.

    Raises:
        ConfigError: If a change is not allowed, the settings are damaged or no plain values, they
            name code that is neither this package's nor confirmed, or a link leads out of the
            folder.
        TrackingError: If the run was told of elsewhere, which the user has not confirmed.
    """
    require_plain_folder(run_dir)
    plain = read_settings(run_dir / ".hydra" / "config.yaml")
    written_once = OmegaConf.to_container(own_store, resolve=False)
    if isinstance(written_once, dict) and plain.get(ADDRESS) == written_once[ADDRESS]:
        plain[ADDRESS] = own_store[ADDRESS]  # of a run that kept the default as conf/ words it
    require_plain_values(plain, run_dir)
    named = targets(plain)
    confirmed, given = set(), {}
    for change in changes:
        key, is_set, value = change.partition("=")
        if is_set and key.endswith(f".{TARGET}") and (key, value) in named:
            confirmed.add((key, value))
        elif is_set and key in ALLOWED:
            given[key] = value
        else:
            raise ConfigError(
                f"{word}={run_dir} takes its settings from that run and allows only "
                f"{', '.join(ALLOWED)} beside it, got {change}"
            )
    require_own_code(plain, run_dir, confirmed)
    if ADDRESS not in given and not _is_untracked(plain):
        plain[ADDRESS] = _own_address(run_dir, plain, own_store[ADDRESS])
    settings = OmegaConf.create(plain)
    for key, value in given.items():
        OmegaConf.update(settings, key, value)
    return settings


def keep_settings(settings: Mapping[str, Any], run_dir: Path) -> None:
    """Store the settings of a run as plain values: what Hydra stored is worked out anew, and
    perhaps otherwise, when it is read. No file keeps a password that was typed.

    Args:
        settings: Of the run.
        run_dir: Its folder, in which Hydra has stored them.
    """
    from admm_exp.results import write_atomically

    stored = run_dir / ".hydra"
    path = stored / "config.yaml"
    if path.is_file() and is_plain(settings):
        kept = dict(settings) | {ADDRESS: without_password(str(settings[ADDRESS]))}
        write_atomically(path, OmegaConf.to_yaml(OmegaConf.create(kept)).encode())
    for path in sorted(stored.glob("*.yaml")):
        told = path.read_text(encoding="utf-8")
        if (shown := without_password(told)) != told:
            write_atomically(path, shown.encode())


def names_code(changes: Sequence[str]) -> bool:
    """Tell whether the command line confirms code of the user's."""
    return any(change.partition("=")[0].endswith(f".{TARGET}") for change in changes)


def _is_untracked(settings: dict[str, Any]) -> bool:
    tracking = settings.get("tracking")
    return isinstance(tracking, dict) and tracking.get("name") == "none"


def _own_address(run_dir: Path, settings: dict[str, Any], own: str) -> str:
    opened = recorded_run(read_entries(run_dir / JOURNAL))
    stored = str(settings.get(ADDRESS, own))
    return chosen_address(run_dir, stored, own, None if opened is None else opened.run_id)


def is_finished(run_dir: Path) -> bool:
    """Tell whether a run has written its report and told its tracker that it ended."""
    journal = run_dir / JOURNAL
    try:
        has_report = read_json(run_dir / REPORT)["status"] == "finished"
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not has_report or not journal.exists():
        return has_report
    try:
        return any(entry.get("status") == "FINISHED" for entry in read_entries(journal))
    except TrackingError:
        return False


def require_finished(run_dir: Path) -> None:
    """Check that a run has a result.

    Raises:
        ConfigError: If it has none.
    """
    if not is_finished(run_dir):
        raise ConfigError(f"{run_dir} has no result to compare with: finish it with resume")


def new_folder_like(run_dir: Path) -> Path:
    """Make a folder for a run with the settings of another one.

    Args:
        run_dir: Folder of the other run.
    """
    folder = Path(RUNS, f"{datetime.now():%Y-%m-%d_%H-%M-%S.%f}").absolute()
    shutil.copytree(run_dir / ".hydra", folder / ".hydra", ignore=shutil.ignore_patterns("lock"))
    return folder
