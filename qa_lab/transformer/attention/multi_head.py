"""Multi-head attention: project, attend in every head, mix.

What happens inside a head is passed in. `attend(q, k, v, keep)` replaces the attention itself by
another (linear, windowed, chunked, ...); `rotate` and `score_bias` tell the heads about positions.
Nothing else changes, so that two kinds of attention differ by one argument.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_batch, check_vectors
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention.cache import KVCache
from qa_lab.transformer.attention.dot_product import (
    Attend,
    Softmax,
    fused_attention,
    scaled_dot_product_attention,
)
from qa_lab.transformer.attention.softmax import masked_softmax

Rotate = Callable[[Tensor, int], Tensor]
"""From queries or keys [batch head length d_k] and the position of the first of them to the same,
turned by their positions."""
ScoreBias = Callable[[int, int], Tensor]
"""From a number of queries and of keys to what is added to their scores, [head query key]. The
queries are the last of the keys' positions."""
Mask = Bool[Tensor, "#batch #head #query #key"] | Bool[Tensor, "#query #key"]


class MultiHeadAttention(nn.Module):
    r"""Attend in several learned subspaces at once and mix what the heads found.

    $$ head_i = Attention(X W_i^Q, M W_i^K, M W_i^V),  out = [head_1 ... head_h] W^O $$

    X asks; M, the memory, is asked. M = X is self-attention, another M is cross-attention. The
    heads' matrices lie side by side in W_Q, W_K and W_V; counted from 0, head i owns the output
    features from i d_k up to, not including, (i + 1) d_k. With fewer key and value heads than
    query heads, consecutive query heads share one: n_kv_heads = 1 is multi-query attention.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2; multi-query, Shazeer 2019,
        arXiv:1911.02150, section 3; grouped-query, Ainslie et al. 2023, arXiv:2305.13245, section
        2.2.
    Departs: biases, which the paper's formulas do not have, are on by default, as in BERT and
        GPT-2.

    Args:
        d_model: Width of the input and of the output, in features.
        n_heads: Heads that ask.
        n_kv_heads: Heads that are asked. None: n_heads.
        d_k: Width of a query and a key, per head. None: d_model / n_heads.
        d_v: Width of a value, per head. None: d_k.
        bias: Whether the four projections have a bias.
        scale: Dimensionless. None: `default_scale(d_k)`.
        softmax: From scores and `keep` to weights. Any but `masked_softmax` forgoes the fused path.
        rotate: Turns queries and keys by their positions. None: does not.
        score_bias: Added to the scores, from the numbers of queries and keys. None: nothing.
        attend: Another attention, from q, k, v and `keep` to the heads' output; `scale`, `softmax`
            and `score_bias` are then its own business. None: scaled dot-product attention.

    Raises:
        ValueError: n_heads does not divide d_model, and d_k was not given; n_kv_heads does not
            divide n_heads; d_model or a number of heads is less than 1; or `attend` comes with a
            scale, softmax or score_bias that it would not hear of.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_k: int | None = None,
        d_v: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        softmax: Softmax = masked_softmax,
        rotate: Rotate | None = None,
        score_bias: ScoreBias | None = None,
        attend: Attend | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        check_heads(d_model, self.n_heads, self.n_kv_heads, d_k)
        self.d_k = d_model // n_heads if d_k is None else d_k
        self.d_v = self.d_k if d_v is None else d_v
        check_at_least_one(d_k=self.d_k, d_v=self.d_v)
        if attend is not None and (scale, softmax, score_bias) != (None, masked_softmax, None):
            raise ValueError(
                "attend replaces the whole attention: give scale, softmax and score_bias to it, "
                "not to MultiHeadAttention."
            )
        self.scale = scale
        self.softmax = softmax
        self.rotate = rotate
        self.score_bias = score_bias
        self.attend = attend
        self.W_Q = nn.Linear(d_model, self.n_heads * self.d_k, bias=bias)
        self.W_K = nn.Linear(d_model, self.n_kv_heads * self.d_k, bias=bias)
        self.W_V = nn.Linear(d_model, self.n_kv_heads * self.d_v, bias=bias)
        self.W_O = nn.Linear(self.n_heads * self.d_v, d_model, bias=bias)

    def forward(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        keep: Mask | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """Attend, by the fused path unless a softmax or an attention of one's own was given.

        Args:
            query_input: X, what asks.
            memory: M, what is asked. None: X itself.
            keep: True where a query may look. None: everywhere.
            cache: Keys and values so far. In self-attention those of X follow them, and the keys
                that `keep` is about are both; in cross-attention they are M's, made once.

        Returns:
            What each query found, mixed over the heads.

        Raises:
            TypeError: `keep` is not Boolean, or X or M holds whole numbers.
            ValueError: X, M or `keep` has a shape that does not fit, or some query may see no key.
        """
        if self.softmax is not masked_softmax:
            return self.attend_with_weights(query_input, memory, keep, cache)[0]
        q, k, v = self.project(query_input, memory, cache)
        if self.attend is not None:
            return self.mix(self.attend(q, k, v, self.check(keep)))
        bias = self.bias_of(q, k)
        return self.mix(fused_attention(q, k, v, self.check(keep), scale=self.scale, bias=bias))

    def attend_with_weights(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        keep: Mask | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Float[Tensor, "batch query d_model"], Float[Tensor, "batch head query key"]]:
        """Attend as `forward` does, and return each head's weights too.

        Args:
            query_input: X, what asks.
            memory: M, what is asked. None: X itself.
            keep: True where a query may look. None: everywhere.
            cache: Keys and values so far; see `forward`.

        Returns:
            The output of `forward`, and the weights. With `masked_softmax`, each row of the
            weights is >= 0 and sums to 1.

        Raises:
            TypeError: `keep` is not Boolean, or X or M holds whole numbers.
            ValueError: X, M or `keep` has a shape that does not fit, or some query may see no key;
                or an `attend` was given, which keeps no weights.
        """
        if self.attend is not None:
            raise ValueError("an attention given as attend= returns its output only, no weights.")
        q, k, v = self.project(query_input, memory, cache)
        heads, weights = scaled_dot_product_attention(
            q,
            k,
            v,
            self.check(keep),
            scale=self.scale,
            bias=self.bias_of(q, k),
            softmax=self.softmax,
        )
        return self.mix(heads), weights

    def project(
        self,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        cache: KVCache | None = None,
    ) -> tuple[
        Float[Tensor, "batch head query d_k"],
        Float[Tensor, "batch head key d_k"],
        Float[Tensor, "batch head key d_v"],
    ]:
        """Return the queries, keys and values of every head, the cache's included."""
        check_vectors(query_input, self.d_model, "query_input")
        if memory is not None:
            check_vectors(memory, self.d_model, "memory")
            check_batch(query_input=query_input, memory=memory)
        start = cache.seen if cache is not None and memory is None else 0
        q = self.turn(self.split(self.W_Q(query_input), self.n_heads), start)
        if cache is None:
            k, v = self.keys_and_values(query_input if memory is None else memory)
        elif memory is None:
            k, v = cache.extend(*self.keys_and_values(query_input, start))
        else:
            k, v = cache.filled_by(lambda: self.keys_and_values(memory))
        return q, self.share(k), self.share(v)

    def keys_and_values(
        self, memory: Float[Tensor, "batch key d_model"], start: int = 0
    ) -> tuple[Float[Tensor, "batch kv_head key d_k"], Float[Tensor, "batch kv_head key d_v"]]:
        """Return what a cache keeps of the memory, whose first position is `start`."""
        k = self.turn(self.split(self.W_K(memory), self.n_kv_heads), start)
        return k, self.split(self.W_V(memory), self.n_kv_heads)

    def split(
        self, x: Float[Tensor, "batch length head_times_d"], heads: int
    ) -> Float[Tensor, "batch {heads} length d"]:
        """Cut the features into heads."""
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def turn(
        self, x: Float[Tensor, "batch some_heads length d_k"], start: int
    ) -> Float[Tensor, "batch some_heads length d_k"]:
        """Turn queries or keys by their positions, if this attention does."""
        return x if self.rotate is None else self.rotate(x, start)

    def share(self, x: Float[Tensor, "batch kv_head key d"]) -> Float[Tensor, "batch head key d"]:
        """Hand each key or value head to its group of consecutive query heads."""
        group = self.n_heads // self.n_kv_heads
        return x if group == 1 else x.repeat_interleave(group, dim=1)

    def bias_of(
        self, q: Float[Tensor, "batch head query d_k"], k: Float[Tensor, "batch head key d_k"]
    ) -> Float[Tensor, "head query key"] | None:
        """Return what is added to the scores of these queries and keys."""
        if self.score_bias is None:
            return None
        bias = self.score_bias(q.shape[-2], k.shape[-2]).to(q)
        if bias.shape != (needed := (self.n_heads, q.shape[-2], k.shape[-2])):
            raise ValueError(
                f"score_bias gave {list(bias.shape)}; these scores need [head query key] = "
                f"{list(needed)}."
            )
        return bias

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


