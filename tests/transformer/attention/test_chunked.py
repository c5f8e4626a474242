"""Chunked attention against F.scaled_dot_product_attention, values and gradients."""

from functools import partial
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    MultiHeadAttention,
    causal_mask,
    chunked_attention,
    fused_attention,
    look_back,
    over_keys,
    real_tokens,
    window_mask,
)
from qa_lab.transformer.positions import Alibi
from tests.comparing import assert_same

LENGTHS = torch.tensor([13, 4, 9])


def inputs(query=7, key=13, d_k=5, d_v=3):
    return [
        torch.randn(3, 2, length, width, requires_grad=True)
        for length, width in ((query, d_k), (key, d_k), (key, d_v))
    ]


def copies(tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def check(oracle, ours, keep, dense, **options):
    theirs = copies(ours)
    out = chunked_attention(*ours, keep, **options)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=dense, scale=options.get("scale"))
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], ours, theirs)


def masks(kind):
    if kind == "none":
        return None
    if kind == "keys":
        return over_keys(real_tokens(LENGTHS, 13))
    shape = {"pairs": (7, 13), "pairs of each head": (3, 2, 7, 13), "queries": (1, 1, 7, 1)}[kind]
    keep = torch.rand(shape) < 0.4
    keep[..., 0] = True
    return keep


@pytest.mark.parametrize("kind", ["none", "keys", "pairs", "pairs of each head", "queries"])
@pytest.mark.parametrize("chunks", [(1, 1), (3, 4), (7, 13), (20, 5)])
def test_it_is_dense_attention_whatever_the_chunks(oracle, chunks, kind):
    keep = masks(kind)
    check(oracle, inputs(), keep, keep, query_chunk=chunks[0], key_chunk=chunks[1])


@pytest.mark.parametrize("options", [{}, {"scale": 0.9}])
def test_it_is_dense_attention_unless_told(oracle, options):
    check(oracle, inputs(), None, None, **options)


@pytest.mark.parametrize("kind", ["none", "keys", "pairs of each head"])
@pytest.mark.parametrize("shape", [(7, 13), (2, 7, 13), (3, 1, 7, 13)])
@pytest.mark.parametrize("chunks", [(3, 4), (7, 13)])
def test_a_bias_is_added_to_the_scores_and_has_a_gradient(oracle, twins, chunks, shape, kind):
    """One bias for all rows, one for each head, one for each sequence."""
    ours, keep, (bias, their_bias) = inputs(), masks(kind), twins(*shape)
    theirs = copies(ours)
    options = dict(scale=0.4, query_chunk=chunks[0], key_chunk=chunks[1])
    out = chunked_attention(*ours, keep, bias, **options)
    expected = fused_attention(*theirs, keep, their_bias, scale=0.4)
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], [*ours, bias], [*theirs, their_bias])
    without = chunked_attention(*ours, keep, **options)
    assert (out - without).abs().max() >= 1e-2


@pytest.mark.parametrize("shape", [(1, 13), (2, 7, 1)])
def test_a_bias_may_be_one_for_all_queries_or_for_all_keys(oracle, twins, shape):
    ours, (bias, their_bias) = inputs(), twins(*shape)
    theirs = copies(ours)
    out = chunked_attention(*ours, None, bias, query_chunk=3, key_chunk=4)
    expected = fused_attention(*theirs, None, their_bias.expand(2, 7, 13))
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], [*ours, bias], [*theirs, their_bias])


@pytest.mark.parametrize(("query", "key"), [(13, 13), (4, 13)])
@pytest.mark.parametrize("kind", ["none", "keys"])
def test_looking_back_needs_no_mask(oracle, query, key, kind):
    """The queries are the last of the keys' positions."""
    keep = masks(kind)
    dense = causal_mask(13)[-query:] if keep is None else causal_mask(13)[-query:] & keep
    check(oracle, inputs(query, key), keep, dense, look=look_back, query_chunk=3, key_chunk=4)


def test_any_function_of_positions_will_do(oracle):
    def window(queries, keys):
        return (keys <= queries) & (queries - keys < 3)

    dense = window_mask(13, window=3)
    check(oracle, inputs(13), None, dense, look=window, query_chunk=5, key_chunk=2)


def test_the_function_of_positions_is_asked_block_by_block():
    asked = []

    def look(queries, keys):
        asked.append((queries.flatten().tolist(), keys.flatten().tolist()))
        return look_back(queries, keys)

    q, k, v = inputs(query=3, key=5)
    chunked_attention(q, k, v, look=look, query_chunk=2, key_chunk=4)
    blocks = [([2, 3], [0, 1, 2, 3]), ([2, 3], [4]), ([4], [0, 1, 2, 3]), ([4], [4])]
    assert asked == blocks


