"""Training: the plain loop; the same seed gives the same run; and every extra."""

import math
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from qa_lab.experiments.fit import HeldOut, evaluate, fit, in_bfloat16
from qa_lab.transformer.training import cosine_with_warmup, cross_entropy
from tests.comparing import assert_differs, assert_identical, assert_same

FLOAT32 = 1e-4  # some hundred roundings in forty steps


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.2))


def loss(model, x):
    return (model(x) - x[:, :3]).square().mean()


def batch(rng):
    return torch.randn(17, 5, generator=rng)


def run(model=None, **changed):
    return fit(model or linear(), loss, batch, **({"steps": 40, "lr": 0.02, "seed": 0} | changed))


class Point(nn.Module):
    """One number, in float64, on a line."""

    def __init__(self, start=0.0):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def distance(model, target):
    return (model.at - target).abs()


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


def walk(**changed):
    """Walk right by 1/4 a step: the training target is far away, the held-out ones are not."""
    model = Point()
    arguments = {"steps": 12, "lr": 0.25, "seed": 0, "optimizer": sgd} | changed
    return model, fit(model, distance, lambda rng: 100.0, **arguments)


# ---- the loop


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("warmup", [0, 8])
def test_it_is_the_plain_loop(warmup, clip):
    model, theirs = linear().eval(), linear()
    history = run(model, warmup=warmup, clip=clip)

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(theirs.parameters(), 0.02, betas=(0.9, 0.98), eps=1e-9, fused=True)
    scheduler = LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / max(1, warmup)))
    for step in range(40):
        value = loss(theirs, batch(rng))
        assert_same(history[step], value, FLOAT32)
        assert_same(history.rates[step], scheduler.get_last_lr()[0])
        optimizer.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), math.inf if clip is None else clip)
        assert_same(history.gradient_norms[step], norm, FLOAT32)
        optimizer.step()
        scheduler.step()
    for p, p2 in zip(model.parameters(), theirs.parameters(), strict=True):
        assert_same(p, p2, FLOAT32)
    assert len(history) == len(history.rates) == len(history.gradient_norms) == 40
    assert min(history.gradient_norms) > 0.1, "clipping had nothing to clip"
    assert history.held_out == {}


def test_the_seed_decides_everything_and_the_callers_state_stays():
    first, second = linear(), linear()
    state = torch.get_rng_state()
    history = run(first)
    assert_same(history, run(second), FLOAT32)
    assert_identical(torch.get_rng_state(), state)
    assert_same(first[0].weight, second[0].weight, FLOAT32)
    assert_differs(history, run(seed=1))


@pytest.mark.parametrize("before", [False, True])
def test_denormal_numbers_count_as_zero_during_the_run_only(before):
    seen = []

    def spied(model, x):
        seen.append(sys.float_info.min / 2)
        return loss(model, x) * (torch.nan if len(seen) == 3 else 1)

    torch.set_flush_denormal(before)
    try:
        fit(linear(), spied, batch, steps=2, lr=0.1, seed=0)
        assert (sys.float_info.min / 2 == 0) == before
        with pytest.raises(FloatingPointError):
            fit(linear(), spied, batch, steps=2, lr=0.1, seed=0)
        assert (sys.float_info.min / 2 == 0) == before
        assert seen == [0, 0, 0]
    finally:
        torch.set_flush_denormal(False)


def test_dropout_is_seeded_too():
    first, second = linear(), linear()
    torch.manual_seed(5)
    history = run(first)
    torch.manual_seed(6)
    assert_same(run(second), history, FLOAT32)


def test_it_learns_and_leaves_the_model_in_evaluation_mode():
    model = linear()
    history = run(model, steps=300)
    assert isinstance(history, list) and len(history) == 300
    assert sum(history[-20:]) < sum(history[:20]) / 3
    assert not model.training


def test_only_what_the_optimizer_was_given_is_trained_and_clipped():
    model = linear()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    bias = model[0].bias.detach().clone()
    history = run(model, clip=0.01, optimizer=lambda m, lr: torch.optim.SGD([m[0].bias], lr))
    assert_identical(model[0].weight, before, because="no optimizer has it")
    assert (model[0].bias - bias).norm() > 0.01 * 0.02
    assert (model[0].bias - bias).norm() <= 40 * 0.01 * 0.02 * 1.001
    assert history.rates == [0.02] * 40


