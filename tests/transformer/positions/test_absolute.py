"""Positions that are added to the embeddings."""

import math
from functools import partial
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.transformer.positions import (
    LearnedPositions,
    add_sinusoidal_positions,
    frequencies,
    no_positions,
    sinusoidal_positions,
)


def sinusoids_by_loop(length, d_model, base, start):
    table = torch.zeros(length, d_model)
    for row in range(length):
        for i in range(d_model // 2):
            angle = (start + row) / math.pow(base, 2 * i / d_model)
            table[row, 2 * i], table[row, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return table


def test_frequencies_fall_from_1_towards_1_over_the_base(oracle):
    expected = torch.tensor([math.pow(50.0, -2 * i / 22) for i in range(11)])
    oracle.close(frequencies(22, 50.0), expected)
    oracle.close(frequencies(2), torch.ones(1))
    oracle.close(frequencies(22), frequencies(22, 10000.0))
    assert frequencies(22).dtype == torch.float64
    assert frequencies(22, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_sinusoids_are_the_papers(oracle, base, start):
    expected = sinusoids_by_loop(13, 22, base, start)
    oracle.close(sinusoidal_positions(13, 22, base=base, start=start), expected)
    x = torch.randn(3, 13, 22)
    oracle.close(add_sinusoidal_positions(x, start, base=base), x + expected)


def test_sinusoids_begin_at_0_with_base_10000_unless_told_otherwise(oracle):
    expected = sinusoids_by_loop(13, 22, 10000.0, 0)
    oracle.close(sinusoidal_positions(13, 22), expected)
    oracle.close(add_sinusoidal_positions(torch.zeros(1, 13, 22))[0], expected)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_every_sinusoid_has_the_norm_of_its_pairs(length, pairs, start):
    table = sinusoidal_positions(length, 2 * pairs, start=start)
    assert (table.square().sum(-1) - pairs).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_positions_keep_the_dtype_and_no_positions_change_nothing(dtype):
    x = torch.randn(2, 5, 4, dtype=dtype)
    assert add_sinusoidal_positions(x).dtype == dtype
    assert LearnedPositions(7, 4).to(dtype)(x).dtype == dtype
    assert no_positions(x) is x and no_positions(x, 3) is x


@pytest.mark.parametrize("width", [7, 0, -2])
def test_sinusoids_need_pairs_of_features(width):
    with pytest.raises(ValueError, match=rf"width of {width} cannot.*must be even and at least 2"):
        frequencies(width)
    with pytest.raises(ValueError, match=rf"width of {width} "):
        unwrap(sinusoidal_positions)(5, width)


@pytest.mark.parametrize("base", [0.0, -1.0])
def test_a_base_that_is_not_positive_is_refused(base):
    with pytest.raises(ValueError, match=rf"base = {base} .* must be > 0"):
        frequencies(4, base)
    assert frequencies(4, 0.25).tolist() == pytest.approx([1, 2], abs=1e-12)


@pytest.mark.parametrize("start", [0, 4])
def test_learned_positions_are_an_embedding_of_the_position(oracle, twins, size, start):
    theirs, ours = nn.Embedding(11, size.d_model), LearnedPositions(11, size.d_model)
    pairs = [(theirs.weight, [ours.W_P])]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    expected = x2 + theirs(torch.arange(start, start + size.query))
    out = ours(x, start) if start else ours(x)
    oracle.agree(out, expected, slice(None), pairs, [x], [x2])


def test_learned_positions_begin_small():
    assert 0.0195 < LearnedPositions(101, 257).W_P.std().item() < 0.0205  # std. error 0.0001
    assert 0.975 < LearnedPositions(101, 257, std=1.0).W_P.std().item() < 1.025
    assert abs(LearnedPositions(101, 257).W_P.mean().item()) < 0.0006


@pytest.mark.parametrize(
    "start, length, asked", [(0, 12, r"0\.\.11"), (9, 3, r"9\.\.11"), (-1, 3, r"-1\.\.1")]
)
def test_a_position_without_a_row_is_refused(start, length, asked):
    learned = LearnedPositions(11, 4)
    message = rf"positions {asked} do not.*max_length = 11 positions, 0\.\.10"
    with pytest.raises(ValueError, match=message):
        learned(torch.zeros(2, length, 4), start)
    assert learned(torch.zeros(2, 3, 4), 8).shape == (2, 3, 4)  # the last rows of the table


@pytest.mark.parametrize(
    "positions",
    [
        add_sinusoidal_positions,
        partial(add_sinusoidal_positions, base=50.0),
        LearnedPositions(13, 22),
        no_positions,
    ],
)
def test_one_token_at_a_time_is_the_same_as_all_at_once(oracle, positions):
    x = torch.randn(3, 7, 22)
    one_by_one = [positions(x[:, t : t + 1], t) for t in range(7)]
    oracle.close(torch.cat(one_by_one, 1), positions(x))
