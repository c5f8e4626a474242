"""Blocks on top of each other: the encoder and the decoder."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, values_are_checked
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention import Cache, LayerCache
from qa_lab.transformer.layers import LayerNorm
from qa_lab.transformer.models.blocks import (
    DecoderBlock,
    EncoderBlock,
    Residual,
    of_tokens,
    post_norm,
)


def needs_final_norm(residual: Residual, final_norm: bool | None) -> bool:
    """Decide whether a stack ends in a norm, which only one that leaves its stream as it is needs.

    Paper: Xiong et al. 2020, arXiv:2002.04745, table 1 (its last row is the final norm of
        pre-norm).

    Args:
        residual: How the blocks are wired.
        final_norm: What was asked for. None: as the wiring says, in its own `final_norm`.

    Returns:
        The answer: True for `pre_norm` and False for `post_norm`, if nothing was asked for.

    Raises:
        ValueError: Nothing was asked for, and the wiring does not say.
    """
    if final_norm is None:
        final_norm = getattr(residual, "final_norm", None)
    if final_norm is None:
        raise ValueError(
            "this residual does not say whether it leaves the stream normalised: give "
            "final_norm=True, as pre-norm needs, or final_norm=False."
        )
    return final_norm


def each_block(
    blocks: nn.ModuleList, cache: Cache | None
) -> Iterator[tuple[Callable[..., Tensor], LayerCache | None]]:
    """Hand out the blocks with what each remembers.

    All of them are given the same masks, so the first reads their values and the others do not.

    Raises:
        ValueError: The cache was made for another number of layers.
    """
    layers = [None] * len(blocks) if cache is None else cache.layers
    if len(layers) != len(blocks):
        raise ValueError(f"a cache of {len(layers)} layers for {len(blocks)} blocks.")
    for number, (block, layer) in enumerate(zip(blocks, layers, strict=True)):
        yield (block if number == 0 else partial(trusting, block)), layer


def trusting(block: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Run a block on masks whose values have been checked."""
    if torch.compiler.is_compiling():  # nothing is checked then
        return block(*inputs)
    with values_are_checked():
        return block(*inputs)


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
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, real)`.
        final_norm: Whether the stack ends in a norm. None: as `residual` says, True for `pre_norm`
            and False for `post_norm`.
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
        final_norm: bool | None = None,
        **block: object,
    ) -> None:
        super().__init__()
        check_at_least_one(n_layers=n_layers)
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model, n_heads, d_ff, residual=residual, norm=norm, **block)
            for _ in range(n_layers)
        )
        self.norm = norm(d_model) if needs_final_norm(residual, final_norm) else None
        register_once(self)  # blocks may have been given one bias or one rotation

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        real: Bool[Tensor, "batch total"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Pass the stream through every block.

        Args:
            x: The residual stream.
            real: True at real tokens, those that the cache has seen included. None: all real.
            cache: What the blocks remember of the positions before x. None: x is all.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            ValueError: `real` does not cover all positions, or the cache has other layers.
        """
        for run, layer in each_block(self.blocks, cache):
            x = run(x, real, layer)
        return x if self.norm is None else of_tokens(self.norm, real)(x)


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
        norm: Makes a norm, `norm(d_model)`, called as `norm(x, real)`.
        final_norm: Whether the stack ends in a norm. None: as `residual` says, True for `pre_norm`
            and False for `post_norm`.
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
        final_norm: bool | None = None,
        **block: object,
    ) -> None:
        super().__init__()
        check_at_least_one(n_layers=n_layers)
        self.blocks = nn.ModuleList(
            DecoderBlock(d_model, n_heads, d_ff, residual=residual, norm=norm, **block)
            for _ in range(n_layers)
        )
        self.norm = norm(d_model) if needs_final_norm(residual, final_norm) else None
        register_once(self)  # blocks may have been given one bias or one rotation

    def forward(
        self,
        y: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch total"] | None = None,
        memory_real: Bool[Tensor, "batch source"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Pass the stream through every block.

        Args:
            y: The residual stream of the target.
            memory: The encoder's output.
            real: True at real target tokens, those that the cache has seen included. None: all
                real.
            memory_real: True at real source tokens. None: all real.
            cache: What the blocks remember of the positions before y, and of the memory. None: y is
                all.

        Returns:
            The residual stream. At padded positions its values mean nothing.

        Raises:
            ValueError: `real` does not cover all positions, or the cache has other layers.
        """
        for run, layer in each_block(self.blocks, cache):
            y = run(y, memory, real, memory_real, layer)
        return y if self.norm is None else of_tokens(self.norm, real)(y)
