from support.records import measured

from admm_exp.results import EpochRecord, IterationRecord
from admm_exp.tracking.curves import Curves
from admm_exp.tracking.tracker import NullTracker


class Recording(NullTracker):
    """A tracker that remembers its points."""

    def __init__(self):
        self.points = []

    def log_metrics(self, metrics, step):
        self.points += [(name, step) for name in metrics]


def test_no_name_has_two_kinds_of_steps():
    tracker = Recording()
    curves = Curves(tracker)
    for epoch in (1, 2, 3):
        curves.epoch_finished(EpochRecord("admm", epoch, 0.1, 0.5, 0.9, 0.4, 1.0))
    curves.iteration_finished(
        IterationRecord(
            **vars(measured()), iteration=1, val_accuracy=0.9, projected_val_accuracy=0.8
        )
    )
    assert len(set(tracker.points)) == len(tracker.points)
    assert ("admm/val_accuracy", 3) in tracker.points
    assert ("admm/projected_val_accuracy", 1) in tracker.points
