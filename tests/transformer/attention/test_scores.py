"""Additive and bilinear scores against plain loops, and the attention made of them."""

import math
from functools import partial
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F

from qa_lab.transformer.attention import (
    AdditiveScores,
    BilinearScores,
    DotProductAttention,
    MultiHeadAttention,
    ScoredAttention,
    additive_scores,
    bilinear_scores,
    dot_product_scores,
    masked_softmax,
    real_tokens,
)

BATCH, QUERY, KEY, D_Q, D_K, D_A, D_V = 2, 3, 5, 7, 11, 13, 4
LENGTHS = torch.tensor([5, 2])


def loop_additive(q, k, W_a, U_a, v_a):
    """The formula, one number at a time."""
    d_a = len(v_a)
    scores = torch.zeros(BATCH, QUERY, KEY)
    for b in range(BATCH):
        for i in range(QUERY):
            for j in range(KEY):
                for a in range(d_a):
                    inner = sum((W_a[a, d] * q[b, i, d]).item() for d in range(q.shape[-1]))
                    inner += sum((U_a[a, d] * k[b, j, d]).item() for d in range(k.shape[-1]))
                    scores[b, i, j] += v_a[a].item() * math.tanh(inner)
    return scores


def loop_bilinear(q, k, W_a):
    scores = torch.zeros(BATCH, QUERY, KEY)
    for b in range(BATCH):
        for i in range(QUERY):
            for j in range(KEY):
                for x in range(q.shape[-1]):
                    for y in range(k.shape[-1]):
                        scores[b, i, j] += (q[b, i, x] * W_a[x, y] * k[b, j, y]).item()
    return scores


@pytest.fixture
def qk():
    return torch.randn(BATCH, QUERY, D_Q), torch.randn(BATCH, KEY, D_K)


def test_additive_scores_agree_with_a_plain_loop(oracle):
    q, k, v_a = torch.randn(BATCH, QUERY, D_A), torch.randn(BATCH, KEY, D_A), torch.randn(D_A)
    one = torch.eye(D_A)
    oracle.close(additive_scores(q, k, v_a), loop_additive(q, k, one, one, v_a))


def test_learned_additive_scores_agree_with_a_plain_loop(oracle, qk):
    ours = AdditiveScores(D_Q, D_K, D_A)
    oracle.close(ours(*qk), loop_additive(*qk, ours.W_a, ours.U_a, ours.v_a))


def test_bilinear_scores_agree_with_a_plain_loop(oracle, qk):
    ours = BilinearScores(D_Q, D_K)
    oracle.close(ours(*qk), loop_bilinear(*qk, ours.W_a))
    oracle.close(
        bilinear_scores(*qk, ours.W_a),
        F.bilinear(
            qk[0].unsqueeze(2).expand(-1, -1, KEY, -1).contiguous(),
            qk[1].unsqueeze(1).expand(-1, QUERY, -1, -1).contiguous(),
            ours.W_a[None],
        ).squeeze(-1),
    )


def test_bilinear_scores_with_the_identity_are_the_plain_dot_product(oracle):
    q, k = torch.randn(BATCH, QUERY, D_Q), torch.randn(BATCH, KEY, D_Q)
    oracle.close(bilinear_scores(q, k, torch.eye(D_Q)), torch.einsum("bqd,bkd->bqk", q, k))
    oracle.close(dot_product_scores(q, k, scale=1.0), torch.einsum("bqd,bkd->bqk", q, k))


def test_additive_scores_are_at_most_the_sum_of_v_a(qk):
    ours = AdditiveScores(D_Q, D_K)
    scores = ours(1e3 * qk[0], 1e3 * qk[1])
    assert scores.abs().max() <= ours.v_a.abs().sum() + 1e-12
    assert ours.W_a.shape == (D_Q, D_Q) and ours.U_a.shape == (D_Q, D_K)
    assert ours.v_a.shape == (D_Q,)


