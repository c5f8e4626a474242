"""Sampling: what is drawn, and how often."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.decoding import Sampler, keep_top_k, keep_top_p, with_temperature
from tests.comparing import assert_identical

SHARES = [[0.5, 0.2, 0.1, 0.15, 0.05], [0.1, 0.1, 0.4, 0.1, 0.3]]
LOGITS = torch.tensor(  # by `math`, so that what is equal stays equal
    [[math.log(share) for share in row] for row in SHARES], dtype=torch.float64
)
rows = st.lists(st.floats(-5, 5), min_size=2, max_size=9)


def kept(logits):
    return [(row > -torch.inf).nonzero().flatten().tolist() for row in logits]


def test_the_likeliest_tokens_are_kept():
    assert kept(keep_top_k(LOGITS, 2)) == [[0, 1], [2, 4]]
    assert kept(keep_top_k(LOGITS, 1)) == [[0], [2]]
    assert kept(keep_top_k(LOGITS, 3)) == [[0, 1, 3], [0, 1, 2, 3, 4]]  # ties stay
    assert_identical(keep_top_k(LOGITS, 99), LOGITS, because="what is kept is copied")


def test_the_nucleus_is_the_smallest_set_that_holds_the_share():
    assert kept(keep_top_p(LOGITS, 0.6)) == [[0, 1], [2, 4]]
    assert kept(keep_top_p(LOGITS, 0.35)) == [[0], [2]]
    assert kept(keep_top_p(LOGITS, 1e-9)) == [[0], [2]]
    assert kept(keep_top_p(LOGITS, 0.72)) == [[0, 1, 3], [0, 2, 4]]
    rare = torch.tensor([[10.0, 0.0, -30.0, -40.0]])  # so rare that a sum of the others rounds to 1
    assert_identical(keep_top_p(rare, 1.0), rare, because="what is kept is copied")


@given(rows, st.floats(0.01, 1))
def test_a_nucleus_holds_its_share_and_would_not_without_its_least_token(row, p):
    logits = torch.tensor([row])
    share = logits.softmax(-1)
    inside = keep_top_p(logits, p)[0] > -torch.inf
    held = share[0, inside]
    assert held.sum() >= p - 1e-12
    assert held.sum() - held.min() < p + 1e-12
    assert share[0, ~inside].numel() == 0 or share[0, ~inside].max() <= held.min() + 1e-12


@given(rows, st.floats(0.1, 10))
def test_temperature_takes_the_power_of_the_probabilities(row, temperature):
    logits = torch.tensor([row])
    expected = logits.softmax(-1) ** (1 / temperature)
    expected = expected / expected.sum()
    got = with_temperature(logits, temperature).softmax(-1)
    assert (got - expected).abs().max() < 1e-10


def test_tokens_are_drawn_as_often_as_their_probability_says():
    """Temperature, then k, then p. 100 000 draws: 5 standard errors are at most 0.008."""
    sampler = Sampler(torch.Generator().manual_seed(3), temperature=0.7, top_k=4, top_p=0.8)
    weights = torch.tensor([0.5, 0.2, 0.15, 0.1]) ** (1 / 0.7)
    weights = weights / weights.sum()  # held: 0.66, 0.84: the first two are the nucleus
    assert weights[0] < 0.8 < weights[:2].sum()
    drawn = sampler(LOGITS[:1].expand(100_000, -1)).bincount(minlength=5) / 100_000
    expected = torch.zeros(5)
    expected[:2] = weights[:2] / weights[:2].sum()
    assert (drawn - expected).abs().max() < 0.008
    assert torch.allclose(sampler.probabilities(LOGITS[:1])[0], expected)


def test_the_order_is_k_before_p():
    """Of four kept tokens the nucleus of 0.6 is two; of all five it would be three."""
    logits = torch.tensor([[0.3, 0.25, 0.2, 0.15, 0.1]]).log()
    rng = torch.Generator().manual_seed(0)
    assert kept(Sampler(rng, top_k=2, top_p=0.5).probabilities(logits).log()) == [[0]]
    assert kept(Sampler(rng, top_p=0.5).probabilities(logits).log()) == [[0, 1]]


def test_the_defaults_draw_from_the_model_itself():
    sampler = Sampler(torch.Generator().manual_seed(0))
    assert torch.allclose(sampler.probabilities(LOGITS), LOGITS.exp())


def test_the_same_generator_draws_the_same_tokens():
    draws = [
        Sampler(torch.Generator().manual_seed(seed))(LOGITS[:1].expand(50, -1)).tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 50


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be > 0; got 0\.0.*`greedy`"),
        ({"temperature": -1.0}, "temperature must be > 0"),
        ({"temperature": float("nan")}, "temperature must be > 0; got nan"),
        ({"top_k": 0}, "top_k must be at least 1 token; got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\]; got 0\.0"),
        ({"top_p": 1.1}, r"top_p must lie in \(0, 1\]; got 1\.1"),
    ],
)
def test_impossible_settings_are_refused_at_once(setting, message):
    with pytest.raises(ValueError, match=message):
        Sampler(torch.Generator(), **setting)
    Sampler(torch.Generator(), top_k=1, top_p=1.0)
