"""The scores that attention was born with: additive, and bilinear.

The third of the old scores, the plain dot product, is `dot_product_scores(q, k, scale=1.0)`.
A score function maps queries and keys to scores; `ScoredAttention` makes attention of it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_qkv, check_width
from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.attention.softmax import masked_softmax

Scores = Callable[[Tensor, Tensor], Tensor]
"""From queries [*batch query d_q] and keys [*batch key d_k] to scores [*batch query key]."""


def additive_scores(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v_a: Float[Tensor, " d_k"],
) -> Float[Tensor, "*batch query key"]:
    r"""Score every key against every query with a one-layer network instead of a dot product.

    $$ S_{ij} = v_a \cdot \tanh(q_i + k_j) $$

    Paper: Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2.
    Departs: the matrices W_a and U_a are the caller's query and key projections.

    Args:
        q: Queries, already projected.
        k: Keys, already projected.
        v_a: The network's output weights.

    Returns:
        The scores, dimensionless logits, none larger in size than the sum of |v_a|. On the way
        query x key x d_k numbers are held at once, where a dot product holds query x key.

    Raises:
        ValueError: q, k and v_a do not have the same width, q and k are of different batches, or
            there is no key.
    """
    if not q.shape[-1] == k.shape[-1] == v_a.shape[-1]:
        raise ValueError(
            f"additive scores add a query to a key: q, k and v_a must have one width; got "
            f"{q.shape[-1]}, {k.shape[-1]} and {v_a.shape[-1]} features."
        )
    check_qkv(q, k)
    q, k, v_a = (at_least_float32(x) for x in (q, k, v_a))
    return torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) @ v_a


def bilinear_scores(
    q: Float[Tensor, "*batch query d_q"],
    k: Float[Tensor, "*batch key d_k"],
    W_a: Float[Tensor, "d_q d_k"],
) -> Float[Tensor, "*batch query key"]:
    r"""Score every key against every query through one learned matrix.

    $$ S = Q W_a K^T $$

    With W_a the identity this is the plain dot product. A head's W_Q and W_K make the same kind of
    score, with W_a = W_Q W_K^T of rank at most d_k.

    Paper: Luong et al. 2015, arXiv:1508.04025, the score called "general".

    Args:
        q: Queries.
        k: Keys, of a width of their own.
        W_a: What a feature of the query makes of a feature of the key.

    Returns:
        The scores, dimensionless logits.

    Raises:
        ValueError: W_a is not [d_q d_k], q and k are of different batches, or there is no key.
    """
    if W_a.shape != (q.shape[-1], k.shape[-1]):
        raise ValueError(
            f"W_a must be [d_q d_k] = {[q.shape[-1], k.shape[-1]]} to stand between these queries "
            f"and keys; got {list(W_a.shape)}."
        )
    check_qkv(q, k, one_width=False)
    q, k, W_a = (at_least_float32(x) for x in (q, k, W_a))
    return q @ W_a @ k.transpose(-2, -1)


class AdditiveScores(nn.Module):
    r"""Additive scores with learned projections; see `additive_scores`.

    $$ S_{ij} = v_a \cdot \tanh(W_a q_i + U_a k_j) $$

    Paper: Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2.
    Departs: every matrix starts at N(0, 1/width of its input), so that scores of unit-variance
        queries and keys start with a variance below 1, whatever the widths.

    Args:
        d_query: Width of a query, in features.
        d_key: Width of a key, in features.
        d_a: Width of the hidden layer, in features. None: d_query.

    Raises:
        ValueError: A width is less than 1.
    """

    def __init__(self, d_query: int, d_key: int, d_a: int | None = None) -> None:
        super().__init__()
        d_a = d_query if d_a is None else d_a
        check_at_least_one(d_query=d_query, d_key=d_key, d_a=d_a)
        self.W_a = nn.Parameter(torch.randn(d_a, d_query) * d_query**-0.5)
        self.U_a = nn.Parameter(torch.randn(d_a, d_key) * d_key**-0.5)
        self.v_a = nn.Parameter(torch.randn(d_a) * d_a**-0.5)

    def forward(
        self, q: Float[Tensor, "*batch query d_query"], k: Float[Tensor, "*batch key d_key"]
    ) -> Float[Tensor, "*batch query key"]:
        """Score every key against every query.

        Args:
            q: Queries.
            k: Keys.

        Returns:
            The scores, dimensionless logits, none larger in size than the sum of |v_a|.

        Raises:
            ValueError: A query or a key is of another width, or the batches differ.
        """
        check_width(q, self.W_a.shape[-1], "q")
        check_width(k, self.U_a.shape[-1], "k")
        return additive_scores(q @ self.W_a.T, k @ self.U_a.T, self.v_a)


class BilinearScores(nn.Module):
    """Bilinear scores with a learned matrix; see `bilinear_scores`.

    $$ S = Q W_a K^T $$

    Paper: Luong et al. 2015, arXiv:1508.04025, the score called "general".
    Departs: W_a starts at N(0, 1/(d_query d_key)), so that scores of unit-variance queries and keys
        start with variance 1; the paper's weights start uniform, whatever the widths.

    Args:
        d_query: Width of a query, in features.
        d_key: Width of a key, in features.

    Raises:
        ValueError: A width is less than 1.
    """

    def __init__(self, d_query: int, d_key: int) -> None:
        super().__init__()
        check_at_least_one(d_query=d_query, d_key=d_key)
        self.W_a = nn.Parameter(torch.randn(d_query, d_key) * (d_query * d_key) ** -0.5)

    def forward(
        self, q: Float[Tensor, "*batch query d_query"], k: Float[Tensor, "*batch key d_key"]
    ) -> Float[Tensor, "*batch query key"]:
        """Score every key against every query.

        Args:
            q: Queries.
            k: Keys.

        Returns:
            The scores, dimensionless logits.
        """
        return bilinear_scores(q, k, self.W_a)


class ScoredAttention(nn.Module):
    """Attention with a score function of one's own, to be given to a head as its `attend`.

    $$ W = softmax_{key}(scores(Q, K) + bias),  out = W V $$

    Args:
        scores: From queries and keys to scores; a module's parameters are learned with the rest.
    """

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.scores = scores

    def forward(
        self,
        q: Float[Tensor, "*batch query d_q"],
        k: Float[Tensor, "*batch key d_k"],
        v: Float[Tensor, "*batch key d_v"],
        keep: Bool[Tensor, "*#batch #query #key"] | None = None,
        bias: Float[Tensor, "*#batch query key"] | None = None,
    ) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
        """Average the values, weighting each by how its key scores against the query.

        Args:
            q: Queries.
            k: Keys.
            v: Values.
            keep: True where a query may look. None: everywhere.
            bias: Added to the scores, dimensionless. None: nothing.

        Returns:
            The output, and the weights: each row is >= 0 and sums to 1.

        Raises:
            TypeError: `keep` is not Boolean.
            ValueError: The shapes do not fit, there is no key, `keep` does not broadcast to the
                scores, or some query may see no key.
        """
        check_qkv(q, k, v, one_width=False)
        scores = self.scores(q, k)
        weights = masked_softmax(scores if bias is None else scores + bias, keep)
        return (weights @ v.to(weights.dtype)).to(v.dtype), weights.to(q.dtype)
