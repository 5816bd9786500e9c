"""A tracker on a store of its own, and what the store has then."""

from admm_exp.tracking.mlflow_tracker import open_tracker


def open_in(folder, **more):
    uri = f"sqlite:///{folder}/mlflow.db"
    tags = more.pop("tags", {"kind": "run"})
    root, journal = folder / "artifacts", folder / "run" / "metrics.jsonl"
    return open_tracker(uri, "exp", "run", root, journal, tags=tags, **more)


def client_of(tracker):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracker.tracking_uri)


def stored(tracker):
    return client_of(tracker).get_run(tracker.run_id)


def curve(tracker, key):
    history = client_of(tracker).get_metric_history(tracker.run_id, key)
    return [(point.step, point.value) for point in history]
