"""Relative positions against plain loops. Hugging Face judges them in test_hf_positions."""

import math
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    MultiHeadAttention,
    causal_mask,
    masked_softmax,
    over_keys,
    real_tokens,
)
from qa_lab.transformer.positions import (
    Alibi,
    ShawAttention,
    T5Bias,
    alibi_slopes,
    clipped_distances,
    distances,
    shaw_attention,
    t5_bucket,
)
from qa_lab.transformer.positions.biases import spread
from tests.comparing import assert_identical


def by_loop(queries, keys, value):
    """A matrix of queries and keys from the distance, entry by entry."""
    first = keys - queries
    return torch.tensor([[value(j - (first + i)) for j in range(keys)] for i in range(queries)])


@pytest.mark.parametrize("queries, keys", [(7, 7), (1, 7), (3, 5), (1, 1)])
def test_values_of_the_distance_are_spread_over_queries_and_keys(queries, keys):
    far = distances(queries, keys)
    assert far.tolist() == list(range(-(keys - 1), queries))
    expected = torch.stack([by_loop(queries, keys, float), by_loop(queries, keys, lambda d: d**2)])
    found = spread(torch.stack([far, far**2]).double(), queries)
    assert_identical(found, expected.double(), because="whole numbers, copied")
    clipped = by_loop(queries, keys, lambda d: max(-2, min(2, d)) + 2)
    assert_identical(clipped_distances(queries, keys, 2), clipped)


def t5_by_hand(distance, bidirectional, n, largest):
    """The buckets in exact arithmetic, one distance at a time."""
    if bidirectional:
        upper = n // 2 if distance > 0 else 0
        n, far = n // 2, abs(distance)
    else:
        upper, far = 0, max(-distance, 0)
    exact = n // 2
    if far < exact:
        return upper + far
    growth = math.log(far / exact) / math.log(largest / exact) * (n - exact)
    return upper + min(n - 1, exact + math.floor(growth + 1e-6))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"n_buckets": 12, "max_distance": 41}])
def test_t5_buckets_are_exact_for_the_near_and_ever_wider_for_the_far(bidirectional, sizes):
    far = torch.arange(-300, 301)
    n, largest = sizes.get("n_buckets", 32), sizes.get("max_distance", 128)
    expected = [t5_by_hand(d, bidirectional, n, largest) for d in far.tolist()]
    found = t5_bucket(far, bidirectional=bidirectional, **sizes)
    assert found.tolist() == expected
    assert found.min() == 0 and found.max() == n - 1


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_bias_adds_the_number_of_the_bucket(oracle, bidirectional):
    ours = T5Bias(3, bidirectional=bidirectional, n_buckets=8, max_distance=5)
    assert ours.W_R.shape == (8, 3) and not ours.W_R.any()
    table = torch.randn(8, 3, requires_grad=True)
    with torch.no_grad():
        ours.W_R.copy_(table)
    bucket = by_loop(4, 11, lambda d: t5_by_hand(d, bidirectional, 8, 5))
    oracle.agree(ours(4, 11), table[bucket].permute(2, 0, 1), slice(None), [(table, [ours.W_R])])
    full = T5Bias(3, bidirectional=True)
    assert full.W_R.shape == (32, 3) and full.max_distance == 128


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"n_buckets": 7}, "n_buckets = 7: bidirectional attention needs at least 4, an even"),
        ({"n_buckets": 2}, "n_buckets = 2: bidirectional attention needs at least 4, an even"),
        ({"bidirectional": False, "n_buckets": 1}, r"= 1: causal attention needs at least 2\."),
        ({"max_distance": 8}, "max_distance = 8 must exceed 8"),
        ({"bidirectional": False, "max_distance": 16}, "max_distance = 16 must exceed 16"),
    ],
)
def test_buckets_that_do_not_work_out_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        T5Bias(3, **{"bidirectional": True, **wrong})


def test_the_fewest_buckets_there_can_be():
    far = torch.arange(-3, 4)
    two = t5_bucket(far, bidirectional=False, n_buckets=2, max_distance=2)
    assert two.tolist() == [1, 1, 1, 0, 0, 0, 0]
    four = t5_bucket(far, bidirectional=True, n_buckets=4, max_distance=2)
    assert four.tolist() == [1, 1, 1, 0, 3, 3, 3]
    odd = t5_bucket(far, bidirectional=False, n_buckets=3, max_distance=3)
    assert odd.tolist() == [2, 2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 13])
def test_alibi_falls_off_with_the_distance_at_each_heads_slope(oracle, n_heads):
    n = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * h / n) for h in range(1, n + 1)]
    slopes += [2 ** (-8 * h / (2 * n)) for h in range(1, 2 * n + 1)][::2][: n_heads - n]
    oracle.close(alibi_slopes(n_heads), torch.tensor(slopes, dtype=torch.float64))
    expected = torch.stack([by_loop(4, 7, lambda d, s=s: -s * abs(d)) for s in slopes])
    alibi = Alibi(n_heads)
    oracle.close(alibi(4, 7), expected)
    assert alibi.float()(4, 7).dtype == torch.float32
    assert not alibi.state_dict() and not list(alibi.parameters())


def test_attention_without_heads_is_refused():
    with pytest.raises(ValueError, match=r"n_heads = 0: .* at least one head"):
        unwrap(alibi_slopes)(0)


@pytest.mark.parametrize(
    "ask", [Alibi(2), T5Bias(2, bidirectional=True), lambda q, k: clipped_distances(q, k, 3)]
)
def test_cross_attention_has_no_distances(ask):
    with pytest.raises(ValueError, match="8 queries cannot be the last of 7 positions"):
        unwrap(ask)(8, 7)
    assert ask(7, 7).shape[-2:] == (7, 7)


