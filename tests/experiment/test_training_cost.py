from admm_exp.experiment.training_cost import training_cost
from admm_exp.results import EpochRecord, History, PhaseResult

MODELS = {"dense": {"macs": 1000}, "finetuned": {"macs": 100}}


def history(*phases, cached=()):
    found = History()
    for name, epochs in phases:
        found.epochs += [EpochRecord(name, e + 1, 0.1, 1.0, 0.5, 1.0, 2.0) for e in range(epochs)]
        found.phases.append(PhaseResult(name, 9.0 * epochs, epochs, cached=name in cached))
    return found


def test_the_wide_network_trains_until_the_cut_and_the_small_one_after_it():
    cost = training_cost(history(("dense", 4), ("admm", 2), ("finetune", 3)), MODELS, 10)
    by_phase = {phase["name"]: phase["macs"] for phase in cost["phases"]}
    # 3 passes x MACs x 10 samples x epochs
    assert by_phase == {"dense": 120_000, "admm": 60_000, "finetune": 9_000}
    assert (cost["macs"], cost["seconds"]) == (69_000, 45.0)


def test_equal_epochs_are_not_equal_cost():
    oneshot = training_cost(history(("dense", 4), ("finetune", 5)), MODELS, 10)
    admm = training_cost(history(("dense", 4), ("admm", 2), ("finetune", 3)), MODELS, 10)
    assert oneshot["macs"] == 15_000 < admm["macs"]


def test_training_from_scratch_is_on_the_small_network():
    assert training_cost(history(("scratch", 9)), MODELS, 10)["macs"] == 27_000


def test_a_dense_network_from_the_cache_costs_what_it_took():
    cost = training_cost(history(("dense", 4), ("finetune", 1), cached=("dense",)), MODELS, 10)
    assert cost["phases"][0]["seconds"] == 8.0
