"""Bags of words: their formula against torch, and that no order reaches them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.transformer.attention import causal_mask, scaled_dot_product_attention
from qa_lab.transformer.rivals import BagOfWords, BagOfWordsLM, causal_mean
from tests.comparing import assert_identical, assert_same, moved

BATCH, LENGTH, D, D_FF, VOCAB, CLASSES = 3, 7, 5, 13, 11, 4
HOLES = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1]]).bool()


def randomise(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def feed_forward(net, x):
    return F.linear(F.relu(F.linear(x, net.W_1.weight, net.W_1.bias)), net.W_2.weight, net.W_2.bias)


@pytest.mark.parametrize("masked", [True, False])
def test_the_classifier_agrees_with_torchs_embedding_bag(oracle, masked):
    model = randomise(BagOfWords(VOCAB, CLASSES, D, D_FF))
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    bag = nn.EmbeddingBag.from_pretrained(D**0.5 * model.embedding.W_E.detach(), mode="mean")
    rows = [row[keep] for row, keep in zip(ids, HOLES, strict=True)] if masked else list(ids)
    means = torch.cat([bag(row[None]) for row in rows])
    expected = feed_forward(model.feed_forward, means) @ model.W_C.weight.T + model.W_C.bias
    oracle.close(model(ids, HOLES if masked else None), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_agrees_with_a_plain_loop(oracle, tied):
    model = randomise(BagOfWordsLM(VOCAB, D, D_FF, tied=tied))
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    W_U = model.embedding.W_E if tied else model.unembedding.W_U
    logits = []
    for t in range(LENGTH):
        m = sum(D**0.5 * model.embedding.W_E[ids[:, s]] for s in range(t + 1)) / (t + 1)
        logits.append((m + feed_forward(model.feed_forward, m)) @ W_U.T)
    expected = torch.stack(logits, 1)
    oracle.close(model(ids), expected)
    parameters = list(model.parameters())
    direction = torch.randn_like(expected)
    ours = torch.autograd.grad((model(ids) * direction).sum(), parameters)
    theirs = torch.autograd.grad((expected * direction).sum(), parameters)
    for mine, their in zip(ours, theirs, strict=True):
        oracle.close(mine, their, "gradient")
    assert (model.unembedding.W_U is model.embedding.W_E) == tied


def test_a_causal_mean_is_causal_attention_with_equal_weights(oracle):
    x = torch.randn(BATCH, LENGTH, D)
    zeros = torch.zeros(BATCH, LENGTH, 2)
    expected, _ = scaled_dot_product_attention(zeros, zeros, x, causal_mask(LENGTH))
    oracle.close(causal_mean(x), expected)
    oracle.close(causal_mean(x)[:, -1], x.mean(1))
    assert causal_mean(x.to("meta")).device.type == "meta"


@given(st.permutations(range(LENGTH)))
def test_no_order_reaches_a_bag(order):
    torch.manual_seed(0)
    classifier, lm = BagOfWords(VOCAB, CLASSES, D, D_FF), BagOfWordsLM(VOCAB, D, D_FF)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    assert_same(classifier(ids), classifier(ids[:, list(order)]))
    assert_same(classifier(ids, HOLES), classifier(ids[:, order], HOLES[:, order]))
    assert_same(lm(ids)[:, -1], lm(ids[:, order])[:, -1])


def test_the_future_and_the_padding_change_no_real_logit():
    lm = BagOfWordsLM(VOCAB, D, D_FF)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB
    reached = moved(lm(ids), lm(changed), axis=(0, 2))
    assert_identical(reached, torch.arange(LENGTH) >= 3)
    right = torch.arange(LENGTH) < torch.tensor([[3], [7], [1]])
    assert_same(lm(ids, right), lm(ids))


def test_a_pool_and_a_network_of_ones_own_are_used(oracle):
    def total(x, keep):
        return x.masked_fill(~keep[..., None], 0).sum(1)

    def twice(d_model, d_ff):
        assert (d_model, d_ff) == (D, D_FF)
        return lambda x: 2 * x

    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    model = BagOfWords(VOCAB, CLASSES, D, D_FF, pool=total, feed_forward=twice)
    sums = torch.stack(
        [D**0.5 * model.embedding.W_E[r[k]].sum(0) for r, k in zip(ids, HOLES, strict=True)]
    )
    oracle.close(model(ids, HOLES), 2 * sums @ model.W_C.weight.T + model.W_C.bias)
    lm = BagOfWordsLM(VOCAB, D, D_FF, feed_forward=twice)
    means = causal_mean(lm.embedding(ids))
    oracle.close(lm(ids), 3 * means @ lm.embedding.W_E.T)


def test_what_cannot_be_read_is_refused():
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    classifier, lm = BagOfWords(VOCAB, CLASSES, D, D_FF), BagOfWordsLM(VOCAB, D, D_FF)
    with pytest.raises(ValueError, match="row 1 of real has no real token"):
        classifier(ids, torch.tensor([True, False, True])[:, None].expand(-1, LENGTH))
    with pytest.raises(ValueError, match=r"row 1 of real .* pad on the right"):
        lm(ids, HOLES)
    for model in classifier, lm:
        with pytest.raises(ValueError, match="vocabulary"):
            model(ids + VOCAB)
    assert lm.unembedding.W_U is lm.embedding.W_E, "tied by default"
