"""Training, the same way every time: one loop for all pages.

What differs from page to page is passed in as a function: the loss, the batches, the optimiser, the
schedule. A loss in bfloat16 is `in_bfloat16(loss)`; another optimiser is another function of the
model and the rate.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import trange

from qa_lab.transformer.training import adam, constant_with_warmup

Batch = TypeVar("Batch")
Loss = Callable[[nn.Module, Batch], Tensor]
"""From the model and a batch to the loss to minimise, a scalar."""
Weigh = Callable[[Batch], float | Tensor]
"""From a batch to its weight: the number of its target tokens, say."""


def alike(batch: Batch) -> float:
    """Weigh every batch the same, whatever it holds."""
    return 1.0


def in_bfloat16(loss: Loss) -> Loss:
    """Compute a loss with matrix products in bfloat16, weights and their updates in float32.

    bfloat16 has the range of float32, so the loss needs no scaling, and 8 bits of precision. A
    processor without bfloat16 arithmetic imitates it, and is slower than in float32.

    Paper: Kalamkar et al. 2019, arXiv:1905.12322.

    Args:
        loss: Of a model with float32 parameters.

    Returns:
        The same loss, under `torch.autocast` on the model's device.
    """

    @wraps(loss)
    def cast(model: nn.Module, batch: Batch) -> Tensor:
        device = next(model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return loss(model, batch)

    return cast


@dataclass(frozen=True)
class HeldOut:
    """Batches to evaluate on while training, and when to stop.

    Args:
        batches: At least one, made before training.
        every: Updates from one evaluation to the next.
        patience: Evaluations in a row without a new best after which training stops. None: never.

    Raises:
        ValueError: There is no batch, or `every` or `patience` is below 1.
    """

    batches: Sequence[object]
    every: int
    patience: int | None = None

    def __post_init__(self) -> None:
        if not len(self.batches):
            raise ValueError("no held-out batch to evaluate on.")
        _at_least_one(every=self.every, patience=1 if self.patience is None else self.patience)


class History(list[float]):
    """The training loss of every step, before its update; and what else was seen on the way.

    Attributes:
        rates: Learning rate of every step; the first group's, if the optimiser has several.
        gradient_norms: Norm of the whole gradient of every step, before clipping, in units of the
            loss per unit of the parameters.
        held_out: Held-out loss by updates done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.gradient_norms: list[float] = []
        self.held_out: dict[int, float] = {}


