"""Data that are listed once: dealt into a part to train on and a part held out, then drawn from."""

from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from qa_lab.experiments.data.tasks import at_least

Data = TypeVar("Data", bound=tuple)


def split(
    rng: Generator, size: int, train_fraction: float
) -> tuple[Int[Tensor, " train"], Int[Tensor, " held_out"]]:
    """Deal the numbers 0 to size - 1 into two piles: size 5, 0.4 -> [3, 0] and [1, 4, 2].

    Args:
        rng: Source of randomness: the same seed makes the same split.
        size: Examples there are.
        train_fraction: Share of the first pile, rounded to whole examples; dimensionless.

    Returns:
        The piles, in random order. Each number is in exactly one.

    Raises:
        ValueError: A pile would be empty.
    """
    n_train = round(train_fraction * size)
    if not 0 < n_train < size:
        raise ValueError(
            f"train_fraction {train_fraction} of {size} examples leaves {n_train} to train on and "
            f"{size - n_train} held out; both need 1 or more."
        )
    order = torch.randperm(size, generator=rng, device=rng.device).cpu()
    train, held_out = order.tensor_split([n_train])
    return train, held_out


def draw_rows(rng: Generator, data: Data, *, batch: int) -> Data:
    """Draw rows of a fixed data set, with replacement, for one step of training.

        make_batch = partial(draw_rows, data=train, batch=64)

    Args:
        rng: Source of randomness.
        data: A NamedTuple of tensors with as many rows each: Pairs, Labelled, ...
        batch: Rows to draw.

    Returns:
        The rows, as the same kind of NamedTuple.

    Raises:
        ValueError: There is no row to draw, or none is asked for.
    """
    at_least(1, batch=batch, rows=len(data[0]))
    rows = torch.randint(len(data[0]), (batch,), generator=rng, device=rng.device)
    return type(data)(*(field[rows.to(field.device)] for field in data))
