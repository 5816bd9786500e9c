"""Differences between the settings of a sweep, as metrics of its parent run."""

import math
import re
from collections.abc import Sequence

from admm_exp.report.comparison import Setting, by_amount, difference, references
from admm_exp.sweep.tables import setting_name

NOT_IN_A_NAME = re.compile(r"[^\w.\- /]")
LONGEST_NAME = 200


def difference_metrics(settings: Sequence[Setting]) -> dict[str, float]:
    """List paired differences of test accuracy, their standard error and n, by setting.

    Returns:
        `difference/<amount>/<setting>`, `difference_error/...` and `difference_n/...`, against the
        reference of each amount; no error where a single seed is shared.
    """
    metrics = {}
    for amount, reference in references(settings).items():
        for setting in by_amount(settings)[amount]:
            found = difference(setting, reference, "accuracy")
            if setting is reference or found is None:
                continue
            name = _as_metric(f"{key_of(setting)}/{setting_name(setting)}")
            metrics[f"difference/{name}"] = round(found.mean, 6)
            metrics[f"difference_n/{name}"] = float(found.n)
            if found.n > 1:
                metrics[f"difference_error/{name}"] = round(found.standard_error, 6)
    return metrics


def key_of(setting: Setting) -> str:
    """Name the amount of a setting in keys of a store: 0.5 for a sparsity, macs-0.3 otherwise."""
    return (
        setting.amount.replace(" ", "-")
        if math.isnan(setting.sparsity)
        else f"{setting.sparsity:g}"
    )


def _as_metric(name: str) -> str:
    return NOT_IN_A_NAME.sub("-", name)[:LONGEST_NAME]
