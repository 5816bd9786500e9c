"""Trees of image files, and ImageNet."""

import os
import shutil

import pytest
import torch
from support.real_formats import WNIDS, write_image_folder, write_imagenet

from admm_exp.data.folder import imagefolder, imagenet
from admm_exp.errors import DataError

# Python 3.12 warns of forking a process with threads; torch's data loader does it on purpose
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CLASSES = ["cat", "dog"]
SETTINGS = {
    "batch_size": 4,
    "seed": 0,
    "val_fraction": 0.25,
    "split_seed": 0,
    "img_size": 12,
    "min_area": 0.3,
    "crop_fraction": 0.875,
    "flip": True,
    "workers": 0,
}


@pytest.fixture
def root(tmp_path):
    write_image_folder(tmp_path / "train", CLASSES, 8, 20, ".png", seed=0)
    write_image_folder(tmp_path / "val", CLASSES, 3, 20, ".jpg", seed=1)
    return tmp_path


def build(root, **changes):
    return imagefolder(root=str(root), **SETTINGS | changes)


def sizes(dataset) -> list[int]:
    return [part.n_samples for part in (dataset.train, dataset.val, dataset.test)]


def images_of(batches) -> torch.Tensor:
    return torch.cat([images for images, _ in batches])


def test_with_val_alone_val_is_the_test_set_and_train_is_split(root):
    dataset = build(root)
    assert sizes(dataset) == [12, 4, 6]
    assert (dataset.num_classes, dataset.shape) == (2, (3, 12, 12))


def test_with_test_alone_train_is_split(root):
    (root / "val").rename(root / "test")
    assert sizes(build(root)) == [12, 4, 6]


def test_with_val_and_test_nothing_is_carved(root):
    write_image_folder(root / "test", CLASSES, 5, 20, ".png", seed=2)
    assert sizes(build(root)) == [16, 6, 10]


def test_a_part_of_the_training_images_is_split(root):
    assert sizes(build(root, train_images=12)) == [8, 4, 6]
    write_image_folder(root / "test", CLASSES, 2, 20, ".png", seed=2)
    assert sizes(build(root, train_images=12)) == [12, 6, 4]  # val and test stay whole


def test_batches_are_normalised_float32_squares(root):
    images, labels = next(iter(build(root).train))
    assert (images.dtype, images.shape, labels.dtype) == (
        torch.float32,
        (4, 3, 12, 12),
        torch.int64,
    )
    assert -3 < images.min() < 0 < images.max() < 3


def test_carved_validation_images_are_not_augmented(root):
    val = build(root).val
    before = images_of(val)
    val.set_epoch(1)
    assert torch.equal(images_of(val), before)


def test_evaluation_equals_torchvisions_transforms_on_the_file(root):
    from PIL import Image
    from torchvision.transforms.v2 import functional

    from admm_exp.data.image_transforms import MEAN, STD

    with Image.open(root / "val" / "cat" / "000.jpg") as file:
        image = functional.pil_to_tensor(file)
    crop = functional.center_crop(functional.resize(image, [14], antialias=True), [12])
    expected = functional.normalize(functional.to_dtype(crop, scale=True), MEAN, STD)
    torch.testing.assert_close(next(iter(build(root).test))[0][0], expected, rtol=0, atol=0.04)


def test_two_workers_give_the_batches_of_none_in_every_epoch(root):
    with_workers, without = build(root, workers=2), build(root)
    for epoch in (0, 1):
        with_workers.set_epoch(epoch)
        without.set_epoch(epoch)
        assert torch.equal(images_of(with_workers.train), images_of(without.train))


def test_another_epoch_gives_other_crops(root):
    dataset = build(root)
    first = images_of(dataset.train)
    dataset.set_epoch(1)
    assert not torch.equal(images_of(dataset.train), first)


@pytest.mark.parametrize("change", [{"img_size": 10}, {"split_seed": 1}, {"flip": False}])
def test_fingerprint_changes_with_split_and_preprocessing(root, change):
    assert build(root, **change).fingerprint != build(root).fingerprint


