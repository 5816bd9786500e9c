"""Running the command as a user does."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.warm import Done, Warm, tables_built_once

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup; tests send it to processes

WARM = Warm()
SHORT = (
    "schedule.dense.epochs=2",
    "schedule.admm_iterations=2",
    "schedule.admm_epoch=1",
    "schedule.finetune.epochs=1",
    "figures=none",  # a second of CPU time a run; tests of figures ask for them behind this
)


def run_command(
    folder: Path,
    *overrides: str,
    env: Mapping[str, str] | None = None,
    command: str = "admm-exp",
    before: str = "",
) -> Done:
    """Run `python -m admm_exp`, or another command, in a folder, after some code."""
    return WARM.run(folder, overrides, clean_environment() | dict(env or {}), command, before)


def clean_environment() -> dict[str, str]:
    """The environment without settings that change what a user sees."""
    ignored = {"MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK", "PYTHONSAFEPATH"}
    return {k: v for k, v in os.environ.items() if k not in ignored} | {"COLUMNS": "100"}


def pytest_configure(config: pytest.Config) -> None:
    """Let engines of MLflow and Optuna end with their last user; since 3.13 SQLite warns of it."""
    if sys.version_info >= (3, 13):
        config.addinivalue_line("filterwarnings", "ignore:unclosed database:ResourceWarning")
        config.addinivalue_line(
            "filterwarnings",
            "ignore:Exception ignored in. <sqlite3:pytest.PytestUnraisableExceptionWarning",
        )


def pytest_unconfigure() -> None:
    """End the process that ran the commands."""
    WARM.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Done]:
    """Run the command in a fresh folder."""
    return lambda *overrides, **options: run_command(tmp_path, *overrides, **options)


@pytest.fixture(scope="session", autouse=True)
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path, Path], None]]:
    """Build the tables of an SQLite store once, which takes a second; yield what builds them."""
    with tables_built_once(tmp_path_factory.mktemp("tables")) as build:
        yield build


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an SQLite store without runs, to copy."""
    from admm_exp.tracking.store import opened

    folder = tmp_path_factory.mktemp("store")
    with opened(f"sqlite:///{folder}/mlflow.db", folder):
        pass
    return folder / "mlflow.db"
