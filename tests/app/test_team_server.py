"""A sweep against `mlflow server` on PostgreSQL with an artifact store."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Done, run_command
from support.four_jobs import FOUR_JOBS, assert_four_jobs_under_one_parent
from support.servers import PG_CTL, postgres, served
from support.stores import client_at, runs_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PG_CTL is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg2") is None, reason="needs psycopg2"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres() as store, served(tmp_path_factory.mktemp("server"), store) as found:
        yield found.uri


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def sweep(work: Path, server: str) -> Done:
    return run_command(work, *FOUR_JOBS, "hydra/launcher=process", f"tracking_uri={server}")


def test_a_sweep_is_one_story_on_a_server(work: Path, server: str, sweep: Done) -> None:
    assert_four_jobs_under_one_parent(work, sweep, server)
    assert sweep.stderr == ""


def test_the_server_keeps_the_files_and_the_curves(work: Path, server: str, sweep: Done) -> None:
    client = client_at(server)
    for run in runs_at(server, "tags.kind = 'run'"):
        copied = client.download_artifacts(run.info.run_id, "report.json", str(work))
        own = Path(run.data.tags["run_dir"]) / "report.json"
        assert Path(copied).read_bytes() == own.read_bytes()
        points = client.get_metric_history(run.info.run_id, "admm/primal_residual")
        assert [point.step for point in points] == [1]
    assert not (work / "outputs" / "artifacts").exists()


def test_the_same_command_runs_nothing_again(work: Path, server: str, sweep: Done) -> None:
    again = run_command(work, *FOUR_JOBS, "hydra/launcher=process", f"tracking_uri={server}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" started ") == 0
    assert len(runs_at(server)) == 6