@given(st.data())
def test_it_is_dense_attention_for_any_sizes(data):
    query, key = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    chunks = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    q, k, v = inputs(query, key)
    keep = torch.rand(query, key) < 0.5
    keep[range(query), [i % key for i in range(query)]] = True
    out = chunked_attention(q, k, v, keep, query_chunk=chunks[0], key_chunk=chunks[1])
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    assert torch.allclose(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("extreme", [1e4, -1e4])
@pytest.mark.parametrize(("dtype", "eps"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_extreme_scores_stay_finite_and_right(extreme, dtype, eps):
    """Scores of +-1e4, whose exponentials no float holds; the extreme key in the last block."""
    q, k, v = (x.detach().to(dtype) for x in inputs())
    q[..., 0], k[..., 0] = 1, 0
    k[..., -1, 0] = extreme
    ours, theirs = ([x.clone().requires_grad_() for x in (q, k, v)] for _ in range(2))
    out = chunked_attention(*ours, scale=1.0, query_chunk=3, key_chunk=4)
    expected = F.scaled_dot_product_attention(*theirs, scale=1.0)
    direction = torch.randn_like(out)
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    assert torch.allclose(out, expected, rtol=0, atol=eps)
    for x, y in zip(ours, theirs, strict=True):
        assert x.grad.isfinite().all()  # each of such scores is rounded to 1e4 times eps itself
        assert torch.allclose(x.grad, y.grad, rtol=0, atol=eps * abs(extreme))


def test_all_scores_extremely_low_is_as_if_none_were(oracle):
    q, k, v = inputs()
    with torch.no_grad():
        q[..., 0], k[..., 0] = 30, -30  # exp(-900) is 0 in float64
    check(oracle, [q, k, v], None, None, scale=1.0, query_chunk=3, key_chunk=4)


@pytest.mark.parametrize("hidden", [slice(0, 8), slice(4, 13)])
def test_whole_blocks_may_be_hidden(oracle, hidden):
    keep = torch.ones(7, 13, dtype=torch.bool)
    keep[:, hidden] = False
    check(oracle, inputs(), keep, keep, query_chunk=3, key_chunk=4)


def test_half_precision_loses_no_more_than_its_rounding():
    q, k, v = (x.detach() for x in inputs(key=999))
    halves = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in halves]
    out, expected = chunked_attention(*halves), F.scaled_dot_product_attention(*exact)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.double(), expected, rtol=2**-8, atol=1e-6)
    out.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(halves, exact, strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, rtol=2**-8, atol=1e-5)


def test_autocast_does_not_reach_the_sums():
    q, k, v = (x.detach().float() for x in inputs())
    expected = chunked_attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(chunked_attention(q, k, v), expected)  # a bfloat16 would be 1e-3 away


def test_the_leading_axes_may_be_any(oracle):
    for axes in ((), (2,), (2, 1, 3)):
        ours = [torch.randn(*axes, n, d, requires_grad=True) for n, d in ((7, 5), (13, 5), (13, 3))]
        keep = masks("pairs")
        check(oracle, ours, keep, keep, query_chunk=3, key_chunk=4)


def test_the_gradient_is_that_of_the_function():
    q, k, v = (torch.randn(1, 2, n, 3, requires_grad=True) for n in (4, 5, 5))
    bias = torch.randn(2, 4, 5, requires_grad=True)
    attend = partial(chunked_attention, look=look_back, query_chunk=3, key_chunk=2)
    assert torch.autograd.gradcheck(attend, (q, k, v), nondet_tol=1e-12)
    assert torch.autograd.gradcheck(attend, (q, k, v, None, bias), nondet_tol=1e-12)


def test_it_can_be_differentiated_once_only():
    q, k, v = inputs()
    with pytest.raises(RuntimeError, match="can be differentiated once; create_graph=True"):
        torch.autograd.grad(chunked_attention(q, k, v).sum(), q, create_graph=True)


def test_it_serves_as_the_attention_of_all_heads(oracle, size):
    attend = partial(chunked_attention, query_chunk=3, key_chunk=4)
    ours = MultiHeadAttention(size.d_model, size.head, attend=attend)
    theirs = MultiHeadAttention(size.d_model, size.head)
    theirs.load_state_dict(ours.state_dict())
    x, memory = torch.randn(3, 7, size.d_model), torch.randn(3, 13, size.d_model)
    oracle.close(ours(x, memory, masks("keys")), theirs(x, memory, masks("keys")))
    plain = ours(x)
    for attention in (ours, theirs):
        attention.score_bias = Alibi(size.head)
    oracle.close(ours(x), theirs(x))
    assert (ours(x) - plain).abs().max() >= 1e-2


@pytest.mark.parametrize("chunks", [(0, 5), (5, 0)])
def test_chunks_less_than_one_are_refused(chunks):
    message = f"must be at least 1; got {chunks[0]} and {chunks[1]}"
    with pytest.raises(ValueError, match=message):
        chunked_attention(*inputs(), query_chunk=chunks[0], key_chunk=chunks[1])


def test_bad_shapes_and_masks_are_refused():
    q, k, v = inputs()
    go = unwrap(chunked_attention)
    for wrong in ((q[:2], k, v), (q[..., 1:], k, v), (q, k, v[:, :, 1:])):
        with pytest.raises(ValueError, match=r"give q \[\.\.\. query d_k\].*got \["):
            go(*wrong)
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        go(q, k, v, torch.ones(7, 13))
    with pytest.raises(ValueError, match="does not broadcast"):
        go(q, k, v, torch.ones(13, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="7 of the 7 rows of keep"):
        go(q, k, v, torch.zeros(7, 13, dtype=torch.bool))
    # Cut into blocks, a larger bias would otherwise pass for one that fits.
    for shape in ((20, 20), (13, 7), (3, 3, 2, 7, 13)):
        with pytest.raises(ValueError, match=r"bias has shape \[.*does not broadcast"):
            go(q, k, v, None, torch.ones(shape), query_chunk=4, key_chunk=4)


def test_a_query_that_sees_no_key_is_refused_also_if_it_takes_both_masks():
    q, k, v = inputs(13)
    keep = torch.ones(13, 13, dtype=torch.bool)
    keep[:, 0] = False
    with pytest.raises(ValueError, match="keep and look together let 6 of 30 queries of a block"):
        chunked_attention(q, k, v, keep, look=look_back, query_chunk=5)
