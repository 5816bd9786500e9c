import copy
from pathlib import Path

import pytest
import torch

from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench
from admm_exp.bench.network import optimizer_of
from admm_exp.bench.together import Stacked, together
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.training.loop import train_epoch


def test_stacked_networks_train_as_each_does_alone() -> None:
    torch.manual_seed(0)
    networks = [resnet8(num_classes=4, width=4) for _ in range(2)]
    images, labels = torch.randn(2, 8, 3, 8, 8), torch.randint(4, (2, 8))
    stacked = Stacked(copy.deepcopy(networks))
    for _ in range(3):
        stacked.step(images, labels)
    for index, network in enumerate(networks):
        optimizer = optimizer_of(network.parameters())
        train_epoch(network, optimizer, [(images[index], labels[index])] * 3)
        for name, tensor in network.state_dict().items():
            found = (stacked.parameters | stacked.buffers)[name][index]
            torch.testing.assert_close(found.detach(), tensor, rtol=1e-4, atol=1e-5)


def test_what_is_stacked_is_contiguous_whatever_the_networks_are() -> None:
    network = resnet8(num_classes=4, width=4).to(memory_format=torch.channels_last)
    stacked = Stacked([network, network])
    assert all(tensor.is_contiguous() for tensor in stacked.parameters.values())
    assert network.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch.func's, part of the row
def test_jobs_run_together_in_a_tiny_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admm_exp.bench.measurement.QUICK_ROUNDS", 1)
    bench = Bench(True, torch.device("cpu"), tmp_path, Machine(1e9, 1e9))
    (row,) = together(bench)
    assert list(row.seconds) == ["in turn", "stacked (torch.func)", "processes at once"]
    assert row.items == 2 * 8
    assert all(row.median_seconds(variant) > 0.0 for variant in row.seconds)
