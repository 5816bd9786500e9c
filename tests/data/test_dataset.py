"""What the rest of the project knows of a data set."""

import pytest

from admm_exp.data.dataset import Dataset, samples_per_pass
from admm_exp.errors import DataError


class RecordedBatches:
    """Remember what was asked of them."""

    n_samples = 0

    def __init__(self, device="cpu"):
        self.device = device
        self.epoch = None

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def to(self, device):
        return RecordedBatches(device)

    def set_epoch(self, epoch):
        self.epoch = epoch


@pytest.fixture
def dataset() -> Dataset:
    train, val, test = (RecordedBatches() for _ in range(3))
    return Dataset("toy", train, val, test, num_classes=2, shape=(1, 2, 2), fingerprint="f")


def test_to_moves_all_three_parts_and_keeps_the_facts(dataset):
    moved = dataset.to("cuda")
    assert [part.device for part in (moved.train, moved.val, moved.test)] == ["cuda"] * 3
    assert (moved.name, moved.shape, moved.fingerprint) == ("toy", (1, 2, 2), "f")
    assert dataset.train.device == "cpu"


def test_set_epoch_reaches_train_alone(dataset):
    dataset.set_epoch(4)
    assert (dataset.train.epoch, dataset.val.epoch) == (4, None)


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "expected"),
    [(10, 4, False, 10), (10, 4, True, 8), (8, 4, True, 8), (3, 4, False, 3)],
)
def test_a_pass_drops_the_partial_batch_only_if_asked(n, batch_size, drop_last, expected):
    assert samples_per_pass(n, batch_size, drop_last) == expected


def test_a_pass_without_a_full_batch_is_refused():
    with pytest.raises(DataError, match=r"^batch_size must be at most 3, .* got 4$"):
        samples_per_pass(3, 4, drop_last=True)
