"""Schedules against closed forms and PyTorch's schedulers."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from qa_lab.transformer.training import (
    constant_with_warmup,
    cosine_with_warmup,
    decay_progress,
    linear_with_warmup,
    noam,
)

STEPS, WARMUP, LR = 23, 5, 0.7


def rates(make, steps):
    """The rate of every update, as PyTorch's training loops see it."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def warmed_up(make_decay):
    """PyTorch's linear warm-up that ends at 1 on its last update, then a decay."""

    def make(optimizer):
        warmup = LinearLR(optimizer, start_factor=1 / WARMUP, total_iters=WARMUP - 1)
        return SequentialLR(optimizer, [warmup, make_decay(optimizer)], milestones=[WARMUP])

    return make


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # inside torch's SequentialLR
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_is_torchs_annealing_after_torchs_warm_up(floor):
    ours = partial(cosine_with_warmup, steps=STEPS, warmup=WARMUP, floor=floor)
    theirs = warmed_up(partial(CosineAnnealingLR, T_max=STEPS - WARMUP, eta_min=floor * LR))
    expected = rates(theirs, STEPS)
    assert rates(lambda o: LambdaLR(o, ours), STEPS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:The epoch parameter in")
def test_linear_is_torchs_linear_decay_after_torchs_warm_up():
    ours = partial(linear_with_warmup, steps=STEPS, warmup=WARMUP)
    theirs = warmed_up(
        partial(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=STEPS - WARMUP)
    )
    expected = rates(theirs, STEPS)
    assert rates(lambda o: LambdaLR(o, ours), STEPS) == pytest.approx(expected, abs=1e-12)


def test_without_warm_up_the_decay_begins_at_once():
    cosine = [cosine_with_warmup(s, steps=4) for s in range(7)]
    assert cosine == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0, 0, 0])
    linear = [linear_with_warmup(s, steps=4) for s in range(7)]
    assert linear == [1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert [constant_with_warmup(s) for s in range(3)] == [1, 1, 1]


def test_the_first_updates_by_hand():
    assert [constant_with_warmup(s, warmup=4) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [constant_with_warmup(s, warmup=1) for s in range(2)] == [1, 1]
    linear = [linear_with_warmup(s, steps=6, warmup=2) for s in range(8)]
    assert linear == [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    cosine = [cosine_with_warmup(s, steps=5, warmup=2, floor=0.2) for s in range(7)]
    assert cosine == pytest.approx([0.5, 1, 1, 0.8, 0.4, 0.2, 0.2])


def test_noam_is_the_papers_formula():
    for step_num in (1, 2, 7, 3999, 4000, 4001, 100_000):
        expected = 512**-0.5 * min(step_num**-0.5, step_num * 4000**-1.5)
        assert noam(step_num - 1, d_model=512) == pytest.approx(expected, rel=1e-12)
    # The base model's peak, as everybody quotes it: 7e-4.
    assert noam(3999, d_model=512) == pytest.approx((512 * 4000) ** -0.5)
    rates = [noam(s, d_model=9, warmup=16) for s in range(100)]
    assert rates.index(max(rates)) == 15 and max(rates) == pytest.approx(1 / 12)
    assert rates[3] == pytest.approx(rates[0] * 4) and rates[63] == pytest.approx(1 / 24)


@given(st.integers(0, 30), st.integers(1, 30), st.floats(0, 1), st.integers(1, 600))
def test_no_update_of_the_run_has_a_rate_of_zero(warmup, decay, floor, d_model):
    steps = warmup + decay
    for schedule in (
        partial(constant_with_warmup, warmup=warmup),
        partial(linear_with_warmup, steps=steps, warmup=warmup),
        partial(cosine_with_warmup, steps=steps, warmup=warmup, floor=floor),
        partial(noam, d_model=d_model, warmup=max(1, warmup)),
    ):
        factors = [schedule(s) for s in range(steps)]
        assert all(0 < f <= 1 for f in factors)
        top = max(warmup, 1) - 1
        assert factors[: top + 1] == sorted(factors[: top + 1])
        assert factors[top:] == sorted(factors[top:], reverse=True)
        if schedule.func is not noam:
            assert factors[top] == 1 and factors[0] == 1 / max(1, warmup)
    assert linear_with_warmup(steps, steps=steps, warmup=warmup) == 0
    last = cosine_with_warmup(steps + 3, steps=steps, warmup=warmup, floor=floor)
    assert last == pytest.approx(floor, abs=1e-12)


@pytest.mark.parametrize("schedule", [linear_with_warmup, cosine_with_warmup])
def test_a_decay_needs_updates_of_its_own(schedule):
    for steps, warmup in ((5, 5), (4, 5), (0, 0)):
        with pytest.raises(ValueError, match=rf"warm-up of {warmup} out of {steps} updates"):
            schedule(7, steps=steps, warmup=warmup)
    assert schedule(5, steps=6, warmup=5) == 1


@pytest.mark.parametrize(
    "schedule",
    [
        constant_with_warmup,
        partial(linear_with_warmup, steps=9),
        partial(cosine_with_warmup, steps=9),
        partial(decay_progress, steps=9),
    ],
)
def test_counts_below_zero_are_refused(schedule):
    with pytest.raises(ValueError, match="count updates, from 0; got -1 and 2"):
        schedule(-1, warmup=2)
    with pytest.raises(ValueError, match="count updates, from 0; got 3 and -2"):
        schedule(3, warmup=-2)


@pytest.mark.parametrize("step, d_model, warmup", [(-1, 8, 4), (0, 0, 4), (0, 8, 0)])
def test_noam_has_no_zeros_either(step, d_model, warmup):
    with pytest.raises(ValueError, match=rf"got {step}, {d_model} and {warmup}"):
        noam(step, d_model=d_model, warmup=warmup)
    assert noam(0, d_model=1, warmup=1) == 1


@pytest.mark.parametrize("floor", [-0.1, 1.1, math.nan])
def test_a_floor_is_a_factor(floor):
    with pytest.raises(ValueError, match=r"floor is a factor on the learning rate, in \[0, 1\]"):
        cosine_with_warmup(0, steps=5, warmup=2, floor=floor)
    assert cosine_with_warmup(4, steps=5, floor=1.0) == 1
