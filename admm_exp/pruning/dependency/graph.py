"""The channel groups of a network, read off its flow of labels."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from admm_exp.errors import AdmmExpError, ModelError
from admm_exp.pruning.dependency.checks import first_line, not_accepted
from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.forward import follow
from admm_exp.pruning.dependency.inputs import call
from admm_exp.pruning.dependency.labels import label_of
from admm_exp.pruning.dependency.operation_rules import operation
from admm_exp.pruning.dependency.rows import by_group, roots_of
from admm_exp.pruning.dependency.rules import LAYER_RULES
from admm_exp.pruning.dependency.sketch import NumbersRead
from admm_exp.pruning.dependency.ties import Tied, Ties
from admm_exp.pruning.dependency.traced import NOWHERE, Site, Split, TracedGroup

T = TypeVar("T")


def trace_groups(
    model: nn.Module,
    example_input: Any,
    alternatives: frozenset[str] = frozenset(),
    *,
    by_head: bool = False,
) -> list[TracedGroup]:
    """Find the channel groups of a network.

    Labels run beside the numbers, one per channel that a layer makes: operations that move
    entries move labels, element-wise ones unite them, layers read and make them. Layers that run
    in training mode alone (auxiliary heads) are seen in a second pass.

    Args:
        model: The network; left in the mode and with the buffers it had.
        example_input: Inputs that the network accepts.
        alternatives: Layers whose reshapes keep channels apart along another dimension than the
            usual one.
        by_head: Whether these keep heads apart.

    Raises:
        ModelError: If the network does not accept the example input or cannot be followed.
    """
    where = model, example_input, alternatives, by_head
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _untouched(model):
                flow = _followed(*where, is_sketched=True)
        except (Exception, NumbersRead):
            with _untouched(model):
                flow = _run(*where)
    flow.settle()
    return _Groups(flow).describe()


def _run(model: nn.Module, example_input: Any, alternatives: frozenset[str], by_head: bool) -> Flow:
    """Follow the network; once more without opening its objects, which it may compare or share."""
    where = model, example_input, alternatives, by_head
    try:
        try:
            return _followed(*where, is_sketched=False)
        except Exception:
            return _followed(*where, is_sketched=False, opens=False)
    except Exception as error:  # whatever breaks on an unknown network
        _check_forward(model, example_input)
        raise ModelError(
            f"the channels of the model cannot be followed "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def _followed(
    model: nn.Module,
    example_input: Any,
    alternatives: frozenset[str],
    by_head: bool,
    *,
    is_sketched: bool,
    opens: bool = True,
) -> Flow:
    flow = Flow(model, alternatives, is_sketched=is_sketched, by_head=by_head)
    follow(flow, example_input, LAYER_RULES, operation, opens=opens)
    if any(name not in flow.met for name, _ in model.named_parameters()):
        model.train()
        try:
            follow(flow, example_input, LAYER_RULES, operation)
        except Exception:  # branches that cannot run stay unseen, as they do in evaluation mode
            if is_sketched:
                raise
            model.eval()
    return flow


class _Groups:
    """Units and groups from the rows that layers share."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.reasons = flow.labels.reasons()
        order = {name: i for i, (name, _) in enumerate(flow.model.named_modules())}
        self.makers = sorted(flow.makers, key=lambda maker: order[maker[0]])
        self.roots = roots_of(flow.labels, flow.rows)
        self.groups = Ties(flow, self.makers, self.roots).groups()
        size = int(label_of(flow.labels.fresh(1))) + 1
        self.group_of = torch.full((size,), NOWHERE)
        self.unit_of = torch.full((size,), NOWHERE)
        for position, group in enumerate(self.groups):
            index = torch.tensor(group.labels, dtype=torch.int64)
            self.group_of[index] = position
            self.unit_of[index] = torch.arange(len(index))

    def describe(self) -> list[TracedGroup]:
        sites = self._sites()
        splits, choices = self._splits(), self._choices()
        names: list[str] = []
        described = []
        for position, group in enumerate(self.groups):
            producers = tuple(dict.fromkeys(layer or tensor for layer, tensor, _ in group.makers))
            names.append(_name(group, names))
            n_units = len(group.labels)
            reason = self._kept(group) or self._single(group)
            reason = reason or _uneven(sites[position], n_units) or group.reason
            if reason is not None:
                n_units = self.flow.makers[group.makers[0]]
            described.append(
                TracedGroup(
                    name=names[-1],
                    producers=producers,
                    n_units=n_units,
                    n_blocks=1 if reason else group.n_blocks,
                    sites=tuple(sites[position]),
                    splits=tuple(splits[position]),
                    choices=tuple(choices[position]),
                    reason=reason,
                )
            )
        matches = self._matches()
        found = [
            replace(group, matches=tuple(names[i] for i in sorted(matches[position])))
            for position, group in enumerate(described)
        ]
        return found + self._others(found)

    def _others(self, found: Sequence[TracedGroup]) -> list[TracedGroup]:
        """List the layers with weights of which no group knows, and why."""
        known = {name for group in found for name in group.producers}
        known |= {site.layer for group in found for site in group.sites}
        others = []
        for layer, module in self.flow.model.named_modules():
            weights = {k: p for k, p in module.named_parameters(recurse=False) if p.dim() > 1}
            names = [self.flow.name_of(parameter) for parameter in weights.values()]
            owners = {self.flow.owner_of(parameter) for parameter in weights.values()}
            if not weights or layer in known or not known.isdisjoint({*names, *owners}):
                continue
            does_run = not self.flow.met.isdisjoint(names)
            used = f"{layer or names[0]} ({type(module).__name__}) uses its weights in unknown ways"
            reason = used if does_run else "it does not run on the example input"
            n_units = len(next(iter(weights.values())))
            name = layer or names[0]
            others.append(TracedGroup(name, (name,), n_units, 1, (), reason=reason))
        return others

    def _sites(self) -> list[list[Site]]:
        sites: list[list[Site]] = [[] for _ in self.groups]
        found: dict[int, list[tuple[int, Tensor, Tensor]]] = {}
        for key, rows in self.flow.rows.items():
            roots = self.roots[key]
            if id(roots) not in found:
                groups, units = self.group_of[roots], self.unit_of[roots]
                found[id(roots)] = [(where, own, units[own]) for where, own in by_group(groups)]
            for position, own, unit_of in found[id(roots)]:
                sites[position].append(rows.site(own, unit_of))
        return sites

    def _matches(self) -> list[set[int]]:
        matches: list[set[int]] = [
            {int(self.group_of[label]) for label in group.alongside} - {position}
            for position, group in enumerate(self.groups)
        ]
        for pair in self.flow.widths.matches:
            a, b = (
                self.group_of[label_of(self.flow.labels.find(codes))].unique() for codes in pair
            )
            if len(a) == len(b) == 1 and a != b and NOWHERE not in (a, b):
                matches[int(a)].add(int(b))
                matches[int(b)].add(int(a))
        return matches

    def _splits(self) -> list[list[Split]]:
        noted = ((codes, Split(where, line)) for codes, where, line in self.flow.splits)
        return self._by_group(noted)

    def _choices(self) -> list[list[str]]:
        return self._by_group(self.flow.sizes.choices)

    def _by_group(self, noted: Iterable[tuple[Tensor, T]]) -> list[list[T]]:
        found: list[list[T]] = [[] for _ in self.groups]
        for codes, what in noted:
            groups = self.group_of[label_of(self.flow.labels.find(codes))]
            for position in groups[groups != NOWHERE].unique().tolist():
                if what not in found[position]:
                    found[position].append(what)
        return found

    def _single(self, group: Tied) -> str | None:
        """Say of a group of one unit whether it is one channel, or where its channels are tied."""
        if len(group.labels) != 1:
            return None
        if len(self.flow.rows[group.makers[0]].codes) == 1:
            layer, tensor, _ = group.makers[0]
            return f"{layer or tensor} makes one channel alone"
        for codes, place in self.flow.tied:
            if group.labels[0] in label_of(self.flow.labels.find(codes)):
                return f"all its channels are tied together {place}"
        names = ", ".join(dict.fromkeys(layer or tensor for layer, tensor, _ in group.makers))
        return f"all its channels are tied together, those of {names}"

    def _kept(self, group: Tied) -> str | None:
        for label in group.labels:
            if label in self.reasons:
                return self.reasons[label]
        for maker in group.makers:
            codes = self.flow.rows[maker].codes
            if self.flow.labels.is_fixed(codes).any():
                return self.flow.labels.reason_of(codes, f"in {maker[0] or maker[1]}")
        return None


def _name(group: Tied, names: Sequence[str]) -> str:
    layer, tensor, _ = group.makers[0]
    full = f"{layer}.{tensor}" if layer else tensor
    others = (full, *(f"{full}.{i}" for i in range(2, len(names) + 3)))
    return next(name for name in (layer or tensor, *others) if name not in names)


def _uneven(sites: list[Site], n_units: int) -> str | None:
    even: set[int] = set()
    for site in sites:
        if site.is_unit and id(site.unit_of) not in even:
            counts = site.unit_of.bincount(minlength=n_units)
            if counts.min() != counts.max():
                return f"its channels are spread unevenly over {site.name}"
            even.add(id(site.unit_of))
    return None


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, name, buffer, content in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, content) and not _shares_memory(buffer):
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(content)
        for module, mode in modes.items():
            module.training = mode


def _shares_memory(tensor: Tensor) -> bool:
    """Whether entries of a tensor are one number in memory, which nothing can write to."""
    return any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _check_forward(model: nn.Module, example_input: Any) -> None:
    try:
        with torch.no_grad():
            call(model, example_input)
    except AdmmExpError:
        raise
    except Exception as error:
        raise not_accepted(example_input, error) from error
