"""Training, the same way every time."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import trange

Batch = TypeVar("Batch")


def warmup_factor(step: int, warmup: int) -> float:
    r"""Grow linearly to 1 over the first steps, then stay there.

    $$ factor_s = \min(1, (s + 1) / warmup) $$

    Args:
        step: Steps done so far.
        warmup: Steps until the full learning rate. 0: from the start.

    Returns:
        What the learning rate is multiplied by, dimensionless, in (0, 1].
    """
    return min(1.0, (step + 1) / max(1, warmup))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    make_batch: Callable[[Generator], Batch],
    *,
    steps: int,
    lr: float,
    seed: int,
    warmup: int = 0,
    clip: float | None = None,
    progress: bool = False,
) -> list[float]:
    """Train a model with Adam on batches made as they are needed.

        make_batch = partial(tasks.sort, batch=64, n_symbols=10, lengths=range(3, 8))
        losses = fit(model, loss, make_batch, steps=500, lr=1e-3, seed=0)

    The seed decides the batches and the dropout. The initial weights are made before: call
    `torch.manual_seed(seed)` ahead of building the model. On one thread the same seed then gives
    the same losses, bit for bit; the caller's random state is left as it was.

    Paper: Kingma and Ba 2014, arXiv:1412.6980, algorithm 1; beta_2 and eps from Vaswani et al.
        2017, arXiv:1706.03762, section 5.3.
    Departs: the learning rate is constant after warm-up, where Vaswani et al. let it fall.

    Args:
        model: Trained in place, in training mode; left in evaluation mode.
        loss: From the model and a batch to the loss to minimise, a scalar.
        make_batch: From a random generator to a batch; called once for each step.
        steps: Updates.
        lr: Learning rate after warm-up.
        seed: Of the batches and of dropout.
        warmup: Steps of linear warm-up. 0: none.
        clip: Largest norm of the whole gradient. None: no limit.
        progress: Whether to draw a progress bar on stderr.

    Returns:
        The loss of every step, before its update.

    Raises:
        FloatingPointError: The loss is NaN or infinite.
    """
    torch.set_flush_denormal(True)  # saturated softmaxes make denormals, and those are slow
    rng = Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.98), eps=1e-9, fused=True)
    schedule = LambdaLR(optimizer, lambda step: warmup_factor(step, warmup))
    history = []
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in trange(steps, disable=not progress):
            value = loss(model, make_batch(rng))
            if not value.isfinite():
                raise FloatingPointError(f"the loss is {value.item()} at step {step}.")
            history.append(value.item())
            optimizer.zero_grad()
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            schedule.step()
    model.eval()
    return history
