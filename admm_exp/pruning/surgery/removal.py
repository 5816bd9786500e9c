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
    are_all = {id(rows): bool(rows.all()) for rows in {id(r): r for r, _ in kept.values()}.values()}
    for (layer, tensor, dim), (rows, site) in sorted(kept.items(), key=_is_scattered):
        if are_all[id(rows)] or tensor == STANDARDISES:
            continue
        module = modules[layer]
        if site.is_count:
            _count_(module, tensor, dim, rows)
        elif site.is_size:
            set_size_(module, tensor, int(rows.sum()))
        else:
            old = getattr(module, tensor)
            places = holders.pop(id(old), [(module, tensor)])
            new = _without((contents or {}).get(id(old), old), dim, rows, site.n_blocks)
            for place, name in places:
                setattr(place, name, new)
            holders[id(new)] = places
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


def _is_scattered(item: tuple[tuple[str, str, int], tuple[Tensor, Site]]) -> bool:
    """Whether what goes lies scattered in memory: it is taken from what whole rows have left."""
    (_, _, dim), (_, site) = item
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


def _without(tensor: Any, dim: int, rows: Tensor, n_blocks: int) -> Any:
    """Leave out the rows that are not kept; a number is a size without a tensor."""
    if isinstance(tensor, int):
        return int(rows.sum())
    old = tensor.detach()
    if n_blocks == 1:
        new = _selected(old, dim, rows)
    else:  # every block of a grouped convolution keeps its own columns
        blocks = zip(old.chunk(n_blocks), rows.chunk(n_blocks), strict=True)
        new = torch.cat([_selected(block, 1, keep) for block, keep in blocks])
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _selected(tensor: Tensor, dim: int, rows: Tensor) -> Tensor:
    """Index with integers: a mask on the meta device, where plans are cut, has no size."""
    return tensor.index_select(dim, rows.nonzero().flatten().to(tensor.device))


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
