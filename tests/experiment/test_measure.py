"""What is measured on the networks of a run."""

from types import SimpleNamespace

import pytest

from admm_exp.experiment import measure
from admm_exp.results import History


@pytest.fixture
def made(monkeypatch):
    """A second round: the networks before and after, of which the first takes 2 ms, then 1 ms."""
    times = {"dense": {"1": [2.0] * 9}, "small": {"1": [1.0] * 9}}
    monkeypatch.setattr(measure, "measure_latency_ms", lambda *_: times)
    monkeypatch.setattr(measure, "latency_budget", lambda *_: None)
    models = {"original": {"latency_ms": {"1": 8.0}}, "dense": {}, "pruned": {}, "finetuned": {}}
    return SimpleNamespace(models=models, networks=dict)


def test_the_first_network_of_all_rounds_keeps_what_its_own_run_measured(made):
    components = SimpleNamespace(example_input=lambda: None)
    _, ratios = measure.measure_latencies(made, None, components, History())
    assert ratios["1"]["value"] == 0.5
    assert {name: column["latency_ms"] for name, column in made.models.items()} == {
        "original": {"1": 8.0},
        "dense": {"1": 2.0},
        "pruned": {"1": 1.0},
        "finetuned": {"1": 1.0},
    }
    assert "latency_spread_ms" not in made.models["original"]
