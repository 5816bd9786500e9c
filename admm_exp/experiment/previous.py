"""A finished run that another one starts from, to prune further."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from admm_exp.data.dataset import Dataset
from admm_exp.errors import ConfigError
from admm_exp.export.saved_model import load
from admm_exp.report.run import read_report
from admm_exp.results import COUNT, REPORT, TEXT, TEXT_OR_NULL, read_json

FORM = {
    "config": {"dataset": {"name": TEXT}, "model": {"name": TEXT}},
    "models": {},
    "layers": [{"name": TEXT, "channels": COUNT}],
    "mlflow": {"run_id": TEXT_OR_NULL},
}
ROUNDS = {"round": COUNT, "original_channels": {}, "first_run_id": TEXT_OR_NULL}


@dataclass(frozen=True)
class PreviousRun:
    """The run before.

    Args:
        run_dir: Its folder.
        report: Its report.
        build_original: Builds the untrained network that the first of all runs started from.
    """

    run_dir: Path
    report: Mapping[str, Any]
    build_original: Callable[[], nn.Module]

    @property
    def first_run_id(self) -> str | None:
        """MLflow run of the first round, None if it was not tracked."""
        rounds = self.report.get("rounds") or {"first_run_id": self.report["mlflow"]["run_id"]}
        run_id: str | None = rounds["first_run_id"]
        return run_id

    def network(self) -> nn.Module:
        """Load the small network that the run ended with, on the CPU."""
        return load(self.run_dir, self.build_original())

    def rounds(self) -> dict[str, Any]:
        """Say where the next run stands: its number, the runs before, and the first channels."""
        before = self.report.get("rounds") or {"round": 1, "original_channels": {}}
        channels = {row["name"]: row["channels"] for row in self.report["layers"]}
        return {
            "round": before["round"] + 1,
            "from_run": str(self.run_dir),
            "from_run_id": self.report["mlflow"]["run_id"],
            "first_run_id": self.first_run_id,
            "original_channels": channels | before["original_channels"],
        }

    def original(self) -> dict[str, Any]:
        """Read accuracies and cost of the dense network of the first round."""
        models = self.report["models"]
        return dict(models.get("original", models["dense"]))


def read_previous(
    run_dir: str, dataset: Dataset, model: str, build_original: Callable[[], nn.Module]
) -> PreviousRun:
    """Read the run that `from_run` names.

    Args:
        run_dir: Its folder.
        dataset: Data of the run that is to start from it.
        model: Name of that run's network.
        build_original: Builds that network as it is before any pruning.

    Raises:
        ConfigError: If the run is missing, unfinished, or of another data set or network.
        CheckpointError: If its report is damaged.
    """
    folder = Path(run_dir)
    try:
        report = read_json(folder / REPORT)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"from_run must be the folder of a finished run, with its report.json, got {run_dir}"
        ) from error
    status = report.get("status", "without a status") if isinstance(report, dict) else "no report"
    if status != "finished":
        raise ConfigError(
            f"from_run must be the folder of a finished run, got {run_dir}, which is {status}"
        )
    rounds = {} if report.get("rounds") is None else {"rounds": ROUNDS}
    report = read_report(folder, FORM | rounds)
    data = report.get("dataset")
    if not isinstance(data, dict) or data.get("fingerprint") != dataset.fingerprint:
        raise ConfigError(
            f"from_run must be a run on the same data, got {run_dir}, whose "
            f"{report['config']['dataset']['name']} differs from this run's {dataset.name}: give "
            f"both the same dataset settings"
        )
    if report["config"]["model"]["name"] != model:
        raise ConfigError(
            f"from_run must be a run of the same model, got {run_dir}, which holds a "
            f"{report['config']['model']['name']}, not a {model}"
        )
    return PreviousRun(folder, report, build_original)
