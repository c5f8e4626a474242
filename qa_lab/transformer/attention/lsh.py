"""LSH attention: each token looks only at tokens whose hash is the same, found by sorting.

Similar vectors get the same hash with high probability, and softmax spends its weight on similar
vectors. Sorted by hash, equal hashes are neighbours, so chunks of neighbours are enough.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_qkv, check_width, to_be_read
from qa_lab.transformer._precision import in_float32
from qa_lab.transformer.attention.dot_product import default_scale
from qa_lab.transformer.attention.masks import check_keep

Look = Bool[Tensor, "#batch #head #length #length"] | Bool[Tensor, "#length #length"]


def random_rotations(
    n_rounds: int, d_k: int, n_buckets: int, generator: torch.Generator | None = None
) -> Float[Tensor, "{n_rounds} {d_k} half"]:
    """Draw the random projections of `lsh_buckets`, one matrix for each round of hashing.

    Paper: Kitaev et al. 2020, arXiv:2001.04451, section 2 (locality sensitive hashing).

    Args:
        n_rounds: Hash functions.
        d_k: Width of a query, in features.
        n_buckets: Hashes that a function can give; even, as each direction has two ends.
        generator: Where the randomness comes from. None: torch's own.

    Returns:
        Independent standard normal entries.

    Raises:
        ValueError: n_buckets is odd, or a number is less than 1.
    """
    check_buckets(n_buckets)
    check_at_least_one(n_rounds=n_rounds, d_k=d_k)
    device = None if generator is None else generator.device
    return torch.randn(n_rounds, d_k, n_buckets // 2, generator=generator, device=device)


@in_float32
def lsh_buckets(
    x: Float[Tensor, "*batch length d_k"], rotations: Float[Tensor, "round d_k half"]
) -> Int[Tensor, "*batch round length"]:
    """Hash vectors, so that a small angle between two makes the same hash likely.

    $$ h(x) = argmax([x R; -x R]) $$

    Paper: Kitaev et al. 2020, arXiv:2001.04451, section 2 (locality sensitive hashing).
    Departs: one matrix serves all heads.

    Args:
        x: Queries; their length does not matter, only their direction.
        rotations: R for each round, as `random_rotations` makes.

    Returns:
        The buckets, each in 0 .. 2 half - 1.

    Raises:
        ValueError: x is of another width than the rotations.
    """
    check_width(x, rotations.shape[-2])
    rotated = x.unsqueeze(-3) @ rotations
    return torch.cat([rotated, -rotated], dim=-1).argmax(-1)


@in_float32
def lsh_attention(
    q: Float[Tensor, "batch head length d_k"],
    k: Float[Tensor, "batch head length d_k"],
    v: Float[Tensor, "batch head length d_v"],
    keep: Look | None = None,
    *,
    rotations: Float[Tensor, "round d_k half"],
    chunk: int,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "batch head length d_v"]:
    r"""Attend among the tokens of the same hash, in any of several rounds of hashing.

    $$ P_i = \bigcup_r \{j : h_r(q_i) = h_r(q_j),
       \lfloor s^r_i / m \rfloor - 1 \le \lfloor s^r_j / m \rfloor \le \lfloor s^r_i / m \rfloor \},
       out_i = \sum_{j \in P_i} softmax_j(scale * q_i \cdot q_j / |q_j|) v_j $$

    s^r_i is the rank of token i when round r sorts by bucket, then by position; m is the chunk. The
    keys are the queries, normalised. A token looks at itself only if P_i holds nothing else: no
    other key is as similar to its query. It holds rounds x length x 2 chunk scores.

    Paper: Kitaev et al. 2020, arXiv:2001.04451, section 2, eqs. 4 to 6, and appendix A, eqs. 11 to
        16.
    Departs: one set of rotations serves all heads; padding is hidden as keys, and is hashed and
        sorted like the rest.

    Args:
        q: Queries.
        k: Keys, before they are normalised: equal to q, as `tie_query_and_key` makes them.
        v: Values.
        keep: True where a query may look. None: everywhere.
        rotations: R for each round, as `random_rotations` makes.
        chunk: Tokens to a chunk. The paper takes 2 length / n_buckets.
        causal: Whether a token looks only at what came before.
        scale: Dimensionless. None: `default_scale(d_k)`.

    Returns:
        The output: an average of the values of P_i, each counted once in however many rounds it was
        found; v_i where P_i is empty, which is also what padding gets that sees only padding.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: q and k are not equal, the chunk is less than 1, the rotations have another
            width, or `keep` lets a query see no key.
    """
    check_shared(q, k, v, rotations)
    check_at_least_one(chunk=chunk)
    if keep is not None:
        check_keep(keep, (*q.shape[:-1], q.shape[-2]))
        keep = keep.expand(*q.shape[:-1], q.shape[-2])  # a view, no memory
    scale = default_scale(q.shape[-1]) if scale is None else scale
    keys = scale * F.normalize(q, dim=-1)

    buckets = lsh_buckets(q.detach(), rotations.to(q))
    order = buckets.argsort(dim=-1, stable=True)
    ranks = order.argsort(dim=-1)
    rounds = list(zip(buckets.unbind(-2), (ranks // chunk).unbind(-2), strict=True))
    outs, totals = [], []
    for this, (sorted_positions, rank) in enumerate(
        zip(order.unbind(-2), ranks.unbind(-2), strict=True)
    ):
        asking, asked = cut(sorted_positions, chunk)
        met = [meet(*hashed, asking, asked) for hashed in rounds]
        look = met[this] & may_look(keep, asking, asked, causal)
        # Found in several rounds, a key shares its weight among them: it counts once in all.
        scores = take(q, asking) @ take(keys, asked).transpose(-2, -1) - sum(met).to(q).log()
        scores = scores.masked_fill(~look, -torch.inf)
        # Oneself: below any score, yet finite, so that it counts only where there is nothing else.
        itself = asked[..., None, :] == asking[..., None]
        scores = scores.masked_fill(itself, torch.finfo(scores.dtype).min / 2)
        outs.append(unsort(scores.softmax(-1) @ take(v, asked), rank))
        totals.append(unsort(scores.logsumexp(-1, keepdim=True), rank))
    return (torch.stack(totals).softmax(0) * torch.stack(outs)).sum(0)


lsh_attention.within_one_sequence = True


class LSHAttention(nn.Module):
    """`lsh_attention` with new random rotations at every call, to be given as `attend=`.

    Paper: Kitaev et al. 2020, arXiv:2001.04451, section 2.

    Args:
        n_buckets: Hashes that a round can give; even.
        chunk: Tokens to a chunk. The paper takes 2 length / n_buckets.
        n_rounds: Hash functions.
        causal: Whether a token looks only at what came before.
        scale: Dimensionless. None: `default_scale(d_k)`.
        generator: Where the randomness comes from. None: torch's own.

    Raises:
        ValueError: n_buckets is odd, or a number is less than 1.
    """

    within_one_sequence = True

    def __init__(
        self,
        n_buckets: int,
        chunk: int,
        *,
        n_rounds: int = 1,
        causal: bool = False,
        scale: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_buckets(n_buckets)
        check_at_least_one(chunk=chunk, n_rounds=n_rounds)
        self.n_buckets = n_buckets
        self.chunk = chunk
        self.n_rounds = n_rounds
        self.causal = causal
        self.scale = scale
        self.generator = generator

    def forward(
        self,
        q: Float[Tensor, "batch head length d_k"],
        k: Float[Tensor, "batch head length d_k"],
        v: Float[Tensor, "batch head length d_v"],
        keep: Look | None = None,
    ) -> Float[Tensor, "batch head length d_v"]:
        """Hash anew, and attend.

        Args:
            q: Queries.
            k: Keys, before they are normalised: equal to q.
            v: Values.
            keep: True where a query may look. None: everywhere.

        Returns:
            The output of `lsh_attention`.

        Raises:
            TypeError: `keep` is not Boolean.
            ValueError: See `lsh_attention`.
        """
        rotations = random_rotations(self.n_rounds, q.shape[-1], self.n_buckets, self.generator)
        return lsh_attention(
            q,
            k,
            v,
            keep,
            rotations=rotations,
            chunk=self.chunk,
            causal=self.causal,
            scale=self.scale,
        )


def cut(
    order: Int[Tensor, "batch head length"], chunk: int
) -> tuple[Int[Tensor, "batch head chunks asking"], Int[Tensor, "batch head chunks asked"]]:
    """Cut sorted positions into chunks: who asks in each, and who is asked, there or one back.

    Returns:
        The positions; -1 where the last chunk is not full and where no chunk comes before.
    """
    asking = F.pad(order, (0, -order.shape[-1] % chunk), value=-1).unflatten(-1, (-1, chunk))
    previous = F.pad(asking, (0, 0, 1, -1), value=-1)
    return asking, torch.cat([previous, asking], dim=-1)


def meet(
    buckets: Int[Tensor, "batch head length"],
    chunks: Int[Tensor, "batch head length"],
    asking: Int[Tensor, "batch head chunks asking"],
    asked: Int[Tensor, "batch head chunks asked"],
) -> Bool[Tensor, "batch head chunks asking asked"]:
    """Say which pairs a round of hashing brings together: same bucket, same chunk or one back."""
    same = take(buckets, asking)[..., None] == take(buckets, asked)[..., None, :]
    back = take(chunks, asking)[..., None] - take(chunks, asked)[..., None, :]
    return same & ((back == 0) | (back == 1))


def may_look(
    keep: Bool[Tensor, "batch head length length"] | None,
    asking: Int[Tensor, "batch head chunks asking"],
    asked: Int[Tensor, "batch head chunks asked"],
    causal: bool,
) -> Bool[Tensor, "batch head chunks asking asked"]:
    """Say which pairs are of a position and another, earlier if causal, that `keep` lets it see."""
    queries, keys = asking[..., None], asked[..., None, :]
    look = (keys >= 0) & ((keys < queries) if causal else (keys != queries))
    return look if keep is None else look & take(keep, queries, keys)


def take(x: Shaped[Tensor, "batch head length *rest"], *index: Tensor) -> Tensor:
    """Pick positions of each batch and head apart; each index is [batch head ...]."""
    ones = [1] * (index[0].ndim - 2)
    batch = torch.arange(x.shape[0], device=x.device).view(-1, 1, *ones)
    head = torch.arange(x.shape[1], device=x.device).view(-1, *ones)
    return x[(batch, head, *index)]


def unsort(
    x: Float[Tensor, "batch head chunks asking d"], rank: Int[Tensor, "batch head length"]
) -> Float[Tensor, "batch head length d"]:
    """Put what stands in sorted order, chunk by chunk, back to the positions."""
    return take(x.flatten(2, 3), rank)


def check_shared(q: Tensor, k: Tensor, v: Tensor, rotations: Tensor) -> None:
    """Refuse what cannot be attention with shared queries and keys.

    Raises:
        ValueError: See `lsh_attention`.
    """
    if q.shape[:-1] != v.shape[:-1] or q.shape[-1] != rotations.shape[-2]:
        raise ValueError(
            "give q [batch head length d_k], v [batch head length d_v] and rotations "
            f"[round d_k half]; got {list(q.shape)}, {list(v.shape)} and {list(rotations.shape)}."
        )
    # Projected twice, they may differ by a rounding; in bfloat16 that is 1 in 256.
    if q.shape != k.shape or (to_be_read(q) and (q - k).norm() > 0.01 * q.norm()):
        raise ValueError(
            "LSH attention needs keys that are the queries; got others. Tie the projections: "
            "tie_query_and_key(attention)."
        )
    check_qkv(q, k, v)


def check_buckets(n_buckets: int) -> None:
    """Refuse a number of buckets that a hash cannot give.

    Raises:
        ValueError: It is odd, or less than 2.
    """
    if n_buckets < 2 or n_buckets % 2:
        raise ValueError(
            "n_buckets must be even and at least 2, one for each end of each direction; "
            f"got {n_buckets}."
        )
