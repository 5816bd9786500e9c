"""The support matrix: networks of torchvision and timm planned, pruned, cut and exported.

python -m admm_exp.bench.support_matrix                    # all, about an hour on one core
python -m admm_exp.bench.support_matrix resnet18 vit_b_16  # some
python -m admm_exp.bench.support_matrix --library timm     # a small network of every family
python -m admm_exp.bench.support_matrix timm/deit_tiny_patch16_224
"""

import argparse
import copy
import multiprocessing
import re
import resource
import signal
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time

import torch
from torch import Tensor, nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.bench.support_table import Examined, as_line, as_markdown
from admm_exp.bench.timm_families import FAMILIES, accepts, smallest_size, timm_network
from admm_exp.errors import AdmmExpError
from admm_exp.models.torchvision_zoo import (
    classifier_names,
    smallest_input,
    torchvision_model,
)
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.pruning.surgery.groups import KeptGroup
from admm_exp.pruning.surgery.randomised import randomise_
from admm_exp.pruning.surgery.surgery import compare
from admm_exp.tracking.provenance import ask_git

CLASSES, SPARSITY, TOLERANCE = 10, 0.5, 1e-5
TIMM = "timm/"
OUTPUTS = "its channels are the output of the network"
COPIES = 6
"""Times that the parameters lie in memory at the worst moment."""

_NUMBERS = re.compile(r"(?<=\.)\d+(?=[. )]|$)")


def examine(name: str, memory_bytes: float) -> Examined:
    """Plan, one penalised step, one Z and U update, cut, forward, backward and export.

    Args:
        name: Torchvision's name of a classifier, or timm's behind `timm/`.
        memory_bytes: What the process may take; repeated blocks beyond that are left out.
    """
    torch.manual_seed(0)
    model, pixels, left_out = _build(name, memory_bytes)
    inputs = torch.randn(2, 3, pixels, pixels)
    start = process_time()
    try:
        constrained = ConstrainedModel(
            model, inputs[:1], sparsity=SPARSITY, metric=L2Norm(), rho=1e-3
        )
        plan_seconds = process_time() - start
        _admm_iteration(constrained, inputs)
        masked = constrained.removal().masked()
        small, _ = constrained.removal().finish(inputs)
        relative = compare(masked, small, inputs, TOLERANCE).relative
        del masked
        _use(small, inputs)
    except AdmmExpError as error:
        return Examined(name, f"refused: {error}", pixels, left_out)
    macs = [count_cost(network, inputs[:1]).macs for network in (model, small)]
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model, small)]
    return Examined(
        network=name,
        result="ok" if relative < TOLERANCE else f"wrong: outputs differ by {relative:.1e}",
        pixels=pixels,
        layers_left_out=left_out,
        groups=len(constrained.groups),
        kept=len(constrained.prunable.kept),
        params=sizes[0],
        params_left=sizes[1] / sizes[0],
        macs=macs[0],
        macs_removed=1.0 - macs[1] / macs[0],
        difference=relative,
        plan_seconds=plan_seconds,
        total_seconds=process_time() - start,
        kept_whole=_told(constrained.prunable.kept),
    )


def _told(kept: Sequence[KeptGroup]) -> str:
    """Say once what stayed whole for one reason, with the first layer and how many others."""
    alike: dict[str, list[str]] = {}
    for group in kept:
        if group.reason != OUTPUTS:
            reason = _NUMBERS.sub("#", group.reason)
            alike.setdefault(reason, []).append(group.name)
    return "; ".join(
        f"{names[0]}{f' and {len(names) - 1} like it' if len(names) > 1 else ''}: {reason}"
        for reason, names in alike.items()
    )


def _build(name: str, memory_bytes: float) -> tuple[nn.Module, int, int]:
    is_timm = name.startswith(TIMM)
    network = name.removeprefix(TIMM)
    model = timm_network(network, CLASSES) if is_timm else torchvision_model(network, CLASSES)
    pixels = smallest_size(model) if is_timm else smallest_input(network)
    left_out = 0
    if COPIES * sum(p.nbytes for p in model.parameters()) > memory_bytes:
        smaller = copy.deepcopy(model)
        left_out = _leave_out_repeated_(smaller)
        if is_timm and not accepts(smaller, pixels):  # its code counts on all blocks
            left_out = 0
        else:
            model = smaller
    return randomise_(model), pixels, left_out


