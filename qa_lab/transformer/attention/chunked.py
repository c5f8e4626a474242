"""Chunked attention: exact softmax attention that never holds the [query key] matrix.

The softmax is computed online, block of keys after block of keys; the gradient computes the blocks
again instead of having kept them. Who may look at whom is a mask, or a function of positions, which
needs no [query key] memory either.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx

from qa_lab.transformer._checks import check_qkv
from qa_lab.transformer._precision import in_float32
from qa_lab.transformer.attention.dot_product import default_scale
from qa_lab.transformer.attention.masks import check_broadcasts, check_keep

LookAt = Callable[[Tensor, Tensor], Tensor]
"""From the positions of queries [query 1] and of keys [1 key] to what the queries may look at,
[query key], as `look_back` does."""


def look_back(
    queries: Int[Tensor, "query 1"], keys: Int[Tensor, "1 key"]
) -> Bool[Tensor, "query key"]:
    """Let each position look at itself and at what came before: `causal_mask` as a function.

    $$ keep_{qk} = [k <= q] $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.

    Args:
        queries: Positions of the queries, in tokens.
        keys: Positions of the keys, in tokens.

    Returns:
        True where the key does not come after the query.
    """
    return keys <= queries


@in_float32
def chunked_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    bias: Float[Tensor, "*#batch #query #key"] | None = None,
    *,
    look: LookAt | None = None,
    scale: float | None = None,
    query_chunk: int = 128,
    key_chunk: int = 256,
) -> Float[Tensor, "*batch query d_v"]:
    r"""Compute the output of scaled dot-product attention in memory that grows as query + key.

    $$ out_i = \frac{\sum_j e^{s_{ij} - m_i} v_j}{\sum_j e^{s_{ij} - m_i}},  m_i = \max_j s_{ij} $$

    Over blocks of keys, m, the numerator and the denominator are carried along; when m grows, both
    sums are multiplied by e^{old m - new m}. The forward pass keeps the output and one number per
    query, m + log of the denominator, from which the backward pass rebuilds the weights of any
    block.

    Paper: Milakov and Gimelshein 2018, arXiv:1805.02867, algorithm 3, for the online softmax; Rabe
        and Staats 2021, arXiv:2112.05682, sections 2 and 3, for attention by it; Dao et al. 2022,
        arXiv:2205.14135, section 3.1, and algorithm 4 in appendix B.4 for the backward pass.
    Departs: a loop of PyTorch calls where Dao et al. have one GPU kernel; no dropout; a query that
        may see no key is an error.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look. None: everywhere.
        bias: Added to the scaled scores, dimensionless; held whole, as `keep` is. None: nothing.
        look: True where a query may look, from positions; combined with `keep`. The queries stand
            at the last of the keys' positions. None: everywhere.
        scale: Dimensionless. None: `default_scale(d_k)`.
        query_chunk: Queries to a block.
        key_chunk: Keys to a block. The result does not depend on either, up to rounding.

    Returns:
        The output, equal to that of `fused_attention` up to rounding.

    Raises:
        RuntimeError: In the backward pass: it was asked for with `create_graph=True`.
        TypeError: `keep` is not Boolean, or the queries are whole numbers.
        ValueError: The shapes do not fit, a chunk is less than 1, there is no key, or some query
            may see none.
    """
    if min(query_chunk, key_chunk) < 1:
        raise ValueError(
            f"query_chunk and key_chunk must be at least 1; got {query_chunk} and {key_chunk}."
        )
    check_qkv(q, k, v)
    if keep is not None:
        check_keep(keep, (*q.shape[:-1], k.shape[-2]))
    if bias is not None:
        check_broadcasts(bias, (*q.shape[:-1], k.shape[-2]), "bias")
    scale = default_scale(q.shape[-1]) if scale is None else scale
    blocks = Blocks(q.shape[-2], k.shape[-2], query_chunk, key_chunk, keep, look)
    bias = None if bias is None else bias.to(q.dtype)
    return ChunkedAttention.apply(q, k, v, bias, blocks, scale)


@dataclass(frozen=True)
class Blocks:
    """How the [query key] matrix is cut, and what is hidden in each block of it."""

    n_queries: int
    n_keys: int
    query_chunk: int
    key_chunk: int
    keep: Tensor | None
    look: LookAt | None

    def of_queries(self) -> Iterator[slice]:
        """Cut the queries; the last block may be shorter."""
        for start in range(0, self.n_queries, self.query_chunk):
            yield slice(start, min(start + self.query_chunk, self.n_queries))

    def of_keys(self) -> Iterator[slice]:
        """Cut the keys; the last block may be shorter."""
        for start in range(0, self.n_keys, self.key_chunk):
            yield slice(start, min(start + self.key_chunk, self.n_keys))

    def scores(
        self,
        q: Float[Tensor, "*batch rows d_k"],
        k: Float[Tensor, "*batch columns d_k"],
        bias: Float[Tensor, "*#batch #query #key"] | None,
        rows: slice,
        columns: slice,
    ) -> Float[Tensor, "*batch rows columns"]:
        """Score the queries and keys of one block, minus infinity where a query may not look."""
        scores = q @ k.transpose(-2, -1)
        if bias is not None:
            scores += cut_out(bias, rows, columns)
        if self.keep is not None:
            scores.masked_fill_(~cut_out(self.keep, rows, columns), -torch.inf)
        if self.look is not None:
            first = self.n_keys - self.n_queries  # position of the first query
            queries = torch.arange(rows.start, rows.stop, device=q.device) + first
            keys = torch.arange(columns.start, columns.stop, device=q.device)
            scores.masked_fill_(~self.look(queries[:, None], keys[None]), -torch.inf)
        return scores


def cut_out(
    x: Shaped[Tensor, "*batch #query #key"], rows: slice, columns: slice
) -> Shaped[Tensor, "*batch #rows #columns"]:
    """View one block of a mask or a bias, whose axes of size 1 stand for all."""
    x = x if x.shape[-2] == 1 else x[..., rows, :]
    return x if x.shape[-1] == 1 else x[..., columns]


class ChunkedAttention(torch.autograd.Function):
    """The forward and the backward pass of `chunked_attention`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        blocks: Blocks,
        scale: float,
    ) -> Tensor:
        """Carry maximum, numerator and denominator over the blocks of keys."""
        out = v.new_empty(*q.shape[:-1], v.shape[-1])
        log_total = q.new_empty(*q.shape[:-1], 1)
        for rows in blocks.of_queries():
            q_rows = scale * q[..., rows, :]
            # Finite, unlike the maximum of no scores: -inf - -inf would be NaN.
            maximum = torch.full_like(log_total[..., rows, :], torch.finfo(q.dtype).min)
            total = torch.zeros_like(maximum)
            weighted = torch.zeros_like(out[..., rows, :])
            for columns in blocks.of_keys():
                scores = blocks.scores(q_rows, k[..., columns, :], bias, rows, columns)
                new_maximum = torch.maximum(maximum, scores.amax(-1, keepdim=True))
                weights = scores.sub_(new_maximum).exp_()
                rescale = (maximum - new_maximum).exp()
                total = rescale * total + weights.sum(-1, keepdim=True)
                weighted = rescale * weighted + weights @ v[..., columns, :]
                maximum = new_maximum
            refuse_blind(total)
            out[..., rows, :] = weighted / total
            log_total[..., rows, :] = maximum + total.log()
        ctx.save_for_backward(q, k, v, bias, out, log_total)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """Rebuild the weights of each block, and pass the gradient through it."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "chunked_attention can be differentiated once; create_graph=True asks for the "
                "gradient of its gradient, which would be wrong in silence."
            )
        q, k, v, bias, out, log_total = ctx.saved_tensors
        blocks, scale = ctx.blocks, ctx.scale
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        for rows in blocks.of_queries():
            q_rows, d_rows = scale * q[..., rows, :], d_out[..., rows, :]
            # The softmax's gradient is w (d_w - sum_j w_j d_w_j): this is the sum, over all keys.
            dot = (out[..., rows, :] * d_rows).sum(-1, keepdim=True)
            for columns in blocks.of_keys():
                k_columns = k[..., columns, :]
                scores = blocks.scores(q_rows, k_columns, bias, rows, columns)
                weights = scores.sub_(log_total[..., rows, :]).exp_()
                d_v[..., columns, :] += weights.transpose(-2, -1) @ d_rows
                d_weights = d_rows @ v[..., columns, :].transpose(-2, -1)
                d_scores = weights.mul_(d_weights.sub_(dot))
                d_q[..., rows, :] += scale * (d_scores @ k_columns)
                d_k[..., columns, :] += d_scores.transpose(-2, -1) @ q_rows
                if d_bias is not None:  # an axis of size 1 gets the sum over what it stands for
                    part = cut_out(d_bias, rows, columns)
                    part += d_scores.sum_to_size(part.shape)
        return d_q, d_k, d_v, d_bias, None, None


def refuse_blind(total: Float[Tensor, "*batch query 1"]) -> None:
    """Refuse a softmax over nothing.

    Raises:
        ValueError: A sum of weights is 0: that query may see no key.
    """
    if blind := int((total == 0).sum()):
        raise ValueError(
            f"keep and look together let {blind} of {total.numel()} queries of a block see no "
            "key: their softmax would be 0/0."
        )
