"""Attention: short functions first, the multi-head module last.

`scale` and `softmax` are arguments, so that an experiment can change the mechanism from outside.
With the standard softmax and nobody asking for the weights, the module takes PyTorch's fused path,
which never stores the [query key] matrix of weights.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer.masks import check_keep, masked_softmax

Softmax = Callable[[Tensor, Tensor | None], Tensor]
"""From scores and `keep` to weights, as `masked_softmax` does."""


def default_scale(d_k: int) -> float:
    r"""Return the factor that keeps the variance of a score at 1.

    $$ scale = 1 / \sqrt{d_k} $$

    A dot product of d_k independent products of variance 1 has variance d_k.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1 and footnote 4.

    Args:
        d_k: Width of a query and of a key, in features.

    Returns:
        The scale, dimensionless.
    """
    return d_k**-0.5


def dot_product_scores(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch query key"]:
    """Score how well every key matches every query.

    $$ S = scale * Q K^T $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.

    Args:
        q: Queries.
        k: Keys.
        scale: Dimensionless. None: `default_scale(d_k)`.

    Returns:
        The scores, dimensionless logits.
    """
    scale = default_scale(q.shape[-1]) if scale is None else scale
    return scale * (q @ k.transpose(-2, -1))


def attention_weights(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    *,
    scale: float | None = None,
    softmax: Softmax = masked_softmax,
) -> Float[Tensor, "*batch query key"]:
    """Share each query's attention among the keys that it may see.

    $$ W = softmax_{key}(scale * Q K^T) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error; the paper is silent.

    Args:
        q: Queries.
        k: Keys.
        keep: True where a query may look. None: everywhere.
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights.

    Returns:
        The weights. With `masked_softmax`, each row is >= 0 and sums to 1.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: `keep` does not broadcast to the scores, or some query may see no key.
    """
    return softmax(dot_product_scores(q, k, scale=scale), keep)


def scaled_dot_product_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    *,
    scale: float | None = None,
    softmax: Softmax = masked_softmax,
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Average the values, weighting each by how well its key matches the query.

    $$ W = softmax_{key}(scale * Q K^T),  out = W V $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error; the paper is silent.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look. None: everywhere.
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights.

    Returns:
        The output, and the weights. With `masked_softmax`, each row of the weights is >= 0 and sums
        to 1, so that each output lies in the convex hull of the values its query may see.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: `keep` does not broadcast to the scores, or some query may see no key.
    """
    weights = attention_weights(q, k, keep, scale=scale, softmax=softmax)
    return weights @ v, weights


def fused_attention(
    q: Float[Tensor, "*batch query d_k"],
    k: Float[Tensor, "*batch key d_k"],
    v: Float[Tensor, "*batch key d_v"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "*batch query d_v"]:
    """Compute the output of `scaled_dot_product_attention` without keeping the weights.

    $$ out = softmax_{key}(scale * Q K^T) V $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, eq. 1.
    Departs: a query that may see no key is an error, where PyTorch returns zeros.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        keep: True where a query may look. None: everywhere.
        scale: Dimensionless. None: `default_scale(d_k)`.

    Returns:
        The output, equal to the first value of `scaled_dot_product_attention` up to rounding.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: `keep` does not broadcast to the scores, or some query may see no key.
    """
    if keep is not None:
        check_keep(keep, (*q.shape[:-1], k.shape[-2]))
    scale = default_scale(q.shape[-1]) if scale is None else scale
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep, scale=scale)


