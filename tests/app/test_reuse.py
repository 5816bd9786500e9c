"""A finished result is reused while nothing that decides it has changed, not even code."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SHORT, run_command

from admm_exp.app import reuse

NET = """
from torch import nn
from widths import WIDTH
def net(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.{act}(),
        nn.Conv2d(WIDTH, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""
READ_WIDTH = """
import json
from pathlib import Path
from types import SimpleNamespace
WIDTHS = Path(__file__).parent.parent / 'widths.json'
WIDTH = int(Path(json.loads(WIDTHS.read_text())['file']).expanduser().read_text())
"""
METRIC = """
from admm_exp.admm.metrics import L2Norm
class Mine(L2Norm):
    {body}
"""
OWN_NET = ("model._target_=mynets.net", "~model.width", "tracking=none", *SHORT)


def dense_of(work: Path) -> list[bool]:
    """Tell of every run, oldest first, whether its dense network came from the cache."""
    reports = sorted(work.glob("outputs/runs/*/report.json"))
    return [json.loads(path.read_text())["phases"][0]["cached"] for path in reports]


@pytest.mark.long
def test_a_network_is_trained_anew_when_the_code_that_builds_it_was_edited(tmp_path: Path) -> None:
    (tmp_path / "widths.py").write_text("WIDTH = 8\n")
    (tmp_path / "mynets.py").write_text(NET.format(act="ReLU"))
    for _ in range(2):
        done = run_command(tmp_path, *OWN_NET)
        assert done.returncode == 0, done.stderr
    (tmp_path / "mynets.py").write_text(NET.format(act="GELU"))  # the same names and shapes
    assert run_command(tmp_path, *OWN_NET).returncode == 0
    (tmp_path / "widths.py").write_text("WIDTH = 8  # of what mynets imports\n")
    assert run_command(tmp_path, *OWN_NET).returncode == 0
    assert dense_of(tmp_path) == [False, True, False, False]


@pytest.mark.long
def test_jobs_run_again_when_the_metric_was_edited_and_the_sweep_says_why(tmp_path: Path) -> None:
    sweep = ("-m", "metric._target_=mymetric.Mine", "sparsity=0.3,0.5", "model=small_cnn")
    path = tmp_path / "mymetric.py"
    path.write_text(METRIC.format(body="pass"))
    assert run_command(tmp_path, *sweep, *SHORT, "tracking=none").returncode == 0
    again = run_command(tmp_path, *sweep, *SHORT, "tracking=none")
    assert again.stdout.count(" reused ") == 2, again.stdout + again.stderr
    path.write_text(METRIC.format(body="def __repr__(self):\n        return 'mine'"))
    edited = run_command(tmp_path, *sweep, *SHORT, "tracking=none")
    assert edited.returncode == 0, edited.stderr
    assert "reused" not in edited.stdout
    assert edited.stdout.count("runs again: mymetric was edited") == 2
    path.write_text(METRIC.format(body="pass"))
    assert run_command(tmp_path, *sweep, *SHORT, "tracking=none").stdout.count(" reused ") == 2


@pytest.mark.long
def test_a_run_that_went_on_with_edited_code_stands_for_neither(tmp_path: Path) -> None:
    job = ("metric._target_=mymetric.Mine", "model=small_cnn", *SHORT, "tracking=none")
    path = tmp_path / "mymetric.py"
    metric = METRIC.replace("L2Norm", "L1Norm")  # ranks by no energy, so that it is called
    fails = "if __import__('pathlib').Path('outputs/runs/it/checkpoints').exists():"
    body = f"def __call__(self, *given):\n        {fails}\n            raise OSError('gone')"
    body += "\n        return super().__call__(*given)"
    path.write_text(metric.format(body=body))
    assert run_command(tmp_path, *job, "hydra.run.dir=outputs/runs/it").returncode == 1
    path.write_text(metric.format(body="pass"))
    again = run_command(tmp_path, "resume=outputs/runs/it", job[0])
    assert again.returncode == 0, again.stderr
    report = json.loads((tmp_path / "outputs/runs/it/report.json").read_text())
    assert report["changed_while_it_ran"] == ["code", "the code of mymetric"]
    sweep = run_command(tmp_path, "-m", *job)
    assert "runs again: " in sweep.stdout


@pytest.mark.long
def test_a_network_is_trained_anew_when_what_its_builder_finds_was_edited(tmp_path: Path) -> None:
    build = "    return importlib.import_module(f'nets.{kind}').net(num_classes, in_channels)\n"
    (tmp_path / "mynets.py").write_text(
        f"import importlib\ndef net(num_classes, in_channels, kind):\n{build}"
    )
    (tmp_path / "nets").mkdir()
    plain = NET.format(act="ReLU").replace("from widths import WIDTH", READ_WIDTH)
    (tmp_path / "nets" / "plain.py").write_text(plain)
    (tmp_path / "widths.json").write_text('{"file": "~/width.txt"}')
    width = tmp_path / "home" / "width.txt"
    width.parent.mkdir()
    width.write_text("8")
    job = (*OWN_NET, "+model.kind=plain")
    for edit in (None, None, width, tmp_path / "nets" / "plain.py"):
        if edit:
            edit.write_text(edit.read_text() + "\n")
        done = run_command(tmp_path, *job, env={"HOME": str(width.parent)})
        assert done.returncode == 0, done.stderr
    assert dense_of(tmp_path) == [False, True, False, False]


@pytest.mark.parametrize(
    ("target", "n_read"), [("admm_exp.data.digits.digits", 1), ("mine.data", 2)]
)
def test_a_seed_orders_our_own_data_and_may_decide_what_yours_are(monkeypatch, target, n_read):
    read = []

    def build(part, settings):
        read.append(settings["seed"])
        return SimpleNamespace(fingerprint=f"of {settings['seed']}")

    monkeypatch.setattr(reuse, "build", build)
    monkeypatch.setattr(reuse, "_fingerprints", {})
    for seed in (0, 1):
        reuse.fingerprint_of({"_target_": target, "seed": seed})
    assert read == list(range(n_read))
