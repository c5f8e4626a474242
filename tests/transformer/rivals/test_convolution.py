"""Causal convolution against nn.Conv1d, and what it can see by changing what it is shown."""

from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.rivals import (
    CausalConvolution,
    ConvolutionBlock,
    ConvolutionLM,
    causal_convolution,
    receptive_field,
)
from tests.comparing import assert_differs, assert_same, moved

BATCH, LENGTH, D_IN, D_OUT, VOCAB = 3, 13, 5, 7, 11
REAL = real_tokens(torch.tensor([4, 13, 1]), LENGTH)


def padded_conv1d(conv, x):
    """PyTorch's convolution, with its padding written out: zeros before the first token."""
    past = (conv.kernel_size[0] - 1) * conv.dilation[0]
    zeros = torch.zeros(len(x), past, x.shape[-1])
    return conv(torch.cat([zeros, x], dim=1).transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (2, 4), (4, 3), (5, 6)])
def test_a_causal_convolution_agrees_with_torch(oracle, twins, taps, dilation):
    theirs = nn.Conv1d(D_IN, D_OUT, taps, dilation=dilation)
    ours = CausalConvolution(D_IN, D_OUT, taps, dilation)
    pairs = [(theirs.weight, [ours.W]), (theirs.bias, [ours.b])]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, LENGTH, D_IN)
    oracle.agree(ours(x), padded_conv1d(theirs, x2), slice(None), pairs, [x], [x2])


def test_a_causal_convolution_agrees_with_a_plain_loop(oracle):
    x, W, b = torch.randn(BATCH, LENGTH, D_IN), torch.randn(D_OUT, D_IN, 3), torch.randn(D_OUT)
    for dilation in 1, 2, 5:
        rows = []
        for t in range(LENGTH):
            seen = [(j, t - (2 - j) * dilation) for j in range(3)]
            rows.append(b + sum(x[:, s] @ W[..., j].T for j, s in seen if s >= 0))
        oracle.close(causal_convolution(x, W, b, dilation), torch.stack(rows, 1))
    oracle.close(causal_convolution(x, W, b), causal_convolution(x, W, b, 1))
    assert CausalConvolution(1, 1, 2).dilation == 1


def test_the_block_is_two_convolutions_around_which_the_stream_flows(oracle, twins):
    first, second = nn.Conv1d(D_IN, D_IN, 3, dilation=2), nn.Conv1d(D_IN, D_IN, 3, dilation=2)
    ours = ConvolutionBlock(D_IN, 3, 2)
    pairs = []
    for theirs, mine in (first, ours.conv_1), (second, ours.conv_2):
        pairs += [(theirs.weight, [mine.W]), (theirs.bias, [mine.b])]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, LENGTH, D_IN)
    expected = F.relu(x2 + F.relu(padded_conv1d(second, F.relu(padded_conv1d(first, x2)))))
    oracle.agree(ours(x), expected, slice(None), pairs, [x], [x2])


@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_agrees_with_torch(oracle, tied):
    model = ConvolutionLM(VOCAB, D_IN, 3, taps=2, growth=3, tied=tied)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    x = D_IN**0.5 * model.embedding.W_E[ids]
    for block, dilation in zip(model.blocks, (1, 3, 9), strict=True):
        inner = x
        for mine in block.conv_1, block.conv_2:
            nn.init.normal_(mine.b)
            theirs = nn.Conv1d(D_IN, D_IN, 2, dilation=dilation)
            theirs.weight, theirs.bias = mine.W, mine.b
            inner = F.relu(padded_conv1d(theirs, inner))
        x = F.relu(x + inner)
    oracle.close(model(ids), x @ (model.embedding.W_E if tied else model.unembedding.W_U).T)
    assert (model.unembedding.W_U is model.embedding.W_E) == tied


@pytest.mark.parametrize(
    ("taps", "growth", "layers", "field"), [(2, 2, 2, 7), (3, 1, 2, 9), (2, 3, 2, 9), (1, 2, 3, 1)]
)
def test_the_receptive_field_is_what_a_change_can_reach(taps, growth, layers, field):
    model = ConvolutionLM(VOCAB, 16, layers, taps=taps, growth=growth)
    assert model.receptive_field == field
    ids = torch.randint(VOCAB, (40, LENGTH))  # many rows: a ReLU may be shut in one, not in all
    for position in 0, 2:
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCAB
        reached = moved(model(ids), model(changed), axis=(0, 2)).nonzero().flatten()
        assert reached.tolist() == list(range(position, min(position + field, LENGTH)))


