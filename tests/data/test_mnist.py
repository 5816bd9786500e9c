"""MNIST and its kin from files in their real format."""

import gzip
import tracemalloc
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from support.real_formats import write_idx, write_mnist

from admm_exp.data import mnist as sets
from admm_exp.data.idx import FILES, read_idx
from admm_exp.errors import DataError

NAMES = [name for part in FILES.values() for name in part]
PACKAGED = Path("/usr/share/datasets/fashion-mnist")
SETTINGS = {
    "download": False,
    "batch_size": 10,
    "seed": 0,
    "val_fraction": 0.1,
    "split_seed": 0,
    "crop_padding": 2,
    "flip": False,
    "img_size": None,
}


@pytest.fixture
def root(tmp_path):
    write_mnist(tmp_path, 100, 40)
    return tmp_path


def build(root, name="mnist", **settings):
    return getattr(sets, name)(root=None if root is None else str(root), **SETTINGS | settings)


def counts_of(dataset):
    return [part.n_samples for part in (dataset.train, dataset.val, dataset.test)]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_four_files_are_read_and_split(root, name):
    dataset = build(root, name)
    assert counts_of(dataset) == [90, 10, 40]
    assert (dataset.name, dataset.num_classes, dataset.shape) == (name, 10, (1, 28, 28))


def test_images_are_those_that_torchvision_reads(tmp_path):
    from torchvision.datasets import KMNIST

    write_mnist(tmp_path / "KMNIST" / "raw", 100, 40)
    expected = KMNIST(tmp_path, train=False)
    pixels = torch.cat([images for images, _ in build(tmp_path, "kmnist").test])
    labels = torch.cat([labels for _, labels in build(tmp_path, "kmnist").test])
    wanted = (expected.data.float() / 255 - sets.KMNIST.mean) / sets.KMNIST.std
    torch.testing.assert_close(pixels[:, 0], wanted, rtol=0, atol=1e-6)
    assert labels.equal(expected.targets)


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_root_is_the_folder_of_the_files_or_torchvisions(tmp_path, place, suffix):
    write_mnist(tmp_path / place, 100, 40, suffix=suffix)
    assert counts_of(build(tmp_path, "fashion_mnist")) == [90, 10, 40]


def test_gzipped_and_plain_files_are_the_same_data_set(tmp_path):
    for suffix in ("", ".gz"):
        write_mnist(tmp_path / f"as{suffix}", 100, 40, suffix=suffix)
    plain, zipped = (build(tmp_path / f"as{suffix}") for suffix in ("", ".gz"))
    assert plain.fingerprint == zipped.fingerprint


def test_without_a_root_downloads_come_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "packaged"
    write_mnist(packaged, 200, 40)
    source = sets.FASHION_MNIST.__class__(
        "fashion_mnist", "FashionMNIST", 0.5, 0.5, "dataset-fashion-mnist", str(packaged)
    )
    monkeypatch.setattr(sets, "FASHION_MNIST", source)
    assert counts_of(build(None, "fashion_mnist"))[0] == 180
    write_mnist(tmp_path / "outputs" / "data" / "FashionMNIST" / "raw", 100, 40)
    assert counts_of(build(None, "fashion_mnist"))[0] == 90


@pytest.mark.skipif(not PACKAGED.is_dir(), reason="no package dataset-fashion-mnist here")
def test_the_packaged_fashion_mnist_is_found_without_any_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = build(None, "fashion_mnist", train_images=6000, batch_size=100)
    assert counts_of(dataset) == [5400, 600, 10_000]
    labels = torch.cat([labels for _, labels in dataset.test])
    assert torch.bincount(labels).tolist() == [1000] * 10
    pixels = torch.cat([images for images, _ in dataset.test])
    assert abs(float(pixels.mean())) < 0.01
    assert float(pixels.std()) == pytest.approx(1.0, abs=0.01)


