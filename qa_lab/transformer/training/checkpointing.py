"""Activation checkpointing: forget a block's activations, compute them again when needed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(block: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Run a block and keep only its inputs; the backward pass runs it again.

    $$ memory = inputs,  not  inputs + activations;  time = 2 forward + backward $$

    The random state is put back for the second run, so dropout drops the same things. It is the
    plain call when no gradient is wanted.

    Paper: Chen et al. 2016, arXiv:1604.06174, section 4.1, algorithm 1.

    Args:
        block: From tensors to a tensor, the same whenever it is run on the same inputs: it writes
            nowhere.
        *inputs: Its inputs: tensors or None, if gradients are wanted.

    Returns:
        What the block returns. Gradients are those of the plain call.

    Raises:
        TypeError: Gradients are wanted, and an input is neither a tensor nor None. (A cache, say,
            would be written twice.)
    """
    if not torch.is_grad_enabled():
        return block(*inputs)
    for x in inputs:
        if not isinstance(x, Tensor | None):
            raise TypeError(
                f"a block run twice takes tensors or None; got {type(x).__name__}. "
                "What a block writes to would be written twice."
            )
    return checkpoint(block, *inputs, use_reentrant=False)


class RecomputedBlocks(nn.ModuleList):
    """The same blocks under the same parameter names; iterating yields each one as `recompute`.

    Saved weights fit with and without it. An index gives the block itself, a loop gives functions
    to call.

    Args:
        blocks: Of a stack, in order. They are shared, not copied.

    Raises:
        ValueError: There is no block, or a block keeps running statistics, which running it twice
            would move twice.
    """

    def __init__(self, blocks: Sequence[nn.Module] | nn.ModuleList) -> None:
        if not len(blocks):
            raise ValueError("there is no block to recompute: the stack is empty.")
        blocks = [blocks[i] for i in range(len(blocks))]
        running = [name for b in blocks for name, _ in b.named_buffers() if "running_" in name]
        if running:
            raise ValueError(
                f"running statistics ({running[0]}, ...) would be moved twice for each batch; "
                "use a norm without them, such as LayerNorm."
            )
        super().__init__(blocks)

    def __iter__(self) -> Iterator[Callable[..., Tensor]]:
        """Yield, block by block, what to call on the stream."""
        return (partial(recompute, block) for block in super().__iter__())


def checkpoint_blocks(stack: nn.Module) -> None:
    r"""Make a stack recompute the activations of its blocks in the backward pass.

        checkpoint_blocks(model.stack)

    $$ memory = n * stream + activations of 1 block,  not  n * activations $$

    Paper: Chen et al. 2016, arXiv:1604.06174, sections 4.1 and 4.3.
    Departs: one block is one segment, where the paper balances about sqrt(n) segments: a block's
        activations are many times as large as the stream between blocks, so this is near the best
        for the depths in use.

    Args:
        stack: Holds its blocks in `blocks` and calls them one after the other, as `Encoder` and
            `Decoder` do. Changed in place: its parameters, their names and its results stay.

    Raises:
        TypeError: The stack has no list of blocks.
        ValueError: As for `RecomputedBlocks`.
    """
    blocks = getattr(stack, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(
            f"{type(stack).__name__} has no nn.ModuleList called blocks; give the Encoder or "
            "Decoder inside the model."
        )
    stack.blocks = RecomputedBlocks(blocks)
