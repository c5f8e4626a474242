"""Multi-head attention against PyTorch's own, and what can be passed into it."""

from functools import partial
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.attention import (
    BilinearScores,
    DotProductAttention,
    KVCache,
    LSHAttention,
    MultiHeadAttention,
    ScoredAttention,
    causal_linear_attention,
    causal_local_attention,
    causal_mask,
    chunked_attention,
    fused_attention,
    linear_attention,
    local_attention,
    look_back,
    lsh_attention,
    over_keys,
    real_tokens,
    recurrent_linear_attention,
    scaled_dot_product_attention,
    tie_query_and_key,
)
from qa_lab.transformer.positions import Alibi, Rotary, ShawAttention, T5Bias
from tests.comparing import assert_same

LENGTHS = torch.tensor([7, 2, 5])
MEMORY_LENGTHS = torch.tensor([1, 5, 3])


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
        size.d_model, 3, d_k=4, d_v=5, bias=False, attend=DotProductAttention(scale=scale)
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
    ours = MultiHeadAttention(size.d_model, size.head, attend=DotProductAttention(scale=0.3))
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


def test_a_softmax_of_ones_own_is_used_by_the_module(size):
    def uniform(scores, keep):
        return torch.full_like(scores, 1 / scores.shape[-1])

    attention = MultiHeadAttention(
        size.d_model, size.head, attend=DotProductAttention(softmax=uniform)
    )
    x = torch.randn(size.batch, size.query, size.d_model)
    weights = attention.attend_with_weights(x)[1]
    assert_same(weights, torch.full_like(weights, 1 / size.query))
    flat = attention(x)
    assert_same(flat, flat[:, :1].expand_as(flat))  # else forward ignored the softmax


def heads_of(linear, x, heads):
    """[batch head length d], by hand: head h owns the features from h d to (h + 1) d."""
    return torch.stack((x @ linear.weight.T + linear.bias).chunk(heads, -1), 1)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_consecutive_query_heads_share_a_key_and_value_head(oracle, twins, size, kv_heads):
    """Against torch's own grouped heads (enable_gqa)."""
    ours = MultiHeadAttention(30, 6, n_kv_heads=kv_heads, d_v=7)
    oracle.copy_random([(torch.empty_like(p), [p]) for p in ours.parameters()], ours)
    assert ours.W_K.weight.shape == (kv_heads * 5, 30)
    assert ours.W_V.weight.shape == (kv_heads * 7, 30)
    x, x2 = twins(size.batch, size.query, 30)
    q, k, v = (
        heads_of(linear, x2, n)
        for linear, n in [(ours.W_Q, 6), (ours.W_K, kv_heads), (ours.W_V, kv_heads)]
    )
    keep = causal_mask(size.query)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, enable_gqa=True)
    expected = expected.transpose(1, 2).flatten(2) @ ours.W_O.weight.T + ours.W_O.bias
    out = ours(x, keep=keep)
    oracle.close(out, expected)
    oracle.close(ours.attend_with_weights(x, keep=keep)[0], expected)
    out.square().sum().backward(), expected.square().sum().backward()
    oracle.close(x.grad, x2.grad, "input gradient")


@pytest.mark.parametrize("weights", [False, True])
def test_queries_and_keys_are_turned_but_not_values(oracle, size, weights):
    """A rotation that depends on the position; with a cache, on the position in the sequence."""
    matrices = torch.randn(20, size.d_k, size.d_k)

    def rotate(x, start):
        return torch.einsum("bhld,lde->bhle", x, matrices[start : start + x.shape[2]])

    ours = MultiHeadAttention(size.d_model, size.head, rotate=rotate)
    x = torch.randn(size.batch, size.query, size.d_model)
    q, k, v = (heads_of(linear, x, size.head) for linear in (ours.W_Q, ours.W_K, ours.W_V))
    expected = F.scaled_dot_product_attention(
        rotate(q, 0), rotate(k, 0), v, attn_mask=causal_mask(size.query)
    )
    expected = expected.transpose(1, 2).flatten(2) @ ours.W_O.weight.T + ours.W_O.bias
    attend = (lambda *a, **b: ours.attend_with_weights(*a, **b)[0]) if weights else ours
    oracle.close(attend(x, keep=causal_mask(size.query)), expected)
    cache = KVCache()
    pieces = [
        attend(x[:, a:b], keep=causal_mask(size.query)[a:b, :b], cache=cache)
        for a, b in [(0, 3), (3, 4), (4, 7)]
    ]
    oracle.close(torch.cat(pieces, 1), expected)


