"""Damaged folders of runs and odd command lines: one sentence, nothing written, same weights."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import SHORT, run_command
from hypothesis import strategies as st
from support.fuzz import LONGEST_SECONDS, MUTATIONS, damaged, ended_by_alarm, times, tried

import admm_exp
from admm_exp.app.main import main
from admm_exp.app.plan_command import main as plan
from admm_exp.app.report_command import main as report
from admm_exp.app.rerun import RESUME, is_finished, stored_settings
from admm_exp.app.sync_command import main as sync_main
from admm_exp.app.sync_command import sync
from admm_exp.config.keys import known_keys
from admm_exp.errors import AdmmExpError, CheckpointError
from admm_exp.experiment.previous import read_previous
from admm_exp.experiment.repeat import compare_runs
from admm_exp.models.lenet import small_cnn
from admm_exp.phases.snapshot import read_newest
from admm_exp.report.drawing import draw_run
from admm_exp.report.run import read_report
from admm_exp.results import CHECKPOINTS, REPORT
from admm_exp.sweep.finished import FinishedReports
from admm_exp.sweep.job import Job
from admm_exp.sweep.watch import job_row

OWN = {"tracking_uri": "sqlite:///outputs/mlflow.db"}
DELETED = st.just(None)
KINDS = MUTATIONS | DELETED | st.sampled_from([b"", b"{}", b"[]", b"null", b"\x00" * 64])


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    with ended_by_alarm():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with its checkpoints, and the store beside it."""
    work = tmp_path_factory.mktemp("run")
    done = run_command(work, "model=small_cnn", "hydra.run.dir=run", *SHORT)
    assert done.returncode == 0, done.stderr
    return work / "run"


def use(folder: Path, whole: Path, weights: list[torch.Tensor]) -> None:
    """Do with a folder all that commands do; what is loaded is what was saved."""
    data = SimpleNamespace(name="digits", fingerprint=read_report(whole)["dataset"]["fingerprint"])
    with suppress(AdmmExpError):
        loaded = admm_exp.load(folder).state_dict().values()
        assert all(map(torch.equal, loaded, weights))
    with suppress(AdmmExpError):
        previous = read_previous(str(folder), data, "small_cnn", lambda: small_cnn(10))  # type: ignore[arg-type]
        previous.rounds()
        previous.original()
        assert all(map(torch.equal, previous.network().state_dict().values(), weights))
    with suppress(AdmmExpError):
        stored_settings(folder, RESUME, [], admm_exp_address())
    with suppress(AdmmExpError):
        job_row(Job("x", "y", status="reused", run_dir=str(folder)))
    with suppress(AdmmExpError):
        sync(folder, OWN["tracking_uri"], is_chosen=False)
    with suppress(AdmmExpError):
        compare_runs(folder, whole)
    if (folder / REPORT).is_file() and (folder / REPORT).read_bytes() != (
        whole / REPORT
    ).read_bytes():
        with suppress(CheckpointError):
            shutil.rmtree(folder / "figures", ignore_errors=True)
            draw_run(folder)
    is_finished(folder)
    list(FinishedReports([folder]).of([read_report(whole)["config_hash"]]))
    found = read_newest(folder / CHECKPOINTS)
    before = read_newest(whole / CHECKPOINTS)
    if found is not None and before is not None and found.number == before.number:
        assert all(torch.equal(found.tensors[n], t) for n, t in before.tensors.items())


def admm_exp_address() -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(OWN)


@pytest.mark.filterwarnings("ignore:.*Glyph.*:UserWarning")  # of a damaged name in a figure
@times(400, few=3)
def test_a_folder_with_a_damaged_file_is_used_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path, n: int
) -> None:
    monkeypatch.chdir(run.parent)
    names = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
    names = [name for name in names if not name.endswith((".png", "lock", ".pt2", ".log"))]
    weights = [tensor.clone() for tensor in admm_exp.load(run).state_dict().values()]

    def check(case: tuple[str, Any]) -> None:
        name, change = case
        folder = tmp_path / "copy"
        shutil.copytree(run, folder)
        path = folder / name
        if change is None:
            path.unlink()
        elif isinstance(change, bytes):
            path.write_bytes(change)
        else:
            path.write_bytes(damaged(path.read_bytes(), change))
        signal.alarm(LONGEST_SECONDS)
        use(folder, run, weights)
        signal.alarm(0)
        shutil.rmtree(folder)

    tried(n, check, st.tuples(st.sampled_from(names), KINDS))


