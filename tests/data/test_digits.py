"""The digits that come with scikit-learn."""

import gzip

import pytest
import torch

from admm_exp.data import digits as digits_module
from admm_exp.data.digits import MEAN, STD, digits, read_digits
from admm_exp.errors import DataError

SETTINGS = {
    "batch_size": 64,
    "seed": 0,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "split_seed": 0,
    "crop_padding": 1,
    "flip": False,
}


def test_pixels_and_labels_equal_scikit_learns():
    from sklearn.datasets import load_digits

    images, labels = read_digits()
    theirs = load_digits()
    assert torch.equal(labels, torch.from_numpy(theirs.target))
    grey = (images[:, 0].double() * 16 / 255).round()
    assert torch.equal(grey, torch.from_numpy(theirs.images))
    assert (images.min(), images.max()) == (0, 255)


def test_the_parts_hold_70_10_20_percent_of_every_class():
    dataset = digits(**SETTINGS | {"batch_size": 1})
    parts = (dataset.train, dataset.val, dataset.test)
    counts = [torch.bincount(part._labels, minlength=10) for part in parts]
    everything = torch.bincount(read_digits()[1])
    assert torch.equal(sum(counts), everything)
    for count, share in zip(counts, (0.72, 0.08, 0.20), strict=True):
        assert (count - share * everything).abs().max() <= 1.5


def test_a_part_of_the_training_images_leaves_the_test_images():
    part, whole = (digits(**SETTINGS | {"train_images": n, "batch_size": 9}) for n in (200, None))
    assert (part.train.n_samples, part.val.n_samples) == (180, 20)
    assert torch.equal(part.test._labels, whole.test._labels)


def test_another_seed_keeps_the_split_and_the_test_images():
    first, other = digits(**SETTINGS), digits(**SETTINGS | {"seed": 1})
    assert first.fingerprint == other.fingerprint


def test_another_split_seed_makes_another_data_set():
    assert digits(**SETTINGS).fingerprint != digits(**SETTINGS | {"split_seed": 1}).fingerprint


def test_mean_and_std_are_those_of_the_pixels():
    pixels = read_digits()[0].double() / 255
    assert abs(pixels.mean() - MEAN[0]) < 0.01
    assert abs(pixels.std() - STD[0]) < 0.01


@pytest.mark.parametrize(("img_size", "side"), [(None, 8), (28, 28)])
def test_shape_follows_img_size(img_size, side):
    assert digits(**SETTINGS, img_size=img_size).shape == (1, side, side)


CUT_OFF = gzip.compress(b"0,1,2\n" * 99)[:-9]


@pytest.mark.parametrize("content", [None, b"not gzip", CUT_OFF], ids=["none", "text", "cut off"])
def test_a_missing_or_damaged_file_is_one_sentence(monkeypatch, tmp_path, content):
    path = tmp_path / "digits.csv.gz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(digits_module, "_digits_file", lambda: path)
    with pytest.raises(DataError, match=r"^digits could not be read from .*: run `pip install"):
        read_digits()
