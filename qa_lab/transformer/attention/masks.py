"""Who may look at whom.

Masks are Boolean and say `keep`: True = may look. Two masks are combined with `&`.

Two kinds, told apart by their shape:
    token masks [batch length]: True at real tokens, False at padding;
    look masks [batch head query key] or [query key], with 1 for an axis along which they do not
    change: True where a query may look at a key.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from qa_lab.transformer._checks import check_ids, check_lengths, to_be_read


def real_tokens(lengths: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch length"]:
    """Mark the real tokens of sequences padded on the right to one length.

    $$ keep_{bt} = [t < lengths_b] $$

    Args:
        lengths: Tokens in each sequence, 1 <= lengths <= length.
        length: Positions after padding, in tokens.

    Returns:
        The token mask. Row b holds lengths[b] True, then False.

    Raises:
        TypeError: The lengths are not whole numbers.
        ValueError: A sequence is empty or longer than `length`.
    """
    check_lengths(lengths, 1, length)
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def real_tokens_from_ids(
    ids: Int[Tensor, "batch length"], pad_id: int
) -> Bool[Tensor, "batch length"]:
    """Mark the real tokens, given the id that stands for padding.

    $$ keep_{bt} = [ids_{bt} != pad] $$

    Args:
        ids: Token ids, padded.
        pad_id: The id of the padding token.

    Returns:
        The token mask: False exactly where `ids` equals `pad_id`.

    Raises:
        TypeError: The ids are not whole numbers.
        ValueError: The ids are not [batch length].
    """
    check_ids(ids)
    return ids != pad_id


def over_keys(tokens: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 1 length"]:
    """Turn a token mask into a look mask: no query, in any head, may look at padding.

    Padding is hidden as a key only. A padded position still asks, as a query, and gets an answer
    that nobody reads: hiding it there too would leave it no key to look at.

    Args:
        tokens: True where the position holds a real token.

    Returns:
        The look mask, the same for every head and query.

    Raises:
        TypeError: `tokens` is not Boolean.
        ValueError: `tokens` is not [batch length]. (A look mask would be read as one of tokens.)
    """
    if tokens.dtype != torch.bool:
        raise TypeError(f"a token mask must be torch.bool, True = real; got {tokens.dtype}.")
    if tokens.ndim != 2:
        raise ValueError(f"a token mask must be [batch length]; got {list(tokens.shape)}.")
    return tokens[:, None, None, :]


def padding_mask(lengths: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch 1 1 {length}"]:
    """Hide the padding, as keys, from every query.

    $$ keep_{bhqk} = [k < lengths_b] $$

    Args:
        lengths: Tokens in each sequence, 1 <= lengths <= length.
        length: Positions after padding, in tokens.

    Returns:
        The look mask. Every query keeps at least one key.

    Raises:
        ValueError: A sequence is empty or longer than `length`.
    """
    return over_keys(real_tokens(lengths, length))


def padding_mask_from_ids(
    ids: Int[Tensor, "batch length"], pad_id: int
) -> Bool[Tensor, "batch 1 1 length"]:
    """Hide the padding, as keys, from every query, given the id that stands for padding.

    $$ keep_{bhqk} = [ids_{bk} != pad] $$

    Args:
        ids: Token ids, padded.
        pad_id: The id of the padding token.

    Returns:
        The look mask.
    """
    return over_keys(real_tokens_from_ids(ids, pad_id))


def causal_mask(
    length: int, device: torch.device | None = None
) -> Bool[Tensor, "query={length} key={length}"]:
    """Let each position look at itself and at what came before.

    $$ keep_{qk} = [k <= q] $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.

    Args:
        length: Positions, in tokens.
        device: Where the mask is made.

    Returns:
        A lower triangle of True, the diagonal included. Every query keeps at least one key.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def full_mask(
    length: int, device: torch.device | None = None
) -> Bool[Tensor, "query={length} key={length}"]:
    """Let every position look at every position, as in an encoder.

    $$ keep_{qk} = 1 $$

    Args:
        length: Positions, in tokens.
        device: Where the mask is made.

    Returns:
        All True.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device)


def window_mask(
    length: int, device: torch.device | None = None, *, window: int
) -> Bool[Tensor, "query={length} key={length}"]:
    """Let each position look at itself and at the `window` - 1 positions before it.

    $$ keep_{qk} = [0 <= q - k < window] $$

    Paper: Jiang et al. 2023, arXiv:2310.06825, section 2 (sliding window attention).
    Departs: the window counts the query's own position, as in Hugging Face's code, where the text
        of Jiang et al. has positions q - window to q.

    Args:
        length: Positions, in tokens.
        device: Where the mask is made.
        window: Keys that a query may see, itself included.

    Returns:
        A causal band of True. Every query keeps at least one key, itself.

    Raises:
        ValueError: The window is less than 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 key, the query's own; got {window}.")
    return causal_mask(length, device).triu(1 - window)


