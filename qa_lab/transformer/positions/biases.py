"""Positions inside attention: what a score gains or loses by how far the key is from the query.

A distance is the position of the key minus that of the query, in tokens: -1 is the token before.
As everywhere in the lab, the queries are the last `queries` of the `keys` positions: all of them,
or with a key-value cache the newest.

`T5Bias` and `Alibi` are called as `score_bias(queries, keys)`, and one of them may serve all
layers. Relative positions that are vectors are in `relative`.
"""

from bisect import bisect_left
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one
from qa_lab.transformer._precision import at_least_float32


def check_distances(queries: int, keys: int) -> None:
    """Refuse more queries than keys: the queries are the last of the keys' positions.

    Args:
        queries: How many.
        keys: How many.

    Raises:
        ValueError: There is no query, or there are more than keys.
    """
    if not 1 <= queries <= keys:
        raise ValueError(
            f"{queries} queries cannot be the last of {keys} positions. Relative positions are for "
            "self-attention; leave them out of cross-attention, whose two sides share no positions."
        )


def spread(
    by_distance: Float[Tensor, "head distances"], queries: int
) -> Float[Tensor, "head {queries} keys"]:
    r"""Write values that depend on the distance only into a matrix of queries and keys.

    $$ B_{hqk} = by\_distance_h[k - p_q],  p_q = keys - queries + q $$

    Such a matrix is constant along its diagonals: its rows are windows of one long row.

    Args:
        by_distance: A value for each distance -(keys - 1) ... queries - 1, in this order.
        queries: How many.

    Returns:
        The matrix of each head. The distance of its last column from its last row is 0.
    """
    keys = by_distance.shape[-1] - queries + 1
    return by_distance.unfold(-1, keys, 1).flip(-2)


def distances(
    queries: int, keys: int, device: torch.device | None = None
) -> Int[Tensor, "{queries}+{keys}-1"]:
    """List the distances that occur, in the order that `spread` takes.

    Args:
        queries: How many; at most `keys`.
        keys: How many.
        device: Where the list is made.

    Returns:
        -(keys - 1) ... queries - 1, in tokens.

    Raises:
        ValueError: There are more queries than keys.
    """
    check_distances(queries, keys)
    return torch.arange(1 - keys, queries, device=device)


def t5_bucket(
    distance: Int[Tensor, "*any"],
    *,
    bidirectional: bool,
    n_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Tensor, "*any"]:
    r"""Sort distances into buckets: one each for the near, ever wider ones for the far.

    $$ bucket(a) = a \text{ if } a < e,  \text{ else }
       \min(n - 1, e + \lfloor \frac{\ln(a / e)}{\ln(max / e)} (n - e) \rfloor),  e = n / 2 $$

    a is how far back the key is. Causal attention has all n = n_buckets for that, and counts the
    future as 0. Bidirectional attention has half of them for the past and the present, and the
    other half, higher up, for the future, whose a is how far ahead the key is.

    Paper: Raffel et al. 2019, arXiv:1910.10683, section 2.1.
    Departs: the paper gives no formula; this is its code's, in whole numbers. Its float32 logarithm
        puts a distance that lies exactly on an edge into one bucket or the other, depending on the
        processor; with the sizes of the published models it never does.

    Args:
        distance: Key minus query, in tokens.
        bidirectional: Whether keys after the query may be seen.
        n_buckets: How many.
        max_distance: From this distance on, in tokens, all share the last bucket.

    Returns:
        The buckets, 0..n_buckets - 1.

    Raises:
        ValueError: There are too few buckets, an odd number of them is to be halved, or
            max_distance lies among the distances that have a bucket each.
    """
    needed = 4 if bidirectional else 2
    if n_buckets < needed or (bidirectional and n_buckets % 2):
        raise ValueError(
            f"n_buckets = {n_buckets}: {'bidirectional' if bidirectional else 'causal'} attention "
            f"needs at least {needed}{', an even number' if bidirectional else ''}."
        )
    n = n_buckets // 2 if bidirectional else n_buckets
    exact = n // 2
    if max_distance <= exact:
        raise ValueError(
            f"max_distance = {max_distance} must exceed {exact}, the number of distances that have "
            "a bucket each."
        )
    far = distance.abs() if bidirectional else (-distance).clamp(min=0)
    edges = torch.tensor(t5_edges(exact, n, max_distance), device=distance.device)
    bucket = torch.bucketize(far, edges, right=True) - 1
    return bucket + n * (distance > 0) if bidirectional else bucket


@cache
def t5_edges(exact: int, n: int, max_distance: int) -> list[int]:
    r"""Return the first distance of each bucket, without a logarithm that could be rounded.

    $$ i \le \frac{\ln(a / e)}{\ln(max / e)} m  \Leftrightarrow  a^m \ge max^i e^{m - i},
       m = n - e $$

    Args:
        exact: e, the number of distances that have a bucket each.
        n: Buckets.
        max_distance: The first distance beyond the last edge, in tokens.

    Returns:
        The edges in tokens, ascending from 0.
    """
    m = n - exact
    wide = [
        bisect_left(range(max_distance), max_distance**i * exact ** (m - i), key=lambda a: a**m)
        for i in range(m)
    ]
    return [*range(exact), *wide]


