"""What a run imports, for a process that is forked for every run.

These imports take longer than a small training; a fork of a process that has them starts at once.
None of them starts a parallel region or looks for a GPU, so that a fork may do both.
"""

PARTS = (
    "admm_exp.app.build",
    "admm_exp.experiment.run",
    "torch._dynamo",  # what torch.export loads at its first call
    "torch.export._trace",
)
TRACKING = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
DRAWING = ("matplotlib.backends.backend_agg", "matplotlib.figure")
DIGITS = ("sklearn.datasets",)


def modules(
    *, is_tracked: bool = True, is_drawn: bool = True, has_digits: bool = True
) -> tuple[str, ...]:
    """Name the modules, those that are not needed by all runs where these runs need them.

    Args:
        is_tracked: Whether the runs log to MLflow.
        is_drawn: Whether the runs draw figures themselves.
        has_digits: Whether the runs train on the digits of scikit-learn.
    """
    tracking = TRACKING if is_tracked else ()
    return PARTS + tracking + (DRAWING if is_drawn else ()) + (DIGITS if has_digits else ())
