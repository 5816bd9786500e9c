"""One MLflow run for a dense network, however many runs start from it."""

import time
from typing import TYPE_CHECKING

from filelock import FileLock

from admm_exp.tracking import limits
from admm_exp.tracking.owner import owner_tags
from admm_exp.tracking.stored_runs import stored_runs
from admm_exp.tracking.tracker import Baseline

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 60


def share_baseline(
    client: "MlflowClient", experiment: str, run_id: str, baseline: Baseline
) -> None:
    """Tag a run with the id of its baseline run, which is created if missing.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        run_id: The run that starts from the dense network.
        baseline: The dense network.
    """
    among = f"tags.dense_key = '{baseline.key}' and attributes.status = 'FINISHED'"
    baseline.lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(baseline.lock, timeout=LOCK_SECONDS):
        found = next(stored_runs(client, experiment, among, (), page=1), None)
        baseline_id = found.run_id if found else _create(client, experiment, baseline)
    client.set_tag(run_id, "baseline_run_id", baseline_id)


def _create(client: "MlflowClient", experiment: str, baseline: Baseline) -> str:
    from mlflow.entities import Metric, Param

    tags = {"kind": "baseline", "dense_key": baseline.key, "mlflow.source.name": "admm-exp"}
    run = client.create_run(experiment, run_name=baseline.name, tags=tags | owner_tags())
    run_id = str(run.info.run_id)
    now_ms = time.time_ns() // 1_000_000
    points = [*baseline.curves, (0, baseline.final)]
    metrics = [Metric(key, float(v), now_ms, step) for step, m in points for key, v in m.items()]
    for some in limits.chunks(metrics, limits.METRICS_PER_CALL):
        client.log_batch(run_id, metrics=some)
    flat = limits.flatten(baseline.params)
    params = [Param(key, value) for key, value in flat.items()]
    for few in limits.chunks(params, limits.PARAMS_PER_CALL):
        client.log_batch(run_id, params=few)
    client.set_terminated(run_id, "FINISHED")
    return run_id
