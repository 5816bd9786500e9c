"""Two processes with half of every batch each do what one does with the whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import clean_environment

from admm_exp.training import distribution
from admm_exp.training.gradient_average import average_gradients
from admm_exp.training.shared_batch_norm import shared_batch_norm

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[1] / "support" / "team.py"
TOLERANCE = {"rtol": 0.0, "atol": 1e-12}

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def found(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("team")
    environment = clean_environment() | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(request.config.rootpath)
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: torch.load(folder / f"{name}.pt") for name in ("alone", "0", "1")}


@needs_fork
@pytest.mark.parametrize("state", ["weights", "recalibrated"])
def test_weights_and_running_statistics_are_those_of_one_process(found, state):
    for name, value in found["alone"][state].items():
        torch.testing.assert_close(found["0"][state][name], value, **TOLERANCE)
        assert torch.equal(found["0"][state][name], found["1"][state][name])


@needs_fork
@pytest.mark.parametrize("how", ["one pass", "two passes", "halved"])
@pytest.mark.parametrize("buckets", ["one bucket", "a bucket each"])
def test_gradients_averaged_during_the_backward_pass_are_those_averaged_after_it(
    found, how, buckets
):
    for me in ("0", "1"):
        is_same, sent, n_parameters = found[me]["averages"][f"{how}, {buckets}"]
        assert is_same
        assert sent == [1 if buckets == "one bucket" else n_parameters] * 5


@needs_fork
@pytest.mark.parametrize("me", ["0", "1"])
def test_losses_and_evaluations_are_those_of_one_process(found, me):
    assert found[me]["losses"] == pytest.approx(found["alone"]["losses"], abs=1e-12)
    assert found[me]["evaluation"] == pytest.approx(found["alone"]["evaluation"], abs=1e-12)


@needs_fork
def test_no_two_masks_of_dropout_are_the_same_and_processes_draw_alike_after_them(found):
    masks = torch.cat([found[me]["masks"].flatten(1) for me in ("0", "1")])
    assert len(masks.unique(dim=0)) == len(masks) == 2 * 2 * 2 * 4
    for name in ("after", "dropped"):
        assert torch.equal(found["0"][name], found["1"][name])


@needs_fork
def test_the_first_process_speaks_for_all(found):
    assert found["0"]["told"] == found["1"]["told"] == ["first", 0]
    assert (found["0"]["is_first"], found["1"]["is_first"]) == (True, False)
    assert torch.equal(found["1"]["copied"], torch.zeros(2, 2))


@needs_fork
def test_a_difference_between_processes_ends_the_run(found):
    for me in ("0", "1"):
        assert found[me]["complaint"] == "the set of kept units is not the same in all processes"


@needs_fork
def test_a_process_that_dies_is_noticed(found):
    assert found["0"]["loss"].startswith("another process has died or does not answer (")


def test_one_process_alone_does_nothing_of_it():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], 0.1)
    assert not average_gradients(optimizer)._optimizer_step_pre_hooks
    values = torch.tensor([1.0, 3.0])
    assert distribution.averaged(values) is values
    assert distribution.from_first(lambda: values) is values
    assert distribution.summed(1, 2.5) == (1.0, 2.5)
    assert shared_batch_norm().__enter__() is None
    assert (distribution.rank(), distribution.world_size()) == (0, 1)
