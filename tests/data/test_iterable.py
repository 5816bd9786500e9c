import pytest
import torch

from admm_exp.data.iterable import IterableBatches, iterable_dataset
from admm_exp.errors import DataError

KEYS = ("inputs", "labels")


def pairs(n=3, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, size, 1, 6, generator=generator)
    return [(x, torch.arange(size)) for x in inputs]


class Stream:
    """Has no length, begins anew at every pass, and remembers the epoch."""

    epoch = None

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        yield from self.batches

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_stream_without_length_is_counted_and_passed_on():
    stream = Stream([*pairs(), (torch.zeros(1, 1, 6), torch.zeros(1).long())])
    batches = IterableBatches(stream, KEYS)
    assert (len(batches), batches.n_samples, batches.shape) == (4, 13, (1, 6))
    for _ in range(2):
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 1]
    batches.to("cpu").set_epoch(7)
    assert stream.epoch == 7


def test_mappings_are_read_by_their_keys():
    stream = Stream([{"signal": x, "class": y, "id": 1} for x, y in pairs()])
    first = next(iter(IterableBatches(stream, ("signal", "class"))))
    assert torch.equal(first[0], pairs()[0][0])
    assert torch.equal(first[1], torch.arange(4))


@pytest.mark.parametrize(
    ("loader", "sentence"),
    [
        (iter(pairs()), r"must start anew at every pass, got a list_iterator"),
        ([], r"must yield batches, got an empty list"),
        ([torch.zeros(3)], r"pairs of tensors, or mappings with 'inputs' and 'labels', got Tensor"),
        ([{"x": 1}], r"mappings with 'inputs' and 'labels', got dict"),
        ([(1, 2)], r"pairs of tensors, .*, got tuple"),
    ],
)
def test_what_is_no_loader_is_refused(loader, sentence):
    with pytest.raises(DataError, match=sentence):
        IterableBatches(loader, KEYS)


def test_fingerprint_follows_the_samples():
    def made(seed):
        return iterable_dataset(
            name="x", train=pairs(), val=pairs(), test=pairs(seed=seed), num_classes=4
        ).fingerprint

    assert made(0) == made(0) != made(1)


def test_loaders_are_not_shared_among_processes():
    with pytest.raises(DataError, match=r"trainer\.devices must be 1, got 2$"):
        IterableBatches(Stream(pairs()), KEYS).shard(0, 2)


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(DataError, match=r"^labels must be in \[0, 3\), .* got 3 in val \(3 of 12 "):
        iterable_dataset(
            name="mine",
            train=[(x, y % 3) for x, y in pairs()],
            val=pairs(),
            test=pairs(),
            num_classes=3,
        )
