import importlib
import sys
from pathlib import Path

import pytest
from torch import nn

from admm_exp.experiment.identity import source_digest

SOURCE = (
    "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return {}\n"
)


def net_from(folder: Path, expression: str) -> nn.Module:
    (folder / "digested_net.py").write_text(SOURCE.format(expression))
    sys.modules.pop("digested_net", None)
    importlib.invalidate_caches()
    net: nn.Module = importlib.import_module("digested_net").Net()
    return net


def test_other_code_with_the_same_weights_has_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    first = source_digest(net_from(tmp_path, "x"))
    assert source_digest(net_from(tmp_path, "x")) == first
    assert source_digest(net_from(tmp_path, "2 * x")) != first


def test_pytorchs_own_layers_do_not_count() -> None:
    assert source_digest(nn.Linear(2, 2)) == source_digest(nn.Sequential(nn.ReLU()))
