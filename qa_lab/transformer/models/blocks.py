"""One layer: sub-layers, and how the residual stream passes around them.

What a block is made of is passed in: `residual` is how a sub-layer, a norm and the stream are
wired; `norm(d_model)`, `attention(d_model, n_heads)` and `feed_forward(d_model, d_ff)` make the
parts; `look(length)` makes the mask of self-attention. `functools.partial(MultiHeadAttention,
attend=DotProductAttention(scale=1.0))` is a part with one thing changed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_token_mask, check_vectors
from qa_lab.transformer.attention import (
    KVCache,
    LayerCache,
    MultiHeadAttention,
    causal_mask,
    full_mask,
    over_keys,
)
from qa_lab.transformer.layers import FeedForward, LayerNorm

Stream = Float[Tensor, "batch length d_model"]
Residual = Callable[..., Tensor]
"""From the stream, a sub-layer, a norm and perhaps a memory to the stream, as `post_norm` and
`pre_norm` do. It may say in `final_norm` whether a stack of such blocks needs a norm at its end."""
Look = Callable[[int, torch.device], Tensor]
"""From a length to the [query key] mask of self-attention, as `causal_mask` and `full_mask` do."""


def post_norm(
    x: Stream,
    sublayer: Callable[..., Stream],
    norm: Callable[[Stream], Stream],
    *memory: Float[Tensor, "batch key d_model"],
) -> Stream:
    """Add what the sub-layer says, then normalise the stream.

    $$ y = norm(x + sublayer(x, memory)) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.

    Args:
        x: The residual stream.
        sublayer: Attention or feed-forward, dropout included.
        norm: Of the stream.
        *memory: Another stream that the sub-layer looks at, if it does.

    Returns:
        The stream, normalised: no path goes around the norm.
    """
    return norm(x + sublayer(x, *memory))


def pre_norm(
    x: Stream,
    sublayer: Callable[..., Stream],
    norm: Callable[[Stream], Stream],
    *memory: Float[Tensor, "batch key d_model"],
) -> Stream:
    """Show the sub-layer a normalised copy, and add what it says to the stream as it was.

    $$ y = x + sublayer(norm(x), norm(memory)) $$

    Paper: Xiong et al. 2020, arXiv:2002.04745, table 1.

    Args:
        x: The residual stream.
        sublayer: Attention or feed-forward, dropout included.
        norm: Of what the sub-layer sees.
        *memory: Another stream that the sub-layer looks at, if it does.

    Returns:
        The stream, not normalised: the identity path is free from end to end.
    """
    return x + sublayer(norm(x), *map(norm, memory))


post_norm.final_norm = False
pre_norm.final_norm = True


def self_mask(
    look: Look,
    x: Float[Tensor, "batch query d_model"],
    real: Bool[Tensor, "batch total"] | None,
    own: KVCache | None = None,
    memory: Float[Tensor, "batch total d_model"] | None = None,
) -> Bool[Tensor, "#batch 1 #query key"] | Bool[Tensor, "query key"] | None:
    """Combine where a position may look with which positions hold a token.

    Args:
        look: Makes the [query key] mask of a whole sequence.
        x: What asks: the last positions of the sequence.
        real: True at real tokens, over all positions seen, x's included. None: all real.
        own: Keys of the positions before x. None: there are none.
        memory: What is asked instead of x, over all positions. None: x is.

    Returns:
        The mask over the keys that are kept and x's own. None: nothing is hidden. A position of
        padding that would see nothing but padding looks where it would without the token mask.

    Raises:
        TypeError: `real` is not Boolean.
        ValueError: `real` does not cover all positions seen, or is of another batch.
    """
    seen, kept = (0, 0) if own is None else (own.seen, own.kept)
    queries = x.shape[1]
    total, keys = seen + queries, kept + queries
    if memory is not None:
        total = keys = memory.shape[1]
        if queries > total:
            raise ValueError(f"{queries} positions cannot be the last of a memory of {total}.")
    if real is not None:
        if real.shape[-1] != total:
            raise ValueError(f"real covers {real.shape[-1]} positions; {total} have been seen.")
        check_token_mask(real[..., -queries:], x, "real")
    tokens = None if real is None else over_keys(real[:, -keys:])
    # From an encoder nothing is hidden, nor from the last position of a decoder; and the fused path
    # is faster without a mask than with one that hides nothing.
    if look is full_mask or (look is causal_mask and queries == 1):
        return tokens
    mask = look(total, x.device)[..., -queries:, -keys:]
    if tokens is None:
        return mask
    both = mask & tokens
    answers = both.any(-1, keepdim=True) | real[:, None, -queries:, None]
    return torch.where(answers, both, mask)


def of_tokens(
    norm: nn.Module, real: Bool[Tensor, "batch total"] | None
) -> Callable[[Float[Tensor, "batch length d_model"]], Float[Tensor, "batch length d_model"]]:
    """Tell a norm which positions of a stream, the last of those seen, hold a token."""
    return norm if real is None else lambda x: norm(x, real[:, -x.shape[1] :])


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward, each on the residual stream.

    $$ x <- residual(x, dropout . attention),  x <- residual(x, dropout . feed_forward) $$

    With `look=causal_mask` it is the layer of a decoder-only language model.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.1; dropout, section 5.4, on what a
        sub-layer says before it is added.

    Args:
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward network, in features.
        residual: `post_norm`, `pre_norm`, or another wiring.
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, real)`.
        attention: Makes the attention, `attention(d_model, n_heads)`.
        feed_forward: Makes the feed-forward network, `feed_forward(d_model, d_ff)`.
        look: Makes the [query key] mask of self-attention, `look(length, device)`.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        residual: Residual = post_norm,
        norm: Callable[[int], nn.Module] = LayerNorm,
        attention: Callable[[int, int], nn.Module] = MultiHeadAttention,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
        look: Look = full_mask,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.look = look
        self.d_model = d_model
        self.attention = attention(d_model, n_heads)
        self.attention_norm = norm(d_model)
        self.feed_forward = feed_forward(d_model, d_ff)
        self.feed_forward_norm = norm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch total"] | None = None,
        cache: LayerCache | None = None,
        memory: Float[Tensor, "batch total d_model"] | None = None,
        *,
        look: Look | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Pass the stream through both sub-layers.

        Args:
            x: The residual stream.
            real: True at real tokens, those that the cache has seen included. None: all real.
            cache: Keys and values of the positions before x; x's are appended. None: x is all.
            memory: What attention looks at instead of x: the stream of the same sequence, of which
                x's positions are the last, as an earlier segment or another reading has left it.
                None: x itself.
            look: Where x may look this time. None: as the block was made.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            TypeError: `real` is not Boolean, or x holds whole numbers.
            ValueError: x is not [batch length d_model], holds no token, or `real` does not cover
                all positions.
        """
        check_vectors(x, self.d_model)
        own = None if cache is None else cache.own
        keep = self_mask(self.look if look is None else look, x, real, own, memory)
        asked = () if memory is None else (memory,)
        x = self.residual(
            x,
            lambda h, *m: self.dropout(self.attention(h, *m, keep=keep, cache=own)),
            of_tokens(self.attention_norm, real),
            *asked,
        )
        return self.residual(
            x,
            lambda h: self.dropout(self.feed_forward(h)),
            of_tokens(self.feed_forward_norm, real),
        )


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to the encoder's memory, then feed-forward.

    $$ y <- residual(y, dropout . self_attention),
       y <- residual(y, dropout . cross_attention(., memory)),
       y <- residual(y, dropout . feed_forward) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, sections 3.1 and 3.2.3; dropout, section 5.4.

    Args:
        d_model: Width of the stream and of the memory, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward network, in features.
        residual: `post_norm`, `pre_norm`, or another wiring.
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, real)`.
        attention: Makes the self-attention, `attention(d_model, n_heads)`.
        cross_attention: Makes the attention to the memory. None: as `attention`, without what
            belongs to one sequence: see `MultiHeadAttention.without_positions`.
        feed_forward: Makes the feed-forward network, `feed_forward(d_model, d_ff)`.
        look: Makes the [query key] mask of self-attention, `look(length, device)`.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        residual: Residual = post_norm,
        norm: Callable[[int], nn.Module] = LayerNorm,
        attention: Callable[[int, int], nn.Module] = MultiHeadAttention,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
        cross_attention: Callable[[int, int], nn.Module] | None = None,
        look: Look = causal_mask,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.look = look
        self.d_model = d_model
        self.self_attention = attention(d_model, n_heads)
        self.self_attention_norm = norm(d_model)
        if cross_attention is None:
            self.cross_attention = attention(d_model, n_heads)
            if hasattr(self.cross_attention, "without_positions"):
                self.cross_attention.without_positions()
        else:
            self.cross_attention = cross_attention(d_model, n_heads)
        self.cross_attention_norm = norm(d_model)
        self.feed_forward = feed_forward(d_model, d_ff)
        self.feed_forward_norm = norm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        y: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch total"] | None = None,
        memory_real: Bool[Tensor, "batch source"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Pass the stream through the three sub-layers.

        Args:
            y: The residual stream of the target.
            memory: The encoder's output.
            real: True at real target tokens, those that the cache has seen included. None: all
                real.
            memory_real: True at real source tokens. None: all real.
            cache: Keys and values of the positions before y, and of the memory, which it reads
                once. None: y is all.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            TypeError: A mask is not Boolean, or y or the memory holds whole numbers.
            ValueError: y or the memory is not [batch length d_model] or holds no token, they are of
                different batches, or a mask does not cover all positions.
        """
        check_vectors(y, self.d_model, "y")
        if memory_real is not None:
            check_token_mask(memory_real, memory, "memory_real", "memory")
        own, read = (None, None) if cache is None else (cache.own, cache.memory)
        keep = self_mask(self.look, y, real, own)
        keep_memory = None if memory_real is None else over_keys(memory_real)
        y = self.residual(
            y,
            lambda h: self.dropout(self.self_attention(h, keep=keep, cache=own)),
            of_tokens(self.self_attention_norm, real),
        )
        y = self.residual(
            y,
            lambda h: self.dropout(self.cross_attention(h, memory, keep_memory, read)),
            of_tokens(self.cross_attention_norm, real),
        )
        return self.residual(
            y,
            lambda h: self.dropout(self.feed_forward(h)),
            of_tokens(self.feed_forward_norm, real),
        )
