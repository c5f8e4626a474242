"""Causal convolution: a fixed window on the past, widened by dilation."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_vectors
from qa_lab.transformer.attention import real_lengths
from qa_lab.transformer.layers import TokenEmbedding, Unembedding


def causal_convolution(
    x: Float[Tensor, "batch length d_in"],
    W: Float[Tensor, "d_out d_in taps"],
    b: Float[Tensor, " d_out"],
    dilation: int = 1,
) -> Float[Tensor, "batch length d_out"]:
    r"""Mix each token with a few before it, `dilation` tokens apart.

    $$ y_t = b + \sum_{j=0}^{k-1} W_j x_{t - (k - 1 - j) dilation},  x_t = 0 for t < 0 $$

    W_j is `W[..., j]`, and k is the number of taps: the last tap is for the token itself.

    Paper: van den Oord et al. 2016, arXiv:1609.03499 (WaveNet); Bai et al. 2018, arXiv:1803.01271
        (TCN).

    Args:
        x: Tokens.
        W: The taps, oldest first.
        b: Bias.
        dilation: From one tap to the next, in tokens.

    Returns:
        One vector for each token. It depends on no later token.

    Raises:
        ValueError: x is not [batch length d_in], there are no tokens, or the dilation is less than
            1.
    """
    if not x.numel():
        raise ValueError(f"no token to convolve: x has shape {list(x.shape)}.")
    check_vectors(x, W.shape[1])
    if dilation < 1:
        raise ValueError(f"dilation = {dilation}: taps are at least 1 token apart.")
    past = (W.shape[-1] - 1) * dilation
    padded = F.pad(x.transpose(1, 2), (past, 0))
    return F.conv1d(padded, W, b, dilation=dilation).transpose(1, 2)


class CausalConvolution(nn.Module):
    r"""A causal convolution with learned taps; see `causal_convolution`.

    Departs: W starts at N(0, 2 / (taps d_in)), b at 0, which keeps the variance of what a ReLU
        lets through (He et al. 2015, arXiv:1502.01852).

    Args:
        d_in: Width of the input, in features.
        d_out: Width of the output, in features.
        taps: Tokens that take part, the token itself included.
        dilation: From one tap to the next, in tokens.

    Raises:
        ValueError: Any of them is less than 1.
    """

    def __init__(self, d_in: int, d_out: int, taps: int, dilation: int = 1) -> None:
        super().__init__()
        if min(d_in, d_out, taps, dilation) < 1:
            raise ValueError(
                "widths, taps and dilation are at least 1; got "
                f"d_in = {d_in}, d_out = {d_out}, taps = {taps}, dilation = {dilation}."
            )
        self.W = nn.Parameter(torch.randn(d_out, d_in, taps) * (2 / (taps * d_in)) ** 0.5)
        self.b = nn.Parameter(torch.zeros(d_out))
        self.dilation = dilation

    def forward(self, x: Float[Tensor, "batch length d_in"]) -> Float[Tensor, "batch length d_out"]:
        """Mix each token with those before it.

        Args:
            x: Tokens.

        Returns:
            One vector for each token. It depends on no later token.
        """
        return causal_convolution(x, self.W, self.b, self.dilation)


class ConvolutionBlock(nn.Module):
    r"""Two causal convolutions around which the stream flows on.

    $$ y = relu(x + relu(conv_2(relu(conv_1(x))))) $$

    Paper: Bai et al. 2018, arXiv:1803.01271 (TCN).
    Departs: no weight normalisation; and dropout drops single features, where the paper drops
        whole channels.

    Args:
        d_model: Width of the stream, in features.
        taps: Tokens that take part in each convolution.
        dilation: From one tap to the next, in tokens.
        dropout: Probability of dropping after each convolution, in [0, 1).
    """

    def __init__(self, d_model: int, taps: int, dilation: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv_1 = CausalConvolution(d_model, d_model, taps, dilation)
        self.conv_2 = CausalConvolution(d_model, d_model, taps, dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length d_model"]:
        """Pass the stream through the block.

        Args:
            x: Tokens.

        Returns:
            Tokens, >= 0. Each depends on no later token.
        """
        inner = self.dropout(torch.relu(self.conv_1(x)))
        return torch.relu(x + self.dropout(torch.relu(self.conv_2(inner))))


def receptive_field(taps: int, dilations: list[int]) -> int:
    r"""Count the tokens that a stack of blocks can see, the last one included.

    $$ R = 1 + 2 (k - 1) \sum_i dilation_i $$

    Each block holds two convolutions of k taps.

    Paper: Bai et al. 2018, arXiv:1803.01271.

    Args:
        taps: k, of every convolution.
        dilations: Of each block, in tokens.

    Returns:
        The receptive field, in tokens. The output at t depends on t - R + 1 and on nothing earlier.

    Raises:
        ValueError: A convolution has no tap.
    """
    check_at_least_one(taps=taps)
    return 1 + 2 * (taps - 1) * sum(dilations)


class ConvolutionLM(nn.Module):
    """The convolutional language model: all steps at once, and a past of fixed length.

    $$ logits = blocks(embed(ids)) W_U^T,  dilation_i = growth^i $$

    Paper: Bai et al. 2018, arXiv:1803.01271 (TCN).
    Departs: see `ConvolutionBlock`.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_layers: Blocks of two convolutions.
        taps: Tokens that take part in each convolution.
        growth: From one block's dilation to the next's, a factor. 1: no dilation anywhere.
        tied: Whether the embedding and W_U are one matrix.
        dropout: Probability of dropping, in [0, 1).

    Raises:
        ValueError: n_layers, taps or growth is less than 1.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_layers: int,
        *,
        taps: int = 3,
        growth: int = 2,
        tied: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if n_layers < 1 or growth < 1:
            raise ValueError(f"at least 1 is needed; got {n_layers = }, {growth = }.")
        dilations = [growth**layer for layer in range(n_layers)]
        self.receptive_field = receptive_field(taps, dilations)
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(ConvolutionBlock(d_model, taps, dilation, dropout=dropout) for dilation in dilations)
        )
        self.unembedding = Unembedding(
            d_model, vocab_size, tied_to=self.embedding if tied else None
        )

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Predict, at each position, the token after it.

        Args:
            ids: Token ids, padded on the right.
            real: True at real tokens. None: all real.

        Returns:
            Logits. Position t depends on the last `receptive_field` of positions 0..t only.

        Raises:
            ValueError: An id lies outside the vocabulary, or padding is not on the right.
        """
        real_lengths(real, ids)  # only to refuse what would be read as text
        return self.unembedding(self.blocks(self.dropout(self.embedding(ids))))
