"""Means over seeds, and differences between methods seed by seed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import fmean, quantiles, stdev
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1 in the denominator; NaN if n is 1) of n numbers."""

    mean: float
    std: float
    n: int


def spread_of(values: Sequence[float]) -> Spread:
    """Sum up at least one number."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else nan, len(values))


def interquartile_range(values: Sequence[float]) -> float:
    """Span the middle half of at least one number; 0 of a single one."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low


@dataclass(frozen=True)
class Paired:
    """Mean difference over the seeds that two settings share.

    A paired difference takes out what a seed does to both alike: its split, its dense network, its
    order of the data.

    Args:
        mean: Of the differences.
        standard_error: Their standard deviation over sqrt(n); NaN if n is 1.
        n: Number of seeds that both have.
    """

    mean: float
    standard_error: float
    n: int

    @property
    def is_told_apart(self) -> bool:
        """Whether the difference is more than 2 standard errors; never of a single seed."""
        return self.n > 1 and abs(self.mean) > 2.0 * self.standard_error


def paired(values: Mapping[Hashable, float], reference: Mapping[Hashable, float]) -> Paired | None:
    """Compare two settings seed by seed.

    Args:
        values: Numbers of one setting by seed.
        reference: Those of the setting that it is compared to.

    Returns:
        The difference values - reference; None if they share no seed.
    """
    differences = [value - reference[seed] for seed, value in values.items() if seed in reference]
    if not differences:
        return None
    found = spread_of(differences)
    return Paired(found.mean, found.std / sqrt(found.n), found.n)


@dataclass(frozen=True)
class MethodMean:
    """One method in one setting.

    Args:
        setting: Values that the runs of a row and of its reference share, as asked for.
        method: Name of the method.
        n: Number of runs.
        mean: Mean of their values.
        std: Their standard deviation; None below two runs.
        n_pairs: Seeds that this method and the reference have in common.
        difference: Mean over those seeds of this method's value minus the reference's; None for
            the reference itself and where no seed is shared.
        standard_error: Of that difference, its standard deviation over sqrt(n_pairs); None below
            two pairs.
    """

    setting: tuple[Any, ...]
    method: str
    n: int
    mean: float
    std: float | None
    n_pairs: int
    difference: float | None
    standard_error: float | None


def compare(
    reports: Iterable[Mapping[str, Any]],
    value: str = "models.finetuned.test_accuracy",
    *,
    method: str = "config.method.name",
    within: Sequence[str] = ("config.sparsity",),
    reference: str | None = None,
) -> list[MethodMean]:
    """Compare methods over runs with several seeds.

    Differences are those of `paired`.

    Args:
        reports: Contents of report.json, or mappings of the same form.
        value: Dotted name of the number that is compared.
        method: Dotted name of what tells the methods apart.
        within: Dotted names of what must be equal for runs to be compared.
        reference: Method that the others are compared to; None for no differences.

    Returns:
        One row a setting and method: settings as they first appear, methods by falling mean.

    Raises:
        ValueError: If a report lacks a name, two runs share setting, method and seed, or no run
            has the reference method.
    """
    values: dict[tuple[Any, ...], dict[str, dict[Any, float]]] = {}
    for report in reports:
        setting = tuple(look_up(report, name) for name in within)
        name, seed = str(look_up(report, method)), look_up(report, "seed")
        by_seed = values.setdefault(setting, {}).setdefault(name, {})
        if seed in by_seed:
            raise ValueError(f"two runs of {name} have seed {seed} in setting {setting}: keep one")
        by_seed[seed] = float(look_up(report, value))
    names = sorted({name for methods in values.values() for name in methods})
    if reference is not None and reference not in names:
        raise ValueError(
            f"no run has the reference {reference!r}, got {', '.join(names) or 'none'}"
        )
    rows = []
    for setting, methods in values.items():
        base = {} if reference is None else methods.get(reference, {})
        found = [
            _row(setting, name, by_seed, {} if name == reference else base)
            for name, by_seed in methods.items()
        ]
        rows += sorted(found, key=lambda row: -row.mean)
    return rows


def look_up(report: Mapping[str, Any], name: str) -> Any:
    """Read a value by its dotted name.

    Raises:
        ValueError: If the report has no such value.
    """
    value: Any = report
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"a report has no {name}")
        value = value[part]
    return value


def _row(
    setting: tuple[Any, ...], method: str, by_seed: Mapping[Any, float], base: Mapping[Any, float]
) -> MethodMean:
    own = spread_of(list(by_seed.values()))
    difference = paired(by_seed, base)
    return MethodMean(
        setting=setting,
        method=method,
        n=own.n,
        mean=own.mean,
        std=own.std if own.n > 1 else None,
        n_pairs=difference.n if difference else 0,
        difference=difference.mean if difference else None,
        standard_error=difference.standard_error if difference and difference.n > 1 else None,
    )
