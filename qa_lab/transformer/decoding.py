"""Generating tokens."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from qa_lab.transformer.models import Transformer


@torch.no_grad()
def greedy_decode(
    model: Transformer,
    source_ids: Int[Tensor, "batch source"],
    source_keep: Bool[Tensor, "batch source"] | None = None,
    *,
    start_id: int,
    end_id: int,
    pad_id: int,
    max_length: int,
) -> Int[Tensor, "batch {max_length}"]:
    r"""Write the likeliest next token, again and again, until every row has ended.

    $$ y_{t+1} = \arg\max_v logits_v(y_{0..t}, source) $$

    Departs: the paper decodes by beam search (Vaswani et al. 2017, arXiv:1706.03762, section 6.1);
        and each step runs the whole prefix again, without a cache.

    Args:
        model: In the mode it is in: call `model.eval()` first.
        source_ids: The source.
        source_keep: True at real source tokens. None: all real.
        start_id: The token every target begins with; not part of the answer.
        end_id: The token that ends a row; part of the answer.
        pad_id: What fills a row after its end.
        max_length: Tokens to write at most, the end included.

    Returns:
        The answers. In each row nothing but `pad_id` follows the first `end_id`.

    Raises:
        ValueError: max_length is less than 1, or an id lies outside the vocabulary.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1 token; got {max_length}.")
    memory = model.encode(source_ids, source_keep)
    batch = len(source_ids)
    target = source_ids.new_full((batch, 1 + max_length), pad_id)
    target[:, 0] = start_id
    writing = torch.ones(batch, dtype=torch.bool, device=source_ids.device)
    for t in range(max_length):
        logits = model.decode(target[:, : t + 1], memory, None, source_keep)[:, -1]
        target[writing, t + 1] = logits[writing].argmax(dim=-1)
        writing = writing & (target[:, t + 1] != end_id)
        if not writing.any():
            break
    return target[:, 1:]
