"""Gradients of several processes, averaged while the backward pass still computes the others."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.training.distribution import averaged, calling, world_size

BUCKET_BYTES = 25_000_000
"""Gradients sent together: fewer bytes wait for each other less and cost more messages."""


def average_gradients(optimizer: Optimizer) -> Optimizer:
    """Make an optimizer step along the average of all processes' gradients.

    What is averaged are the gradients that the step finds. Those that a single backward pass left
    are sent as soon as a bucket of them is there; a bucket that more than one pass added to, or
    that anybody changed meanwhile, is sent at the step. Hooks run in the order in which they were
    added: what adds a penalty to the gradients comes later and is not sent.
    """
    if world_size() > 1:
        optimizer.register_step_pre_hook(_Average(optimizer).at_step)
    return optimizer


@dataclass
class _Bucket:
    """Parameters whose gradients are sent together, and what was sent since the last step."""

    parameters: list[nn.Parameter]
    arrived: int = 0
    versions: list[int] = field(default_factory=list)
    flat: Tensor | None = None
    work: Any = None

    def gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def send(self) -> None:
        gradients = self.gradients()
        self.versions = _states(gradients)
        self.flat = _flat(gradients)
        with calling():
            self.work = dist.all_reduce(self.flat, async_op=True)

    def received(self) -> bool:
        """Put the average into the gradients; False if they are not what was sent."""
        if self.work is None or self.flat is None:
            return False
        with calling():
            self.work.wait()
        gradients = self.gradients()
        is_as_sent = self.arrived == len(self.parameters) and self.versions == _states(gradients)
        if is_as_sent:
            self.flat /= world_size()
            _spread(self.flat, gradients)
        return is_as_sent

    def forget(self) -> None:
        self.arrived, self.versions, self.flat, self.work = 0, [], None, None


class _Average:
    """The buckets of an optimizer, in the order in which a backward pass fills them."""

    def __init__(self, optimizer: Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        learnt = [parameter for parameter in reversed(parameters) if parameter.requires_grad]
        self._buckets = [_Bucket(some) for some in _buckets(learnt)]
        self._sent = 0
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(_telling(self, bucket))

    def arrived(self, bucket: _Bucket) -> None:
        """Send what is complete, in one order in all processes."""
        bucket.arrived += 1
        while self._sent < len(self._buckets):
            following = self._buckets[self._sent]
            if following.arrived < len(following.parameters):
                return
            following.send()
            self._sent += 1

    def at_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Let all gradients be the average."""
        done = [bucket.received() for bucket in self._buckets]
        known = {id(p) for bucket in self._buckets for p in bucket.parameters}
        every = [p for group in optimizer.param_groups for p in group["params"]]
        rest = [p.grad for p in every if id(p) not in known and p.grad is not None]
        for bucket, is_done in zip(self._buckets, done, strict=True):
            rest += [] if is_done else bucket.gradients()
            bucket.forget()
        self._sent = 0
        if rest:
            _spread(averaged(_flat(rest)), rest)


def _telling(average: _Average, bucket: _Bucket) -> Callable[[Tensor], None]:
    """Make the hook of a parameter, which may live longer than the optimizer."""
    alive = weakref.ref(average)

    def hook(_: Tensor) -> None:
        found = alive()
        if found is not None:
            found.arrived(bucket)

    return hook


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    some: list[nn.Parameter] = []
    for parameter in parameters:
        some.append(parameter)
        if sum(p.nbytes for p in some) >= BUCKET_BYTES:
            yield some
            some = []
    if some:
        yield some


def _states(gradients: Sequence[Tensor]) -> list[int]:
    """Tell which gradients they are, and how often each was changed."""
    return [number for g in gradients for number in (id(g), g._version)]


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def _spread(flat: Tensor, gradients: Sequence[Tensor]) -> None:
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(mean.view(gradient.shape))
