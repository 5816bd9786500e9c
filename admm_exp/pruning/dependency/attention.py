"""Multi-head attention with fewer heads than its width has room for."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import wrap_torch_function

from admm_exp.pruning.dependency.norms import CountsChannels


class PrunedAttention(nn.MultiheadAttention):
    """What is left of an `nn.MultiheadAttention` once heads, or the width around them, are gone.

    Parameters, their names and the call are torch's. There the width of a head is the width of the
    embedding over the number of heads; here `head_dim` stays what it was, and with it the scale.
    Made by `fit_attention_` alone.
    """

    def forward(  # noqa: PLR0917 - torch's own signature
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as `nn.MultiheadAttention` does.

        Args:
            query: (N, L, E), (L, N, E) unless batch_first, or (L, E).
            key: (N, S, kdim), likewise.
            value: (N, S, vdim), likewise.
            key_padding_mask: (N, S) or (S,); True, or what is added to the logits, at keys that
                are left out.
            need_weights: Whether to return the attention weights, which takes more memory.
            attn_mask: (L, S) or (N * num_heads, L, S), likewise.
            average_attn_weights: Whether the weights are averaged over the heads that are left.
            is_causal: Whether `attn_mask`, which must be given, is the causal one.

        Returns:
            The outputs, shaped like the queries, and the weights: (N, L, S), or (N, num_heads, L,
            S) if they are not averaged; without N for inputs without it.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal says which mask attn_mask is: give attn_mask too")
        mask = self._mask(query, key_padding_mask, attn_mask)
        outputs, weights = attend(query, key, value, self, mask, need_weights=need_weights)
        if weights is not None and average_attn_weights:
            weights = weights.mean(-3)
        return outputs, weights

    def projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Compute queries, keys and values of all heads, (N, num_heads, L or S, head_dim) each."""
        if self.in_proj_weight is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:
            joint = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            return [self._by_head(part) for part in joint.chunk(3, -1)]
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [
            self._by_head(F.linear(*arguments))
            for arguments in zip((query, key, value), weights, biases, strict=True)
        ]

    def joined(self, mixed: Tensor) -> Tensor:
        """Project what all heads found, (N, num_heads, L, head_dim), to the outputs."""
        joint = mixed.transpose(-3, -2).flatten(-2)
        return self.out_proj(joint if self._is_batch_first(joint) else joint.transpose(0, 1))

    def _by_head(self, tensor: Tensor) -> Tensor:
        tensor = tensor if self._is_batch_first(tensor) else tensor.transpose(0, 1)
        return tensor.unflatten(-1, (-1, self.head_dim)).transpose(-3, -2)

    def _is_batch_first(self, tensor: Tensor) -> bool:
        return self.batch_first or tensor.dim() == 2

    def _mask(self, query: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Join the masks to one that is added to the logits, (N, num_heads, L, S) or less."""
        if mask is not None:
            mask = _additive(mask, query)
            if mask.dim() == 3 and query.dim() == 3:
                mask = mask.unflatten(0, (-1, self.num_heads))
        if padding is None:
            return mask
        added = _additive(padding, query)[..., None, None, :]
        return added if mask is None else mask + added


@wrap_torch_function(lambda query, key, value, *_, **__: (query, key, value))
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention: PrunedAttention,
    mask: Tensor | None,
    *,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """Attend: a function, which is seen where the network is followed.

    Args:
        query: As `PrunedAttention` takes it.
        key: Likewise.
        value: Likewise.
        attention: Whose heads.
        mask: Added to the logits, broadcastable to (N, num_heads, L, S).
        need_weights: Whether to return the attention weights.

    Returns:
        The outputs and the weights, (N, num_heads, L, S).
    """
    queries, keys, values = attention.projected(query, key, value)
    dropout = attention.dropout if attention.training else 0.0
    if not need_weights:
        mixed = F.scaled_dot_product_attention(queries, keys, values, mask, dropout)
        return attention.joined(mixed), None
    logits = attention.head_dim**-0.5 * queries @ keys.transpose(-1, -2)
    weights = F.dropout((logits if mask is None else logits + mask).softmax(-1), dropout)
    return attention.joined(weights @ values), weights


def fit_attention_(network: nn.Module) -> None:
    """Tell attention layers their sizes, in place, after tensors of other sizes were put into them.

    Those that torch's own class would refuse become `PrunedAttention`: the same object, which may
    lie in several places and carry hooks, with the same parameters.

    Args:
        network: Any network; layers whose sizes agree already stay as they are.
    """
    attention: Any
    for attention in network.modules():
        if type(attention) in ATTENTIONS:
            _fit_(attention)
    for encoder in network.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(
            isinstance(module, PrunedAttention) for module in encoder.modules()
        ):
            encoder.use_nested_tensor = False  # only torch's own attention reads nested tensors


def fit_encoders_(network: nn.Module) -> None:
    """Keep torch's fused encoder layer away from norms that count channels: it would not count.

    Args:
        network: Any network, changed in place; layers without such norms stay as they are.
    """
    for layer in network.modules():
        if isinstance(layer, nn.TransformerEncoderLayer) and any(
            isinstance(norm, CountsChannels) for norm in (layer.norm1, layer.norm2)
        ):
            layer.activation_relu_or_gelu = 0  # what it asks before it takes the fused way


def _fit_(attention: Any) -> None:
    packed = attention.in_proj_weight
    query = attention.q_proj_weight if packed is None else packed
    inner = len(query) // (1 if packed is None else 3)
    attention.num_heads = inner // attention.head_dim
    attention.embed_dim = query.shape[1]
    attention.kdim, attention.vdim = (
        attention.embed_dim if weight is None else weight.shape[1]
        for weight in (attention.k_proj_weight, attention.v_proj_weight)
    )
    if not inner == attention.embed_dim == len(attention.out_proj.weight):
        attention.__class__ = PrunedAttention
        # Torch's fused encoder layer asks for it, and takes embed_dim / num_heads for the width
        attention._qkv_same_embed_dim = False


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


ATTENTIONS = (nn.MultiheadAttention, PrunedAttention)
"""Attention whose heads can be removed; subclasses may count on their number."""