def test_the_rates_are_the_first_groups():
    def two_rates(model, lr):
        return torch.optim.SGD(
            [{"params": model[0].weight}, {"params": model[0].bias, "lr": 9.0}], lr
        )

    assert run(steps=2, optimizer=two_rates).rates == [0.02, 0.02]


# ---- the schedule


def test_the_schedule_multiplies_the_rate_and_is_asked_once_for_each_step():
    asked = []

    def schedule(step):
        asked.append(step)
        return [1.0, 0.5, 0.25, 0.0][step]  # an error beyond the last step

    model, history = walk(steps=4, schedule=schedule)
    assert asked == [0, 1, 2, 3]
    assert history.rates == [0.25, 0.125, 0.0625, 0.0]
    assert model.at.item() == 0.4375
    cosine = partial(cosine_with_warmup, steps=12, warmup=3)
    assert walk(schedule=cosine)[1].rates == [0.25 * cosine(s) for s in range(12)]


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_schedule_that_makes_no_rate_is_an_error(factor):
    with pytest.raises(ValueError, match=r"learning rate (-0.25|nan|inf) at step 2"):
        walk(schedule=lambda step: factor if step == 2 else 1.0)
    with pytest.raises(ValueError, match="give the schedule its own"):
        walk(schedule=lambda step: 1.0, warmup=3)


# ---- accumulation


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 5, dtype=torch.float64)
        self.readout = nn.Linear(5, 11, dtype=torch.float64)

    def forward(self, ids):
        return self.readout(self.embedding(ids).tanh())


def tags(model, batch):
    ids, keep = batch
    return cross_entropy(model(ids), (3 * ids + 1) % 11, keep)


def ragged(rng, rows):
    ids = torch.randint(11, (rows, 7), generator=rng)
    lengths = torch.randint(1, 8, (rows, 1), generator=rng)
    return ids, torch.arange(7) < lengths


def n_tokens(batch):
    return batch[1].sum()


def four_rows_at_once(rng):
    """The same four rows that four micro-batches of one row draw."""
    rows = [ragged(rng, 1) for _ in range(4)]
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


def trained(make_batch, **changed):
    model = Tagger()
    arguments = {"steps": 3, "lr": 0.1, "seed": 0, "clip": 0.05} | changed
    history = fit(model, tags, make_batch, **arguments)
    return history, [p.detach() for p in model.parameters()]


