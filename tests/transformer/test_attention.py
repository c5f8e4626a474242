"""Attention against PyTorch's own, by both paths."""

from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.attention import (
    MultiHeadAttention,
    attention_weights,
    default_scale,
    dot_product_scores,
    fused_attention,
    scaled_dot_product_attention,
)
from qa_lab.transformer.masks import causal_mask, masked_softmax, over_keys, real_tokens

LENGTHS = torch.tensor([7, 2, 5])
MEMORY_LENGTHS = torch.tensor([1, 5, 3])


def random_qkv(size, d_v=3):
    lead = (size.batch, size.head)
    return (
        torch.randn(*lead, size.query, size.d_k, requires_grad=True),
        torch.randn(*lead, size.key, size.d_k, requires_grad=True),
        torch.randn(*lead, size.key, d_v, requires_grad=True),
    )


def test_the_scale_is_one_over_the_square_root_of_d_k():
    assert default_scale(16) == 0.25
    q, k = torch.ones(1, 16), torch.ones(1, 16)
    assert dot_product_scores(q, k).item() == 4
    assert dot_product_scores(q, k, scale=3.0).item() == 48


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize(
    "attend", [lambda *a, **k: scaled_dot_product_attention(*a, **k)[0], fused_attention]
)
def test_both_paths_agree_with_torch(oracle, size, attend, scale, masked):
    ours = random_qkv(size)
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    keep = over_keys(real_tokens(MEMORY_LENGTHS, size.key)) if masked else None
    out = attend(*ours, keep, scale=scale)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=keep, scale=scale)
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], ours, theirs)


def test_the_weights_are_those_that_make_the_output(oracle, size):
    q, k, v = random_qkv(size)
    keep = over_keys(real_tokens(MEMORY_LENGTHS, size.key))
    out, weights = scaled_dot_product_attention(q, k, v, keep)
    identity = torch.eye(size.key).expand(size.batch, size.head, -1, -1)
    oracle.close(weights, F.scaled_dot_product_attention(q, k, identity, attn_mask=keep), "weights")
    oracle.close(weights, attention_weights(q, k, keep), "weights")
    oracle.close(weights.sum(-1), torch.ones(weights.shape[:-1]), "row sums")
    oracle.close(torch.einsum("bhqk,bhkd->bhqd", weights, v), out)


def test_a_softmax_of_ones_own_is_used(size):
    q, k, v = random_qkv(size)

    def uniform(scores, keep):
        return torch.full_like(scores, 1 / scores.shape[-1])

    out, _ = scaled_dot_product_attention(q, k, v, softmax=uniform)
    assert torch.allclose(out, v.mean(-2, keepdim=True).expand_as(out))
    attention = MultiHeadAttention(size.d_model, size.head, softmax=uniform)
    x = torch.randn(size.batch, size.query, size.d_model)
    assert (attention.attend_with_weights(x)[1] == 1 / size.query).all()
    flat = attention(x)
    assert torch.allclose(flat, flat[:, :1].expand_as(flat)), "forward ignored the softmax"


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
def test_multi_head_attention_agrees_with_torch(oracle, twins, size, kind, with_weights):
    theirs = nn.MultiheadAttention(size.d_model, size.head, batch_first=True)
    ours = MultiHeadAttention(size.d_model, size.head)
    pairs = oracle.attention(theirs, ours)
    oracle.copy_random(pairs, ours)

    x, x2 = twins(size.batch, size.query, size.d_model)
    real = real_tokens(LENGTHS, size.query)
    tokens, attn_mask, inputs = real, None, ([x], [x2])
    memory, memory2 = None, x2
    if kind == "cross":
        tokens = real_tokens(MEMORY_LENGTHS, size.key)
        memory, memory2 = twins(size.batch, size.key, size.d_model)
        inputs = ([x, memory], [x2, memory2])
    keep = over_keys(tokens)
    if kind == "causal":
        keep = keep & causal_mask(size.query)
        attn_mask = torch.ones(size.query, size.query, dtype=torch.bool).triu(1)  # True = hidden

    expected, expected_weights = theirs(
        x2, memory2, memory2, ~tokens, True, attn_mask, average_attn_weights=False
    )
    if with_weights:
        out, weights = ours.attend_with_weights(x, memory, keep)
        oracle.close(weights.transpose(1, 2)[real], expected_weights.transpose(1, 2)[real])
    else:
        out = ours(x, memory, keep)
    oracle.agree(out, expected, real, pairs, *inputs)