def test_scores_start_with_the_variance_that_is_promised():
    q, k = torch.randn(1, 80, 48), torch.randn(1, 80, 96)
    bilinear = [BilinearScores(48, 96)(q, k).var() for _ in range(4)]
    assert 0.9 < torch.stack(bilinear).mean() < 1.1
    additive = AdditiveScores(48, 96, 300)
    assert additive(q, k).var() < 1
    for weight, width in (additive.W_a, 48), (additive.U_a, 96), (additive.v_a, 300):
        assert 0.75 < weight.var() * width < 1.3


@pytest.mark.parametrize(
    "scores",
    [
        lambda: AdditiveScores(D_Q, D_K),
        lambda: BilinearScores(D_Q, D_K),
        lambda: partial(bilinear_scores, W_a=torch.ones(D_Q, D_K)),
    ],
)
@pytest.mark.parametrize("masked", [True, False])
def test_scored_attention_is_the_softmax_average(oracle, qk, scores, masked):
    attention = ScoredAttention(scores())
    v = torch.randn(BATCH, KEY, D_V)
    keep = real_tokens(LENGTHS, KEY)[:, None] if masked else None
    out, weights = attention(*qk, v, keep)
    for b, n in enumerate(LENGTHS if masked else [KEY, KEY]):
        expected = F.softmax(attention.scores(*qk)[b, :, :n], dim=-1)
        oracle.close(weights[b, :, :n], expected, "weights")
        assert (weights[b, :, n:] == 0).all()
        oracle.close(out[b], expected @ v[b, :n])
    bias = torch.randn(BATCH, QUERY, KEY)
    biased, _ = attention(*qk, v, None, bias)
    oracle.close(biased, F.softmax(attention.scores(*qk) + bias, dim=-1) @ v)


def test_a_head_takes_scored_attention_and_trains_it(oracle):
    heads = MultiHeadAttention(6, 2, d_k=D_K, attend=ScoredAttention(BilinearScores(D_K, D_K)))
    x = torch.randn(BATCH, KEY, 6)
    heads.attend.scores.W_a.data = torch.eye(D_K)
    plain = MultiHeadAttention(6, 2, d_k=D_K, attend=DotProductAttention(scale=1.0))
    plain.load_state_dict({n: p for n, p in heads.state_dict().items() if "attend" not in n})
    keep = real_tokens(LENGTHS, KEY)[:, None, None]
    oracle.close(heads(x, None, keep), plain(x, None, keep))
    heads(x).sum().backward()
    assert heads.attend.scores.W_a.grad.abs().max() > 1e-3


def test_widths_that_do_not_fit_are_refused(qk):
    with pytest.raises(ValueError, match=r"must have one width; got 7, 1 and 7 features"):
        unwrap(additive_scores)(qk[0], torch.randn(BATCH, KEY, 1), torch.randn(7))
    with pytest.raises(ValueError, match=r"must have one width; got 7, 7 and 1 features"):
        unwrap(additive_scores)(qk[0], torch.randn(BATCH, KEY, 7), torch.randn(1))
    with pytest.raises(ValueError, match=r"\[d_q d_k\] = \[7, 11\].*got \[11, 7\]"):
        unwrap(bilinear_scores)(*qk, torch.randn(D_K, D_Q))
    for make, name in (
        (lambda: AdditiveScores(0, 3), "d_query"),
        (lambda: AdditiveScores(3, 0), "d_key"),
        (lambda: AdditiveScores(3, 3, 0), "d_a"),
        (lambda: BilinearScores(0, 3), "d_query"),
        (lambda: BilinearScores(3, -1), "d_key"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got (0|-1)"):
            make()
    AdditiveScores(1, 1, 1), BilinearScores(1, 1)  # the narrowest there are


def test_a_query_that_may_see_no_key_is_refused(qk, monkeypatch):
    monkeypatch.setattr(
        "qa_lab.transformer.attention.scores.masked_softmax", unwrap(masked_softmax)
    )
    attention = ScoredAttention(BilinearScores(D_Q, D_K))
    with pytest.raises(ValueError, match="see no key"):
        attention(*qk, torch.randn(BATCH, KEY, D_V), torch.zeros(1, 1, KEY, dtype=torch.bool))
