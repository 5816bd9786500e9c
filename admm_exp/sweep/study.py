"""Choosing experiments with Optuna, and telling early which ones are hopeless."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from admm_exp.errors import AdmmExpError, ConfigError
from admm_exp.tracking.address import without_password
from admm_exp.tracking.owner import has_died, owner_tags

if TYPE_CHECKING:
    from optuna import Study, Trial

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "accuracy": "maximize",
    "macs": "minimize",
}
RESULT = "result"
CLEARLY = 0.1
"""Validation accuracy by which a trial is clearly worse."""
UNJUDGED = 0.25
"""Share of the ADMM iterations in which no trial is judged."""


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Args:
        objectives: `accuracy` (validation, up), `macs` (a sample, down), or both.
        trials: Number of trials of the study, earlier starts counted in.
        batch: Trials that are chosen and run at once.
        storage: Optuna's database.
        study_name: Of the study; None names it by what is searched.
        stops_hopeless: Ends trials whose ADMM diagnostics are hopeless.
    """

    objectives: Sequence[str]
    trials: int
    batch: int
    storage: str
    study_name: str | None
    stops_hopeless: bool

    def check(self) -> None:
        """Check the values.

        Raises:
            ConfigError: A value is not allowed.
        """
        names = list(self.objectives)
        if not names or len(set(names)) < len(names) or not set(names) <= set(DIRECTIONS):
            raise ConfigError(
                f"hydra.sweeper.objectives must be accuracy, macs, or both, got {names}"
            )
        for name in ("trials", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"hydra.sweeper.{name} must be at least 1, got {value}")


def open_study(settings: SearchSettings, study_name: str) -> "Study":
    """Open a study, or start it; trials whose process died count as failed.

    Args:
        settings: How to search.
        study_name: Of the study.

    Raises:
        ConfigError: Optuna is missing, its database is damaged or cannot be used, or the study has
            other objectives.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("a search needs Optuna: pip install 'admm-exp[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if settings.storage.startswith("sqlite:///"):
        Path(settings.storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with usable(settings.storage):
        study = optuna.create_study(
            storage=settings.storage,
            study_name=study_name,
            directions=[DIRECTIONS[name] for name in settings.objectives],
            load_if_exists=True,
        )
        directions = [direction.name.lower() for direction in study.directions]
        running = study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    if directions != [DIRECTIONS[name] for name in settings.objectives]:
        raise ConfigError(f"the study {study_name!r} has other objectives: set another study_name")
    for trial in running:
        if has_died(trial.user_attrs):
            with usable(settings.storage):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


@contextmanager
def usable(storage: str) -> Iterator[None]:
    """Say in a sentence what Optuna or its database complains of.

    Args:
        storage: Optuna's database.

    Raises:
        ConfigError: It cannot be used.
    """
    try:
        yield
    except AdmmExpError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"hydra.sweeper.storage={without_password(storage)} cannot be used ({reason[:200]}): "
            f"mend it, or set another one"
        ) from error


def ask(study: "Study", ranges: Mapping[str, Any]) -> tuple["Trial", dict[str, Any]]:
    """Let a study choose the next trial.

    Args:
        study: The study.
        ranges: By key, a range as Hydra parses it.

    Returns:
        The trial and the value of every key.
    """
    trial = study.ask()
    for key, value in owner_tags().items():
        trial.set_user_attr(key, value)
    return trial, {key: _chosen(trial, key, spanned) for key, spanned in ranges.items()}


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial tells of others.

    Args:
        sparsity: How much it cut.
        val_accuracy: Of its finetuned network, in [0, 1].
        dead_energy: Fraction of the energy outside the support, one an ADMM iteration.
    """

    sparsity: float
    val_accuracy: float
    dead_energy: Sequence[float]

    def is_beaten_by(self, others: Sequence["TrialResult"]) -> bool:
        """Say whether one that cut at least as much is clearly better."""
        better = self.val_accuracy + CLEARLY
        return any(o.sparsity >= self.sparsity and o.val_accuracy > better for o in others)


def result_of(attributes: Mapping[str, Any]) -> TrialResult | None:
    """Read what a trial was noted to have reached; None if nothing is, or nothing that fits.

    Args:
        attributes: Of the trial, as its store has them.
    """
    found = attributes.get(RESULT)
    if not isinstance(found, Mapping):
        return None
    sparsity, val_accuracy = found.get("sparsity"), found.get("val_accuracy")
    curve = found.get("dead_energy")
    if not (isinstance(curve, list | tuple) and curve):
        return None
    if not all(isinstance(value, int | float) for value in (sparsity, val_accuracy, *curve)):
        return None
    return TrialResult(float(sparsity), float(val_accuracy), curve)  # type: ignore[arg-type]


def dead_energy_limits(
    results: Sequence[TrialResult], sparsity: float, iterations: int
) -> tuple[float, ...]:
    """Say how much weight a trial may still be about to lose, iteration by iteration.

    Dead energy alone says little: at moderate sparsities finetuning brings everything back. So a
    trial is hopeless if it is further from its support than a trial that had it no harder and was
    clearly beaten, and further than every trial that had it no easier and was not.

    Args:
        results: Finished trials.
        sparsity: How much the trial cuts.
        iterations: Its ADMM iterations.

    Returns:
        One limit an iteration, infinite in the first quarter; none if no trial was beaten.
    """
    beaten = [r for r in results if r.sparsity <= sparsity and r.is_beaten_by(results)]
    others = [r for r in results if r.sparsity >= sparsity and not r.is_beaten_by(results)]
    if not beaten:
        return ()
    limits = [math.inf] * iterations
    for iteration in range(math.ceil(UNJUDGED * iterations), iterations):
        share = (iteration + 1) / iterations
        lowest = min(_at(share, result.dead_energy) for result in beaten)
        limits[iteration] = max([lowest, *(_at(share, result.dead_energy) for result in others)])
    return tuple(limits)


def _at(share: float, curve: Sequence[float]) -> float:
    return curve[math.ceil(share * len(curve)) - 1]


def _chosen(trial: "Trial", key: str, spanned: Any) -> Any:
    if hasattr(spanned, "list"):  # a,b or choice(a,b)
        return trial.suggest_categorical(key, list(spanned.list))
    if hasattr(spanned, "step"):  # range(start,stop,step), stop left out
        start, step = spanned.start, spanned.step
        last = start + (math.ceil((spanned.stop - start) / step) - 1) * step
        if isinstance(start, int) and isinstance(step, int):
            return trial.suggest_int(key, start, int(last), step=step)
        return round(trial.suggest_float(key, start, last, step=step), 10)
    low, high, is_log = spanned.start, spanned.end, "log" in spanned.tags
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=is_log)
    return float(f"{trial.suggest_float(key, low, high, log=is_log):.4g}")
