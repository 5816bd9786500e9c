"""Take channels out of the tensors of a network, and tell its layers their new sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.attention import fit_attention_, fit_encoders_
from admm_exp.pruning.dependency.norms import count_channels_
from admm_exp.pruning.dependency.remembered import KEY, MOMENTS, STANDARDISES, moments_without
from admm_exp.pruning.dependency.sizes import set_size_
from admm_exp.pruning.dependency.traced import Site
from admm_exp.pruning.surgery.groups import PrunableGroup

Kept = dict[tuple[str, str, int], tuple[Tensor, Site]]
"""Layer, tensor and dimension -> bool rows, True = kept, and one of the sites there."""
Cut = tuple[int, Tensor, Site]
"""Dimension, the rows that stay, and one of the sites there."""


@torch.no_grad()
def remove_channels_(
    model: nn.Module,
    groups: Sequence[PrunableGroup],
    support: Sequence[Tensor],
    new_biases: Sequence[str] = (),
    contents: Mapping[int, Tensor] | None = None,
) -> None:
    """Remove channels in place, with everything that reads them.

    Args:
        model: The network.
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.
        new_biases: Layers whose biases no group knows; they lose what their weights lose.
        contents: id of a parameter that was not written -> what it is to hold.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    kept = _kept(groups, support)
    for layer in new_biases:
        if (layer, "weight", 0) in kept:
            kept[layer, "bias", 0] = kept[layer, "weight", 0]
    holders = _holders(model)
    _remember_(modules, kept, contents or {})
    for (layer, tensor, dim), (rows, site) in kept.items():
        is_count = site.is_count and tensor != STANDARDISES
        if is_count and not rows.all():
            _count_(modules[layer], tensor, dim, rows)
        elif site.is_size and not rows.all():
            set_size_(modules[layer], tensor, int(rows.sum()))
    for (layer, tensor), cuts in _by_tensor(kept).items():
        module = modules[layer]
        old = getattr(module, tensor)
        new = _without((contents or {}).get(id(old), old), cuts)
        for place, name in holders.pop(id(old), [(module, tensor)]):
            setattr(place, name, new)
    for layer in dict.fromkeys(key[0] for key in kept):
        _resize_(modules[layer])
    fit_attention_(model)
    fit_encoders_(model)


def _kept(groups: Sequence[PrunableGroup], support: Sequence[Tensor]) -> Kept:
    """List what stays of every tensor; tensors that lose the same rows share one answer."""
    kept: Kept = {}
    for group, own in zip(groups, support, strict=True):
        stays: dict[int, Tensor] = {}
        for site in group.sites:
            if id(site.unit_of) not in stays:
                stays[id(site.unit_of)] = own.cpu()[site.unit_of]
            rows, key = stays[id(site.unit_of)], (site.layer, site.tensor, site.dim)
            if len(rows) < site.n_rows:  # others belong to other groups
                whole = kept[key][0] if key in kept else torch.ones(site.n_rows, dtype=torch.bool)
                rows = whole.index_copy_(0, site.rows, rows)
            kept[key] = rows, site
    return kept


def _by_tensor(kept: Kept) -> dict[tuple[str, str], list[Cut]]:
    """List the cuts of every tensor, those that leave whole rows in memory first.

    Made one behind the other: what is in between is gone before the next tensor is cut.
    """
    left: dict[int, Tensor] = {}
    found: dict[tuple[str, str], list[Cut]] = {}
    for (layer, tensor, dim), (rows, site) in kept.items():
        if id(rows) not in left:
            left[id(rows)] = rows.nonzero().flatten()
        if len(left[id(rows)]) < len(rows) and not (site.is_count or site.is_size):
            found.setdefault((layer, tensor), []).append((dim, left[id(rows)], site))
    return {where: sorted(cuts, key=_is_scattered) for where, cuts in found.items()}


def _is_scattered(cut: Cut) -> bool:
    """Whether what goes lies scattered in memory: it is taken from what whole rows have left."""
    dim, _, site = cut
    return dim != 0 and site.n_blocks == 1


def _remember_(
    modules: Mapping[str, nn.Module], kept: Kept, contents: Mapping[int, Tensor]
) -> None:
    """Let layers that standardise their weights remember the columns that they lose."""
    for layer in dict.fromkeys(key[0] for key in kept):
        module: Any = modules[layer]
        site = (layer, STANDARDISES, -1)
        if site not in kept and MOMENTS not in module._buffers:
            continue
        weight = contents.get(id(module.weight), module.weight)
        n_in = weight.shape[1] * module.groups
        whole = torch.ones(len(weight), dtype=torch.bool), None
        rows, _ = kept.get((layer, "weight", 0), whole)
        columns, _ = kept.get(site, (torch.ones(n_in, dtype=torch.bool), None))
        if columns.all() and not hasattr(module, MOMENTS):
            continue
        moments = moments_without(module, weight, rows, columns, module.groups)
        n_entries = getattr(module, "counted_channels", {}).get(KEY, weight[0].numel())
        count_channels_(module, {KEY: n_entries})
        module.register_buffer(MOMENTS, moments)


def _count_(module: Any, function: str, dim: int, rows: Tensor) -> None:
    """Let a norm or mean of this module count the channels that are gone."""
    key = f"{function} {dim}"
    count_channels_(module, {key: getattr(module, "counted_channels", {}).get(key, len(rows))})
    shape = getattr(module, "normalized_shape", None)
    if function in ("layer_norm", "rms_norm") and isinstance(shape, tuple) and -dim <= len(shape):
        sizes = [*shape]
        sizes[dim] = int(rows.sum())
        module.normalized_shape = tuple(sizes)


def _holders(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """List the places of every parameter: a shared one has several."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, name))
    return places


def _without(tensor: Any, cuts: Sequence[Cut]) -> Any:
    """Leave out the rows that are not kept; a number is a size without a tensor."""
    if isinstance(tensor, int):
        return len(cuts[0][1])
    new = tensor.detach()
    for dim, left, site in cuts:
        if site.n_blocks == 1:
            new = new.index_select(dim, left.to(new.device))
        else:  # every block of a grouped convolution keeps its own columns
            size = site.n_rows // site.n_blocks
            own = [left[left // size == block] % size for block in range(site.n_blocks)]
            blocks = zip(new.chunk(site.n_blocks), own, strict=True)
            new = torch.cat([block.index_select(1, i.to(new.device)) for block, i in blocks])
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _resize_(module: Any) -> None:
    """Set the sizes that a layer remembers to those of its tensors."""
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups == module.in_channels > 1:
            made = module.out_channels // module.in_channels
            module.groups = module.weight.shape[0] // (1 if module.transposed else made)
        sizes = [module.weight.shape[0], module.weight.shape[1] * module.groups]
        module.in_channels, module.out_channels = sizes if module.transposed else sizes[::-1]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        tensors = (module.weight, module.running_mean)
        module.num_features = next((len(t) for t in tensors if t is not None), module.num_features)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(module.weight) if module.affine else module.num_channels
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.RNNBase):
        _resize_recurrence_(module)
    elif isinstance(module, nn.RNNCellBase):
        module.input_size, module.hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]


def _resize_recurrence_(module: Any) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    module.input_size = module.weight_ih_l0.shape[1]
    module.hidden_size = module.weight_ih_l0.shape[0] // gates
    if module.proj_size:
        module.proj_size = module.weight_hr_l0.shape[0]
