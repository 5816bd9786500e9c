"""The table of a sweep: one line a job, mean and std over seeds, the best run per sparsity."""

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from math import isnan
from pathlib import Path
from typing import Any

from admm_exp.report.comparison import (
    Setting,
    best_per_amount,
    by_amount,
    difference,
    group_settings,
    pareto_front,
    references,
    remark,
)
from admm_exp.report.wording import count, markdown_table, mean_std, percent, points
from admm_exp.results import write_atomically

Table = list[tuple[str, ...]]
HEADER = (
    *("job", "test", "val", "after the cut", "MACs", "of dense"),
    *("training MACs", "training s", "status"),
)


def job_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out one line a job under a header.

    Args:
        rows: Result rows; those of failed jobs hold `run_name`, `status` and `error` alone.
    """
    return [HEADER, *(_line(row) for row in rows)]


def seed_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out mean and standard deviation of the runs that differ by their seed alone.

    Args:
        rows: Result rows of finished jobs.

    Returns:
        A header and one line a setting; empty if none has two seeds. The standard deviation is
        that of a sample (n - 1).
    """
    lines = [
        (
            setting_name(setting),
            str(setting.n),
            mean_std(setting.spread("accuracy")),
            mean_std(setting.spread("accuracy_after_cut")),
            *_training(setting.mean("training_macs"), setting.mean("training_seconds")),
        )
        for setting in group_settings(rows)
        if setting.n > 1
    ]
    header = ("setting", "n", "test", "after the cut", "training MACs", "training s")
    return [header, *lines] if lines else []


def difference_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out differences between settings of one amount, seed by seed, ± standard error.

    Args:
        rows: Result rows of finished jobs.

    Returns:
        A header and one line a setting that is not the reference of its amount; empty if no
        amount has two settings.
    """
    settings = group_settings(rows)
    lines = [
        (
            setting_name(setting),
            setting_name(reference),
            points(difference(setting, reference, "accuracy")),
            points(difference(setting, reference, "val_accuracy")),
        )
        for amount, reference in references(settings).items()
        for setting in by_amount(settings)[amount]
        if setting is not reference
    ]
    return [("setting", "minus", "test, points", "val, points"), *lines] if lines else []


def best_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the best setting per sparsity or budget, chosen on validation accuracy.

    Args:
        rows: Result rows of finished jobs.

    Returns:
        A header and one line an amount, with what the choice is not told apart from; empty if no
        amount has two settings to choose from.
    """
    settings = group_settings(rows)
    best = best_per_amount(settings)
    if len(best) == len(settings):
        return []
    lines = [
        (
            setting.amount,
            setting_name(setting),
            str(setting.n),
            mean_std(setting.spread("val_accuracy")),
            mean_std(setting.spread("accuracy")),
            remark(setting, settings),
        )
        for setting in best
    ]
    return [("amount", "best", "n", "val", "test", "told apart"), *lines]


def best_by_amount(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Setting, str]]:
    """Say of every sparsity or budget which setting is best, and by how much.

    Args:
        rows: Result rows of finished jobs.

    Returns:
        By amount, the best setting by validation accuracy and a sentence about it.
    """
    settings, said = group_settings(rows), {}
    for best in best_per_amount(settings):
        sentence = _within_amount(best)
        others = [s for s in by_amount(settings)[best.amount] if s is not best]
        if others:
            (second,) = best_per_amount(others)
            margin = points(difference(best, second, "val_accuracy"))
            sentence += f", val {margin} points over {_within_amount(second)}"
        sentence += f", test {mean_std(best.spread('accuracy'))}"
        said[best.amount] = best, sentence
    return said


def _within_amount(setting: Setting) -> str:
    """Name a setting without the amount that it shares with what it is compared to."""
    shared = setting.amount.replace(" ", "=")
    return ",".join(part for part in setting_name(setting).split(",") if part != shared)


