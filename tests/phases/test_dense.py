import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from support.toy import functions_of, is_same, mlp, weights_of

from admm_exp.phases.dense import HISTORY, WEIGHTS, dense_network
from admm_exp.phases.progress import Progress
from admm_exp.phases.train import train_plain
from admm_exp.results import EpochRecord, PhaseResult
from admm_exp.training.checkpoint import save_tensors

SETTINGS = {
    "epochs": 3,
    "lr": 0.1,
    "decay": "cosine",
    "warmup": 0.0,
    "lr_per": "epoch",
    "offset": 0,
}


def dense(entry, seed=0):
    """Ask for the dense network; return it with the phase and what the observer saw."""
    model, functions = mlp(seed), functions_of()
    result = dense_network(
        model,
        entry,
        functions,
        lambda functions: train_plain(model, "dense", functions, **SETTINGS),
    )
    return model, result, functions.observer


def test_first_call_trains_and_says_so(tmp_path):
    model, result, history = dense(tmp_path / "entry")
    expected = mlp()
    train_plain(expected, "dense", functions_of(), **SETTINGS)
    assert is_same(weights_of(model), weights_of(expected))
    assert (result.cached, result.epochs) == (False, 3)
    assert history.phases == [result]


def test_second_call_loads_the_same_weights_bit_by_bit_and_says_cached(tmp_path):
    first, _, _ = dense(tmp_path / "entry")
    second, result, _ = dense(tmp_path / "entry", seed=1)
    assert is_same(weights_of(second), weights_of(first))
    assert (result.name, result.cached, result.epochs) == ("dense", True, 0)


def test_cached_network_brings_its_curves_along(tmp_path):
    _, _, trained = dense(tmp_path / "entry")
    _, result, cached = dense(tmp_path / "entry")
    assert cached.epochs == trained.epochs
    assert len(cached.epochs) == 3
    assert cached.phases == [result]


class Begun(Progress):
    """A run that may have begun its dense network in an earlier process."""

    def __init__(self, has_begun):
        self.begun, self.kept = has_begun, []

    def has_begun(self, phase):
        return self.begun

    def keep(self, phase, model):
        self.kept.append((phase, weights_of(model)))


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_run_goes_on_with_its_own_training_and_keeps_a_cached_network(tmp_path, has_begun):
    trained, _, _ = dense(tmp_path / "entry")
    model, progress = mlp(), Begun(has_begun)
    functions = replace(functions_of(), progress=progress)
    result = dense_network(
        model,
        tmp_path / "entry",
        functions,
        lambda functions: train_plain(model, "dense", functions, **SETTINGS),
    )
    assert result.cached != has_begun
    assert [phase for phase, _ in progress.kept] == ([] if has_begun else ["dense"])
    assert all(is_same(kept, weights_of(trained)) for _, kept in progress.kept)


def cut_off(entry, name):
    (entry / name).write_bytes((entry / name).read_bytes()[:-9])


def other_network(entry):
    tensors = weights_of(mlp(seed=5)) | {"2.weight": torch.ones(4, 5)}
    save_tensors(entry / WEIGHTS, tensors)


