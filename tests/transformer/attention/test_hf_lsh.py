"""LSH attention against Hugging Face's Reformer, weights copied, where the two must agree.

Theirs lets a chunk look across buckets, and the first chunk at the last; ours, as in the paper,
does neither. So the comparison is of the hash, of a single chunk, and of buckets that are chunks.
"""

from functools import partial

import pytest
import torch
from transformers import ReformerConfig
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from qa_lab.transformer.attention import lsh_attention, lsh_buckets, over_keys, real_tokens
from tests.comparing import assert_identical

SEED, D_K = 11, 16


def reformer(**config):
    attention = LSHSelfAttention(
        ReformerConfig(
            hidden_size=D_K,
            num_attention_heads=1,
            attention_head_size=D_K,
            lsh_attention_probs_dropout_prob=0.0,
            hash_seed=SEED,
            **config,
        ),
        layer_idx=0,
    )
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.4)
    # Their key is x / sqrt(|x|^2 + 1e-6 d_k); the paper's, and ours, has no 1e-6.
    attention._len_norm = partial(attention._len_norm, epsilon=0.0)
    return attention


def their_rotations(n_rounds, n_buckets):
    torch.manual_seed(SEED)
    return torch.randn(1, D_K, n_rounds, n_buckets // 2)[0].transpose(0, 1)


def heads(theirs, x):
    return theirs.query_key(x)[:, None], theirs.value(x)[:, None]


def test_the_buckets_are_reformers():
    theirs = reformer(num_buckets=6, num_hashes=3)
    x = torch.randn(3, 1, 13, D_K)
    expected = theirs._hash_vectors(x, 3, None).view(3, 1, 3, 13) % 6  # numbered on and on
    assert_identical(lsh_buckets(x, their_rotations(3, 6)), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_a_single_chunk_is_reformers(oracle, causal):
    theirs = reformer(num_buckets=2, num_hashes=1, lsh_attn_chunk_length=13, is_decoder=causal)
    x = torch.randn(3, 13, D_K)
    tokens = real_tokens(torch.tensor([13, 4, 9]), 13)
    expected = theirs(x, attention_mask=tokens).hidden_states
    q, v = heads(theirs, x)
    one_bucket = torch.zeros(1, D_K, 1)
    ours = lsh_attention(
        q, q, v, over_keys(tokens), rotations=one_bucket, chunk=13, causal=causal, scale=1.0
    )
    oracle.close(ours[:, 0][tokens], expected[tokens])


@pytest.mark.parametrize("causal", [False, True])
def test_buckets_that_are_chunks_are_reformers(oracle, causal):
    theirs = reformer(
        num_buckets=4,
        num_hashes=1,
        lsh_attn_chunk_length=5,
        lsh_num_chunks_before=0,
        is_decoder=causal,
    )
    rotations = their_rotations(1, 4)
    ends = torch.cat([rotations[0].T, -rotations[0].T])  # one vector inside each bucket
    buckets = torch.tensor([0, 1, 2, 3] * 5)[torch.randperm(20)]
    q = ends[buckets] + 0.1 * torch.randn(2, 20, D_K)
    x = torch.linalg.solve(theirs.query_key.weight, q.mT).mT
    expected = theirs(x).hidden_states
    q, v = heads(theirs, x)
    assert_identical(lsh_buckets(q, rotations)[0, 0, 0], buckets)
    ours = lsh_attention(q, q, v, rotations=rotations, chunk=5, causal=causal, scale=1.0)
    oracle.close(ours[:, 0], expected)
