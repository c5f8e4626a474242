"""Linear attention: sum over the keys first, so that no query ever meets a single key.

Four forms of one formula: `linear_attention` looks everywhere, `causal_linear_attention` only back,
in parallel; `linear_attention_step` is the same as a recurrent network with a state of constant
size, and `recurrent_linear_attention` runs it over a sequence. What the features are is passed in;
see `feature_maps`. Features, sums and states are in float32 at least, whatever q, k and v are in.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from qa_lab.transformer._checks import check_qkv
from qa_lab.transformer._precision import in_float32
from qa_lab.transformer.attention.feature_maps import FeatureMap, elu_plus_one
from qa_lab.transformer.attention.masks import check_keep


@in_float32
def linear_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    *,
    feature_map: FeatureMap = elu_plus_one,
) -> Float[Tensor, "*batch query d_v"]:
    r"""Average the values, weighting each by a dot product of features.

    $$ out_i = \frac{\phi(q_i)^T \sum_j \phi(k_j) v_j^T}{\phi(q_i)^T \sum_j \phi(k_j)} $$

    The sums do not depend on i. Time and memory grow as query + key, not as query x key.

    Paper: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.2, eq. 5.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look, the same for every query: one sum serves all. None:
            everywhere.
        feature_map: From queries and keys to features >= 0.

    Returns:
        The output: for each query an average of the values it may see, weights >= 0 with sum 1.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: The shapes do not fit, `keep` differs from query to query, some query may see
            no key, or the features are negative, not finite, or 0 for all the keys of a query.
    """
    phi_q, phi_k = features(feature_map, q, k, v)
    if keep is not None:
        check_keep(keep, (*q.shape[:-1], k.shape[-2]))
        phi_k = hide(phi_k, same_for_all(keep, torch.ones_like(keep)))
    return normalise(phi_q @ (phi_k.transpose(-2, -1) @ with_ones(v)))


@in_float32
def causal_linear_attention(
    q: Float[Tensor, "*batch length d_k"],
    k: Float[Tensor, "*batch length d_k"],
    v: Float[Tensor, "*batch length d_v"],
    keep: Bool[Tensor, "*#batch #length #length"] | None = None,
    *,
    feature_map: FeatureMap = elu_plus_one,
    chunk: int = 64,
) -> Float[Tensor, "*batch length d_v"]:
    r"""Attend linearly to the query's own position and those before, all queries in parallel.

    $$ out_i = \frac{\phi(q_i)^T S_i}{\phi(q_i)^T z_i},  S_i = \sum_{j \le i} \phi(k_j) v_j^T,
       z_i = \sum_{j \le i} \phi(k_j) $$

    The sequence is cut into chunks. A query meets its own chunk key by key, and all the chunks
    before as one sum. That holds length x chunk scores and length / chunk states of features x
    (d_v + 1) numbers, never [length length] scores.

    Paper: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3, eqs. 9 to 12.
    Departs: in chunks, by autograd; the paper sums over single positions, with its own gradient.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look; of the keys before it, the same for every query, as in
            `causal_mask` and `over_keys`. None: everywhere back.
        feature_map: From queries and keys to features >= 0.
        chunk: Tokens to a chunk. The result does not depend on it.

    Returns:
        The output: for each query an average of the values it may see, weights >= 0 with sum 1.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: As `linear_attention`; or the numbers of queries and keys differ, the first key
            is hidden, or the chunk is less than 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 token; got {chunk}.")
    phi_q, phi_k = causal_features(feature_map, q, k, v, keep)
    length = q.shape[-2]
    phi_q, phi_k, values = (
        F.pad(x, (0, 0, 0, -length % chunk)).unflatten(-2, (-1, chunk))
        for x in (phi_q, phi_k, with_ones(v))
    )  # [... chunks chunk features]
    sums = phi_k.transpose(-2, -1) @ values
    before = F.pad(sums, (0, 0, 0, 0, 1, -1)).cumsum(-3)  # of the chunks before, not its own
    own = (phi_q @ phi_k.transpose(-2, -1)).tril() @ values
    return normalise((phi_q @ before + own).flatten(-3, -2)[..., :length, :])


class LinearState(NamedTuple):
    """What linear attention remembers of the keys so far: its size does not grow with them."""

    S: Float[Tensor, "*batch features d_v"]
    """Sum of phi(k) v^T."""
    z: Float[Tensor, "*batch features"]
    """Sum of phi(k)."""


@in_float32
def linear_attention_step(
    phi_q: Float[Tensor, "*batch features"],
    phi_k: Float[Tensor, "*batch features"],
    v: Float[Tensor, "*batch d_v"],
    state: LinearState | None = None,
) -> tuple[Float[Tensor, "*batch d_v"], LinearState]:
    r"""Take in one key and value, then answer one query from the state.

    $$ S_i = S_{i-1} + \phi(k_i) v_i^T,  z_i = z_{i-1} + \phi(k_i),
       out_i = \frac{\phi(q_i)^T S_i}{\phi(q_i)^T z_i} $$

    Paper: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.4, eqs. 16 to 20.
    Departs: the attention only, without the layer's residual and feed-forward around it.

    Args:
        phi_q: Features of the query, >= 0.
        phi_k: Features of the key, >= 0. All 0: the key is hidden.
        v: Value.
        state: After the positions before. None: this is the first.

    Returns:
        The output, and the state with this key in it: in float32 at least, as a sum in half
        precision would soon stop growing.

    Raises:
        ValueError: The query's features are 0 on all the keys so far, or the shapes do not fit.
    """
    if phi_q.shape != phi_k.shape or phi_k.shape[:-1] != v.shape[:-1]:
        raise ValueError(
            "give phi_q [... features], phi_k [... features] and v [... d_v]; got "
            f"{list(phi_q.shape)}, {list(phi_k.shape)} and {list(v.shape)}."
        )
    S, z = phi_k.unsqueeze(-1) * v.unsqueeze(-2), phi_k
    if state is not None:
        if (state.S.shape, state.z.shape) != (S.shape, z.shape):
            raise ValueError(
                f"the state is for phi_k {list(state.z.shape)} and S {list(state.S.shape)}; got "
                f"{list(z.shape)} and {list(S.shape)}."
            )
        S, z = state.S + S, state.z + z
    numerator = (phi_q.unsqueeze(-2) @ S).squeeze(-2)
    denominator = (phi_q * z).sum(-1, keepdim=True)
    return normalise(torch.cat([numerator, denominator], dim=-1)), LinearState(S, z)


