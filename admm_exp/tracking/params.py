"""Which settings become MLflow parameters, and under which names."""

from collections.abc import Mapping
from math import log10
from typing import Any

PARTS = ("dataset", "model", "granularity", "metric", "method", "rho_policy", "schedule")
WHERE = ("tracking", "tracking_uri", "force")


def run_params(settings: Mapping[str, Any], rho: float) -> dict[str, Any]:
    """Name the parameters of a run.

    The parts appear by name and, flattened with dots, with their arguments; `rho` is the number
    that was used, in three digits (report.json has all), `rho_setting` what the user asked for,
    `log10_rho` the axis that MLflow's plots lack.

    Args:
        settings: The configuration as nested mappings.
        rho: Penalty parameter of the first iteration.
    """
    others = {k: v for k, v in settings.items() if k not in {*PARTS, "rho", *WHERE}}
    names = {part: settings[part]["name"] for part in PARTS}
    arguments = {
        f"{part}.{key}": value
        for part in PARTS
        for key, value in settings[part].items()
        if key != "name"
    }
    shown = {"rho": float(f"{rho:.3g}"), "log10_rho": round(log10(rho), 3)}
    return shown | {"rho_setting": settings["rho"]} | names | others | arguments
