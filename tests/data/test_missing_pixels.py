"""Images whose pixels end early: refused, whatever lies in their rows."""

import struct
import zlib
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from admm_exp.data import missing_pixels
from admm_exp.data.decoding import decode_rgb
from admm_exp.errors import DataError

LACKS = r"a\.\w+ lacks a part of its pixels: replace or delete it$"
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)]
KINDS += [(3, 1), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777"]
ADAM7 += ["56565656", "77777777"]
"""The pass in which a pixel of 8 x 8 is sent, as the standard draws it."""


def chunk(kind, content):
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return struct.pack(">I", len(content)) + kind + content + checksum


def rows_of(width, height, bits, is_interlaced):
    """Count the bytes of every row in the order in which they are sent."""
    of_pass = {}
    for y, x in product(range(height), range(width)):
        number = int(ADAM7[y % 8][x % 8]) if is_interlaced else 0
        of_pass[number, y] = of_pass.get((number, y), 0) + bits
    return [1 + -(-of_pass[place] // 8) for place in sorted(of_pass)]


def black(width, height, colour, bits, is_interlaced, n_bytes):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, is_interlaced)
    parts = [(b"IHDR", header), (b"PLTE", bytes(3 * 2 ** min(bits, 8)))]
    pixels = zlib.compress(bytes(n_bytes))
    parts += [(b"IDAT", pixels[:5]), (b"IDAT", pixels[5:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*p) for p in parts if colour != 0 or p[0] != b"PLTE"
    )


@pytest.mark.parametrize("is_interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_a_black_png_is_told_from_one_that_lacks_its_last_row(
    tmp_path, colour, bits, is_interlaced
):
    path = tmp_path / "a.png"
    for width, height in ((1, 1), (5, 1), (3, 3), (9, 5), (10, 16)):
        rows = rows_of(width, height, bits * CHANNELS[colour], is_interlaced)
        path.write_bytes(black(width, height, colour, bits, is_interlaced, sum(rows)))
        assert decode_rgb(path).shape == (3, height, width)
        assert not decode_rgb(path).any()
        if len(rows) > 1:
            path.write_bytes(black(width, height, colour, bits, is_interlaced, sum(rows[:-1])))
            with pytest.raises(DataError, match=LACKS):
                decode_rgb(path)


def test_a_png_that_lacks_half_of_its_rows_is_refused(tmp_path):
    path, pixels = tmp_path / "a.png", np.full((8, 9), 7, np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    whole = black(9, 8, 0, 8, False, 80)
    at, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    for n_rows in (8, 4):
        content = chunk(b"IDAT", zlib.compress(rows[: 10 * n_rows]))
        path.write_bytes(whole[:at] + content + whole[end:])
        if n_rows == 8:
            assert (decode_rgb(path) == 7).all()
    with pytest.raises(DataError, match=LACKS):
        decode_rgb(path)


def jpeg_tiff(height, **options):
    file = BytesIO()
    pixels = np.full((height, 48, 3), 90, np.uint8)
    Image.fromarray(pixels).save(file, "TIFF", compression="jpeg", **options)
    return bytearray(file.getvalue())


def with_tag(content, tag, value):
    """Change one number in the directory of a TIFF, little end first."""
    directory = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, directory)[0]):
        at = directory + 2 + 12 * entry
        if struct.unpack_from("<H", content, at)[0] == tag:
            content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return content


@pytest.mark.parametrize("rows_per_strip", [16, 40])
def test_a_tiff_whose_jpeg_has_fewer_rows_than_its_strip_is_refused(tmp_path, rows_per_strip):
    path = tmp_path / "a.tif"
    strips = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}
    strips["tiffinfo"][278] = rows_per_strip
    path.write_bytes(jpeg_tiff(40, **strips))
    assert decode_rgb(path).float().mean() == pytest.approx(90, abs=2)
    short = with_tag(with_tag(jpeg_tiff(32, **strips), 257, 40), 278, 40)
    path.write_bytes(short if rows_per_strip == 40 else with_tag(jpeg_tiff(38, **strips), 257, 40))
    with pytest.raises(DataError, match=LACKS):
        decode_rgb(path)


def jpeg(pixels, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def photo(height=61, width=83):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + columns / b) for a, b in ((5, 9), (11, -7), (-8, 6))]
    return (127 + 120 * np.stack(waves, 2)).astype(np.uint8)


JPEGS = {
    "whole colours": ({"subsampling": 0}, slice(None)),
    "half colours": ({"subsampling": 2}, slice(None)),
    "optimised": ({"optimize": True}, slice(None)),
    "restarts": ({"restart_marker_rows": 1}, slice(None)),
    "grey": ({}, 0),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_jpeg_cut_short_and_closed_by_an_end_marker_is_refused(tmp_path, kind, share):
    options, channels = JPEGS[kind]
    path, whole = tmp_path / "a.jpg", jpeg(photo()[..., channels], **options)
    start = whole.rindex(b"\xff\xda") + 14
    path.write_bytes(whole[: start + int(share * (len(whole) - start))] + b"\xff\xd9")
    with pytest.raises(DataError, match=LACKS):
        decode_rgb(path)


def test_a_jpeg_cut_in_the_middle_of_an_escaped_byte_is_refused(tmp_path):
    path, whole = tmp_path / "a.jpg", jpeg(photo(), quality=95)
    cuts = [at + 1 for at in range(700, len(whole) - 200) if whole[at : at + 2] == b"\xff\0"]
    assert cuts
    for at in cuts:
        path.write_bytes(whole[:at] + b"\xff\xd9")
        with pytest.raises(DataError, match=LACKS):
            decode_rgb(path)


def test_a_whole_jpeg_may_have_more_bytes_in_front_of_its_end_marker(tmp_path):
    pixels = photo()
    pixels[30:] = 128
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(pixels)[:-2] + b"\xff\xff\xff\xd9")
    assert (decode_rgb(path)[:, 48:] == 128).all()


@pytest.mark.parametrize("kind", JPEGS)
def test_a_photo_that_is_grey_below_is_read_without_a_word(tmp_path, capfd, kind):
    options, channels = JPEGS[kind]
    path, pixels = tmp_path / "a.jpg", photo()
    pixels[30:] = 128
    path.write_bytes(jpeg(pixels[..., channels], **options))
    assert (decode_rgb(path)[:, 48:] == 128).all()
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_that_pillow_does_not_read_is_not_called_cut_short(tmp_path, monkeypatch):
    grey = np.full((16, 16, 3), 128, np.uint8)
    image = torch.from_numpy(grey).permute(2, 0, 1)
    pixels = {jpeg(grey): b""}
    monkeypatch.setattr(missing_pixels, "_pixels", lambda content: pixels.get(content, b"more"))
    missing_pixels.check_end(image, jpeg(grey))
    pixels[jpeg(grey)] = b"other"
    with pytest.raises(DataError):
        missing_pixels.check_end(image, jpeg(grey))
