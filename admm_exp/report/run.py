"""The report of a run: numbers for programs, a page for people."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from admm_exp.errors import CheckpointError
from admm_exp.report.inference import inference_rows
from admm_exp.report.wording import count, count_epochs, markdown_table, percent, size
from admm_exp.results import FIGURES, FORM, PAGE, REPORT, read_json, require_form, write_atomically

IMAGE = re.compile(r"\s*!\[[^\]]*\]\(figures/[^)]*\)")
COLUMNS = {
    "original": "original",
    "dense": "dense",
    "pruned": "after the cut",
    "recalibrated": "recalibrated",
    "finetuned": "finetuned",
}


def amount_of(report: Mapping[str, Any]) -> str:
    """Say how much was to be removed: a sparsity, or what may remain."""
    if budget := report.get("budget"):
        return f"{budget['quantity']} {budget['asked']:g} ({budget['allocation']})"
    return f"sparsity {report['config']['sparsity']}"


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.md and then, last and atomically, report.json.

    Args:
        report: The numbers; values that are not finite become null.
        folder: Folder of the run.
    """
    page = markdown(report, has_figures=(folder / FIGURES).is_dir())
    write_atomically(folder / PAGE, page.encode())
    text = json.dumps(_finite(report), indent=2, allow_nan=False)
    write_atomically(folder / REPORT, text.encode())


def read_report(run_dir: Path, form: Mapping[str, Any] = FORM) -> dict[str, Any]:
    """Read the report of a finished run.

    Args:
        run_dir: Folder of the run.
        form: What it must hold, as `require_form` takes it.

    Raises:
        CheckpointError: If it is missing, or damaged, with the first thing that is wrong.
    """
    path = run_dir / REPORT
    try:
        report = read_json(path)
        require_form(report, form)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error})") from error
    return dict(report)


