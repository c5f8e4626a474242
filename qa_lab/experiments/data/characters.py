"""Text as ids, one for each character: the vocabulary of the translation tasks."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from qa_lab.experiments.data.tasks import END, FIRST_SYMBOL, PAD, START, Pairs, vocab_size


class Characters:
    """A vocabulary of characters: the first is id FIRST_SYMBOL, and so on.

        letters = Characters("abc")
        ids, real = letters.encode(["cab", "b"])  # 5 3 4 and 4 0 0
        letters.decode(ids)  # ["cab", "b"]

    Args:
        characters: Each once.

    Raises:
        ValueError: There is none, or one is there twice.
    """

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) < len(characters):
            raise ValueError(f"characters must be given, each once; got {characters!r}.")
        self.characters = characters
        self.vocab_size = vocab_size(len(characters))
        self._ids = {ord(c): FIRST_SYMBOL + i for i, c in enumerate(characters)}

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """Turn texts into ids.

        Args:
            texts: One or more, none of them empty.

        Returns:
            The ids, padded to the longest text of the batch, and True where they are not PAD.

        Raises:
            ValueError: There is no text, one is empty, or a character is not in the vocabulary.
        """
        return self._grid(texts)

    def pairs(self, sources: Sequence[str], targets: Sequence[str]) -> Pairs:
        """Turn source and target texts into a batch for an encoder-decoder.

        Args:
            sources: What is read.
            targets: What is to be said, one for each source.

        Returns:
            Both padded to their longest; the targets between START and END.

        Raises:
            ValueError: They are not as many, or cannot be encoded.
        """
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} sources need as many targets; got {len(targets)}.")
        return Pairs(*self._grid(sources), *self._grid(targets, chr(START), chr(END)))

    def decode(self, ids: Int[Tensor, "batch length"]) -> list[str]:
        """Turn ids back into texts: each row up to its END, without START and PAD.

        Args:
            ids: From `encode`, `pairs` or a model.

        Returns:
            A text for each row, the empty text if it begins with END.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        if ids.numel() and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ValueError(
                f"ids must lie in 0..{self.vocab_size - 1}; got {ids.min()}..{ids.max()}."
            )
        texts = []
        for row in ids.tolist():
            said = row[: row.index(END)] if END in row else row
            texts.append("".join(self.characters[i - FIRST_SYMBOL] for i in said if i > END))
        return texts

    def _grid(
        self, texts: Sequence[str], before: str = "", after: str = ""
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """Encode: text whose code points are the ids is text that numpy can read as numbers."""
        if not texts or not all(texts):
            raise ValueError(f"one or more texts, none of them empty, are needed; got {texts!r}.")
        if unknown := set("".join(texts)) - set(self.characters):
            raise ValueError(f"not in the vocabulary: {sorted(unknown)}.")
        coded = [before + text.translate(self._ids) + after for text in texts]
        longest = max(map(len, coded))
        block = "".join(text.ljust(longest, chr(PAD)) for text in coded).encode("utf-32-le")
        ids = torch.from_numpy(np.frombuffer(block, np.uint32).astype(np.int64))
        ids = ids.view(len(texts), longest)
        return ids, ids != PAD