class T5Bias(nn.Module):
    r"""Add to every score a learned number for the head and the bucket of the distance.

    $$ S_{hqk} <- S_{hqk} + W_{R, bucket(k - q), h} $$

    Make one and give it to every layer, as T5 does:
    `attention=partial(MultiHeadAttention, score_bias=T5Bias(n_heads, bidirectional=False))`.

    Paper: Raffel et al. 2019, arXiv:1910.10683, section 2.1.
    Departs: it starts at 0, as if there were no positions; the paper is silent. And T5 does not
        scale its scores: for its very attention give `MultiHeadAttention` scale=1.

    Args:
        n_heads: Heads.
        bidirectional: Whether keys after the query may be seen: True in an encoder, False under a
            causal mask.
        n_buckets: See `t5_bucket`.
        max_distance: See `t5_bucket`, in tokens.

    Raises:
        ValueError: There is no head, or the buckets do not work out; see `t5_bucket`.
    """

    def __init__(
        self,
        n_heads: int,
        *,
        bidirectional: bool,
        n_buckets: int = 32,
        max_distance: int = 128,
    ) -> None:
        super().__init__()
        check_at_least_one(n_heads=n_heads, n_buckets=n_buckets)
        self.W_R = nn.Parameter(torch.zeros(n_buckets, n_heads))
        self.bidirectional = bidirectional
        self.max_distance = max_distance
        self.bucket(torch.zeros(1, dtype=torch.long))  # a bad choice is an error here, not later

    def bucket(self, distance: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Sort distances into this module's buckets."""
        return t5_bucket(
            distance,
            bidirectional=self.bidirectional,
            n_buckets=len(self.W_R),
            max_distance=self.max_distance,
        )

    def forward(self, queries: int, keys: int) -> Float[Tensor, "head {queries} {keys}"]:
        """Return what is added to the scaled scores.

        Args:
            queries: How many; the last of the keys' positions.
            keys: How many.

        Returns:
            The bias, in the units of scores: dimensionless logits.

        Raises:
            ValueError: There are more queries than keys.
        """
        bucket = self.bucket(distances(queries, keys, self.W_R.device))
        return spread(self.W_R[bucket].T, queries)


def alibi_slopes(n_heads: int) -> Float[Tensor, "{n_heads}"]:
    r"""Return how fast each head's attention falls off with the distance.

    $$ slope_h = 2^{-8h/n},  h = 1 ... n $$

    If n is not a power of two: the slopes of the next lower power of two, then the 1st, 3rd,
    5th ... of those for twice as many heads, which lie in between.

    Paper: Press et al. 2021, arXiv:2108.12409.
    Departs: the rule for other numbers of heads is that of the authors' code.

    Args:
        n_heads: Heads.

    Returns:
        Logits per token, in (0, 1) and float64, as exact as that is; on the CPU.

    Raises:
        ValueError: There is no head.
    """
    if n_heads < 1:
        raise ValueError(f"n_heads = {n_heads}: attention needs at least one head.")
    n = 2 ** (n_heads.bit_length() - 1)
    h = torch.arange(1, n + 1, dtype=torch.float64, device="cpu")
    slopes = 2 ** (-8 * h / n)
    between = 2 ** (-8 * (h - 0.5) / n)
    return torch.cat([slopes, between[: n_heads - n]])


class Alibi(nn.Module):
    r"""Subtract from every score the distance times the head's slope.

    $$ S_{hqk} <- S_{hqk} - slope_h |k - q| $$

    Nothing is learned, and no distance is too large to have a value: attention that was trained on
    short sequences can be tried on longer ones. The slopes stay in float32 when the module goes to
    half precision, and so does the bias: bfloat16 cannot tell a distance of 1000 from 1001, and
    float16 ends at 65504.

    Paper: Press et al. 2021, arXiv:2108.12409.
    Departs: the paper is about causal attention, where no key comes after the query. Here such a
        key counts by its distance too.

    Args:
        n_heads: Heads.

    Raises:
        ValueError: There is no head.
    """

    slopes: Tensor

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        device = torch.get_default_device()
        if device.type == "meta":
            device = "cpu"  # the numbers themselves: they are not saved, nothing would fill them in
        like = at_least_float32(torch.empty(0, device=device))
        self.register_buffer("slopes", alibi_slopes(n_heads).to(like), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Alibi":
        """Compute the slopes anew after `to`, `half` or `to_empty`: theirs are coarse or gone."""
        super()._apply(fn, recurse)
        self.slopes = alibi_slopes(len(self.slopes)).to(at_least_float32(self.slopes))
        return self

    def forward(self, queries: int, keys: int) -> Float[Tensor, "head {queries} {keys}"]:
        """Return what is added to the scaled scores.

        Args:
            queries: How many; the last of the keys' positions.
            keys: How many.

        Returns:
            The bias, in the units of scores: dimensionless logits, 0 at distance 0 and negative
            elsewhere. In float32 at least: the attention rounds it, once.

        Raises:
            ValueError: There are more queries than keys.
        """
        far = distances(queries, keys, self.slopes.device).abs()
        return spread(-self.slopes[:, None] * far, queries)
