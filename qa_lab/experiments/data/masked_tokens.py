"""BERT's way of hiding tokens, on texts whose best guesses are known exactly.

A text has a topic, one of the vocabulary's tokens; each of its tokens is the topic or, with
probability `NOISE`, any token. What the best predictor believes about a hidden, kept or swapped
token is then a short sum, and a network can be held against it.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from qa_lab.experiments.data.tasks import at_least

VOCAB = 8  # tokens, ids 0 ... 7
MASK = VOCAB  # the id of [MASK]
NOISE = 0.4  # probability that a token is drawn from the whole vocabulary
CHOSEN = 0.15  # share of the tokens to be guessed, as in BERT


class Rule(NamedTuple):
    """What becomes of a chosen token: shares of all chosen ones, the rest is kept.

    Paper: Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1, has 0.8 and 0.1.
    """

    masked: float
    """Replaced by [MASK]."""
    swapped: float
    """Replaced by a token drawn uniformly, which may be the same."""

    @property
    def kept(self) -> float:
        """Left as it is."""
        return 1 - self.masked - self.swapped


class Hidden(NamedTuple):
    """Texts for a masked language model, which reads `ids` and is asked for `original[chosen]`."""

    ids: Int[Tensor, "batch length"]
    """What is shown: tokens and MASK."""
    chosen: Bool[Tensor, "batch length"]
    """True where a token is to be guessed."""
    original: Int[Tensor, "batch length"]
    """The text."""


def topic_texts(
    rng: Generator, *, batch: int, length: int
) -> tuple[Int[Tensor, "{batch} {length}"], Int[Tensor, "{batch} 1"]]:
    """Draw texts and their topics.

    Args:
        rng: Source of randomness.
        batch: Texts.
        length: Tokens in a text.

    Returns:
        The ids, and each text's topic.
    """
    at_least(1, batch=batch, length=length)
    how = {"generator": rng, "device": rng.device}
    topic = torch.randint(VOCAB, (batch, 1), **how)
    noisy = torch.rand(batch, length, **how) < NOISE
    return torch.where(noisy, torch.randint(VOCAB, (batch, length), **how), topic), topic


def hide(rng: Generator, ids: Int[Tensor, "batch length"], rule: Rule) -> Hidden:
    """Choose tokens, and mask, swap or keep them.

    Args:
        rng: Source of randomness.
        ids: The texts.
        rule: The shares.

    Returns:
        What the model reads, and what it is asked.

    Raises:
        ValueError: The shares are negative, or sum to more than 1.
    """
    if min(rule) < 0 or rule.kept < -1e-9:
        raise ValueError(f"shares must be >= 0 and sum to 1 at most; got {rule}.")
    how = {"generator": rng, "device": rng.device}
    draw = torch.rand(ids.shape, **how).to(ids.device) / CHOSEN  # below 1: chosen
    swapped = torch.randint(VOCAB, ids.shape, **how).to(ids.device)
    shown = torch.where(draw < rule.masked + rule.swapped, swapped, ids)
    return Hidden(torch.where(draw < rule.masked, MASK, shown), draw < 1, ids)


def believe(ids: Int[Tensor, "batch length"], rule: Rule) -> Float[Tensor, "batch length vocab"]:
    r"""Return what the best predictor believes of each token, if it is one of those chosen.

    $$ p(o | shown) \propto p(shown_i | o) \sum_{topic} p(o | topic) \prod_{j != i} p(shown_j |
       topic) $$

    Args:
        ids: What is shown.
        rule: By which it was hidden; MASK must be possible under it wherever it is shown.

    Returns:
        Probabilities of the original token, float64.
    """
    original = (1 - NOISE) * torch.eye(VOCAB, dtype=torch.float64) + NOISE / VOCAB  # [topic token]
    after = _shown_given_original(rule)  # [original shown], of a chosen token
    any_token = CHOSEN * original @ after
    any_token[:, :VOCAB] += (1 - CHOSEN) * original
    log_likelihood = any_token.log()[:, ids].permute(1, 2, 0)  # [batch length topic]
    of_the_others = log_likelihood.sum(1, keepdim=True) - log_likelihood
    joint = of_the_others.softmax(-1) @ original * after[:, ids].permute(1, 2, 0)
    return joint / joint.sum(-1, keepdim=True)


def _shown_given_original(rule: Rule) -> Float[Tensor, "original shown"]:
    """Probability of what is shown for a chosen token, MASK last."""
    token = rule.kept * torch.eye(VOCAB, dtype=torch.float64) + rule.swapped / VOCAB
    return torch.cat([token, torch.full((VOCAB, 1), rule.masked, dtype=torch.float64)], dim=1)


def blind_floor() -> float:
    r"""Return the entropy of a token given its text's topic.

    $$ H = -p \ln p - (V - 1) q \ln q,  q = NOISE / V,  p = 1 - (V - 1) q $$

    Returns:
        Nats per token. No predictor that does not read the token itself has a lower expected loss.
    """
    q = NOISE / VOCAB
    p = 1 - (VOCAB - 1) * q
    return -p * math.log(p) - (VOCAB - 1) * q * math.log(q)
