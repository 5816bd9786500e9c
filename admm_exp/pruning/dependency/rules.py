"""The table of layers whose channels are followed."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from admm_exp.pruning.dependency import layer_rules as layers
from admm_exp.pruning.dependency import norm_rules as norms
from admm_exp.pruning.dependency import sequence_rules as sequences
from admm_exp.pruning.dependency.attention import attend
from admm_exp.pruning.dependency.weight_rules import cell

CELLS = {
    torch.lstm_cell: 4,
    torch.gru_cell: 3,
    torch.rnn_tanh_cell: 1,
    torch.rnn_relu_cell: 1,
}
GATES = {torch.lstm: 4, torch.gru: 3, torch.rnn_tanh: 1, torch.rnn_relu: 1}

LAYER_RULES: dict[Any, Any] = {
    torch._C._nn.linear: layers.linear,
    F.batch_norm: layers.batch_norm,
    F.instance_norm: layers.instance_norm,
    **dict.fromkeys((F.layer_norm, torch.layer_norm), norms.layer_norm),
    **dict.fromkeys((F.rms_norm, torch.rms_norm), norms.rms_norm),
    **dict.fromkeys((F.group_norm, torch.group_norm), norms.group_norm),
    F.multi_head_attention_forward: sequences.multi_head_attention,
    attend: sequences.multi_head_attention,
    F.scaled_dot_product_attention: sequences.attention,
    F.dropout: layers.dropout,
    F.dropout1d: layers.dropout,
    F.dropout2d: layers.dropout,
    F.dropout3d: layers.dropout,
    F.alpha_dropout: layers.dropout,
    F.feature_alpha_dropout: layers.dropout,
    F.embedding: layers.embedding,
    F.embedding_bag: layers.embedding,
    F.pad: layers.pad,
    torch._C._nn.pad: layers.pad,
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), layers.convolution),
    **dict.fromkeys(
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        layers.transposed_convolution,
    ),
    **dict.fromkeys((torch._pack_padded_sequence, torch._pad_packed_sequence), sequences.packed),
    **{function: partial(cell, gates) for function, gates in CELLS.items()},
    **{function: partial(sequences.recurrence, gates) for function, gates in GATES.items()},
}