def front_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the Pareto front: no other setting has fewer MACs and a higher validation accuracy.

    Args:
        rows: Result rows of finished jobs.
    """
    lines = [
        (
            setting_name(setting),
            str(setting.n),
            f"{setting.mean('macs'):,.0f}",
            mean_std(setting.spread("val_accuracy")),
            mean_std(setting.spread("accuracy")),
        )
        for setting in pareto_front(group_settings(rows))
    ]
    return [("setting", "n", "MACs", "val", "test"), *lines] if lines else []


def summary_tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
    """Lay out what the runs say together, the tables that have something to say by title.

    Args:
        rows: Result rows of finished jobs.
    """
    tables = {
        "mean and std over seeds": seed_table(rows),
        "differences, seed by seed, with their standard error": difference_table(rows),
        "best per sparsity or budget, by validation accuracy": best_table(rows),
        "Pareto front, by MACs and validation accuracy": front_table(rows),
    }
    return {title: table for title, table in tables.items() if table}


def sweep_page(
    title: str, command: str, rows: Sequence[Mapping[str, Any]], figures: Sequence[Path] = ()
) -> str:
    """Write the sweep as a page for people.

    Args:
        figures: Files in the folder `figures` beside the page.
        title: What was swept; no heading if empty.
        command: What the user typed.
        rows: Result rows of all jobs.
    """
    finished = finished_rows(rows)
    best = [f"* **{amount}**: {said}" for amount, (_, said) in best_by_amount(finished).items()]
    parts = [f"# {title}"] if title else []
    parts += ["\n".join(best)] if best else []
    parts += [f"```sh\n{command}\n```", markdown_table(job_table(rows))]
    for heading, table in summary_tables(finished).items():
        parts += [f"## {heading[0].upper()}{heading[1:]}", markdown_table(table)]
    if failed := [row for row in rows if row.get("error")]:
        parts += ["## Failed", *(f"* {row['run_name']}: {row['error']}" for row in failed)]
    parts += [f"![{path.stem}](figures/{path.name})" for path in figures]
    return "\n\n".join(parts) + "\n"


def write_sweep(page: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write sweep.md, sweep.json and sweep.csv.

    Args:
        page: The sweep for people.
        rows: Result rows of all jobs; curves and layers stay in the reports of the runs.
        folder: Folder of the sweep.
    """
    flat = [{k: v for k, v in row.items() if not isinstance(v, list | Mapping)} for row in rows]
    paths = [folder / f"sweep.{ending}" for ending in ("md", "json", "csv")]
    table = StringIO(newline="")
    writer = csv.DictWriter(table, list(dict.fromkeys(key for row in flat for key in row)))
    writer.writeheader()
    writer.writerows(flat)
    texts = (page, json.dumps(flat, indent=2), table.getvalue())
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text.encode())
    return paths


def finished_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows that hold results.

    Args:
        rows: Result rows of all jobs.
    """
    return [row for row in rows if row["status"] in ("finished", "reused")]


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "accuracy" not in row:
        return (row["run_name"], *[""] * (len(HEADER) - 2), row["status"])
    return (
        row["run_name"],
        percent(row["accuracy"]),
        percent(row["val_accuracy"]),
        percent(row["accuracy_after_cut"]),
        f"{row['macs']:,}",
        f"{row['flops_ratio']:.1%}",
        *_training(row.get("training_macs"), row.get("training_seconds")),
        row["status"],
    )


def setting_name(setting: Setting) -> str:
    """Name a setting as its runs are named, without the seed."""
    return _without_seed(setting.rows[0]["run_name"])


def _training(macs: float | None, seconds: float | None) -> tuple[str, str]:
    """Write what training after the dense network took."""
    cost = "" if macs is None or isnan(macs) else count(macs)
    return cost, "" if seconds is None or isnan(seconds) else f"{seconds:.1f}"


def _without_seed(name: str) -> str:
    kept = [part for part in name.split(",") if not part.startswith("seed=")]
    return ",".join(kept) or "all seeds"
