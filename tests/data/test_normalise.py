"""From stored pixels to what the network sees."""

import pytest
import torch

from admm_exp.data.normalise import Normalise, resize

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator())


def test_normalisation_equals_torchvisions(images):
    from torchvision.transforms.v2 import functional

    expected = functional.normalize(functional.to_dtype(images, scale=True), MEAN, STD)
    torch.testing.assert_close(Normalise(MEAN, STD)(images), expected, rtol=0, atol=1e-6)


def test_stored_images_are_left_as_they_were(images):
    before = images.clone()
    Normalise(MEAN, STD)(images)
    assert torch.equal(images, before)


def test_batches_leave_the_layout_to_the_network(images):
    assert Normalise(MEAN, STD)(images).is_contiguous()


def test_resizing_commutes_with_normalising(images):
    small_first = resize(Normalise(MEAN, STD)(images), 20)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    large_first = (resize(images.float() / 255, 20) - mean) / std
    torch.testing.assert_close(small_first, large_first, rtol=0, atol=1e-5)


def test_float_images_are_refused(images):
    with pytest.raises(TypeError, match=r"images must be uint8 in \[0, 255\], got torch\.float32"):
        Normalise(MEAN, STD)(images.float())


@pytest.mark.parametrize("std", [(0.2, 0.2), (0.2, 0.2, 0.0)])
def test_std_that_does_not_fit_is_refused(std):
    with pytest.raises(ValueError, match="one number per channel, std above 0"):
        Normalise(MEAN, std)
