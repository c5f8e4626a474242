"""Measurements against closed forms and automatic differentiation."""

import math

import pytest
import torch

from qa_lab.experiments.measures import dependence, entropy_share, gaussian, softmax_jacobian
from tests.comparing import assert_differs, assert_identical, assert_same


def test_entropy_share_runs_from_one_hot_to_uniform():
    assert entropy_share(torch.eye(5)) == 0
    assert math.isclose(entropy_share(torch.full((2, 7), 1 / 7)), 1, abs_tol=1e-6)
    assert math.isclose(entropy_share(torch.tensor([[0.5, 0.5, 0.0, 0.0]])), 0.5, abs_tol=1e-6)


def test_the_jacobian_is_what_automatic_differentiation_says():
    scores = gaussian((3, 5), 0)
    automatic = torch.func.vmap(torch.func.jacrev(lambda s: s.softmax(-1)))(scores)
    torch.testing.assert_close(softmax_jacobian(scores.softmax(-1)), automatic)


def test_gaussian_repeats_with_its_seed():
    once, again, other = (gaussian((3, 4), seed) for seed in (7, 7, 8))
    assert_identical(once, again, because="both are drawn from one seed")
    assert_differs(once, other)


def test_dependence_is_the_largest_derivative_between_two_positions():
    mix = torch.tensor([[1.0, 0.0, -3.0], [0.0, 0.5, 0.0]])  # 3 positions in, 2 out
    widen = torch.tensor([[1.0, -2.0, 0.0, 1.0, 0.0]])  # width 1 in, 5 out: at most 2 times
    found = dependence(lambda x: mix @ x @ widen, torch.randn(1, 3, 1))
    assert_same(found, 2 * mix.abs())


def test_dependence_wants_one_sequence():
    with pytest.raises(ValueError, match=r"batch of one; got \[2, 3, 1\]"):
        dependence(lambda x: x, torch.randn(2, 3, 1))
