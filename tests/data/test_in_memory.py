"""Batches from tensors in memory."""

import pytest
import torch

from admm_exp.data.augment import Augmentation
from admm_exp.data.in_memory import Splits, TensorBatches, in_memory_dataset
from admm_exp.errors import DataError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def samples(n: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(256, (n, channels, 6, 6), dtype=torch.uint8, generator=generator)
    return images, torch.arange(n)


def train_batches(seed: int = 0, epoch: int = 0) -> TensorBatches:
    augment = Augmentation(crop_padding=2, flip=True)
    batches = TensorBatches(
        *samples(22), 5, MEAN, STD, augment=augment, shuffle=True, seed=seed, drop_last=True
    )
    batches.set_epoch(epoch)
    return batches


def flat(batches: TensorBatches) -> torch.Tensor:
    return torch.cat([images for images, _ in batches])


def toy_dataset(**changes):
    arguments = {
        "splits": Splits(samples(12), samples(7), samples(8)),
        "mean": MEAN,
        "augment": Augmentation(1),
        "batch_size": 4,
        "img_size": None,
    }
    return in_memory_dataset(name="toy", num_classes=12, std=STD, seed=0, **arguments | changes)


def test_same_seed_and_epoch_give_bitwise_the_same_batches():
    first, again = train_batches(3, 5), train_batches(3, 5)
    for (images, labels), (images_again, labels_again) in zip(first, again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


def test_a_second_pass_of_the_same_epoch_repeats_the_first():
    batches = train_batches()
    assert torch.equal(flat(batches), flat(batches))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_another_epoch_or_seed_gives_other_batches(seed, epoch):
    assert not torch.equal(flat(train_batches()), flat(train_batches(seed, epoch)))


def test_global_random_numbers_change_nothing_and_are_left_alone():
    torch.manual_seed(1)
    first, state = flat(train_batches()), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, flat(train_batches()))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_shuffled_labels_follow_their_images():
    images, labels = samples(20)
    images[:] = labels.to(torch.uint8)[:, None, None, None]
    batches = TensorBatches(images, labels, 6, (0.0,) * 3, (1 / 255,) * 3, shuffle=True)
    for batch, batch_labels in batches:
        torch.testing.assert_close(batch[:, 0, 0, 0], batch_labels.float())


def test_evaluation_yields_every_sample_once_in_order():
    batches = TensorBatches(*samples(22), 5, MEAN, STD)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(22))


@pytest.mark.parametrize("drop_last", [False, True])
def test_lengths_are_those_of_a_pass(drop_last):
    batches = TensorBatches(*samples(22), 5, MEAN, STD, drop_last=drop_last)
    sizes = [len(labels) for _, labels in batches]
    assert (len(batches), batches.n_samples) == (len(sizes), sum(sizes))
    assert sizes == [5, 5, 5, 5] + [2] * (not drop_last)


def test_batches_are_float32_contiguous_and_labels_int64():
    images, labels = next(iter(train_batches()))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous()


def test_images_are_resized_after_augmentation_and_stored_small():
    batches = TensorBatches(*samples(4), 4, MEAN, STD, img_size=15)
    images, _ = next(iter(batches))
    assert images.shape == (4, 3, 15, 15)
    assert batches._padded.shape == (4, 3, 6, 6)


def test_moved_batches_yield_on_the_device():
    moved = train_batches().to("meta")
    assert moved._padded.device.type == moved._labels.device.type == "meta"
    assert train_batches()._padded.device.type == "cpu"


@pytest.mark.gpu
def test_gpu_batches_equal_cpu_batches():
    for (images, labels), (on_gpu, gpu_labels) in zip(
        train_batches(), train_batches().to("cuda"), strict=True
    ):
        assert on_gpu.device.type == "cuda"
        torch.testing.assert_close(on_gpu.cpu(), images, rtol=0, atol=1e-6)
        assert torch.equal(gpu_labels.cpu(), labels)


def test_batch_size_above_the_training_samples_is_refused():
    with pytest.raises(DataError, match=r"^batch_size must be at most 12, .* got 13$"):
        toy_dataset(batch_size=13)


def test_batch_size_below_1_is_refused():
    with pytest.raises(DataError, match=r"^batch_size must be at least 1, got 0$"):
        toy_dataset(batch_size=0)


