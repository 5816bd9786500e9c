"""What a run imports, for a process that is forked for every run.

These imports take longer than a small training; a fork of a process that has them starts at once.
None of them starts a parallel region or looks for a GPU, so that a fork may do both.
"""

PARTS = (
    "admm_exp.app.build",
    "admm_exp.experiment.run",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sklearn.datasets",
    "torch._dynamo",  # what torch.export loads at its first call
    "torch.export._trace",
)
TRACKING = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")


def modules(is_tracked: bool) -> tuple[str, ...]:
    """Name the modules.

    Args:
        is_tracked: Whether the runs log to MLflow, which is not imported otherwise.
    """
    return PARTS + (TRACKING if is_tracked else ())
