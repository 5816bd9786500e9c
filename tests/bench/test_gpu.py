import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import setuptools
import torch

from admm_exp.bench.gpu import _compared, checkpoint, evaluation, training, waits
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench, Measurement, times_seen

SCRIPT = Path(__file__).parents[2] / "admm_exp" / "bench" / "gpu.py"
MISSING = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in {names!r}
        return None if missing else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("admm_exp.bench.measurement.QUICK_ROUNDS", 1)
    for module in ("loops", "gpu"):
        monkeypatch.setattr(f"admm_exp.bench.{module}.TURN_SECONDS", 0.0)
    monkeypatch.setattr("admm_exp.bench.loops.TINY", ("resnet20", 8, 2))
    monkeypatch.setattr(torch, "compile", lambda network, mode: network)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    return Bench(True, torch.device("cpu"), tmp_path, Machine(1e9, 1e9))


def test_the_suspects_run_in_a_tiny_form_without_a_gpu(bench: Bench) -> None:
    rows = [row for measure in (evaluation, waits, checkpoint) for row in measure(bench)]
    names = "validation", "recalibration", "projected", "Z and U", "checkpoint"
    assert all(row.suspect.startswith(name) for row, name in zip(rows, names, strict=True))
    assert [row.ratio is None for row in rows] == [False, False, False, True, False]
    assert "needs a GPU" in rows[3].comment


def test_training_is_held_against_a_bare_loop_of_its_kind(bench: Bench) -> None:
    rows = list(training(bench))
    kinds = "eager", "compile=default", "compile=reduce-overhead"
    assert [row.compared for row in rows] == [
        *(f"images/s of ADMM over a bare loop, {kind}" for kind in kinds),
        *(f"ADMM, {kind}, against ADMM, eager" for kind in kinds[1:]),
    ]
    for row in rows[:3]:
        assert row.expected == ">= 0.95"
        assert row.ratio is not None
        assert (row.comment == "missed") == (row.ratio < 0.95)


@pytest.mark.parametrize(("gain", "comment"), [(1.01, ""), (1.0, "missed"), (0.6, "missed")])
def test_a_suspect_that_gains_nothing_is_said_to_miss(gain: float, comment: str) -> None:
    row = _compared(Measurement("gpu", "work", {"slow": [gain], "fast": [1.0]}), "slow", "fast")
    assert (row.ratio, row.expected, row.comment) == (gain, "> 1", comment)


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "tpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: device=tpu is not available here, choose one of auto,")
    assert len(done.stderr.splitlines()) == 1


def test_calls_that_wait_are_counted() -> None:
    numbers = torch.ones(3)
    assert times_seen("aten::_local_scalar_dense", lambda: [n.item() for n in numbers]) == 3


def test_the_script_is_one_that_a_person_reads() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 150


@pytest.mark.slow
def test_the_script_needs_torch_and_torchvision_alone(tmp_path: Path) -> None:
    inside_setuptools = {
        path.name for path in (Path(setuptools.__file__).parent / "_vendor").iterdir()
    }
    needed = needed_by("torch", "torchvision") | inside_setuptools
    missing = set(packages_distributions()) - needed
    assert {"hydra", "mlflow", "pydantic", "safetensors"} <= missing
    (tmp_path / "sitecustomize.py").write_text(MISSING.format(names=missing))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, "cpu"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "TORCHDYNAMO_DISABLE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, _, _, _, *rows = done.stdout.splitlines()
    assert head.startswith("cpu, torch ")
    assert len(rows) == 13
    for word in ("validation", "Z and U", "checkpoint", "ADMM over a bare", "reduce-overhead"):
        assert word in done.stdout
    assert re.search(r"during backward, against behind backward \| [\d.]+", done.stdout)
    assert re.search(r"processes at once, against in turn \| [\d.]+", done.stdout)


def needed_by(*roots: str) -> set[str]:
    """List the importable names that come with some distributions and what those require."""
    wanted, waiting = set[str](), list(roots)
    while waiting:
        name = waiting.pop()
        if (key := normalised(name)) not in wanted:
            wanted.add(key)
            waiting += required(name)
    modules = packages_distributions().items()
    return {module for module, found in modules if wanted & {normalised(n) for n in found}}


def required(distribution: str) -> list[str]:
    """Read what a distribution requires without its extras, where it is installed."""
    try:
        lines = requires(distribution) or []
    except ModuleNotFoundError:
        return []
    return [re.split(r"[ ;<>=!~\[(]", line)[0] for line in lines if "extra ==" not in line]


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
