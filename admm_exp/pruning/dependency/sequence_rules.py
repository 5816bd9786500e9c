"""How channels go through recurrence and attention."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.attention import ATTENTIONS
from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import FIXED, compact
from admm_exp.pruning.dependency.layer_rules import made_by
from admm_exp.pruning.dependency.operation_rules import contract
from admm_exp.pruning.dependency.size_rules import starts_from


def recurrence(gates: int, flow: Flow, func: Any, *args: Any) -> Any:
    """Follow LSTM, GRU and RNN: a unit is one row of every gate, in all layers and directions.

    The layers and directions of one module have one hidden size (and one projection size), so
    unit h of all of them lives and dies together. From a zero state a unit without weights stays
    at zero.
    """
    outputs = func(*args)
    place = next(
        i
        for i, arg in enumerate(args)
        if isinstance(arg, list | tuple) and flow.is_parameter(arg[0])
    )
    inputs, states, parameters = args[0], args[place - 1], list(args[place])
    has_bias, n_layers, bidirectional = args[place + 1], args[place + 2], args[place + 5]
    n_directions = 2 if bidirectional else 1
    size = len(parameters) // (n_layers * n_directions)
    units = flow.labels.fresh(parameters[0].shape[0] // gates)
    has_projection = size > (4 if has_bias else 2)
    made = flow.labels.fresh(parameters[size - 1].shape[0]) if has_projection else units
    read = flow.along(inputs, -1)
    for layer in range(n_layers):
        for direction in range(n_directions):
            start = (layer * n_directions + direction) * size
            w_ih, w_hh, *others = parameters[start : start + size]
            flow.produces(w_ih, 0, units)
            if read is not None:
                flow.columns(w_ih, 1, read)
            flow.columns(w_hh, 1, made)
            if has_projection:  # from the hidden units to the output
                projection = others.pop()
                flow.columns(projection, 1, units)
                made_by(flow, projection, 0, None, made)
            for parameter in (w_ih, w_hh, *others):
                flow.channels(parameter, 0, units.repeat(gates))
        read = made.repeat(n_directions)
    _states(flow, states, outputs, (made, units))
    passed = made.repeat(n_directions)
    flow.mark(outputs[0], passed.view([1] * (outputs[0].dim() - 1) + [-1]))
    return outputs


def packed(flow: Flow, func: Any, sequences: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Follow sequences of several lengths laid behind one another, or back: channels stay last."""
    outputs = func(sequences, *args, **kwargs)
    codes = flow.along(sequences, -1)
    if codes is not None:
        flow.mark(outputs[0], codes.view([1] * (outputs[0].dim() - 1) + [-1]))
    return outputs


def _states(flow: Flow, states: Any, outputs: Any, own: tuple[Tensor, Tensor]) -> None:
    given = [states] if isinstance(states, Tensor) else list(states)
    for state, codes, after in zip(given, own[: len(given)], outputs[1:], strict=True):
        starts_from(flow, state, codes)
        flow.mark(after, codes.view([1] * (after.dim() - 1) + [-1]))


