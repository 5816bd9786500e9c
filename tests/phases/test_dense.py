import subprocess
import sys

import pytest
import torch

from admm_exp.phases.dense import HISTORY, WEIGHTS, dense_network
from admm_exp.phases.plain import train_plain
from admm_exp.training.checkpoint import save_tensors
from tests.phases.toy import is_same, mlp, parts_of, weights_of

SETTINGS = {"epochs": 3, "lr": 0.1, "decay": "cosine", "warmup_epochs": 0, "offset": 0}


def dense(entry, seed=0):
    """Ask for the dense network; return it with the phase and what the observer saw."""
    model, parts = mlp(seed), parts_of()
    result = dense_network(
        model, entry, parts, lambda parts: train_plain(model, "dense", parts, **SETTINGS)
    )
    return model, result, parts.observer


def test_first_call_trains_and_says_so(tmp_path):
    model, result, history = dense(tmp_path / "entry")
    expected = mlp()
    train_plain(expected, "dense", parts_of(), **SETTINGS)
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
    def fails(parts):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        dense_network(mlp(), tmp_path / "entry", parts_of(), fails)
    assert not (tmp_path / "entry").exists()
    assert not dense(tmp_path / "entry")[1].cached


PROCESS = """
import sys, time
from pathlib import Path
from admm_exp.phases.dense import dense_network
from admm_exp.phases.plain import train_plain
from tests.phases.toy import mlp, parts_of

folder, me = Path(sys.argv[1]), sys.argv[2]
model, settings = mlp(), dict(epochs=2, lr=0.1, decay="cosine", warmup_epochs=0, offset=0)

def train(parts):
    with (folder / "trained").open("a") as file:
        file.write(me + "\\n")
    time.sleep(0.5)  # long enough for the other to arrive
    return train_plain(model, "dense", parts, **settings)

(folder / f"ready{me}").touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.01)
result = dense_network(model, folder / "cache" / "entry", parts_of(), train)
print(result.cached, sum(float(p.detach().double().sum()) for p in model.parameters()))
"""


def test_two_processes_train_once_and_get_the_same_network(tmp_path, request):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), me],
            cwd=request.config.rootpath,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in "ab"
    ]
    answers = sorted(process.communicate(timeout=120)[0].split() for process in processes)
    assert [cached for cached, _ in answers] == ["False", "True"]
    assert answers[0][1] == answers[1][1]
    assert len((tmp_path / "trained").read_text().split()) == 1
