from pathlib import Path

import torch
from conftest import run_command
from torch import nn

from admm_exp.training.memory_format import suited_layout

CPU = torch.device("cpu")


def shortcut(in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, in_channels, 3), nn.Conv2d(in_channels, 8, 1, stride=2))


def test_networks_are_channels_last_where_it_is_safe() -> None:
    assert suited_layout(shortcut(16), CPU) == torch.channels_last


def test_a_narrow_strided_shortcut_keeps_a_cpu_network_contiguous() -> None:
    assert suited_layout(shortcut(15), CPU) == torch.contiguous_format


def test_a_gpu_takes_channels_last_in_any_case() -> None:
    assert suited_layout(shortcut(8), torch.device("cuda")) == torch.channels_last


def test_training_survives_in_the_layout_chosen(tmp_path: Path) -> None:
    code = """
import torch
from torch import nn
from admm_exp.training.memory_format import suited_layout
torch.manual_seed(0)
for width in (8, 16):
    net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 16, 1, stride=2))
    net.to(memory_format=suited_layout(net, torch.device("cpu")))
    net(torch.randn(32, 3, 48, 48)).sum().backward()
    print(width)
raise SystemExit(0)
"""
    done = run_command(tmp_path, before=code)
    assert (done.returncode, done.stdout.split()) == (0, ["8", "16"])
