"""Local attention against dense attention with the mask written out pair by pair."""

from functools import partial
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    MultiHeadAttention,
    causal_local_attention,
    local_attention,
    over_keys,
    real_tokens,
    window_mask,
)
from qa_lab.transformer.attention.local import banded_attention

LENGTHS = torch.tensor([13, 4, 9])
BOTH = pytest.mark.parametrize("attend", [local_attention, causal_local_attention])


def inputs(length=13, d_k=5, d_v=3):
    return [torch.randn(3, 2, length, d, requires_grad=True) for d in (d_k, d_k, d_v)]


def copies(tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def pairs(attend, length, window, global_tokens=()):
    """Ask of every pair whether it may look."""
    causal = attend is causal_local_attention
    mask = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        for j in range(length):
            near = 0 <= i - j < window if causal else abs(i - j) <= (window - 1) // 2
            mask[i, j] = near or i in global_tokens or j in global_tokens
            mask[i, j] &= not (causal and j > i)
    return mask


def dense(q, k, v, mask, **scale):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **scale)


def masks(kind):
    if kind == "none":
        return None
    if kind == "padding":
        return over_keys(real_tokens(LENGTHS, 13))
    shape = {"pairs": (13, 13), "pairs of each head": (3, 2, 13, 13)}[kind]
    return (torch.rand(shape) < 0.7) | torch.eye(13, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["none", "padding", "pairs", "pairs of each head"])
@pytest.mark.parametrize("global_tokens", [(), [6, 2, 11]])
@pytest.mark.parametrize("window", [1, 5, 29])
@BOTH
def test_it_is_dense_attention_with_the_mask(oracle, attend, window, global_tokens, kind):
    ours = inputs()
    theirs = copies(ours)
    keep = masks(kind)
    mask = pairs(attend, 13, window, global_tokens)
    mask = mask if keep is None else mask & keep
    out = attend(*ours, keep, window=window, global_tokens=global_tokens)
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, dense(*theirs, mask), everywhere, [], ours, theirs)


@given(st.data())
def test_it_is_dense_attention_for_any_sizes(data):
    attend = data.draw(st.sampled_from([local_attention, causal_local_attention]))
    length, window = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 14))
    window += attend is local_attention and window % 2 == 0
    tokens = data.draw(st.sets(st.integers(0, length - 1), max_size=3))
    q, k, v = inputs(length)
    out = attend(q, k, v, window=window, global_tokens=sorted(tokens, reverse=True))
    expected = dense(q, k, v, pairs(attend, length, window, tokens))
    assert torch.allclose(out, expected, rtol=0, atol=1e-10)


def test_an_even_window_will_do_if_it_looks_back_only(oracle):
    q, k, v = inputs()
    for window in (2, 4):
        expected = dense(q, k, v, window_mask(13, window=window))
        oracle.close(causal_local_attention(q, k, v, window=window), expected)


@BOTH
def test_the_leading_axes_may_be_any(oracle, attend):
    q, k, v = (x[0] for x in inputs())
    mask = pairs(attend, 13, 3, (5,))
    out = attend(q, k, v, mask, window=3, global_tokens=(5,))
    oracle.close(out, dense(q, k, v, mask))
    oracle.close(attend(q[0], k[0], v[0], window=3, global_tokens=(5,)), out[0])


@BOTH
def test_a_window_wider_than_the_sequence_is_no_window_and_costs_no_more(oracle, attend):
    q, k, v = inputs()
    oracle.close(attend(q, k, v, window=10**9 + 1), dense(q, k, v, pairs(attend, 13, 25)))


@BOTH
@pytest.mark.parametrize("global_tokens", [(), (4,)])
def test_another_scale_is_used(oracle, attend, global_tokens):
    q, k, v = inputs()
    expected = dense(q, k, v, pairs(attend, 13, 3, global_tokens), scale=0.9)
    oracle.close(attend(q, k, v, window=3, global_tokens=global_tokens, scale=0.9), expected)


@BOTH
def test_padding_that_sees_only_padding_gets_zeros_and_no_gradient(attend):
    q, k, v = inputs()
    keep = over_keys(real_tokens(LENGTHS, 13))
    out = attend(q, k, v, keep, window=3)
    assert (out[1, :, 6:] == 0).all() and (out[1, :, :4] != 0).all()
    out.sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all() and (x.grad[1, :, 6:] == 0).all()


@BOTH
def test_it_serves_as_the_attention_of_all_heads(oracle, size, attend):
    ours = MultiHeadAttention(size.d_model, size.head, attend=partial(attend, window=3))
    x = torch.randn(3, 13, size.d_model)
    keep = over_keys(real_tokens(LENGTHS, 13))
    mask = (pairs(attend, 13, 3) & keep).clone()
    real = real_tokens(LENGTHS, 13)
    expected = ours.mix(dense(*ours.project(x), mask))
    oracle.close(ours(x, keep=keep)[real], expected[real])


@pytest.mark.parametrize(
    ("attend", "window"),
    [
        (local_attention, 0),
        (local_attention, 4),
        (local_attention, -1),
        (causal_local_attention, 0),
        (causal_local_attention, -1),
    ],
)
def test_windows_that_cannot_be_are_refused(attend, window):
    with pytest.raises(ValueError, match=f"window must be .*at least 1.*; got {window}"):
        attend(*inputs(), window=window)


@BOTH
@pytest.mark.parametrize("global_tokens", [[13], [-1], [3, 3], [0, 13, 5]])
def test_global_tokens_outside_or_twice_are_refused(attend, global_tokens):
    message = r"global_tokens must be different positions in 0\.\.12; got \["
    with pytest.raises(ValueError, match=message):
        attend(*inputs(), window=3, global_tokens=global_tokens)
    attend(*inputs(), window=3, global_tokens=[12, 0])


def test_bad_shapes_and_masks_are_refused():
    q, k, v = inputs()

    def go(*tensors, keep=None):
        unwrap(banded_attention)(*tensors, keep, 3, (), None, causal=False)

    for wrong in ((q, k[:, :, 1:], v[:, :, 1:]), (q[..., 1:, :], k, v), (q, k, v[..., 1:, :])):
        with pytest.raises(ValueError, match="of a sequence with itself; got q, k and v"):
            go(*wrong)
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        go(q, k, v, keep=torch.ones(13, 13))
    with pytest.raises(ValueError, match="does not broadcast"):
        go(q, k, v, keep=torch.ones(13, 11, dtype=torch.bool))
    with pytest.raises(ValueError, match="1 of the 3 rows of keep"):
        go(q, k, v, keep=over_keys(torch.tensor([[True], [False], [True]]).expand(3, 13)))
