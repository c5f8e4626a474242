"""Choosing the next token at random, and what makes the choice bolder or safer."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from qa_lab.transformer._precision import at_least_float32


def with_temperature(
    logits: Float[Tensor, "*batch vocab"], temperature: float
) -> Float[Tensor, "*batch vocab"]:
    r"""Flatten or sharpen a distribution.

    $$ p_v \propto \exp(logits_v / T) $$

    Paper: Hinton et al. 2015, arXiv:1503.02531, section 2, eq. 1.

    Args:
        logits: Dimensionless.
        temperature: T, dimensionless, > 0. Towards 0 the likeliest token takes all, towards
            infinity all are equally likely.

    Returns:
        Logits of that distribution, in float32 at least: those given over T, up to a constant for
        each row.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0; got {temperature}. Its limit at 0 is `greedy`.")
    logits = at_least_float32(logits)
    if temperature < 1:  # what is likeliest must not overflow; the rest may, to minus infinity
        logits = logits - logits.amax(dim=-1, keepdim=True)
    numbers = torch.finfo(logits.dtype)
    return logits / min(max(temperature, numbers.tiny), numbers.max)


def keep_top_k(logits: Float[Tensor, "*batch vocab"], k: int) -> Float[Tensor, "*batch vocab"]:
    """Rule out all but the k likeliest tokens.

    Paper: Fan et al. 2018, arXiv:1805.04833, section 5.4.

    Args:
        logits: Dimensionless.
        k: Tokens to keep, at least 1; more than there are keeps all.

    Returns:
        The logits, minus infinity where a token is ruled out. Tokens as likely as the k-th stay.

    Raises:
        ValueError: k is less than 1.
    """
    if k < 1:
        raise ValueError(f"top_k must be at least 1 token; got {k}.")
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Float[Tensor, "*batch vocab"], p: float) -> Float[Tensor, "*batch vocab"]:
    r"""Rule out all but the nucleus: the fewest likeliest tokens that hold a share p.

    $$ \sum_{v  in  nucleus} p_v \geq p $$

    Paper: Holtzman et al. 2019, arXiv:1904.09751, section 3.1, eq. 2.

    Args:
        logits: Dimensionless.
        p: Share of probability, in (0, 1].

    Returns:
        The logits, minus infinity where a token is ruled out. At least the likeliest stays.

    Raises:
        ValueError: p is not in (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie in (0, 1]; got {p}.")
    if p == 1:  # the sum below may round to 1 before the last token
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    share = at_least_float32(ordered).softmax(dim=-1)
    before = F.pad(share.cumsum(dim=-1)[..., :-1], (1, 0))  # held by the likelier ones
    p = max(p, torch.finfo(share.dtype).tiny)  # a share that rounds to 0 would rule out every token
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(outside, -torch.inf)


def probabilities(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Return the distribution that logits stand for.

    $$ p = softmax(logits) $$

    Args:
        logits: Dimensionless. Minus infinity: ruled out.

    Returns:
        Probabilities, in float32 at least; each row sums to 1.

    Raises:
        ValueError: A row has no distribution: it holds NaN or infinity, or nothing but minus
            infinity.
    """
    p = at_least_float32(logits).softmax(dim=-1)
    if p[..., :1].isnan().any():  # one NaN makes its whole row NaN
        raise ValueError("a row of logits holds NaN or infinity, or only minus infinity.")
    return p


def draw(p: Float[Tensor, "batch vocab"], rng: Generator) -> Int[Tensor, " batch"]:
    """Draw one token for each row, on the device of the generator.

    In float32 at least: in half precision torch.multinomial draws tokens of probability 0.

    Args:
        p: Probabilities, up to a factor for each row.
        rng: Source of randomness.

    Returns:
        Its id, on the device of p.
    """
    there = at_least_float32(p).to(rng.device)
    return torch.multinomial(there, 1, generator=rng)[:, 0].to(p.device)


@dataclass(frozen=True)
class Sampler:
    """Draws the next token; called as `choose(logits)`.

    Temperature first, then top-k, then top-p, as elsewhere: the order matters.

    Attributes:
        rng: Source of randomness.
        temperature: Dimensionless, > 0; see `with_temperature`.
        top_k: Tokens to keep. None: all.
        top_p: Share of probability to keep, in (0, 1]. None: all.
    """

    rng: Generator
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings at once, not at the first token."""
        self.probabilities(torch.zeros(1))

    def probabilities(self, logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
        """Return the distribution that tokens are drawn from.

        Args:
            logits: Dimensionless.

        Returns:
            Probabilities, in float32 at least; each row sums to 1.

        Raises:
            ValueError: A setting lies outside its range, or see `probabilities`.
        """
        logits = with_temperature(logits, self.temperature)
        logits = logits if self.top_k is None else keep_top_k(logits, self.top_k)
        logits = logits if self.top_p is None else keep_top_p(logits, self.top_p)
        return probabilities(logits)

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        """Draw one token for each row.

        Raises:
            ValueError: The logits are not [batch vocab], or see `probabilities`.
        """
        if logits.ndim != 2:
            raise ValueError(f"logits must be [batch vocab]; got the shape {list(logits.shape)}.")
        return draw(self.probabilities(logits), self.rng)
