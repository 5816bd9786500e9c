"""Images that lack a part of their pixels, which decoders would read as black or grey."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING, Any

from admm_exp.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

PNG = b"\x89PNG\r\n\x1a\n"
TIFF_SAMPLE_FORMAT = 339
LACKING = "lacks a part of its pixels"

_PALETTE = 3
_CHANNELS = {0: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}
"""Numbers a pixel, by the colour type of a PNG."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_INTERLACED = (*_PASSES, (0, 1, 1, 2))
"""First column and row of every pass of Adam7, and its steps."""
_PLAIN = ((0, 0, 1, 1),)
_INFLATED_AT_ONCE = 2**20

_TIFF_PLANAR, _SEPARATE, _SIGNED = 284, 2, 2
_TIFF_COMPRESSION, _TIFF_JPEG = 259, 7
_TIFF_STRIPS, _TIFF_ROWS_PER_STRIP, _TIFF_TILES, _TIFF_TILE_ROWS = 273, 278, 324, 323
_JPEG_END, _JPEG_GREY, _MORE_NUMBERS = b"\xff\xd9", [128] * 3, bytes(range(1, 255)) * 4
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_chunks(content: bytes) -> None:
    """Compare the checksum of every PNG chunk that decides pixels; Pillow skips those of IDAT.

    Raises:
        ValueError: If one differs or the file ends too early.
    """
    kinds = set()
    for kind, start, end in _chunks(content):
        kinds.add(kind)
        if kind == b"IDAT" and content[25] == _PALETTE and b"PLTE" not in kinds:
            raise ValueError("the palette is missing")
        is_critical = not kind[0] & 0x20
        if is_critical and content[end : end + 4] != _checksum(content[start - 4 : end]):
            raise ValueError(f"the checksum of {kind!r} differs")


def check_whole(image: Any, content: bytes) -> None:
    """Refuse what Pillow would read as black: pixels and colours of a palette that are not there.

    Args:
        image: As Pillow opened it.
        content: The file.

    Raises:
        DataError: If a part is missing, or 8 bits are signed and negative.
    """
    if image.format == "TIFF":
        _check_tiff(image, content)
    if image.format == "PNG" and _ends_in_black(image) and not _is_whole(content):
        raise DataError(LACKING)
    if image.format in ("PNG", "BMP") and image.mode == "P":
        largest, (order, colours) = image.getextrema()[1], image.palette.getdata()
        n = len(colours) // len(order)
        if largest >= n:
            raise DataError(f"holds the colour {largest} of a palette of {n}")


def check_end(image: Tensor, content: bytes) -> None:
    """Refuse a JPEG that was cut short and closed by an end marker: what is missing reads as grey.

    Where its last pixel is that grey, it is decoded once more with numbers in front of the marker:
    of a whole file nothing reads them. (By Pillow, which is silent about them.)

    Args:
        image: (3, H, W) as it was decoded.
        content: The file.

    Raises:
        DataError: If a part is missing.
    """
    if image[:, -1, -1].tolist() != _JPEG_GREY:
        return
    marker = content.rfind(_JPEG_END)
    at = len(content[:marker].rstrip(b"\xff"))  # a marker may have more of these in front
    pair = _pixels(content), _pixels(content[:at] + _MORE_NUMBERS + content[at:])
    if all(pair) and pair[0] != pair[1]:
        raise DataError(LACKING)


def _pixels(content: bytes) -> bytes:
    """Decode a JPEG; empty where that fails."""
    from PIL import Image

    with suppress(Exception), Image.open(BytesIO(content), formats=("JPEG",)) as image:
        return image.tobytes()
    return b""


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """List kind, start and end of what the chunks of a PNG hold, the last one included."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        if at + 12 > len(content):
            raise ValueError("the file is cut off")
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def _checksum(part: bytes) -> bytes:
    return zlib.crc32(part).to_bytes(4, "big")


def _ends_in_black(image: Any) -> bool:
    """Whether the row is zero that is decoded last; where it is not, all rows are there.

    Pillow takes a row when it has all of it, and inflating twice would cost half as much again.
    """
    last = image.height - 1
    if image.info.get("interlace"):
        last -= image.height % 2  # rows of odd number are those of the last pass
    if last < 0:
        return True
    return image.crop((0, last, image.width, last + 1)).tobytes().strip(b"\0") == b""


def _is_whole(content: bytes) -> bool:
    """Inflate a PNG, no further than to its last row and without keeping it, to see all rows."""
    inflate, n_left = zlib.decompressobj(), _n_bytes(content)
    for kind, start, end in _chunks(content):
        left = content[start:end] if kind == b"IDAT" else b""
        while left and n_left > 0:
            n_left -= len(inflate.decompress(left, _INFLATED_AT_ONCE))
            left = inflate.unconsumed_tail
    return n_left <= 0


def _n_bytes(content: bytes) -> int:
    """Count the bytes that all rows of a PNG take, with the one before each that names a filter."""
    width, height, bits, colour, *_, is_interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    n_bytes = 0
    for x, y, step_x, step_y in _INTERLACED if is_interlaced else _PLAIN:
        columns, rows = ceil((width - x) / step_x), ceil((height - y) / step_y)
        if columns > 0 and rows > 0:
            n_bytes += rows * (1 + ceil(columns * bits * _CHANNELS[colour] / 8))
    return n_bytes


def _check_tiff(image: Any, content: bytes) -> None:
    tags = image.tag_v2
    covered = sum((tile[1][2] - tile[1][0]) * (tile[1][3] - tile[1][1]) for tile in image.tile)
    is_planar = tags.get(_TIFF_PLANAR, 1) == _SEPARATE and image.tile[0][0] == "raw"
    layers = len(image.getbands()) if is_planar else 1
    if covered < image.size[0] * image.size[1] * layers:
        raise DataError(LACKING)
    if tags.get(_TIFF_COMPRESSION) == _TIFF_JPEG:
        _check_jpegs(tags, image.height, content)
    is_signed = _SIGNED in tags.get(TIFF_SAMPLE_FORMAT, ())
    if is_signed and image.mode == "L" and image.getextrema()[1] > 127:
        raise DataError("holds negative numbers")


def _check_jpegs(tags: Any, height: int, content: bytes) -> None:
    """Compare the rows of every JPEG in a TIFF with those of its strip or tile."""
    if _TIFF_TILES in tags:
        asked = [tags[_TIFF_TILE_ROWS]] * len(tags[_TIFF_TILES])
    else:
        rows = min(tags.get(_TIFF_ROWS_PER_STRIP, height), height)
        n_strips = ceil(height / rows)  # of one colour, where the colours stand apart
        firsts = (rows * (index % n_strips) for index in range(len(tags[_TIFF_STRIPS])))
        asked = [min(rows, height - first) for first in firsts]
    for start, n_rows in zip(tags.get(_TIFF_TILES, tags.get(_TIFF_STRIPS)), asked, strict=True):
        if _jpeg_height(content, start) < n_rows:
            raise DataError(LACKING)


def _jpeg_height(content: bytes, start: int) -> int:
    """Return the rows of the JPEG that begins there; 0 if it is none."""
    at = start + 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in _JPEG_FRAMES:
            return int.from_bytes(content[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return 0
