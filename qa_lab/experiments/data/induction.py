"""Induction: what followed this token last time follows it again.

The smallest thing that a language model learns from its context and not from its weights. A circuit
of two attention heads does it: one moves each token one place on, the other looks for it there.
"""

import math
from fractions import Fraction
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from qa_lab.experiments.data.tasks import FIRST_SYMBOL, Labelled, at_least, vocab_size


def induction(rng: Generator, *, batch: int, n_symbols: int, length: int) -> Labelled:
    """Name what followed the last token when it came before: 7 4 9 5 4 -> 9.

    The last token A stands in one other place, drawn uniformly; the token B after it is the answer.
    The tokens other than A are drawn uniformly and independently from the other symbols.

    Paper: Olsson et al. 2022, arXiv:2209.11895: [A][B] ... [A] -> [B].
    Departs: A comes exactly twice, so that the answer is never in doubt.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from, 2 or more.
        length: Tokens in a sequence, 3 or more.

    Returns:
        Sequences without padding, and B's token id. Seeing no token but the last, no guess is right
        more often than 1 / (n_symbols - 1); seeing all but not their order, than `bag_chance`.

    Raises:
        ValueError: A count is too small.
    """
    at_least(1, batch=batch)
    at_least(2, n_symbols=n_symbols)
    at_least(3, length=length)
    draw = partial(torch.randint, generator=rng, device=rng.device)
    repeated = draw(FIRST_SYMBOL, vocab_size(n_symbols), (batch, 1))
    others = draw(FIRST_SYMBOL, vocab_size(n_symbols - 1), (batch, length))
    ids = others + (others >= repeated)  # skips the repeated symbol
    first = draw(length - 2, (batch, 1))
    ids[:, -1:] = repeated
    ids.scatter_(1, first, repeated)
    return Labelled(ids, torch.ones_like(ids, dtype=torch.bool), ids.gather(1, first + 1)[:, 0])


def bag_chance(n_symbols: int, length: int) -> float:
    r"""Return the best accuracy at `induction` of a model that sees the tokens in no order.

    It knows A, the last token, and can do no better than to name the most frequent of the
    N = length - 2 others, which fall into n = n_symbols - 1 kinds:

    $$ \frac{1}{N} E[\max_i count_i],
       P(\max_i count_i \le m) = \frac{N!}{n^N} [z^N] (\sum_{j=0}^{m} z^j / j!)^n $$

    Args:
        n_symbols: Symbols, 2 or more.
        length: Tokens in a sequence, 3 or more.

    Returns:
        The accuracy, exact, dimensionless, in [1 / (n_symbols - 1), 1].

    Raises:
        ValueError: A count is too small.
    """
    at_least(2, n_symbols=n_symbols)
    at_least(3, length=length)
    balls, bins = length - 2, n_symbols - 1
    expected = Fraction(0)
    for most in range(balls):  # E[max] = sum over m >= 0 of P(max > m)
        series = [Fraction(1)] + [Fraction(0)] * balls
        for _ in range(bins):
            series = [
                sum(series[n - j] / math.factorial(j) for j in range(min(n, most) + 1))
                for n in range(balls + 1)
            ]
        expected += 1 - series[balls] * math.factorial(balls) / bins**balls
    return float(expected / balls)


def repeated_sequence(
    rng: Generator, *, batch: int, n_symbols: int, length: int, copies: int = 2
) -> Int[Tensor, "{batch} {copies}*{length}"]:
    """Say random tokens, and say them again: 7 4 9 7 4 9.

    Nothing predicts the first copy, and everything after it is known: the text on which induction
    heads are found.

    Paper: Olsson et al. 2022, arXiv:2209.11895, who define induction heads by what they do on
        repeated random tokens.

    Args:
        rng: Source of randomness.
        batch: Sequences.
        n_symbols: Symbols to draw from, uniformly and independently.
        length: Tokens in a copy.
        copies: How often the tokens are said.

    Returns:
        The ids, without padding. `repeated_floor` is the least expected loss on them.

    Raises:
        ValueError: A count is below 1.
    """
    at_least(1, batch=batch, n_symbols=n_symbols, length=length, copies=copies)
    shape, here = (batch, length), rng.device
    once = torch.randint(FIRST_SYMBOL, vocab_size(n_symbols), shape, generator=rng, device=here)
    return once.repeat(1, copies)


def repeated_floor(n_symbols: int, length: int, copies: int = 2) -> float:
    r"""Return the least expected loss of a causal model on `repeated_sequence`.

    $$ \frac{(length - 1) \ln n}{copies \cdot length - 1} $$

    The first token is given, not predicted; the rest of the first copy costs ln n each, the later
    copies nothing.

    Args:
        n_symbols: Symbols, equally likely.
        length: Tokens in a copy.
        copies: How often they are said.

    Returns:
        The loss, in nats per predicted token, averaged over `ids[:, 1:]`.

    Raises:
        ValueError: A count is below 1, or there is no token to predict.
    """
    at_least(1, n_symbols=n_symbols, length=length, copies=copies)
    at_least(2, tokens=copies * length)
    return (length - 1) * math.log(n_symbols) / (copies * length - 1)


def induction_keys(ids: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch length length"]:
    r"""Mark where an induction head looks: at the tokens that came after this one before.

    $$ keys_{bqk} = [1 \le k \le q] [ids_{b,k-1} = ids_{bq}] $$

    Args:
        ids: Token ids.

    Returns:
        True at [batch query key] where the key stands just after an earlier copy of the query's
        token. A row is empty if its token is new.
    """
    length = ids.shape[1]
    keys = torch.zeros(len(ids), length, length, dtype=torch.bool, device=ids.device)
    keys[:, :, 1:] = ids[:, :, None] == ids[:, None, :-1]
    return keys & torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()


def prefix_matching_score(
    weights: Float[Tensor, "batch head query key"], ids: Int[Tensor, "batch length"]
) -> Float[Tensor, " head"]:
    """Measure how much of a head's attention goes where an induction head would look.

    Averaged over the queries whose token came before; the others have nowhere to look.

    Paper: Olsson et al. 2022, arXiv:2209.11895: prefix matching.

    Args:
        weights: Attention weights, from `attend_with_weights`.
        ids: The tokens attended over, as many as queries and keys.

    Returns:
        For each head a share of attention, dimensionless, in [0, 1]: 1 for a perfect induction
        head.

    Raises:
        ValueError: The shapes do not fit, or no token is repeated.
    """
    batch, length = ids.shape
    if weights.shape[0] != batch or weights.shape[2:] != (length, length):
        raise ValueError(
            f"weights for ids of shape {list(ids.shape)} must be [{batch} head {length} {length}]; "
            f"got {list(weights.shape)}."
        )
    keys = induction_keys(ids)
    asked = keys.any(dim=-1)
    if not asked.any():
        raise ValueError("no token comes twice, so that no query has a place to look.")
    return (weights * keys[:, None]).sum(-1).movedim(1, -1)[asked].mean(dim=0)
