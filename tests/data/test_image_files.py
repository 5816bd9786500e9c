"""Decoding and describing image files."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from admm_exp.data.image_files import LabelledFiles, decode_rgb
from admm_exp.errors import DataError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def files_in(folder, *paths: str) -> LabelledFiles:
    return LabelledFiles(folder, list(paths), torch.arange(len(paths)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_files_give_their_exact_pixels(tmp_path, pixels, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels).save(path)
    assert torch.equal(decode_rgb(path).permute(1, 2, 0), torch.from_numpy(pixels))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_any_colour_space_becomes_rgb_as_in_pillow(tmp_path, pixels, mode):
    path = tmp_path / "image.jpg"
    Image.fromarray(pixels).convert(mode).save(path)
    with Image.open(path) as image:
        theirs = torch.from_numpy(np.array(image.convert("RGB")))
    difference = decode_rgb(path).permute(1, 2, 0).int() - theirs.int()
    assert difference.abs().max() <= 2


def test_png_of_16_bits_is_scaled_to_8(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16)).save(path)
    image = decode_rgb(path)
    assert (image.dtype, image.shape, int(image.min())) == (torch.uint8, (3, 4, 4), 255)


@pytest.mark.parametrize("content", [b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode_rgb(path)
    assert str(caught.value) == f"{path} could not be decoded: replace or delete it"


def test_an_empty_file_is_named_before_training(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png is empty: replace or delete it$"):
        files_in(tmp_path, "empty.png").describe()


def test_the_description_changes_when_a_file_does(tmp_path, pixels):
    path = tmp_path / "image.bmp"
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(1, 1))
    before = files_in(tmp_path, "image.bmp").describe()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert files_in(tmp_path, "image.bmp").describe() != before


def test_the_description_does_not_depend_on_where_the_folder_is(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"1")
        os.utime(tmp_path / name / "a", ns=(1, 1))
    here, there = (files_in(tmp_path / name, "a").describe() for name in ("here", "there"))
    assert here == there


def test_select_keeps_paths_and_labels_together(tmp_path):
    part = files_in(tmp_path, "a", "b", "c").select(torch.tensor([2, 0]))
    assert (part.paths, part.labels.tolist()) == (["c", "a"], [2, 0])
