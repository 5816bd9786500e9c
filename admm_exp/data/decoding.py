"""Image files to pixels: every file is read right, or refused by name without harm.

An image found somewhere is data: formats that run programs are not opened, sizes are checked before
memory is taken, and no decoder sees bytes that are known to crash it.
"""

from __future__ import annotations

import functools
import importlib
import os
import stat
import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from admm_exp.data.missing_pixels import (
    PNG,
    TIFF_SAMPLE_FORMAT,
    check_chunks,
    check_end,
    check_whole,
)
from admm_exp.errors import DataError

MAX_BYTES = 2**30
"""Size of a file that is read."""
MAX_PIXELS = 2**27
"""Pixels of an image that is decoded, 0.4 GB in RGB; a file of a few bytes can claim more."""
MAX_ASPECT = 1000
"""Long over short side; resizing the short side of a longer strip would take gigabytes."""
MAX_SCANS = 100
"""Scans of a JPEG file; progressive ones have about 10, and each visits all pixels."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may open; its other formats include PostScript, for which it runs Ghostscript."""

_JPEG, _START_OF_SCAN = b"\xff\xd8", 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA), 0xFF})
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


def decode_rgb(path: Path) -> Tensor:
    """Decode an image file to uint8 (3, H, W).

    JPEG and WebP go through torchcodec if it is installed, else through torchvision, 1.3 and 2
    times faster than Pillow on photos; everything else through Pillow, because torchvision's PNG
    decoder ends the process on damaged files. Of an animation the first frame is taken, alpha is
    dropped, and grey images of more than 8 bits are scaled, see `_scaled`. Like torchvision, a
    rotation that EXIF asks for is not done, but that of a TIFF is.

    Raises:
        DataError: If the file is missing, damaged or too large, or holds numbers that are no
            brightness (negative, infinite, NaN).
    """
    require_readable(path)
    try:
        with warnings.catch_warnings():
            # torchvision announces a move to torchcodec, Pillow what it thinks of the metadata
            warnings.simplefilter("ignore")
            content = path.read_bytes()
            image = _decoded(content)
            if content.startswith(_JPEG):
                check_end(image, content)
            return image
    except DataError as error:
        raise DataError(f"{printable(path)} {error}: replace or delete it") from error
    except Exception as error:  # decoders raise anything at all on damaged bytes
        raise DataError(f"{printable(path)} could not be decoded: replace or delete it") from error


