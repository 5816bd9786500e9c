"""Batched crops and flips against torchvision's, one image at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admm_exp.data.augment import (
    Augmentation,
    Shifts,
    crop_and_flip,
    crop_windows,
    draw_shifts,
    pad,
)
from admm_exp.errors import DataError

CHI_SQUARE_17_AT_0_001 = 40.79


def variants(image: torch.Tensor) -> dict[bytes, int]:
    """Map each of the 18 outcomes of crop padding 1 and flip to its number."""
    outcomes = [
        crop.flip(-1) if flip else crop
        for crop in crop_windows(pad(image[None], 1), *image.shape[1:])[0]
        .permute(1, 2, 0, 3, 4)
        .flatten(0, 1)
        for flip in (False, True)
    ]
    return {outcome.contiguous().numpy().tobytes(): i for i, outcome in enumerate(outcomes)}


def chi_square(images: torch.Tensor, number: dict[bytes, int]) -> float:
    outcome = torch.tensor([number[image.contiguous().numpy().tobytes()] for image in images])
    counts = torch.bincount(outcome, minlength=len(number)).double()
    expected = len(images) / len(number)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.fixture
def image() -> torch.Tensor:
    return torch.arange(1, 49, dtype=torch.uint8).reshape(3, 4, 4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    padding=st.integers(0, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
)
def test_batched_crop_and_flip_equals_torchvision_per_image(seed, padding, height, width, channels):
    from torchvision.transforms.v2 import functional

    generator = torch.Generator().manual_seed(seed)
    shape = (6, channels, height, width)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    index = torch.randperm(6, generator=generator)
    shifts = draw_shifts(6, Augmentation(padding, flip=True), generator)

    batch = crop_and_flip(crop_windows(pad(images, padding), height, width), index, shifts)

    for i, image in enumerate(images[index]):
        padded = functional.pad(image, [padding] * 4)
        one = functional.crop(padded, int(shifts.dy[i]), int(shifts.dx[i]), height, width)
        if shifts.flip[i]:
            one = functional.horizontal_flip(one)
        assert torch.equal(batch[i], one)


def test_images_of_a_batch_are_cropped_and_flipped_each_on_its_own(image):
    shifts = draw_shifts(64, Augmentation(1, flip=True), torch.Generator().manual_seed(0))
    windows = crop_windows(pad(image[None], 1), 4, 4)
    batch = crop_and_flip(windows, torch.zeros(64, dtype=torch.int64), shifts)
    assert len({one.contiguous().numpy().tobytes() for one in batch}) > 12


def test_batched_outcomes_are_uniform(image):
    shifts = draw_shifts(3600, Augmentation(1, flip=True), torch.Generator().manual_seed(0))
    windows = crop_windows(pad(image[None], 1), 4, 4)
    batch = crop_and_flip(windows, torch.zeros(3600, dtype=torch.int64), shifts)
    assert chi_square(batch, variants(image)) < CHI_SQUARE_17_AT_0_001


def test_torchvision_outcomes_are_uniform_over_the_same_set(image):
    from torchvision.transforms import v2

    random_crop = v2.Compose([v2.RandomCrop(4, padding=1), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = torch.stack([random_crop(image) for _ in range(1800)])
    assert chi_square(batch, variants(image)) < CHI_SQUARE_17_AT_0_001


def test_without_crop_and_flip_images_are_only_gathered(image):
    images = torch.stack([image, image + 1, image + 2])
    index = torch.tensor([2, 0])
    shifts = draw_shifts(2, Augmentation(), torch.Generator())
    assert torch.equal(crop_and_flip(crop_windows(images, 4, 4), index, shifts), images[index])


def test_crop_windows_takes_no_memory_of_its_own(image):
    padded = pad(image[None], 2)
    assert crop_windows(padded, 4, 4).data_ptr() == padded.data_ptr()


def test_rows_of_shifts_keep_crop_and_flip_together():
    shifts = Shifts(torch.arange(4), torch.arange(4) + 10, torch.tensor([0, 1, 0, 1]).bool())
    part = shifts[1:3]
    assert (part.dy.tolist(), part.dx.tolist()) == ([1, 2], [11, 12])
    assert part.flip.tolist() == [True, False]


def test_negative_crop_padding_is_refused():
    with pytest.raises(DataError, match=r"^crop_padding must be at least 0, got -1$"):
        Augmentation(crop_padding=-1)
