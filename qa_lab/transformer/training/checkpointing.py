"""Activation checkpointing: forget a block's activations, compute them again when needed."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(block: Callable[..., Tensor], *inputs: object, **named: object) -> Tensor:
    """Run a block and keep only its inputs; the backward pass runs it again.

    $$ memory = inputs,  not  inputs + activations;  time = 2 forward + backward $$

    The random state is put back for the second run, so dropout drops the same things. It is the
    plain call when no gradient is wanted.

    Paper: Chen et al. 2016, arXiv:1604.06174, section 4.1, algorithm 1.

    Args:
        block: From tensors to a tensor, the same whenever it is run on the same inputs: it writes
            nowhere.
        *inputs: Its inputs: tensors, functions or None, if gradients are wanted.
        **named: Further ones, by name.

    Returns:
        What the block returns. Gradients are those of the plain call.

    Raises:
        TypeError: Gradients are wanted, and an input is of another kind. (A cache, say, would be
            written twice.)
    """
    if not torch.is_grad_enabled():
        return block(*inputs, **named)
    for x in (*inputs, *named.values()):
        if not isinstance(x, Tensor | Callable | None):
            raise TypeError(
                f"a block run twice takes tensors, functions or None; got {type(x).__name__}. "
                "What a block writes to would be written twice."
            )
    return checkpoint(block, *inputs, use_reentrant=False, **named)


def checkpoint_blocks(stack: nn.Module) -> None:
    r"""Make a stack recompute the activations of its blocks in the backward pass.

        checkpoint_blocks(model.stack)

    $$ memory = n * stream + activations of 1 block,  not  n * activations $$

    Paper: Chen et al. 2016, arXiv:1604.06174, sections 4.1 and 4.3.
    Departs: one block is one segment, where the paper balances about sqrt(n) segments: a block's
        activations are many times as large as the stream between blocks, so this is near the best
        for the depths in use.

    Every block stays the module that it was, with its names and attributes; only its `forward` runs
    through `recompute` from now on. Twice is once.

    Args:
        stack: Holds its blocks in `blocks` and calls them one after the other, as `Encoder` and
            `Decoder` do. Changed in place: its parameters, their names and its results stay.

    Raises:
        TypeError: The stack has no list of blocks.
        ValueError: There is no block, or a block keeps running statistics, which running it twice
            would move twice.
    """
    blocks = getattr(stack, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(
            f"{type(stack).__name__} has no nn.ModuleList called blocks; give the Encoder or "
            "Decoder inside the model."
        )
    if not len(blocks):
        raise ValueError("there is no block to recompute: the stack is empty.")
    running = [name for name, _ in blocks.named_buffers() if "running_" in name]
    if running:
        raise ValueError(
            f"running statistics ({running[0]}, ...) would be moved twice for each batch; "
            "use a norm without them, such as LayerNorm."
        )
    for block in blocks:
        forward = vars(block).get("forward", partial(type(block).forward, block))
        if getattr(forward, "func", None) is not run_twice:
            block.forward = partial(run_twice, block, forward)


def run_twice(
    block: nn.Module, forward: Callable[..., Tensor], *inputs: object, **named: object
) -> Tensor:
    """Stand in for the `forward` of a block that is to be recomputed."""
    run = partial(run_with, tuple(block.parameters()), block, forward)
    return recompute(run, *inputs, **named)


def run_with(
    parameters: tuple[Tensor, ...],
    block: nn.Module,
    forward: Callable[..., Tensor],
    *inputs: object,
    **named: object,
) -> Tensor:
    """Run a block, if its parameters are still these.

    Under `torch.func.functional_call` a block has them for the length of a call only. Computed
    again with its own, the gradients would be wrong without a word.

    Raises:
        RuntimeError: In the backward pass: the parameters have been replaced.
    """
    if any(p is not q for p, q in zip(parameters, block.parameters(), strict=True)):
        raise RuntimeError(
            f"the parameters of this {type(block).__name__} are no longer those that it was run "
            "with; under functional_call take the backward pass without checkpointing."
        )
    return forward(*inputs, **named)
