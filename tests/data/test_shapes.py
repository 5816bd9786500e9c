"""The drawn shapes."""

from math import pi

import pytest
import torch

from admm_exp.data.shapes import MEAN, STD, _outlines, draw_shapes, shapes
from admm_exp.errors import DataError

SETTINGS = {
    "batch_size": 50,
    "seed": 0,
    "train_size": 200,
    "test_size": 100,
    "val_fraction": 0.1,
    "draw_seed": 0,
    "noise": 0.06,
    "crop_padding": 2,
    "flip": True,
}


def test_the_same_arguments_draw_the_same_images():
    (first, _), (again, _), (other, _) = (draw_shapes(50, 0.1, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_kind_is_as_frequent_in_every_part():
    dataset = shapes(**SETTINGS)
    counts = [torch.bincount(part._labels, minlength=10) for part in (dataset.val, dataset.test)]
    assert [count.tolist() for count in counts] == [[2] * 10, [10] * 10]


def test_a_part_takes_every_kind_as_often():
    dataset = shapes(**SETTINGS | {"train_images": 100, "batch_size": 9})
    counts = [
        torch.bincount(part._labels, minlength=10)
        for part in (dataset.train, dataset.val, dataset.test)
    ]
    assert [count.tolist() for count in counts] == [[9] * 10, [1] * 10, [10] * 10]


def test_mean_and_std_are_near_those_of_the_pixels():
    pixels = draw_shapes(500, 0.06, 0)[0].double() / 255
    assert abs(pixels.mean() - MEAN[0]) < 0.02
    assert abs(pixels.std() - STD[0]) < 0.02


@pytest.mark.parametrize(
    ("kind", "area"),
    list(enumerate([pi * 0.9**2, pi * (1 - 0.55**2), 1.6**2, 1.8**2 - 1.0, 3 * 3**0.5 * 0.36])),
    ids=["disc", "ring", "square", "frame", "triangle"],
)
def test_an_outline_has_the_area_of_its_shape_at_every_angle(kind, area):
    radius, angles = 0.5, torch.linspace(-3, 3, 7)
    labels = torch.full((7,), kind)
    cover = _outlines(labels, torch.zeros(7, 2), torch.full((7,), radius), angles)
    areas = cover.sum((1, 2)) * (2 / 31) ** 2
    assert areas.tolist() == pytest.approx([area * radius**2] * 7, rel=0.08)  # soft outlines


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train_size", 99, "dataset.train_size must be at least 100, got 99"),
        ("test_size", 0, "dataset.test_size must be at least 100, got 0"),
        ("noise", -1.0, "dataset.noise must be in"),
    ],
)
def test_a_value_out_of_range_is_one_sentence(name, value, sentence):
    with pytest.raises(DataError, match=sentence):
        shapes(**SETTINGS | {name: value})