ODD = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    "auto",
    "[]",
    "{}",
    "[1,2]",
    "{a: 1}",
    "''",
]
ODD += ["${seed}", "${nowhere}", "${oc.env:NO}", "0x1F", "a b", "'", '"', "é", "../x", "/dev/null"]
ODD += ["0.5", "1", "'1'", "~", "\\", "a=b", "a,b", "1:2", "glob(*)", "range(1,3)", "x" * 300, "%"]
WORD = st.sampled_from(ODD) | st.text(st.characters(exclude_characters="\x00"), max_size=6)
SIGN = st.sampled_from(["", "", "", "", "+", "++", "~"])
OPTIONS = st.sampled_from(
    [
        *([], [], [], [], ["--cfg", "job"], ["--resolve"], ["--config-dir", "nowhere"]),
        *(["-c", "hydra"], ["--package", "x"], ["--xyz"], ["--version"], ["-p", "model"]),
    ]
)
MORE_KEYS = ["resume", "repeat", "from_run", "hydra.run.dir", "hydra.job.name", "model", "metric"]


def lines(keys: list[str]) -> Any:
    """Make command lines of settings, with options before, behind and among them."""
    equals = st.sampled_from(["=", "=", "=", "=", "", "=="])
    setting = st.tuples(SIGN, st.sampled_from(keys) | st.text(max_size=5), equals, WORD)
    return st.tuples(OPTIONS, st.lists(setting.map("".join), max_size=3), OPTIONS).map(
        lambda parts: [word for part in parts for word in part]
    )


COMMANDS = {
    # no run begins: there is no such device
    "admm-exp": (main, [*known_keys(), *MORE_KEYS], ["device=cuda:99"]),
    "admm-exp-plan": (plan, [*known_keys(), "output", "resume"], ["device=cuda:99"]),
    "admm-exp-report": (report, ["experiment_name", "parent", "filter", "output"], []),
    "admm-exp-sync": (sync_main, ["runs", "tracking_uri"], ["runs=nowhere"]),
}


TINY = ["schedule.dense.epochs=1", "schedule.admm_iterations=1", "schedule.admm_epoch=1"]
TINY += ["schedule.finetune.epochs=1", "model=small_cnn", "dataset=digits", "tracking=none"]
TINY += ["dataset.train_images=60", "schedule.batch_size=16", "device=cpu", "figures=none"]
PARTS = ["rho_policy", "metric", "method", "granularity"]
TRAINED = {
    "a run": ([*known_keys(), *PARTS], TINY),
    "a sweep": ([*known_keys(), *PARTS], ["-m", *TINY]),
    "a sweep of jobs that fail": ([*known_keys(), *MORE_KEYS], ["-m", "device=cuda:99"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_run_of_any_settings_ends_well_or_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    keys, last = TRAINED[name]
    try_lines(tmp_path, monkeypatch, capfd, main, keys, last, n=100)


@times(150, few=4)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_line_is_obeyed_or_refused_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    n: int,
) -> None:
    command, keys, last = COMMANDS[name]
    try_lines(tmp_path, monkeypatch, capfd, command, keys, last, n=n)


def try_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: Callable[[], Any],
    keys: list[str],
    last: list[str],
    *,
    n: int,
) -> None:
    """Run a command with n made-up lines before its last words, each in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK"):
        monkeypatch.delenv(variable, raising=False)

    def check(words: list[str]) -> None:
        for variable in ("HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK"):
            os.environ.pop(variable, None)
        monkeypatch.setattr(sys, "argv", ["admm-exp", *words, *last])
        monkeypatch.setattr(sys, "path", list(sys.path))
        signal.alarm(LONGEST_SECONDS)
        try:
            command()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        signal.alarm(0)
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out + str(code), words
        if isinstance(code, str):
            assert code.startswith("error: "), (words, code)
            assert len(code.splitlines()) == 1, (words, code)
            has_begun = "device=cpu" in last or "-m" in last
            assert has_begun or os.listdir(tmp_path) == [], (words, code)
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        os.chdir(tmp_path)

    tried(n, check, lines(keys))
    for variable in ("HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK"):
        os.environ.pop(variable, None)