def test_a_part_is_stratified_and_the_test_images_are_all_there(root):
    dataset = build(root, train_images=50, batch_size=5)
    assert counts_of(dataset) == [40, 10, 40]
    labels = torch.cat([labels for part in (dataset.train, dataset.val) for _, labels in part])
    assert torch.bincount(labels).tolist() == [5] * 10


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_missing_files_are_told_with_every_way_to_get_them(tmp_path, name):
    with pytest.raises(DataError) as refusal:
        build(tmp_path / "none", name)
    message = str(refusal.value)
    assert message.startswith(f"{name} was not found in {tmp_path / 'none'}: run again with ")
    assert "dataset.download=true" in message
    assert "dataset.root" in message
    assert ("apt-get install dataset-fashion-mnist" in message) is (name == "fashion_mnist")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_cut_short_is_named_with_its_mend(tmp_path, name, suffix):
    write_mnist(tmp_path, 100, 40, suffix=suffix)
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"mnist is damaged: .*download=true") as refusal:
        build(tmp_path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of unsigned bytes: it begins with b''"),
        (b"<html>", "is no IDX file of unsigned bytes"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 5]), "is no IDX file of unsigned bytes"),
        (bytes([0, 0, 8, 3, 0, 0]), "is no IDX file of unsigned bytes"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 2, 5]), r"holds 1 bytes where its header \(2,\) asks for 2"),
        (
            bytes([0, 0, 8, 1, 0, 0, 0, 1, 5, 5]),
            r"holds more bytes where its header \(1,\) asks for 1",
        ),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), r"holds 0 bytes where its header \(0,\) asks for 0"),
    ],
)
def test_what_is_no_idx_file_is_refused_by_its_name(tmp_path, content, message):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_a_gz_file_unpacks_to_no_more_than_its_header_says(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 1]) + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"holds more bytes where its header \(1,\) asks for 1"):
        read_idx(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


def test_a_header_that_asks_for_too_much_is_refused(tmp_path):
    (tmp_path / "images").write_bytes(bytes([0, 0, 8, 3, *[255] * 12]))
    with pytest.raises(DataError, match="must hold at most 1073741824 bytes, not"):
        read_idx(tmp_path / "images")


def test_a_gz_file_that_is_none_is_refused(root):
    plain = root / NAMES[0]
    plain.with_name(plain.name + ".gz").write_bytes(plain.read_bytes())
    plain.unlink()
    with pytest.raises(DataError, match="cannot be read: Not a gzipped file"):
        build(root)


def test_a_flipped_bit_in_a_gz_file_is_found(tmp_path):
    write_mnist(tmp_path, 100, 40, suffix=".gz")
    path = tmp_path / f"{NAMES[1]}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    zipped = bytearray(gzip.compress(bytes(content)))
    zipped[-6] ^= 1  # of the checksum
    path.write_bytes(zipped)
    with pytest.raises(DataError, match="cannot be read: CRC check failed"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (NAMES[1], np.full(100, 10, np.uint8), r"train labels must be in \[0, 10\), got 10"),
        (NAMES[1], np.zeros(99, np.uint8), r"train images are \(100, 28, 28\) and their labels"),
        (NAMES[0], np.zeros((100, 784), np.uint8), r"train images are \(100, 784\)"),
        (NAMES[2], np.zeros((40, 32, 32), np.uint8), r"\(28, 28\) pixels, test images \(32, 32\)"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(root, name, values, message):
    write_idx(root / name, values)
    with pytest.raises(DataError, match=message):
        build(root)


def test_a_download_without_a_network_says_so(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(datasets.MNIST, "download", offline)
    with pytest.raises(DataError, match=r"mnist could not be downloaded to .*no network.*put the"):
        build(tmp_path, download=True)


def test_what_was_downloaded_is_read(tmp_path, monkeypatch):
    from torchvision import datasets

    def fetch(self):
        write_mnist(Path(self.raw_folder), 100, 40)

    monkeypatch.setattr(datasets.MNIST, "download", fetch)
    assert counts_of(build(tmp_path, "fashion_mnist", download=True)) == [90, 10, 40]


def test_files_that_are_there_are_not_downloaded_again(root, monkeypatch):
    from torchvision import datasets

    monkeypatch.setattr(datasets.MNIST, "download", pytest.fail)
    assert counts_of(build(root, download=True)) == [90, 10, 40]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("~nobody-of-this-name", r"dataset.root=~nobody-of-this-name is the home of nobody: set"),
        ("a" * 300, r"/a{300} cannot be looked into \(File name too long\): set dataset.root to"),
    ],
)
def test_a_root_that_no_folder_can_be_is_one_sentence(tmp_path, monkeypatch, place, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=sentence):
        build(place if place.startswith("~") else tmp_path / place)


@pytest.mark.parametrize("name", ["", "train-labels-idx1-ubyte"], ids=["folder", "file"])
def test_what_may_not_be_read_is_not_called_missing_or_damaged(root, monkeypatch, name):
    """Root may read everything, so the refusal of the system is played."""
    refused, words = root / (name or NAMES[0]), "cannot be (looked into|read)"

    def refuses(call):
        def guarded(path, *rest, **options):
            if Path(path) == refused:
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *rest, **options)

        return guarded

    target = (Path, "open") if name else (Path, "is_file")
    monkeypatch.setattr(*target, refuses(getattr(*target)))
    monkeypatch.setattr("builtins.open", refuses(open))
    with pytest.raises(DataError, match=rf"{words} \(Permission denied\).*dataset.root to") as told:
        build(root)
    assert "delete" not in str(told.value)
    assert "download" not in str(told.value)
