"""Parity and modular addition: tasks where all but one of the inputs tell nothing at all."""

import torch
from torch import Generator

from qa_lab.experiments.data.data_sets import split
from qa_lab.experiments.data.tasks import (
    FIRST_SYMBOL,
    PAD,
    Labelled,
    Tagged,
    at_least,
    random_symbols,
)

ZERO = FIRST_SYMBOL
"""The id of an even bit, and of the number 0."""


def parity(rng: Generator, *, batch: int, lengths: int | range) -> Labelled:
    """Say whether the ones are odd in number: 1 0 1 1 -> 1.

    Every bit matters: knowing all but one, a guess is right half of the time. Order does not.

    Paper: Hahn 2020, arXiv:1906.06755: the language PARITY.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        lengths: Bits in a sequence, fixed or a range.

    Returns:
        Padded bits, ids ZERO and ZERO + 1 (`vocab_size(2)` in all), and the parity as such an id.
        Both parities are equally likely.

    Raises:
        ValueError: `lengths` holds a length below 1, or no sequence is asked for.
    """
    ids, real, labels = running_parity(rng, batch=batch, lengths=lengths)
    last = real.sum(dim=1, keepdim=True) - 1
    return Labelled(ids, real, labels.gather(1, last)[:, 0])


def running_parity(rng: Generator, *, batch: int, lengths: int | range) -> Tagged:
    """Say after each bit whether the ones so far are odd in number: 1 0 1 1 -> 1 1 0 1.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        lengths: Bits in a sequence, fixed or a range.

    Returns:
        Padded bits, ids ZERO and ZERO + 1, and the parity of each prefix as such an id.

    Raises:
        ValueError: `lengths` holds a length below 1, or no sequence is asked for.
    """
    ids, real = random_symbols(rng, batch, 2, lengths)
    ones = (ids == ZERO + 1).cumsum(dim=1)
    return Tagged(ids, real, (ZERO + ones % 2).masked_fill(~real, PAD))


def modular_addition(
    rng: Generator, *, modulus: int, train_fraction: float
) -> tuple[Labelled, Labelled]:
    r"""Add two numbers on a clock; part of the sums is held out: 4 + 5 = -> 2, modulo 7.

    $$ c = (a + b) \bmod p $$

    Number a is id ZERO + a, then come + and =, so that a model needs `vocab_size(modulus + 2)` ids.
    Draw batches with `data_sets.draw_rows`.

    Paper: Power et al. 2022, arXiv:2201.02177: one of the tasks on which grokking was found.

    Args:
        rng: Source of randomness of the split.
        modulus: p, the numbers on the clock, 2 or more.
        train_fraction: Share of the p^2 sums to train on, dimensionless.

    Returns:
        The sums to train on and those held out: tokens a + b =, read at the last, and the id of c.
        Each of the p^2 sums is in exactly one of the two. Each c has the same number of sums, so
        that knowing one summand or none, a guess is right once in p, over both together.

    Raises:
        ValueError: The modulus is below 2, or one of the two would be empty.
    """
    at_least(2, modulus=modulus)
    plus, equals = ZERO + modulus, ZERO + modulus + 1
    numbers = torch.arange(modulus)
    a, b = torch.cartesian_prod(numbers, numbers).unbind(dim=1)
    ids = torch.stack(
        [ZERO + a, torch.full_like(a, plus), ZERO + b, torch.full_like(a, equals)], dim=1
    )
    data = Labelled(ids, torch.ones_like(ids, dtype=torch.bool), ZERO + (a + b) % modulus)
    train, held_out = split(rng, len(ids), train_fraction)
    return Labelled(*(field[train] for field in data)), Labelled(
        *(field[held_out] for field in data)
    )
