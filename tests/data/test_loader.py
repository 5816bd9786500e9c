"""Batches of samples that are read one by one."""

import gc
import time
import weakref

import pytest
import torch

from admm_exp.data.epoch_random import epoch_generator
from admm_exp.data.loader import LoaderBatches, _EpochBatches
from admm_exp.errors import DataError

# Python 3.12 warns of forking a process with threads; torch's data loader does it on purpose
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class NoisySamples:
    """Sample i is i plus noise in 0..99 from torch's global generator; `broken` cannot be read."""

    def __init__(self, n: int, broken: int | None = None) -> None:
        self.n = n
        self.broken = broken

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int):
        if index == self.broken:
            raise DataError(f"sample {index} is broken: replace it")
        return (torch.randint(100, (3, 4, 4)) + index).to(torch.uint8), index


def batches_of(samples: NoisySamples, workers: int = 0, epoch: int = 0, **options) -> LoaderBatches:
    batches = LoaderBatches(samples, 4, (0.0,) * 3, (1 / 255,) * 3, workers, **options)
    batches.set_epoch(epoch)
    return batches


def error_of(batches: LoaderBatches) -> str:
    """Return the text of a pass's error; `pytest.raises` would keep the workers in a cycle."""
    try:
        list(batches)
    except DataError as error:
        return str(error)
    return "no error"


def train_pass(workers: int = 0, epoch: int = 0, seed: int = 0) -> list[torch.Tensor]:
    options = {"shuffle": True, "drop_last": True, "seed": seed}
    parts = zip(*batches_of(NoisySamples(18), workers, epoch, **options), strict=True)
    return [torch.cat(part) for part in parts]


def test_two_workers_give_bitwise_the_batches_of_none():
    for with_workers, without in zip(train_pass(workers=2), train_pass(), strict=True):
        assert torch.equal(with_workers, without)


def test_workers_that_live_on_follow_the_epoch():
    batches = batches_of(NoisySamples(18), workers=2, shuffle=True, drop_last=True)
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        images = torch.cat([images for images, _ in batches])
        assert torch.equal(images, train_pass(epoch=epoch)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epochs_of_a_pass_in_parts_are_bitwise_that_pass(workers):
    divided = batches_of(NoisySamples(18), workers, shuffle=True, drop_last=True).in_parts(2)
    assert (len(divided), divided.n_samples) == (2, 8)
    for epoch in (0, 1):
        images = []
        for part in (0, 1):
            divided.set_epoch(2 * epoch + part)
            images += [batch for batch, _ in divided]
        assert torch.equal(torch.cat(images), train_pass(epoch=epoch)[0])


@pytest.mark.parametrize(("epoch", "seed"), [(1, 0), (0, 1)])
def test_another_epoch_or_seed_gives_another_order_and_augmentation(epoch, seed):
    images, labels = train_pass()
    other_images, other_labels = train_pass(epoch=epoch, seed=seed)
    assert not torch.equal(labels, other_labels)
    noise, other_noise = (
        part[order.argsort()] for part, order in ((images, labels), (other_images, other_labels))
    )
    assert not torch.equal(noise, other_noise)


def test_images_of_a_batch_are_augmented_each_on_its_own():
    images, labels = train_pass()
    noise = images - labels[:, None, None, None]
    assert len({one.contiguous().numpy().tobytes() for one in noise}) == 16


def test_the_global_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    train_pass()
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_yields_every_sample_once_in_order():
    batches = batches_of(NoisySamples(18))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(18))
    assert (len(batches), batches.n_samples) == (5, 18)


def test_training_drops_the_partial_batch():
    batches = batches_of(NoisySamples(18), drop_last=True)
    sizes = [len(labels) for _, labels in batches]
    assert (sizes, len(batches), batches.n_samples) == ([4] * 4, 4, 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_ends_the_pass_in_one_sentence(workers):
    batches = batches_of(NoisySamples(18, broken=9), workers)
    assert error_of(batches) == "sample 9 is broken: replace it"


def test_a_pass_that_failed_leaves_no_reference_cycle_with_the_workers():
    batches = batches_of(NoisySamples(18, broken=9))
    alive = weakref.ref(batches)
    gc.disable()
    try:
        error_of(batches)
        del batches
        assert alive() is None
    finally:
        gc.enable()


def test_moved_batches_yield_on_the_device_and_keep_an_epoch_of_their_own():
    batches = batches_of(NoisySamples(18), shuffle=True)
    moved = batches.to("meta")
    moved.set_epoch(3)
    images, labels = next(iter(moved))
    assert images.device.type == labels.device.type == "meta"
    assert batches._sampler.epoch == 0


def test_more_workers_than_the_machine_can_start_are_refused():
    with pytest.raises(DataError, match=r"^workers must be at most \d+ on this machine, got"):
        batches_of(NoisySamples(18), workers=10**6)


def test_negative_workers_are_refused():
    with pytest.raises(DataError, match=r"^workers must be at least 0, got -1$"):
        batches_of(NoisySamples(18), workers=-1)


@pytest.mark.gpu
def test_gpu_batches_equal_cpu_batches():
    batches = batches_of(NoisySamples(18), shuffle=True)
    for (images, labels), (on_gpu, gpu_labels) in zip(batches, batches.to("cuda"), strict=True):
        assert on_gpu.device.type == "cuda"
        torch.testing.assert_close(on_gpu.cpu(), images)
        assert torch.equal(gpu_labels.cpu(), labels)


def test_processes_read_parts_of_the_same_batches():
    options = {"shuffle": True, "drop_last": True}
    whole = batches_of(NoisySamples(18), **options)
    first, second = (whole.shard(rank, 2) for rank in (0, 1))
    for batches in (first, second):
        batches.set_epoch(0)
    for (images, labels), (x, x_labels), (y, y_labels) in zip(whole, first, second, strict=True):
        assert torch.equal(images[0::2], x)
        assert torch.equal(images[1::2], y)
        assert torch.equal(labels, torch.stack([x_labels, y_labels], dim=1).flatten())
    assert (len(first), first.n_samples) == (4, 16)
    with pytest.raises(DataError, match="batch_size must be a multiple of 3"):
        whole.shard(0, 3)


def test_a_last_batch_is_read_by_those_that_have_a_part_of_it():
    whole = batches_of(NoisySamples(9))
    assert [sum(len(y) for _, y in whole.shard(rank, 2)) for rank in (0, 1)] == [5, 4]


def test_the_tickets_of_an_epoch_are_a_permutation_and_a_seed_for_each():
    order = epoch_generator(3, 1)
    indices, seeds = (
        torch.randperm(50, generator=order),
        torch.randint(2**32, (50,), generator=order),
    )
    sampler = _EpochBatches(50, 48, 8, shuffle=True, seed=3)
    sampler.epoch = 1
    tickets = [ticket for batch in sampler for ticket in batch]
    assert tickets == list(zip(indices.tolist(), seeds.tolist(), strict=True))[:48]
    sampler.rank, sampler.world = 1, 3
    assert list(sampler) == [tickets[i : i + 8][1::3] for i in range(0, 48, 8)]


def test_the_first_batch_of_a_million_samples_does_not_wait_for_a_million_python_numbers():
    start = time.process_time()
    first = next(iter(_EpochBatches(1_281_167, 1_281_024, 256, shuffle=True, seed=0)))
    assert len(first) == 256
    assert time.process_time() - start < 2  # 0.13 s; 9 to 14 s with a Python number each
