"""The prepared view of an experiment in the MLflow UI.

MLflow keeps shared views in experiment tags. The format is not documented: it was read from the UI
of MLflow 3.17, a test in a real browser watches it, and a UI that does not know it shows its own
default instead.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from admm_exp.tracking.address import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW_ID = "admm-exp"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_ID}"
METRIC_TAG = "mlflow.experiment.primaryMetric.name"
NOTE_TAG = "mlflow.note.content"
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
WORKFLOW = {"workflowType": "machine_learning"}
"""Opens pages in the frame for model training, not in that for GenAI."""
NOTE = """Pruning runs of **admm-exp**: which penalty `rho` and which `sparsity` give the most \
accurate small network?

* Choose by `final/val_accuracy`; `final/accuracy` is test accuracy of the small network, \
`final/accuracy_drop` what it lost to the dense one, `final/flops_ratio` its cost as a fraction of \
the dense network's, `final/sparsity` the fraction of channels that is gone.
* `admm/primal_residual` and `admm/dual_residual` say whether ADMM converged.
* The same as a page with figures: `admm-exp-report`.
"""
PARAMS = ("rho", "sparsity")
METRICS = (
    *("final/val_accuracy", "final/accuracy", "final/accuracy_drop"),
    *("final/flops_ratio", "final/sparsity"),
)
WIDTHS = {f"metrics.`final/{name}`": 150 for name in ("val_accuracy", "accuracy_drop")}
WIDTHS |= {f"metrics.`final/{name}`": 120 for name in ("accuracy", "flops_ratio", "sparsity")}
WIDTHS |= {"params.`rho`": 72, "params.`sparsity`": 84, "attributes.`Created`": 120}
CURVES = {"admm/primal_residual": "log", "finetune/val_accuracy": "linear"}
CHARTS_A_ROW, CHART_HEIGHT = 1, 300
"""One below the other: beside the list of runs and MLflow's assistant no two are legible."""

logger = logging.getLogger(__name__)


def prepare_view(client: "MlflowClient", experiment: "Experiment") -> None:
    """Write the prepared view and the description to an experiment that lacks them.

    A description that somebody wrote stays. A store that refuses costs a warning, never a run.

    Args:
        client: Client of the store.
        experiment: The experiment, with its tags.
    """
    tags = experiment.tags
    wanted = {METRIC_TAG: "final/val_accuracy", KIND_TAG: KIND}
    if NOTE_TAG not in tags:
        wanted[NOTE_TAG] = NOTE
    state = json.dumps(view_state())
    if _state_of(tags.get(VIEW_TAG)) != state:
        now_ms = time.time_ns() // 1_000_000
        view = {"name": "ADMM sweep", "createdAt": now_ms, "updatedAt": now_ms, "state": state}
        wanted[VIEW_TAG] = json.dumps(view)
    try:
        for key, value in wanted.items():
            if tags.get(key) != value:
                client.set_experiment_tag(experiment.experiment_id, key, value)
    except Exception as error:
        logger.warning("the MLflow view of %r was not prepared (%s)", experiment.name, error)


def view_links(base: str, experiment_id: str) -> dict[str, str]:
    """Return the addresses of the prepared view, as charts and as a table.

    Args:
        base: Address of the MLflow UI.
        experiment_id: The experiment.
    """
    query = {"viewStateShareKey": VIEW_ID} | WORKFLOW
    page = f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?"
    return {
        "charts": page + urlencode(query | {"compareRunsMode": "CHART"}),
        "table": page + urlencode(query),
    }


def run_links(uri: str, experiment_id: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of every run, by its id; none if no server shows them.

    Args:
        uri: Tracking URI.
        experiment_id: The runs' experiment.
        rows: What has a `run_id`.
    """
    if not uri.startswith("http"):
        return {}
    page = f"{without_password(uri).rstrip('/')}/#/experiments/{experiment_id}/runs"
    return {row["run_id"]: f"{page}/{row['run_id']}?{urlencode(WORKFLOW)}" for row in rows}


def view_state() -> dict[str, Any]:
    """Return the state of the runs page: columns, order, charts."""
    columns = [f"params.`{name}`" for name in PARAMS] + [f"metrics.`{name}`" for name in METRICS]
    return {
        "searchFilter": "tags.kind = 'run'",
        "orderByKey": "metrics.`final/val_accuracy`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": WIDTHS,
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
        "compareRunSections": [_section("sweep", "Sweep"), _section("curves", "Curves")],
        "compareRunCharts": [
            _card(
                "PARALLEL",
                "sweep",
                selectedParams=["log10_rho", "sparsity"],
                selectedMetrics=["final/accuracy", "final/val_accuracy"],  # coloured by the last
                showAllRuns=True,
            ),
            _card(
                "SCATTER",
                "sweep",
                xaxis=_axis("METRIC", "final/flops_ratio"),
                yaxis=_axis("METRIC", "final/accuracy"),
            ),
            _card(
                "CONTOUR",
                "sweep",
                xaxis=_axis("PARAM", "log10_rho"),
                yaxis=_axis("PARAM", "sparsity"),
                zaxis=_axis("METRIC", "final/val_accuracy"),
            ),
            *(_line(metric, scale) for metric, scale in CURVES.items()),
        ],
    }


def _state_of(tag: str | None) -> str | None:
    try:
        view = json.loads(tag or "null")
    except ValueError:
        return None
    return view.get("state") if isinstance(view, Mapping) else None


def _section(name: str, title: str) -> dict[str, Any]:
    fixed = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    shape = {"columns": CHARTS_A_ROW, "cardHeight": CHART_HEIGHT}
    return {"uuid": name, "name": title} | fixed | shape


def _card(kind: str, section: str, name: str = "", **others: Any) -> dict[str, Any]:
    fixed = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    place = {"type": kind, "uuid": f"{section}-{kind}{name}", "metricSectionId": section}
    return place | fixed | others


def _line(metric: str, scale: str) -> dict[str, Any]:
    return _card(
        "LINE",
        "curves",
        f"-{metric}",
        metricKey=metric,
        selectedMetricKeys=[metric],
        scaleType=scale,
        lineSmoothness=0,
        xAxisScaleType="linear",
        range={},
        xAxisKey="step",
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )


def _axis(kind: str, key: str) -> dict[str, str]:
    return {"key": key, "type": kind}
