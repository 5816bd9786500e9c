"""Tracking of runs in MLflow, which is imported only when a tracker is opened."""

from admm_exp.tracking.ending import Terminated, sigterm_raises, tracked
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.tracker import NullTracker, RunStatus, Tracker

__all__ = [
    "NullTracker",
    "RunStatus",
    "Terminated",
    "Tracker",
    "open_tracker",
    "sigterm_raises",
    "tracked",
]