class MultiHeadAttention(nn.Module):
    r"""Attend in several learned subspaces at once and mix what the heads found.

    $$ head_i = Attention(X W_i^Q, M W_i^K, M W_i^V),  out = [head_1 ... head_h] W^O $$

    X asks; M, the memory, is asked. M = X is self-attention, another M is cross-attention. The
    heads' matrices lie side by side in W_Q, W_K and W_V; counted from 0, head i owns the output
    features from i d_k up to, not including, (i + 1) d_k.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    Departs: biases, which the paper's formulas do not have, are on by default, as in most later
        models.

    Args:
        d_model: Width of the input and of the output, in features.
        n_heads: Heads.
        d_k: Width of a query and a key, per head. None: d_model / n_heads.
        d_v: Width of a value, per head. None: d_k.
        bias: Whether the four projections have a bias.
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights. Any but `masked_softmax` forgoes the fused path.

    Raises:
        ValueError: n_heads does not divide d_model, and d_k was not given.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_k: int | None = None,
        d_v: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        softmax: Softmax = masked_softmax,
    ) -> None:
        super().__init__()
        if d_k is None and d_model % n_heads:
            raise ValueError(
                f"n_heads = {n_heads} does not divide d_model = {d_model}: heads of "
                f"{d_model / n_heads:g} features. Choose a divisor, or give d_k."
            )
        self.n_heads = n_heads
        self.d_k = d_model // n_heads if d_k is None else d_k
        self.d_v = self.d_k if d_v is None else d_v
        self.scale = scale
        self.softmax = softmax
        self.W_Q = nn.Linear(d_model, n_heads * self.d_k, bias=bias)
        self.W_K = nn.Linear(d_model, n_heads * self.d_k, bias=bias)
        self.W_V = nn.Linear(d_model, n_heads * self.d_v, bias=bias)
        self.W_O = nn.Linear(n_heads * self.d_v, d_model, bias=bias)

    def forward(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        keep: Bool[Tensor, "#batch #head #query #key"] | Bool[Tensor, "#query #key"] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """Attend, by the fused path unless a softmax of one's own was given.

        Args:
            query_input: X, what asks.
            memory: M, what is asked. None: X itself.
            keep: True where a query may look. None: everywhere.

        Returns:
            What each query found, mixed over the heads.

        Raises:
            TypeError: `keep` is not Boolean.
            ValueError: `keep` has a shape that does not fit, or some query may see no key.
        """
        if self.softmax is not masked_softmax:
            return self.attend_with_weights(query_input, memory, keep)[0]
        q, k, v = self.project(query_input, memory)
        return self.mix(fused_attention(q, k, v, self.check(keep), scale=self.scale))

    def attend_with_weights(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        keep: Bool[Tensor, "#batch #head #query #key"] | Bool[Tensor, "#query #key"] | None = None,
    ) -> tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch head query key"]]:
        """Attend as `forward` does, and return each head's weights too.

        Args:
            query_input: X, what asks.
            memory: M, what is asked. None: X itself.
            keep: True where a query may look. None: everywhere.

        Returns:
            The output of `forward`, and the weights: each row is >= 0 and sums to 1.

        Raises:
            TypeError: `keep` is not Boolean.
            ValueError: `keep` has a shape that does not fit, or some query may see no key.
        """
        q, k, v = self.project(query_input, memory)
        heads, weights = scaled_dot_product_attention(
            q, k, v, self.check(keep), scale=self.scale, softmax=self.softmax
        )
        return self.mix(heads), weights

    def project(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch head query d_k"],
        Float[Tensor, "batch head key d_k"],
        Float[Tensor, "batch head key d_v"],
    ]:
        """Return the queries, keys and values of every head."""
        memory = query_input if memory is None else memory
        return (
            self.split(self.W_Q(query_input)),
            self.split(self.W_K(memory)),
            self.split(self.W_V(memory)),
        )

    def split(
        self, x: Float[Tensor, "batch length head_times_d"]
    ) -> Float[Tensor, "batch head length d"]:
        """Cut the features into heads."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def mix(
        self, heads: Float[Tensor, "batch head query d_v"]
    ) -> Float[Tensor, "batch query d_model"]:
        """Put the heads side by side and mix them with W_O."""
        return self.W_O(heads.transpose(1, 2).flatten(-2))

    @staticmethod
    def check(keep: Tensor | None) -> Tensor | None:
        """Refuse a mask whose axes could be read in two ways."""
        if keep is not None and keep.ndim not in (2, 4):
            raise ValueError(
                f"keep has {keep.ndim} axes, {list(keep.shape)}; give [query key] or "
                "[batch head query key], with 1 for an axis along which it does not change."
            )
        return keep