def _leave_out_repeated_(model: nn.Module) -> int:
    """Drop blocks that look like the one before them, so that widths and kinds stay the same."""
    left_out = 0
    for module in list(model.modules()):
        if not isinstance(module, nn.Sequential | nn.ModuleList):
            continue
        blocks = list(module.named_children())
        for (_, before), (key, block) in pairwise(blocks):
            shapes = [[p.shape for p in b.parameters()] for b in (before, block)]
            if shapes[0] and shapes[0] == shapes[1] and len(list(block.children())) > 1:
                module._modules.pop(key)
                left_out += 1
        if isinstance(module, nn.ModuleList):  # which counts from 0
            left = list(module._modules.values())
            module._modules = {str(i): block for i, block in enumerate(left)}
    return left_out


def _admm_iteration(constrained: ConstrainedModel, inputs: Tensor) -> None:
    optimizer = torch.optim.SGD(constrained.model.parameters(), 1e-4)
    with constrained.penalty(optimizer):
        _loss(constrained.model.train(), inputs).backward()
        # a batch norm of two equal numbers has gradients of 1e8, which would end in NaN
        nn.utils.clip_grad_norm_(constrained.model.parameters(), 1.0)
        optimizer.step()
    optimizer.zero_grad()
    constrained.update()


def _use(small: nn.Module, inputs: Tensor) -> None:
    _loss(small.train(), inputs).backward()
    if not all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters()):
        raise AdmmExpError("a parameter of the cut network has no gradient")
    small.zero_grad()
    program = torch.export.export(small.eval(), (inputs,)).module()
    with torch.no_grad():
        if not torch.allclose(program(inputs), small(inputs), rtol=1e-3, atol=1e-3):
            raise AdmmExpError("the exported network computes something else")


def _loss(model: nn.Module, inputs: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs), torch.arange(len(inputs)) % CLASSES)


def examine_apart(name: str, limit_seconds: float, memory_bytes: float) -> Examined:
    """Examine a network in a process of its own, with a limit on its processor time."""
    fresh = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process with threads may wait for ever
    receiver, sender = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_send_row, args=(sender, name, limit_seconds, memory_bytes))
    process.start()
    sender.close()
    try:
        row: Examined = receiver.recv()
    except EOFError:
        row = Examined(name, "fails: the process died")
    process.join()
    if process.exitcode == -signal.SIGXCPU:
        return Examined(name, f"hangs: not done after {limit_seconds:.0f} s")
    return row


def _send_row(sender: Connection, name: str, limit_seconds: float, memory_bytes: float) -> None:
    torch.set_num_threads(1)
    seconds = int(process_time() + limit_seconds) + 1  # the imports do not count
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sender.send(examine(name, memory_bytes))
    except Exception as error:  # a row of the table, whatever breaks
        reason = (str(error).splitlines() or [""])[0]
        sender.send(Examined(name, f"fails: {type(error).__name__}: {reason}"))


def _origin(networks: Sequence[str], library: str, memory_gb: float) -> str:
    """Say what was run, when, and on which commit."""
    asked = " ".join(networks) or f"--library {library}"
    commit = ask_git("rev-parse", "--short", "HEAD") or "an unknown commit"
    return (
        f"`python -m admm_exp.bench.support_matrix {asked} --memory-gb {memory_gb:g}` "
        f"on {date.today()} at {commit}, one thread."
    )


def main() -> None:
    """Write the table; every network runs in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks",
        nargs="*",
        help="torchvision's names, or timm/NAME; all of the library if none is given",
    )
    parser.add_argument("--library", choices=["torchvision", "timm"], default="torchvision")
    parser.add_argument("--output", type=Path, help="markdown file to write")
    parser.add_argument("--limit-seconds", type=float, default=300.0)
    parser.add_argument("--memory-gb", type=float, default=2.5)
    options = parser.parse_args()
    rows = []
    origin = _origin(options.networks, options.library, options.memory_gb)
    timm_names = [TIMM + name for name in FAMILIES.values()]
    for name in options.networks or (
        timm_names if options.library == "timm" else classifier_names()
    ):
        rows.append(examine_apart(name, options.limit_seconds, options.memory_gb * 1e9))
        print(as_line(rows[-1]), flush=True)
        if options.output is not None:
            options.output.write_text(as_markdown(rows, origin))


if __name__ == "__main__":
    main()
