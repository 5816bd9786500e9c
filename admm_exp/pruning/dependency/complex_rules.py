"""How channels go through complex numbers and Fourier transforms."""

from typing import Any

from admm_exp.pruning.dependency.flow import Flow


def paired(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Read pairs of numbers along the last dimension as complex ones: pairs stay together."""
    codes = flow.codes(args[0])
    if codes is None:
        return None
    if codes.shape[-1] > 1:
        flow.takes_apart(codes)
        first = codes.narrow(-1, 0, 1)
        codes = flow.labels.unite(codes, first).narrow(-1, 0, 1)
    return codes.squeeze(-1)


def parted(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Read complex numbers as pairs along a new last dimension."""
    codes = flow.codes(args[0])
    return None if codes is None else codes.unsqueeze(-1)


def transformed(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Transform along dimensions, each channel by itself."""
    codes = flow.codes(args[0])
    if codes is not None and any(codes.shape[dim] > 1 for dim in args[1]):
        flow.keep(codes, f"{flow.here} mixes its channels")
        return None
    return codes


COMPLEX: dict[str, Any] = {
    "view_as_complex": paired,
    "view_as_real": parted,
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), transformed),
}
"""Operation -> how channels go through it."""
