"""Image files as they are found: read right, or refused by name; the process lives."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from admm_exp.data import decoding
from admm_exp.data.decoding import decode_rgb, printable, require_readable
from admm_exp.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
GREY = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
REFUSED = "could not be decoded: replace or delete it"


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def decoded(path: Path) -> np.ndarray:
    image = decode_rgb(path)
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def assert_grey(path: Path, expected: np.ndarray = GREY) -> None:
    image = decoded(path)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - expected).max() <= 1


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("at", range(45, 6000, 331))
def test_a_damaged_png_is_refused_and_the_process_lives(tmp_path: Path, at: int) -> None:
    path = saved(tmp_path / "a.png", NOISE)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DataError, match=REFUSED):
        decode_rgb(path)


def test_a_png_whose_checksums_hold_but_whose_pixels_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(40, 40, bytes(41 * 40)).replace(b"IDAT\x78\x9c", b"IDAT\x78\x9d"))
    with pytest.raises(DataError, match=REFUSED):
        decode_rgb(path)


def bomb(suffix: str) -> bytes:
    if suffix == "png":
        return png(30000, 30000, bytes(100))
    if suffix == "bmp":
        return b"BM" + struct.pack(
            "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, *[0] * 6
        )
    if suffix == "ppm":
        return b"P6 30000 30000 255 "
    if suffix == "gif":
        return (
            b"GIF89a"
            + struct.pack("<HHBBB", 30000, 30000, 0, 0, 0)
            + (b"," + struct.pack("<HHHHB", 0, 0, 30000, 30000, 0) + b"\x08\x01\x00\x00;")
        )
    frame = struct.pack(">BHHB", 8, 30000, 30000, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9" + bytes(9)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "gif", "jpg"])
def test_a_small_file_that_claims_a_huge_image_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(bomb(suffix))
    with pytest.raises(DataError, match=r"must have at most 134217728 pixels"):
        decode_rgb(path)


def test_a_strip_that_would_be_resized_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.zeros((2, 2002), np.uint8))
    with pytest.raises(DataError, match=r"at most 1000 times as long as wide, got 2002 x 2"):
        decode_rgb(path)
    assert decoded(saved(path, np.zeros((2, 2000), np.uint8))).shape == (2, 2000, 3)


def test_a_jpeg_of_ten_thousand_scans_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", RGB, progressive=True)
    content = path.read_bytes()
    scan = content.rindex(b"\xff\xda")
    path.write_bytes(content[:scan] + content[scan:-2] * 10_000 + content[-2:])
    with pytest.raises(DataError, match=r"must have at most 100 scans, got 100\d\d"):
        decode_rgb(path)


@pytest.mark.parametrize("size", [100, 700, 1500])
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    path = saved(tmp_path / "a.jpg", NOISE)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=REFUSED):
        decode_rgb(path)


def test_postscript_is_not_handed_to_ghostscript(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, "EPS")
    with pytest.raises(DataError, match=REFUSED):
        decode_rgb(path)


@pytest.mark.parametrize("suffix", ["tif", "png", "pgm"])
def test_16_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    assert_grey(saved(tmp_path / f"a.{suffix}", GREY.astype(np.uint16) * 257))


def test_dark_pixels_of_16_bits_stay_dark(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", np.full((4, 4), 255, np.uint16))
    assert decoded(path).max() == 1


def test_12_bits_in_pgm_and_tiff_are_scaled(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 16
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 50 40 4080 " + deep.astype(">u2").tobytes())
    assert_grey(path)
    tiff = tmp_path / "a.tif"
    tags = [(256, 4, 50), (257, 4, 40), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 134)]
    tags += [(277, 3, 1), (278, 4, 40), (279, 4, 3000)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    first, second = deep.reshape(-1, 2).T  # two numbers of 12 bits in three bytes
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    tiff.write_bytes(head.ljust(134, b"\0") + packed.astype(np.uint8).tobytes())
    assert_grey(tiff, (GREY.astype(int) * 16 * 255 / 4095).astype(int))


def tiff_of_strips(pixels: np.ndarray, n: int, kind: int = 1, planar: int = 1) -> bytes:
    """Write uint8 (H, W) or (H, W, 3) in strips of 10 rows, and name the first n of them."""
    height, width, *samples = pixels.shape
    colours = samples[0] if samples else 1
    planes = np.moveaxis(pixels, -1, 0) if samples else pixels[None]
    strips = [plane[y : y + 10].tobytes() for plane in planes for y in range(0, height, 10)]
    starts = np.cumsum([8, *map(len, strips)])
    at = int(starts[-1])
    tables = np.array([*starts[:n], *map(len, strips[:n])], "<u4").tobytes()
    short = struct.pack("<6H", *[8] * 3, *[kind] * 3)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1), (278, 4, 1, 10)]
    tags += [(258, 3, colours, 8 if colours == 1 else at + 8 * n), (277, 3, 1, colours)]
    tags += [(262, 3, 1, 1 if colours == 1 else 2), (284, 3, 1, planar)]
    tags += [(273, 4, n, at), (279, 4, n, at + 4 * n)]
    tags += [(339, 3, colours, kind if colours == 1 else at + 8 * n + 6)]
    head = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in sorted(tags))
    body = b"".join(strips) + tables + short
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + head + bytes(4)


@pytest.mark.parametrize(("n", "planar", "pixels"), [(4, 1, GREY), (12, 2, RGB)])
def test_a_tiff_that_lacks_strips_is_refused(
    tmp_path: Path, n: int, planar: int, pixels: np.ndarray
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of_strips(pixels, n, planar=planar))
    assert (decoded(path) == pixels.reshape(40, 50, -1)).all()
    path.write_bytes(tiff_of_strips(pixels, n - 1, planar=planar))
    with pytest.raises(DataError, match="lacks a part of its pixels"):
        decode_rgb(path)


def test_signed_bytes_below_zero_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of_strips(GREY // 2, 4, kind=2))
    assert_grey(path, GREY // 2)
    path.write_bytes(tiff_of_strips(GREY, 4, kind=2))
    with pytest.raises(DataError, match="holds negative numbers"):
        decode_rgb(path)


def test_a_colour_that_the_palette_has_not_is_refused(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0))
    rest = chunk(b"PLTE", bytes(range(6))) + chunk(b"IDAT", zlib.compress(b"\0\0\7"))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rest + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="holds the colour 7 of a palette of 2"):
        decode_rgb(path)


@pytest.mark.parametrize("scale", [1, 257, 2**23])
def test_integers_of_32_bits_take_the_smallest_range_that_holds_them(
    tmp_path: Path, scale: int
) -> None:
    path = saved(tmp_path / "a.tif", GREY.astype(np.int32) * scale)
    assert_grey(path, GREY if scale < 2**23 else (GREY.astype(float) * 255 / 256).astype(int))


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_floating_point_takes_the_smallest_range_that_holds_it(
    tmp_path: Path, scale: float
) -> None:
    assert_grey(saved(tmp_path / "a.tif", (GREY * scale).clip(0, 65535).astype(np.float32)))


def test_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    content = saved(path, GREY.astype(np.uint16) * 257).read_bytes()
    at = content.index(struct.pack("<HHI", 262, 3, 1))
    path.write_bytes(content[: at + 8] + struct.pack("<H", 0) + content[at + 10 :])
    assert_grey(path, 255 - GREY.astype(int))


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (float("nan"), "holds numbers that are not finite"),
        (float("inf"), "holds numbers that are not finite"),
        (-0.5, "holds negative numbers, down to -0.5"),
        (1e20, r"must hold numbers of at most 4.29497e\+09, got 1e\+20"),
    ],
)
def test_what_is_no_brightness_is_refused(tmp_path: Path, number: float, sentence: str) -> None:
    pixels = np.full((4, 4), 0.5, np.float32)
    pixels[1, 2] = number
    with pytest.raises(DataError, match=rf"a.tif {sentence}: replace or delete it$"):
        decode_rgb(saved(tmp_path / "a.tif", pixels))


def test_negative_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds negative numbers, down to -7"):
        decode_rgb(saved(tmp_path / "a.tif", np.full((4, 4), -7, np.int32)))


def test_one_bit_palette_and_alpha_give_the_colours_below(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY > 200).save(path)
    assert_grey(path, np.where(GREY > 200, 255, 0))
    palette = Image.fromarray(RGB).quantize(256)
    palette.save(path, transparency=bytes(256))
    assert np.array_equal(decoded(path), np.array(palette.convert("RGB")))
    saved(path, np.dstack([RGB, GREY // 3]))
    assert np.array_equal(decoded(path), RGB)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(path, save_all=True, append_images=[second])
    image = decoded(path).astype(int)
    assert (image[..., 0] > 240).all()
    assert (image[..., 2] < 15).all()


@pytest.mark.parametrize("library", ["torchcodec.decoders", "torchvision.io", "none"])
def test_every_decoder_gives_the_same_jpeg_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    if library != "none":
        pytest.importorskip(library)
    known = decoding.importlib.import_module

    def only(name: str) -> object:
        if name != library:
            raise ImportError(name)
        return known(name)

    path = saved(tmp_path / "a.jpg", RGB)
    with Image.open(path) as image:
        expected = np.array(image)
    monkeypatch.setattr(decoding.importlib, "import_module", only)
    decoding._native_decoder.cache_clear()
    try:
        difference = decoded(path).astype(int) - expected
    finally:
        decoding._native_decoder.cache_clear()
    assert np.abs(difference).max() <= 2


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DataError, match=r"a.jpg is a link to a file that is not there .*: replace"):
        require_readable(tmp_path / "a.jpg")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a.jpg is no regular file: replace or delete it$"):
        decode_rgb(tmp_path / "a.jpg")


def test_a_file_larger_than_any_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(DataError, match=r"a.jpg must have at most 1073741824 bytes, got 107374"):
        require_readable(path)


def test_names_are_shown_as_text_whatever_their_bytes() -> None:
    assert printable(Path("a é")) == "a é"
    assert printable(os.fsdecode(b"caf\xe9.png")) == r"caf\xe9.png"
    assert printable("a\x1b[31m\n") == r"a\x1b[31m\n"


def test_a_png_without_its_palette_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).quantize(16).save(path)
    content = path.read_bytes()
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[start + 12 + length :])
    with pytest.raises(DataError, match="could not be decoded"):
        decode_rgb(path)


def test_a_gif_with_a_frame_outside_of_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.gif"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"\x2c\0\0\0\0")
    content[start + 1 : start + 3] = b"\xff\x00"
    path.write_bytes(content)
    with pytest.raises(DataError, match="frame that lies outside"):
        decode_rgb(path)
