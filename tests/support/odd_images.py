"""Small image files of every kind that is read, to be damaged."""

import zlib
from io import BytesIO

import numpy as np
from PIL import Image

GREY = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def image_files() -> list[bytes]:
    """Encode a picture in 24 ways."""
    colour, grey = Image.fromarray(RGB), Image.fromarray(GREY)
    palette, deep = colour.quantize(16), Image.fromarray(GREY.astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [colour.rotate(90)]}
    return [
        *(_encoded(colour, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")),
        *(_encoded(palette, kind) for kind in ("PNG", "GIF", "BMP")),
        *(_encoded(deep, kind) for kind in ("PNG", "PPM", "TIFF")),
        *(_encoded(colour, kind, **frames) for kind in ("PNG", "GIF", "WEBP")),
        *(_encoded(colour, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "packbits")),
        _encoded(grey.convert("1"), "TIFF", compression="group4"),
        _encoded(colour, "JPEG", progressive=True),
        _encoded(colour.convert("CMYK"), "JPEG"),
        _encoded(colour, "WEBP", lossless=True),
        _encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
        _encoded(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"),
    ]


def with_checksums(content: bytes) -> bytes:
    """Give the chunks of a damaged PNG the checksums of what they hold now."""
    mended, at = bytearray(content), 8
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4], "big")
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended[: len(content)])


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