def test_the_receptive_field_in_numbers():
    assert receptive_field(3, [1, 2, 4, 8]) == 61
    assert receptive_field(2, [1]) == 3
    assert ConvolutionLM(VOCAB, D_IN, 4).receptive_field == 61  # taps 3, dilations 1 2 4 8


def test_padding_changes_no_real_logit():
    model = ConvolutionLM(VOCAB, 8, 3)
    ids = torch.randint(VOCAB - 1, (BATCH, LENGTH))
    otherwise = torch.where(REAL, ids, VOCAB - 1)
    assert_same(model(ids, REAL)[REAL], model(otherwise, REAL)[REAL])
    assert_differs(model(ids, REAL), model(otherwise, REAL))
    assert_same(model(ids, REAL), model(ids))


def test_the_taps_start_so_that_a_relu_keeps_the_variance():
    conv = CausalConvolution(40, 60, 5, 2)
    assert 1.8 < conv.W.var() * 200 < 2.2 and (conv.b == 0).all()
    assert conv.dilation == 2


def test_dropout_falls_on_the_embeddings_and_after_each_convolution(oracle):
    x = torch.randn(BATCH, LENGTH, D_IN)
    block = ConvolutionBlock(D_IN, 3, 1, dropout=1 - 1e-9)
    assert_same(block(x), F.relu(x))
    assert_differs(block.eval()(x), F.relu(x))
    torch.manual_seed(1)
    half = ConvolutionBlock(D_IN, 3, 1, dropout=0.5)
    torch.manual_seed(2)
    out = half(x)
    torch.manual_seed(2)
    inner = F.dropout(F.relu(half.conv_1(x)), 0.5)
    oracle.close(out, F.relu(x + F.dropout(F.relu(half.conv_2(inner)), 0.5)))
    model = ConvolutionLM(VOCAB, D_IN, 1, dropout=1 - 1e-9)
    assert (model(torch.randint(VOCAB, (BATCH, LENGTH))) == 0).all()
    model = ConvolutionLM(VOCAB, D_IN, 2, dropout=0.3)
    assert [block.dropout.p for block in model.blocks] == [0.3, 0.3]
    assert ConvolutionLM(VOCAB, D_IN, 1).dropout.p == ConvolutionBlock(2, 2, 1).dropout.p == 0
    assert ConvolutionLM(VOCAB, D_IN, 1).unembedding.W_U.shape == (VOCAB, D_IN)


def test_the_defaults_are_tied():
    model = ConvolutionLM(VOCAB, D_IN, 1)
    assert model.unembedding.W_U is model.embedding.W_E


def test_what_cannot_be_built_is_refused():
    CausalConvolution(1, 1, 1, 1), ConvolutionLM(VOCAB, 1, 1, taps=1, growth=1)
    for bad in (0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0):
        with pytest.raises(ValueError, match=r"at least 1; got d_in = .*dilation = "):
            CausalConvolution(*bad)
    for bad in {"n_layers": 0}, {"n_layers": 1, "growth": 0}:
        with pytest.raises(ValueError, match=r"at least 1 is needed; got n_layers = "):
            ConvolutionLM(VOCAB, D_IN, **bad)


def test_what_cannot_be_read_is_refused():
    x, W, b = torch.randn(BATCH, LENGTH, D_IN), torch.randn(D_OUT, D_IN, 3), torch.randn(D_OUT)
    convolve = unwrap(causal_convolution)
    with pytest.raises(ValueError, match=r"no token to convolve: x has shape \[3, 0, 5\]"):
        convolve(x[:, :0], W, b)
    with pytest.raises(ValueError, match="dilation = 0: taps are at least 1 token apart"):
        convolve(x, W, b, 0)
    model = ConvolutionLM(VOCAB, D_IN, 1)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    with pytest.raises(ValueError, match="pad on the right"):
        model(ids, REAL.flip(1))
    with pytest.raises(ValueError, match="vocabulary"):
        model(ids - 1 - ids.max())
