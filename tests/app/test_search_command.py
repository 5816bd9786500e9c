"""A search as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Done, clean_environment
from support.stores import runs_at, store_of

pytest.importorskip("optuna", reason="needs the extra search")
pytestmark = pytest.mark.slow

SEARCH = (
    "rho=tag(log,interval(0.05,1.0))",
    "sparsity=choice(0.3,0.5)",
    "hydra/launcher=process",
    "model=small_cnn",
    "schedule.dense.epochs=1",
    "schedule.admm_iterations=2",
    "schedule.admm_epoch=1",
    "schedule.finetune.epochs=0",
    "device=cpu",
)
START = "from admm_exp.app.search import main\nif __name__ == '__main__':\n    main()\n"


def search(folder: Path, *overrides: str) -> Done:
    script = folder / "start.py"
    script.write_text(START)
    return subprocess.run(
        [sys.executable, str(script), *SEARCH, *overrides],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def first(work: Path) -> Done:
    return search(work, "hydra.sweeper.trials=2")


@pytest.fixture(scope="module")
def second(work: Path, first: Done) -> Done:
    return search(work, "hydra.sweeper.trials=3")


def test_a_search_keeps_to_its_ranges_and_shows_the_front(work: Path, first: Done) -> None:
    assert first.returncode == 0, first.stderr
    (table,) = (work / "outputs" / "sweeps").glob("*/sweep.json")
    rows = json.loads(table.read_text())
    assert len(rows) == 2
    assert all(0.05 <= row["rho"] <= 1.0 and row["sparsity"] in (0.3, 0.5) for row in rows)
    assert "Pareto front" in first.stdout
    assert (table.parent / "figures" / "pareto.png").stat().st_size > 0


def test_the_same_search_goes_on_where_it_stopped(work: Path, second: Done) -> None:
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(" started ") == 1
    (parent,), trials = (
        runs_at(store_of(work), f"tags.kind = '{kind}'") for kind in ("sweep", "run")
    )
    assert len(trials) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *trials)} == {"FINISHED"}


def test_a_study_holds_both_objectives(work: Path, second: Done) -> None:
    import optuna

    (study,) = optuna.get_all_study_names(f"sqlite:///{work}/outputs/search.db")
    trials = optuna.load_study(
        study_name=study, storage=f"sqlite:///{work}/outputs/search.db"
    ).trials
    for trial in trials:
        report = json.loads((Path(trial.user_attrs["run_dir"]) / "report.json").read_text())
        small = report["models"]["finetuned"]
        assert trial.values == [small["val_accuracy"], small["macs"]]


def test_wrong_settings_are_refused_in_one_sentence(tmp_path: Path) -> None:
    done = search(tmp_path, "hydra.sweeper.objectives=[speed]")
    assert done.returncode == 1
    expected = "error: hydra.sweeper.objectives must be accuracy, macs, or both, got ['speed']\n"
    assert done.stderr == expected
    assert [path.name for path in tmp_path.iterdir()] == ["start.py"]
