"""Models that have a name: each a choice of parts, at any size.

A preset *is* its model: with the same weights it gives the same logits. The constants are the
published sizes, `gpt2(**GPT2_SMALL)`.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from qa_lab.transformer.attention import DotProductAttention, MultiHeadAttention, causal_mask
from qa_lab.transformer.attention.multi_head import check_heads
from qa_lab.transformer.layers import (
    FeedForward,
    GatedFeedForward,
    RMSNorm,
    TokenEmbedding,
    Unembedding,
    gelu_tanh,
)
from qa_lab.transformer.models.bert import Bert
from qa_lab.transformer.models.blocks import EncoderBlock, Look, pre_norm
from qa_lab.transformer.models.whole import DecoderOnly, Transformer
from qa_lab.transformer.positions import (
    LearnedPositions,
    Rotary,
    T5Bias,
    no_positions,
    rotate_halves,
)

Model = TypeVar("Model", bound=nn.Module)
UNBIASED = partial(FeedForward, bias=False)
"""Makes the feed-forward network of T5."""

ORIGINAL_BASE = {"vocab_size": 37_000, "d_model": 512, "n_heads": 8, "d_ff": 2048, "n_layers": 6}
"""Vaswani et al. 2017, arXiv:1706.03762, table 3 and section 5.1: 63 082 496 parameters here, and
63 045 632 without the biases of attention, which the formulas do not have; the table says 65
million."""
BERT_BASE = {
    "vocab_size": 30_522,
    "d_model": 768,
    "n_heads": 12,
    "d_ff": 3072,
    "n_layers": 12,
    "max_length": 512,
}
"""Devlin et al. 2018, arXiv:1810.04805, section 3: 109 482 240 parameters, the pooler included."""
GPT2_SMALL = {
    "vocab_size": 50_257,
    "d_model": 768,
    "n_heads": 12,
    "d_ff": 3072,
    "n_layers": 12,
    "max_length": 1024,
}
"""Radford et al. 2019, the smallest model: 124 439 808 parameters."""
T5_SMALL = {
    "vocab_size": 32_128,
    "d_model": 512,
    "n_heads": 8,
    "d_ff": 2048,
    "n_layers": 6,
    "d_k": 64,
}
"""Raffel et al. 2019, arXiv:1910.10683, section 3.7 (Small): 60 506 624 parameters, with the
vocabulary padded as published."""
LLAMA_7B = {
    "vocab_size": 32_000,
    "d_model": 4096,
    "n_heads": 32,
    "d_ff": 11_008,
    "n_layers": 32,
}
"""Touvron et al. 2023, arXiv:2302.13971, table 2: 6 738 415 616 parameters."""


def original(
    vocab_size: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    *,
    dropout: float = 0.1,
    attention_bias: bool = True,
) -> Transformer:
    """Make the encoder-decoder of "Attention is all you need".

    Post-norm, ReLU, sinusoidal positions, one matrix for both embeddings and the logits, scaled by
    sqrt(d_model).

    Paper: Vaswani et al. 2017, arXiv:1706.03762, sections 3 and 5.4.
    Departs: linear layers start as PyTorch's do, embeddings as `TokenEmbedding` does; the paper is
        silent. No label smoothing here: it is in `losses`.

    Args:
        vocab_size: Tokens that source and target share.
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks in the encoder, and again in the decoder.
        dropout: Probability of dropping.
        attention_bias: Whether the projections of attention have biases, as in PyTorch; the
            paper's formulas have none.

    Returns:
        The model, in training mode.
    """
    attention = partial(MultiHeadAttention, bias=attention_bias)
    return Transformer(
        vocab_size, d_model, n_heads, d_ff, n_layers, dropout=dropout, attention=attention
    )


def bert(
    vocab_size: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    *,
    max_length: int,
    dropout: float = 0.1,
) -> Bert:
    """Make BERT: a post-norm encoder with GELU, learned positions and segments.

    Paper: Devlin et al. 2018, arXiv:1810.04805, section 3 and appendix A.2; post-norm and the
        biases, as in its published code.
    Departs: no dropout on attention weights; initial weights are normal, where that code cuts the
        normal distribution off at two standard deviations.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        max_length: Positions in the table, in tokens.
        dropout: Probability of dropping.

    Returns:
        The model, in training mode, its weights drawn from N(0, 0.02^2).
    """
    model = Bert(
        vocab_size, d_model, n_heads, d_ff, n_layers, max_length=max_length, dropout=dropout
    )
    return start_small(model)


def gpt2(
    vocab_size: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    *,
    max_length: int,
    dropout: float = 0.1,
) -> DecoderOnly:
    """Make GPT-2: a pre-norm language model with GELU and learned positions.

    Paper: Radford et al. 2018 (GPT), section 4.1; Radford et al. 2019 (GPT-2), section 2.3:
        pre-norm, a final norm, and residual projections that start smaller by 1/sqrt(sub-layers).
    Departs: no dropout on attention weights; positions start with a standard deviation of 0.02,
        as in Hugging Face's code, where the published code has 0.01.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        max_length: Positions in the table, in tokens.
        dropout: Probability of dropping.

    Returns:
        The model, in training mode, its weights drawn as `start_small` does.
    """
    model = DecoderOnly(
        vocab_size,
        d_model,
        n_heads,
        d_ff,
        n_layers,
        embed=partial(TokenEmbedding, factor=1.0),
        positions=LearnedPositions(max_length, d_model),
        feed_forward=partial(FeedForward, activation=gelu_tanh),
        residual=pre_norm,
        dropout=dropout,
    )
    return start_small(model, residual_factor=(2 * n_layers) ** -0.5)


def t5(
    vocab_size: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    *,
    d_k: int | None = None,
    feed_forward: Callable[[int, int], nn.Module] = UNBIASED,
    tied: bool = True,
    eps: float = 1e-6,
    dropout: float = 0.1,
) -> Transformer:
    """Make T5: a pre-norm encoder-decoder with RMSNorm and a learned bias for every distance.

    No biases in its layers, no scale on its scores: the initial weights were to see to it. Encoder
    and decoder have a table of distances each, which all their layers share; cross-attention has
    none. The table of the encoder tells past from future.

    Paper: Raffel et al. 2019, arXiv:1910.10683, section 2.1; the scale of the logits where W_U is
        tied, as in its published code.
    Departs: no dropout on attention weights and inside the feed-forward network; weights start at
        N(0, 0.02^2), where that code has a standard deviation for each kind of matrix.

    Args:
        vocab_size: Tokens that source and target share.
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks in the encoder, and again in the decoder.
        d_k: Width of a query, key and value, per head. None: d_model / n_heads.
        feed_forward: Makes the feed-forward network. For version 1.1:
            `partial(GatedFeedForward, activation=gelu_tanh)`, and tied=False.
        tied: Whether the embeddings and W_U are one matrix. The embeddings are, either way.
        eps: Of RMSNorm, in the units of the stream squared.
        dropout: Probability of dropping.

    Returns:
        The model, in training mode, its weights drawn from N(0, 0.02^2).
    """

    def attention(bidirectional: bool) -> Callable[[int, int], MultiHeadAttention]:
        return partial(
            MultiHeadAttention,
            d_k=d_k,
            bias=False,
            attend=DotProductAttention(scale=1.0),
            score_bias=T5Bias(n_heads, bidirectional=bidirectional),
        )

    embedding = TokenEmbedding(vocab_size, d_model, factor=1.0)
    model = Transformer(
        vocab_size,
        d_model,
        n_heads,
        d_ff,
        n_layers,
        embed=lambda *_: embedding,
        unembed=partial(Unembedding, factor=d_model**-0.5 if tied else 1.0),
        positions=no_positions,
        norm=partial(RMSNorm, eps=eps),
        feed_forward=feed_forward,
        residual=pre_norm,
        encoder={"attention": attention(bidirectional=True)},
        decoder={"attention": attention(bidirectional=False)},
        tied=tied,
        dropout=dropout,
    )
    return start_small(model)


def llama(
    vocab_size: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    *,
    n_kv_heads: int | None = None,
    base: float = 10_000.0,
    eps: float = 1e-6,
    tied: bool = False,
    look: Look = causal_mask,
) -> DecoderOnly:
    """Make Llama: a pre-norm language model with RMSNorm, SwiGLU and rotary positions.

    No biases, no dropout; grouped key and value heads in the larger models of Llama 2 and in all of
    Llama 3.

    Paper: Touvron et al. 2023, arXiv:2302.13971, section 2.2; grouped heads, Touvron et al. 2023,
        arXiv:2307.09288, section 2.2.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_heads: Attention heads that ask.
        d_ff: Inner width of the feed-forward networks, in features; about 8/3 d_model.
        n_layers: Blocks.
        n_kv_heads: Heads that are asked. None: n_heads.
        base: Of the rotary frequencies, dimensionless. Llama 3: 500 000.
        eps: Of RMSNorm, in the units of the stream squared. Llama 2 and 3: 1e-5.
        tied: Whether the embedding and W_U are one matrix, as in the small models of Llama 3.2.
        look: Where a position may look. Mistral: `partial(window_mask, window=4096)`.

    Returns:
        The model, in training mode, its weights drawn from N(0, 0.02^2).

    Raises:
        ValueError: A size is less than 1, n_heads does not divide d_model or leaves each head an
            odd width, or n_kv_heads does not divide n_heads.
    """
    check_heads(d_model, n_heads, n_heads if n_kv_heads is None else n_kv_heads, None)
    attention = partial(
        MultiHeadAttention,
        n_kv_heads=n_kv_heads,
        bias=False,
        # One table of angles for all layers. Halves, as the published weights are stored.
        rotate=Rotary(d_model // n_heads, base=base, pairing=rotate_halves),
    )
    model = DecoderOnly(
        vocab_size,
        d_model,
        n_heads,
        d_ff,
        n_layers,
        embed=partial(TokenEmbedding, factor=1.0),
        positions=no_positions,
        attention=attention,
        norm=partial(RMSNorm, eps=eps),
        feed_forward=GatedFeedForward,
        residual=pre_norm,
        look=look,
        tied=tied,
    )
    return start_small(model)


@torch.no_grad()
def start_small(model: Model, *, std: float = 0.02, residual_factor: float = 1.0) -> Model:
    r"""Draw every matrix from a narrow normal distribution and set every bias to 0.

    $$ W \sim N(0, std^2),  W_O, W_2 \sim N(0, (residual_factor * std)^2) $$

    Paper: Radford et al. 2019 (GPT-2), section 2.3 for the factor, 1/sqrt(2 n_layers).

    Args:
        model: Changed in place. Gains of norms stay 1.
        std: Dimensionless standard deviation.
        residual_factor: Dimensionless, on the matrices of every `EncoderBlock` that write to the
            residual stream.

    Returns:
        The same model.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=std)
        elif name.endswith("bias"):
            parameter.zero_()
    for block in model.modules():
        if isinstance(block, EncoderBlock):
            block.attention.W_O.weight.mul_(residual_factor)
            block.feed_forward.W_2.weight.mul_(residual_factor)
    return model
