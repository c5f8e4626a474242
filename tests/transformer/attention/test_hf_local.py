"""Local attention against Hugging Face's Mistral and Longformer, weights copied."""

import pytest
import torch
from transformers import LongformerConfig, MistralConfig
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.mistral.modeling_mistral import MistralAttention

from qa_lab.transformer.attention import (
    causal_local_attention,
    local_attention,
    over_keys,
    real_tokens,
)


def heads(linear, x, n_heads):
    return linear(x).unflatten(-1, (n_heads, -1)).transpose(1, 2)


@torch.no_grad()
def randomise(module):
    for parameter in module.parameters():
        parameter.normal_(std=0.4)


@pytest.mark.parametrize("window", [1, 4, 11])
def test_a_causal_window_holds_the_keys_that_mistral_looks_at(oracle, window):
    config = MistralConfig(
        hidden_size=24,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        attn_implementation="sdpa",
    )
    theirs = MistralAttention(config, 0)
    randomise(theirs)
    x = torch.randn(3, 11, 24)
    tokens = real_tokens(torch.tensor([11, 3, 7]), 11)
    mask = create_sliding_window_causal_mask(config, x, tokens, None)
    no_rotation = (torch.ones(1, 11, 6), torch.zeros(1, 11, 6))
    expected, _ = theirs(x, no_rotation, mask)

    q = heads(theirs.q_proj, x, 4)
    k, v = (
        heads(linear, x, 2).repeat_interleave(2, 1) for linear in (theirs.k_proj, theirs.v_proj)
    )
    out = causal_local_attention(q, k, v, over_keys(tokens), window=window)
    ours = theirs.o_proj(out.transpose(1, 2).flatten(-2))
    oracle.close(ours[tokens], expected[tokens])


@pytest.mark.parametrize("global_tokens", [(), (0,), (9, 2)])
@pytest.mark.parametrize("side", [2, 3])
def test_a_window_and_global_tokens_are_longformers(oracle, side, global_tokens):
    config = LongformerConfig(
        hidden_size=15,
        num_attention_heads=3,
        num_hidden_layers=1,
        attention_window=[2 * side],
        attention_probs_dropout_prob=0.0,
    )
    theirs = LongformerSelfAttention(config, 0)
    randomise(theirs)
    for name in ("query", "key", "value"):  # we share the projections
        getattr(theirs, f"{name}_global").load_state_dict(getattr(theirs, name).state_dict())
    x = torch.randn(3, 12, 15)
    tokens = real_tokens(torch.tensor([12, 10, 11]), 12)
    is_global = torch.zeros(3, 12, dtype=torch.bool)
    is_global[:, list(global_tokens)] = True
    code = torch.zeros(3, 12).masked_fill(~tokens, -10000).masked_fill(is_global, 10000)
    (expected,) = theirs(
        x,
        attention_mask=code,
        is_index_masked=~tokens,
        is_index_global_attn=is_global,
        is_global_attn=bool(global_tokens),
    )
    q, k, v = (heads(linear, x, 3) for linear in (theirs.query, theirs.key, theirs.value))
    out = local_attention(
        q, k, v, over_keys(tokens), window=2 * side + 1, global_tokens=global_tokens
    )
    gap = (out.transpose(1, 2).flatten(-2) - expected)[tokens].abs().max()
    assert gap < 3e-6, "their softmax is in float32, whatever the input"