def multi_head_attention(
    flow: Flow, func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Follow a MultiheadAttention: a unit is a head, its rows of queries, keys and values.

    A head whose rows are zero adds nothing to the outputs, and the attention weights that it
    gives away are not followed: a network that uses them fails the proof of the group.
    """
    attention: Any = flow.model.get_submodule(flow.running[-1])
    is_own = isinstance(attention, nn.MultiheadAttention) and _owns_parameters(flow, attention)
    outputs = None
    if is_own and all(flow.is_parameter(given) for given in args if isinstance(given, Tensor)):
        outputs = flow.sketch.attention(attention, (query, key, value), kwargs)
    if outputs is None:
        outputs = func(query, key, value, *args, **kwargs)
    if is_own:
        heads, made = _heads(flow, attention, (query, key, value))
        reason = _obstacle(flow, attention)
    else:
        reason = flow.at_line(f"{flow.here} ties its heads to its width")
        heads = made = flow.labels.fixed(reason)
    if reason is not None:
        flow.keep_all([query, key, value], reason)
        flow.keep(torch.cat([heads, made]), reason)
    flow.mark(outputs[0], made.view([1] * (outputs[0].dim() - 1) + [-1]))
    if outputs[1] is not None:
        flow.mark(outputs[1], None)
    return outputs


def _owns_parameters(flow: Flow, attention: Any) -> bool:
    given = [*attention._parameters.values(), attention.out_proj.weight, attention.out_proj.bias]
    return all(flow.is_parameter(parameter) for parameter in given if parameter is not None)


def _obstacle(flow: Flow, attention: Any) -> str | None:
    """Say why the heads of a MultiheadAttention have to stay, or None."""
    if type(attention) not in ATTENTIONS:
        return f"{flow.here} may count on its number of heads"
    if attention.bias_k is not None or attention.add_zero_attn:
        return f"{flow.here} adds keys of its own"
    return None


def _heads(flow: Flow, attention: Any, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tie the rows of every head together.

    Returns:
        (num_heads,) codes of the heads and (n,) codes of the outputs.
    """
    heads = flow.labels.fresh(attention.num_heads)
    rows = heads.repeat_interleave(attention.head_dim)
    packed = attention.in_proj_weight
    weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    for given, weight in zip(inputs, weights if packed is None else [packed] * 3, strict=True):
        codes = flow.along(given, -1)
        flow.columns(weight, 1, torch.full(given.shape[-1:], FIXED) if codes is None else codes)
        flow.channels(weight, 0, rows if packed is None else rows.repeat(3))
        flow.produces(weight, 0, heads)
    if attention.in_proj_bias is not None:
        flow.channels(attention.in_proj_bias, 0, rows.repeat(3))
    flow.columns(attention.out_proj.weight, 1, rows)
    return heads, made_by(flow, attention.out_proj.weight, 0, attention.out_proj.bias)


def attention(
    flow: Flow,
    func: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Follow scaled dot products: whole heads go through, head widths with an explicit scale."""
    outputs = func(query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)
    n_shared = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    keys, values = (_for_queries(flow.codes(part), n_shared) for part in (key, value))
    widths = flow.codes(query)
    if scale is None and widths is not None and widths.shape[-1] > 1:
        flow.keep(widths, f"{flow.here} scales by the width of a head")
    weights = contract(flow, flow.codes(query), _transposed(keys))
    if attn_mask is not None:
        weights = _masked(flow, weights, attn_mask)
    if weights is not None:  # a head without queries and keys attends to all alike
        weights = flow.shift(weights, f"softmax in {flow.here}")
    flow.mark(outputs, None)
    result = contract(flow, weights, values)
    if result is not None:
        flow.mark(outputs, result)
    return outputs


def _for_queries(codes: Tensor | None, n: int) -> Tensor | None:
    """Give every head of keys to the n heads of queries that share it."""
    if codes is None or n == 1 or codes.shape[-3] == 1:
        return codes
    return codes.repeat_interleave(n, -3)


def _masked(flow: Flow, weights: Tensor | None, mask: Tensor) -> Tensor | None:
    """Tie what is added to the logits, as a learnt bias of every head, to the heads."""
    codes = flow.codes(mask)
    if weights is None:
        flow.keep_all([mask], f"{flow.here} adds it to the logits of all heads")
        return None
    shape = _aligned(mask, weights.dim())
    by_head = any(w > 1 < m for w, m in zip(weights.shape, shape, strict=True))
    if codes is not None and (by_head or codes.numel() > 1):
        return compact(flow.labels.unite(weights, codes.reshape(_aligned(codes, weights.dim()))))
    if by_head:
        flow.keep(weights, f"{flow.here} adds a constant of its own to every head")
    return weights


def _aligned(tensor: Tensor, n_dims: int) -> tuple[int, ...]:
    return (1,) * (n_dims - tensor.dim()) + tuple(tensor.shape)


def _transposed(codes: Tensor | None) -> Tensor | None:
    return None if codes is None else codes.transpose(-1, -2)
