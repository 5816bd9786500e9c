"""One seed for every random generator, and their states as tensors."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on all devices, and ask cuDNN for deterministic kernels.

    Args:
        seed: In [0, 2**32), which is what NumPy takes.

    Raises:
        ValueError: The seed is outside that range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def rng_state() -> dict[str, Tensor]:
    """Read the states of all generators.

    Returns:
        One CPU tensor per generator part, copies, fit for a file without pickle. The keys are
        `python`, `python_gauss`, `numpy`, `numpy_gauss`, `torch`, one `cuda:i` per GPU, and `mps`.
    """
    _, python_words, python_gauss = random.getstate()
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)
    mersenne_twister = numpy_state["state"]
    state = {
        "python": torch.tensor(python_words, dtype=torch.int64),
        "python_gauss": _optional_number(python_gauss),
        "numpy": torch.tensor(
            [*mersenne_twister["key"].tolist(), mersenne_twister["pos"]], dtype=torch.int64
        ),
        "numpy_gauss": _optional_number(numpy_state["gauss"] if numpy_state["has_gauss"] else None),
        "torch": torch.get_rng_state(),
    }
    for index in range(torch.cuda.device_count()):
        state[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng_state(state: dict[str, Tensor]) -> None:
    """Set all generators to a state that `rng_state` read.

    A run may go on on another device: states of devices that this machine lacks are left out,
    and so are devices that the state says nothing about.

    Args:
        state: As `rng_state` returns it.

    Raises:
        KeyError: The state of a generator that every machine has is missing.
        ValueError: A state is damaged.
    """
    python_words = tuple(state["python"].tolist())
    python_gauss = next(iter(state["python_gauss"].tolist()), None)
    random.setstate((random.getstate()[0], python_words, python_gauss))
    *numpy_words, position = state["numpy"].tolist()
    if not 0 <= position <= len(numpy_words):  # NumPy would read past the words
        raise ValueError(f"NumPy's generator has no position {position}")
    numpy_gauss = state["numpy_gauss"].tolist()
    words = np.array(numpy_words, dtype=np.uint32)
    np.random.set_state(("MT19937", words, position, len(numpy_gauss), *(numpy_gauss or [0.0])))
    torch.set_rng_state(state["torch"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda:{index}"], index)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def _optional_number(number: float | None) -> Tensor:
    # Empty for None: both generators keep the second of a pair of Gaussians until it is asked for.
    return torch.tensor([] if number is None else [number], dtype=torch.float64)