def tie_query_and_key(attention: MultiHeadAttention) -> MultiHeadAttention:
    r"""Make one matrix serve as W_Q and as W_K.

    $$ S = scale * (X W) (X W)^T, so that S_{ij} = S_{ji} $$

    Paper: Kitaev et al. 2020, arXiv:2001.04451, section 2 (shared-QK attention; there the keys are
        normalised, too).

    Args:
        attention: Changed in place.

    Returns:
        The same attention. In self-attention its scores are symmetric.

    Raises:
        ValueError: It has fewer key heads than query heads: the matrices differ in shape.
    """
    if attention.n_kv_heads != attention.n_heads:
        raise ValueError(
            f"{attention.n_heads} query heads cannot share a matrix with "
            f"{attention.n_kv_heads} key heads."
        )
    attention.W_K = attention.W_Q
    register_once(attention)
    return attention


def check_heads(d_model: int, n_heads: int, n_kv_heads: int, d_k: int | None) -> None:
    """Refuse heads that cannot share the features, or the keys, evenly.

    Raises:
        ValueError: See `MultiHeadAttention`.
    """
    if min(d_model, n_heads, n_kv_heads) < 1:
        raise ValueError(
            "d_model, n_heads and n_kv_heads must be at least 1; "
            f"got {d_model}, {n_heads} and {n_kv_heads}."
        )
    if d_k is None and d_model % n_heads:
        raise ValueError(
            f"n_heads = {n_heads} does not divide d_model = {d_model}: heads of "
            f"{d_model / n_heads:g} features. Choose a divisor, or give d_k."
        )
    if n_heads % n_kv_heads:
        raise ValueError(
            f"n_kv_heads = {n_kv_heads} does not divide n_heads = {n_heads}: each key and value "
            "head serves the same number of query heads."
        )
