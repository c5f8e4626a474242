"""Feed-forward networks against linear layers and closed forms."""

import math
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.transformer.layers import FeedForward, GatedFeedForward, gated_d_ff, gelu, gelu_tanh
from tests.comparing import assert_identical, moved

NUMBERS = torch.linspace(-6, 6, 241, dtype=torch.float64)


def gelu_by_hand(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def gelu_tanh_by_hand(x):
    return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("ours, by_hand", [(gelu, gelu_by_hand), (gelu_tanh, gelu_tanh_by_hand)])
def test_gelus_are_their_formulas(oracle, ours, by_hand):
    oracle.close(ours(NUMBERS), torch.tensor([by_hand(x) for x in NUMBERS.tolist()]))


def test_the_two_gelus_differ_by_what_is_said():
    gap = (gelu(NUMBERS) - gelu_tanh(NUMBERS)).abs().max()
    assert 4e-4 < gap < 5e-4
    assert -0.17 < gelu(NUMBERS).min() < -0.1699


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [torch.relu, gelu, gelu_tanh])
def test_feed_forward_agrees_with_two_linear_layers(oracle, twins, size, activation, bias):
    first = nn.Linear(size.d_model, size.d_ff, bias=bias)
    second = nn.Linear(size.d_ff, size.d_model, bias=bias)
    ours = FeedForward(size.d_model, size.d_ff, activation, bias=bias)
    layers = [(first, ours.W_1), (second, ours.W_2)]
    pairs = [(theirs.weight, [mine.weight]) for theirs, mine in layers]
    if bias:
        pairs += [(theirs.bias, [mine.bias]) for theirs, mine in layers]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    oracle.agree(ours(x), second(activation(first(x2))), slice(None), pairs, [x], [x2])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [torch.sigmoid, torch.relu, gelu, F.silu])
def test_gated_feed_forward_agrees_with_three_linear_layers(oracle, twins, size, activation, bias):
    gate, up = (nn.Linear(size.d_model, size.d_ff, bias=bias) for _ in range(2))
    down = nn.Linear(size.d_ff, size.d_model, bias=bias)
    ours = GatedFeedForward(size.d_model, size.d_ff, activation, bias=bias)
    layers = [(gate, ours.W), (up, ours.V), (down, ours.W_2)]
    pairs = [(theirs.weight, [mine.weight]) for theirs, mine in layers]
    if bias:
        pairs += [(theirs.bias, [mine.bias]) for theirs, mine in layers]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    expected = down(activation(gate(x2)) * up(x2))
    oracle.agree(ours(x), expected, slice(None), pairs, [x], [x2])


def test_the_plain_one_is_a_relu_with_biases_by_default():
    ours = FeedForward(4, 5)
    assert ours.activation is torch.relu
    assert ours.W_1.bias is not None and ours.W_2.bias is not None


def test_the_gated_one_is_a_swiglu_without_biases_by_default():
    ours = GatedFeedForward(4, 5)
    assert ours.activation is F.silu
    assert ours.W.bias is None and ours.V.bias is None and ours.W_2.bias is None


@pytest.mark.parametrize("make", [FeedForward, GatedFeedForward])
def test_a_position_depends_on_no_other(size, make):
    ours, x = make(size.d_model, size.d_ff), torch.randn(2, 7, size.d_model)
    changed = x.clone()
    changed[:, 3] += 1
    assert_identical(moved(ours(x), ours(changed), axis=(0, 2)), torch.arange(7) == 3)


def test_two_thirds_of_the_width_are_the_same_number_of_parameters():
    plain, gated = FeedForward(22, 39, bias=False), GatedFeedForward(22, gated_d_ff(39))
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in gated.parameters())
    assert gated_d_ff(4 * 4096, multiple_of=256) == 11008  # Llama 7B
    assert gated_d_ff(3072) == 2048  # the paper's own, from T5 base
    assert [gated_d_ff(n) for n in (2, 3, 4)] == [1, 2, 2]


@given(st.integers(2, 5000), st.integers(1, 300))
def test_the_gated_width_is_the_next_multiple(d_ff, multiple):
    width = gated_d_ff(d_ff, multiple_of=multiple)
    assert width % multiple == 0
    assert width - multiple < 2 * d_ff // 3 <= width


@pytest.mark.parametrize("d_ff, multiple", [(1, 1), (0, 1), (30, 0)])
def test_widths_that_are_none_are_refused(d_ff, multiple):
    with pytest.raises(ValueError, match=rf"d_ff = {d_ff} must.* multiple_of = {multiple} at"):
        unwrap(gated_d_ff)(d_ff, multiple_of=multiple)
