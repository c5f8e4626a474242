"""The position-wise feed-forward network."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Transform every position alone: widen, bend, narrow.

    $$ FFN(x) = activation(x W_1 + b_1) W_2 + b_2 $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.3, eq. 2 (with the ReLU).

    Args:
        d_model: Width of the input and of the output, in features.
        d_ff: Width in between, in features. Usually 4 d_model.
        activation: Elementwise.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor] = torch.relu
    ) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Apply the same two layers at every position.

        Args:
            x: One vector for each position.

        Returns:
            One vector for each position. It depends on no other position.
        """
        return self.W_2(self.activation(self.W_1(x)))
