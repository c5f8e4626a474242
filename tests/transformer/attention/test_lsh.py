"""LSH attention against its definition, by a plain loop, and against dense attention."""

import math
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    LSHAttention,
    MultiHeadAttention,
    lsh_attention,
    lsh_buckets,
    over_keys,
    random_rotations,
    real_tokens,
    tie_query_and_key,
)
from tests.comparing import assert_identical

LENGTHS = torch.tensor([11, 4])


def inputs(length=11, d_k=5, d_v=3):
    q = torch.randn(2, 2, length, d_k, requires_grad=True)
    return q, torch.randn(2, 2, length, d_v, requires_grad=True)


def copies(tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def bucket_of(x, R):
    projections = [sum(a * b for a, b in zip(x, column, strict=True)) for column in R.T.tolist()]
    projections += [-p for p in projections]
    return projections.index(max(projections))


def found(x, rotations, chunk):
    """For each position the others that some round puts in its bucket, and in its chunk or before.

    Args:
        x: Vectors of one sequence, as lists.
        rotations: [round d_k half].
        chunk: Positions to a chunk.
    """
    union = [set() for _ in x]
    for R in rotations:
        buckets = [bucket_of(row, R) for row in x]
        order = sorted(range(len(x)), key=lambda i: (buckets[i], i))
        part = {position: place // chunk for place, position in enumerate(order)}
        for i in range(len(x)):
            for j in range(len(x)):
                if i != j and buckets[i] == buckets[j] and part[i] - part[j] in (0, 1):
                    union[i].add(j)
    return union


def by_loop(q, v, rotations, chunk, causal, keep, scale):
    rows = []
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            unions = found(q[b, h].tolist(), rotations, chunk)
            for i, union in enumerate(unions):
                seen = [j for j in sorted(union) if not causal or j < i]
                seen = [j for j in seen if keep is None or keep[b, h, i, j]] or [i]
                keys = q[b, h, seen] / q[b, h, seen].norm(dim=-1, keepdim=True)
                rows.append((scale * keys @ q[b, h, i]).softmax(-1) @ v[b, h, seen])
    return torch.stack(rows).view(*q.shape[:-1], -1)


def masks(kind, length=11):
    if kind == "none":
        return None, None
    if kind == "padding":
        keep = over_keys(real_tokens(LENGTHS, length))
    else:
        keep = (torch.rand(length, length) < 0.6) | torch.eye(length, dtype=torch.bool)
    return keep, keep.expand(2, 2, length, length)


@pytest.mark.parametrize("kind", ["none", "padding", "pairs"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("n_rounds", "n_buckets", "chunk"), [(1, 4, 3), (3, 4, 2), (2, 6, 5), (4, 2, 11), (3, 2, 1)]
)
def test_it_is_its_definition(oracle, n_rounds, n_buckets, chunk, causal, kind):
    ours = inputs()
    theirs = copies(ours)
    rotations = random_rotations(n_rounds, 5, n_buckets)
    keep, look = masks(kind)
    out = lsh_attention(
        ours[0], ours[0], ours[1], keep, rotations=rotations, chunk=chunk, causal=causal
    )
    expected = by_loop(*theirs, rotations, chunk, causal, look, 5**-0.5)
    everywhere = torch.ones(out.shape[:-1], dtype=torch.bool)
    oracle.agree(out, expected, everywhere, [], ours, theirs)


@given(st.integers(1, 9), st.integers(1, 10), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_it_is_its_definition_for_any_sizes(length, chunk, n_rounds, half, causal):
    q, v = inputs(length)
    rotations = random_rotations(n_rounds, 5, 2 * half)
    out = lsh_attention(q, q, v, rotations=rotations, chunk=chunk, causal=causal, scale=1.5)
    expected = by_loop(q, v, rotations, chunk, causal, None, 1.5)
    assert torch.allclose(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [6, 11, 20])
@pytest.mark.parametrize("causal", [False, True])
def test_one_bucket_in_reach_is_dense_attention_to_the_others(oracle, causal, chunk):
    """Positive vectors and an all-positive rotation make one bucket, whatever the round."""
    q, v = inputs()
    q = q.abs()
    keep = ~torch.eye(11, dtype=torch.bool)
    if causal:
        keep = keep.tril()
        keep[0, 0] = True  # it has nobody else
    elif chunk < 11:
        keep[:chunk, chunk:] = False  # a chunk looks one chunk back, not forward
    keys = q / q.square().sum(-1, keepdim=True).sqrt()
    expected = F.scaled_dot_product_attention(q, keys, v, attn_mask=keep)
    rotations = torch.rand(2, 5, 1)
    oracle.close(lsh_attention(q, q, v, rotations=rotations, chunk=chunk, causal=causal), expected)


def test_a_token_alone_in_its_bucket_sees_itself(oracle):
    q = torch.tensor([[3.0, 0.1], [-3.0, 0.1], [0.1, 3.0], [0.1, -3.0]])[None, None]
    v = torch.randn(1, 1, 4, 3)
    rotations = torch.eye(2)[None].expand(3, -1, -1)
    assert lsh_buckets(q, rotations).tolist() == [[[[0, 2, 1, 3]] * 3]]
    oracle.close(lsh_attention(q, q, v, rotations=rotations, chunk=4), v)


def test_the_same_round_again_changes_nothing(oracle):
    q, v = inputs()
    once = random_rotations(1, 5, 4)
    out = lsh_attention(q, q, v, rotations=once, chunk=4)
    oracle.close(lsh_attention(q, q, v, rotations=once.expand(3, -1, -1), chunk=4), out)


def test_buckets_depend_on_the_direction_only():
    x, rotations = torch.randn(3, 2, 13, 5), random_rotations(4, 5, 6)
    buckets = lsh_buckets(x, rotations)
    assert buckets.shape == (3, 2, 4, 13) and set(buckets.flatten().tolist()) == set(range(6))
    assert_identical(buckets, lsh_buckets(7.3 * x, rotations))
    assert ((buckets - lsh_buckets(-x, rotations)).abs() == 3).all(), "the other end"


def test_two_buckets_collide_as_often_as_the_angle_says():
    """Two half-spaces: vectors at an angle t share one with probability 1 - t / pi."""
    rounds = 20_000
    rotations = random_rotations(rounds, 3, 2)
    for angle in (0.3, 1.2, 2.5):
        x = torch.tensor([[1.0, 0.0, 0.0], [math.cos(angle), math.sin(angle), 0.0]])
        buckets = lsh_buckets(x, rotations)
        share = (buckets[:, 0] == buckets[:, 1]).double().mean()
        p = 1 - angle / math.pi
        assert (share - p).abs() < 4.5 * math.sqrt(p * (1 - p) / rounds)


def test_the_module_hashes_anew_at_each_call(oracle):
    q, v = inputs()
    attend = LSHAttention(
        4, 3, n_rounds=2, causal=True, scale=0.8, generator=torch.Generator().manual_seed(5)
    )
    keep = over_keys(real_tokens(LENGTHS, 11))
    same = torch.Generator().manual_seed(5)
    outs = []
    for _ in range(2):
        rotations = random_rotations(2, 5, 4, same)
        expected = lsh_attention(
            q, q, v, keep, rotations=rotations, chunk=3, causal=True, scale=0.8
        )
        outs.append(attend(q, q, v, keep))
        oracle.close(outs[-1], expected)
    assert (outs[0] - outs[1]).abs().max() > 0.1


def test_the_module_hashes_once_and_looks_both_ways_unless_told(oracle):
    q, v = inputs()
    torch.manual_seed(3)
    out = LSHAttention(4, 3)(q, q, v)
    torch.manual_seed(3)
    oracle.close(out, lsh_attention(q, q, v, rotations=random_rotations(1, 5, 4), chunk=3))


def test_it_serves_as_the_attention_of_all_heads_with_tied_projections(oracle, size):
    ours = MultiHeadAttention(size.d_model, size.head, attend=LSHAttention(2, 13))
    x = torch.randn(2, 11, size.d_model)
    with pytest.raises(ValueError, match=r"needs keys that are the queries.*tie_query_and_key"):
        ours(x)
    tie_query_and_key(ours)
    torch.manual_seed(3)
    out = ours(x)
    torch.manual_seed(3)
    q, k, v = ours.project(x)
    oracle.close(out, ours.mix(LSHAttention(2, 13)(q, k, v)))


def test_extreme_queries_stay_finite_and_right(oracle):
    q, v = inputs()
    q.data *= 1e5
    rotations = random_rotations(2, 5, 4)
    out = lsh_attention(q, q, v, rotations=rotations, chunk=4)
    oracle.close(out, by_loop(q, v, rotations, 4, False, None, 5**-0.5))
    out.sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("n_buckets", [-2, 0, 1, 3])
def test_bucket_counts_that_cannot_be_are_refused(n_buckets):
    with pytest.raises(ValueError, match=f"must be even and at least 2.*got {n_buckets}"):
        unwrap(random_rotations)(1, 5, n_buckets)
    with pytest.raises(ValueError, match=f"must be even and at least 2.*got {n_buckets}"):
        LSHAttention(n_buckets, 3)
    assert random_rotations(1, 1, 2).shape == (1, 1, 1)


def test_sizes_less_than_one_are_refused():
    q, v = inputs()
    with pytest.raises(ValueError, match="n_rounds must be at least 1; got 0"):
        unwrap(random_rotations)(0, 5, 4)
    with pytest.raises(ValueError, match="d_k must be at least 1; got 0"):
        unwrap(random_rotations)(1, 0, 4)
    with pytest.raises(ValueError, match="n_rounds must be at least 1; got 0"):
        LSHAttention(4, 3, n_rounds=0)
    with pytest.raises(ValueError, match="chunk must be at least 1; got 0"):
        LSHAttention(4, 0)
    with pytest.raises(ValueError, match="chunk must be at least 1; got 0"):
        lsh_attention(q, q, v, rotations=random_rotations(1, 5, 4), chunk=0)


def test_bad_shapes_and_masks_are_refused():
    q, v = inputs()
    go = unwrap(lsh_attention)
    rotations = random_rotations(1, 5, 4)
    for wrong_v, wrong_rotations in ((v[:, :, 1:], rotations), (v, rotations[:, 1:])):
        with pytest.raises(ValueError, match=r"give q \[batch head length d_k\].*rotations"):
            go(q, q, wrong_v, rotations=wrong_rotations, chunk=3)
    with pytest.raises(ValueError, match="needs keys that are the queries"):
        go(q, q[:, :, 1:], v, rotations=rotations, chunk=3)
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        go(q, q, v, torch.ones(11, 11), rotations=rotations, chunk=3)
    with pytest.raises(ValueError, match="does not broadcast"):
        go(q, q, v, torch.ones(11, 7, dtype=torch.bool), rotations=rotations, chunk=3)
    with pytest.raises(ValueError, match="11 of the 11 rows of keep"):
        go(q, q, v, torch.zeros(11, 11, dtype=torch.bool), rotations=rotations, chunk=3)