def test_accumulating_equals_one_big_batch_when_tokens_are_the_weights():
    big, expected = trained(four_rows_at_once)
    small, weights = trained(partial(ragged, rows=1), accumulate=4, weigh=n_tokens)
    assert small == pytest.approx(big, abs=1e-10)
    assert small.gradient_norms == pytest.approx(big.gradient_norms, abs=1e-10)
    for ours, theirs in zip(weights, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-10


def test_weighed_alike_it_is_the_mean_of_means_and_that_differs():
    rng = torch.Generator().manual_seed(0)
    model = Tagger()
    means = [tags(model, ragged(rng, 1)).item() for _ in range(4)]
    alike, _ = trained(partial(ragged, rows=1), accumulate=4)
    by_token, _ = trained(four_rows_at_once)
    assert alike[0] == pytest.approx(sum(means) / 4, abs=1e-12)
    assert abs(alike[0] - by_token[0]) > 1e-3


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_a_weight_is_positive_and_finite(weight):
    with pytest.raises(ValueError, match=r"positive and finite; got \[1.0, .*\]"):
        weights = iter([1, weight])
        walk(accumulate=2, weigh=lambda batch: next(weights))


# ---- held-out batches


def test_evaluation_is_the_weighted_mean_in_evaluation_mode_without_gradients():
    model = linear().train()
    seen = []

    def spied(model, x):
        seen.append((model.training, torch.is_grad_enabled()))
        return loss(model, x)

    batches = [torch.randn(3, 5), torch.randn(7, 5)]
    state = torch.get_rng_state()
    ours = evaluate(model, spied, batches, weigh=len)
    assert seen == [(False, False)] * 2
    assert model.training
    assert_identical(torch.get_rng_state(), state)
    model.eval()
    assert ours == pytest.approx(loss(model, torch.cat(batches)).item(), rel=1e-6)
    means = [loss(model, x).item() for x in batches]
    assert evaluate(model, loss, batches) == pytest.approx(sum(means) / 2)
    assert not model.training
    with pytest.raises(ValueError, match=r"got \[\]"):
        evaluate(model, loss, [])
    with pytest.raises(FloatingPointError, match="the loss is nan in evaluation"):
        evaluate(model, loss, [torch.full((3, 5), torch.nan)])


def test_looking_at_held_out_batches_does_not_change_the_training():
    first, second = linear(), linear()
    held_out = HeldOut([torch.randn(7, 5)], every=3)
    history = run(second, held_out=held_out)
    assert_same(run(first), history, FLOAT32)
    assert_same(first[0].weight, second[0].weight, FLOAT32)
    assert list(history.held_out) == [3 * i for i in range(1, 14)]
    assert history.held_out[39] != history.held_out[36]


def test_without_patience_it_only_watches():
    model, history = walk(held_out=HeldOut([1.0, 3.0], every=4), weigh=lambda c: c)
    assert model.at.item() == 3
    assert history.held_out == {4: 1.5, 8: 1.0, 12: 0.5}


@pytest.mark.parametrize("patience, stopped", [(1, 6), (2, 8), (3, 10), (4, 12), (9, 12)])
def test_it_stops_when_patience_runs_out_and_leaves_the_best_weights(patience, stopped):
    model, history = walk(held_out=HeldOut([1.0], every=2, patience=patience))
    assert len(history) == len(history.rates) == stopped
    assert history.held_out == {s: abs(s / 4 - 1) for s in range(2, stopped + 1, 2)}
    assert model.at.item() == 1 and not model.training


def test_patience_starts_again_at_every_new_best_and_a_tie_is_none():
    targets = {1: 5.0, 2: 6.0, 3: 4.0, 4: 4.0, 5: 7.0}  # held-out losses, by evaluation
    losses = iter(targets.values())

    def told(model, target):
        return distance(model, target) if target == 100 else torch.tensor(next(losses))

    model = Point()
    history = fit(
        model,
        told,
        lambda rng: 100.0,
        steps=12,
        lr=0.25,
        seed=0,
        optimizer=sgd,
        held_out=HeldOut([0.0], every=1, patience=2),
    )
    assert history.held_out == targets
    assert model.at.item() == 0.75


def test_the_best_weights_come_with_their_running_statistics():
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))
    seen = []

    def told(model, x):
        if model.training:
            return loss(model, x)
        seen.append(model[0].running_mean.clone())
        return torch.tensor(float(len(seen)))

    fit(
        model,
        told,
        batch,
        steps=9,
        lr=0.1,
        seed=0,
        held_out=HeldOut([torch.zeros(1, 5)], every=2, patience=3),
    )
    assert len(seen) == 4
    assert_differs(seen[0], seen[3])
    assert_identical(model[0].running_mean, seen[0], because="they are copied back")


def test_held_out_batches_must_be_looked_at():
    with pytest.raises(ValueError, match="every = 13, but there are only 12 steps"):
        walk(held_out=HeldOut([1.0], every=13))
    assert len(walk(held_out=HeldOut([1.0], every=12))[1].held_out) == 1
    with pytest.raises(AttributeError, match="cannot assign to field 'every'"):
        HeldOut([1.0], every=1).every = 0  # past the checks
    with pytest.raises(ValueError, match="no held-out batch"):
        HeldOut([], every=1)
    with pytest.raises(ValueError, match="every must be at least 1; got 0"):
        HeldOut([1.0], every=0)
    with pytest.raises(ValueError, match="patience must be at least 1; got 0"):
        HeldOut([1.0], every=1, patience=0)


# ---- bfloat16


