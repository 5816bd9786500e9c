"""The program of a network, and what it shares with that of one of the same shape."""

from io import BytesIO
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from admm_exp.export import program

INPUTS = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
BUILDER = {"_target_": "here.Scaled"}


class Scaled(nn.Module):
    """Weights beside a number that is none of them."""

    def __init__(self, scale: float, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.scale = nn.Linear(2, 2), scale

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.scale * self.layer(inputs)
        return outputs


def outputs_of(archive: bytes) -> Tensor:
    outputs: Tensor = torch.export.load(BytesIO(archive)).module()(INPUTS)
    return outputs


@pytest.fixture(autouse=True)
def followed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a network was followed."""
    calls: list[str] = []
    export = torch.export.export

    def counted(*given: Any, **words: Any) -> Any:
        calls.append("followed")
        return export(*given, **words)

    monkeypatch.setattr(torch.export, "export", counted)
    monkeypatch.setattr(program, "_programs", {})
    return calls


def test_a_network_of_the_same_shape_is_not_followed_again(followed: list[str]) -> None:
    networks = [Scaled(2.0, seed) for seed in (0, 1)]
    archives = [program.exported(network, BUILDER, INPUTS) for network in networks]
    assert followed == ["followed"]
    for network, archive in zip(networks, archives, strict=True):
        torch.testing.assert_close(outputs_of(archive), network(INPUTS))


def test_a_network_of_the_same_shape_that_computes_otherwise_is_followed(
    followed: list[str],
) -> None:
    program.exported(Scaled(2.0, 0), BUILDER, INPUTS)
    other = Scaled(3.0, 0)
    archive = program.exported(other, BUILDER, INPUTS)
    assert followed == ["followed"] * 2
    torch.testing.assert_close(outputs_of(archive), other(INPUTS))


def test_a_process_keeps_few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PROGRAMS", 2)
    for width in range(1, 5):
        program.exported(nn.Linear(2, width), BUILDER, INPUTS)
    assert len(program._programs) == 2