def test_img_size_below_1_is_refused():
    with pytest.raises(DataError, match=r"^img_size must be null or at least 1, got 0$"):
        toy_dataset(img_size=0)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(4, 3, 6, 6), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 1, 6, 6, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 6, 6, dtype=torch.uint8), torch.zeros(4)),
        (torch.zeros(4, 3, 6, 6, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(ValueError, match=r"^(images|labels) must be "):
        TensorBatches(images, labels, 2, MEAN, STD)


def test_only_training_samples_are_augmented_shuffled_and_dropped():
    dataset = toy_dataset(splits=Splits(samples(11), samples(11), samples(11)))
    assert torch.equal(flat(dataset.val), flat(dataset.test))
    assert [part.n_samples for part in (dataset.train, dataset.val)] == [8, 11]
    assert torch.cat([labels for _, labels in dataset.train]).tolist() != list(range(8))


@pytest.mark.parametrize(("img_size", "shape"), [(None, (3, 6, 6)), (9, (3, 9, 9))])
def test_shape_is_what_the_batches_have(img_size, shape):
    dataset = toy_dataset(img_size=img_size)
    assert dataset.shape == shape == next(iter(dataset.test))[0].shape[1:]


def one_pixel_changed():
    images, labels = samples(12)
    images[0, 0, 0, 0] += 1
    return Splits((images, labels), samples(7), samples(8))


@pytest.mark.parametrize(
    "change",
    [
        {"splits": one_pixel_changed()},
        {"splits": Splits((samples(12)[0], samples(12)[1].flip(0)), samples(7), samples(8))},
        {"splits": Splits(samples(12), samples(8), samples(7))},
        {"augment": Augmentation(2)},
        {"mean": (0.5, 0.4, 0.31)},
        {"img_size": 9},
    ],
    ids=["one pixel", "labels", "split", "augmentation", "mean", "img_size"],
)
def test_fingerprint_changes_with_data_and_preprocessing(change):
    assert toy_dataset(**change).fingerprint != toy_dataset().fingerprint


def test_fingerprint_is_the_same_for_another_batch_size():
    assert toy_dataset(batch_size=3).fingerprint == toy_dataset().fingerprint


def interleaved(parts, world):
    """Put the parts that processes have of one batch together again."""
    whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank::world] = part
    return whole


def test_the_parts_of_processes_are_bitwise_the_batches_of_one():
    whole = TensorBatches(*samples(22), 6, MEAN, STD, augment=Augmentation(2), shuffle=True)
    for world in (2, 3):
        parts = [list(whole.shard(rank, world)) for rank in range(world)]
        for images, labels in whole:
            mine = [part.pop(0) for part in parts]
            assert torch.equal(interleaved([x for x, _ in mine], world), images)
            assert torch.equal(interleaved([y for _, y in mine], world), labels)
    assert (len(whole.shard(1, 2)), whole.shard(1, 2).n_samples) == (len(whole), 22)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_epochs_of_a_pass_in_parts_are_bitwise_that_pass(parts):
    whole = TensorBatches(
        *samples(22), 3, MEAN, STD, augment=Augmentation(2), shuffle=True, drop_last=True
    )
    divided = whole.in_parts(parts)
    length = len(whole) // parts
    assert (len(divided), divided.n_samples) == (length, 3 * length)
    for number in (0, 1):
        whole.set_epoch(number)
        seen = []
        for part in range(parts):
            divided.set_epoch(number * parts + part)
            seen += list(divided)
        for (images, labels), (images_seen, labels_seen) in zip(whole, seen, strict=False):
            assert torch.equal(images, images_seen)
            assert torch.equal(labels, labels_seen)
        assert len(seen) == length * parts
    assert len(whole) == 7


def test_parts_are_shared_among_processes_too():
    whole = TensorBatches(*samples(24), 6, MEAN, STD, shuffle=True, drop_last=True).in_parts(2)
    whole.set_epoch(3)
    parts = [list(whole.shard(rank, 2).to("cpu")) for rank in range(2)]
    labels = [interleaved([y for _, y in each], 2) for each in zip(*parts, strict=True)]
    assert all(torch.equal(a, b) for a, (_, b) in zip(labels, whole, strict=True))
    assert len(labels) == 2


def test_more_parts_than_batches_are_refused():
    dataset = toy_dataset()
    assert dataset.in_parts(1) is dataset
    divided = dataset.in_parts(len(dataset.train))
    assert (len(divided.train), divided.val, divided.test) == (1, dataset.val, dataset.test)
    most = len(dataset.train)
    with pytest.raises(DataError, match=f"schedule.epoch_parts must be at most {most}, the number"):
        dataset.in_parts(most + 1)


def test_a_last_batch_with_fewer_samples_than_processes_gives_some_none():
    whole = TensorBatches(*samples(13), 6, MEAN, STD)
    assert [sum(len(y) for _, y in whole.shard(rank, 3)) for rank in range(3)] == [5, 4, 4]


def test_a_training_batch_is_shared_evenly_or_refused():
    dataset = toy_dataset()
    assert [len(labels) for r in (0, 1) for _, labels in dataset.shard(r, 2).train] == [2] * 6
    assert dataset.shard(0, 1) is dataset
    with pytest.raises(DataError, match="batch_size must be a multiple of 3, the number of proc"):
        dataset.shard(0, 3)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["train", "val", "test"])
def test_the_samples_of_every_part_are_in_the_fingerprint(part):
    sizes = [12, 7, 8]
    parts = [samples(n) for n in sizes]
    images, labels = parts[part]
    changed = images.clone()
    changed[-1, 0, 0, 0] += 1
    parts[part] = (changed, labels)
    assert toy_dataset(splits=Splits(*parts)).fingerprint != toy_dataset().fingerprint
