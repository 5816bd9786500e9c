"""`admm-exp resume=RUN_DIR` and `repeat=RUN_DIR`: what a run left in its folder."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from admm_exp.errors import ConfigError

RESUME = "resume"
REPEAT = "repeat"
JOURNAL = "metrics.jsonl"
ALLOWED = ("tracking_uri", "device", "trainer.devices")
OWN_PARTS = "admm_exp."


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


def settings_of(run_dir: Path, word: str, changes: Sequence[str]) -> DictConfig:
    """Read the settings of a run, with the few changes that leave its result alone.

    Args:
        run_dir: Folder of the run.
        word: What is to be done with the run.
        changes: KEY=VALUE.

    Raises:
        ConfigError: If a change is not allowed, the settings are damaged, or they name code that is
            neither this package's nor confirmed.
    """
    path = run_dir / ".hydra" / "config.yaml"
    try:
        settings = OmegaConf.load(path)
    except (OSError, ValueError, OmegaConfBaseException, YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is damaged ({reason}): start a new run") from error
    if not isinstance(settings, DictConfig):
        raise ConfigError(f"{path} is damaged (it holds no settings): start a new run")
    plain = OmegaConf.to_container(settings, resolve=False)
    confirmed = set()
    for change in changes:
        key, is_set, value = change.partition("=")
        if is_set and key.endswith("._target_") and dict(_targets(plain)).get(key) == value:
            confirmed.add(key)
        elif is_set and key in ALLOWED:
            OmegaConf.update(settings, key, value)
        else:
            raise ConfigError(
                f"{word}={run_dir} takes its settings from that run and allows only "
                f"{', '.join(ALLOWED)} beside it, got {change}"
            )
    for key, target in _targets(plain):
        if not target.startswith(OWN_PARTS) and key not in confirmed:
            raise ConfigError(
                f"{run_dir} names code that is not this package's: confirm it with {key}={target}"
            )
    return settings


def is_finished(run_dir: Path) -> bool:
    """Tell whether a run has written its report and told its tracker that it ended."""
    journal = run_dir / JOURNAL
    try:
        has_report = json.loads((run_dir / "report.json").read_text())["status"] == "finished"
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return has_report and (not journal.exists() or '"status": "FINISHED"' in journal.read_text())


def _targets(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | ListConfig):
        items = enumerate(value)
    for key, item in items:
        if key == "_target_":
            yield f"{prefix}{key}", str(item)
        else:
            yield from _targets(item, f"{prefix}{key}.")


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
    folder = Path(f"outputs/runs/{datetime.now():%Y-%m-%d_%H-%M-%S.%f}").absolute()
    shutil.copytree(run_dir / ".hydra", folder / ".hydra", ignore=shutil.ignore_patterns("lock"))
    return folder


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; a dead process keeps nobody out.

    Raises:
        ConfigError: If another process works there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(run_dir / ".hydra" / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another process works on {run_dir}: wait for its end, or stop it and try again"
        ) from None
    try:
        yield
    finally:
        lock.release()