DAMAGES = {
    "weights cut off": lambda entry: cut_off(entry, WEIGHTS),
    "weights missing": lambda entry: (entry / WEIGHTS).unlink(),
    "weights empty": lambda entry: (entry / WEIGHTS).write_bytes(b""),
    "weights of another network": other_network,
    "history cut off": lambda entry: cut_off(entry, HISTORY),
    "history missing": lambda entry: (entry / HISTORY).unlink(),
    "history not text": lambda entry: (entry / HISTORY).write_bytes(b"\xff\xfe"),
    "history no list": lambda entry: (entry / HISTORY).write_text("null"),
    "history of other fields": lambda entry: (entry / HISTORY).write_text('[{"epoch": 1}]'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_trained_anew_and_mended(tmp_path, damage):
    entry = tmp_path / "entry"
    first, _, trained = dense(entry)
    DAMAGES[damage](entry)
    again, result, seen = dense(entry)
    assert not result.cached
    assert is_same(weights_of(again), weights_of(first))
    assert len(seen.epochs) == len(trained.epochs)  # nothing of the damaged entry was told
    mended, result, _ = dense(entry)
    assert result.cached
    assert is_same(weights_of(mended), weights_of(first))


def test_training_that_fails_leaves_no_entry_and_no_lock(tmp_path):
    def fails(functions):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        dense_network(mlp(), tmp_path / "entry", functions_of(), fails)
    assert not (tmp_path / "entry").exists()
    assert not dense(tmp_path / "entry")[1].cached


PROCESS = """
import os, signal, sys, time
from pathlib import Path
from admm_exp.phases.dense import dense_network
from admm_exp.phases.progress import Progress
from admm_exp.phases.train import train_plain
from support.toy import mlp, functions_of

folder = Path(sys.argv[1])
settings = dict(epochs=2, lr=0.1, decay="cosine", warmup=0.0, lr_per="epoch", offset=0)
for _ in range(3):  # eight processes, everything is imported once
    os.fork()
me = os.getpid()

def ask(name, is_deadly):
    model = mlp()

    def train(functions):
        with (folder / f"{name}.trainers").open("a") as file:
            file.write(f"{me}\\n")
        time.sleep(0.2)  # long enough for the others to arrive
        if is_deadly and len((folder / f"{name}.trainers").read_text().split()) == 1:
            os.kill(me, signal.SIGKILL)
        return train_plain(model, "dense", functions, **settings)

    (folder / f"{name}.ready{me}").touch()
    while len(list(folder.glob(f"{name}.ready*"))) < 8:
        time.sleep(0.01)
    result = dense_network(model, folder / "cache" / name, functions_of(), train)
    weights = sum(float(p.detach().double().sum()) for p in model.parameters())
    (folder / f"{name}.answer{me}").write_text(f"{result.cached} {weights}")

ask("peaceful", False)
ask("deadly", True)
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, request):
    """Let 8 processes ask for the same network at the same moment; return answers and trainers."""
    folder = tmp_path_factory.mktemp("crowd")
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(folder)],
        cwd=request.config.rootpath / "tests",
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("deadly.answer*"))) < 7:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.wait(timeout=60)
    return lambda name: (
        Counter(path.read_text() for path in folder.glob(f"{name}.answer*")),
        (folder / f"{name}.trainers").read_text().split(),
    )


@pytest.mark.long
def test_processes_that_start_together_train_once_and_get_the_same_network(crowd):
    answers, trainers = crowd("peaceful")
    assert sorted(answers.values()) == [1, 7]
    assert len({answer.split()[1] for answer in answers}) == 1
    assert len(trainers) == 1


@pytest.mark.long
def test_a_trainer_that_is_killed_blocks_nobody(crowd):
    answers, trainers = crowd("deadly")
    assert sorted(answers.values()) == [1, 6]
    assert len(trainers) == 2  # the dead one and one more


def test_a_trainer_that_hangs_is_waited_for_no_longer(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("admm_exp.phases.dense.STALE_SECONDS", 0.1)
    monkeypatch.setattr("admm_exp.phases.dense.POLL_SECONDS", 0.05)
    entry = tmp_path / "entry"
    with FileLock(entry.with_suffix(".lock")):
        _, result, _ = dense(entry)
    assert not result.cached
    assert caplog.text.count("waiting for it") == 1
    assert "finished no epoch for 0.1 s: training without it" in caplog.text
    assert dense(entry)[1].cached


def test_a_trainer_that_finishes_epochs_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("admm_exp.phases.dense.STALE_SECONDS", 0.4)
    monkeypatch.setattr("admm_exp.phases.dense.POLL_SECONDS", 0.05)
    entry, others = tmp_path / "entry", []
    start = time.monotonic()

    def train(functions):
        waiting = threading.Thread(target=lambda: others.append(dense(entry)[1]))
        waiting.start()
        for epoch in range(12):  # three times as long as one may be silent
            time.sleep(0.1)
            functions.observer.epoch_finished(EpochRecord("dense", epoch, 0.1, 1.0, 0.5, 1.0, 0.1))
        return PhaseResult("dense", 1.2, 12)

    dense_network(mlp(), entry, functions_of(), train)
    while not others:
        assert time.monotonic() - start < 60
        time.sleep(0.01)
    assert others[0].cached


def test_a_full_disk_costs_the_entry_alone(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("admm_exp.phases.dense.save_tensors", full)
    assert not dense(tmp_path / "entry")[1].cached
    assert "No space left on device" in caplog.text
    monkeypatch.undo()
    assert not dense(tmp_path / "entry")[1].cached