@pytest.mark.parametrize("make", [Alibi, lambda heads: T5Bias(heads, bidirectional=False)])
def test_a_bias_is_what_multi_head_attention_adds_to_its_scores(oracle, size, make):
    bias = make(size.head)
    for parameter in bias.parameters():
        torch.nn.init.normal_(parameter)
    ours = MultiHeadAttention(size.d_model, size.head, score_bias=bias)
    x = torch.randn(size.batch, size.query, size.d_model)
    keep = causal_mask(size.query)
    q, k, v = ours.project(x)
    scores = q @ k.mT / size.d_k**0.5 + bias(size.query, size.query)
    oracle.close(ours(x, keep=keep), ours.mix(masked_softmax(scores, keep) @ v))


def shaw_by_loop(q, k, v, a_k, a_v, m, keep):
    """Shaw et al., eq. 3 and 4 as they stand, one query and key at a time."""
    out = torch.zeros(*q.shape[:-1], v.shape[-1])
    first = k.shape[-2] - q.shape[-2]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                seen = [j for j in range(k.shape[2]) if keep[b, 0, i, j]]
                rows = [max(-m, min(m, j - (first + i))) + m for j in seen]
                pairs = list(zip(seen, rows, strict=True))
                e = [q[b, h, i] @ (k[b, h, j] + a_k[r]) / q.shape[-1] ** 0.5 for j, r in pairs]
                weights = torch.stack(e).softmax(0)
                found = [
                    w * (v[b, h, j] + a_v[r]) for w, (j, r) in zip(weights, pairs, strict=True)
                ]
                out[b, h, i] = sum(found)
    return out


@pytest.mark.parametrize("m", [0, 1, 3, 9])
@pytest.mark.parametrize("queries", [5, 3])
def test_shaw_attention_is_the_papers_without_the_big_tensor(oracle, twins, m, queries):
    ours = ShawAttention(11, m, d_v=4)
    a_k, a_v = (t.detach().clone().requires_grad_() for t in (ours.key_table, ours.value_table))
    q, q2 = twins(2, 3, queries, 11)
    k, k2 = twins(2, 3, 5, 11)
    v, v2 = twins(2, 3, 5, 4)
    keep = over_keys(real_tokens(torch.tensor([5, 3]), 5)) & causal_mask(5)[5 - queries :]
    expected = shaw_by_loop(q2, k2, v2, a_k, a_v, m, keep)
    pairs = [(a_k, [ours.key_table]), (a_v, [ours.value_table])]
    oracle.agree(ours(q, k, v, keep), expected, slice(None), pairs, [q, k, v], [q2, k2, v2])


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 5))
def test_shaw_attention_sees_distances_not_places(queries, older, m):
    """Dropping keys that nobody may see, or feeding the queries one by one, changes nothing."""
    attend, keys = ShawAttention(5, m), older + queries
    q, k, v = torch.randn(1, 2, queries, 5), torch.randn(1, 2, keys, 5), torch.randn(1, 2, keys, 5)
    keep = causal_mask(keys)[older:]
    out = attend(q, k, v, keep)
    for i in range(queries):
        end = older + i + 1
        alone = attend(q[:, :, i : i + 1], k[:, :, :end], v[:, :, :end])
        assert (alone - out[:, :, i : i + 1]).abs().max() < 1e-12


def test_shaw_attention_starts_with_tables_of_the_scale_of_its_features():
    attend = ShawAttention(101, 50, d_v=53)
    assert attend.key_table.shape == (101, 101) and attend.value_table.shape == (101, 53)
    assert attend.key_table.std().item() * 101**0.5 == pytest.approx(1, abs=0.03)
    assert attend.value_table.std().item() * 53**0.5 == pytest.approx(1, abs=0.03)
    assert ShawAttention(7, 2).value_table.shape == (5, 7)


def test_shaw_attention_looks_everywhere_by_default(oracle):
    q, k_table, v_table = torch.randn(2, 3, 4, 5), torch.randn(3, 5), torch.randn(3, 5)
    everywhere = torch.ones(4, 4, dtype=torch.bool)
    out = shaw_attention(q, q, q, k_table, v_table)
    oracle.close(out, shaw_attention(q, q, q, k_table, v_table, everywhere))
    oracle.close(
        out[:1], shaw_by_loop(q[:1], q[:1], q[:1], k_table, v_table, 1, everywhere[None, None])
    )


def test_shaw_attention_is_what_multi_head_attention_can_attend_with(oracle, size):
    attend = ShawAttention(size.d_k, 2)
    ours = MultiHeadAttention(size.d_model, size.head, attend=attend)
    x = torch.randn(size.batch, size.query, size.d_model)
    keep = causal_mask(size.query)
    oracle.close(ours(x, keep=keep), ours.mix(attend(*ours.project(x), keep)))
    assert attend.key_table in set(ours.parameters())


def test_bad_tables_and_masks_are_refused():
    with pytest.raises(ValueError, match="max_distance = -1 tokens: it must be 0 or more"):
        ShawAttention(7, -1)
    q = torch.randn(1, 2, 3, 7)
    for rows in [(4, 4), (5, 3)]:
        with pytest.raises(ValueError, match=rf"have {rows[0]} and {rows[1]} rows; both need 2 m"):
            unwrap(shaw_attention)(q, q, q, *(torch.zeros(n, 7) for n in rows))
    with pytest.raises(ValueError, match="queries cannot be the last of 2 positions"):
        ShawAttention(7, 2)(q, q[:, :, :2], q[:, :, :2])
    with pytest.raises(ValueError, match="let a query see no key"):
        ShawAttention(7, 2)(q, q, q, torch.zeros(3, 3, dtype=torch.bool))
