import sys

import pytest

from admm_exp.tracking.provenance import command


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/venv/bin/admm-exp", ["admm-exp"]),
        ("/site-packages/admm_exp/__main__.py", ["python", "-m", "admm_exp"]),
        ("/admm_exp/admm_exp/bench/__main__.py", ["python", "-m", "admm_exp.bench"]),
    ],
)
def test_command_can_be_typed_again(monkeypatch, program, words):
    monkeypatch.setattr(sys, "argv", [program, "-m", "rho=0.1,1"])
    assert command() == [*words, "-m", "rho=0.1,1"]
