"""Relative positions inside attention, as vectors: every distance has a key and a value of its own.

`ShawAttention` is called as `attend(q, k, v, keep, bias)`. Relative positions that only add a
number to each score are in `biases`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_qkv, check_width
from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.attention import default_scale, masked_softmax
from qa_lab.transformer.positions.biases import check_distances


def clipped_distances(
    queries: int, keys: int, max_distance: int, device: torch.device | None = None
) -> Int[Tensor, "{queries} {keys}"]:
    r"""Number the distances from every query to every key, those beyond the maximum as the maximum.

    $$ row_{qk} = \max(-m, \min(m, k - p_q)) + m,  p_q = keys - queries + q,  m = max\_distance $$

    Paper: Shaw et al. 2018, arXiv:1803.02155, section 3.2.
    Departs: the paper's distances start at -m; ours, rows of a table, at 0.

    Args:
        queries: How many; the last of the keys' positions.
        keys: How many.
        max_distance: In tokens.
        device: Where the numbers are made.

    Returns:
        Rows 0..2 max_distance of a table: max_distance stands for distance 0, less for the past,
        more for the future.

    Raises:
        ValueError: There are more queries than keys, or max_distance is negative.
    """
    check_max_distance(max_distance)
    check_distances(queries, keys)
    position = torch.arange(keys, device=device)
    distance = position - position[keys - queries :, None]
    return distance.clamp(-max_distance, max_distance) + max_distance


def shaw_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    key_table: Float[Tensor, "rows d_k"],
    value_table: Float[Tensor, "rows d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
) -> Float[Tensor, "*batch query d_v"]:
    r"""Attend to keys and values that know how far away they are.

    $$ e_{ij} = \frac{q_i \cdot (k_j + a^K_{ij})}{\sqrt{d_k}},
       out_i = \sum_j softmax_j(e_{ij}) (v_j + a^V_{ij}) $$

    a_ij is row clip(j - i) of a table. A tensor of all a_ij would hold query x key x d_k numbers.
    It is never made: each query is multiplied with every row of the key table, and each weight is
    added to the row of the value table that it belongs to, before that row is used.

    Paper: Shaw et al. 2018, arXiv:1803.02155, section 3.1, eq. 3 and 4; the scores in two terms,
        section 3.3, eq. 5.
    Departs: the paper saves memory by sharing a_ij among heads and sequences; here the sums are
        rearranged too.

    Args:
        q: Queries; the last of the keys' positions.
        k: Keys.
        v: Values.
        key_table: a^K, one row for each distance -m..m.
        value_table: a^V, likewise.
        keep: True where a query may look. None: everywhere.
        bias: Added to the scaled scores, dimensionless. None: nothing.

    Returns:
        The output, in the units of the values.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: The shapes do not fit, the tables differ in their rows or have an even number of
            them, there are more queries than keys, or the mask does not fit; see `masked_softmax`.
    """
    check_qkv(q, k, v)
    rows = len(key_table)
    if rows % 2 == 0 or len(value_table) != rows:
        raise ValueError(
            f"the tables have {rows} and {len(value_table)} rows; both need 2 m + 1, for the "
            "distances -m..m."
        )
    check_width(key_table, k.shape[-1], "key_table")
    check_width(value_table, v.shape[-1], "value_table")
    row = clipped_distances(q.shape[-2], k.shape[-2], rows // 2, q.device)
    row = row.expand(*q.shape[:-1], -1)
    dtype = v.dtype
    q, k, v, key_table, value_table = map(at_least_float32, (q, k, v, key_table, value_table))
    by_distance = (q @ key_table.T).gather(-1, row)
    scores = default_scale(q.shape[-1]) * (q @ k.mT + by_distance)
    weights = masked_softmax(scores if bias is None else scores + bias, keep)
    weight_of_row = weights.new_zeros(*q.shape[:-1], rows).scatter_add(-1, row, weights)
    return (weights @ v + weight_of_row @ value_table).to(dtype)


class ShawAttention(nn.Module):
    r"""`shaw_attention` with learned tables; called as `attend(q, k, v, keep, bias)`.

    All heads of a layer share the tables.

    Paper: Shaw et al. 2018, arXiv:1803.02155, sections 3.1 to 3.3.
    Departs: the tables start at N(0, 1/d_k) and N(0, 1/d_v); the paper is silent.

    Args:
        d_k: Width of a query and a key, per head.
        max_distance: Beyond it, in tokens, all distances count as this one. 0 tells no positions.
        d_v: Width of a value, per head. None: d_k.

    Raises:
        ValueError: max_distance is negative, or a width is less than 1.
    """

    within_one_sequence = True

    def __init__(self, d_k: int, max_distance: int, *, d_v: int | None = None) -> None:
        super().__init__()
        check_max_distance(max_distance)
        d_v = d_k if d_v is None else d_v
        check_at_least_one(d_k=d_k, d_v=d_v)
        rows = 2 * max_distance + 1
        self.key_table = nn.Parameter(torch.randn(rows, d_k) * d_k**-0.5)
        self.value_table = nn.Parameter(torch.randn(rows, d_v) * d_v**-0.5)

    def forward(
        self,
        q: Float[Tensor, "batch head query d_k"],
        k: Float[Tensor, "batch head key d_k"],
        v: Float[Tensor, "batch head key d_v"],
        keep: Bool[Tensor, "#batch #head #query #key"] | Bool[Tensor, "#query #key"] | None = None,
        bias: Float[Tensor, "*#batch_head query key"] | None = None,
    ) -> Float[Tensor, "batch head query d_v"]:
        """Attend to keys and values that know how far away they are.

        Args:
            q: Queries; the last of the keys' positions.
            k: Keys.
            v: Values.
            keep: True where a query may look. None: everywhere.
            bias: Added to the scaled scores, dimensionless. None: nothing.

        Returns:
            The output, in the units of the values.

        Raises:
            TypeError: `keep` is not Boolean.
            ValueError: The widths are not those of the tables, there are more queries than keys, or
                the mask does not fit; see `masked_softmax`.
        """
        return shaw_attention(q, k, v, self.key_table, self.value_table, keep, bias)


def check_max_distance(max_distance: int) -> None:
    """Refuse a largest distance below 0.

    Raises:
        ValueError: It is negative.
    """
    if max_distance < 0:
        raise ValueError(f"max_distance = {max_distance} tokens: it must be 0 or more.")
