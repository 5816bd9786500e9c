"""How a training step computes: number format, and whether the network is compiled."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.errors import ConfigError
from admm_exp.training.optimizer import gradients_of

Forward = Callable[[Tensor], Any]
SCALING = ("scale", "_growth_tracker")
"""What changes in a scaler from step to step: its factor, and the steps since it last changed."""
REPLAYED = {"reduce-overhead", "max-autotune"}
"""Modes of torch.compile that record CUDA graphs: a replay writes where the one before wrote."""
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_scalers: WeakKeyDictionary[Optimizer, torch.amp.GradScaler] = WeakKeyDictionary()
"""One for each optimizer that steps in fp16, so that no phase depends on those before it."""


class Stepping:
    """Forward passes, backward passes and optimizer steps in one number format.

    Weights, optimizer and ADMM state stay float32 in every format. Gradients of fp16 are scaled up
    and unscaled before the optimizer's step, so its hooks, the penalty among them, see them in
    their own size; a step whose gradients overflowed is left out whole.

    Args:
        precision: "float32", "tf32" (as `use_precision` has set the device), "bf16" or "fp16".
        compile_mode: Mode in which torch.compile builds the forward and backward pass of every
            network at its first step; None for none. The network itself is left as it is: what is
            saved, cut or loaded knows nothing of it.
        accumulation: Batches whose gradients are averaged into one step, at least 1.
    """

    def __init__(
        self, precision: str = "float32", compile_mode: str | None = None, accumulation: int = 1
    ) -> None:
        self.accumulation = accumulation
        self._half = HALVES.get(precision)
        self._is_scaled = precision == "fp16"
        self._compile_mode = compile_mode
        self._is_replayed = compile_mode in REPLAYED
        self._compiled: dict[nn.Module, Forward] = {}

    def forward_of(self, model: nn.Module) -> Forward:
        """Return what computes the forward pass of a network and shares its parameters."""
        if self._compile_mode is None:
            return model
        if model not in self._compiled:
            # After 8 shapes torch runs the code of a class eagerly: those of earlier networks go.
            torch.compiler.reset()
            made = torch.compile(model, mode=self._compile_mode)
            self._compiled[model] = _marked(made) if self._is_replayed else made
        return self._compiled[model]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Compute in the number format, inside the `with` block."""
        return torch.autocast(device.type, self._half) if self._half else nullcontext()

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Add the gradients of a loss to those that wait for the optimizer's step."""
        (_scaler_of(optimizer).scale(loss) if self._is_scaled else loss).backward()
        if self._is_replayed and self.accumulation > 1:
            _keep_gradients(optimizer)

    def step(self, optimizer: Optimizer, n_batches: int = 1) -> None:
        """Step an optimizer along the mean of the gradients of some batches."""
        if self._is_scaled:  # a fused optimizer would do it after its hooks
            _scaler_of(optimizer).unscale_(optimizer)
        if n_batches > 1:
            torch._foreach_div_(gradients_of(optimizer), n_batches)
        if not self._is_scaled:
            optimizer.step()
            return
        scaler = _scaler_of(optimizer)
        scaler.step(optimizer)
        scaler.update()


def _keep_gradients(optimizer: Optimizer) -> None:
    """Copy the gradients out of the memory that the next replay writes to."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()


def _marked(compiled: Forward) -> Forward:
    """Let every batch begin a replay, whatever is still held of the batch before."""

    def forward(images: Tensor) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(images)

    return forward


def scaler_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """Read how fp16 scales the gradients of an optimizer's next step; empty in other formats."""
    if optimizer not in _scalers:
        return {}
    state = _scalers[optimizer].state_dict()
    return {name: torch.tensor(state[name], dtype=torch.float64) for name in SCALING}


def restore_scaler(optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    """Scale the gradients of an optimizer's next step as `scaler_state` found it.

    Raises:
        KeyError: A number is missing.
    """
    if state:
        scaler = _scaler_of(optimizer)
        scale, steps = (state[name].item() for name in SCALING)
        known = {SCALING[0]: scale, SCALING[1]: int(steps)}
        scaler.load_state_dict(scaler.state_dict() | known)


def _scaler_of(optimizer: Optimizer) -> torch.amp.GradScaler:
    if optimizer not in _scalers:
        device = optimizer.param_groups[0]["params"][0].device
        _scalers[optimizer] = torch.amp.GradScaler(device.type)
    return _scalers[optimizer]


PLAIN = Stepping()
"""float32, eager."""


def use_precision(precision: str, device: torch.device) -> None:
    """Check that a device computes in a number format, and set how its GPU multiplies float32.

    Args:
        precision: "float32" (every product in full), "tf32", "bf16" or "fp16".
        device: Where training takes place.

    Raises:
        ConfigError: If the device cannot, or would only emulate it.
    """
    is_cuda = device.type == "cuda"
    if precision in {"tf32", "fp16"} and not is_cuda:
        raise ConfigError(
            f"trainer.precision={precision} needs a CUDA GPU, got device {device}: "
            "take trainer.precision=float32"
        )
    if precision == "bf16" and not _has_bf16(device):
        raise ConfigError(
            f"trainer.precision=bf16 is emulated on this {device.type}, about 20 times slower than "
            "float32: take trainer.precision=float32"
        )
    if is_cuda:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
