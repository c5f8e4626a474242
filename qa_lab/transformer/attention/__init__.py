"""Attention · 注意力.

Who may look at whom (masks, padding), how strongly (scores, softmax), with how many heads, what is
remembered between steps (cache), and attentions that do without the whole [query key] matrix.
"""

from qa_lab.transformer.attention.cache import Cache, KVCache, LayerCache
from qa_lab.transformer.attention.chunked import ChunkedAttention, chunked_attention, look_back
from qa_lab.transformer.attention.dot_product import (
    Attend,
    DotProductAttention,
    Softmax,
    attention_weights,
    default_scale,
    dot_product_scores,
    fused_attention,
    scaled_dot_product_attention,
)
from qa_lab.transformer.attention.feature_maps import (
    FeatureMap,
    elu_plus_one,
    orthogonal_directions,
    positive_random_features,
)
from qa_lab.transformer.attention.linear import (
    LinearState,
    causal_linear_attention,
    linear_attention,
    linear_attention_step,
    recurrent_linear_attention,
)
from qa_lab.transformer.attention.local import causal_local_attention, local_attention
from qa_lab.transformer.attention.lsh import (
    LSHAttention,
    lsh_attention,
    lsh_buckets,
    random_rotations,
)
from qa_lab.transformer.attention.masks import (
    causal_mask,
    full_mask,
    over_keys,
    packed_mask,
    padding_mask,
    padding_mask_from_ids,
    prefix_mask,
    real_tokens,
    real_tokens_from_ids,
    window_mask,
)
from qa_lab.transformer.attention.multi_head import (
    Mask,
    MultiHeadAttention,
    Rotate,
    ScoreBias,
    tie_query_and_key,
)
from qa_lab.transformer.attention.padding import count_real, real_lengths, reverse_real
from qa_lab.transformer.attention.scores import (
    AdditiveScores,
    BilinearScores,
    ScoredAttention,
    Scores,
    additive_scores,
    bilinear_scores,
)
from qa_lab.transformer.attention.softmax import masked_softmax

__all__ = [
    "AdditiveScores",
    "Attend",
    "BilinearScores",
    "Cache",
    "ChunkedAttention",
    "DotProductAttention",
    "FeatureMap",
    "KVCache",
    "LSHAttention",
    "LayerCache",
    "LinearState",
    "Mask",
    "MultiHeadAttention",
    "Rotate",
    "ScoreBias",
    "ScoredAttention",
    "Scores",
    "Softmax",
    "additive_scores",
    "attention_weights",
    "bilinear_scores",
    "causal_linear_attention",
    "causal_local_attention",
    "causal_mask",
    "chunked_attention",
    "count_real",
    "default_scale",
    "dot_product_scores",
    "elu_plus_one",
    "full_mask",
    "fused_attention",
    "linear_attention",
    "linear_attention_step",
    "local_attention",
    "look_back",
    "lsh_attention",
    "lsh_buckets",
    "masked_softmax",
    "orthogonal_directions",
    "over_keys",
    "packed_mask",
    "padding_mask",
    "padding_mask_from_ids",
    "positive_random_features",
    "prefix_mask",
    "random_rotations",
    "real_lengths",
    "real_tokens",
    "real_tokens_from_ids",
    "recurrent_linear_attention",
    "reverse_real",
    "scaled_dot_product_attention",
    "tie_query_and_key",
    "window_mask",
]
