"""Telling the positions apart, by adding something to the embeddings.

A `positions` argument is anything called as `positions(x, start)`, from embeddings to embeddings: a
function from here, a `functools.partial` of one, or a module. `start` is the position of the first
token of x; it is 0 unless the tokens before x are already in a key-value cache.

Positions that act inside attention instead are in `rotary`, `biases` and `relative`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_width

Embeddings = Float[Tensor, "batch length d_model"]


def frequencies(
    width: int, base: float = 10000.0, *, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "{width}//2"]:
    r"""Return the geometric series of frequencies that sinusoids and rotations share.

    $$ \omega_i = base^{-2i/width},  i = 0 ... width/2 - 1 $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        width: Features; even, as each frequency serves a pair of them.
        base: Dimensionless, > 0.
        dtype: The precision of the arithmetic.

    Returns:
        Radians per token. The first is 1; the last, base^(2/width - 1), tends to 1 / base as the
        width grows.

    Raises:
        ValueError: The width is odd or not positive, or the base is not positive.
    """
    if width < 2 or width % 2:
        raise ValueError(
            f"a width of {width} cannot be cut into pairs of features: each frequency needs a sine "
            "and a cosine, so the width must be even and at least 2."
        )
    if not base > 0:
        raise ValueError(f"base = {base} has no geometric series of frequencies: it must be > 0.")
    return 1 / base ** (torch.arange(0, width, 2, dtype=dtype) / width)


def sinusoidal_positions(
    length: int, d_model: int, *, base: float = 10000.0, start: int = 0
) -> Float[Tensor, "{length} {d_model}"]:
    r"""Write each position as sines and cosines of geometrically growing wavelengths.

    $$ PE_{t, 2i} = \sin(t / base^{2i/d_{model}}),  PE_{t, 2i+1} = \cos(t / base^{2i/d_{model}}) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        length: Positions, in tokens.
        d_model: Features; even, as each frequency takes a sine and a cosine.
        base: Dimensionless. Wavelengths grow from 2 pi towards 2 pi base tokens.
        start: The first position, in tokens.

    Returns:
        The encodings, in [-1, 1] and float64; position 0 is (0, 1, 0, 1, ...).

    Raises:
        ValueError: length is less than 1, d_model is odd, or the base is not positive.
    """
    check_at_least_one(length=length)
    t = torch.arange(start, start + length, dtype=torch.float64)
    angle = t[:, None] * frequencies(d_model, base)  # radians
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def add_sinusoidal_positions(x: Embeddings, start: int = 0, *, base: float = 10000.0) -> Embeddings:
    """Add the sinusoidal encoding of its position to each embedding.

    $$ y_t = x_t + PE_{start + t} $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        x: Embeddings.
        start: Position of the first token of x.
        base: Dimensionless; see `sinusoidal_positions`.

    Returns:
        Embeddings that tell their position, in the dtype of x.

    Raises:
        TypeError: x holds whole numbers: ids that were not embedded.
        ValueError: d_model is odd, or the base is not positive.
    """
    check_width(x, x.shape[-1])
    return x + sinusoidal_positions(x.shape[-2], x.shape[-1], base=base, start=start).to(x)


class LearnedPositions(nn.Module):
    """Add a learned vector for its position to each embedding.

    $$ y_t = x_t + W_{P, start + t} $$

    A position beyond the table has no vector. That is why such a model cannot read a sequence that
    is longer than it was built for.

    Paper: Gehring et al. 2017, arXiv:1705.03122; Vaswani et al. 2017, arXiv:1706.03762, section
        3.5, tried it and found nearly identical results.
    Departs: the initial values are N(0, std^2) with the std of BERT, 0.02; Gehring et al. have
        0.1, Vaswani et al. are silent. Beside embeddings of variance 1, as `TokenEmbedding` makes
        them, that is faint at first; std = 1 makes positions as loud as tokens.

    Args:
        max_length: Rows of the table: positions that can be told, in tokens.
        d_model: Width of an embedding, in features.
        std: Standard deviation of the initial values, in the units of the embeddings.

    Raises:
        ValueError: A size is less than 1.
    """

    def __init__(self, max_length: int, d_model: int, *, std: float = 0.02) -> None:
        super().__init__()
        check_at_least_one(max_length=max_length, d_model=d_model)
        self.W_P = nn.Parameter(torch.randn(max_length, d_model) * std)

    def forward(self, x: Embeddings, start: int = 0) -> Embeddings:
        """Add the rows from `start` on.

        Args:
            x: Embeddings.
            start: Position of the first token of x.

        Returns:
            Embeddings that tell their position.

        Raises:
            TypeError: x holds whole numbers: ids that were not embedded.
            ValueError: Some position has no row in the table, or x is of another width.
        """
        check_width(x, self.W_P.shape[-1])
        end = start + x.shape[-2]
        if start < 0 or end > len(self.W_P):
            raise ValueError(
                f"positions {start}..{end - 1} do not all have a row: the table holds "
                f"max_length = {len(self.W_P)} positions, 0..{len(self.W_P) - 1}. Shorten the "
                "sequence, or use positions without a table (sinusoidal, rotary, ALiBi)."
            )
        return x + self.W_P[start:end]


def no_positions(x: Embeddings, start: int = 0) -> Embeddings:
    """Leave the embeddings as they are: attention then sees a set, not a sequence.

    Args:
        x: Embeddings.
        start: Position of the first token of x; makes no difference.

    Returns:
        The same embeddings.
    """
    return x
