"""Blocks on top of each other: the encoder and the decoder."""

from collections.abc import Callable, Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention import Cache, LayerCache
from qa_lab.transformer.layers import LayerNorm
from qa_lab.transformer.models.blocks import (
    DecoderBlock,
    EncoderBlock,
    Residual,
    post_norm,
    pre_norm,
)


def final_norm(
    residual: Residual, norm: Callable[[int], nn.Module], d_model: int
) -> nn.Module | None:
    """Make the norm after the last block, which only a pre-norm stack needs.

    Paper: Xiong et al. 2020, arXiv:2002.04745, table 1 (its last row is the final norm of
        pre-norm).

    Args:
        residual: How the blocks are wired.
        norm: Makes a norm, `norm(d_model)`.
        d_model: Width of the stream, in features.

    Returns:
        A norm for `pre_norm`; None for any other wiring, as post-norm leaves the stream normalised.
    """
    return norm(d_model) if residual is pre_norm else None


def layers_of(cache: Cache | None, blocks: nn.ModuleList) -> Sequence[LayerCache] | Sequence[None]:
    """Hand out a cache layer by layer, or None to every layer.

    Raises:
        ValueError: The cache was made for another number of layers.
    """
    if cache is None:
        return [None] * len(blocks)
    if len(cache.layers) != len(blocks):
        raise ValueError(f"a cache of {len(cache.layers)} layers for {len(blocks)} blocks.")
    return cache.layers


class Encoder(nn.Module):
    """A stack of encoder blocks.

    $$ x <- block_n(... block_1(x)),  then the final norm if pre-norm $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.

    Args:
        d_model: Width of the stream, in features.
        n_heads: Attention heads of a block.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        residual: `post_norm`, `pre_norm`, or another wiring.
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, keep)`.
        **block: Further arguments of `EncoderBlock`.

    Raises:
        ValueError: There is no block, or as `EncoderBlock`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        residual: Residual = post_norm,
        norm: Callable[[int], nn.Module] = LayerNorm,
        **block: object,
    ) -> None:
        super().__init__()
        check_at_least_one(n_layers=n_layers)
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model, n_heads, d_ff, residual=residual, norm=norm, **block)
            for _ in range(n_layers)
        )
        self.norm = final_norm(residual, norm, d_model)
        register_once(self)  # blocks may have been given one bias or one rotation

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        keep: Bool[Tensor, "batch total"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Pass the stream through every block.

        Args:
            x: The residual stream.
            keep: True at real tokens, those that the cache has seen included. None: all real.
            cache: What the blocks remember of the positions before x. None: x is all.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            ValueError: `keep` does not cover all positions, or the cache has other layers.
        """
        for block, layer in zip(self.blocks, layers_of(cache, self.blocks), strict=True):
            x = block(x, keep, layer)
        keep = None if keep is None else keep[:, -x.shape[1] :]
        return x if self.norm is None else self.norm(x, keep)


class Decoder(nn.Module):
    """A stack of decoder blocks, all of which look at the same memory.

    $$ y <- block_n(... block_1(y, memory) ..., memory),  then the final norm if pre-norm $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.

    Args:
        d_model: Width of the stream and of the memory, in features.
        n_heads: Attention heads of a block.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        residual: `post_norm`, `pre_norm`, or another wiring.
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, keep)`.
        **block: Further arguments of `DecoderBlock`.

    Raises:
        ValueError: There is no block, or as `DecoderBlock`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        residual: Residual = post_norm,
        norm: Callable[[int], nn.Module] = LayerNorm,
        **block: object,
    ) -> None:
        super().__init__()
        check_at_least_one(n_layers=n_layers)
        self.blocks = nn.ModuleList(
            DecoderBlock(d_model, n_heads, d_ff, residual=residual, norm=norm, **block)
            for _ in range(n_layers)
        )
        self.norm = final_norm(residual, norm, d_model)
        register_once(self)  # blocks may have been given one bias or one rotation

    def forward(
        self,
        y: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        keep: Bool[Tensor, "batch total"] | None = None,
        memory_keep: Bool[Tensor, "batch source"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Pass the stream through every block.

        Args:
            y: The residual stream of the target.
            memory: The encoder's output.
            keep: True at real target tokens, those that the cache has seen included. None: all
                real.
            memory_keep: True at real source tokens. None: all real.
            cache: What the blocks remember of the positions before y, and of the memory. None: y is
                all.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            ValueError: `keep` does not cover all positions, or the cache has other layers.
        """
        for block, layer in zip(self.blocks, layers_of(cache, self.blocks), strict=True):
            y = block(y, memory, keep, memory_keep, layer)
        keep = None if keep is None else keep[:, -y.shape[1] :]
        return y if self.norm is None else self.norm(y, keep)
