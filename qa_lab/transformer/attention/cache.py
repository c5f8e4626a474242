"""What a decoder remembers, so that a new token costs one query and not a whole prefix.

A `KVCache` holds the keys and values of one attention. A `LayerCache` holds those of one layer: its
self-attention, which grows by a position for each token, and its attention to the encoder, which is
filled once. A `Cache` holds a layer's for each layer of a stack.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

KeysAndValues = tuple[Float[Tensor, "batch head key d_k"], Float[Tensor, "batch head key d_v"]]


class Rows:
    """Vectors, position after position, with room for more.

    Appending one to a tensor copies all before it. So the room is made twice as large whenever it
    is full, and the average token copies a constant amount. Where gradients are recorded, nothing
    may be written over, and appending copies after all.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        """What was appended, [batch head position width]."""
        self._room: Tensor | None = None

    def append(self, new: Float[Tensor, "batch head new width"]) -> None:
        """Add positions at the end."""
        if self.rows is None or torch.is_grad_enabled():
            self.become(new if self.rows is None else torch.cat([self.rows, new], dim=-2))
            return
        used, total = self.rows.shape[-2], self.rows.shape[-2] + new.shape[-2]
        if self._room is None or self._room.shape[-2] < total:
            batch, heads, _, width = new.shape
            self._room = new.new_empty(batch, heads, 2 * total, width)
            self._room[:, :, :used] = self.rows
        self._room[:, :, used:total] = new
        self.rows = self._room[:, :, :total]

    def become(self, rows: Float[Tensor, "batch head position width"]) -> None:
        """Hold these vectors instead."""
        self.rows, self._room = rows, None


class KVCache:
    """The keys and values of one attention, so far.

    Causal attention never changes what a past position said: its key and value depend on no later
    token. So they are computed once and kept.

    Paper: Shazeer 2019, arXiv:1911.02150, section 2.4 (incremental inference).

    Args:
        window: Keys that a query may see, itself included, as in `window_mask`: only the last
            window - 1 positions are kept, whatever the length. None: all are kept.

    Raises:
        ValueError: The window is less than 1.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 key, the query's own; got {window}.")
        self.window = window
        self.seen = 0
        """Positions seen so far, kept or not: the position of the next token."""
        self._keys, self._values = Rows(), Rows()

    @property
    def k(self) -> Tensor | None:
        """The keys that are kept, [batch head position d_k]; None before the first."""
        return self._keys.rows

    @property
    def v(self) -> Tensor | None:
        """The values that are kept, [batch head position d_v]; None before the first."""
        return self._values.rows

    @property
    def kept(self) -> int:
        """Positions whose keys and values are here."""
        return 0 if self.k is None else self.k.shape[-2]

    @property
    def nbytes(self) -> int:
        """Size of what is kept, in bytes."""
        return 0 if self.k is None else self.k.nbytes + self.v.nbytes

    def extend(
        self,
        k: Float[Tensor, "batch head new d_k"],
        v: Float[Tensor, "batch head new d_v"],
    ) -> KeysAndValues:
        """Append new positions.

        Args:
            k: Their keys.
            v: Their values.

        Returns:
            What was kept, followed by what is new: what the new queries attend to.

        Raises:
            ValueError: There is not one value for each key, or the batch, the heads or the widths
                are not those of what is kept.
        """
        if self.k is not None:
            for kept, new in ((self.k, k), (self.v, v)):
                if (kept.shape[:2], kept.shape[-1]) != (new.shape[:2], new.shape[-1]):
                    raise ValueError(
                        f"the cache holds [batch head key width] = {list(kept.shape)}; "
                        f"{list(new.shape)} cannot follow it. Use a new cache for a new batch."
                    )
        if k.shape[:-1] != v.shape[:-1]:
            raise ValueError(
                "give k [batch head new d_k] and v [batch head new d_v]; got "
                f"{list(k.shape)} and {list(v.shape)}."
            )
        self.seen += k.shape[-2]
        self._keys.append(k), self._values.append(v)
        k, v = self.k, self.v
        if self.window is not None and self.kept >= self.window:
            first = self.kept - (self.window - 1)
            self._keys.become(k[:, :, first:]), self._values.become(v[:, :, first:])
        return k, v

    def filled_by(self, make: Callable[[], KeysAndValues]) -> KeysAndValues:
        """Return what is kept; the first time, make it."""
        if self.k is None:
            self.extend(*make())
        return self.k, self.v

    def reorder(self, rows: Int[Tensor, " batch"]) -> None:
        """Keep these rows of the batch, in this order, as beam search wants."""
        if self.k is not None:
            self._keys.become(self.k[rows]), self._values.become(self.v[rows])

    def forget(self, positions: int) -> None:
        """Forget the last positions, as speculative decoding wants after a rejected guess.

        Args:
            positions: How many, 0 or more.

        Raises:
            ValueError: More than there are, or the cache has a window: what left it is gone.
        """
        if not 0 <= positions <= self.seen:
            raise ValueError(f"cannot forget {positions} positions of the {self.seen} seen.")
        if positions and self.window is not None:
            raise ValueError("a cache with a window cannot go back: older keys have left it.")
        if positions:
            self.seen -= positions
            for part in (self._keys, self._values):
                part.become(part.rows[:, :, : self.seen])


class LayerCache:
    """What one layer remembers.

    Args:
        window: Keys that a query of the self-attention may see. None: all.
    """

    def __init__(self, window: int | None = None) -> None:
        self.own = KVCache(window)
        """Of the self-attention: grows with every token."""
        self.memory = KVCache()
        """Of the attention to the encoder, if the layer has one: filled once."""


class Cache:
    """What a stack of decoder layers remembers.

        cache = model.new_cache()
        logits = model(prompt, cache=cache)        # reads the prompt
        logits = model(next_token, cache=cache)    # reads one token more

    Args:
        n_layers: Layers of the stack.
        window: Keys that a query of the self-attention may see. None: all.

    Raises:
        ValueError: There is no layer, or the window is less than 1.
    """

    def __init__(self, n_layers: int, window: int | None = None) -> None:
        if n_layers < 1:
            raise ValueError(f"a cache needs at least 1 layer; got {n_layers}.")
        self.layers = [LayerCache(window) for _ in range(n_layers)]

    @property
    def seen(self) -> int:
        """Positions seen so far: the position of the next token."""
        return self.layers[0].own.seen

    @property
    def nbytes(self) -> int:
        """Size of all keys and values, in bytes."""
        return sum(layer.own.nbytes + layer.memory.nbytes for layer in self.layers)

    def reorder(self, rows: Int[Tensor, " batch"]) -> None:
        """Keep these rows of the batch, in this order."""
        for layer in self.layers:
            layer.own.reorder(rows)
            layer.memory.reorder(rows)

    def forget(self, positions: int) -> None:
        """Forget the last positions of the self-attention.

        Args:
            positions: How many, 0 or more.

        Raises:
            ValueError: More than there are, or the cache has a window.
        """
        for layer in self.layers:
            layer.own.forget(positions)
