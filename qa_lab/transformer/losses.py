"""Losses."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def cross_entropy(
    logits: Float[Tensor, "batch length vocab"],
    targets: Int[Tensor, "batch length"],
    keep: Bool[Tensor, "batch length"] | None = None,
) -> Float[Tensor, ""]:
    r"""Average the surprise at the real target tokens.

    $$ loss = -\frac{1}{\sum_{bt} keep_{bt}} \sum_{bt} keep_{bt} \log p_{bt, target_{bt}},
       p = softmax_{vocab}(logits) $$

    Args:
        logits: Dimensionless.
        targets: Token ids. Where `keep` is False their value does not matter.
        keep: True where the target is a real token. None: everywhere.

    Returns:
        The loss, in nats per real token: the mean over all tokens, not over sequences' means.

    Raises:
        ValueError: There is no real token.
    """
    if keep is None:
        logits, targets = logits.flatten(0, 1), targets.flatten()
    else:
        logits, targets = logits[keep], targets[keep]
    if not len(targets):
        raise ValueError("no real target token to average over: keep is False everywhere.")
    return F.cross_entropy(logits, targets)
