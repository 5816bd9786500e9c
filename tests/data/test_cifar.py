"""CIFAR-10 and CIFAR-100 from files in their real format."""

from urllib.error import URLError

import pytest
import torch
from support.real_formats import write_cifar10, write_cifar100

from admm_exp.data.cifar import cifar10, cifar100
from admm_exp.errors import DataError

SETTINGS = {
    "download": False,
    "batch_size": 10,
    "seed": 0,
    "val_fraction": 0.1,
    "split_seed": 0,
    "crop_padding": 4,
    "flip": True,
    "img_size": None,
}


def patch(monkeypatch, name: str, attributes: dict) -> None:
    from torchvision import datasets

    for key, value in attributes.items():
        monkeypatch.setattr(getattr(datasets, name), key, value)


@pytest.fixture
def root10(tmp_path, monkeypatch):
    patch(monkeypatch, "CIFAR10", write_cifar10(tmp_path, n_per_batch=20, seed=0))
    return tmp_path


@pytest.fixture
def root100(tmp_path, monkeypatch):
    patch(monkeypatch, "CIFAR100", write_cifar100(tmp_path, n_train=300, n_test=100, seed=0))
    return tmp_path


def test_cifar10_is_read_and_split(root10):
    dataset = cifar10(root=str(root10), **SETTINGS)
    parts = (dataset.train, dataset.val, dataset.test)
    assert [part.n_samples for part in parts] == [90, 10, 20]
    assert (dataset.num_classes, dataset.shape) == (10, (3, 32, 32))


def test_a_part_of_the_training_images_is_split(root10):
    dataset = cifar10(root=str(root10), **SETTINGS | {"train_images": 50})
    assert (dataset.train.n_samples, dataset.val.n_samples, dataset.test.n_samples) == (40, 10, 20)


def test_cifar10_test_images_are_those_of_the_file(root10):
    from torchvision.datasets import CIFAR10
    from torchvision.transforms.v2 import functional

    from admm_exp.data import cifar

    image, label = CIFAR10(root10, train=False)[7]
    expected = functional.to_dtype(functional.to_image(image), scale=True)
    images, labels = next(iter(cifar10(root=str(root10), **SETTINGS).test))
    assert labels[7] == label
    normalised = functional.normalize(expected, cifar.CIFAR10.mean, cifar.CIFAR10.std)
    torch.testing.assert_close(images[7], normalised.as_subclass(torch.Tensor), rtol=0, atol=1e-6)


def test_cifar100_has_its_100_fine_classes(root100):
    dataset = cifar100(root=str(root100), **SETTINGS)
    labels = torch.cat([labels for _, labels in dataset.test])
    assert labels.unique().tolist() == list(range(100))
    assert (dataset.num_classes, dataset.train.n_samples) == (100, 200)


def test_batches_are_resized_to_img_size(root10):
    dataset = cifar10(root=str(root10), **SETTINGS | {"img_size": 48})
    images, _ = next(iter(dataset.train))
    assert images.shape[1:] == dataset.shape == (3, 48, 48)


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
def test_a_damaged_file_names_data_set_folder_and_mend(root10, name):
    path = root10 / "cifar-10-batches-py" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        cifar10(root=str(root10), **SETTINGS)
    assert str(caught.value) == (
        f"cifar10 was not found or is damaged in {root10}: "
        "run again with dataset.download=true, or put cifar-10-batches-py there"
    )


def test_a_missing_data_set_says_so_and_makes_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"^cifar100 was not found .* put cifar-100-python there$"):
        cifar100(root=str(tmp_path / "data"), **SETTINGS)
    assert not (tmp_path / "data").exists()


def test_a_download_without_network_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    with pytest.raises(DataError, match=r"^cifar10 could not be downloaded .* with a network, or"):
        cifar10(root=str(tmp_path), **SETTINGS | {"download": True})


def test_download_leaves_a_whole_data_set_alone(root10, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise AssertionError("downloaded although the files are there")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    dataset = cifar10(root=str(root10), **SETTINGS | {"download": True})
    assert dataset.test.n_samples == 20


def test_a_class_can_be_told_by_its_colours(root10):
    dataset = cifar10(root=str(root10), **SETTINGS | {"crop_padding": 0, "flip": False})
    images, labels = (torch.cat(parts) for parts in zip(*dataset.train, strict=True))
    seen, seen_labels = (torch.cat(parts) for parts in zip(*dataset.test, strict=True))
    nearest = torch.cdist(seen.flatten(1), images.flatten(1)).argmin(1)
    assert (labels[nearest] == seen_labels).float().mean() > 0.9
