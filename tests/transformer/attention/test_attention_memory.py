"""The efficient attentions make no tensor that grows with the square of the length."""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qa_lab.transformer.attention import (
    LSHAttention,
    causal_linear_attention,
    causal_local_attention,
    chunked_attention,
    linear_attention,
    local_attention,
    look_back,
    over_keys,
    recurrent_linear_attention,
    scaled_dot_product_attention,
)


class Largest(TorchDispatchMode):
    """Notes the size of the largest storage that any operation returns, in bytes."""

    nbytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self.nbytes = max(self.nbytes, x.untyped_storage().nbytes())
        return result


def largest(attend, length):
    """Run forward and backward on one head of width 4."""
    q = torch.randn(1, 1, length, 4, requires_grad=True)
    v = torch.randn(1, 1, length, 4, requires_grad=True)
    keep = over_keys(torch.arange(length)[None] < length - 2)
    with Largest() as seen:
        attend(q, q, v, keep).sum().backward()
    return seen.nbytes


def dense(q, k, v, keep):
    return scaled_dot_product_attention(q, k, v, keep)[0]


@pytest.mark.parametrize(
    "attend",
    [
        linear_attention,
        partial(causal_linear_attention, chunk=8),
        recurrent_linear_attention,
        partial(local_attention, window=7, global_tokens=(0, 5)),
        partial(causal_local_attention, window=8),
        LSHAttention(4, 8, n_rounds=2),
        partial(chunked_attention, query_chunk=8, key_chunk=16),
        partial(chunked_attention, look=look_back, query_chunk=8, key_chunk=16),
    ],
    ids=lambda attend: str(getattr(attend, "func", attend)).split(" at ")[0],
)
def test_twice_the_length_makes_tensors_at_most_twice_as_large(attend):
    assert largest(attend, 128) <= 2 * largest(attend, 64)
    assert largest(attend, 128) < 128 * 128 * 8


def test_dense_attention_makes_a_weight_for_every_pair():
    assert largest(dense, 128) == 4 * largest(dense, 64) == 128 * 128 * 8
