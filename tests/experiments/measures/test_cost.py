"""Counts against closed forms."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.experiments.measures import (
    flops,
    parameter_bytes,
    parameter_count,
    peak_bytes,
    saved_bytes,
    sequential_depth,
)
from qa_lab.transformer.attention import fused_attention, scaled_dot_product_attention
from qa_lab.transformer.models import DecoderOnly, EncoderBlock

small = st.integers(1, 9)


@given(m=small, k=small, n=small)
def test_a_product_costs_two_operations_for_each_pair_that_meets(m, k, n):
    a, b = torch.randn(m, k), torch.randn(k, n)
    assert flops(lambda: a @ b) == 2 * m * k * n


def test_a_product_with_one_vector_is_a_product_too():
    a, x, y = torch.ones(3, 5), torch.ones(5), torch.ones(3)
    assert flops(lambda: a @ x) == flops(lambda: torch.addmv(y, a, x)) == 2 * 3 * 5
    assert flops(lambda: x @ x) == 2 * 5


@pytest.mark.parametrize("attend", [fused_attention, scaled_dot_product_attention])
def test_attention_costs_two_products_by_both_paths(attend):
    q, k, v = torch.randn(2, 3, 7, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    products = 2 * (2 * 3) * 7 * 5 * 8
    assert flops(lambda: attend(q, k, v)) == 2 * products


def test_backwards_each_product_becomes_two_and_the_fused_path_makes_the_scores_again():
    q, k, v = (torch.randn(2, 3, 7, 8, requires_grad=True) for _ in range(3))
    products = 2 * (2 * 3) * 7 * 7 * 8
    plain = flops(lambda: scaled_dot_product_attention(q, k, v)[0].sum().backward())
    assert plain == (2 + 4) * products
    assert flops(lambda: fused_attention(q, k, v).sum().backward()) == (2 + 5) * products


def test_an_encoder_block_costs_what_the_papers_say():
    """Per token 2 (4 d^2 + 2 d d_ff), and 4 n d for attention."""
    block, x = EncoderBlock(24, 3, 40), torch.randn(2, 7, 24)
    tokens, d, d_ff, n = 14, 24, 40, 7
    assert flops(lambda: block(x)) == tokens * (2 * (4 * d * d + 2 * d * d_ff) + 4 * n * d)


def test_what_cannot_be_counted_is_an_error():
    lstm, x = nn.LSTM(5, 7), torch.randn(3, 2, 5)
    with pytest.raises(ValueError, match=r"rnn_layer.*multiply matrices where nobody can count"):
        flops(lambda: lstm(x))


def test_tied_parameters_count_once():
    model = DecoderOnly(17, 6, 2, 5, 1)
    tied = parameter_count(model)
    assert parameter_count(DecoderOnly(17, 6, 2, 5, 1, tied=False)) == tied + 17 * 6
    assert parameter_bytes(model.float()) == 4 * tied
    assert parameter_bytes(model.double()) == 8 * tied
    with torch.device("meta"):
        assert parameter_bytes(DecoderOnly(17, 6, 2, 5, 1)) == 4 * tied


def test_saved_activations_are_counted_once_and_without_the_weights():
    """A product saves x and W; its sine saves the product; a view saves nothing more."""
    layer, x = nn.Linear(11, 13, bias=False), torch.randn(7, 11)
    assert saved_bytes(lambda: layer(x).sin(), layer) == 4 * (7 * 11 + 7 * 13)
    x.requires_grad_()  # now W is needed too
    assert saved_bytes(lambda: layer(x).sin(), layer) == 4 * (7 * 11 + 7 * 13)
    assert saved_bytes(lambda: layer(x).sin()) == 4 * (7 * 11 + 7 * 13 + 11 * 13)
    y = torch.randn(7, 11, requires_grad=True)
    assert saved_bytes(lambda: y.view(11, 7) * y.view(-1).view(11, 7)) == 4 * 77
    with torch.no_grad():
        assert saved_bytes(lambda: layer(x).sin(), layer) == 0


def test_saved_bytes_of_several_models():
    first, second, x = nn.Linear(3, 5), nn.Linear(5, 7), torch.randn(2, 3)
    both = saved_bytes(lambda: second(first(x)), first, second)
    assert both == 4 * (2 * 3 + 2 * 5)
    assert saved_bytes(lambda: second(first(x)), first) == both + 4 * 35  # the second's weights


def test_depth_is_the_longest_chain():
    x, y = torch.randn(3, 3), torch.randn(3, 3)
    assert sequential_depth(lambda: x + y) == 1
    assert sequential_depth(lambda: (x + 1) * (y + 1)) == 2
    assert sequential_depth(lambda: ((x + 1).exp() + 1) * y) == 4
    assert sequential_depth(lambda: (x.T, x.view(9)[2:])) == 0


def test_writing_in_place_makes_the_chain_longer():
    def run(x):
        z = x + 1
        z[0] += 1
        return z.view(9).exp_()

    assert sequential_depth(partial(run, torch.randn(3, 3))) == 4  # add, add_, copy_, exp_


def test_a_recurrence_is_as_deep_as_it_is_long_and_attention_is_not():
    def recur(x):
        h = x[0]
        for row in x[1:]:
            h = torch.tanh(h + row)
        return h

    depth = [sequential_depth(partial(recur, torch.randn(n, 3))) for n in (5, 9)]
    assert depth == [8, 16]
    block = EncoderBlock(8, 2, 5)
    depth = [sequential_depth(partial(block, torch.randn(1, n, 8))) for n in (5, 50)]
    assert depth[0] == depth[1] > 5
    with pytest.raises(ValueError, match="hides its steps"):
        sequential_depth(lambda: nn.LSTM(3, 4)(torch.randn(5, 2, 3)))


def test_the_peak_is_what_is_held_at_once():
    def hold(keep):
        a = torch.zeros(250_000)
        b = a + 1
        if not keep:
            del a
        c = b * 2
        del b
        return c

    megabyte = 1_000_000
    assert abs(peak_bytes(lambda: hold(keep=False)) - 2 * megabyte) < 1000
    assert abs(peak_bytes(lambda: hold(keep=True)) - 3 * megabyte) < 1000


def test_the_profiler_says_nothing(capfd):
    peak_bytes(lambda: torch.zeros(9) + 1)
    assert capfd.readouterr() == ("", "")
