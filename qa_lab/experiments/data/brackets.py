"""Nested brackets of several types with bounded depth: the language Dyck-(k, m).

    ( [ ] ) ( )

A word is well nested if each closing bracket meets the last one still open, of its own type, no
more than `max_depth` are open at once, and none is open at the end. The opening brackets are ids
FIRST_SYMBOL to FIRST_SYMBOL + n_types - 1, the closing ones the n_types ids after them, in the same
order: a model needs `vocab_size(2 * n_types)` ids. Lengths are even.

`bracket_words` is a context-free source whose best predictor and entropy are known exactly.

Paper: Hewitt et al. 2020, arXiv:2010.07515, who name the language Dyck-(k, m).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from qa_lab.experiments.data.bracket_counts import even_lengths, next_kinds, shapes
from qa_lab.experiments.data.markov import walk
from qa_lab.experiments.data.tasks import (
    END,
    FIRST_SYMBOL,
    PAD,
    START,
    Labelled,
    Sentences,
    at_least,
    vocab_size,
)


def bracket_words(
    rng: Generator, *, batch: int, n_types: int, max_depth: int, lengths: int | range
) -> Sentences:
    """Draw well-nested words, all of one length equally likely: ( [ ] ) END.

    Args:
        rng: Source of randomness.
        batch: Words.
        n_types: Types of brackets.
        max_depth: Brackets open at once, at most.
        lengths: Brackets in a word, fixed or a range to draw from uniformly; all even.

    Returns:
        START, the brackets, END, then PAD.

    Raises:
        ValueError: A count is below 1, or a length is odd.
    """
    symbols, real = _draw(rng, batch, n_types, max_depth, lengths)
    ids = symbols.new_full((batch, symbols.shape[1] + 2), PAD)
    ids[:, 0] = START
    ids[:, 1:-1] = symbols
    end = real.sum(dim=1, keepdim=True) + 1
    ids.scatter_(1, end, END)
    return Sentences(ids, ids != PAD)


def allowed_next(
    ids: Int[Tensor, "batch length"], *, n_types: int, max_depth: int
) -> Bool[Tensor, "batch length-1 vocab"]:
    """Say which tokens may follow each prefix of a word in Dyck-(k, m).

    After START ( [: any opening bracket, if depth allows, or ]. END, if nothing is open.

    Args:
        ids: From `bracket_words`: START, brackets, perhaps END and PAD.
        n_types: Types of brackets.
        max_depth: Brackets open at once, at most.

    Returns:
        True at the ids that may follow each id but the last; nothing follows END and PAD.

    Raises:
        ValueError: `ids` is no beginning of a word.
    """
    depth, closes, reading = _read(ids, n_types, max_depth)
    allowed = torch.zeros(*depth.shape, vocab_size(2 * n_types), dtype=torch.bool)
    allowed[..., FIRST_SYMBOL : FIRST_SYMBOL + n_types] = (depth < max_depth)[..., None]
    allowed.scatter_(2, closes[..., None], (depth > 0)[..., None])
    allowed[..., END] = depth == 0
    return allowed & reading[..., None]


def predict_brackets(
    ids: Int[Tensor, "batch length"], *, n_types: int, max_depth: int, lengths: int | range
) -> Float[Tensor, "batch length-1 vocab"]:
    r"""Predict each token of `bracket_words` from those before it, as well as anything can.

    With t brackets read and d of them open, a word of length n is as likely as it has ways left,

    $$ P(n | t, d) \propto w_{n-t,d} / w_{n,0} $$

    and goes on to open with probability w_{n-t-1,d+1} / w_{n-t,d}, any type alike.

    Args:
        ids: From `bracket_words`, with the same other arguments.
        n_types: Types of brackets.
        max_depth: Brackets open at once, at most.
        lengths: Brackets in a word, fixed or a range.

    Returns:
        The next id's probabilities after each id but the last, float64; all 0 after END and PAD.
        Summed over a word, their expected `floors.surprisal` is `sentence_entropy`.

    Raises:
        ValueError: `ids` is no beginning of a word, or of none with these lengths.
    """
    choices = even_lengths(n_types, max_depth, lengths)
    depth, closes, reading = _read(ids, n_types, max_depth)
    opens, ends = next_kinds(tuple(choices), max_depth)
    read = torch.arange(depth.shape[1]).clamp(max=len(opens) - 1)
    seen = (read, depth.clamp(max=opens.shape[1] - 1))
    p_open, p_end = reading * opens[seen], reading * ends[seen]
    p_close = (reading & (depth > 0)) * (1.0 - p_open)  # no word ends while a bracket is open
    probabilities = torch.zeros(*depth.shape, vocab_size(2 * n_types), dtype=torch.float64)
    probabilities[..., FIRST_SYMBOL : FIRST_SYMBOL + n_types] = p_open[..., None] / n_types
    probabilities.scatter_(2, closes[..., None], p_close[..., None])
    probabilities[..., END] = p_end
    came = probabilities.gather(2, ids[:, 1:, None])[:, :, 0]
    if ((came == 0) & (ids[:, 1:] != PAD)).any():
        raise ValueError(f"ids is the beginning of no word with a length in {choices}.")
    return probabilities


def bracket_validity(
    rng: Generator, *, batch: int, n_types: int, max_depth: int, lengths: int | range
) -> Labelled:
    """Say whether brackets are well nested: ( [ ] ) -> yes, ( [ ) ] -> no.

    A fair coin decides the answer. A wrong word is a right one with two brackets swapped: two
    closing ones of different types, ( [ ) ], or an outermost pair, ) [ ] (. So right and wrong
    words hold the same brackets, and without their order a guess is right half of the time.

    Args:
        rng: Source of randomness.
        batch: Words.
        n_types: Types of brackets; of one type only outermost pairs are swapped.
        max_depth: Brackets open at once in a right word, at most.
        lengths: Brackets in a word, fixed or a range; all even.

    Returns:
        Padded brackets, and the answer as a token id: FIRST_SYMBOL + 2 n_types for no, one more for
        yes. A model needs `vocab_size(2 * n_types + 2)` ids.

    Raises:
        ValueError: A count is below 1, or a length is odd.
    """
    ids, real = _draw(rng, batch, n_types, max_depth, lengths)
    closing = ids >= FIRST_SYMBOL + n_types
    depth = (real & ~closing).cumsum(dim=1) - closing.cumsum(dim=1)

    one = _pick(rng, closing)
    unlike = closing & (ids != ids.gather(1, one))
    other = _pick(rng, unlike)

    opened = _pick(rng, real & ~closing & (depth == 1))
    later = torch.arange(ids.shape[1], device=ids.device) > opened
    closed = (later & (depth == 0)).int().argmax(dim=1, keepdim=True)

    coin, answer = torch.randint(2, (2, batch, 1), generator=rng, device=rng.device)
    crossed = unlike.any(dim=1, keepdim=True) & (coin == 1)
    swap = torch.where(crossed, torch.cat([one, other], 1), torch.cat([opened, closed], 1))
    swapped = ids.scatter(1, swap, ids.gather(1, swap.flip(1)))
    ids = torch.where(answer == 1, ids, swapped)
    return Labelled(ids, real, FIRST_SYMBOL + 2 * n_types + answer[:, 0])


def closing_bracket(
    rng: Generator, *, batch: int, n_types: int, max_depth: int, lengths: int | range
) -> Labelled:
    """Name the closing bracket that comes next: ( [ ] -> ).

    A word of `bracket_words` is cut before one of its closing brackets, chosen uniformly. The types
    of pairs are drawn independently: seeing none, a guess is right once in n_types.

    Args:
        rng: Source of randomness.
        batch: Words.
        n_types: Types of brackets.
        max_depth: Brackets open at once, at most.
        lengths: Brackets in a word before it is cut, fixed or a range; all even.

    Returns:
        Padded beginnings of words, and the closing bracket's token id.

    Raises:
        ValueError: A count is below 1, or a length is odd.
    """
    ids, _ = _draw(rng, batch, n_types, max_depth, lengths)
    closing = ids >= FIRST_SYMBOL + n_types
    cut = _pick(rng, closing)
    real = torch.arange(ids.shape[1], device=ids.device) < cut
    return Labelled(ids.masked_fill(~real, PAD), real, ids.gather(1, cut)[:, 0])


def _draw(
    rng: Generator, batch: int, n_types: int, max_depth: int, lengths: int | range
) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    """Draw words, all of one length alike: the brackets and then PAD, and True at brackets."""
    at_least(1, batch=batch)
    choices = even_lengths(n_types, max_depth, lengths)
    longest = max(choices)
    start, table, following = shapes(tuple(choices), max_depth)
    first, opening = walk(rng, start, table, following, batch=batch, steps=longest)
    length = first // (len(start) // (longest + 1))
    real = torch.arange(longest, device=rng.device) < length[:, None]
    depth = (2 * opening - 1).cumsum(dim=1)
    # At any one level brackets open and close in turn: sorted by level, pairs stand side by side.
    level = torch.where(opening == 1, depth, depth + 1).where(real, longest)
    side_by_side = level.argsort(dim=1, stable=True)
    pairs = torch.randint(n_types, (batch, longest // 2), generator=rng, device=rng.device)
    types = pairs.repeat_interleave(2, dim=1)
    types = torch.empty_like(types).scatter_(1, side_by_side, types)
    ids = FIRST_SYMBOL + types + n_types * (1 - opening)
    return ids.masked_fill(~real, PAD), real


def _pick(rng: Generator, mask: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch 1"]:
    """Draw one of the True places of each row; 0 where there is none."""
    luck = torch.rand(mask.shape, generator=rng, device=rng.device)
    return luck.masked_fill(~mask, -1.0).argmax(dim=1, keepdim=True)


def _read(
    ids: Int[Tensor, "batch length"], n_types: int, max_depth: int
) -> tuple[
    Int[Tensor, "batch length-1"], Int[Tensor, "batch length-1"], Bool[Tensor, "batch length-1"]
]:
    """Read words up to each id but the last.

    Returns:
        How many brackets are open, what would close the last of them (PAD if none is open), and
        whether the word may go on.
    """
    at_least(1, n_types=n_types, max_depth=max_depth)
    closing = ids >= FIRST_SYMBOL + n_types
    opening = (ids >= FIRST_SYMBOL) & ~closing
    depth = opening.cumsum(dim=1) - closing.cumsum(dim=1)
    # The last bracket open is the latest that opened to this depth.
    place = torch.arange(ids.shape[1])
    opened_here = opening[:, None, :] & (depth[:, None, :] == depth[:, :, None])
    opened_here &= place <= place[:, None]
    latest = (opened_here * place).argmax(dim=2)
    closes = (ids.gather(1, latest) + n_types).where(depth > 0, PAD)

    reading = opening | closing | (ids == START)
    wrong = (depth < 0) | (depth > max_depth) | (ids < PAD)
    wrong |= ids >= vocab_size(2 * n_types)
    wrong |= (ids == START) != (place == 0)
    wrong[:, 1:] |= closing[:, 1:] & (ids[:, 1:] != closes[:, :-1])
    wrong[:, 1:] |= (ids[:, 1:] == END) & ((depth[:, 1:] > 0) | ~reading[:, :-1])
    wrong[:, 1:] |= (ids[:, 1:] == PAD) & reading[:, :-1]
    wrong[:, 1:] |= reading[:, 1:] & ~reading[:, :-1]
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"row {row} of ids is START and no beginning of a well-nested word, or no more than "
            f"{max_depth} deep: it goes wrong at id {int(ids[row, column])} in column {column}."
        )
    return depth[:, :-1], closes[:, :-1], reading[:, :-1]
