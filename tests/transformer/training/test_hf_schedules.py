"""Schedules against Hugging Face's: the same, but for a warm-up that does not begin at 0."""

from functools import partial

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from qa_lab.transformer.training import constant_with_warmup, cosine_with_warmup, linear_with_warmup

STEPS = 23


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (partial(cosine_with_warmup, steps=STEPS), get_cosine_schedule_with_warmup),
        (partial(linear_with_warmup, steps=STEPS), get_linear_schedule_with_warmup),
        (constant_with_warmup, get_constant_schedule_with_warmup),
    ],
    ids=["cosine", "linear", "constant"],
)
def test_ours_are_theirs_one_update_ahead_during_the_warm_up(ours, theirs, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    total = {} if ours is constant_with_warmup else {"num_training_steps": STEPS}
    expected = theirs(optimizer, num_warmup_steps=warmup, **total).lr_lambdas[0]
    for step in range(STEPS + 1):
        ahead = step + 1 if step < warmup else step
        assert ours(step, warmup=warmup) == pytest.approx(expected(ahead), abs=1e-12)
    assert expected(0) == (1 if warmup == 0 else 0), "theirs wastes the first update"
