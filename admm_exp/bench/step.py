"""Rows about training and evaluation: what ADMM adds to a step."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from admm_exp.admm.state import split
from admm_exp.bench.measurement import Actions, Bench, Measurement, Target
from admm_exp.bench.network import LR, Subject, subject
from admm_exp.training.loop import Batch, cross_entropy, evaluate, train_epoch

SETTINGS = (("resnet20", 32, 128, 0.01), ("resnet18", 64, 32, 0.02))
"""Network, image size, batch size, and the share of a step that ADMM may add."""
CHEAPER = 10.0
TURN_SECONDS = 0.05
IN_THE_LOSS = "penalty in the loss"
FORMS = ("gradient", "folded", "proximal", "reduced")


class Still(SGD):
    """An optimizer whose step is its hooks alone."""

    def step(self, closure: Any = None) -> Any:
        """Leave the weights as they are."""


def steps(bench: Bench) -> Iterator[Measurement]:
    """Measure a plain step, one with ADMM and one with the penalty in the loss."""
    for name, size, batch_size, share in SETTINGS:
        made = subject(name, size, batch_size, bench.device)
        whole = _whole_steps(bench, made)
        yield whole
        row, plain = _penalties(bench, made), whole.median_seconds("plain")
        yield row.with_targets(
            *_targets(row, "gradient", plain, share), *_targets(row, "folded", plain, share)
        )


def evaluation(bench: Bench) -> Iterator[Measurement]:
    """Measure a pass of evaluation against the usual loop."""
    made = subject("resnet20", 32, 128, bench.device)
    batches = [(made.images, made.labels)] * (1 if bench.is_quick else 8)
    contiguous = subject("resnet20", 32, 128, bench.device).model
    contiguous = contiguous.to(memory_format=torch.contiguous_format)
    actions: Actions = {
        "no_grad, read every batch": partial(_usual_evaluation, contiguous, batches),
        "inference mode, read once": partial(evaluate, made.model, batches),
    }
    n_images = len(batches) * len(made.images)
    yield Measurement(
        "evaluation",
        f"evaluate {n_images} images, {made.name}",
        bench.take_turns(actions, TURN_SECONDS),
        bench.machine.seconds_for_macs(n_images * made.macs),
        "multiply-accumulates of the forward pass",
        n_images,
    )


def _whole_steps(bench: Bench, made: Subject) -> Measurement:
    """Time whole steps; a quick benchmark times the plain one alone, as the unit of the rest."""
    batches = [(made.images, made.labels)]
    plain, with_admm = made.optimizer(), made.optimizer()
    penalised = partial(_penalised_loss, penalty=_Penalty(made))
    actions: Actions = {"plain": partial(train_epoch, made.model, plain, batches)}
    if not bench.is_quick:
        actions["ADMM"] = partial(train_epoch, made.model, with_admm, batches)
        actions[IN_THE_LOSS] = partial(train_epoch, made.model, plain, batches, penalised)
    with made.constrained.penalty(with_admm):
        with_admm.step()  # so that the hook has run, whatever is measured
        seconds = bench.take_turns(actions, TURN_SECONDS)
    return Measurement(
        f"step_{made.name.partition(',')[0]}",
        f"a training step, {made.name}",
        seconds,
        bench.machine.seconds_for_macs(3 * made.macs * len(made.images)),
        "multiply-accumulates of forward and backward pass",
        len(made.images),
    )


def _penalties(bench: Bench, made: Subject) -> Measurement:
    """Time what ADMM adds to a step: the hooks around an optimizer that does nothing."""
    for parameter in made.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    penalty = _Penalty(made)
    actions: Actions = {IN_THE_LOSS: lambda: penalty().backward()}
    with ExitStack() as stack:
        for form in FORMS:
            optimizer = Still(made.model.parameters(), LR, momentum=0.9)
            stack.enter_context(made.constrained.penalty(optimizer, form))
            actions[form] = optimizer.step
        seconds = bench.take_turns(actions, TURN_SECONDS)
    return Measurement(
        f"penalty_{made.name.partition(',')[0]}",
        f"what the penalty on {made.n_constrained:,} weights adds to a step",
        seconds,
        bench.machine.seconds_for_bytes(12 * made.n_constrained),
        "12 bytes a weight: two tensors read, one written",
    )


def _targets(
    row: Measurement, form: str, plain_seconds: float, share: float
) -> tuple[Target, Target]:
    """Require that a form adds little to a step, and much less than the loss form does."""
    return (
        Target(f"{form}, share of a plain step", row.median_seconds(form) / plain_seconds, share),
        Target(
            f"{form}, times cheaper than in the loss",
            1 / row.ratio(form),
            CHEAPER,
            is_lower_bound=True,
        ),
    )


class _Penalty:
    """rho/2 * ||W - Z + U||^2 as a loss, as most ADMM pruners train it."""

    def __init__(self, made: Subject) -> None:
        constrained, model = made.constrained, made.model
        self._slices = [(s, model.get_parameter(s.parameter)) for s in constrained.slices]
        Z, U = split(constrained.state, constrained.constraint)
        self._rest = list(zip(Z, U, strict=True))
        self._rho = constrained.rho

    def __call__(self) -> Tensor:
        W = [part.of(parameter) for part, parameter in self._slices]
        pairs = zip(W, self._rest, strict=True)
        return self._rho / 2 * torch.stack([(w - z + u).pow(2).sum() for w, (z, u) in pairs]).sum()


def _penalised_loss(logits: Tensor, labels: Tensor, images: Tensor, penalty: _Penalty) -> Tensor:
    return cross_entropy(logits, labels, images) + penalty()


@torch.no_grad()
def _usual_evaluation(model: nn.Module, batches: list[Batch]) -> float:
    model.eval()
    correct, loss, n = 0, 0.0, 0
    for images, labels in batches:
        logits = model(images)
        loss += F.cross_entropy(logits, labels).item() * len(labels)
        correct += int((logits.argmax(dim=1).cpu() == labels.cpu()).sum())
        n += len(labels)
    return correct / n
