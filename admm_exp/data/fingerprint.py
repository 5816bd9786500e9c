"""Digest of a data set, the part of a cache key that stands for the data."""

import hashlib

from torch import Tensor


def fingerprint(*parts: Tensor | str) -> str:
    """Return the SHA-256 hex digest of tensors (dtype, shape, values) and texts, in order.

    Args:
        parts: CPU tensors of any shape, and texts such as the preprocessing in words.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            # the length in front keeps ("ab", "c") and ("a", "bc") apart
            # names of files need not be UTF-8
            digest.update(f"text {len(part)} {part}".encode("utf-8", "surrogateescape"))
        else:
            digest.update(f"tensor {part.dtype} {tuple(part.shape)} ".encode())
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
