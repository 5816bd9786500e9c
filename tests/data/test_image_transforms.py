"""Crops of decoded images."""

import pytest
import torch

from admm_exp.data.image_transforms import SquareCrops
from admm_exp.errors import DataError

CROPS = {"img_size": 8, "min_area": 0.5, "crop_fraction": 0.5, "flip": False}
IMAGE = torch.randint(256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator())


@pytest.mark.parametrize("kind", ["for_training", "for_evaluation"])
def test_any_image_becomes_a_uint8_square(kind):
    crop = getattr(SquareCrops(**CROPS), kind)()(IMAGE)
    assert (crop.dtype, crop.shape) == (torch.uint8, (3, 8, 8))


def test_evaluation_takes_the_middle_of_the_resized_image():
    from torchvision.transforms.v2 import functional

    resized = functional.resize(IMAGE, [16, 24], antialias=True)
    crop = SquareCrops(**CROPS).for_evaluation()(IMAGE)
    assert torch.equal(crop, resized[:, 4:12, 8:16])


@pytest.mark.parametrize(("flip", "outcomes"), [(False, 1), (True, 2)])
def test_only_flip_mirrors_a_crop_of_the_whole_image(flip, outcomes):
    square = IMAGE[:, :8, :8]
    train = SquareCrops(**CROPS | {"min_area": 1.0, "flip": flip}).for_training()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        crops = {train(square).contiguous().numpy().tobytes() for _ in range(20)}
    assert square.contiguous().numpy().tobytes() in crops
    assert len(crops) == outcomes


@pytest.mark.parametrize(
    ("key", "value"),
    [("img_size", 0), ("min_area", 0.0), ("min_area", 1.1), ("crop_fraction", 0.0)],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(DataError, match=f"^{key} must be .*, got {value}$"):
        SquareCrops(**CROPS | {key: value})


def test_images_are_not_resized_to_more_than_memory_holds():
    with pytest.raises(
        DataError, match=r"^crop_fraction must be at least 0.000976562, .* got 1e-09"
    ):
        SquareCrops(**CROPS | {"crop_fraction": 1e-9})