def prefix_mask(
    prefix_lengths: Int[Tensor, " batch"], length: int
) -> Bool[Tensor, "batch 1 {length} {length}"]:
    """Let every position look at the whole prefix, and otherwise at itself and what came before.

    $$ keep_{b1qk} = [k < prefix_b] or [k <= q] $$

    Paper: Raffel et al. 2019, arXiv:1910.10683, section 3.2.1 (prefix LM) and figure 3.

    Args:
        prefix_lengths: Tokens of each prefix, 0 <= prefix <= length. 0 is the causal mask.
        length: Positions, in tokens.

    Returns:
        The look mask, the same for every head. Every query keeps at least one key, itself.

    Raises:
        TypeError: The lengths are not whole numbers.
        ValueError: A prefix is negative or longer than `length`.
    """
    check_lengths(prefix_lengths, 0, length, "prefix_lengths")
    in_prefix = torch.arange(length, device=prefix_lengths.device) < prefix_lengths[:, None]
    return over_keys(in_prefix) | causal_mask(length, prefix_lengths.device)


def packed_mask(
    document_ids: Int[Tensor, "batch length"],
) -> Bool[Tensor, "batch 1 length length"]:
    """Keep documents that were packed into one sequence from looking at each other.

    $$ keep_{b1qk} = [document_{bq} = document_{bk}] $$

    Paper: Krell et al. 2021, arXiv:2107.02027, section 3.2.

    Args:
        document_ids: Which document each position belongs to; any numbers.

    Returns:
        The look mask, the same for every head; `&` it with `causal_mask` in a language model. Every
        query keeps at least one key, itself.

    Raises:
        TypeError: The ids are not whole numbers.
        ValueError: The ids are not [batch length].
    """
    check_ids(document_ids, "document_ids")
    return document_ids[:, None, :, None] == document_ids[:, None, None, :]


def check_keep(keep: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a look mask that cannot mean what it says.

    Args:
        keep: The mask.
        shape: Of the scores it is for, [*batch query key].

    Raises:
        TypeError: The mask is not Boolean. (Added or multiplied 0/1 masks mean other things.)
        ValueError: It does not broadcast to `shape`, or some query may see no key.
    """
    if keep.dtype != torch.bool:
        raise TypeError(f"keep must be torch.bool, True = may look; got {keep.dtype}.")
    check_broadcasts(keep, shape, "keep")
    if to_be_read(keep) and (blind := ~keep.any(-1)).any():
        raise ValueError(
            f"{int(blind.sum())} of the {blind.numel()} rows of keep (the first: "
            f"{blind.nonzero()[0].tolist()}) let a query see no key: its softmax would be 0/0. "
            "Hide padding as keys, not as queries, and give every sequence at least one token."
        )


def check_broadcasts(x: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Refuse a mask or a bias that is not of these scores.

    Args:
        x: The mask or the bias.
        shape: Of the scores it is for, [*batch query key].
        name: What the caller calls x.

    Raises:
        ValueError: It does not broadcast to `shape`.
    """
    sizes = zip(reversed(x.shape), reversed(shape), strict=False)  # missing axes come first
    if x.ndim > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(
            f"{name} has shape {list(x.shape)}, which does not broadcast to the scores' "
            f"[... query key] = {list(shape)}."
        )
