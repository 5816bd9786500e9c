import functools
import json
import operator
from collections.abc import Iterator
from typing import Any

import pytest
from support.runs import finished_report

from admm_exp.errors import CheckpointError
from admm_exp.experiment.outputs import count_epochs
from admm_exp.report.run import (
    admm_sentences,
    baseline_metrics,
    final_metrics,
    masked_sentence,
    read_report,
    summary_rows,
    write_report,
)
from admm_exp.results import EpochRecord, History


def history_of(**epochs):
    records = [(phase, epoch) for phase, n in epochs.items() for epoch in range(1, n + 1)]
    return History(epochs=[EpochRecord(p, e, 0.1, None, 0.5, None, 1.0) for p, e in records])


def column(accuracy, macs):
    numbers = {"test_accuracy": accuracy, "val_accuracy": accuracy, "params": macs // 2}
    cost = {"macs": macs, "flops": 2 * macs, "size_bytes": macs, "nonzero_params": macs // 2}
    return numbers | cost | {"latency_ms": {"1": 1.0}}


def report_of(rounds=None, **more):
    models = {"dense": column(0.9, 100), "pruned": column(0.5, 20), "finetuned": column(0.8, 20)}
    layers = [
        {"name": "a", "channels": 8, "kept": 4, "unit_size": 1},
        {"name": "b", "channels": 4, "kept": 2, "unit_size": 1},
    ]
    return {"models": models | more, "layers": layers, "rounds": rounds, "epochs": {"total": 7}}


def test_epochs_of_all_phases_add_up():
    counted = count_epochs(history_of(dense=3, admm=2, finetune=1), is_fresh=False)
    assert counted == {"dense": 3, "admm": 2, "finetune": 1, "total": 6}


def test_random_weights_do_not_inherit_the_dense_networks_epochs():
    assert count_epochs(history_of(dense=3, scratch=6), is_fresh=True)["total"] == 6


def test_a_later_round_adds_the_epochs_before_it():
    counted = count_epochs(history_of(admm=2), is_fresh=False, epochs_before=6)
    assert counted == {"previous": 6, "admm": 2, "total": 8}


def test_numbers_of_a_first_round_count_from_its_dense_network():
    numbers = final_metrics(report_of())
    assert numbers["final/sparsity"] == 0.5
    assert (numbers["final/flops_ratio"], numbers["final/accuracy_drop"]) == (0.2, 0.1)
    assert "final/accuracy_recalibrated" not in numbers


@pytest.mark.parametrize("quantity", ["latency", "macs"])
def test_a_latency_that_had_a_budget_is_a_final_number(quantity):
    report = report_of() | {"budget": {"quantity": quantity, "reached": 0.61}}
    expected = 0.61 if quantity == "latency" else None
    assert final_metrics(report).get("final/latency_ratio") == expected


def test_numbers_of_a_later_round_count_from_the_first_dense_network():
    rounds = {"round": 2, "original_channels": {"a": 16, "b": 8}}
    numbers = final_metrics(report_of(rounds, original=column(1.0, 400)))
    assert numbers["final/sparsity"] == 0.75
    assert (numbers["final/flops_ratio"], numbers["final/accuracy_drop"]) == (0.05, 0.2)


@pytest.mark.parametrize(
    ("more", "titles"),
    [
        ({}, ("", "dense", "after the cut", "finetuned")),
        (
            {"recalibrated": column(0.6, 20)},
            ("", "dense", "after the cut", "recalibrated", "finetuned"),
        ),
        ({"original": column(1.0, 400)}, ("", "original", "before", "after the cut", "finetuned")),
    ],
)
def test_table_has_a_column_for_every_network_there_is(more, titles):
    rows = summary_rows(report_of(**more)["models"])
    assert rows[0] == titles
    assert {len(row) for row in rows} == {len(titles)}


def test_sparsity_counts_the_weights_of_units_of_different_size() -> None:
    report = report_of()
    report["layers"][0]["unit_size"] = 9  # 8 kernels of 9 weights lose 4, 4 of 1 lose 2
    report["layers"][1]["kept"] = 4
    assert final_metrics(report)["final/sparsity"] == round(36 / 76, 6)


def test_zeros_get_a_row_of_their_own() -> None:
    models = report_of()["models"]
    assert "nonzero params" not in [row[0] for row in summary_rows(models)]
    models["finetuned"]["nonzero_params"] = 1
    assert "nonzero params" in [row[0] for row in summary_rows(models)]


def test_a_report_comes_back_as_it_was_written(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(finished_report()))
    assert read_report(tmp_path) == finished_report()


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List where something stands in a report."""
    if at:
        yield at
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else parts:
        yield from places(part, (*at, key))


@pytest.mark.parametrize("at", list(places(finished_report())), ids=str)
@pytest.mark.parametrize("change", ["left out", "list", "text in a mapping"])
def test_a_damaged_report_is_named_with_what_is_wrong(tmp_path, at, change):
    report = finished_report()
    *path, last = at
    holder = functools.reduce(operator.getitem, path, report)
    if change != "left out":
        holder[last] = [[]] if change == "list" else {"x": "y"}
    elif isinstance(holder, list):
        holder[last] = None
    else:
        del holder[last]
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(CheckpointError, match=r"is missing or damaged \(.*\b(is|must)"):
        read_report(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "[" * 100_000, "\ud800"])
def test_what_is_no_report_is_named(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"report\.json is missing or damaged"):
        read_report(tmp_path)


def test_final_numbers_are_of_the_test_set_and_ratios_of_flops():
    report = report_of()
    report["models"]["finetuned"] |= {"val_accuracy": 0.7, "flops": 30, "params": 11}
    report["surgery"], report["admm"] = {}, {}
    numbers = final_metrics(report)
    assert numbers["final/accuracy"] == 0.8
    assert numbers["final/flops_ratio"] == 30 / 200


def test_report_json_is_written_last(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        "admm_exp.report.run.write_atomically", lambda path, _: written.append(path.name)
    )
    monkeypatch.setattr("admm_exp.report.run.markdown", lambda report, **_: "")
    write_report({}, tmp_path)
    assert written == ["report.md", "report.json"]


@pytest.mark.parametrize(("masked", "said"), [(1, "The last iteration"), (2, "The last 2 iter")])
def test_iterations_that_kept_zeros_are_told(masked, said):
    assert masked_sentence(masked).startswith(said)
    report = {"admm": {"stopped": {"pull": None, "masked": masked}}}
    assert admm_sentences(report) == [masked_sentence(masked)]
    assert admm_sentences({"admm": {"stopped": {"pull": None}}}) == []  # a report of before


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_number_that_no_network_reaches_is_damage(tmp_path, value):
    text = json.dumps(finished_report())
    for key in ("macs", "test_accuracy"):
        damaged = text.replace(f'"{key}": ', f'"{key}": {value}, "was": ')
        assert damaged != text
        (tmp_path / "report.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=rf"{key} must be"):
            read_report(tmp_path)


def test_a_dense_network_stands_as_its_own_measure():
    found = baseline_metrics(column(0.9, 100))
    names = ("flops_ratio", "sparsity", "accuracy_drop", "accuracy", "macs")
    assert [found[f"final/{name}"] for name in names] == [1.0, 0.0, 0.0, 0.9, 100.0]


def test_a_latency_and_its_spread_are_two_numbers():
    small = column(0.8, 20) | {"latency_spread_ms": {"1": 0.25}}
    found = final_metrics(report_of(finetuned=small))
    assert (found["final/latency_ms"], found["final/latency_spread_ms"]) == (1.0, 0.25)
