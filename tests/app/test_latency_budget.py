"""A run with a latency budget, from the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, run_command

RUN = Path("outputs/runs/it")
OPTIONS = ("budget.latency=0.7", "budget.latency_batch=256", "tracking=none", *SHORT)


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / RUN / "report.json").read_text())
    return report


@pytest.mark.slow
def test_a_run_reports_what_it_measured_and_goes_on_with_what_it_chose(tmp_path: Path) -> None:
    done = run_command(tmp_path, *OPTIONS, f"hydra.run.dir={RUN}")
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path)
    (kept,) = tmp_path.glob("outputs/cache/dense/*/latency-*.json")
    choice, entry = json.loads(kept.read_text()), report["budget"]
    assert (entry["quantity"], entry["asked"], entry["batch_size"]) == ("latency", 0.7, 256)
    assert entry["chosen"] == choice["ratio"]
    chosen = {row["name"]: row["channels"] - row["kept"] for row in report["layers"]}
    for row in report["layers"]:
        assert chosen[row["name"]] == int(
            choice["sparsities"][row["name"]] * row["channels"] + 1e-9
        )
    assert "256" in report["models"]["dense"]["latency_ms"]
    assert "latency 0.7 (uniform)" in (tmp_path / RUN / "report.md").read_text()

    (tmp_path / RUN / "report.json").unlink()  # as if it had died in its last second
    others = dict.fromkeys(choice["sparsities"], 0.25)
    kept.write_text(json.dumps(choice | {"sparsities": others}))
    done = run_command(tmp_path, f"resume={RUN}")
    assert done.returncode == 0, done.stderr
    assert report_of(tmp_path)["layers"] == report["layers"]

    shutil.rmtree(tmp_path / RUN)  # a new run takes what is kept
    done = run_command(tmp_path, *OPTIONS, f"hydra.run.dir={RUN}")
    assert done.returncode == 0, done.stderr
    removed = {row["channels"] - row["kept"] for row in report_of(tmp_path)["layers"]}
    assert removed == {row["channels"] // 4 for row in report["layers"]}
