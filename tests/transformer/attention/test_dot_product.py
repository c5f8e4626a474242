"""Attention against PyTorch's own, by both paths."""

from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F

from qa_lab.transformer.attention import (
    attention_weights,
    default_scale,
    dot_product_scores,
    fused_attention,
    masked_softmax,
    over_keys,
    real_tokens,
    scaled_dot_product_attention,
)

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


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize(
    "attend", [lambda *a, **k: scaled_dot_product_attention(*a, **k)[0], fused_attention]
)
def test_both_paths_agree_with_torch(oracle, size, attend, scale, masked, biased):
    ours = random_qkv(size)
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    keep = over_keys(real_tokens(MEMORY_LENGTHS, size.key)) if masked else None
    bias = torch.randn(size.head, size.query, size.key) if biased else None
    out = attend(*ours, keep, scale=scale, bias=bias)
    added = torch.zeros(size.batch, size.head, size.query, size.key)  # what torch adds to scores
    added = added + (0 if bias is None else bias)
    added = added if keep is None else added.masked_fill(~keep, -torch.inf)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=added, scale=scale)
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], ours, theirs)


@pytest.mark.parametrize(
    "attend", [lambda *a, **k: scaled_dot_product_attention(*a, **k)[0], fused_attention]
)
@pytest.mark.parametrize("lead", [(), (5,), (2, 3, 2)])
def test_any_leading_axes_will_do(oracle, attend, lead):
    q, k, v = torch.randn(*lead, 7, 11), torch.randn(*lead, 5, 11), torch.randn(*lead, 5, 3)
    keep = torch.rand(7, 5) > 0.4
    keep[:, 2] = True
    oracle.close(attend(q, k, v, keep), F.scaled_dot_product_attention(q, k, v, attn_mask=keep))


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


@pytest.mark.parametrize(
    "attend", [attention_weights, scaled_dot_product_attention, fused_attention]
)
def test_bad_masks_are_refused_by_every_function(size, attend):
    q, k, v = random_qkv(size)
    inputs = (q, k) if attend is attention_weights else (q, k, v)

    def go(keep):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "qa_lab.transformer.attention.dot_product.attention_weights",
                unwrap(attention_weights),
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