def summary_rows(models: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Lay out the table dense | after the cut | finetuned: a header and one row a quantity."""
    dense = original_of(models)
    titles = {name: title for name, title in COLUMNS.items() if name in models}
    if "original" in models:
        titles["dense"] = "before"
    columns = [models[name] for name in titles]

    def row(label: str, key: str, style: str) -> tuple[str, ...]:
        return (label, *(_cell(column[key], dense[key], style) for column in columns))

    rows = [
        ("", *titles.values()),
        row("test accuracy", "test_accuracy", "percent"),
        row("val accuracy", "val_accuracy", "percent"),
        row("params", "params", "count"),
        *([row("nonzero params", "nonzero_params", "count")] if _has_zeros(columns) else []),
        row("MACs per sample", "macs", "count"),
        row("size", "size_bytes", "bytes"),
    ]
    for batch in models["dense"]["latency_ms"]:
        cells = [_latency(name, models[name], batch) for name in titles]
        rows.append((f"latency@{batch}, ms", *cells))
    return rows


def _latency(name: str, model: Mapping[str, Any], batch: str) -> str:
    """Write the time of a network where its architecture first ran; others took no turns."""
    if name not in ("dense", "finetuned"):
        return ""
    spread = (model.get("latency_spread_ms") or {}).get(batch)
    return f"{model['latency_ms'][batch]:.3g}{f' ± {spread:.1g}' if spread else ''}"


def latency_sentence(latency: Mapping[str, Mapping[str, float]]) -> str:
    """Say what the small network takes of the dense one's time, and how well that is known."""
    found = [f"batch {batch} {_time_left(ratio)}" for batch, ratio in latency.items()]
    turns = max(int(ratio["rounds"]) for ratio in latency.values())
    return f"Time of the small network, turn by turn ({turns} turns): {', '.join(found)}."


def _time_left(ratio: Mapping[str, float]) -> str:
    value, spread = ratio["value"], ratio["spread"]
    if abs(value - 1.0) <= spread:
        return f"no difference measurable (± {spread:.0%})"
    return f"{value:.0%} (± {spread:.0%}) of the dense one's"


def original_of(models: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Choose the network that others are measured against: the dense one of the first round."""
    return models.get("original", models["dense"])


def markdown(report: Mapping[str, Any], *, has_figures: bool = True) -> str:
    """Write the report as a page.

    Args:
        report: The numbers.
        has_figures: Figures lie in the folder `figures` beside it.
    """
    config, surgery, epochs = report["config"], report["surgery"], report["epochs"]
    method, unit = config["method"]["name"], report["layers"][0]["unit"]
    rho = f", rho {report['admm']['rho']:.3g}" if method == "admm" else ""
    rounds = report.get("rounds")
    place = f", round {rounds['round']}" if rounds else ""
    sections = [
        f"# {config['model']['name']} on {config['dataset']['name']}, "
        f"{method}, {amount_of(report)}{rho}{place}",
        markdown_table(summary_rows(report["models"])),
        f"Accuracy before the cut {report['admm']['test_accuracy']:.2%}, right after it "
        f"{report['models']['pruned']['test_accuracy']:.2%}. {surgery_sentence(surgery)} "
        "One MAC is two FLOPs.",
        *([latency_sentence(found)] if (found := report.get("latency")) else []),
        *admm_sentences(report),
        "![loss and accuracy](figures/training.png)",
        *(["![residuals](figures/residuals.png)"] if report["admm"]["iterations"] else []),
        *([budget_sentence(report["budget"])] if report.get("budget") else []),
        "![what pruning did](figures/pruning.png)",
        f"## {unit.capitalize()}",
        markdown_table(
            [("group", unit, "kept", "tied layers")]
            + [
                (r["name"], str(r["channels"]), str(r["kept"]), ", ".join(r["tied"]))
                for r in report["layers"]
            ]
        ),
        "Kept whole: "
        + "; ".join(f"{group['name']} ({group['reason']})" for group in report["kept_groups"]),
        *(
            ["## Inference", markdown_table(inference_rows(i))]
            if (i := report.get("inference"))
            else []
        ),
        "## Phases",
        f"The weights of the small network were trained for "
        f"{count_epochs(epochs['total'], config['schedule']['epoch_parts'])} in all.",
        markdown_table(
            [("phase", "seconds", "epochs", "cached")]
            + [
                (p["name"], f"{p['seconds']:.1f}", str(p["epochs"]), "yes" if p["cached"] else "")
                for p in report["phases"]
            ]
        ),
        *([training_sentence(t)] if (t := report.get("training")) else []),
    ]
    page = "\n\n".join(sections) + "\n"
    return page if has_figures else IMAGE.sub("", page)


def training_sentence(training: Mapping[str, Any]) -> str:
    """Say what training took, so that methods of equal epochs are not taken for equal cost."""
    phases = ", ".join(
        f"{phase['name']} {count(phase['macs'])} in {phase['seconds']:.1f} s"
        for phase in training["phases"]
    )
    return (
        f"Training after the dense network took {count(training['macs'])} "
        f"multiply-adds (forward and backward passes) and {training['seconds']:.1f} s: {phases}."
    )


def pull_sentence(pull: float) -> str:
    """Say what rho came to over the ADMM phase.

    Args:
        pull: S, the sum over its steps of lr * rho / (1 - momentum).
    """
    return (
        f"The pull of rho came to S = {pull:.3g} over all steps of the ADMM phase: a weight that "
        f"the task does not hold keeps {math.exp(-pull / 2):.2g} of its size (rho=auto: 9.2, 1 %)."
    )


def masked_sentence(masked: int) -> str:
    """Say how many iterations at the end kept what is to be removed at zero."""
    last = "iteration" if masked == 1 else f"{masked} iterations"
    return (
        f"The last {last} kept what is to be removed at zero, so that the cut takes nothing away."
    )


def admm_sentences(report: Mapping[str, Any]) -> list[str]:
    """Say how the ADMM phase of a report pulled, and how it ended."""
    stopped = report["admm"].get("stopped") or {}
    pull, masked = stopped.get("pull"), stopped.get("masked")
    return [
        *([pull_sentence(pull)] if pull is not None else []),
        *([masked_sentence(masked)] if masked else []),
    ]


def surgery_sentence(surgery: Mapping[str, Any]) -> str:
    """Say what became of the removed units."""
    if not surgery["is_cut"]:
        return "Removed weights stay in the network as zeros, so its size and MACs are the dense."
    difference = surgery["max_abs_difference"]
    return f"Masked and cut network differ by at most {difference:.1e} on real inputs."


def final_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Sum a run up in the metrics `final/*`, rounded to 6 digits.

    Sparsity, drop and ratio are those of all rounds together, against the original dense network.
    """
    dense, small = original_of(report["models"]), report["models"]["finetuned"]
    first = (report.get("rounds") or {"original_channels": {}})["original_channels"]
    layers = report["layers"]
    units = sum(first.get(row["name"], row["channels"]) * row["unit_size"] for row in layers)
    kept = sum(row["kept"] * row["unit_size"] for row in layers)
    numbers = {
        "accuracy": small["test_accuracy"],
        "val_accuracy": small["val_accuracy"],
        "accuracy_drop": dense["test_accuracy"] - small["test_accuracy"],
        "accuracy_after_cut": report["models"]["pruned"]["test_accuracy"],
        "epochs": report["epochs"]["total"],
        "sparsity": 1.0 - kept / units,
        "params": small["params"],
        "nonzero_params": small["nonzero_params"],
        "macs": small["macs"],
        "flops": small["flops"],
        "flops_ratio": small["flops"] / dense["flops"],
        "latency_ms": small["latency_ms"]["1"],
    }
    if spread := small.get("latency_spread_ms"):
        numbers["latency_spread_ms"] = spread["1"]
    if training := report.get("training"):
        numbers |= {f"training_{name}": training[name] for name in ("macs", "seconds")}
    if (budget := report.get("budget")) and budget["quantity"] == "latency":
        numbers["latency_ratio"] = budget["reached"]
    if recalibrated := report["models"].get("recalibrated"):
        numbers["accuracy_recalibrated"] = recalibrated["test_accuracy"]
    return {f"final/{name}": round(float(value), 6) for name, value in numbers.items()}


def baseline_metrics(dense: Mapping[str, Any]) -> dict[str, float]:
    """Sum a dense network up in the metrics `final/*`, so that it stands beside pruned ones."""
    numbers = {"accuracy": dense["test_accuracy"], "val_accuracy": dense["val_accuracy"]}
    numbers |= {"sparsity": 0.0, "flops_ratio": 1.0, "accuracy_drop": 0.0}
    numbers |= {name: dense[name] for name in ("params", "macs", "flops")}
    return {f"final/{name}": round(float(value), 6) for name, value in numbers.items()}


def _has_zeros(columns: Sequence[Mapping[str, Any]]) -> bool:
    return any(column["nonzero_params"] < column["params"] for column in columns)


def _cell(value: float, dense: float, style: str) -> str:
    if style == "percent":
        return percent(value)
    texts = {
        "count": count(value),
        "bytes": size(value),
    }
    ratio = f" ({dense / value:.1f}x)" if value and value != dense else ""
    return texts[style] + ratio


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def budget_sentence(budget: Mapping[str, Any]) -> str:
    """Say what of the dense network should remain and what does."""
    noise = f" (± {budget['spread']:.1%})" if "spread" in budget else ""
    batch = f" at batch {budget['batch_size']}" if "batch_size" in budget else ""
    sentence = (
        f"Budget: {budget['asked']:.1%} of the dense network's {budget['quantity']}{batch}, "
        f"{budget['reached']:.1%}{noise} reached on the cut network."
    )
    figure = "![sensitivity](figures/sensitivity.png)"
    return f"{sentence}\n\n{figure}" if budget["sensitivity"] else sentence