@pytest.mark.parametrize("scale", [None, 0.9])
def test_widths_and_scale_of_ones_own_by_both_paths(oracle, size, scale):
    ours = MultiHeadAttention(
        size.d_model, 3, d_k=4, d_v=5, bias=False, scale=scale
    )  # 3 heads do not divide 22
    assert ours.W_Q.weight.shape == ours.W_K.weight.shape == (12, size.d_model)
    assert ours.W_V.weight.shape == (15, size.d_model)
    assert ours.W_O.weight.shape == (size.d_model, 15) and ours.W_O.bias is None
    x, memory = torch.randn(3, 7, size.d_model), torch.randn(3, 5, size.d_model)
    keep = over_keys(real_tokens(MEMORY_LENGTHS, 5))
    heads = [
        F.scaled_dot_product_attention(
            x @ ours.W_Q.weight[4 * h : 4 * h + 4].T,
            memory @ ours.W_K.weight[4 * h : 4 * h + 4].T,
            memory @ ours.W_V.weight[5 * h : 5 * h + 5].T,
            attn_mask=keep[:, 0],
            scale=scale,
        )
        for h in range(3)
    ]
    expected = torch.cat(heads, -1) @ ours.W_O.weight.T
    oracle.close(ours(x, memory, keep), expected)
    oracle.close(ours.attend_with_weights(x, memory, keep)[0], expected)


def test_nobody_pays_for_weights_that_nobody_asked_for(monkeypatch, size):
    ours = MultiHeadAttention(size.d_model, size.head, scale=0.3)
    x = torch.randn(2, 7, size.d_model)
    calls = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    ours(x)
    assert calls == [1]
    ours.attend_with_weights(x)
    assert calls == [1]


def test_heads_that_do_not_divide_d_model_are_refused():
    with pytest.raises(ValueError, match=r"n_heads = 3 does not divide d_model = 22.*give d_k"):
        MultiHeadAttention(22, 3)


@pytest.mark.parametrize("with_weights", [False, True])
def test_bad_masks_are_refused_by_both_paths(size, with_weights):
    ours = MultiHeadAttention(size.d_model, size.head)
    attend = unwrap(
        MultiHeadAttention.attend_with_weights if with_weights else MultiHeadAttention.forward
    )
    x = torch.randn(2, 5, size.d_model)
    none = torch.tensor([[True] * 5, [False] * 5])
    with pytest.raises(ValueError, match=r"1 of the 2 rows of keep \(the first: \[1, 0, 0\]\)"):
        attend(ours, x, keep=over_keys(none))
    with pytest.raises(ValueError, match=r"keep has 3 axes, \[2, 5, 5\]; give \[query key\]"):
        attend(ours, x, keep=torch.ones(2, 5, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    "attend", [attention_weights, scaled_dot_product_attention, fused_attention]
)
def test_bad_masks_are_refused_by_every_function(size, attend):
    q, k, v = random_qkv(size)
    inputs = (q, k) if attend is attention_weights else (q, k, v)

    def go(keep):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "qa_lab.transformer.attention.attention_weights", unwrap(attention_weights)
            )
            if attend is fused_attention:
                return unwrap(attend)(*inputs, keep)
            return unwrap(attend)(*inputs, keep, softmax=unwrap(masked_softmax))

    with pytest.raises(TypeError, match=r"got torch\.float64"):
        go(torch.ones(size.query, size.key))
    with pytest.raises(ValueError, match="does not broadcast"):
        go(torch.ones(size.key, size.query, dtype=torch.bool))
    with pytest.raises(ValueError, match="7 of the 7 rows"):
        go(torch.zeros(size.query, size.key, dtype=torch.bool))