def test_in_bfloat16_products_are_rounded_and_weights_are_not():
    model, dtypes = linear().eval(), []
    x = torch.randn(101, 5)

    def spied(model, x):
        dtypes.append(model(x).dtype)
        return loss(model, x)

    exact, rounded = loss(model, x).item(), in_bfloat16(spied)(model, x).item()
    assert dtypes == [torch.bfloat16]
    assert 0 < abs(exact - rounded) / exact < 0.02  # 8 bits of precision
    assert in_bfloat16(spied).__name__ == "spied"
    assert model(x).dtype == torch.float32, "autocast stayed on"

    history = fit(model, in_bfloat16(loss), batch, steps=300, lr=0.02, seed=0)
    assert model[0].weight.dtype == model[0].weight.grad.dtype == torch.float32
    assert sum(history[-20:]) < sum(history[:20]) / 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gradient_in_half_precision_is_measured_and_clipped_in_float32(dtype):
    w = nn.Module()
    w.W = nn.Parameter(torch.zeros(200, 200, dtype=dtype))
    history = fit(
        w,
        lambda model, batch: (model.W.float() * batch).sum(),
        lambda rng: torch.full((200, 200), 1000.0),
        steps=1,
        lr=1.0,
        seed=0,
        clip=1.0,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
    )
    assert history.gradient_norms == [pytest.approx(200 * 1000, rel=1e-3)]  # beyond 65504
    assert w.W[0, 0].item() == pytest.approx(-1 / 200, rel=torch.finfo(dtype).eps)


# ---- what goes wrong


def test_a_loss_or_a_gradient_that_is_not_finite_stops_it():
    def spoilt(factor, at):
        count = iter(range(99))
        return lambda m, x: loss(m, x) * (factor if next(count) == at else 1)

    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        fit(linear(), spoilt(torch.nan, 0), batch, steps=3, lr=0.1, seed=0)
    with pytest.raises(FloatingPointError, match="the loss is inf at step 2"):
        fit(linear(), spoilt(torch.inf, 2), batch, steps=3, lr=0.1, seed=0)
    # The square root of 0 is finite, its slope is not.
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is (inf|nan) at step 0"):
        fit(Point(), lambda m, x: m.at.sqrt(), batch, steps=1, lr=0.1, seed=0)


@pytest.mark.parametrize(
    "bad, error, message",
    [
        (lambda m, x: loss(m, x).item(), TypeError, "a tensor with one element; got"),
        (lambda m, x: m(x).mean(0), TypeError, "a tensor with one element; got"),
        (lambda m, x: loss(m, x).detach(), TypeError, "no graph to go back through"),
    ],
)
def test_a_loss_is_a_scalar_with_a_graph(bad, error, message):
    with pytest.raises(error, match=message):
        fit(linear(), bad, batch, steps=3, lr=0.1, seed=0)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1; got 0"),
        ({"lr": 0.0}, "lr must be positive and finite; got 0"),
        ({"lr": math.nan}, "lr must be positive and finite; got nan"),
        ({"clip": 0.0}, "clip must be positive and finite; got 0"),
        ({"clip": math.inf}, "clip must be positive and finite; got inf"),
        ({"warmup": -1}, "count updates, from 0; got 0 and -1"),
    ],
)
def test_numbers_out_of_range_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        run(**changed)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="Dropout has no parameter to train"):
        run(nn.Dropout(0.1))
    with pytest.raises(ValueError, match="Sequential has no parameter to train"):
        run(linear().requires_grad_(False))


# ---- what is shown


@pytest.mark.parametrize("progress", [False, True])
def test_stderr_stays_empty_unless_progress_is_asked_for(capsys, progress):
    history = run(progress=progress)
    shown = capsys.readouterr().err
    assert bool(shown) == progress
    if progress:
        assert "40/40" in shown and f"loss={history[-1]:.3g}" in shown and "rate=0.02" in shown
        assert shown.count("\r") < 40, "drawn anew at every step"


def test_nothing_is_shown_by_default(capsys):
    fit(linear(), loss, batch, steps=2, lr=0.1, seed=0)
    assert not capsys.readouterr().err
