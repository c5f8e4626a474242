"""Small measurements that several pages share. Numbers out, no verdicts."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def gaussian(shape: tuple[int, ...], seed: int) -> Float[Tensor, "..."]:
    """Draw independent entries of mean 0 and variance 1, in float64.

    Args:
        shape: Of the result.
        seed: The same seed gives the same numbers.

    Returns:
        The entries, dimensionless.
    """
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def entropy_share(weights: Float[Tensor, "*batch key"]) -> float:
    r"""Measure how spread out attention weights are, between one-hot and uniform.

    $$ -\frac{1}{\ln n} \sum_j p_j \ln p_j, averaged over rows $$

    Args:
        weights: Each row is >= 0 and sums to 1.

    Returns:
        0 for one-hot rows, 1 for uniform rows; dimensionless.

    Raises:
        ValueError: There is no row, there are fewer than 2 keys to spread over, or a weight is
            negative or NaN.
    """
    if not weights.numel() or weights.shape[-1] < 2:
        raise ValueError(f"weights need a row and 2 keys; got the shape {list(weights.shape)}.")
    if not (weights >= 0).all():
        raise ValueError("a weight is negative or NaN: these are not the outputs of a softmax.")
    entropy = torch.special.entr(weights).sum(-1).mean()
    return entropy.item() / math.log(weights.shape[-1])


def softmax_jacobian(weights: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch key key"]:
    r"""Return the derivative of a softmax's outputs by its inputs.

    $$ J = diag(p) - p p^T $$

    Args:
        weights: The softmax's outputs p.

    Returns:
        Symmetric and positive semidefinite; every row sums to 0, and no eigenvalue exceeds 1/2.
    """
    return torch.diag_embed(weights) - weights.unsqueeze(-1) * weights.unsqueeze(-2)


def dependence(
    function: Callable[[Float[Tensor, "1 input d_in"]], Float[Tensor, "1 output d_out"]],
    x: Float[Tensor, "batch input d_in"],
) -> Float[Tensor, "output input"]:
    r"""Measure which positions of the output depend on which positions of the input.

    $$ D_{ij} = \max_{a,b} |\partial y_{ia} / \partial x_{jb}| $$

    A zero is exact: automatic differentiation found no path, or only paths with a factor of 0.

    Args:
        function: From one sequence of vectors to another, of any length and width.
        x: Where to take the derivative; a batch of one.

    Returns:
        Entry (i, j) is the largest derivative, by absolute value, of output position i by input
        position j; dimensionless.

    Raises:
        ValueError: x is not a batch of one sequence.
    """
    if x.ndim != 3 or len(x) != 1:
        raise ValueError(f"x must be [1, input, d_in], a batch of one; got {list(x.shape)}.")
    jacobian = torch.autograd.functional.jacobian(function, x)  # [1, output, d_out, 1, input, d_in]
    return jacobian[0, :, :, 0].abs().amax(dim=(1, 3))
