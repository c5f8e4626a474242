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


class KVCache:
    """The keys and values of one attention, so far.

    Causal attention never changes what a past position said: its key and value depend on no later
    token. So they are computed once and kept, in a room that is made twice as large whenever it is
    full: new positions are written in place, and the average token copies a constant amount. Where
    gradients are recorded nothing may be written over, and appending copies after all.

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
        self.kept = 0
        """Positions whose keys and values are here."""
        self._room: KeysAndValues | None = None
        self._first = 0  # where in the room what is kept begins
        self._may_write = False  # whether the room is ours, and no gradient needs what is in it

    @property
    def k(self) -> Tensor | None:
        """The keys that are kept, [batch head position d_k]; None before the first."""
        return None if self._room is None else self._room[0].narrow(2, self._first, self.kept)

    @property
    def v(self) -> Tensor | None:
        """The values that are kept, [batch head position d_v]; None before the first."""
        return None if self._room is None else self._room[1].narrow(2, self._first, self.kept)

    @property
    def nbytes(self) -> int:
        """Size of what is kept, in bytes."""
        return 0 if self._room is None else self.k.nbytes + self.v.nbytes

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
        self._check(k, v)
        new = k.shape[2]
        if self._room is None:
            self._room = k, v
        elif torch.is_grad_enabled():
            self._hold(torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2))
        else:
            self._make_room(new)
            for room, rows in zip(self._room, (k, v), strict=True):
                room.narrow(2, self._first + self.kept, new).copy_(rows)
        self.seen += new
        self.kept += new
        k, v = self.k, self.v
        if self.window is not None and self.kept >= self.window:
            self._first += self.kept - (self.window - 1)
            self.kept = self.window - 1
        return k, v

    def filled_by(self, make: Callable[[], KeysAndValues]) -> KeysAndValues:
        """Return what is kept; the first time, make it."""
        if self._room is None:
            self.extend(*make())
        return self.k, self.v

    def reorder(self, rows: Int[Tensor, " batch"]) -> None:
        """Keep these rows of the batch, in this order, as beam search wants."""
        if self._room is not None:
            keys, values = self._room
            self._room = keys[rows], values[rows]

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
        self.seen -= positions
        self.kept -= positions if self.window is None else 0

    def _hold(self, k: Tensor, v: Tensor) -> None:
        """Hold these tensors, which belong to a graph or to somebody else."""
        self._room, self._first, self._may_write = (k, v), 0, False

    def _make_room(self, new: int) -> None:
        """See that positions can be written behind those that are kept."""
        keys, _ = self._room
        # What inference mode has made may not be written outside it.
        locked = keys.is_inference() and not torch.is_inference_mode_enabled()
        if self._may_write and not locked and self._first + self.kept + new <= keys.shape[2]:
            return
        held = self.k, self.v
        batch, heads, kept, _ = held[0].shape
        room = [x.new_empty(batch, heads, 2 * (kept + new), x.shape[-1]) for x in held]
        for larger, rows in zip(room, held, strict=True):
            larger.narrow(2, 0, kept).copy_(rows)
        self._hold(*room)
        self._may_write = True

    def _check(self, k: Tensor, v: Tensor) -> None:
        """Refuse what cannot be appended."""
        for room, rows in zip(self._room or (), (k, v), strict=False):
            if room.shape[:2] != rows.shape[:2] or room.shape[3] != rows.shape[3]:
                kept = [*room.shape[:2], self.kept, room.shape[3]]
                raise ValueError(
                    f"the cache holds [batch head key width] = {kept}; {list(rows.shape)} cannot "
                    "follow it. Use a new cache for a new batch."
                )
        if k.shape[:-1] != v.shape[:-1]:
            raise ValueError(
                "give k [batch head new d_k] and v [batch head new d_v]; got "
                f"{list(k.shape)} and {list(v.shape)}."
            )


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
        self.window = window
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
