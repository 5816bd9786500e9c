"""Tracking of runs: MLflow's only home, which is imported when a tracker is opened."""
