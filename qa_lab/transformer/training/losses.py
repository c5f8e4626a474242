"""Losses: how surprised the model is by the real target tokens.

A loss is a mean over thousands of tokens: it is computed and returned in float32 at least, whatever
the logits are in.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qa_lab.transformer._checks import check_ids
from qa_lab.transformer._precision import at_least_float32


def cross_entropy(
    logits: Float[Tensor, "batch length vocab"],
    targets: Int[Tensor, "batch length"],
    real: Bool[Tensor, "batch length"] | None = None,
) -> Float[Tensor, ""]:
    r"""Average the surprise at the real target tokens.

    $$ loss = -\frac{1}{\sum_{bt} real_{bt}} \sum_{bt} real_{bt} \log p_{bt, target_{bt}},
       p = softmax_{vocab}(logits) $$

    Args:
        logits: Dimensionless.
        targets: Token ids. Where `real` is False their value does not matter.
        real: True where the target is a real token. None: everywhere.

    Returns:
        The loss, in nats per real token: the mean over all tokens, not over sequences' means.

    Raises:
        TypeError: `real` is not Boolean, or the targets are not whole numbers.
        ValueError: There is no real token, a real target lies outside the vocabulary (so -100 is
            refused, which PyTorch would skip without a word), or the shapes do not fit.
    """
    logits, targets = real_predictions(logits, targets, real)
    return F.cross_entropy(logits, targets)


def smoothed_cross_entropy(
    logits: Float[Tensor, "batch length vocab"],
    targets: Int[Tensor, "batch length"],
    real: Bool[Tensor, "batch length"] | None = None,
    *,
    smoothing: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Average the surprise at targets that are not quite sure of themselves.

    $$ loss = -\frac{1}{\sum_{bt} real_{bt}} \sum_{bt} real_{bt} \sum_v q_{btv} \log p_{btv},
       q_{btv} = (1 - \epsilon) [v = target_{bt}] + \frac{\epsilon}{vocab} $$

    The uniform share goes to the whole vocabulary, the target included: the target's probability is
    1 - epsilon + epsilon / vocab. The loss cannot fall below `smoothing_floor`.

    Paper: Szegedy et al. 2016, arXiv:1512.00567, section 7, with the uniform u(k) = 1/K;
        epsilon = 0.1 for the Transformer, Vaswani et al. 2017, arXiv:1706.03762, section 5.4.

    Args:
        logits: Dimensionless.
        targets: Token ids. Where `real` is False their value does not matter.
        real: True where the target is a real token. None: everywhere.
        smoothing: epsilon, the probability moved to the uniform distribution, dimensionless, in
            [0, 1]. 0 is `cross_entropy`.

    Returns:
        The loss, in nats per real token.

    Raises:
        TypeError: `real` is not Boolean, or the targets are not whole numbers.
        ValueError: As for `cross_entropy`, or `smoothing` lies outside [0, 1].
    """
    check_smoothing(smoothing)
    logits, targets = real_predictions(logits, targets, real)
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def smoothing_floor(smoothing: float, vocab_size: int) -> float:
    r"""Return the least smoothed cross-entropy there is: the entropy of the smoothed target.

    $$ H(q) = -q_1 \log q_1 - (K - 1) q_0 \log q_0,
       q_0 = \epsilon / K,  q_1 = 1 - \epsilon + \epsilon / K,  K = vocab $$

    A model that predicts exactly the smoothed target reaches it; one that is surer pays for it.

    Paper: Szegedy et al. 2016, arXiv:1512.00567, section 7.

    Args:
        smoothing: epsilon, dimensionless, in [0, 1].
        vocab_size: Tokens in the vocabulary, at least 1.

    Returns:
        The floor, in nats per token: 0 without smoothing, log(vocab_size) at epsilon = 1.

    Raises:
        ValueError: `smoothing` lies outside [0, 1], or the vocabulary is empty.
    """
    check_smoothing(smoothing)
    if vocab_size < 1:
        raise ValueError(f"the vocabulary must hold at least 1 token; got {vocab_size}.")
    other = smoothing / vocab_size
    target = 1 - smoothing + other
    return sum(-n * q * math.log(q) for n, q in ((1, target), (vocab_size - 1, other)) if q > 0)


def check_smoothing(smoothing: float) -> None:
    """Refuse an epsilon that is no probability."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing is a probability, in [0, 1]; got {smoothing}.")


def real_predictions(
    logits: Float[Tensor, "batch length vocab"],
    targets: Int[Tensor, "batch length"],
    real: Bool[Tensor, "batch length"] | None = None,
) -> tuple[Float[Tensor, "token vocab"], Int[Tensor, " token"]]:
    """Line up the real target tokens, of all sequences, with their logits.

    Args:
        logits: Dimensionless.
        targets: Token ids.
        real: True where the target is a real token. None: everywhere.

    Returns:
        Logits, in float32 at least, and targets of the real tokens, at least one.

    Raises:
        TypeError: `real` is not Boolean, or the targets are not whole numbers.
        ValueError: There is no real token, a real target lies outside the vocabulary, or the shapes
            do not fit.
    """
    mask = targets if real is None else real
    if real is not None and real.dtype != torch.bool:  # 0 and 1 would be taken for row numbers
        raise TypeError(f"real must be torch.bool, True = a real token; got {real.dtype}.")
    check_ids(targets, "targets")
    if not logits.shape[:-1] == targets.shape == mask.shape:
        raise ValueError(
            f"logits [batch length vocab] = {list(logits.shape)}, targets [batch length] = "
            f"{list(targets.shape)} and real = {list(mask.shape)} do not fit together."
        )
    if real is None:
        logits, targets = logits.flatten(0, 1), targets.flatten()
    else:
        logits, targets = logits[real], targets[real]
    if not len(targets):
        raise ValueError("no real target token to average over: real is False everywhere.")
    low, high = (int(end) for end in targets.aminmax())
    if low < 0 or high >= logits.shape[-1]:
        raise ValueError(
            f"targets must lie in 0..{logits.shape[-1] - 1}, the vocabulary; got {low}..{high}. "
            "Mark padding with real, not with an id."
        )
    return at_least_float32(logits), targets.long()
