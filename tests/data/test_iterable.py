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
        ([torch.zeros(3)], r"pairs of inputs and targets, or mappings with .*; got Tensor"),
        (
            [{"x": 1}],
            r"mappings with 'inputs' and 'labels', or be given with inputs_of, .*; got dict",
        ),
        ([(1, 2)], r"pairs of inputs and targets, .*; got tuple"),
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


def test_an_epoch_of_a_loader_is_a_whole_pass():
    with pytest.raises(DataError, match=r"schedule\.epoch_parts must be 1, got 2$"):
        IterableBatches(Stream(pairs()), KEYS).in_parts(2)


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(DataError, match=r"^labels must be in \[0, 3\), .* got 3 in val \(3 of 12 "):
        iterable_dataset(
            name="mine",
            train=[(x, y % 3) for x, y in pairs()],
            val=pairs(),
            test=pairs(),
            num_classes=3,
        )


def detections():
    """Batches as torchvision's detectors take them: images of any size, and boxes in mappings."""
    images = [torch.rand(3, 8, 9), torch.rand(3, 7, 8)]
    targets = [{"boxes": torch.rand(2, 4), "labels": torch.ones(2, dtype=torch.int64)}] * 2
    return [(images, targets), (images[:1], targets[:1])]


def test_inputs_and_targets_may_have_any_structure():
    parts = dict.fromkeys(("train", "val", "test"), detections())
    dataset = iterable_dataset(name="boxes", **parts).to("cpu")
    assert (dataset.train.n_samples, dataset.shape, dataset.num_classes) == (3, (3, 8, 9), 0)
    images, targets = next(iter(dataset.train))
    assert [image.shape for image in images] == [(3, 8, 9), (3, 7, 8)]
    assert set(targets[0]) == {"boxes", "labels"}
    assert torch.equal(dataset.example[0], images[0])


def test_a_batch_of_a_structure_of_its_own_is_passed_on_as_it_is():
    batches = [{"ids": torch.arange(6).view(2, 3), "mask": torch.ones(2, 3), "score": 0.5}]
    parts = dict.fromkeys(("train", "val", "test"), batches)

    def inputs_of(batch):
        return {"ids": batch["ids"], "mask": batch["mask"]}

    dataset = iterable_dataset(name="texts", **parts, inputs_of=inputs_of)
    assert set(next(iter(dataset.val))) == {"ids", "mask", "score"}
    assert set(dataset.example) == {"ids", "mask"}
    assert set(next(dataset.pairs(1))[0]) == {"ids", "mask"}
    assert dataset.train.n_samples == 2


def test_inputs_without_a_tensor_are_refused():
    with pytest.raises(DataError, match="must be given a tensor, or something that holds one"):
        IterableBatches([("text", torch.zeros(1))], KEYS, inputs_of=lambda batch: batch[0])
