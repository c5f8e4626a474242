"""A model in the middle of a text: what every way of decoding asks questions of.

A reader is given tokens and answers with the logits of what may follow each of them. It hides
whether the model has a source, and whether it keeps a cache or reads the text anew.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_batch
from qa_lab.transformer.attention import Cache

Step = Callable[[Tensor, Cache | None], Tensor]
"""From new token ids [batch new], and a cache or None, to their logits [batch new vocab]."""


class Reader:
    """Reads a text piece by piece.

    Args:
        step: From new ids and the cache to logits; without a cache it is given the whole text.
        cache: An empty one. None: the text is read from its start at every step.
    """

    def __init__(self, step: Step, cache: Cache | None) -> None:
        self.step = step
        self.cache = cache
        self.ids: Tensor | None = None
        """The text so far, if there is no cache to remember it."""

    @property
    def seen(self) -> int:
        """Tokens read so far."""
        if self.cache is not None:
            return self.cache.seen
        return 0 if self.ids is None else self.ids.shape[1]

    def read(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new vocab"]:
        """Read more tokens.

        Args:
            ids: Those that follow what was read.

        Returns:
            Logits of the token after each of them.

        Raises:
            TypeError: The ids are not whole numbers.
            ValueError: The model answers with NaN, an id lies outside the vocabulary, or the batch
                is not that of what was read.
        """
        if self.ids is not None:
            check_batch(read=self.ids, ids=ids)
        if self.cache is not None:
            logits = self.step(ids, self.cache)
        else:
            self.ids = ids if self.ids is None else torch.cat([self.ids, ids], dim=1)
            logits = self.step(self.ids, None)[:, -ids.shape[1] :]
        if logits.isnan().any():
            raise ValueError(f"the model's logits are NaN after {self.seen} tokens.")
        return logits

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times."""
        if self.cache is not None:
            self.cache.reorder(rows)
        elif self.ids is not None:
            self.ids = self.ids[rows]

    def forget(self, positions: int) -> None:
        """Take back the last tokens.

        Args:
            positions: How many, 0 or more.

        Raises:
            ValueError: More than were read.
        """
        if not 0 <= positions <= self.seen:
            raise ValueError(f"cannot forget {positions} tokens of the {self.seen} read.")
        if self.cache is not None:
            self.cache.forget(positions)
        elif positions:
            self.ids = self.ids[:, : self.seen - positions]


class LanguageReader(Reader):
    """Reads with a language model.

    Args:
        model: Called as `model(ids)`, a `DecoderOnly` or one of its rivals, in the mode it is in:
            call `model.eval()` first.
        cached: Whether keys and values are kept; only a model with `new_cache` can.
        window: Positions that a query may see, if the model's `look` is a window of that size: the
            cache then holds no more. None: all.

    Raises:
        TypeError: The model cannot keep keys and values, and was asked to.
        ValueError: The window is less than 1.
    """

    def __init__(self, model: nn.Module, *, cached: bool = True, window: int | None = None) -> None:
        super().__init__(
            lambda ids, cache: model(ids) if cache is None else model(ids, cache=cache),
            cache_of(model, window) if cached else None,
        )


class TranslationReader(Reader):
    """Reads the target of a translation; the source is encoded once, here.

    Args:
        model: With `encode` and `decode`, a `Transformer` or a `Seq2Seq`, in the mode it is in:
            call `model.eval()` first.
        source_ids: The source.
        source_real: True at real source tokens. None: all real.
        cached: Whether keys and values are kept; only a model with `new_cache` can.

    Raises:
        TypeError: The model cannot keep keys and values, and was asked to.
    """

    def __init__(
        self,
        model: nn.Module,
        source_ids: Int[Tensor, "batch source"],
        source_real: Bool[Tensor, "batch source"] | None = None,
        *,
        cached: bool = True,
    ) -> None:
        super().__init__(self._decode, cache_of(model) if cached else None)
        self.model = model
        self.source_real = source_real
        with torch.no_grad():
            self.memory = model.encode(source_ids, source_real)

    def _decode(self, ids: Tensor, cache: Cache | None) -> Tensor:
        rest = () if cache is None else (cache,)
        return self.model.decode(ids, self.memory, None, self.source_real, *rest)

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these rows of the batch and their sources."""
        super().reorder(rows)
        self.memory = self.memory[rows]
        self.source_real = None if self.source_real is None else self.source_real[rows]


def cache_of(model: nn.Module, *window: int | None) -> Cache:
    """Make an empty cache for a model that can keep one.

    Raises:
        TypeError: It cannot.
    """
    if not hasattr(model, "new_cache"):
        raise TypeError(f"{type(model).__name__} keeps no keys and values; give cached=False.")
    return model.new_cache(*window)
