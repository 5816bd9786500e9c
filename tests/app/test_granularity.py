"""A run below the channel, as a user starts it."""

import json

import pytest
import torch
from conftest import SHORT, run_command

import admm_exp

pytestmark = pytest.mark.long

LAYERS = "sparsity: {default: 0.75, conv1: 0.0, fc: 0.98}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("element")
    (folder / "mine.yaml").write_text(LAYERS)
    options = ("granularity=element", "layers=mine.yaml", "model=small_cnn", "tracking=none")
    done = run_command(folder, *options, *SHORT, "schedule.finetune.epochs=2", "figures=auto")
    assert done.returncode == 0, done.stderr
    run_dir = next((folder / "outputs/runs").iterdir())
    return done, run_dir, json.loads((run_dir / "report.json").read_text())


def test_the_saved_network_is_as_sparse_as_asked(run):
    _, run_dir, _ = run
    network = admm_exp.load(run_dir)
    program = torch.export.load(run_dir / "model.pt2").module()
    for name, sparsity in {"conv1": 0.0, "conv2": 0.75, "fc": 0.98}.items():
        weight = network.get_submodule(name).weight
        n_zero = int((weight == 0).sum())
        assert n_zero == int(sparsity * weight.numel() + 1e-9)
        assert int((program.get_parameter(f"{name}.weight") == 0).sum()) == n_zero


def test_the_report_counts_weights_and_tells_the_truth_about_size(run):
    _, run_dir, report = run
    assert report["surgery"] == {"max_abs_difference": 0.0, "groups": 3, "is_cut": False}
    rows = {row["name"]: row for row in report["layers"]}
    assert rows["conv2"]["channels"] == 16 * 32 * 9
    assert {row["unit"] for row in rows.values()} == {"weights"}
    dense, small = report["models"]["dense"], report["models"]["finetuned"]
    assert small["macs"] == dense["macs"]
    removed = sum(row["channels"] - row["kept"] for row in rows.values())
    assert dense["nonzero_params"] - small["nonzero_params"] == removed
    page = (run_dir / "report.md").read_text()
    assert "Removed weights stay in the network as zeros" in page
    assert "nonzero params" in page
    assert (run_dir / "figures/pruning.png").stat().st_size > 0


def test_the_layers_file_it_writes_can_be_used_again(run):
    _, run_dir, report = run
    text = (run_dir / "layers.yaml").read_text()
    assert "conv2: 0.75 # 4608 weights" in text
    sparsities = {row["name"]: row["sparsity"] for row in report["layers"]}
    assert sparsities["conv1"] == 0.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("granularity=element", "metric=fpgm"), "metric fpgm ranks units by their distances"),
        (("granularity=n_of_m", "granularity.m=1"), "m must be at least 2, got 1"),
        (("granularity=kernel", "method=group_lasso"), "granularity must be channel, got kernel"),
    ],
)
def test_what_makes_no_sense_is_refused_before_training(command, options, sentence):
    done = command(*options, "tracking=none")
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["oneshot", "gradual", "scratch"])
@pytest.mark.parametrize("granularity", ["element", "n_of_m", "block", "kernel", "shape", "filter"])
def test_every_method_works_with_every_granularity(command, method, granularity):
    done = command(f"method={method}", f"granularity={granularity}", "tracking=none", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "nonzero params" in done.stdout
