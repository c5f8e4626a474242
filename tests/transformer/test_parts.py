"""Positions, embeddings, feed-forward, losses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.embeddings import TokenEmbedding, Unembedding
from qa_lab.transformer.feed_forward import FeedForward
from qa_lab.transformer.losses import cross_entropy
from qa_lab.transformer.masks import real_tokens
from qa_lab.transformer.positions import (
    add_sinusoidal_positions,
    no_positions,
    sinusoidal_positions,
)


@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_sinusoids_are_the_papers(oracle, base):
    expected = torch.zeros(13, 22)
    for t in range(13):
        for i in range(11):
            angle = t / math.pow(base, 2 * i / 22)
            expected[t, 2 * i], expected[t, 2 * i + 1] = math.sin(angle), math.cos(angle)
    oracle.close(sinusoidal_positions(13, 22, base), expected)
    if base == 10000.0:
        oracle.close(sinusoidal_positions(13, 22), expected)
    x = torch.randn(3, 13, 22)
    oracle.close(add_sinusoidal_positions(x, base), x + expected)


def test_positions_keep_the_dtype_and_no_positions_change_nothing():
    x = torch.randn(2, 5, 4, dtype=torch.float32)
    assert add_sinusoidal_positions(x).dtype == torch.float32
    assert no_positions(x) is x


def test_sinusoids_need_an_even_width():
    with pytest.raises(ValueError, match=r"d_model = 7 is odd.*must be even"):
        sinusoidal_positions(5, 7)


@pytest.mark.parametrize("factor", [None, 1.0])
def test_embeddings_are_rows_times_the_factor(oracle, size, factor):
    theirs = nn.Embedding(size.vocab, size.d_model)
    ours = TokenEmbedding(size.vocab, size.d_model, factor=factor)
    pairs = [(theirs.weight, [ours.W_E])]
    oracle.copy_random(pairs, ours)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    ids[0, :2] = torch.tensor([0, size.vocab - 1])
    expected = theirs(ids) * (math.sqrt(size.d_model) if factor is None else factor)
    oracle.agree(ours(ids), expected, slice(None), pairs)


def test_embeddings_start_with_variance_one():
    x = TokenEmbedding(101, 257)(torch.arange(101)[None])
    assert 0.95 < x.var().item() < 1.05  # standard error of 26 thousand samples: 0.009


@pytest.mark.parametrize("bad", [-1, 17])
def test_ids_outside_the_vocabulary_are_refused(bad):
    ids = torch.tensor([[3, bad, 5]])
    ends = "-1..5" if bad < 0 else "3..17"
    with pytest.raises(ValueError, match=rf"must lie in 0\.\.16, the vocabulary; got {ends}"):
        TokenEmbedding(17, 4)(ids)


def test_no_tokens_are_refused():
    with pytest.raises(ValueError, match=r"no token to embed: ids has shape \[0, 3\]"):
        TokenEmbedding(17, 4)(torch.zeros(0, 3, dtype=torch.long))


def test_the_unembedding_is_a_matrix_of_its_own_or_the_embeddings(oracle, size):
    embedding = TokenEmbedding(size.vocab, size.d_model)
    tied = Unembedding(size.d_model, size.vocab, tied_to=embedding)
    own = Unembedding(size.d_model, size.vocab)
    assert tied.W_U is embedding.W_E and own.W_U is not embedding.W_E
    x = torch.randn(size.batch, size.query, size.d_model)
    oracle.close(tied(x), F.linear(x, embedding.W_E))
    oracle.close(own(x), F.linear(x, own.W_U))


@pytest.mark.parametrize("activation", [torch.relu, F.gelu])
def test_feed_forward_agrees_with_two_linear_layers(oracle, twins, size, activation):
    first, second = nn.Linear(size.d_model, size.d_ff), nn.Linear(size.d_ff, size.d_model)
    ours = FeedForward(size.d_model, size.d_ff, activation)
    pairs = oracle.linear(first, ours.W_1) + oracle.linear(second, ours.W_2)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    oracle.agree(ours(x), second(activation(first(x2))), slice(None), pairs, [x], [x2])


def test_feed_forward_is_a_relu_by_default():
    assert FeedForward(4, 5).activation is torch.relu


def test_the_loss_is_the_mean_over_real_tokens(oracle, twins, size):
    logits, logits2 = twins(size.batch, size.query, size.vocab)
    targets = torch.randint(size.vocab, (size.batch, size.query))
    real = real_tokens(torch.tensor([7, 2, 5]), size.query)
    ignored = targets.masked_fill(~real, -100)
    ours = cross_entropy(logits, targets, real)
    theirs = F.cross_entropy(logits2.flatten(0, 1), ignored.flatten(), ignore_index=-100)
    oracle.agree(ours[None], theirs[None], slice(None), [], [logits], [logits2])
    oracle.close(cross_entropy(logits, targets), F.cross_entropy(logits.transpose(1, 2), targets))


def test_a_loss_over_nothing_is_an_error():
    with pytest.raises(ValueError, match="no real target token"):
        none = torch.zeros(2, 3, dtype=torch.bool)
        cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), none)
