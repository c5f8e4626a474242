"""Segment recurrence: a long text, segment by segment, each seeing what the blocks saw before it.

Every block remembers its own inputs of the last positions, without their gradient. The next segment
asks; memory and segment are asked, as the `memory` of the block. A layer reaches `memory_length`
further back than the one below it, so the stack reaches further than any one attention.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_vectors
from qa_lab.transformer.models.stacks import Encoder


def remember(
    memory: Float[Tensor, "batch remembered d_model"],
    x: Float[Tensor, "batch length d_model"],
    memory_length: int,
) -> Float[Tensor, "batch new d_model"]:
    r"""Append a segment to a memory, and forget what is too old.

    $$ m' = SG([m \circ h])_{last M} $$

    Paper: Dai et al. 2019, arXiv:1901.02860, section 3.2.

    Args:
        memory: The residual stream that a block received before, the oldest first.
        x: The residual stream of the segment.
        memory_length: M, in tokens.

    Returns:
        The last M positions of both, or all if there are fewer, without their gradient.

    Raises:
        ValueError: M is negative, or memory and segment are of different batches or widths.
    """
    check_memory_length(memory_length)
    check_memory(memory, x)
    both = torch.cat([memory, x], dim=1).detach()
    return both[:, max(both.shape[1] - memory_length, 0) :]


class SegmentRecurrence(nn.Module):
    r"""A stack of blocks that reads a sequence segment by segment, as a recurrent network does.

    $$ \tilde h = [SG(m_n) \circ h_{n-1}],
       h_n = block_n(h_{n-1}, \tilde h),  m_n' = remember(m_n, h_{n-1}) $$

    SG stops the gradient. Only the segment asks, and only it goes on; memory and segment are
    normalised alike.

    Paper: Dai et al. 2019, arXiv:1901.02860, section 3.2.
    Departs: positions are the business of the blocks' attention. They must be relative, a
        `score_bias` or a `rotate`, as the memory's first position counts as 0 in every segment.

    Args:
        encoder: The blocks and the norm after them. Their `look` says where the segment, the last
            part of memory and segment, may look: `causal_mask` in a language model, `window_mask`
            to bound the reach.
        memory_length: M, positions that each block remembers, in tokens. 0: none.

    Raises:
        ValueError: memory_length is negative.
    """

    def __init__(self, encoder: Encoder, memory_length: int) -> None:
        super().__init__()
        check_memory_length(memory_length)
        self.encoder = encoder
        self.memory_length = memory_length

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        memories: Sequence[Float[Tensor, "batch remembered d_model"]] | None = None,
    ) -> tuple[
        Float[Tensor, "batch length d_model"], list[Float[Tensor, "batch remembered_now d_model"]]
    ]:
        """Read one segment.

        Args:
            x: The residual stream of the segment; all its positions are real.
            memories: What this returned for the segment before, one memory for each block. None:
                this is the first.

        Returns:
            The residual stream, and the memories for the next segment, which pass no gradient on.

        Raises:
            ValueError: x is not [batch length d_model] or holds no token, or the memories are of
                another number of blocks, or of another batch.
        """
        blocks = self.encoder.blocks
        check_vectors(x, blocks[0].d_model)
        if memories is None:
            memories = [x[:, :0]] * len(blocks)
        if len(memories) != len(blocks):
            raise ValueError(f"{len(memories)} memories for {len(blocks)} blocks.")
        kept = []
        for block, memory in zip(blocks, memories, strict=True):
            check_memory(memory, x)
            kept.append(remember(memory, x, self.memory_length))
            x = block(x, memory=torch.cat([memory.detach(), x], dim=1))
        norm = self.encoder.norm
        return (x if norm is None else norm(x)), kept


def check_memory(memory: Tensor, x: Tensor) -> None:
    """Refuse a memory that cannot stand before a segment.

    Raises:
        ValueError: It is of another batch or width.
    """
    if memory.ndim != 3 or (memory.shape[0], memory.shape[2]) != (x.shape[0], x.shape[2]):
        raise ValueError(
            f"a memory of shape {list(memory.shape)} cannot go before a segment of shape "
            f"{list(x.shape)}: give [batch remembered d_model] of the same batch."
        )


def check_memory_length(memory_length: int) -> None:
    """Refuse to remember less than nothing.

    Raises:
        ValueError: The length is negative.
    """
    if memory_length < 0:
        raise ValueError(f"memory_length must be at least 0 tokens; got {memory_length}.")
