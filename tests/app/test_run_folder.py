"""Folders of runs and sweeps: nothing in them is overwritten, whoever starts when."""

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import SHORT, clean_environment, run_command
from omegaconf import OmegaConf

from admm_exp.app import run_folder, sweep_folder
from admm_exp.app.rerun import new_folder_like
from admm_exp.app.run_folder import (
    alone_in,
    hold,
    remove_half_written,
    remove_result,
    remove_unused,
    require_outside,
    with_absolute_paths,
)
from admm_exp.app.sweep_folder import claim_folder, next_number, set_aside
from admm_exp.errors import ConfigError
from admm_exp.tracking.journal import origin_entry

RUN = ("tracking=none", "hydra.run.dir=same", "model=small_cnn", *SHORT)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


def test_a_second_run_in_the_folder_of_a_finished_one_is_refused_unless_forced(
    tmp_path: Path,
) -> None:
    first = run_command(tmp_path, *RUN)
    assert first.returncode == 0, first.stderr
    before = contents(tmp_path / "same")
    again = run_command(tmp_path, *RUN, "sparsity=0.3")
    assert again.returncode == 1
    assert "same holds a finished run: choose another folder" in again.stderr
    assert len(again.stderr.splitlines()) == 1
    assert contents(tmp_path / "same") == before
    wrong = run_command(tmp_path, *RUN, "force=true", "device=cuda:99")
    assert wrong.returncode == 1
    assert contents(tmp_path / "same").keys() >= before.keys() - {"metrics.jsonl"}
    forced = run_command(tmp_path, *RUN, "sparsity=0.3", "force=true")
    assert forced.returncode == 0, forced.stderr
    report = json.loads((tmp_path / "same" / "report.json").read_text())
    assert report["config"]["sparsity"] == 0.3


def _hold(folder: str, answers: Any, done: Any) -> None:
    with alone_in(held := hold(Path(folder), may_hold_run=False)):
        answers.put(held.name)
        done.wait()


