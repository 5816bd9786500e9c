"""The main job as a user runs it: real digits, a real MLflow database, real signals."""

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHORT, Done, clean_environment, run_command
from support.examples import run_examples
from support.stores import client_at, runs_at, store_of

import admm_exp

INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs without it
from admm_exp.app import main
main()
"""
PATIENCE_SECONDS = 900
JOB = (*SHORT, "sparsity=0.4", "rho=0.5", "experiment_name=job")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def cold(work: Path) -> Done:
    return run_command(work, *JOB, "figures=auto")


@pytest.fixture(scope="module")
def warm(work: Path, cold: Done) -> Done:
    return run_command(work, *JOB)


def run_dirs(work: Path) -> list[Path]:
    return sorted((work / "outputs" / "runs").iterdir())


def run_dir_of(work: Path, done: Done) -> Path:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("report "))
    return work / Path(line.split()[1]).parent


def report_of(run_dir: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    return report


def runs_of(work: Path, experiment: str) -> list[Any]:
    return runs_at(store_of(work), "tags.kind = 'run'", experiment)


def test_the_job_ends_with_a_table_and_where_to_look_next(cold: Done) -> None:
    assert cold.returncode == 0, cold.stderr
    for words in ("dense", "after the cut", "finetuned", "test accuracy", "MACs", "latency"):
        assert words in cold.stdout
    assert "report   outputs/runs/" in cold.stdout
    assert "admm-exp-ui experiment_name=" in cold.stdout
    assert cold.stderr == ""


@pytest.mark.parametrize("function", [admm_exp.load, admm_exp.read_runs])
def test_the_example_of_a_public_function_runs(
    work: Path, cold: Done, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    names = {"run_dir": run_dirs(work)[0], "torch": torch}
    assert run_examples(function, names) >= 3


def test_the_second_run_reuses_the_dense_network_and_says_so(
    work: Path, cold: Done, warm: Done
) -> None:
    assert "reused from the cache" in warm.stdout
    first, second = (report_of(run_dir_of(work, done)) for done in (cold, warm))
    assert second["phases"][0]["cached"]
    assert not first["phases"][0]["cached"]
    assert second["models"]["dense"]["test_loss"] == first["models"]["dense"]["test_loss"]


def test_a_cached_dense_network_leads_to_bitwise_the_same_small_one(
    work: Path, cold: Done, warm: Done
) -> None:
    folders = (run_dir_of(work, done) for done in (cold, warm))
    first, second = (admm_exp.load(folder).state_dict() for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_nothing_is_written_outside_outputs(work: Path, warm: Done) -> None:
    assert [path.name for path in work.iterdir()] == ["outputs"]


def test_the_run_leaves_what_the_contract_names(work: Path, cold: Done) -> None:
    run_dir = run_dirs(work)[0]
    expected = ("report.json", "report.md", "layers.yaml", "model.pt2", "model.json")
    for name in (*expected, "model.safetensors", ".hydra/config.yaml"):
        assert (run_dir / name).stat().st_size > 0
    figures = {path.name for path in (run_dir / "figures").iterdir()}
    assert figures == {"residuals.png", "pruning.png", "training.png"}


def test_the_report_holds_the_numbers_of_the_contract(work: Path, cold: Done) -> None:
    report = report_of(run_dirs(work)[0])
    assert report["status"] == "finished"
    keys = {"val_accuracy", "test_accuracy", "test_loss", "params", "nonzero_params", "macs"}
    keys |= {"flops", "size_bytes", "latency_ms"}
    for name in ("dense", "pruned", "finetuned"):
        column = report["models"][name]
        assert keys <= set(column)
        assert set(column["latency_ms"]) == {"1", "32"}
        assert 0.0 <= column["test_accuracy"] <= 1.0
        assert column["flops"] == 2 * column["macs"]
    assert report["surgery"]["max_abs_difference"] <= 1e-4
    assert report["surgery"]["groups"] == len(report["layers"])
    names = [phase["name"] for phase in report["phases"]]
    assert names == ["dense", "admm", "prune", "finetune"]
    assert [row["iteration"] for row in report["admm"]["iterations"]] == [1, 2]
    stopped = {"reason": "budget", "iteration": 2, "epochs_saved": 0, "masked": 0}
    # rho=auto: the pulls of all steps, the ramp of rho and the falling learning rate included
    steps = 20  # of an epoch, with a momentum of 0.9
    rates = [epoch["lr"] for epoch in report["history"] if epoch["phase"] == "admm"]
    rhos = [iteration["rho"] for iteration in report["admm"]["iterations"]]
    pull = sum(steps * lr * rho / (1 - 0.9) for lr, rho in zip(rates, rhos, strict=True))
    assert report["admm"]["stopped"] == stopped | {"pull": pytest.approx(pull)}
    assert report["admm"]["warnings"] == []


def test_every_group_loses_its_share_of_channels(work: Path, cold: Done) -> None:
    for row in report_of(run_dirs(work)[0])["layers"]:
        assert row["kept"] == row["channels"] - math.floor(0.4 * row["channels"])


def test_mlflow_has_parameters_curves_and_results(work: Path, cold: Done) -> None:
    run = runs_of(work, "job")[0]
    report = report_of(run_dirs(work)[0])
    params, metrics = run.data.params, run.data.metrics
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "rho=0.5,sparsity=0.4"
    assert (params["rho"], params["sparsity"], params["metric"]) == ("0.5", "0.4", "l2_norm")
    assert (params["rho_policy"], params["rho_policy.growth"]) == ("ramp", "20.0")
    assert (params["dataset"], params["model"], params["schedule"]) == (
        "digits",
        "resnet8",
        "quick",
    )
    assert params["seed"] == "0"
    assert float(params["log10_rho"]) == round(math.log10(0.5), 3)
    assert params["schedule.finetune.epochs"] == "1"
    assert metrics["final/accuracy"] == round(report["models"]["finetuned"]["test_accuracy"], 6)
    drop = {"accuracy", "accuracy_drop", "sparsity", "params", "macs", "flops", "flops_ratio"}
    assert {f"final/{name}" for name in drop | {"latency_ms"}} <= set(metrics)
    assert metrics["surgery.max_abs_difference"] == report["surgery"]["max_abs_difference"]
    assert run.data.tags["kind"] == "run"


def test_mlflow_has_a_point_an_epoch_and_a_point_an_iteration(work: Path, cold: Done) -> None:
    client, run = client_at(store_of(work)), runs_of(work, "job")[0]
    report = report_of(run_dirs(work)[0])

    def curve(key: str) -> list[tuple[int, float]]:
        return [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]

    rows = [row for row in report["history"] if row["phase"] == "dense"]
    assert curve("dense/val_accuracy") == [(r["epoch"], r["val_accuracy"]) for r in rows]
    for key in ("primal_residual", "dual_residual", "rho", "support_change", "dead_energy"):
        points = [(r["iteration"], r[key]) for r in report["admm"]["iterations"]]
        assert curve(f"admm/{key}") == points
    assert len(curve("finetune/train_loss")) == 1


def test_mlflow_has_the_files_and_the_data_set(work: Path, cold: Done) -> None:
    client, run = client_at(store_of(work)), runs_of(work, "job")[0]
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"report.json", "layers.yaml", "model.pt2", "model.safetensors", "figures"} <= names
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["digits"]


@pytest.mark.long
def test_runs_that_differ_by_seed_share_a_group(work: Path, warm: Done) -> None:
    done = run_command(work, *JOB, "seed=1")
    assert done.returncode == 0, done.stderr
    first, second, other = (run.data.tags for run in runs_of(work, "job"))
    assert first["config_hash"] == second["config_hash"] != other["config_hash"]
    assert first["group"] == other["group"]


@pytest.mark.long
def test_tracking_none_never_imports_mlflow(work: Path, cold: Done) -> None:
    code = "import sys\nfrom admm_exp.app import main\nmain()\nassert 'mlflow' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *JOB, "tracking=none", "model=small_cnn"],
        cwd=work,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert report_of(run_dirs(work)[-1])["mlflow"]["run_id"] is None


@pytest.mark.long
@pytest.mark.parametrize("metric", ["l1_norm", "fpgm", "random"])
def test_every_metric_runs_the_whole_job(work: Path, cold: Done, metric: str) -> None:
    done = run_command(work, *JOB, "tracking=none", "model=small_cnn", f"metric={metric}")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_layers_file_is_honoured_and_left_alone(work: Path, cold: Done) -> None:
    layers = work / "outputs" / "mine.yaml"
    layers.write_text("sparsity: {default: 0.25, layer3.0.conv1: 0.75}\n")
    before = layers.read_text()
    done = run_command(work, *JOB, "tracking=none", f"layers={layers}")
    assert done.returncode == 0, done.stderr
    kept = {row["name"]: row for row in report_of(run_dirs(work)[-1])["layers"]}
    assert kept.pop("layer3.0.conv1")["kept"] == 16
    assert all(row["kept"] == row["channels"] * 3 // 4 for row in kept.values())
    assert layers.read_text() == before


@pytest.mark.long
def test_a_run_repeats_from_the_layers_file_it_left(work: Path, cold: Done) -> None:
    source = run_dirs(work)[0]
    done = run_command(work, *JOB, "tracking=none", f"layers={source / 'layers.yaml'}")
    assert done.returncode == 0, done.stderr
    again = report_of(run_dirs(work)[-1])
    assert again["layers"] == report_of(source)["layers"]


def test_divergence_names_phase_epoch_and_step_and_marks_the_run_failed(
    work: Path, cold: Done
) -> None:
    broken = ("experiment_name=diverged", "model=small_cnn", "schedule.finetune.lr=1e30")
    done = run_command(work, *JOB, *broken)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "of epoch 1 of phase finetune" in done.stderr
    assert "at step" in done.stderr
    assert [run.info.status for run in runs_of(work, "diverged")] == ["FAILED"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_marked_killed(work: Path, cold: Done, number: int) -> None:
    experiment = f"killed-{int(number)}"
    endless = ("schedule.admm_iterations=500", "rho_policy=constant")
    overrides = (*JOB, *endless)  # the dense network is in the cache
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *overrides, f"experiment_name={experiment}"],
        cwd=work,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_metrics(work, experiment, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in stderr
    assert [run.info.status for run in runs_of(work, experiment)] == ["KILLED"]


def wait_for_metrics(work: Path, experiment: str, process: subprocess.Popen[str]) -> None:
    """Wait as long as the run lives: how long it takes is the machine's affair."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for journal in (work / "outputs" / "runs").glob("*/metrics.jsonl"):
            config = (journal.parent / ".hydra" / "config.yaml").read_text()
            if f"experiment_name: {experiment}\n" in config and "admm/" in journal.read_text():
                return
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"the run did not reach ADMM training: {process.communicate()[1][-2000:]}")
