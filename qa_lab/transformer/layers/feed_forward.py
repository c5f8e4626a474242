"""The position-wise feed-forward network, plain and gated, and what bends its middle layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_width
from qa_lab.transformer._precision import call_in_float32

Activation = Callable[[Tensor], Tensor]
"""Elementwise, as `torch.relu` and `gelu` are."""


def gelu(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""Keep each number in proportion to how many normal deviates lie below it.

    $$ gelu(x) = x \Phi(x) $$

    Phi is the distribution function of the standard normal. BERT has it.

    Paper: Hendrycks and Gimpel 2016, arXiv:1606.08415.

    Args:
        x: Numbers.

    Returns:
        Close to x where x is large, close to 0 where it is very negative, never below -0.17.
    """
    return F.gelu(x)


def gelu_tanh(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""Approximate `gelu` by a tanh, which was faster once.

    $$ gelu(x) \approx \frac{x}{2} (1 + \tanh(\sqrt{2/\pi} (x + 0.044715 x^3))) $$

    GPT-2 was trained with it, so its weights want this form and not the exact one.

    Paper: Hendrycks and Gimpel 2016, arXiv:1606.08415.

    Args:
        x: Numbers.

    Returns:
        Within 0.0005 of `gelu(x)`.
    """
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Transform every position alone: widen, bend, narrow.

    $$ FFN(x) = activation(x W_1 + b_1) W_2 + b_2 $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.3, eq. 2 (with the ReLU).

    Args:
        d_model: Width of the input and of the output, in features.
        d_ff: Width in between, in features. Usually 4 d_model.
        activation: Elementwise: `torch.relu`, `gelu` (BERT), `gelu_tanh` (GPT-2).
        bias: Whether the two layers have biases.

    Raises:
        ValueError: A width is less than 1.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Activation = torch.relu, *, bias: bool = True
    ) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model, d_ff=d_ff)
        self.d_model = d_model
        self.W_1 = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply the same two layers at every position.

        Args:
            x: One vector for each position.

        Returns:
            One vector for each position. It depends on no other position.

        Raises:
            TypeError: x holds whole numbers.
            ValueError: x is of another width.
        """
        check_width(x, self.d_model)
        return self.W_2(self.activation(self.W_1(x)))


class GatedFeedForward(nn.Module):
    r"""Transform every position alone: widen twice, let one copy gate the other, narrow.

    $$ FFN(x) = (activation(x W) \odot x V) W_2 $$

    The activation gives the variant its name: `torch.sigmoid` GLU, `torch.relu` ReGLU, `gelu`
    GEGLU, `F.silu` SwiGLU. Llama has SwiGLU; its files call W, V and W_2 gate, up and down.

    Paper: Shazeer 2020, arXiv:2002.05202, section 2.

    Args:
        d_model: Width of the input and of the output, in features.
        d_ff: Width in between, in features. `gated_d_ff` makes a fair one.
        activation: Elementwise, of the gate.
        bias: Whether the three layers have biases. The paper leaves them out.

    Raises:
        ValueError: A width is less than 1.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Activation = F.silu, *, bias: bool = False
    ) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model, d_ff=d_ff)
        self.d_model = d_model
        self.W = nn.Linear(d_model, d_ff, bias=bias)
        self.V = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply the same three layers at every position.

        Args:
            x: One vector for each position.

        Returns:
            One vector for each position. It depends on no other position.

        Raises:
            TypeError: x holds whole numbers.
            ValueError: x is of another width.
        """
        check_width(x, self.d_model)
        gate, value = self.activation(self.W(x)), self.V(x)
        if gate.dtype == torch.float16:  # a product of two numbers over 256 does not fit
            return call_in_float32(self.W_2, gate.float() * value.float()).to(gate.dtype)
        return self.W_2(gate * value)


def gated_d_ff(d_ff: int, *, multiple_of: int = 1) -> int:
    r"""Narrow a gated network until it has the parameters of a plain one.

    $$ 3 d_{model} d' = 2 d_{model} d_{ff}  ->  d' = \frac{2}{3} d_{ff} $$

    A gated network has three matrices where the plain one has two. Compared at equal d_ff, it would
    win by being half again as large.

    Paper: Shazeer 2020, arXiv:2002.05202, section 2.
    Departs: rounded up to a multiple that suits the hardware, as in Llama: 4 x 4096 becomes 11 008,
        a multiple of 256.

    Args:
        d_ff: Inner width of the plain network, in features.
        multiple_of: What the result must be a multiple of, in features.

    Returns:
        Inner width of the gated network, in features: two thirds of d_ff rounded down, then up to
        the next multiple.

    Raises:
        ValueError: A width is not positive, or so small that two thirds of it round to nothing.
    """
    if d_ff < 2 or multiple_of < 1:
        raise ValueError(
            f"d_ff = {d_ff} must be at least 2, and multiple_of = {multiple_of} at least 1."
        )
    return -(-(2 * d_ff // 3) // multiple_of) * multiple_of
