"""Toy tasks with known answers, made from a random generator.

Ids, in every task that has these tokens: 0 pads, 1 starts a target, 2 ends it; symbols are
FIRST_SYMBOL, FIRST_SYMBOL + 1, ... A model for such a task needs `vocab_size(n_symbols)` ids.
Padding is on the right.

`lengths` is an `int`, or a `range` from which each sequence draws its length: `range(3, 8)` is 3 to
7 tokens.

More tasks of the same form stand beside this file: `induction`, `arithmetic` (parity, modular
addition), `brackets`, `dates`, `number_words`; and sources of text whose entropy is known exactly:
`markov`, `hidden_markov`. `data_sets` splits and draws from what is listed once; `floors` has what
no model can beat.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

PAD = 0
START = 1
END = 2
FIRST_SYMBOL = 3


class Pairs(NamedTuple):
    """Sources and targets, for an encoder-decoder.

    A decoder reads `target[:, :-1]` (real `target_real[:, :-1]`) and predicts `target[:, 1:]` (real
    `target_real[:, 1:]`).
    """

    source: Int[Tensor, "batch source"]
    """Symbols, then PAD."""
    source_real: Bool[Tensor, "batch source"]
    """True at symbols."""
    target: Int[Tensor, "batch target"]
    """START, symbols, END, then PAD."""
    target_real: Bool[Tensor, "batch target"]
    """True at START, symbols and END."""


class Labelled(NamedTuple):
    """Sequences with one label each, for a classifier."""

    ids: Int[Tensor, "batch length"]
    """Symbols, then PAD."""
    real: Bool[Tensor, "batch length"]
    """True at symbols."""
    label: Int[Tensor, " batch"]
    """The answer, a token id."""


class Tagged(NamedTuple):
    """Sequences with a label at each token."""

    ids: Int[Tensor, "batch length"]
    """Symbols, then PAD."""
    real: Bool[Tensor, "batch length"]
    """True at symbols."""
    labels: Int[Tensor, "batch length"]
    """The answers, token ids; PAD where `ids` is."""


class Sentences(NamedTuple):
    """Sequences for a language model.

    The model reads `ids[:, :-1]` and predicts `ids[:, 1:]` (where `real[:, 1:]`).
    """

    ids: Int[Tensor, "batch length"]
    """START, then symbols; then END and PAD if sentences end."""
    real: Bool[Tensor, "batch length"]
    """True everywhere but at PAD."""


def vocab_size(n_symbols: int) -> int:
    """Count the ids of a task with `n_symbols` symbols: those, PAD, START and END.

    Raises:
        ValueError: There is no symbol.
    """
    at_least(1, n_symbols=n_symbols)
    return FIRST_SYMBOL + n_symbols


def at_least(least: int, **counts: int) -> None:
    """Refuse a count that is too small: `at_least(1, batch=batch)`.

    Args:
        least: The smallest count that makes sense.
        counts: The counts, by the caller's names for them.

    Raises:
        ValueError: A count is below `least`.
    """
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name} must be {least} or more; got {count}.")


def generator(seed: int) -> Generator:
    """Make a random generator that depends on nothing but `seed`."""
    return Generator().manual_seed(seed)


def length_choices(lengths: int | range) -> list[int]:
    """List the lengths that a sequence may have: 5 -> [5], range(3, 6) -> [3, 4, 5].

    Raises:
        ValueError: There is none, or one is below 1.
    """
    choices = [lengths] if isinstance(lengths, int) else list(lengths)
    if not choices or min(choices) < 1:
        raise ValueError(f"lengths must be 1 token or more; got {lengths}.")
    return choices


def random_symbols(
    rng: Generator, batch: int, n_symbols: int, lengths: int | range
) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    """Draw uniform symbols, padded on the right to the longest length there can be.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from.
        lengths: Tokens in each sequence, fixed or a range to draw from uniformly.

    Returns:
        The ids, and True where they are not PAD.

    Raises:
        ValueError: `lengths` is empty or holds a length below 1; or a count is below 1.
    """
    at_least(1, batch=batch, n_symbols=n_symbols)
    choices, symbols = torch.tensor(length_choices(lengths)), (FIRST_SYMBOL, vocab_size(n_symbols))
    longest, here = int(choices.max()), rng.device
    ids = torch.randint(*symbols, (batch, longest), generator=rng, device=here)
    drawn = choices.to(here)[torch.randint(len(choices), (batch,), generator=rng, device=here)]
    real = torch.arange(longest, device=here) < drawn[:, None]
    return ids.masked_fill(~real, PAD), real


def framed(
    source: Int[Tensor, "batch length"],
    real: Bool[Tensor, "batch length"],
    answer: Int[Tensor, "batch length"],
) -> Pairs:
    """Put each answer, as long as its source, between START and END."""
    batch, length = answer.shape
    target = answer.new_full((batch, length + 2), PAD)
    target[:, 0] = START
    target[:, 1:-1] = answer.masked_fill(~real, PAD)
    end = real.sum(dim=1, keepdim=True) + 1
    target.scatter_(1, end, END)
    return Pairs(source, real, target, torch.arange(length + 2, device=end.device) <= end)


def copy(rng: Generator, *, batch: int, n_symbols: int, lengths: int | range) -> Pairs:
    """Say the same symbols again: 7 4 5 -> 7 4 5.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from.
        lengths: Tokens in a source, fixed or a range.

    Returns:
        Sources and targets.
    """
    ids, real = random_symbols(rng, batch, n_symbols, lengths)
    return framed(ids, real, ids)


def reverse(rng: Generator, *, batch: int, n_symbols: int, lengths: int | range) -> Pairs:
    """Say the symbols backwards: 7 4 5 -> 5 4 7.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from.
        lengths: Tokens in a source, fixed or a range.

    Returns:
        Sources and targets. The padding stays on the right of both.
    """
    ids, real = random_symbols(rng, batch, n_symbols, lengths)
    place = torch.arange(ids.shape[1], device=ids.device)
    mirrored = real.sum(dim=1, keepdim=True) - 1 - place
    return framed(ids, real, ids.gather(1, mirrored.clamp(min=0)))


def sort(rng: Generator, *, batch: int, n_symbols: int, lengths: int | range) -> Pairs:
    """Say the symbols in rising order: 7 4 5 -> 4 5 7.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from.
        lengths: Tokens in a source, fixed or a range.

    Returns:
        Sources and targets.
    """
    ids, real = random_symbols(rng, batch, n_symbols, lengths)
    after_all = vocab_size(n_symbols)
    return framed(ids, real, ids.masked_fill(~real, after_all).sort(dim=1).values)


def associative_recall(
    rng: Generator, *, batch: int, n_keys: int, n_values: int, n_pairs: int
) -> Labelled:
    """Look up the value that came after the queried key: k3 v1 k7 v2 k3 -> v1.

    A sequence is n_pairs of a key and its value, then one of these keys as the query. Keys are ids
    FIRST_SYMBOL to FIRST_SYMBOL + n_keys - 1, and differ within a sequence; values are the n_values
    ids after them, drawn independently, so that without looking no guess is right more often than
    1 / n_values.

    Paper: Ba et al. 2016, arXiv:1610.06258, section 4.1, asks for the same with letters and digits.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_keys: Keys to draw from.
        n_values: Values to draw from.
        n_pairs: Pairs in a sequence.

    Returns:
        Sequences of 2 n_pairs + 1 tokens, without padding, and the value's token id.

    Raises:
        ValueError: n_pairs exceeds n_keys, so that keys would repeat; or a count is below 1.
    """
    at_least(1, batch=batch, n_values=n_values)
    if not 1 <= n_pairs <= n_keys:
        raise ValueError(f"n_pairs must lie in 1..n_keys = {n_keys}; got {n_pairs}.")
    here, first_value = rng.device, FIRST_SYMBOL + n_keys
    order = torch.rand(batch, n_keys, generator=rng, device=here).argsort(dim=1)
    keys = FIRST_SYMBOL + order[:, :n_pairs]
    values = first_value + torch.randint(n_values, (batch, n_pairs), generator=rng, device=here)
    asked = torch.randint(n_pairs, (batch, 1), generator=rng, device=here)
    pairs = torch.stack([keys, values], dim=-1).flatten(1)
    ids = torch.cat([pairs, keys.gather(1, asked)], dim=1)
    return Labelled(ids, torch.ones_like(ids, dtype=torch.bool), values.gather(1, asked)[:, 0])


def most_frequent_token(
    rng: Generator, *, batch: int, n_symbols: int, lengths: int | range
) -> Labelled:
    """Name the symbol that occurs most often; of several, the smallest id: 7 4 7 5 -> 7.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from.
        lengths: Tokens in a sequence, fixed or a range.

    Returns:
        Padded sequences and the symbol's token id. Padding does not count, however much there is.
    """
    ids, real = random_symbols(rng, batch, n_symbols, lengths)
    symbols = torch.arange(FIRST_SYMBOL, vocab_size(n_symbols), device=ids.device)
    counts = (ids[:, :, None] == symbols).sum(dim=1)
    most = counts == counts.max(dim=1, keepdim=True).values
    return Labelled(ids, real, symbols[most.int().argmax(dim=1)])


def iid_tokens(
    rng: Generator, *, batch: int, vocab: int, length: int
) -> Int[Tensor, "{batch} {length}"]:
    """Draw tokens that nothing predicts: uniform and independent, ids 0 to vocab - 1.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        vocab: Tokens to draw from; here every id is a real token, 0 too.
        length: Tokens in a sequence.

    Returns:
        The ids. No causal model has an expected loss below `entropy_floor(vocab)`; one below it
        looks ahead.

    Raises:
        ValueError: A count is below 1.
    """
    at_least(1, batch=batch, vocab=vocab, length=length)
    return torch.randint(vocab, (batch, length), generator=rng, device=rng.device)


def entropy_floor(vocab: int) -> float:
    r"""Return the entropy of a uniform token, the least expected loss of an honest model.

    $$ H = \ln V $$

    Args:
        vocab: Equally likely tokens.

    Returns:
        The entropy, in nats per token.

    Raises:
        ValueError: There is no token.
    """
    at_least(1, vocab=vocab)
    return math.log(vocab)
