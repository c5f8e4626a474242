"""How many well-nested words there are, and what follows their beginnings: exact counting.

Behind `brackets`, whose words have k types of brackets, at most m of them open at once.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from qa_lab.experiments.data.tasks import at_least, length_choices


def count_words(length: int, n_types: int, max_depth: int) -> int:
    r"""Count the well-nested words of one length.

    $$ k^{n/2} w_{n,0},  w_{r,d} = w_{r-1,d+1} + w_{r-1,d-1},  w_{0,0} = 1 $$

    w_{r,d} counts the ways to finish with r brackets when d are open; without a bound on the depth
    w_{n,0} is a Catalan number.

    Args:
        length: Brackets in a word, n.
        n_types: Types of brackets, k.
        max_depth: Brackets open at once, at most.

    Returns:
        The number of words, exact; 0 for an odd length.

    Raises:
        ValueError: A count is below 1.
    """
    at_least(1, length=length, n_types=n_types, max_depth=max_depth)
    return ways(length, max_depth)[length][0] * n_types ** (length // 2)


def sentence_entropy(n_types: int, max_depth: int, lengths: int | range) -> float:
    r"""Return the entropy of `bracket_words`, one whole word: all are equally likely.

    $$ H = \ln L + \frac{1}{L} \sum_{length} \ln count_{length} $$

    Args:
        n_types: Types of brackets.
        max_depth: Brackets open at once, at most.
        lengths: Brackets in a word, fixed or a range of L lengths.

    Returns:
        The least expected loss for a word, its END included, in nats per word.

    Raises:
        ValueError: A count is below 1, or a length is odd.
    """
    choices = even_lengths(n_types, max_depth, lengths)
    counts = [count_words(length, n_types, max_depth) for length in choices]
    return math.log(len(counts)) + sum(map(math.log, counts)) / len(counts)


def even_lengths(n_types: int, max_depth: int, lengths: int | range) -> list[int]:
    """List the lengths that words may have: range(2, 7, 2) -> [2, 4, 6].

    Raises:
        ValueError: A count is below 1, or a length is odd.
    """
    at_least(1, n_types=n_types, max_depth=max_depth)
    choices = length_choices(lengths)
    if any(length % 2 for length in choices):
        raise ValueError(f"well-nested words have an even length; got lengths {lengths}.")
    return choices


@lru_cache(maxsize=64)
def ways(length: int, max_depth: int) -> list[list[int]]:
    """Count the ways to finish a word, types aside.

    Args:
        length: Brackets left, at most.
        max_depth: Brackets open at once, at most.

    Returns:
        Exact counts, [brackets left][brackets open]. The last column stands for too many open
        brackets, from where no way leads on.
    """
    deepest = min(max_depth, length // 2)
    table = [[1] + [0] * (deepest + 1)]
    for _ in range(length):
        before = table[-1]
        after_opening = before[1:]
        after_closing = [0, *before]
        table.append([*map(sum, zip(after_opening, after_closing, strict=False)), 0])
    return table


@lru_cache(maxsize=64)
def shapes(lengths: tuple[int, ...], max_depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prepare a `markov.walk` over (brackets left, brackets open) that draws all shapes alike.

    Args:
        lengths: Brackets in a word, to draw from uniformly.
        max_depth: Brackets open at once, at most.

    Returns:
        The walk's start, its table, with column 0 to close and 1 to open, and its following rows.
        A finished word stays where it is.
    """
    left = torch.tensor(ways(max(lengths), max_depth), dtype=torch.float64)
    start = torch.zeros_like(left)
    start[list(lengths), 0] = 1 / len(lengths)
    p_open = torch.zeros_like(left)
    p_open[1:, :-1] = (left[:-1, 1:] / left[1:, :-1]).nan_to_num(0.0)
    columns = left.shape[1]
    row = torch.arange(left.numel())
    following = torch.stack([row - columns - 1, row - columns + 1], dim=1).clamp(min=0)
    return start.flatten(), torch.stack([1 - p_open, p_open], dim=-1).flatten(0, 1), following


@lru_cache(maxsize=64)
def next_kinds(lengths: tuple[int, ...], max_depth: int) -> tuple[Tensor, Tensor]:
    """Tell how likely an opening bracket and END are to come next.

    Args:
        lengths: Brackets in a word, equally likely.
        max_depth: Brackets open at once, at most.

    Returns:
        P(an opening bracket of any type) and P(END), both [brackets read, brackets open]; 0 where
        no word comes by.
    """
    longest = max(lengths)
    left = ways(longest, max_depth)
    opens = torch.zeros(longest + 1, len(left[0]) - 1, dtype=torch.float64)
    ends = torch.zeros_like(opens)
    for read in range(longest + 1):
        going_on = [n for n in lengths if n > read]
        for depth in range(opens.shape[1]):
            # The share of the words of each length that have this beginning, one type of each.
            opening = sum(left[n - read - 1][depth + 1] / left[n][0] for n in going_on)
            ending = 1 / left[read][0] if depth == 0 and read in lengths else 0.0
            all_ways = ending + sum(left[n - read][depth] / left[n][0] for n in going_on)
            if all_ways:
                opens[read, depth] = opening / all_ways
                ends[read, depth] = ending / all_ways
    return opens, ends