@pytest.mark.parametrize("weights", [False, True])
def test_a_score_bias_is_added_for_the_last_queries_of_the_keys(oracle, size, weights):
    table = torch.randn(size.head, 20)  # by distance

    def score_bias(queries, keys):
        distance = (keys - queries + torch.arange(queries))[:, None] - torch.arange(keys)
        return table[:, distance % 20]

    ours = MultiHeadAttention(size.d_model, size.head, score_bias=score_bias)
    x = torch.randn(size.batch, size.query, size.d_model)
    q, k, v = (heads_of(linear, x, size.head) for linear in (ours.W_Q, ours.W_K, ours.W_V))
    added = score_bias(size.query, size.query).masked_fill(~causal_mask(size.query), -torch.inf)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
    expected = expected.transpose(1, 2).flatten(2) @ ours.W_O.weight.T + ours.W_O.bias
    attend = (lambda *a, **b: ours.attend_with_weights(*a, **b)[0]) if weights else ours
    oracle.close(attend(x, keep=causal_mask(size.query)), expected)
    cache = KVCache()
    attend(x[:, :5], keep=causal_mask(5), cache=cache)
    last = attend(x[:, 5:], keep=causal_mask(size.query)[5:], cache=cache)
    oracle.close(last, expected[:, 5:])


def test_a_score_bias_takes_the_dtype_of_the_queries():
    ours = MultiHeadAttention(6, 2, score_bias=lambda q, k: torch.ones(2, q, k)).float()
    assert ours(torch.randn(1, 3, 6, dtype=torch.float32)).dtype == torch.float32


def test_another_attention_gets_the_heads_and_the_mask(oracle, size):
    seen = []

    def attend(q, k, v, keep):
        seen.append((q, k, v, keep))
        return 2 * v[:, :, : q.shape[2]]

    ours = MultiHeadAttention(24, 4, n_kv_heads=2, attend=attend)
    x = torch.randn(size.batch, size.query, 24)
    keep = causal_mask(size.query)
    out = ours(x, keep=keep)
    (q, k, v, mask) = seen[0]
    assert q.shape == k.shape == v.shape == (size.batch, 4, size.query, 6) and mask is keep
    oracle.close(k[:, 0], k[:, 1]), oracle.close(v[:, 2], v[:, 3])
    oracle.close(out, (2 * v).transpose(1, 2).flatten(2) @ ours.W_O.weight.T + ours.W_O.bias)
    with pytest.raises(ValueError, match="makes no weights"):
        ours.attend_with_weights(x)


def test_another_attention_gets_the_bias_if_there_is_one_and_may_return_weights(size):
    bias, weights = torch.randn(2, size.query, size.query), torch.randn(size.batch, 2, 7, 7)

    def attend(q, k, v, keep, bias=None):
        return v, (weights if bias is None else weights + bias)

    x = torch.randn(size.batch, size.query, size.d_model)
    plain = MultiHeadAttention(size.d_model, size.head, attend=attend)
    assert plain.attend_with_weights(x)[1] is weights
    biased = MultiHeadAttention(
        size.d_model, size.head, attend=attend, score_bias=lambda queries, keys: bias
    )
    torch.testing.assert_close(biased.attend_with_weights(x)[1], weights + bias)


