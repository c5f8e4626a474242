"""Rotary positions: turn queries and keys by an angle that grows with their position.

Two features form a pair, a pair is a point in the plane, and position t turns it by t * omega_i.
A dot product of two turned points depends only on the difference of the turns, so that a score
knows how far apart two tokens are, not where they are.

Which two features form a pair is a convention: `rotate_interleaved` or `rotate_halves`, passed as
`pairing`. They are equally good, and weights trained with one fail with the other unless their
features are reordered by `halves_order`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one
from qa_lab.transformer.positions.absolute import frequencies

Pairing = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From features, cosines and sines to turned features, as `rotate_interleaved` does."""


def rotary_table(
    length: int,
    width: int,
    *,
    base: float = 10000.0,
    stretch: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "{length} {width}//2"], Float[Tensor, "{length} {width}//2"]]:
    r"""Tabulate the cosine and sine of every position's angles.

    $$ angle_{t, i} = \frac{t}{stretch} base^{-2i/width} $$

    Paper: Su et al. 2021, arXiv:2104.09864; the stretch is the position
        interpolation of Chen et al. 2023, arXiv:2306.15595, section 2.3, with stretch = L'/L.

    Args:
        length: Positions, in tokens.
        width: Features that are turned; even.
        base: Dimensionless. Wavelengths grow from 2 pi towards 2 pi base tokens.
        stretch: Dimensionless, > 0. Of the context: 2 squeezes twice as many positions into the
            angles that the model knows.
        dtype: The precision of the arithmetic.

    Returns:
        The cosines and the sines, one for each position and pair of features.

    Raises:
        ValueError: length is less than 1, the width is odd, or the base or the stretch is not
            positive.
    """
    check_at_least_one(length=length)
    if not stretch > 0:
        raise ValueError(f"stretch = {stretch} would stop or reverse the positions; give one > 0.")
    # As the libraries do it, the frequency is divided, not the position: the same but for rounding.
    frequency = frequencies(width, base, dtype=dtype) / stretch  # radians per token
    angle = torch.arange(length, dtype=dtype)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate_interleaved(
    x: Float[Tensor, "*batch length width"],
    cos: Float[Tensor, "length half"],
    sin: Float[Tensor, "length half"],
) -> Float[Tensor, "*batch length width"]:
    r"""Turn the pairs of neighbouring features (0, 1), (2, 3), ...

    $$ y_{2i} = x_{2i} \cos_i - x_{2i+1} \sin_i,  y_{2i+1} = x_{2i} \sin_i + x_{2i+1} \cos_i $$

    The pairing of the paper and of GPT-J.

    Paper: Su et al. 2021, arXiv:2104.09864.

    Args:
        x: Queries or keys.
        cos: Cosine of each position's angles; see `rotary_table`.
        sin: Sine of each position's angles.

    Returns:
        The turned features. The length of every pair, as a point in the plane, is kept.

    Raises:
        ValueError: The table is not of the positions and pairs of x.
    """
    check_table(x, cos, sin)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def rotate_halves(
    x: Float[Tensor, "*batch length width"],
    cos: Float[Tensor, "length half"],
    sin: Float[Tensor, "length half"],
) -> Float[Tensor, "*batch length width"]:
    r"""Turn the pairs of a feature and the one half the width further on, (i, i + width/2).

    $$ y_i = x_i \cos_i - x_{i + w/2} \sin_i,  y_{i + w/2} = x_i \sin_i + x_{i + w/2} \cos_i $$

    The pairing of GPT-NeoX, and of Llama as Hugging Face stores it.

    Paper: Su et al. 2021, arXiv:2104.09864.
    Departs: the paper pairs neighbours; see `halves_order`.

    Args:
        x: Queries or keys.
        cos: Cosine of each position's angles; see `rotary_table`.
        sin: Sine of each position's angles.

    Returns:
        The turned features. The length of every pair, as a point in the plane, is kept.

    Raises:
        ValueError: The table is not of the positions and pairs of x.
    """
    check_table(x, cos, sin)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def check_table(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Refuse a table that would be broadcast over positions or pairs.

    Raises:
        ValueError: It is not [length width/2], or the width is odd.
    """
    needed = (x.shape[-2], x.shape[-1] // 2)
    if x.shape[-1] % 2 or not cos.shape == sin.shape == needed:
        raise ValueError(
            f"x is [... length width] = {list(x.shape)}; cos and sin must be [length width/2]; got "
            f"{list(cos.shape)} and {list(sin.shape)}."
        )


def halves_order(width: int) -> Int[Tensor, "{width}"]:
    """Order the features so that pairs of neighbours become pairs of halves.

    $$ order = (0, 2, 4, ...,  1, 3, 5, ...) $$

    For any x, `rotate_halves(x[..., order], ...)` is `rotate_interleaved(x, ...)[..., order]`. A
    dot product does not mind the order of its terms. So a model trained with one pairing runs with
    the other once the rows of each head's W_Q and W_K (and their biases) are taken in this order,
    or in the inverse one, `order.argsort()`.

    Args:
        width: Features that are turned; even.

    Returns:
        The indices 0..width - 1, the even ones first.

    Raises:
        ValueError: The width is odd, or less than 2.
    """
    if width < 2 or width % 2:
        raise ValueError(
            f"a width of {width} is odd or too small to be cut into pairs of features."
        )
    return torch.arange(width).view(-1, 2).T.flatten()


def ntk_base(base: float, stretch: float, width: int) -> float:
    r"""Enlarge the base, so that the slowest pair is stretched in full and the fastest not at all.

    $$ base' = base * stretch^{width / (width - 2)} $$

    An alternative to `stretch`, which slows every pair alike and blurs neighbouring tokens.

    Paper: Peng et al. 2023, arXiv:2309.00071 ("NTK-aware" interpolation).

    Args:
        base: Of the trained model, dimensionless.
        stretch: Of the context, dimensionless.
        width: Features that are turned; even, at least 4.

    Returns:
        The base to use instead. It divides the lowest frequency by exactly `stretch`.

    Raises:
        ValueError: There is one pair only, which would be the fastest and the slowest at once; the
            width is odd, or the base or the stretch is not positive.
    """
    if width < 4:
        raise ValueError(f"a width of {width} has no slowest and fastest pair; it needs 4 or more.")
    rotary_table(1, width, base=base, stretch=stretch)  # refuses what it cannot be made of
    return base * stretch ** (width / (width - 2))


class Rotary(nn.Module):
    r"""Turn queries and keys by their positions; called as `rotate(x, start)`.

    $$ score(m, n) = (R_m q) \cdot (R_n k) = q \cdot R_{n - m} k $$

    It has no parameters. The table of cosines and sines is kept from call to call, and made anew,
    at least twice as long, when a sequence outgrows it. Layers that are given the same `Rotary`
    share it.

    Paper: Su et al. 2021, arXiv:2104.09864.
    Departs: angles are computed in float64 and then rounded, so that distant positions lose
        nothing. Hugging Face computes them in float32; `angle_dtype=torch.float32` gives its very
        numbers.

    Args:
        d_k: Width of a query and of a key, per head, in features.
        base: Dimensionless; see `rotary_table`.
        pairing: `rotate_interleaved` or `rotate_halves`.
        d_rotated: How many features, from the first on, are turned; the others tell no position.
            None: all. GPT-NeoX turns a quarter of them, GPT-J 64 of 256.
        stretch: Dimensionless, > 0. Of the context, by position interpolation.
        angle_dtype: The precision of the angles.

    Raises:
        ValueError: d_rotated is odd or exceeds d_k, or the base or the stretch is not positive.
    """

    def __init__(
        self,
        d_k: int,
        *,
        base: float = 10000.0,
        pairing: Pairing = rotate_interleaved,
        d_rotated: int | None = None,
        stretch: float = 1.0,
        angle_dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.d_k = d_k
        self.d_rotated = d_k if d_rotated is None else d_rotated
        if self.d_rotated > d_k:
            raise ValueError(f"d_rotated = {d_rotated} features do not fit in d_k = {d_k}.")
        self.base = base
        self.pairing = pairing
        self.stretch = stretch
        self.angle_dtype = angle_dtype
        self.fill(1, torch.ones(1))

    @torch.inference_mode(False)  # filled while generating, the table must serve training later
    def fill(self, length: int, like: Tensor) -> None:
        """Make the table of the first positions, in the dtype and on the device of a tensor.

        They are no buffers: `model.bfloat16().float()` must not leave coarse numbers behind.
        """
        table = rotary_table(
            length, self.d_rotated, base=self.base, stretch=self.stretch, dtype=self.angle_dtype
        )
        self.cos, self.sin = (part.to(like) for part in table)

    def rows(
        self, x: Float[Tensor, "batch head length d_k"], start: int
    ) -> tuple[Float[Tensor, "length half"], Float[Tensor, "length half"]]:
        """Look up the cosines and sines of x's positions, in a larger table if need be."""
        end = start + x.shape[-2]
        if end > len(self.cos) or self.cos.dtype != x.dtype or self.cos.device != x.device:
            self.fill(2 ** (end - 1).bit_length(), x)  # at least doubled: a cache grows by 1 token
        return self.cos[start:end], self.sin[start:end]

    def forward(
        self, x: Float[Tensor, "batch head length d_k"], start: int = 0
    ) -> Float[Tensor, "batch head length d_k"]:
        """Turn every query or key by the angles of its position.

        Args:
            x: Queries or keys.
            start: Position of the first of them.

        Returns:
            The turned queries or keys, in the dtype of x and of the same lengths as before.

        Raises:
            TypeError: x holds whole numbers, to which the angles would be rounded.
            ValueError: x is not d_k wide, or `start` is negative.
        """
        if not x.is_floating_point():
            raise TypeError(f"queries and keys are floating-point; got {x.dtype}.")
        if x.shape[-1] != self.d_k:
            raise ValueError(f"x is {x.shape[-1]} features wide; this rotation is for {self.d_k}.")
        if start < 0:
            raise ValueError(f"start = {start}: the first position is 0.")
        cos, sin = self.rows(x, start)
        if self.d_rotated == self.d_k:
            return self.pairing(x, cos, sin)
        turned = self.pairing(x[..., : self.d_rotated], cos, sin)
        return torch.cat([turned, x[..., self.d_rotated :]], dim=-1)
