"""What the rest of the project knows of a data set."""

import dataclasses

import pytest
import torch

from admm_exp.data.dataset import Dataset, require_side, samples_per_pass
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


def test_batches_that_know_no_parts_are_named(dataset):
    assert dataset.in_parts(1) is dataset
    with pytest.raises(DataError, match="for toy, got 2: its RecordedBatches has no method"):
        dataset.in_parts(2)


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "expected"),
    [(10, 4, False, 10), (10, 4, True, 8), (8, 4, True, 8), (3, 4, False, 3)],
)
def test_a_pass_drops_the_partial_batch_only_if_asked(n, batch_size, drop_last, expected):
    assert samples_per_pass(n, batch_size, drop_last) == expected


def test_a_pass_without_a_full_batch_is_refused():
    with pytest.raises(DataError, match=r"^batch_size must be at most 3, .* got 4$"):
        samples_per_pass(3, 4, drop_last=True)


@pytest.mark.parametrize("label", [-1, 2])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_label_outside_the_classes_is_refused_before_training(dataset, part, label):
    batches = RecordedBatches()
    batches.labels = torch.tensor([0, 1, label])
    sentence = (
        rf"^labels must be in \[0, 2\), the classes of toy, got {label} in {part} "
        r"\(1 of 3 samples\)$"
    )
    with pytest.raises(DataError, match=sentence):
        dataclasses.replace(dataset, **{part: batches})
    batches.labels = torch.tensor([0, 1, 1])
    assert dataclasses.replace(dataset, **{part: batches}).num_classes == 2


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        (1.0, "a whole number, got 1.0"),
        (True, "a whole number, got True"),
        (0, "at least 1, got 0"),
        (8193, "at most 8192, got 8193"),
    ],
)
def test_a_side_is_a_whole_number_of_pixels_in_range(side, sentence):
    with pytest.raises(DataError, match=rf"^img_size must be {sentence}$"):
        require_side("img_size", side)
