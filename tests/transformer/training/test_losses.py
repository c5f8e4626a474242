"""Losses against PyTorch's own and a loop in plain Python."""

import math
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.training import (
    cross_entropy,
    real_predictions,
    smoothed_cross_entropy,
    smoothing_floor,
)
from tests.comparing import assert_identical, assert_same

LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture
def real(size):
    return real_tokens(LENGTHS, size.query)


@pytest.fixture
def targets(size):
    return torch.randint(size.vocab, (size.batch, size.query))


def test_the_loss_is_the_mean_over_real_tokens(oracle, twins, size, real, targets):
    logits, logits2 = twins(size.batch, size.query, size.vocab)
    ignored = targets.masked_fill(~real, -100)
    ours = cross_entropy(logits, targets, real)
    theirs = F.cross_entropy(logits2.flatten(0, 1), ignored.flatten(), ignore_index=-100)
    oracle.agree(ours[None], theirs[None], slice(None), [], [logits], [logits2])
    oracle.close(cross_entropy(logits, targets), F.cross_entropy(logits.transpose(1, 2), targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.37, 1.0])
def test_smoothing_agrees_with_torch(oracle, twins, size, real, targets, smoothing):
    logits, logits2 = twins(size.batch, size.query, size.vocab)
    ours = smoothed_cross_entropy(logits, targets, real, smoothing=smoothing)
    theirs = F.cross_entropy(
        logits2.transpose(1, 2), targets.masked_fill(~real, -100), label_smoothing=smoothing
    )
    oracle.agree(ours[None], theirs[None], slice(None), [], [logits], [logits2])
    if smoothing == 0.1:
        oracle.close(smoothed_cross_entropy(logits, targets, real), ours)
    if smoothing == 0.0:
        oracle.close(cross_entropy(logits, targets, real), ours)


def test_the_uniform_share_goes_to_every_token_the_target_included(size):
    """In plain Python: q is epsilon / vocab everywhere, and 1 - epsilon more at the target."""
    logits = torch.randn(1, 3, size.vocab)
    targets = torch.tensor([[4, 0, 16]])
    total = 0.0
    for row, target in zip(logits[0].tolist(), targets[0].tolist(), strict=True):
        partition = math.log(sum(math.exp(z) for z in row))
        for v, z in enumerate(row):
            q = 0.3 / size.vocab + (0.7 if v == target else 0.0)
            total -= q * (z - partition)
    ours = smoothed_cross_entropy(logits, targets, smoothing=0.3).item()
    assert ours == pytest.approx(total / 3, rel=1e-12)


def test_what_stands_at_the_padding_does_not_matter(size, real, targets):
    logits = torch.randn(size.batch, size.query, size.vocab)
    for loss in (cross_entropy, smoothed_cross_entropy):
        here = loss(logits, targets, real)
        nonsense = torch.where(real[..., None], logits, torch.nan)
        assert_same(loss(nonsense, targets.masked_fill(~real, -100), real), here)


def test_the_real_predictions_are_those_of_the_real_tokens_in_order(size, real, targets):
    logits = torch.randn(size.batch, size.query, size.vocab)
    lined_up, ids = real_predictions(logits, targets.int(), real)
    rows = torch.cat([x[:n] for x, n in zip(logits, LENGTHS, strict=True)])
    assert_identical(lined_up, rows, because="both are copies")
    assert_identical(ids, torch.cat([t[:n] for t, n in zip(targets, LENGTHS, strict=True)]))
    assert ids.dtype == torch.long


@pytest.mark.parametrize(
    "smoothing, vocab, floor",
    [
        (0.0, 17, 0.0),
        (1.0, 17, math.log(17)),
        (0.5, 2, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
        (0.1, 5, -(0.92 * math.log(0.92) + 4 * 0.02 * math.log(0.02))),
        (0.3, 1, 0.0),
    ],
)
def test_the_floor_is_the_entropy_of_the_smoothed_target(smoothing, vocab, floor):
    assert smoothing_floor(smoothing, vocab) == pytest.approx(floor, abs=1e-12)


@given(st.floats(0.01, 0.99), st.integers(2, 23), st.integers(0, 10**6))
def test_no_model_gets_below_the_floor_and_the_smoothed_target_reaches_it(smoothing, vocab, seed):
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(vocab, (3, 5), generator=rng)
    q = torch.full((3, 5, vocab), smoothing / vocab)
    q.scatter_(-1, targets[..., None], 1 - smoothing + smoothing / vocab)
    logits = q.log().requires_grad_()
    best = smoothed_cross_entropy(logits, targets, smoothing=smoothing)
    best.backward()
    floor = smoothing_floor(smoothing, vocab)
    assert best.item() == pytest.approx(floor, abs=1e-10)
    assert logits.grad.abs().max() < 1e-10
    worse = logits.detach() + torch.randn(logits.shape, generator=rng)
    assert smoothed_cross_entropy(worse, targets, smoothing=smoothing).item() > floor


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_an_epsilon_that_is_no_probability_is_refused(smoothing, targets):
    with pytest.raises(ValueError, match=r"smoothing is a probability, in \[0, 1\]; got"):
        smoothed_cross_entropy(torch.randn(3, 7, 17), targets, smoothing=smoothing)
    with pytest.raises(ValueError, match=r"smoothing is a probability"):
        smoothing_floor(smoothing, 17)


def test_a_vocabulary_without_tokens_has_no_floor():
    with pytest.raises(ValueError, match="at least 1 token; got 0"):
        smoothing_floor(0.1, 0)


@pytest.mark.parametrize("loss", [cross_entropy, smoothed_cross_entropy])
def test_a_loss_over_nothing_is_an_error(loss):
    none = torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="no real target token"):
        loss(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), none)
    with pytest.raises(ValueError, match="no real target token"):
        loss(torch.zeros(0, 3, 5), torch.zeros(0, 3, dtype=torch.long))


@pytest.mark.parametrize("bad, ends", [(-100, r"-100\.\.4"), (17, r"2\.\.17"), (-1, r"-1\.\.4")])
@pytest.mark.parametrize("masked", [False, True])
def test_targets_outside_the_vocabulary_are_refused(bad, ends, masked):
    targets = torch.tensor([[2, bad, 4]])
    keep = torch.ones(1, 3, dtype=torch.bool) if masked else None
    with pytest.raises(ValueError, match=rf"targets must lie in 0\.\.16, .*got {ends}"):
        cross_entropy(torch.zeros(1, 3, 17), targets, keep)


def test_the_ends_of_the_vocabulary_are_inside():
    targets = torch.tensor([[0, 16]])
    loss = cross_entropy(torch.zeros(1, 2, 17), targets)
    assert loss.item() == pytest.approx(math.log(17))


def test_shapes_and_masks_that_do_not_fit_are_refused(targets):
    go = unwrap(real_predictions)
    logits = torch.randn(3, 7, 17)
    with pytest.raises(TypeError, match=r"torch\.bool, True = a real token; got torch\.int64"):
        go(logits, targets, torch.ones(3, 7, dtype=torch.long))
    with pytest.raises(
        ValueError, match=r"\[3, 7, 17\], targets .* = \[3, 6\] and real = \[3, 6\]"
    ):
        go(logits, targets[:, :6])
    with pytest.raises(ValueError, match=r"real = \[3, 1\] do not fit together"):
        go(logits, targets, torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not fit together"):
        go(logits[:2], targets, torch.ones(3, 7, dtype=torch.bool))
