"""Norms over one sequence: instance and group normalization, with padding left out.

They share a statistic among the tokens of a sequence, so that a token's output depends on the
others, later ones included: in a causal model they leak the future.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import (
    check_at_least_one,
    check_eps,
    check_token_mask,
    check_vectors,
)
from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.layers.norms import normalise


def check_groups(d_model: int, n_groups: int) -> None:
    """Refuse groups that would differ in size.

    Args:
        d_model: Features.
        n_groups: Groups of them.

    Raises:
        ValueError: n_groups does not divide d_model.
    """
    if n_groups < 1 or d_model % n_groups:
        raise ValueError(
            f"n_groups = {n_groups} does not divide d_model = {d_model}. Choose a divisor."
        )


def group_statistics(
    x: Float[Tensor, "batch length d_model"],
    n_groups: int,
    real: Bool[Tensor, "batch length"] | None = None,
) -> tuple[Float[Tensor, "batch 1 d_model"], Float[Tensor, "batch 1 d_model"]]:
    r"""Measure the mean and variance of each group of features over the tokens of each sequence.

    $$ \mu_{bg} = \frac{1}{n_b} \sum_t real_{bt} \sum_{i \in g} x_{bti},
       \sigma^2_{bg} = \frac{1}{n_b} \sum_t real_{bt} \sum_{i \in g} (x_{bti} - \mu_{bg})^2 $$

    n_b is the number of values: real tokens of the sequence times features of a group.

    Paper: Wu and He 2018, arXiv:1803.08494.
    Departs: the paper has pictures and no padding; here the positions of a sequence are its pixels,
        and `real` says which of them count.

    Args:
        x: Tokens.
        n_groups: Groups of neighbouring features; a divisor of d_model.
        real: True at the positions that count. None: all of them.

    Returns:
        The mean and the biased variance (divided by n_b), in float32 at least, written out for each
        feature.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: n_groups does not divide d_model, x is not [batch length d_model], `real` is not
            [batch length], or a group has fewer than 2 values in some sequence: the variance would
            be 0 whatever they are.
    """
    d_model = x.shape[-1]
    check_vectors(x, d_model)
    check_groups(d_model, n_groups)
    if real is None:
        real = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    check_token_mask(real, x)
    n = real.sum(dim=1) * (d_model // n_groups)
    if (n < 2).any():
        raise ValueError(
            f"each group of features needs at least 2 values in a sequence to have a variance; got "
            f"{n.tolist()} in the sequences of the batch. Use fewer groups, or longer sequences."
        )
    x, n = at_least_float32(x), n[:, None, None, None]
    groups = x.unflatten(-1, (n_groups, -1))
    padding = ~real[..., None, None]
    mean = groups.masked_fill(padding, 0).sum(dim=(1, 3), keepdim=True) / n
    squares = (groups - mean).masked_fill(padding, 0).square()
    variance = squares.sum(dim=(1, 3), keepdim=True) / n
    shape = (-1, -1, -1, d_model // n_groups)
    return mean.expand(shape).flatten(-2), variance.expand(shape).flatten(-2)


class GroupNorm(nn.Module):
    r"""Group normalization: each group of features, over the real tokens of each sequence.

    $$ y = gain \frac{x - \mu}{\sqrt{\sigma^2 + eps}} + bias $$

    One group is layer normalization of a whole sequence; as many groups as features, instance
    normalization.

    Paper: Wu and He 2018, arXiv:1803.08494.
    Departs: padding does not count; see `group_statistics`.

    Args:
        d_model: Width of a token, in features.
        n_groups: Groups of neighbouring features; a divisor of d_model.
        eps: In the units of x squared.

    Raises:
        ValueError: n_groups does not divide d_model, d_model is less than 1, or eps is negative.
    """

    def __init__(self, d_model: int, *, n_groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model)
        check_eps(eps)
        check_groups(d_model, n_groups)
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.n_groups = n_groups
        self.eps = eps

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Normalise each group of features by its statistics over the sequence.

        Args:
            x: Tokens.
            real: True at real tokens; the others do not count. None: all real.

        Returns:
            Normalised tokens, at padded positions too, the same in training and evaluation. Each
            depends on all real tokens of its sequence, and on no other sequence.

        Raises:
            TypeError: `real` is not Boolean.
            ValueError: x is not [batch length d_model], `real` is not [batch length], or a group
                has fewer than 2 values in some sequence.
        """
        check_vectors(x, len(self.gain))
        mean, variance = group_statistics(x, self.n_groups, real)
        return normalise(x, mean, variance, self.gain, self.bias, self.eps)


class InstanceNorm(GroupNorm):
    """Instance normalization: each feature by itself, over the real tokens of each sequence.

    It is group normalization with one feature in a group.

    Paper: Ulyanov et al. 2016, arXiv:1607.08022.
    Departs: padding does not count; and with a gain and a bias, which PyTorch has only on request.

    Args:
        d_model: Width of a token, in features.
        eps: In the units of x squared.
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__(d_model, n_groups=d_model, eps=eps)
