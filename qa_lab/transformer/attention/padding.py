"""Padding, for the models that read a row in order instead of looking around in it.

They take no look mask. What they need to know is where each row really ends; and since a padded
position before a real one would be read as if it were text, padding may only stand on the right.
"""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from qa_lab.transformer._checks import check_batch, check_token_mask, to_be_read
from qa_lab.transformer.attention.masks import real_tokens


def count_real(
    real: Bool[Tensor, "batch length"] | None, x: Shaped[Tensor, "batch length *features"]
) -> Int[Tensor, " batch"]:
    r"""Count the real tokens of each row, wherever they stand.

    $$ n_b = \sum_t real_{bt} $$

    Args:
        real: True at real tokens. None: all real.
        x: The ids or the vectors that `real` speaks of.

    Returns:
        The real tokens of each row, at least 1.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: x has no axis of tokens, `real` is not [batch length], or a row has no real
            token.
    """
    if x.ndim < 2:
        raise ValueError(f"tokens must be [batch length]; got the shape {list(x.shape)}.")
    batch, length = x.shape[:2]
    if real is None:
        return torch.full((batch,), length, device=x.device)
    check_token_mask(real, x)
    counts = real.sum(dim=1)
    if to_be_read(counts) and not counts.all():
        raise ValueError(
            f"row {int(counts.argmin())} of real has no real token: there is nothing to read."
        )
    return counts


def real_lengths(
    real: Bool[Tensor, "batch length"] | None, x: Shaped[Tensor, "batch length *features"]
) -> Int[Tensor, " batch"]:
    """Count the real tokens of each row, and refuse padding anywhere but on the right.

    Args:
        real: True at real tokens. None: all real.
        x: The ids or the vectors that `real` speaks of.

    Returns:
        The lengths, in tokens, each at least 1.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: As `count_real`, or a real token stands to the right of padding.
    """
    lengths = count_real(real, x)
    if real is not None and to_be_read(real):
        wrong = (real != real_tokens(lengths, x.shape[1])).any(dim=1)
        if wrong.any():
            raise ValueError(
                f"row {int(wrong.nonzero()[0])} of real has a real token to the right of padding. "
                "A model that reads in order would read that padding as text: pad on the right."
            )
    return lengths


def reverse_real(
    x: Shaped[Tensor, "batch length d"], lengths: Int[Tensor, " batch"]
) -> Shaped[Tensor, "batch length d"]:
    r"""Turn the real tokens of each row around and leave its padding where it is.

    $$ y_{bt} = x_{b, n_b - 1 - t} for t < n_b,  y_{bt} = x_{bt} otherwise $$

    Args:
        x: One vector for each token.
        lengths: n, the real tokens of each row.

    Returns:
        The turned rows. Turning them twice gives x again.

    Raises:
        ValueError: There is not one length for each row.
    """
    check_batch(x=x, lengths=lengths)
    t = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - t
    source = torch.where(mirrored >= 0, mirrored, t)
    return x.gather(1, source[..., None].expand_as(x))
