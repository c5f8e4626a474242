"""Attention as functions: scores, weights, output. The module is in `multi_head`.

`scale`, `bias` and `softmax` are arguments, so that an experiment can change the mechanism from
outside. `fused_attention` is the same by PyTorch's fused path, which never stores the [query key]
matrix of weights. `DotProductAttention` is both: fused until somebody asks for the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from qa_lab.transformer._checks import check_at_least_one, check_qkv
from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.attention.masks import check_keep
from qa_lab.transformer.attention.softmax import masked_softmax

Softmax = Callable[[Tensor, Tensor | None], Tensor]
"""From scores and `keep` to weights, as `masked_softmax` does."""
Attend = Callable[..., tuple[Tensor, Tensor | None] | Tensor]
"""What happens inside every head: `attend(q, k, v, keep, bias)` gives the output and the weights,
or None for weights that were never made; one that never makes any may give the output alone.
`bias` is added to the scores; where there is none, it is not handed over. One that takes queries
and keys for places of one sequence says so, by an attribute `within_one_sequence = True`."""


def default_scale(d_k: int) -> float:
    r"""Return the factor that keeps the variance of a score at 1.

    $$ scale = 1 / \sqrt{d_k} $$

    A dot product of d_k independent products of variance 1 has variance d_k.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1 and footnote 4.

    Args:
        d_k: Width of a query and of a key, in features.

    Returns:
        The scale, dimensionless.

    Raises:
        ValueError: d_k is less than 1.
    """
    check_at_least_one(d_k=d_k)
    return d_k**-0.5


def dot_product_scores(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    *,
    scale: float | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
) -> Float[Tensor, "*batch query key"]:
    """Score how well every key matches every query.

    $$ S = scale * Q K^T + bias $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1; the bias, Raffel et al.
        2019, arXiv:1910.10683, section 2.1.

    Args:
        q: Queries.
        k: Keys.
        scale: Dimensionless. None: `default_scale(d_k)`.
        bias: Added to the scaled scores, dimensionless. None: nothing.

    Returns:
        The scores, dimensionless logits. Those of queries in half precision are float32: a dot
        product leaves the range of float16 long before its softmax has decided.

    Raises:
        TypeError: The queries are whole numbers.
        ValueError: The shapes do not fit, or there is no key.
    """
    check_qkv(q, k)
    scale = default_scale(q.shape[-1]) if scale is None else scale
    scores = scale * (at_least_float32(q) @ at_least_float32(k).transpose(-2, -1))
    return scores if bias is None else scores + bias


def attention_weights(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    *,
    scale: float | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
    softmax: Softmax = masked_softmax,
) -> Float[Tensor, "*batch query key"]:
    """Share each query's attention among the keys that it may see.

    $$ W = softmax_{key}(scale * Q K^T + bias) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error; the paper is silent.

    Args:
        q: Queries.
        k: Keys.
        keep: True where a query may look. None: everywhere.
        scale: Dimensionless. None: `default_scale(d_k)`.
        bias: Added to the scaled scores, dimensionless. None: nothing.
        softmax: From scores and `keep` to weights.

    Returns:
        The weights. With `masked_softmax`, each row is >= 0 and sums to 1.

    Raises:
        TypeError: `keep` is not Boolean, or the queries are whole numbers.
        ValueError: The shapes do not fit, there is no key, `keep` does not broadcast to the scores,
            or some query may see no key.
    """
    return softmax(dot_product_scores(q, k, scale=scale, bias=bias), keep).to(q.dtype)


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
    *,
    scale: float | None = None,
    softmax: Softmax = masked_softmax,
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Average the values, weighting each by how well its key matches the query.

    $$ W = softmax_{key}(scale * Q K^T + bias),  out = W V $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error; the paper is silent.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look. None: everywhere.
        bias: Added to the scaled scores, dimensionless. None: nothing.
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights.

    Returns:
        The output, and the weights. With `masked_softmax`, each row of the weights is >= 0 and sums
        to 1, so that each output lies in the convex hull of the values its query may see.

    Raises:
        TypeError: `keep` is not Boolean, or the queries are whole numbers.
        ValueError: The shapes do not fit, there is no key, `keep` does not broadcast to the scores,
            or some query may see no key.
    """
    check_qkv(q, k, v)
    weights = softmax(dot_product_scores(q, k, scale=scale, bias=bias), keep)
    return (weights @ v.to(weights.dtype)).to(v.dtype), weights.to(q.dtype)


def fused_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch query d_v"]:
    """Compute the output of `scaled_dot_product_attention` without keeping the weights.

    $$ out = softmax_{key}(scale * Q K^T + bias) V $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error, where PyTorch returns zeros.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look. None: everywhere.
        bias: Added to the scaled scores, dimensionless. None: nothing.
        scale: Dimensionless. None: `default_scale(d_k)`.

    Returns:
        The output, equal to the first value of `scaled_dot_product_attention` up to rounding.

    Raises:
        TypeError: `keep` is not Boolean, or the queries are whole numbers.
        ValueError: The shapes do not fit, there is no key, `keep` does not broadcast to the scores,
            or some query may see no key.
    """
    check_qkv(q, k, v)
    if keep is not None:
        check_keep(keep, (*q.shape[:-1], k.shape[-2]))
    if bias is not None:
        keep = bias if keep is None else torch.where(keep, bias, -torch.inf)
    scale = default_scale(q.shape[-1]) if scale is None else scale
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep, scale=scale)


@dataclass(frozen=True)
class DotProductAttention:
    """Scaled dot-product attention, to be given as `attend=`: fused until weights are asked for.

    $$ W = softmax_{key}(scale * Q K^T + bias),  out = W V $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.

    Args:
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights, which forgoes the fused path. None:
            `masked_softmax`, which the fused path computes too.
    """

    scale: float | None = None
    softmax: Softmax | None = None

    def __call__(
        self,
        q: Float[Tensor, "*batch query d_k"],
        k: Float[Tensor, "*batch key d_k"],
        v: Float[Tensor, "*batch key d_v"],
        keep: Bool[Tensor, "*#batch #query #key"] | None = None,
        bias: Float[Tensor, "*#batch query key"] | None = None,
    ) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"] | None]:
        """Return the output, and None or the weights that a softmax of one's own has made."""
        if self.softmax is not None:
            return self.with_weights(q, k, v, keep, bias)
        return fused_attention(q, k, v, keep, bias, scale=self.scale), None

    def with_weights(
        self,
        q: Float[Tensor, "*batch query d_k"],
        k: Float[Tensor, "*batch key d_k"],
        v: Float[Tensor, "*batch key d_v"],
        keep: Bool[Tensor, "*#batch #query #key"] | None = None,
        bias: Float[Tensor, "*#batch query key"] | None = None,
    ) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
        """Return the output and the weights; see `scaled_dot_product_attention`."""
        softmax = masked_softmax if self.softmax is None else self.softmax
        return scaled_dot_product_attention(q, k, v, keep, bias, scale=self.scale, softmax=softmax)
