"""Speculative decoding: a small model guesses ahead, the large one checks all guesses at once.

The result is distributed exactly as if the large model had written alone; only the number of times
it is asked changes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.decoding.generation import (
    Ends,
    check_prompts,
    check_special,
    end_ids,
    greedy,
)
from qa_lab.transformer.decoding.readers import Reader
from qa_lab.transformer.decoding.sampling import draw, probabilities

Distribution = Callable[[Tensor], Tensor]
"""From logits [... vocab] to the probabilities that tokens are drawn with."""


def greedily(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Give all probability to the likeliest token: speculative decoding is then greedy.

    Raises:
        ValueError: See `greedy`.
    """
    return torch.zeros_like(logits).scatter(-1, greedy(logits)[..., None], 1.0)


def as_it_is(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Draw from the model's own distribution.

    Raises:
        ValueError: See `probabilities`.
    """
    return probabilities(logits)


def check_guesses(
    guesses: Int[Tensor, " guess"],
    draft: Float[Tensor, "guess vocab"],
    target: Float[Tensor, "guess_plus_one vocab"],
    rng: Generator,
) -> tuple[int, int]:
    r"""Accept guesses up to the first that fails, and draw the token after them.

    $$ accept x  with probability  \min(1, p(x) / q(x)),
       otherwise draw from  \max(0, p - q) / \sum \max(0, p - q) $$

    Whatever q is, the token that comes out has distribution p: what q proposes too often is refused
    as often as it is too often.

    Paper: Leviathan et al. 2022, arXiv:2211.17192, section 2.3, algorithm 1, and appendix A.1.

    Args:
        guesses: Tokens drawn from `draft`, each from its row.
        draft: q, the small model's probabilities.
        target: p, the large model's, at the guesses and once more after the last.
        rng: Source of randomness.

    Returns:
        How many guesses are accepted, and the token that follows them.

    Raises:
        ValueError: The shapes do not fit, or a probability is NaN or infinite.
    """
    if len(draft) != len(guesses) or target.shape != (len(guesses) + 1, draft.shape[-1]):
        raise ValueError(
            "give guesses [guess], draft [guess vocab] and target [guess + 1 vocab], of one "
            f"vocabulary; got {list(guesses.shape)}, {list(draft.shape)} and {list(target.shape)}."
        )
    target, draft = at_least_float32(target), at_least_float32(draft)
    if not (target.sum() + draft.sum()).isfinite():
        raise ValueError("a probability is NaN or infinite: no guess can be accepted or refused.")
    rows = torch.arange(len(guesses), device=guesses.device)
    p, q = target[rows, guesses], draft[rows, guesses]
    luck = torch.rand(len(guesses), generator=rng, device=rng.device, dtype=p.dtype).to(p.device)
    # Drawn from q, a guess has q > 0. u < p/q, without dividing.
    refused = luck * q >= p
    accepted = int(refused.int().argmax()) if refused.any() else len(guesses)
    rest = target[accepted]
    if accepted < len(guesses):
        missing = (rest - draft[accepted]).clamp(min=0)
        rest = missing if missing.any() else rest  # p and q differ by rounding only
    return accepted, int(draw(rest[None], rng))


class Speculation(NamedTuple):
    """What was written, and how often the models were asked."""

    ids: Int[Tensor, "1 new"]
    """What was written, the end included, then padding."""
    guessed: int
    """Tokens that the draft proposed."""
    accepted: int
    """Of those, how many the target accepted."""
    target_reads: int
    """Times the target was asked; alone it is asked once for each token."""


@torch.no_grad()
def speculative(
    target: Reader,
    draft: Reader,
    prompt: Int[Tensor, "1 prompt"],
    rng: Generator,
    *,
    guesses: int,
    end_id: Ends,
    pad_id: int,
    max_new_tokens: int,
    distribution: Distribution = as_it_is,
) -> Speculation:
    """Write as `target` would, asking it less often.

    In each round the draft guesses some tokens, one by one; the target reads them all at once, and
    so says what it would have drawn at each. Each round adds one token at least. The last token
    that may be written is never guessed, as nobody need read it.

    Paper: Leviathan et al. 2022, arXiv:2211.17192, section 2.1, algorithm 1.
    Departs: one text at a time, since rows would accept different numbers of guesses.

    Args:
        target: Reader of the large model, fresh.
        draft: Reader of the small model, fresh, of the same vocabulary.
        prompt: What the text begins with, one token at least.
        rng: Source of randomness.
        guesses: Tokens that the draft guesses in a round.
        end_id: The token that ends the text, or several; part of the answer. None: no token does.
        pad_id: What fills the row after its end.
        max_new_tokens: Tokens to write at most, the end included.
        distribution: From logits to probabilities, for both models: `as_it_is`, `greedily`, or the
            `probabilities` of a `Sampler`.

    Returns:
        What was written, and the counts.

    Raises:
        TypeError: The prompt or the ends are not whole numbers.
        ValueError: guesses or max_new_tokens is less than 1, there is not one prompt, a reader is
            not fresh or has a window, the vocabularies differ, an end or pad_id lies outside them,
            or a row of a model's logits holds NaN or infinity, or only minus infinity.
    """
    if guesses < 1:
        raise ValueError(f"guesses must be at least 1 token in a round; got {guesses}.")
    if len(prompt) != 1:
        raise ValueError(f"one prompt at a time; got {len(prompt)}.")
    check_prompts(prompt, None, max_new_tokens)
    check_readers(target, draft)
    text, start, ends = prompt, prompt.shape[1], end_ids(end_id, prompt.device)
    guessed = right = reads = 0
    while text.shape[1] < start + max_new_tokens and not torch.isin(text[:, start:], ends).any():
        ahead = min(guesses, start + max_new_tokens - text.shape[1] - 1)
        tokens, qs = guess(draft, text, ahead, distribution, rng)
        proposed = torch.cat([text, tokens], dim=1)
        p = distribution(target.read(proposed[:, target.seen :])[:, -ahead - 1 :])[0]
        check_special(p, ends, pad_id)
        accepted, following = check_guesses(tokens[0], torch.stack(qs) if qs else p[:0], p, rng)
        text = torch.cat([text, tokens[:, :accepted], prompt.new_tensor([[following]])], dim=1)
        for reader in (target, draft):  # what they read beyond the accepted guesses was wrong
            reader.forget(max(0, reader.seen - (text.shape[1] - 1)))
        guessed, right, reads = guessed + ahead, right + accepted, reads + 1
    ids, written = prompt.new_full((1, max_new_tokens), pad_id), text[0, start:]
    ended = torch.isin(written, ends).nonzero()
    written = written[: int(ended[0]) + 1] if len(ended) else written
    ids[0, : len(written)] = written
    return Speculation(ids, guessed, right, reads)


def check_readers(target: Reader, draft: Reader) -> None:
    """Refuse readers that are not fresh, or could not take back what they read.

    Raises:
        ValueError: See `speculative`.
    """
    if target is draft:
        raise ValueError("target and draft are one reader; give each a reader of its own.")
    if target.seen or draft.seen:
        raise ValueError(
            f"both readers must be fresh; target has read {target.seen} tokens, draft {draft.seen}."
        )
    for reader in (target, draft):
        if reader.cache is not None and reader.cache.window is not None:
            raise ValueError(
                "a refused guess is taken back, and a cache with a window cannot go back: give the "
                "reader no window (the model's own mask hides what lies outside it)."
            )


def guess(
    draft: Reader,
    text: Int[Tensor, "1 length"],
    ahead: int,
    distribution: Distribution,
    rng: Generator,
) -> tuple[Int[Tensor, "1 {ahead}"], list[Float[Tensor, " vocab"]]]:
    """Let the draft draw the next tokens; return them and the distributions they came from."""
    start, qs = text.shape[1], []
    for _ in range(ahead):
        q = distribution(draft.read(text[:, draft.seen :])[:, -1])
        text = torch.cat([text, draw(q, rng)[None].to(text.dtype)], dim=1)
        qs.append(q[0])
    return text[:, start:], qs
