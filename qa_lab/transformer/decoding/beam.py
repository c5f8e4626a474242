"""Beam search: keep the best few beginnings, not only the best one."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.decoding.generation import Ends, check_prompts, check_special, end_ids
from qa_lab.transformer.decoding.readers import Reader

Penalty = Callable[[int], float]
"""From the length of a text, in tokens, to what its log probability is divided by."""


def wu_penalty(alpha: float) -> Penalty:
    r"""Divide a log probability by what grows with the length, so that short texts do not win.

    $$ lp(Y) = \frac{(5 + |Y|)^\alpha}{(5 + 1)^\alpha} $$

    Paper: Wu et al. 2016, arXiv:1609.08144, section 7, eq. 14. Vaswani et al. 2017,
        arXiv:1706.03762, section 6.1, take alpha = 0.6.

    Args:
        alpha: Dimensionless. 0: no penalty.

    Returns:
        The penalty, 1 for one token.
    """
    return lambda length: ((5 + length) / 6) ** alpha


def power_penalty(alpha: float) -> Penalty:
    r"""Divide a text's log probability by a power of its length: at alpha = 1, the mean.

    $$ lp(Y) = |Y|^\alpha $$

    Departs: from `wu_penalty`; it is the one of Hugging Face's `length_penalty`.

    Args:
        alpha: Dimensionless. 0: no penalty.

    Returns:
        The penalty, 1 for one token.
    """
    return lambda length: length**alpha


PER_TOKEN = power_penalty(1.0)


class Beams(NamedTuple):
    """The best texts found, best first."""

    ids: Int[Tensor, "batch beam new"]
    """What was written, the end included, then padding."""
    scores: Float[Tensor, "batch beam"]
    """Log probability in nats over the length penalty, in float32 at least; minus infinity where
    fewer texts exist: there all of `ids` is padding."""


@torch.no_grad()
def beam_search(
    reader: Reader,
    prompt: Int[Tensor, "batch prompt"],
    *,
    beam: int,
    end_id: Ends,
    pad_id: int,
    max_new_tokens: int,
    penalty: Penalty = PER_TOKEN,
) -> Beams:
    r"""Write several texts at once, and keep those whose beginnings are the likeliest.

    $$ score(Y) = \log P(Y) / lp(|Y|) $$

    Of the continuations of all kept beginnings, those that end, if among the `beam` likeliest, join
    the finished; the `beam` likeliest of the others are kept. A prompt is done when nothing kept
    can still beat the worst of its `beam` finished texts. A beam of vocab^(max_new_tokens - 1)
    makes the search exhaustive; a beam of 1 is greedy, but may look beyond the first end.

    Paper: Wu et al. 2016, arXiv:1609.08144, section 7.
    Departs: no coverage penalty and no pruning by score.

    Args:
        reader: Fresh; of as many rows as there are prompts.
        prompt: What the text begins with, one token at least, all of one length.
        beam: Beginnings to keep for each prompt.
        end_id: The token that ends a text, or several; part of the answer. None: no token does.
        pad_id: What fills a row after its end. Any token of the vocabulary.
        max_new_tokens: Tokens to write at most, the end included.
        penalty: From a length, the end included, to the divisor of the log probability.

    Returns:
        `beam` texts for each prompt.

    Raises:
        TypeError: The prompt or the ends are not whole numbers.
        ValueError: beam or max_new_tokens is less than 1, the prompt is empty, an end or pad_id
            lies outside the vocabulary, a penalty is not positive or not finite, or a row of the
            model's logits holds NaN or infinity, or only minus infinity.
    """
    if beam < 1:
        raise ValueError(f"beam must keep at least 1 text; got {beam}.")
    check_prompts(prompt, None, max_new_tokens)
    penalties = checked_penalties(penalty, max_new_tokens)
    largest, ends = max(penalties), end_ids(end_id, prompt.device)
    many = (1 + len(ends)) * beam  # each beam has as many ends: `beam` others at least go on
    logits = reader.read(prompt)[:, -1]
    check_special(logits, ends, pad_id)
    batch, vocab = logits.shape
    first_row = beam * torch.arange(batch, device=prompt.device)[:, None]
    reader.reorder((first_row // beam).expand(-1, beam).flatten())
    # All beams of a prompt begin alike: one of them counts, or the rest would be its copies.
    scores = at_least_float32(logits[:, :1]).new_full((batch, beam), -torch.inf)
    scores[:, 0] = 0.0
    logits = logits[:, None].expand(-1, beam, -1)
    ids = prompt.new_full((batch, beam, max_new_tokens), pad_id)
    finished = Beams(ids, torch.full_like(scores, -torch.inf))
    for t in range(max_new_tokens):
        totals, parents, tokens = continuations(many, scores, logits)
        grown = ids.gather(1, parents[..., None].expand(-1, -1, max_new_tokens))
        grown[..., t] = tokens
        over = torch.isin(tokens, ends) | (t + 1 == max_new_tokens)
        ended = totals.masked_fill(~over, -torch.inf)[:, :beam] / penalties[t]
        finished = best(
            beam,
            torch.cat([finished.ids, grown[:, :beam]], dim=1),
            torch.cat([finished.scores, ended], dim=1),
        )
        scores, kept = totals.masked_fill(over, -torch.inf).topk(beam, dim=-1)
        # A log probability only falls from here on, so the largest divisor flatters it most.
        done = scores[:, :1] / largest <= finished.scores[:, -1:]
        scores = scores.masked_fill(done, -torch.inf)  # while other prompts may go on
        if done.all():
            break
        ids = grown.gather(1, kept[..., None].expand(-1, -1, max_new_tokens))
        reader.reorder((first_row + parents.gather(1, kept)).flatten())
        logits = reader.read(ids[..., t].reshape(-1, 1))[:, -1].view(batch, beam, vocab)
    if finished.scores.isnan().any():  # once NaN, a score is the largest, and stays
        raise ValueError("a row of logits holds NaN or infinity, or only minus infinity.")
    nowhere = finished.scores[..., None] == -torch.inf
    return Beams(finished.ids.masked_fill(nowhere, pad_id), finished.scores)


def checked_penalties(penalty: Penalty, max_new_tokens: int) -> list[float]:
    """List the penalties of all lengths, from one token on.

    Raises:
        ValueError: See `beam_search`.
    """
    penalties, numbers = (
        [penalty(n) for n in range(1, max_new_tokens + 1)],
        torch.finfo(torch.float),
    )
    if wrong := [divisor for divisor in penalties if not numbers.tiny <= divisor <= numbers.max]:
        raise ValueError(
            "a penalty divides a log probability: it must be > 0, and finite in float32; got "
            f"{wrong[0]}."
        )
    return penalties


def continuations(
    many: int, scores: Float[Tensor, "batch beam"], logits: Float[Tensor, "batch beam vocab"]
) -> tuple[
    Float[Tensor, "batch candidate"], Int[Tensor, "batch candidate"], Int[Tensor, "batch candidate"]
]:
    """Find the likeliest texts that are one token longer: their scores, parents and last tokens."""
    vocab = logits.shape[-1]
    totals = scores[..., None] + at_least_float32(logits).log_softmax(dim=-1)
    # Where no text is, the model was asked about nothing: whatever it says does not count.
    totals = totals.masked_fill(scores[..., None] == -torch.inf, -torch.inf).flatten(1)
    top = totals.topk(min(many, totals.shape[1]), dim=-1)
    return top.values, top.indices // vocab, top.indices % vocab


def best(
    beam: int, ids: Int[Tensor, "batch many new"], scores: Float[Tensor, "batch many"]
) -> Beams:
    """Keep the best texts of each row, best first."""
    top = scores.topk(beam, dim=1)
    return Beams(ids.gather(1, top.indices[..., None].expand(-1, -1, ids.shape[-1])), top.values)
