"""Telling the positions apart.

A `positions` argument is anything called as `positions(x)`, from embeddings to embeddings: a
function from here, a `functools.partial` of one, or a module.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal_positions(
    length: int, d_model: int, base: float = 10000.0
) -> Float[Tensor, "{length} {d_model}"]:
    r"""Write each position as sines and cosines of geometrically growing wavelengths.

    $$ PE_{t, 2i} = \sin(t / base^{2i/d_{model}}),  PE_{t, 2i+1} = \cos(t / base^{2i/d_{model}}) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        length: Positions, in tokens.
        d_model: Features; even, as each frequency takes a sine and a cosine.
        base: Dimensionless. Wavelengths grow from 2 pi towards 2 pi base tokens.

    Returns:
        The encodings, in [-1, 1] and float64; position 0 is (0, 1, 0, 1, ...).

    Raises:
        ValueError: d_model is odd.
    """
    if d_model % 2:
        raise ValueError(
            f"d_model = {d_model} is odd: sinusoidal positions pair a sine with a cosine, so the "
            "width must be even."
        )
    frequency = base ** -(torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # radians
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def add_sinusoidal_positions(
    x: Float[Tensor, "batch length d_model"], base: float = 10000.0
) -> Float[Tensor, "batch length d_model"]:
    """Add the sinusoidal encoding of its position to each embedding.

    $$ y_t = x_t + PE_t $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        x: Embeddings.
        base: Dimensionless; see `sinusoidal_positions`.

    Returns:
        Embeddings that tell their position, in the dtype of x.

    Raises:
        ValueError: d_model is odd.
    """
    return x + sinusoidal_positions(x.shape[-2], x.shape[-1], base).to(x)


def no_positions(
    x: Float[Tensor, "batch length d_model"],
) -> Float[Tensor, "batch length d_model"]:
    """Leave the embeddings as they are: attention then sees a set, not a sequence.

    Args:
        x: Embeddings.

    Returns:
        The same embeddings.
    """
    return x
