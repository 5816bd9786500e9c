"""The command that plans: a layers file to edit, and the run that uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SHORT, Done, run_command
from support.in_process import refusal_of

from admm_exp.app.plan_command import main

PLAN = "from admm_exp.app.plan_command import main\nmain()\n"


def run_plan(folder: Path, *overrides: str) -> Done:
    return run_command(folder, *overrides, command="admm-exp-plan")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module")
def planned(work: Path) -> Done:
    return run_plan(work, "output=layers.yaml", "channel_multiple=4", "sparsity=0.4")


def test_the_plan_shows_every_group(planned: Done) -> None:
    assert planned.returncode == 0, planned.stderr
    for words in ("layer3.0.conv2", "64 -> 40", "whole network", "764 k ->", "kept whole: fc"):
        assert words in planned.stdout
    assert "admm-exp layers=layers.yaml" in planned.stdout


def test_the_plan_writes_the_file_alone(tmp_path: Path) -> None:
    done = run_plan(tmp_path, "output=layers.yaml")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["layers.yaml"]


def test_an_existing_file_is_never_overwritten(work: Path, planned: Done) -> None:
    before = (work / "layers.yaml").read_text()
    done = run_plan(work, "output=layers.yaml")
    assert done.returncode == 1
    assert done.stderr == "error: output=layers.yaml exists already: choose another name\n"
    assert (work / "layers.yaml").read_text() == before


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["output=''"], "output must not be empty"),
        (["output=x.yaml", "sparsity=2"], "sparsity must be in [0, 1), got 2"),
        (["output=x.yaml", "layers=no.yaml"], "layers=no.yaml cannot be read"),
        (["output=x.yaml", "granularity=kernel"], "granularity must be channel, got kernel"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], sentence: str
) -> None:
    told = refusal_of(monkeypatch, main, tmp_path, *overrides)
    assert sentence in told
    assert len(told.splitlines()) == 1, told
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_honours_the_edited_file(work: Path, planned: Done) -> None:
    edited = (work / "layers.yaml").read_text().replace("exclude: []", "exclude: [layer1.0.conv1]")
    lines = [line for line in edited.splitlines() if not line.startswith("  layer1.0.conv1")]
    lines.insert(lines.index("sparsity:") + 1, "  layer3.*: 0.3")
    lines = [line for line in lines if not line.startswith("  layer3.0")]
    mine = work / "mine.yaml"
    mine.write_text("\n".join(lines) + "\n")
    done = run_command(work, "layers=mine.yaml", "tracking=none", *SHORT)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (work / "outputs" / "runs").iterdir()
    report = json.loads((run_dir / "report.json").read_text())
    kept = {row["name"]: (row["channels"], row["kept"]) for row in report["layers"]}
    assert kept["conv1"] == (16, 12)  # 10, rounded to a multiple of 4 when it was planned
    assert kept["layer3.0.conv1"] == kept["layer3.0.conv2"] == (64, 64 - 19)
    assert "layer1.0.conv1" not in kept
    assert {"layer1.0.conv1", "fc"} == {group["name"] for group in report["kept_groups"]}
    again = (run_dir / "layers.yaml").read_text()
    assert "exclude: [layer1.0.conv1]" in again


def test_help_names_the_command_and_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from admm_exp.app.plan_command import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "admm-exp-plan output=layers.yaml" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
def test_a_run_reaches_its_budget(work: Path, planned: Done, allocation: str) -> None:
    before = set((work / "outputs" / "runs").glob("*"))
    budget = ("budget.macs=0.4", f"budget.allocation={allocation}")
    done = run_command(work, *budget, "tracking=none", *SHORT, "figures=auto")
    assert done.returncode == 0, done.stderr
    (run_dir,) = set((work / "outputs" / "runs").iterdir()) - before
    report = json.loads((run_dir / "report.json").read_text())
    models, entry = report["models"], report["budget"]
    assert models["finetuned"]["macs"] / models["dense"]["macs"] == pytest.approx(0.4, abs=0.02)
    assert entry["reached"] == models["finetuned"]["macs"] / models["dense"]["macs"]
    assert (run_dir / "figures" / "sensitivity.png").exists() == (allocation == "sensitivity")
    assert f"macs 0.4 ({allocation})" in (run_dir / "report.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["budget.macs=1.5"], "budget.macs must be in (0, 1), got 1.5"),
        (
            ["budget.macs=0.5", "budget.params=0.5"],
            "budget must be one of macs, params, got 2 of them",
        ),
        (["budget.macs=0.5", "channel_multiple=64"], "in multiples of 64: the nearest is 1.000"),
        (["budget.macs=0.5", "layers=layers.yaml"], "both choose the sparsity of layers"),
        (["budget.macs=0.5", "sparsity=0.3"], "budget.macs=0.5 chooses the sparsities: leave"),
        (["budget.macs=0.5", "budget.allocation=global"], "ranks the channels of a trained"),
        (["budget.latency=0.01", "budget.latency_batch=1"], "cannot be reached: the smallest net"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    work: Path,
    planned: Done,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    sentence: str,
) -> None:
    told = refusal_of(monkeypatch, main, work, *overrides, "output=budget.yaml")
    assert sentence in told
    assert len(told.splitlines()) == 1, told
    assert not (work / "budget.yaml").exists()


def test_without_an_output_the_plan_is_shown_and_nothing_written(tmp_path: Path) -> None:
    done = run_plan(tmp_path, "sparsity=0.4")
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole network" in done.stdout
    assert "nothing was written: output=layers.yaml" in done.stdout
    assert list(tmp_path.iterdir()) == []