def test_runs_that_start_in_one_folder_at_once_get_one_each(tmp_path: Path) -> None:
    context = get_context("fork")
    answers, done = context.Queue(), context.Event()
    arguments = (str(tmp_path / "run"), answers, done)
    processes = [context.Process(target=_hold, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    names = {answers.get(timeout=60) for _ in processes}
    done.set()
    for process in processes:
        process.join()
    assert names == {"run", "run-2", "run-3"}


def test_a_folder_is_free_again_when_its_run_is_over(tmp_path: Path) -> None:
    for _ in range(2):
        with alone_in(hold(tmp_path / "run", may_hold_run=False)):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_is_gone_on_with_needs_its_folder_for_itself(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(ConfigError, match="another process works on"),
        alone_in(tmp_path),
    ):
        raise AssertionError("two at once")


def master(folder: Path, *, is_fixed: bool) -> Any:
    overrides = [f"hydra.sweep.dir={folder}"] if is_fixed else []
    return OmegaConf.create(
        {"hydra": {"sweep": {"dir": str(folder)}, "overrides": {"hydra": overrides}}}
    )


@pytest.mark.parametrize("is_fixed", [True, False])
@pytest.mark.parametrize("name", ["sweep", "it's", 'say "so"', "back\\slash\\", "a,b{c"])
def test_sweeps_that_start_in_one_folder_at_once_get_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_fixed: bool, name: str
) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    monkeypatch.setattr(sweep_folder, "_held", [])
    claimed = [master(tmp_path / name, is_fixed=is_fixed) for _ in range(3)]
    folders = [claim_folder(one) for one in claimed]
    assert [folder.name for folder in folders] == [name, f"{name}-2", f"{name}-3"]
    for one, folder in zip(claimed, folders, strict=True):
        override = OverridesParser.create().parse_override(one.hydra.overrides.hydra[-1])
        assert override.value() == str(folder)


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints/000001-00000000.safetensors"])
def test_the_folder_of_an_unfinished_run_is_refused_unless_forced(
    tmp_path: Path, left: str
) -> None:
    run = tmp_path / "run"
    (run / left).parent.mkdir(parents=True)
    (run / left).write_text("x")
    for _ in range(2):  # the refusal holds nothing
        with pytest.raises(ConfigError, match=f"an unfinished run: go on with it by resume={run}"):
            hold(run, may_hold_run=False)
    # while a process works on it, a new one goes beside it
    with alone_in(run), alone_in(beside := hold(run, may_hold_run=False)):
        assert beside == tmp_path / "run-2"
    with alone_in(forced := hold(run, may_hold_run=True)):
        assert forced == run


def test_what_an_earlier_sweep_summed_up_is_set_aside(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / "sweep.md").write_text(f"sweep {n}")
        (tmp_path / "figures").mkdir()
        set_aside(tmp_path, None)
    set_aside(tmp_path, None)  # nothing is left to move
    told = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.md"))
    assert told == [Path("earlier-1", "sweep.md"), Path("earlier-2", "sweep.md")]
    assert (tmp_path / "earlier-2" / "figures").is_dir()
    assert next_number(tmp_path) == 0


def test_a_sweep_that_goes_on_under_its_run_keeps_its_files_in_place(tmp_path: Path) -> None:
    (tmp_path / "sweep.md").write_text("so far")
    entry = json.dumps(origin_entry("sqlite:///x.db", "abc"))
    (tmp_path / "metrics.jsonl").write_text(f"{entry}\n")
    set_aside(tmp_path, "abc")
    assert (tmp_path / "sweep.md").exists()
    set_aside(tmp_path, "another")
    assert not (tmp_path / "sweep.md").exists()


def test_a_sweep_in_the_folder_of_an_earlier_one_numbers_its_jobs_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert next_number(tmp_path) == 0
    (tmp_path / "0").mkdir()
    (tmp_path / "11").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_number(tmp_path) == 12
    (tmp_path / ".jobs").mkdir()
    (tmp_path / ".jobs" / "12.json").write_text("{}")
    assert next_number(tmp_path) == 13


SWEEP = ("-m", "hydra.sweep.dir=same", "tracking=none", "model=small_cnn", *SHORT)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of one job, at whose start a password was typed."""
    folder = tmp_path_factory.mktemp("swept")
    typed = "tracking_uri=http://ann:typed@localhost:9"
    done = run_command(folder, *SWEEP, typed, "sparsity=0.3")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_typed_password_is_in_no_file_of_a_sweep(swept: Path) -> None:
    told = {name: text for name, text in contents(swept / "same").items() if b"://ann" in text}
    assert {Path(name).name for name in told} >= {"multirun.yaml", "overrides.yaml", "report.json"}
    assert not [name for name, text in told.items() if b"typed" in text]


def test_another_sweep_in_one_folder_leaves_the_jobs_of_the_first(swept: Path) -> None:
    before = contents(swept / "same" / "0")
    second = run_command(swept, *SWEEP, "sparsity=0.5")
    assert second.returncode == 0, second.stderr
    assert contents(swept / "same" / "0") == before
    assert "sparsity=0.3" in (swept / "same" / "earlier-1" / "sweep.md").read_text()
    assert "sparsity=0.5" in (swept / "same" / "sweep.md").read_text()
    report = json.loads((swept / "same" / "1" / "report.json").read_text())
    assert report["config"]["sparsity"] == 0.5


@pytest.mark.slow
def test_two_runs_and_two_sweeps_started_at_once_all_finish(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "admm_exp", "model=small_cnn", *SHORT]
    jobs = [[], ["-m", "sparsity=0.3,0.4"], ["sparsity=0.6"], ["-m", "sparsity=0.7,0.8"]]
    codes: list[int] = []

    def start(more: list[str]) -> None:
        done = subprocess.run([*command, *more], cwd=tmp_path, env=clean_environment(), check=False)
        codes.append(done.returncode)

    threads = [Thread(target=start, args=(more,)) for more in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0, 0]
    assert len([*tmp_path.glob("outputs/runs/*/report.json")]) == 2
    assert len([*tmp_path.glob("outputs/sweeps/*/*/report.json")]) == 4


def test_paths_of_settings_start_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"layers": "a.yaml", "pretrained": None, "from_run": "/x", "dataset": {"root": "d"}}
    assert with_absolute_paths(settings) == {
        "layers": str(tmp_path / "a.yaml"),
        "pretrained": None,
        "from_run": "/x",
        "dataset": {"root": str(tmp_path / "d")},
    }


@pytest.mark.long
def test_a_run_that_changes_its_folder_shares_store_and_cache(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from admm_exp.training.loop import evaluate\n"
        "def validate(model, batches):\n"
        "    Path('seen.txt').touch()\n"
        "    return evaluate(model, batches)\n"
    )
    own = ("model=small_cnn", "+validate_fn._target_=mine.validate", *SHORT)
    for more in ((), ("sparsity=0.3", "hydra.job.chdir=true")):
        done = run_command(tmp_path, *own, *more)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "outputs").iterdir()} >= {"cache", "mlflow.db"}
    reports = [*sorted(tmp_path.glob("outputs/runs/*/report.json"))]
    phases = [json.loads(path.read_text())["phases"][0] for path in reports]
    assert [phase["cached"] for phase in phases] == [False, True]
    assert not (reports[1].parent / "outputs").exists()
    assert (reports[1].parent / "seen.txt").exists()  # the user's code works there


ODD = ["my%20project", "what?", "ha#sh", "sp ace", "ünï", "it's", 'say "so"', "$HOME", "a$b$"]


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
@pytest.mark.parametrize("name", ODD)
def test_a_run_works_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    here = tmp_path / name
    here.mkdir()
    done = run_command(here, "model=small_cnn", f"name='{name[:2]}$x_$'", *SHORT, "figures=auto")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (here / "outputs" / "mlflow.db").is_file()
    assert len([*here.glob("outputs/artifacts/*/artifacts/report.json")]) == 1


def test_locks_are_not_left_held(tmp_path: Path) -> None:
    with alone_in(hold(tmp_path / "run", may_hold_run=False)):
        assert run_folder._held == {}


@pytest.mark.parametrize("left", ["report.json", "checkpoints/x"])
def test_what_an_earlier_run_left_is_not_taken_back(tmp_path: Path, left: str) -> None:
    for name in (".hydra/config.yaml", left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    remove_unused(tmp_path)
    assert (tmp_path / ".hydra" / "config.yaml").exists()


def test_a_repetition_takes_the_settings_and_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    for name in ("config.yaml", "lock"):
        (tmp_path / "run" / ".hydra" / name).write_text("x")
    again = new_folder_like(tmp_path / "run")
    assert [path.name for path in (again / ".hydra").iterdir()] == ["config.yaml"]


def test_a_refused_run_takes_back_no_folder_in_which_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "b"
    (here / "run" / ".hydra").mkdir(parents=True)
    monkeypatch.chdir(here)
    remove_unused(here / "run")
    assert list(tmp_path.rglob("*")) == [here.parent, here]
    remove_unused(here)
    assert here.is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    done = run_command(tmp_path, "hydra.run.dir=/proc/x/y")
    assert done.stderr.startswith("error: hydra.run.dir=/proc/x/y cannot be made (No such file")
    assert len(done.stderr.splitlines()) == 1


def test_nothing_of_a_run_that_is_given_up_is_taken_for_the_new_ones(tmp_path: Path) -> None:
    for name in ("report.json", "model.json", "model.safetensors", "model.pt2", "figures/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    remove_result(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["same", "same/model.safetensors", "link"])
def test_a_run_starts_from_nothing_that_it_writes_to(tmp_path: Path, source: str) -> None:
    (tmp_path / "link").symlink_to("same")
    with pytest.raises(ConfigError, match="which the run writes to: choose another folder"):
        require_outside(tmp_path / "same", None, str(tmp_path / source))
    require_outside(tmp_path / "other", None, str(tmp_path / source))


def test_what_a_killed_process_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = {".model.json", ".mine.12", "model.json.12", "model.json"}
    half = {".model.json.12", ".layers.yaml.7", "checkpoints/.000001-abc.safetensors.12"}
    for name in kept | half:
        (tmp_path / name).write_text("x")
    remove_half_written(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept | {"checkpoints"}
    assert not list((tmp_path / "checkpoints").iterdir())