def require_readable(path: Path) -> os.stat_result:
    """Return the status of a file that can be decoded as far as its size and kind say.

    Raises:
        DataError: If it is missing, a link to nowhere, no regular file, empty or too large.
    """
    try:
        status = path.stat()
    except OSError as error:
        kind = "is a link to a file that is not there" if path.is_symlink() else "cannot be read"
        raise DataError(
            f"{printable(path)} {kind} ({error.strerror}): replace or delete it"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{printable(path)} is no regular file: replace or delete it")
    if status.st_size == 0:
        raise DataError(f"{printable(path)} is empty: replace or delete it")
    if status.st_size > MAX_BYTES:
        raise DataError(
            f"{printable(path)} must have at most {MAX_BYTES} bytes, got {status.st_size}"
        )
    return status


def printable(path: Path | str) -> str:
    r"""Return a path as text that any terminal shows, bytes that are not UTF-8 as \xNN."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _decoded(content: bytes) -> Tensor:
    if content.startswith(PNG):
        check_chunks(content)
    elif (kind := _native_kind(content)) and (decode := _native_decoder(kind)):
        try:
            image = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            return image[0] if image.ndim == 4 else image
        except RuntimeError:  # Pillow decides, it knows a few kinds more, such as animated WebP
            pass
    return _decode_with_pillow(content)


def _native_kind(content: bytes) -> str | None:
    """Return which decoder of torch's libraries may read these bytes, jpeg or webp.

    Raises:
        DataError: If the image is too large.
    """
    if content.startswith(_JPEG):
        return "jpeg" if _is_simple(content) else None
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        from PIL import Image

        with Image.open(BytesIO(content), formats=("WEBP",)) as image:
            _check_size(*image.size)
        return "webp"
    return None


@functools.cache
def _native_decoder(kind: str) -> Callable[[Tensor], Tensor] | None:
    """Return torchcodec's decoder if it is installed, else torchvision's, which is deprecated."""
    for library in ("torchcodec.decoders", "torchvision.io"):
        try:
            decoder = getattr(importlib.import_module(library), f"decode_{kind}")
        except (ImportError, OSError, RuntimeError, AttributeError):  # or its own libraries miss
            continue
        return functools.partial(decoder, mode="RGB")
    return None


def _is_simple(content: bytes) -> bool:
    """Whether the headers of a JPEG are in plain order, so that size and scans are known.

    Raises:
        DataError: If the image is too large.
    """
    at, components, is_progressive = len(_JPEG), 0, False
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _WITHOUT_LENGTH:
            return False
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", content, at + 5)
            _check_size(width, height)
            is_progressive = marker in _PROGRESSIVE
        if marker == _START_OF_SCAN:
            if is_progressive or content[at + 4] < components:
                _check_scans(content.count(b"\xff\xda", at))
            return components > 0
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"must have at most {MAX_PIXELS} pixels, got {width} x {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"must be at most {MAX_ASPECT} times as long as wide, got {width} x {height}"
        )


def _check_scans(n: int) -> None:
    if n > MAX_SCANS:
        raise DataError(f"must have at most {MAX_SCANS} scans, got {n}")


def _decode_with_pillow(content: bytes) -> Tensor:
    from PIL import Image

    try:
        opened = Image.open(BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"must have at most {MAX_PIXELS} pixels") from error
    with opened as image:
        _check_size(*image.size)
        if image.format == "GIF" and image.size != struct.unpack_from("<HH", content, 6):
            raise DataError("has a frame that lies outside of it")
        if image.format in ("JPEG", "MPO"):
            _check_scans(content.count(b"\xff\xda"))
        check_whole(image, content)
        if image.mode[0] in "IF":
            return torch.from_numpy(_scaled(image)).expand(3, -1, -1)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _scaled(image: Any) -> np.ndarray[Any, Any]:
    """Scale a grey image of more than 8 bits to uint8 (H, W).

    16 and 12 bits are scaled by their range. Integers of 32 bits and floating point numbers do not
    say their range: it is the smallest of 1 (floating point alone), 8, 16 and 32 bits that holds
    all numbers of the image.
    """
    values, tags = np.array(image), getattr(image, "tag_v2", {})
    if values.dtype == np.int32 and tags.get(TIFF_SAMPLE_FORMAT, (0,))[0] == _UNSIGNED:
        values = values.view(np.uint32)
    if not np.isfinite(values).all():
        raise DataError("holds numbers that are not finite")
    if values.min() < 0:
        raise DataError(f"holds negative numbers, down to {values.min()}")
    top = _range_of(image, tags, values)
    share = values.astype(np.float64) / top
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    return np.rint(255 * share).astype(np.uint8)


def _range_of(image: Any, tags: Any, values: np.ndarray[Any, Any]) -> float:
    if image.mode.startswith("I;16"):
        return float(2 ** tags.get(_TIFF_BITS, (16,))[0] - 1)
    if image.format == "PPM" and image.mode == "I":
        return 2.0**16 - 1
    ranges = [2.0**bits - 1 for bits in (8, 16, 32)]
    if image.mode == "F":
        ranges.insert(0, 1.0)
    elif values.dtype == np.int32:
        ranges[-1] = 2.0**31 - 1
    largest = values.max()
    fitting = [top for top in ranges if largest <= top]
    if not fitting:
        raise DataError(f"must hold numbers of at most {ranges[-1]:g}, got {largest:g}")
    return fitting[0]
