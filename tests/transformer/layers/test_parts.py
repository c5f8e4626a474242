"""Embeddings."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.layers import TokenEmbedding, Unembedding


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
