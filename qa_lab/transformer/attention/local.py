"""Local attention: each token looks at a window around it, and at a few tokens that all may see.

Computed in blocks of neighbouring queries with the keys that any of them may see. The memory grows
as length x window; the dense [query key] matrix is never made.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qa_lab.transformer._checks import check_qkv
from qa_lab.transformer.attention.masks import check_keep


def local_attention(
    q: Float[Tensor, "*batch length d_k"],
    k: Float[Tensor, "*batch length d_k"],
    v: Float[Tensor, "*batch length d_v"],
    keep: Bool[Tensor, "*#batch #length #length"] | None = None,
    *,
    window: int,
    global_tokens: Sequence[int] = (),
    scale: float | None = None,
) -> Float[Tensor, "*batch length d_v"]:
    r"""Let each token look at its neighbours on both sides, and at the global tokens.

    $$ keep_{ij} = [|i - j| \le (window - 1) / 2] or i \in G or j \in G $$

    A global token, i in G, sees all tokens and is seen by all.

    Paper: Beltagy et al. 2020, arXiv:2004.05150, section 3.1.
    Departs: global tokens use the same projections as the others, where the paper gives them their
        own; no dilation; the window counts the token itself, so that the paper's w is window - 1.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look, beside the window. None: everywhere.
        window: Keys to a query, itself included: as many before as after, so odd.
        global_tokens: Positions of the global tokens, in tokens, each once.
        scale: Dimensionless. None: 1 / sqrt(d_k).

    Returns:
        The output, equal to that of dense attention with the mask above. 0 where a query may see
        no key, which happens only to padding: a query whose own key is kept sees itself.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: The window is even or less than 1, a global token lies outside the sequence or
            comes twice, q, k and v differ in length, or `keep` itself lets a query see no key.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(
            f"window must be odd and at least 1: the token and as many on each side; got {window}."
        )
    return banded_attention(q, k, v, keep, window, global_tokens, scale, causal=False)


def causal_local_attention(
    q: Float[Tensor, "*batch length d_k"],
    k: Float[Tensor, "*batch length d_k"],
    v: Float[Tensor, "*batch length d_v"],
    keep: Bool[Tensor, "*#batch #length #length"] | None = None,
    *,
    window: int,
    global_tokens: Sequence[int] = (),
    scale: float | None = None,
) -> Float[Tensor, "*batch length d_v"]:
    r"""Let each token look at itself, at the `window` - 1 before it, and at global tokens before.

    $$ keep_{ij} = [j \le i] and ([i - j < window] or i \in G or j \in G) $$

    Paper: Jiang et al. 2023, arXiv:2310.06825, section 2 (sliding window attention); global tokens,
        Beltagy et al. 2020, arXiv:2004.05150, section 3.1.
    Departs: the window counts the token itself, as in Hugging Face's code, where the text of Jiang
        et al. has positions i - W to i; global tokens use the same projections as the others, and
        not even they see what comes after.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look, beside the window. None: everywhere.
        window: Keys to a query, itself included.
        global_tokens: Positions of the global tokens, in tokens, each once.
        scale: Dimensionless. None: 1 / sqrt(d_k).

    Returns:
        The output, equal to that of dense attention with the mask above; without global tokens that
        is `window_mask`. 0 where a query may see no key, which happens only to padding.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: The window is less than 1, a global token lies outside the sequence or comes
            twice, q, k and v differ in length, or `keep` itself lets a query see no key.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 key, the query's own; got {window}.")
    return banded_attention(q, k, v, keep, window, global_tokens, scale, causal=True)


local_attention.within_one_sequence = True
causal_local_attention.within_one_sequence = True


def banded_attention(
    q: Float[Tensor, "*batch length d_k"],
    k: Float[Tensor, "*batch length d_k"],
    v: Float[Tensor, "*batch length d_v"],
    keep: Bool[Tensor, "*#batch #length #length"] | None,
    window: int,
    global_tokens: Sequence[int],
    scale: float | None,
    *,
    causal: bool,
) -> Float[Tensor, "*batch length d_v"]:
    """Attend within a window and to global tokens; see `local_attention`.

    A block is as many queries as the window is wide, with the keys that any of them may see: fewer
    than twice as many. It holds length x (2 window - 1 + global tokens) scores.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: See `local_attention`.
    """
    if not q.shape[:-1] == k.shape[:-1] == v.shape[:-1]:
        raise ValueError(
            "local attention is of a sequence with itself; got q, k and v of shapes "
            f"{list(q.shape)}, {list(k.shape)} and {list(v.shape)}."
        )
    check_qkv(q, k, v)
    length = q.shape[-2]
    shared = checked_positions(global_tokens, length, q.device)
    if keep is None:
        keep = torch.ones(1, 1, dtype=torch.bool, device=q.device)
    check_keep(keep, (*q.shape[:-1], length))
    keep = keep.expand(*keep.shape[:-2], length, length)  # a view, no memory

    # A window wider than the sequence costs no more than the sequence.
    before = min(window - 1 if causal else window // 2, length - 1)
    after = 0 if causal else before
    block = min(window, length)
    starts = torch.arange(0, length, block, device=q.device)[:, None]
    queries = starts + torch.arange(block, device=q.device)
    keys = starts + torch.arange(-before, block + after, device=q.device)
    distance = keys[:, None, :] - queries[:, :, None]  # [block query key], in tokens
    look = (-before <= distance) & (distance <= after)
    # Global keys are counted below, not here; positions outside the sequence, nowhere.
    look &= ((keys >= 0) & (keys < length) & ~torch.isin(keys, shared))[:, None]

    queries, keys = queries.clamp(max=length - 1), keys.clamp(0, length - 1)
    keys = torch.cat([keys, shared.expand(len(starts), -1)], dim=-1)
    look = F.pad(look, (0, len(shared)), value=True)
    rows, columns = queries[:, :, None], keys[:, None, :]
    if causal:
        look &= columns <= rows
    out = F.scaled_dot_product_attention(
        q[..., queries, :],
        k[..., keys, :],
        v[..., keys, :],
        attn_mask=look & keep[..., rows, columns],
        scale=scale,
    ).flatten(-3, -2)[..., :length, :]

    look = keep[..., shared, :]
    if causal:
        look = look & (torch.arange(length, device=q.device) <= shared[:, None])
    seen = F.scaled_dot_product_attention(q[..., shared, :], k, v, attn_mask=look, scale=scale)
    return out.index_copy(-2, shared, seen)


def checked_positions(
    global_tokens: Sequence[int], length: int, device: torch.device
) -> Int[Tensor, " n_global"]:
    """Turn positions into an index.

    Raises:
        ValueError: One lies outside the sequence, or comes twice: its key would count twice.
    """
    outside = [i for i in global_tokens if not 0 <= i < length]
    if outside or len(set(global_tokens)) < len(global_tokens):
        raise ValueError(
            f"global_tokens must be different positions in 0..{length - 1}; got "
            f"{list(global_tokens)}."
        )
    return torch.tensor(global_tokens, dtype=torch.long, device=device)
