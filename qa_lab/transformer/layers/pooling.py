"""From a vector for each token to what is classified."""

from jaxtyping import Bool, Float
from torch import Tensor

from qa_lab.transformer._precision import in_float32
from qa_lab.transformer.attention import count_real


@in_float32
def mean_over_tokens(
    x: Float[Tensor, "batch length d_model"], real: Bool[Tensor, "batch length"] | None = None
) -> Float[Tensor, "batch d_model"]:
    r"""Average the real tokens of each sequence.

    $$ y_b = \sum_t real_{bt} x_{bt} / \sum_t real_{bt} $$

    Args:
        x: Tokens.
        real: True at real tokens. None: all real.

    Returns:
        One vector for each sequence.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: `real` is not [batch length], or a sequence has no real token.
    """
    if real is None:
        return x.mean(dim=1)
    count_real(real, x)  # only to refuse sequences whose mean would be 0/0
    return x.masked_fill(~real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)


def every_token(
    x: Float[Tensor, "batch length d_model"], real: Bool[Tensor, "batch length"] | None = None
) -> Float[Tensor, "batch length d_model"]:
    """Keep a vector for each token, for a model that tags tokens."""
    return x
