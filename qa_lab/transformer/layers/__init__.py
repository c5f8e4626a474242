"""Layers · 各种层.

What stands around attention: norms, feed-forward networks, embeddings, pooling.
"""

from qa_lab.transformer.layers.embeddings import TokenEmbedding, Unembedding
from qa_lab.transformer.layers.feed_forward import (
    Activation,
    FeedForward,
    GatedFeedForward,
    gated_d_ff,
    gelu,
    gelu_tanh,
)
from qa_lab.transformer.layers.norms import (
    BatchNorm,
    LayerNorm,
    RMSNorm,
    batch_norm_statistics,
    layer_norm,
    normalise,
    rms_norm,
)
from qa_lab.transformer.layers.pooling import every_token, mean_over_tokens
from qa_lab.transformer.layers.sequence_norms import GroupNorm, InstanceNorm, group_statistics

__all__ = [
    "Activation",
    "BatchNorm",
    "FeedForward",
    "GatedFeedForward",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "TokenEmbedding",
    "Unembedding",
    "batch_norm_statistics",
    "every_token",
    "gated_d_ff",
    "gelu",
    "gelu_tanh",
    "group_statistics",
    "layer_norm",
    "mean_over_tokens",
    "normalise",
    "rms_norm",
]
