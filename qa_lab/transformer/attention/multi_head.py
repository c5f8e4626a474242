"""Multi-head attention: project, attend in every head, mix.

What happens inside a head is passed in. `attend(q, k, v, keep, bias)` is the attention itself
(dot-product, linear, windowed, chunked, ...); `rotate` and `score_bias` tell the heads about
positions. Nothing else changes, so that two kinds of attention differ by one argument.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_batch, check_vectors
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention.cache import KVCache
from qa_lab.transformer.attention.dot_product import Attend, DotProductAttention

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

    Positions are those of one sequence, of which the queries are the last: X itself, or an M that
    ends where X does. Attention to another sequence has none; see `without_positions`.

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
        attend: What happens inside every head, as `DotProductAttention` does.
        rotate: Turns queries and keys by their positions. None: does not.
        score_bias: Added to the scores, from the numbers of queries and keys. None: nothing.

    Raises:
        TypeError: There is a score_bias, and `attend` takes none.
        ValueError: n_heads does not divide d_model, and d_k was not given; n_kv_heads does not
            divide n_heads; or d_model or a number of heads is less than 1.
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
        attend: Attend | None = None,
        rotate: Rotate | None = None,
        score_bias: ScoreBias | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        check_heads(d_model, self.n_heads, self.n_kv_heads, d_k)
        self.d_k = d_model // n_heads if d_k is None else d_k
        self.d_v = self.d_k if d_v is None else d_v
        check_at_least_one(d_k=self.d_k, d_v=self.d_v)
        self.attend = DotProductAttention() if attend is None else attend
        if score_bias is not None:
            check_takes_bias(self.attend)
        self.rotate = rotate
        self.score_bias = score_bias
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
        """Attend.

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
        heads, _ = self.ask(self.attend, query_input, memory, keep, cache)
        return self.mix(heads)

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
                or this `attend` makes no weights.
        """
        attend = getattr(self.attend, "with_weights", self.attend)
        heads, weights = self.ask(attend, query_input, memory, keep, cache)
        if weights is None:
            raise ValueError("this attention was given an attend= that makes no weights.")
        return self.mix(heads), weights

    def ask(
        self,
        attend: Attend,
        query_input: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None,
        keep: Tensor | None,
        cache: KVCache | None,
    ) -> tuple[Float[Tensor, "batch head query d_v"], Float[Tensor, "batch head query key"] | None]:
        """Return what each head found, before it is mixed, and the weights if there are any."""
        q, k, v = self.project(query_input, memory, cache)
        check_axes(keep)
        bias = self.bias_of(q, k)
        found = attend(q, k, v, keep) if bias is None else attend(q, k, v, keep, bias)
        return found if isinstance(found, tuple) else (found, None)

    def without_positions(self) -> "MultiHeadAttention":
        """Take out what tells positions, in place: another sequence's are not the queries'.

        An `attend` that is itself within one sequence makes way for dot-product attention.

        Returns:
            The same attention, to be asked about a memory of any length.
        """
        self.rotate = self.score_bias = None
        if is_within_one_sequence(self.attend):
            del self.attend  # a module's attribute can only be replaced by a module
            self.attend = DotProductAttention()
        return self

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
        if cache is None:
            k, v = self.keys_and_values(query_input if memory is None else memory)
        elif memory is None:
            k, v = cache.extend(*self.keys_and_values(query_input, cache.seen))
        else:
            k, v = cache.filled_by(lambda: self.keys_and_values(memory))
        keys = k.shape[-2] if cache is None else cache.seen
        q = self.split(self.W_Q(query_input), self.n_heads)
        q = self.turn(q, start=keys - query_input.shape[1])
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
        batch, length, _ = x.shape
        return x.view(batch, length, heads, -1).transpose(1, 2)

    def turn(
        self, x: Float[Tensor, "batch some_heads length d_k"], start: int
    ) -> Float[Tensor, "batch some_heads length d_k"]:
        """Turn queries or keys by their positions, if this attention does."""
        if self.rotate is None:
            return x
        if start < 0:
            raise ValueError(
                f"{x.shape[-2]} queries cannot be the last of {x.shape[-2] + start} positions. For "
                "attention to another sequence leave positions out: see without_positions."
            )
        return self.rotate(x, start)

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
        bias = self.score_bias(q.shape[-2], k.shape[-2])
        bias = bias.to(q.device, torch.promote_types(q.dtype, torch.float32))  # as scores are
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


def is_within_one_sequence(attend: Attend) -> bool:
    """Say whether an attention compares the places of queries and keys, as those of one sequence.

    It says so itself, as `within_one_sequence`, or was given a `look` that does.
    """
    if isinstance(attend, partial):
        return attend.keywords.get("look") is not None or is_within_one_sequence(attend.func)
    return getattr(attend, "within_one_sequence", False)


def check_takes_bias(attend: Attend) -> None:
    """Refuse an attention to whose scores nothing can be added, as it has no place for a bias.

    Raises:
        TypeError: Called as `attend(q, k, v, keep, bias)`, it would not take the last.
    """
    call = attend.forward if isinstance(attend, nn.Module) else attend
    try:
        signature(call).bind_partial("q", "k", "v", "keep", "bias")
    except ValueError:
        return  # written in C: it does not say what it takes
    except TypeError:
        raise TypeError(
            f"{name_of(attend)} takes no bias, so this attention cannot have a score_bias: choose "
            "another attend=, or tell the positions by rotate= or before the first layer."
        ) from None


def name_of(attend: Attend) -> str:
    """Name an attention in a message."""
    while isinstance(attend, partial):
        attend = attend.func
    return getattr(attend, "__name__", type(attend).__name__)


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


def check_axes(keep: Tensor | None) -> None:
    """Refuse a mask whose axes could be read in two ways.

    Raises:
        ValueError: It is neither [query key] nor [batch head query key].
    """
    if keep is not None and keep.ndim not in (2, 4):
        raise ValueError(
            f"keep has {keep.ndim} axes, {list(keep.shape)}; give [query key] or "
            "[batch head query key], with 1 for an axis along which it does not change."
        )