@in_float32
def recurrent_linear_attention(
    q: Float[Tensor, "*batch length d_k"],
    k: Float[Tensor, "*batch length d_k"],
    v: Float[Tensor, "*batch length d_v"],
    keep: Bool[Tensor, "*#batch #length #length"] | None = None,
    *,
    feature_map: FeatureMap = elu_plus_one,
) -> Float[Tensor, "*batch length d_v"]:
    """Compute `causal_linear_attention` one position after the other, by `linear_attention_step`.

    Paper: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.4.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: As in `causal_linear_attention`.
        feature_map: From queries and keys to features >= 0.

    Returns:
        The output of `causal_linear_attention`, up to rounding.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: As `causal_linear_attention`.
    """
    phi_q, phi_k = causal_features(feature_map, q, k, v, keep)
    outs, state = [], None
    for one in zip(phi_q.unbind(-2), phi_k.unbind(-2), v.unbind(-2), strict=True):
        out, state = linear_attention_step(*one, state)
        outs.append(out)
    return torch.stack(outs, dim=-2)


causal_linear_attention.within_one_sequence = True
recurrent_linear_attention.within_one_sequence = True


def with_ones(v: Float[Tensor, "*batch key d_v"]) -> Float[Tensor, "*batch key d_v_plus_1"]:
    """Append a 1 to each value: what sums weighted values then sums the weights, too, last."""
    return F.pad(v, (0, 1), value=1.0)


def normalise(sums: Float[Tensor, "*batch d_v_plus_1"]) -> Float[Tensor, "*batch d_v"]:
    """Divide the sums of weighted values by the sum of the weights, which stands last.

    Raises:
        ValueError: A sum of weights is 0.
    """
    total = sums[..., -1:]
    if empty := int((total == 0).sum()):
        raise ValueError(
            f"the features of {empty} of the {total.numel()} queries are 0 on every key that they "
            "may see: their output would be 0/0. Choose a feature map that is > 0."
        )
    return sums[..., :-1] / total


def features(feature_map: FeatureMap, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Map queries and keys, and refuse what cannot be weights.

    Raises:
        ValueError: The shapes do not fit, or a feature is negative, infinite or NaN.
    """
    check_qkv(q, k, v)
    mapped = feature_map(q), feature_map(k)
    for name, phi in zip(("queries", "keys"), mapped, strict=True):
        if wrong := int((~((phi >= 0) & phi.isfinite())).sum()):
            raise ValueError(
                f"feature_map gave {wrong} of {phi.numel()} features of the {name} that are "
                "negative, infinite or NaN; weights made of them would not be >= 0 with sum 1."
            )
    return mapped


def causal_features(
    feature_map: FeatureMap, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Map queries and keys of one sequence, the hidden keys to 0.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: See `causal_linear_attention`.
    """
    phi_q, phi_k = features(feature_map, q, k, v)
    if q.shape != k.shape:
        raise ValueError(
            f"causal linear attention is of a sequence with itself; got {q.shape[-2]} queries and "
            f"{k.shape[-2]} keys. To go on after a prefix, use linear_attention_step."
        )
    if keep is None:
        return phi_q, phi_k
    check_keep(keep, (*q.shape[:-1], k.shape[-2]))
    kept = same_for_all(keep, torch.ones_like(keep).tril())
    if hidden := int((~kept[..., 0]).sum()):
        raise ValueError(
            f"the first key is hidden in {hidden} of {kept[..., 0].numel()} rows of keep: its "
            "query, which may not look ahead, sees no key. Pad on the right."
        )
    return phi_q, hide(phi_k, kept)


def same_for_all(
    keep: Bool[Tensor, "*batch query key"], asked: Bool[Tensor, "*batch query key"]
) -> Bool[Tensor, "*batch key"]:
    """Reduce a look mask to a mask of keys, given where the queries would look without it.

    Raises:
        ValueError: The mask hides a key from one of the queries that would look at it, not from
            another.
    """
    kept = keep[..., -1, :]
    if ((keep != kept.unsqueeze(-2)) & asked).any():
        raise ValueError(
            "keep differs from query to query; linear attention sums the keys once for all "
            "queries, so it can hide a key only from all of them. Give [... 1 key], and use "
            "causal_linear_attention to look back only."
        )
    return kept


def hide(
    phi_k: Float[Tensor, "*batch key features"], kept: Bool[Tensor, "*#batch #key"]
) -> Float[Tensor, "*batch key features"]:
    """Set the features of hidden keys to 0: they then add nothing to any sum."""
    return phi_k.masked_fill(~kept.unsqueeze(-1), 0.0)