def fit(
    model: nn.Module,
    loss: Loss,
    make_batch: Callable[[Generator], Batch],
    *,
    steps: int,
    lr: float,
    seed: int,
    warmup: int = 0,
    clip: float | None = None,
    progress: bool = False,
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer] = adam,
    schedule: Callable[[int], float] | None = None,
    accumulate: int = 1,
    weigh: Weigh = alike,
    held_out: HeldOut | None = None,
) -> History:
    r"""Train a model on batches made as they are needed.

        make_batch = partial(tasks.sort, batch=64, n_symbols=10, lengths=range(3, 8))
        losses = fit(model, loss, make_batch, steps=500, lr=1e-3, seed=0)

        fit(model, in_bfloat16(loss), make_batch, steps=500, lr=3e-3, seed=0, clip=1.0,
            optimizer=adamw, schedule=partial(cosine_with_warmup, steps=500, warmup=50))

    The seed decides the batches and the dropout. The initial weights are made before: call
    `torch.manual_seed(seed)` ahead of building the model. On one thread the same seed then gives
    the same losses, on another processor up to rounding; the caller's random state is left as it
    was. Denormal numbers count as 0 meanwhile.

    A step's loss is the weighted mean over its micro-batches, so accumulating is exact:

    $$ loss = \sum_i w_i loss_i / \sum_i w_i $$

    With a loss that is a mean over tokens and `weigh` their number, the step is that of one big
    batch. Weighed alike, as by default, it is the mean of the means: a token in a short micro-batch
    then counts for more. What looks across a batch (dropout, batch norm) sees micro-batches.

    Paper: clipping: Pascanu et al. 2013, arXiv:1211.5063, section 3.2, algorithm 1.

    Args:
        model: Trained in place, in training mode; left in evaluation mode.
        loss: From the model and a batch to the loss to minimise, a scalar.
        make_batch: From a random generator to a batch; called `accumulate` times for each step.
        steps: Updates.
        lr: Learning rate that the schedule's factor multiplies.
        seed: Of the batches and of dropout.
        warmup: Steps of linear warm-up before a constant rate. 0: none.
        clip: Largest norm of the whole gradient. None: no limit.
        progress: Whether to draw a progress bar on stderr, with loss and rate.
        optimizer: Makes the optimiser from the model and the learning rate; see
            `qa_lab.transformer.training.optimizers`.
        schedule: From the updates done so far to the factor on the learning rate; see
            `qa_lab.transformer.training.schedules`. None: constant after `warmup`.
        accumulate: Micro-batches whose gradients are added up to one update.
        weigh: From a batch to its weight among the micro-batches of its step and among the held-out
            batches: the number of its target tokens, say.
        held_out: What to evaluate on, how often, and when to stop early. With `patience`, the model
            is left with the weights of its best evaluation, wherever it stopped.

    Returns:
        The loss of every step, before its update: a list, with more beside it.

    Raises:
        FloatingPointError: A loss or a gradient is NaN or infinite.
        TypeError: The loss is not a tensor of one element with a graph, or `optimizer` is no
            function.
        ValueError: A number is out of its range (a weight or a rate included); the model has
            nothing to train; `warmup` is given to a schedule; or `held_out` is never looked at.
    """
    _at_least_one(steps=steps, accumulate=accumulate)
    _positive(lr=lr, clip=1.0 if clip is None else clip)
    if schedule is not None and warmup:
        raise ValueError("warmup is for the constant schedule; give the schedule its own.")
    if held_out is not None and held_out.every > steps:
        raise ValueError(f"held_out.every = {held_out.every}, but there are only {steps} steps.")
    if not callable(optimizer):
        raise TypeError(
            f"optimizer makes one from the model and the rate, as adam does; got a "
            f"{type(optimizer).__name__}."
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameter to train.")

    rng = Generator().manual_seed(seed)
    update = optimizer(model, lr)
    parameters = [p for group in update.param_groups for p in group["params"]]
    scheduler = LambdaLR(update, schedule or partial(constant_with_warmup, warmup=warmup))
    history, best = History(), None
    model.train()
    bar = trange(steps, disable=not progress)
    with torch.random.fork_rng(), _denormals_flushed(), bar:
        torch.manual_seed(seed)
        for step in bar:
            if step:
                scheduler.step()
            rate = scheduler.get_last_lr()[0]
            if not 0 <= rate < math.inf:
                raise ValueError(f"the schedule makes the learning rate {rate} at step {step}.")
            batches = [make_batch(rng) for _ in range(accumulate)]
            update.zero_grad()
            history.append(_backward(model, loss, batches, weigh, step))
            norm = _gradient_norm(parameters)
            if not norm.isfinite():
                raise FloatingPointError(f"the gradient's norm is {norm.item()} at step {step}.")
            if clip is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            update.step()
            history.rates.append(rate)
            history.gradient_norms.append(norm.item())
            bar.set_postfix(loss=history[-1], rate=rate, refresh=False)

            if held_out is None or (step + 1) % held_out.every:
                continue
            history.held_out[step + 1] = evaluate(model, loss, held_out.batches, weigh)
            if held_out.patience is None:
                continue
            since_best = _evaluations_since_best(history)
            if since_best == 0:
                best = copy.deepcopy(model.state_dict())
            elif since_best == held_out.patience:
                break
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Loss,
    batches: Sequence[Batch],
    weigh: Weigh = alike,
) -> float:
    """Average a loss over batches, in evaluation mode and without gradients.

    Args:
        model: Left in the mode it came in.
        loss: From the model and a batch to a scalar.
        batches: At least one.
        weigh: From a batch to its weight: the number of its target tokens, say.

    Returns:
        The weighted mean, in units of the loss.

    Raises:
        FloatingPointError: A loss is NaN or infinite.
        TypeError: A loss is not a tensor of one element, or `batches` is an iterator.
        ValueError: There is no batch, or a weight is not positive and finite.
    """
    if isinstance(batches, Iterator):
        raise TypeError("batches are gone through twice: give a list of them, not an iterator.")
    training = model.training
    model.eval()
    shares = _shares(batches, weigh)
    mean = sum(
        share * _finite(loss(model, batch), "in evaluation").item()
        for share, batch in zip(shares, batches, strict=True)
    )
    model.train(training)
    return mean


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Take numbers below the normal range for 0: saturated softmaxes make them, slowly."""
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _backward(model, loss, batches, weigh, step) -> float:
    """Add up the gradients of the micro-batches of one step; return the step's loss."""
    mean = 0.0
    for share, batch in zip(_shares(batches, weigh), batches, strict=True):
        value = _finite(loss(model, batch), f"at step {step}")
        if not value.requires_grad:
            raise TypeError("the loss has no graph to go back through; do not detach it.")
        (share * value).backward()  # one micro-batch's graph in memory at a time
        mean += share * value.item()
    return mean


def _gradient_norm(parameters) -> Tensor:
    """Measure the whole gradient, in float32 at least: float16 ends at a norm of 65504."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm(
        [g.to(torch.promote_types(g.dtype, torch.float32)) for g in gradients]
    )


def _shares(batches, weigh) -> list[float]:
    """Turn the batches' weights into shares that sum to 1; exactly 1 for one batch."""
    weights = [float(weigh(batch)) for batch in batches]
    if not weights or not all(0 < w < math.inf for w in weights):
        raise ValueError(f"every batch needs a weight, positive and finite; got {weights}.")
    return [w / sum(weights) for w in weights]


def _finite(value: object, where: str) -> Tensor:
    """Refuse a loss that is no number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(f"a loss must be a tensor with one element; got {value} {where}.")
    if not value.isfinite():
        raise FloatingPointError(f"the loss is {value.item()} {where}.")
    return value


def _evaluations_since_best(history: History) -> int:
    """Count the evaluations since the lowest held-out loss; 0: the last is a new best."""
    losses = list(history.held_out.values())
    return len(losses) - 1 - losses.index(min(losses))  # the first of equals: a tie is no new best


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}.")


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive and finite; got {number}.")
