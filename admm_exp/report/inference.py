"""Timings of the engines as text and as metrics."""

from collections.abc import Mapping
from typing import Any

NETWORKS = ("dense", "small")


def inference_metrics(entry: Mapping[str, Any]) -> dict[str, float]:
    """Name the numbers of an entry as metrics, rounded to 6 digits."""
    numbers = {"macs_ratio": entry["macs_ratio"]}
    for timing in entry["timings"]:
        where = f"{timing['engine']}/batch_{timing['batch_size']}".lower().replace(" ", "_")
        numbers[f"{where}/speed_up"] = timing["speed_up"]
        for name in NETWORKS:
            numbers |= {f"{where}/{name}_{key}": value for key, value in timing[name].items()}
    return {f"inference/{name}": round(float(value), 6) for name, value in numbers.items()}


def inference_rows(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay an entry out: a header and one row an engine and batch size."""
    header = ("engine", "batch", *NETWORKS, "samples/s, small", "speed-up", "MACs, dense/small")
    return [header] + [
        (
            timing["engine"],
            str(timing["batch_size"]),
            *(_spread(timing[name]) for name in NETWORKS),
            f"{timing['small']['samples_per_second']:,.0f}",
            f"{timing['speed_up']:.2f}x",
            f"{entry['macs_ratio']:.2f}x",
        )
        for timing in entry["timings"]
    ]


def _spread(numbers: Mapping[str, float]) -> str:
    return f"{numbers['latency_ms']:.3g} ms (IQR {numbers['latency_iqr_ms']:.2g})"
