"""Positions · 位置编码.

How a model is told the order of its tokens: vectors that are added, queries and keys that are
turned, biases on the scores.
"""

from qa_lab.transformer.positions.absolute import (
    Embeddings,
    LearnedPositions,
    add_sinusoidal_positions,
    frequencies,
    no_positions,
    sinusoidal_positions,
)
from qa_lab.transformer.positions.biases import Alibi, T5Bias, alibi_slopes, distances, t5_bucket
from qa_lab.transformer.positions.relative import ShawAttention, clipped_distances, shaw_attention
from qa_lab.transformer.positions.rotary import (
    Pairing,
    Rotary,
    halves_order,
    ntk_base,
    rotary_table,
    rotate_halves,
    rotate_interleaved,
)

__all__ = [
    "Alibi",
    "Embeddings",
    "LearnedPositions",
    "Pairing",
    "Rotary",
    "ShawAttention",
    "T5Bias",
    "add_sinusoidal_positions",
    "alibi_slopes",
    "clipped_distances",
    "distances",
    "frequencies",
    "halves_order",
    "no_positions",
    "ntk_base",
    "rotary_table",
    "rotate_halves",
    "rotate_interleaved",
    "shaw_attention",
    "sinusoidal_positions",
    "t5_bucket",
]
