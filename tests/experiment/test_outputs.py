from admm_exp.config.settings import Allocation, BudgetSettings
from admm_exp.experiment.outputs import budget_entry
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.report.run import budget_sentence

MODELS = {"dense": {"macs": 200}, "pruned": {"macs": 90}}


def entry_of(macs=None, latency=None, **more):
    asked = BudgetSettings(macs, None, latency, 64, Allocation.uniform)
    return budget_entry(asked, MODELS, more.pop("curves", ()), **more)


def test_macs_are_counted_on_the_cut_network():
    curves = [Curve("a", (0.0, 0.5), (0.9, 0.8))]
    entry = entry_of(macs=0.5, curves=curves, chosen=None, reached=None)
    assert (entry["quantity"], entry["asked"], entry["reached"]) == ("macs", 0.5, 0.45)
    assert "Budget: 50.0% of the dense network's macs, 45.0% reached" in budget_sentence(entry)
    assert "sensitivity.png" in budget_sentence(entry)


def test_a_latency_says_how_well_it_is_known():
    chosen, reached = (LatencyRatio(v, 0.004, 12) for v in (0.6, 0.613))
    entry = entry_of(latency=0.6, chosen=chosen, reached=reached)
    assert (entry["reached"], entry["spread"], entry["rounds"]) == (0.613, 0.004, 12)
    assert (entry["chosen"]["value"], entry["batch_size"]) == (0.6, 64)
    assert budget_sentence(entry) == (
        "Budget: 60.0% of the dense network's latency at batch 64, 61.3% (± 0.4%) reached on the "
        "cut network."
    )


def test_no_budget_has_no_entry():
    assert entry_of(chosen=None, reached=None) is None
