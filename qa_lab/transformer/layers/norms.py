"""Normalisation: over the features of one token, or over the tokens of one feature.

Every norm module is called as `norm(x, real)`: the token mask reaches it, and it says what it does
with the padding. Layer and RMS normalization never look beyond one token; batch normalization has
to decide. Norms over one sequence are in `sequence_norms`.

The functions `layer_norm` and `rms_norm` are the formulas. The modules call PyTorch's fused kernels
instead, tested equal, as `fused_attention` does for `scaled_dot_product_attention`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import (
    check_at_least_one,
    check_eps,
    check_token_mask,
    check_width,
)
from qa_lab.transformer._precision import HALVES, at_least_float32, in_float32


@in_float32
def normalise(
    x: Float[Tensor, "*batch d_model"],
    mean: Float[Tensor, "*#batch #d_model"],
    variance: Float[Tensor, "*#batch #d_model"],
    gain: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    eps: float = 1e-5,
) -> Float[Tensor, "*batch d_model"]:
    r"""Centre, divide by the standard deviation, then scale and shift.

    $$ y = gain \frac{x - mean}{\sqrt{variance + eps}} + bias $$

    Args:
        x: Features.
        mean: In the units of x.
        variance: In the units of x squared.
        gain: In the units of y, one for each feature.
        bias: In the units of y, one for each feature.
        eps: In the units of x squared; keeps a constant x finite.

    Returns:
        The normalised features.

    Raises:
        ValueError: eps is negative, or gain and bias are of another width.
    """
    check_eps(eps)
    check_width(gain, x.shape[-1], "gain")
    check_width(bias, x.shape[-1], "bias")
    return gain * (x - mean) * torch.rsqrt(variance + eps) + bias


@in_float32
def layer_norm(
    x: Float[Tensor, "*batch d_model"],
    gain: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    eps: float = 1e-5,
) -> Float[Tensor, "*batch d_model"]:
    r"""Normalise each token by the mean and variance of its own features.

    $$ \mu = \frac{1}{d} \sum_i x_i,  \sigma^2 = \frac{1}{d} \sum_i (x_i - \mu)^2,
       y = gain \frac{x - \mu}{\sqrt{\sigma^2 + eps}} + bias $$

    Paper: Ba et al. 2016, arXiv:1607.06450, section 3, eq. 3.
    Departs: eps, which the paper does not have, as in PyTorch.

    Args:
        x: Features, the last axis of each token.
        gain: In the units of y, one for each feature.
        bias: In the units of y, one for each feature.
        eps: In the units of x squared; keeps a constant token finite.

    Returns:
        Tokens with mean 0 and variance sigma^2 / (sigma^2 + eps) before gain and bias.

    Raises:
        ValueError: eps is negative, or gain and bias are of another width.
    """
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)  # biased: divided by d_model
    return normalise(x, mean, variance, gain, bias, eps)


class LayerNorm(nn.Module):
    """Layer normalization with a learned gain and bias: `layer_norm`, by PyTorch's fused kernel.

    Paper: Ba et al. 2016, arXiv:1607.06450, section 3, eq. 3.

    Args:
        d_model: Width of a token, in features.
        eps: In the units of x squared.

    Raises:
        ValueError: d_model is less than 1, or eps is negative.
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model)
        check_eps(eps)
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Normalise each token by itself.

        Args:
            x: Tokens.
            real: Not needed: a token's statistics are its own, so padding cannot reach them.

        Returns:
            Normalised tokens, equal to `layer_norm` up to rounding, the same in training and
            evaluation.

        Raises:
            TypeError: x holds whole numbers.
            ValueError: x is of another width.
        """
        check_width(x, len(self.gain))
        if x.dtype == torch.float16 and x.device.type == "cpu":
            # For the backward pass that kernel keeps 1/sigma in float16: of a constant x, infinity.
            return layer_norm(x, self.gain, self.bias, self.eps)
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.eps)


@in_float32
def rms_norm(
    x: Float[Tensor, "*batch d_model"], gain: Float[Tensor, " d_model"], eps: float = 1e-6
) -> Float[Tensor, "*batch d_model"]:
    r"""Divide each token by the root mean square of its own features; subtract nothing.

    $$ y = gain \frac{x}{\sqrt{\frac{1}{d} \sum_i x_i^2 + eps}} $$

    Paper: Zhang and Sennrich 2019, arXiv:1910.07467.
    Departs: eps, which the paper does not have, inside the root, as in Llama and PyTorch.

    Args:
        x: Features, the last axis of each token.
        gain: In the units of y, one for each feature.
        eps: In the units of x squared; keeps a token of zeros finite.

    Returns:
        Tokens with mean square m / (m + eps) before the gain, where m was theirs.

    Raises:
        ValueError: eps is negative, or the gain is of another width.
    """
    check_eps(eps)
    check_width(gain, x.shape[-1], "gain")
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return gain * x * torch.rsqrt(mean_square + eps)


class RMSNorm(nn.Module):
    """RMS normalization with a learned gain: `rms_norm`, by PyTorch's fused kernel.

    Paper: Zhang and Sennrich 2019, arXiv:1910.07467.

    Args:
        d_model: Width of a token, in features.
        eps: In the units of x squared.

    Raises:
        ValueError: d_model is less than 1, or eps is negative.
    """

    def __init__(self, d_model: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model)
        check_eps(eps)
        self.gain = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Normalise each token by itself.

        Args:
            x: Tokens.
            real: Not needed: a token's statistics are its own, so padding cannot reach them.

        Returns:
            Normalised tokens, equal to `rms_norm` up to rounding, the same in training and
            evaluation.

        Raises:
            TypeError: x holds whole numbers.
            ValueError: x is of another width.
        """
        check_width(x, len(self.gain))
        return F.rms_norm(x, self.gain.shape, self.gain, self.eps)