def test_without_positions_a_memory_may_have_any_length(oracle, size):
    """What told positions is gone, and the parameters are the same."""
    turned = MultiHeadAttention(
        size.d_model, size.head, d_k=12, rotate=Rotary(12), score_bias=T5Bias(2, bidirectional=True)
    )
    shaw = MultiHeadAttention(size.d_model, size.head, attend=ShawAttention(11, 3))
    for ours in (turned, shaw):
        plain = MultiHeadAttention(size.d_model, size.head, d_k=ours.d_k)
        kept = {n: p for n, p in ours.state_dict().items() if n.startswith("W_")}
        plain.load_state_dict(kept)
        x, memory = torch.randn(3, 7, size.d_model), torch.randn(3, 5, size.d_model)
        with pytest.raises(ValueError, match="cannot be the last of 5 positions"):
            ours(x, memory)
        assert ours.without_positions() is ours
        oracle.close(ours(x, memory), plain(x, memory))
        assert set(ours.state_dict()) == set(plain.state_dict())


WITHIN_ONE_SEQUENCE = [
    partial(local_attention, window=3),
    partial(causal_local_attention, window=3),
    causal_linear_attention,
    recurrent_linear_attention,
    LSHAttention(2, 3),
    partial(partial(lsh_attention, rotations=torch.ones(1, 11, 1)), chunk=3),
    partial(chunked_attention, look=look_back),
]
ACROSS_SEQUENCES = [linear_attention, partial(chunked_attention, look=None, key_chunk=3)]


@pytest.mark.parametrize("attend", WITHIN_ONE_SEQUENCE)
@pytest.mark.parametrize("memory_length", [5, 7, 11])
def test_an_attention_within_one_sequence_makes_way_for_one_across(
    oracle, size, attend, memory_length
):
    """Of equal lengths it would run, and take the places of both sequences for one's."""
    ours = MultiHeadAttention(size.d_model, size.head, attend=attend).without_positions()
    plain = MultiHeadAttention(size.d_model, size.head)
    plain.load_state_dict(ours.state_dict())
    x, memory = torch.randn(3, 7, size.d_model), torch.randn(3, memory_length, size.d_model)
    oracle.close(ours(x, memory), plain(x, memory))


@pytest.mark.parametrize("attend", [*ACROSS_SEQUENCES, DotProductAttention(scale=0.3)])
def test_an_attention_that_compares_no_places_stays(size, attend):
    ours = MultiHeadAttention(size.d_model, size.head, attend=attend).without_positions()
    assert ours.attend is attend


@pytest.mark.parametrize(
    ("attend", "name"),
    [
        (partial(local_attention, window=3), "local_attention"),
        (partial(partial(causal_local_attention), window=3), "causal_local_attention"),
        (linear_attention, "linear_attention"),
        (causal_linear_attention, "causal_linear_attention"),
        (recurrent_linear_attention, "recurrent_linear_attention"),
        (LSHAttention(2, 3), "LSHAttention"),
    ],
)
def test_a_score_bias_needs_an_attention_that_takes_one(size, attend, name):
    with pytest.raises(TypeError, match=f"^{name} takes no bias, so .* cannot have a score_bias"):
        MultiHeadAttention(size.d_model, size.head, attend=attend, score_bias=Alibi(size.head))


def test_a_function_of_torch_that_does_not_say_what_it_takes_is_let_in(size):
    attend, bias = F.scaled_dot_product_attention, Alibi(size.head)
    assert MultiHeadAttention(size.d_model, size.head, attend=attend, score_bias=bias)


@pytest.mark.parametrize(
    "make",
    [
        DotProductAttention,
        lambda: chunked_attention,
        lambda: scaled_dot_product_attention,
        lambda: lambda *inputs: fused_attention(*inputs),
        lambda: ScoredAttention(BilinearScores(11, 11)),
        lambda: ShawAttention(11, 0),
    ],
)
def test_every_attention_that_takes_a_bias_adds_it(oracle, size, make):
    """A bias that lets each query see one key leaves that key's value."""

    def one_key(queries, keys):
        return torch.full((size.head, queries, keys), -1e9).index_fill(2, torch.tensor([4]), 0.0)

    ours = MultiHeadAttention(size.d_model, size.head, attend=make(), score_bias=one_key)
    if isinstance(ours.attend, ShawAttention):
        torch.nn.init.zeros_(ours.attend.value_table)
    x = torch.randn(3, 7, size.d_model)
    value = ours.W_O(ours.W_V(x))[:, 4:5]
    oracle.close(ours(x), value.expand(-1, 7, -1))
    ours.score_bias = None
    assert (ours(x) - value).abs().max() >= 1e-2


