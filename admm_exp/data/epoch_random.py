"""Random numbers that depend on the seed and the epoch alone."""

import hashlib

import torch


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a CPU generator whose numbers are a pure function of (seed, epoch).

    The pair is hashed because torch's CPU generator reads the low 32 bits of its seed only, and
    because `seed + epoch` would give neighbouring seeds the same epochs.
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
