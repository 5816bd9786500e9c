import copy
import json
from functools import partial
from itertools import product

import pytest
import torch
from conftest import SHORT, run_command
from support.stores import runs_at, store_of
from torch import nn

from admm_exp.export.inference import (
    Timing,
    eager,
    engines_for,
    inference_entry,
    time_inference,
)
from admm_exp.export.onnx import missing_packages
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.cost.timing import take_turns
from admm_exp.report.inference import inference_metrics, inference_rows

TIMING = Timing("ONNX Runtime", 64, {"dense": [0.4, 0.9, 0.2], "small": [0.1, 0.1, 0.1]})
EXAMPLE = torch.randn(1, 3, 8, 8)


def test_a_timing_is_a_median_a_spread_and_a_rate():
    numbers = TIMING.as_dict()
    assert (numbers["engine"], numbers["batch_size"]) == ("ONNX Runtime", 64)
    assert numbers["dense"]["latency_ms"] == pytest.approx(400.0)
    assert numbers["dense"]["latency_iqr_ms"] == pytest.approx(350.0)  # of 0.3 s to 0.65 s
    assert numbers["small"]["samples_per_second"] == pytest.approx(640.0)
    assert numbers["speed_up"] == pytest.approx(4.0)  # of 4, 9 and 2 in the rounds


def test_the_speed_up_stands_beside_the_ratio_of_macs():
    entry = inference_entry([TIMING], macs_ratio=3.96)
    header, row = inference_rows(entry)
    assert dict(zip(header, row, strict=True)) == {
        "engine": "ONNX Runtime",
        "batch": "64",
        "dense": "400 ms (IQR 3.5e+02)",
        "small": "100 ms (IQR 0)",
        "samples/s, small": "640",
        "speed-up": "4.00x",
        "MACs, dense/small": "3.96x",
    }
    metrics = inference_metrics(entry)
    assert metrics["inference/macs_ratio"] == 3.96
    assert metrics["inference/onnx_runtime/batch_64/speed_up"] == 4.0
    assert metrics["inference/onnx_runtime/batch_64/dense_latency_ms"] == 400.0


def test_networks_take_turns_on_batches_of_every_size_and_stay_as_they_are():
    calls = []

    class Watched(nn.Flatten):
        def forward(self, x):
            calls.append((self.start_dim, len(x), self.training, torch.is_inference_mode_enabled()))
            return super().forward(x)

    networks = {"dense": Watched(1).train(), "small": Watched(2).train()}
    clock = partial(take_turns, rounds=2)
    timings = time_inference(networks, EXAMPLE, clock, {"eager": eager}, batch_sizes=(1, 4))
    first, second = ((1, False, True), (4, False, True))
    # every round begins with another network
    rounds = [(dim, *how) for how in (first, second) for dim in (1, 2, 2, 1)]
    assert calls == [(1, *first), (2, *first), *rounds]  # each once before the clock starts
    assert [(t.batch_size, [*map(len, t.seconds.values())]) for t in timings] == [
        (1, [2, 2]),
        (4, [2, 2]),
    ]
    assert networks["dense"].training


def test_an_engine_that_fails_is_left_out_with_its_reason(caplog):
    def broken(network):
        raise RuntimeError("no compiler\nat all")

    networks, clock = dict.fromkeys(("dense", "small"), nn.Flatten()), partial(take_turns, rounds=1)
    engines = {"compiled": broken, "eager": eager}
    (timing,) = time_inference(networks, EXAMPLE, clock, engines, batch_sizes=(2,))
    assert timing.engine == "eager"
    assert "inference is not timed with the engine compiled: no compiler" in caplog.text


def test_volumes_are_not_laid_out_as_images():
    assert "channels last" in engines_for(EXAMPLE)
    assert "channels last" not in engines_for(EXAMPLE.unsqueeze(-1))


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_packages()), reason="ONNX Runtime is not installed")
def test_every_engine_computes_what_the_network_does():
    network = resnet8(num_classes=5, width=4).eval()
    batch = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        expected = network(batch)
        for prepare in engines_for(EXAMPLE).values():
            computed = prepare(copy.deepcopy(network))(batch)
            torch.testing.assert_close(computed, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_packages()), reason="ONNX Runtime is not installed")
def test_a_run_is_timed_in_every_engine_if_it_is_asked_to(tmp_path):
    done = run_command(tmp_path, *SHORT, "inference=all", "experiment_name=timed")
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "outputs" / "runs").iterdir()
    report = json.loads((run_dir / "report.json").read_text())
    timings = report["inference"]["timings"]
    engines = ("eager", "channels last", "compiled", "ONNX Runtime")
    assert [(t["batch_size"], t["engine"]) for t in timings] == list(product((1, 64), engines))
    models = report["models"]
    macs_ratio = models["dense"]["macs"] / models["finetuned"]["macs"]
    assert report["inference"]["macs_ratio"] == macs_ratio > 1.0
    assert "| ONNX Runtime | 64 |" in (run_dir / "report.md").read_text()
    (run,) = runs_at(store_of(tmp_path), "tags.kind = 'run'", "timed")
    assert run.data.metrics["inference/macs_ratio"] == pytest.approx(macs_ratio, abs=1e-6)
    assert run.data.metrics["inference/eager/batch_1/small_latency_ms"] > 0.0