def test_a_softmax_of_ones_own_works_with_a_cache_too(oracle, size):
    def squared(scores, keep):
        shares = scores.square().masked_fill(~keep, 0.0)
        return shares / shares.sum(-1, keepdim=True)

    ours = MultiHeadAttention(size.d_model, size.head, attend=DotProductAttention(softmax=squared))
    x, keep = torch.randn(size.batch, size.query, size.d_model), causal_mask(size.query)
    cache = KVCache()
    read = [ours(x[:, a:b], None, keep[a:b, :b], cache) for a, b in [(0, 4), (4, 7)]]
    oracle.close(torch.cat(read, 1), ours(x, keep=keep))


def test_turned_queries_are_the_last_of_the_positions_of_the_memory(oracle, size):
    ours = MultiHeadAttention(size.d_model, size.head, rotate=lambda x, start: x * (1 + start))
    memory = torch.randn(size.batch, size.query, size.d_model)
    x = memory[:, 2:]
    q, k, _ = ours.project(x, memory)
    oracle.close(q, 3 * ours.split(ours.W_Q(x), 2))
    oracle.close(k, ours.split(ours.W_K(memory), 2))
    cache = KVCache()
    ours(x, memory, None, cache)
    oracle.close(ours(x, memory, None, cache), ours(x, memory))


def test_the_memory_is_read_once_when_there_is_a_cache(oracle, size):
    ours = MultiHeadAttention(size.d_model, size.head)
    x = torch.randn(size.batch, size.query, size.d_model)
    memory = torch.randn(size.batch, size.key, size.d_model)
    keep = over_keys(real_tokens(MEMORY_LENGTHS, size.key))
    cache = KVCache()
    first = ours(x[:, :2], memory, keep, cache)
    rest = ours(x[:, 2:], torch.zeros_like(memory), keep, cache)  # not looked at again
    oracle.close(torch.cat([first, rest], 1), ours(x, memory, keep))
    assert cache.seen == size.key


def test_a_shared_query_and_key_matrix_makes_scores_symmetric(size):
    ours = tie_query_and_key(MultiHeadAttention(size.d_model, size.head))
    assert ours.W_K is ours.W_Q
    apart = MultiHeadAttention(size.d_model, size.head)
    assert (
        sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in ours.parameters())
        == (size.d_model + 1) * size.d_model
    )
    x = torch.randn(size.batch, size.query, size.d_model)
    for attention, symmetric in ((ours, True), (apart, False)):
        q, k, _ = attention.project(x)
        scores = q @ k.mT
        assert ((scores - scores.mT).abs().max() < 1e-12) == symmetric
    with pytest.raises(ValueError, match="4 query heads cannot share a matrix with 2 key heads"):
        tie_query_and_key(MultiHeadAttention(8, 4, n_kv_heads=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 22, "n_heads": 0}, "must be at least 1; got 22, 0 and 0"),
        ({"d_model": 0, "n_heads": 2}, "must be at least 1; got 0, 2 and 2"),
        (
            {"d_model": 8, "n_heads": 4, "n_kv_heads": 3},
            "n_kv_heads = 3 does not divide n_heads = 4",
        ),
        (
            {"d_model": 8, "n_heads": 4, "n_kv_heads": 8},
            "n_kv_heads = 8 does not divide n_heads = 4",
        ),
        ({"d_model": 8, "n_heads": 4, "n_kv_heads": 0}, "must be at least 1; got 8, 4 and 0"),
    ],
)
def test_heads_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**arguments)


def test_one_feature_and_one_head_are_enough():
    assert MultiHeadAttention(1, 1)(torch.randn(2, 3, 1)).shape == (2, 3, 1)