def batch_norm_statistics(
    x: Float[Tensor, "batch length d_model"],
    real: Bool[Tensor, "batch length"] | None = None,
) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"], int]:
    r"""Measure each feature's mean and variance over the positions of the whole batch.

    $$ \mu = \frac{1}{n} \sum_{bt} real_{bt} x_{bt},
       \sigma^2 = \frac{1}{n} \sum_{bt} real_{bt} (x_{bt} - \mu)^2,  n = \sum_{bt} real_{bt} $$

    Paper: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3, algorithm 1.
    Departs: the paper has no padding; `real` says which positions count.

    Args:
        x: Tokens.
        real: True at the positions that count. None: all of them.

    Returns:
        The mean, the biased variance (divided by n), both in float32 at least, and n, in positions.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: `real` is not [batch length], or fewer than 2 positions count: the variance
            would be 0 whatever they hold; or a variance is NaN or infinite, which running
            statistics would never forget.
    """
    if x.ndim != 3:
        raise ValueError(f"x must be [batch length d_model]; got the shape {list(x.shape)}.")
    if real is not None:
        check_token_mask(real, x)
    x = at_least_float32(x)
    counted = x.flatten(0, 1) if real is None else x[real]
    if len(counted) < 2:
        raise ValueError(
            f"batch normalization needs at least 2 counted positions to have a variance; got "
            f"{len(counted)} in x of shape {list(x.shape)}. Use a larger batch, or eval()."
        )
    mean = counted.mean(dim=0)
    variance = (counted - mean).square().mean(dim=0)
    if wrong := int((~variance.isfinite()).sum()):
        raise ValueError(f"x is NaN or infinite in {wrong} of its {len(mean)} features.")
    return mean, variance, len(counted)


class BatchNorm(nn.Module):
    r"""Batch normalization over [batch length], with padding counted or left out.

    $$ y = gain \frac{x - \mu}{\sqrt{\sigma^2 + eps}} + bias $$

    Training takes mu and sigma^2 from the batch and moves the running statistics towards them,
    running <- (1 - momentum) running + momentum batch, with the unbiased variance, divided by
    n - 1. Evaluation takes the running statistics. They stay in float32 when the module goes to
    half precision: the steps are small, and a variance need not fit in float16.

    Paper: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3, algorithms 1 and 2; the unbiased
        variance is section 3.1.
    Departs: moving averages, which the paper mentions there, instead of one average after training,
        as in PyTorch; and the paper has no padding.

    Args:
        d_model: Width of a token, in features.
        count_padding: Whether padded positions count in the statistics.
        momentum: Dimensionless weight of the new batch in the running statistics, in [0, 1].
        eps: In the units of x squared.

    Raises:
        ValueError: d_model is less than 1, momentum lies outside [0, 1], or eps is negative.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self, d_model: int, *, count_padding: bool, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model)
        check_eps(eps)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a weight, in [0, 1]; got {momentum}.")
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("running_mean", at_least_float32(torch.zeros(d_model)))
        self.register_buffer("running_variance", at_least_float32(torch.ones(d_model)))
        self.count_padding = count_padding
        self.momentum = momentum
        self.eps = eps

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Normalise each feature by its statistics over the batch.

        Args:
            x: Tokens.
            real: True at real tokens; which of the others count is `count_padding`. None: all real.

        Returns:
            Normalised tokens, at padded positions too. In training each depends on the whole batch,
            the future of its own sequence included.

        Raises:
            TypeError: `real` is not Boolean, and counts.
            ValueError: x is of another width; or in training, x is not [batch length d_model],
                fewer than 2 positions count, `real` is not [batch length], or x is NaN or infinite.
        """
        check_width(x, len(self.gain))
        if not self.training:
            mean, variance = self.running_mean, self.running_variance
        else:
            mean, variance, n = batch_norm_statistics(x, None if self.count_padding else real)
            self.update_running(mean.detach(), variance.detach() * n / (n - 1))
        return normalise(x, mean, variance, self.gain, self.bias, self.eps)

    def update_running(
        self, mean: Float[Tensor, " d_model"], variance: Float[Tensor, " d_model"]
    ) -> None:
        """Move the running statistics towards this batch's."""
        mean, variance = mean.to(self.running_mean), variance.to(self.running_variance)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance, self.momentum)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BatchNorm":
        """Leave the running statistics in float32 when the parameters go to half precision."""
        before = self.running_mean, self.running_variance
        super()._apply(fn, recurse)
        if self.running_mean.dtype in HALVES:
            like = at_least_float32(self.running_mean)
            self.running_mean, self.running_variance = (x.to(like) for x in before)
        return self