def test_fingerprint_changes_when_an_image_is_written_again(root):
    before = build(root).fingerprint
    write_image_folder(root / "val", CLASSES[:1], 1, 20, ".jpg", seed=7)
    assert build(root).fingerprint != before


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_missing_folder_names_path_and_mend(root, part):
    shutil.rmtree(root / part)
    with pytest.raises(DataError, match=f"^imagefolder found no .*/{part}: .* set dataset.root to"):
        build(root)


def test_an_empty_class_folder_is_named(root):
    (root / "train" / "emu").mkdir()
    with pytest.raises(
        DataError, match=r"train/emu holds no images: put .*, or delete the folder$"
    ):
        build(root)


def test_class_folders_that_differ_are_named(root):
    write_image_folder(root / "val", ["emu"], 1, 20)
    with pytest.raises(DataError, match=r"must have the same class folders, but .* has emu$"):
        build(root)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_no_image_is_named_while_iterating(root, workers):
    broken = root / "val" / "cat" / "001.jpg"
    broken.write_text("not an image")
    try:  # not `pytest.raises`, which would keep the workers in a reference cycle
        text = f"read {images_of(build(root, workers=workers).test).shape}"
    except DataError as error:
        text = str(error)
    assert text == f"{broken} could not be decoded: replace or delete it"


def test_batch_size_above_the_training_images_is_refused(root):
    with pytest.raises(DataError, match=r"^batch_size must be at most 12, .* got 13$"):
        build(root, batch_size=13)


def test_imagenet_is_read_from_its_parsed_layout(tmp_path):
    write_imagenet(tmp_path, per_class=4, size=20)
    dataset = imagenet(root=str(tmp_path), **SETTINGS)
    assert sizes(dataset) == [8, 3, 12]
    labels = torch.cat([labels for _, labels in dataset.test])
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("missing", ["meta.bin", "train", "val"])
def test_incomplete_imagenet_names_the_archives(tmp_path, missing):
    write_imagenet(tmp_path, per_class=2, size=20)
    if missing == "meta.bin":
        (tmp_path / missing).unlink()
    else:
        shutil.rmtree(tmp_path / missing)
    with pytest.raises(DataError, match=r"^imagenet was not found .*ILSVRC2012_img_train\.tar"):
        imagenet(root=str(tmp_path), **SETTINGS)


def test_damaged_imagenet_meta_file_is_one_sentence(tmp_path):
    write_imagenet(tmp_path, per_class=2, size=20)
    (tmp_path / "meta.bin").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"^imagenet was not found or is damaged in "):
        imagenet(root=str(tmp_path), **SETTINGS)


def test_imagenet_classes_missing_from_val_are_named(tmp_path):
    write_imagenet(tmp_path, per_class=2, size=20)
    shutil.rmtree(tmp_path / "val" / WNIDS[1])
    with pytest.raises(DataError, match=f"but only one of them has {WNIDS[1]}$"):
        imagenet(root=str(tmp_path), **SETTINGS)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_png_ends_no_process_but_is_named(root, workers):
    damaged = root / "val" / "cat" / "001.png"
    (root / "val" / "cat" / "001.jpg").unlink()
    content = bytearray((root / "train" / "cat" / "001.png").read_bytes())
    content[60:100] = bytes(40)
    damaged.write_bytes(content)
    try:
        text = f"read {images_of(build(root, workers=workers).test).shape}"
    except DataError as error:
        text = str(error)
    assert text == f"{damaged} could not be decoded: replace or delete it"


def test_a_link_to_nowhere_is_named_before_training(root):
    (root / "train" / "cat" / "new.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError, match=r"cat/new.png is a link to a file that is not there"):
        build(root)


def test_a_root_that_is_a_file_is_named(root):
    with pytest.raises(DataError, match=r"^imagefolder cannot read .*000.png/train \(Not a dir"):
        build(root / "train" / "cat" / "000.png")


def test_names_that_are_not_utf_8_are_read_and_shown(root):
    for part in ("train", "val"):
        (root / part / "cat").rename(root / part / os.fsdecode(b"caf\xe9"))
    odd = root / "val" / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff.jpg")
    (root / "val" / "dog" / "000.jpg").rename(odd)
    assert sizes(build(root, workers=1)) == [12, 4, 6]
    assert len(images_of(build(root, workers=1).test)) == 6
    odd.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"val/caf\\xe9/\\xff.jpg could not be decoded"):
        images_of(build(root).test)
