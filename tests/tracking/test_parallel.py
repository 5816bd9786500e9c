"""Eight processes write into one fresh store at once."""

from pathlib import Path

import pytest
from support.stores import client_at, runs_at, store_uri
from support.writers import KEYS, STEPS, WRITERS, start_writers


@pytest.mark.long
def test_eight_writers_on_a_fresh_store_lose_no_metric(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    writers = start_writers(tmp_path, store_uri(tmp_path))
    _, told = writers.communicate(timeout=300)
    assert (writers.returncode, told) == (0, "")
    client, runs = client_at(store_uri(tmp_path)), runs_at(store_uri(tmp_path), experiment="exp")
    assert sorted(run.info.run_name for run in runs) == [f"writer{n}" for n in range(WRITERS)]
    for run in runs:
        assert run.info.status == "FINISHED"
        number = int(run.info.run_name.removeprefix("writer"))
        for key in range(KEYS):
            points = client.get_metric_history(run.info.run_id, f"m/{key}")
            assert [(p.step, p.value) for p in points] == [(s, number + s) for s in range(STEPS)]
