"""Training: the same seed gives the same run."""

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from qa_lab.experiments.fit import fit, warmup_factor


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.2))


def loss(model, x):
    return (model(x) - x[:, :3]).square().mean()


def batch(rng):
    return torch.randn(17, 5, generator=rng)


def run(model=None, **changed):
    return fit(model or linear(), loss, batch, **({"steps": 40, "lr": 0.02, "seed": 0} | changed))


def test_the_seed_decides_everything_and_the_callers_state_stays():
    first, second = linear(), linear()
    state = torch.get_rng_state()
    assert run(first) == run(second)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].weight, second[0].weight)
    assert run(seed=1) != run(seed=0)


def test_dropout_is_seeded_too():
    first, second = linear(), linear()
    torch.manual_seed(5)
    history = run(first)
    torch.manual_seed(6)
    assert run(second) == history


def test_it_learns_and_leaves_the_model_in_evaluation_mode():
    model = linear()
    history = run(model, steps=300)
    assert len(history) == 300 and sum(history[-20:]) < sum(history[:20]) / 3
    assert not model.training


def test_it_is_adam_with_warm_up():
    """One step of Adam moves a parameter by the learning rate, whatever the gradient's size."""
    for warmup, expected in ((0, 0.02), (8, 0.02 / 8)):
        model = linear()
        before = model[0].weight.detach().clone()
        run(model, steps=1, warmup=warmup)
        moved = (model[0].weight - before).abs().max().item()
        assert moved == pytest.approx(expected, rel=1e-3)
    assert [warmup_factor(s, 4) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_clipping_limits_the_whole_gradient():
    norms = []

    def record(optimizer, *_):
        gradients = [p.grad.flatten() for p in optimizer.param_groups[0]["params"]]
        norms.append(torch.cat(gradients).norm().item())

    hook = register_optimizer_step_pre_hook(record)
    try:
        run(steps=5)
        assert min(norms) > 0.1
        norms.clear()
        run(steps=5, clip=0.1)
    finally:
        hook.remove()
    assert norms == pytest.approx([0.1] * 5, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_it():
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        fit(linear(), lambda m, x: loss(m, x) * torch.nan, batch, steps=3, lr=0.1, seed=0)


@pytest.mark.parametrize("progress", [False, True])
def test_stderr_stays_empty_unless_progress_is_asked_for(capsys, progress):
    run(progress=progress)
    assert bool(capsys.readouterr().err) == progress
