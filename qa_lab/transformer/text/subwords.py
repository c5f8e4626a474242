"""What byte pair encoding and WordPiece share: text to words, words to symbols, tokens to ids.

No torch here: a tokeniser is counting (see `merges`) and string work.
"""

import json
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from qa_lab.transformer.text.words import Words


@dataclass(frozen=True)
class Spelling:
    """How text becomes symbols before any merge, and how tokens become text again.

    A tokeniser can be pickled when these can: functions of a module, or small classes like
    `InTurn`, but no lambda and no function inside another.

    Args:
        words: Text into words. No merge crosses the border of a word.
        symbols: A word into the symbols that it starts as.
        text: Tokens back into text.
        join: Two symbols into the one that replaces them.
        alphabet: Symbols that every vocabulary holds, whether or not the training text does.
        gap: What stands between a special token and its neighbours in decoded text. None: `text` is
            given the special tokens with all others, and decides.
    """

    words: Words
    symbols: Callable[[str], list[str]]
    text: Callable[[list[str]], str]
    join: Callable[[str, str], str] = operator.add
    alphabet: tuple[str, ...] = ()
    gap: str | None = ""


Frame = tuple[Sequence[str], Sequence[str]]
"""Tokens that are put before a text, and tokens that are put after it."""


def check_text(text: str) -> None:
    """Refuse what is not text.

    Args:
        text: What was given as text.

    Raises:
        TypeError: It is not a `str`.
        ValueError: It holds a lone surrogate, half of a UTF-16 pair, which UTF-8 cannot write.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}; give a str, decoded if need be.")
    if lone := re.search("[\ud800-\udfff]", text):
        raise ValueError(
            f"text holds the lone surrogate U+{ord(lone[0]):04X} at position {lone.start()}: half "
            "of a UTF-16 pair and no character. Decode the source as UTF-8."
        )


def split_special(text: str, special: Sequence[str]) -> list[str]:
    """Cut text at its special tokens, the earliest first and of those the longest.

    Args:
        text: The text.
        special: The special tokens.

    Returns:
        Plain text at the even indices, possibly empty, and a special token at each odd one. Joined,
        they are the text.

    Raises:
        TypeError: `special` is one string.
        ValueError: A special token is empty.
    """
    if isinstance(special, str):
        raise TypeError(f"special is one string, {special!r}; give a list of strings.")
    if "" in special:
        raise ValueError("a special token is empty: it would stand between any two characters.")
    if not special:
        return [text]
    longest_first = sorted(special, key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", text)


def _known_pieces(
    pieces: Callable[[str], list[str]], ids: Mapping[str, int], unknown: str | None, word: str
) -> list[str]:
    """Cut a word, and put `unknown` for each piece that has no id."""
    known = [piece if piece in ids else unknown for piece in pieces(word)]
    if None in known:
        raise ValueError(
            f"{pieces(word)[known.index(None)]!r} in the word {word!r} is not in the vocabulary, "
            "and there is no unknown token: train on text that holds it, or give `unknown`."
        )
    return known


class Tokeniser:
    """Text to ids and back, given how a word is cut into tokens.

    Special tokens are found first and kept whole. The rest is cut into words, each word into
    tokens. What the vocabulary lacks becomes `unknown`.

    A tokeniser can be pickled and copied, and `save` writes what Hugging Face's `tokenizers` reads.

    Args:
        vocabulary: Tokens in the order of their ids.
        spelling: How text becomes words, and tokens become text.
        pieces: A word into tokens.
        special: Tokens that are never split.
        unknown: The token for what the vocabulary lacks. None: that is an error.
        frame: Tokens that are put before and after every text, `(["[CLS]"], ["[SEP]"])`.

    Attributes:
        vocabulary: From id to token.
        ids: From token to id.

    Raises:
        TypeError: `special`, or one side of `frame`, is one string.
        ValueError: A token comes twice or is empty, or a special or unknown token, or one of the
            frame, is not in the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        spelling: Spelling,
        pieces: Callable[[str], list[str]],
        *,
        special: Sequence[str] = (),
        unknown: str | None = None,
        frame: Frame = ((), ()),
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.ids = {token: index for index, token in enumerate(self.vocabulary)}
        if len(self.ids) < len(self.vocabulary):
            twice = next(t for t, times in Counter(self.vocabulary).items() if times > 1)
            raise ValueError(
                f"the token {twice!r} comes twice in the vocabulary: its id is unclear."
            )
        if "" in self.ids:
            raise ValueError(f"the token with id {self.ids['']} is empty: nothing can become it.")
        split_special("", special)  # refuses what are no special tokens
        before, after = frame
        if isinstance(before, str) or isinstance(after, str):
            raise TypeError(f"frame is {frame!r}; give two lists of tokens.")
        for kind, tokens in (("special", special), ("frame's", (*before, *after))):
            for token in tokens:
                if token not in self.ids:
                    raise ValueError(f"the {kind} token {token!r} is not in the vocabulary.")
        if unknown is not None and unknown not in self.ids:
            raise ValueError(
                f"the unknown token {unknown!r} is not in the vocabulary; add it, to `special` if "
                "the vocabulary is being learned."
            )
        self.spelling = spelling
        self.special = tuple(special)
        self.unknown = unknown
        self.frame = tuple(before), tuple(after)
        self.pieces = pieces
        self._remember()

    def _remember(self) -> None:
        """Cut no word twice: words repeat, and GPT-2's own encoder remembers them too."""
        self._cut = cache(partial(_known_pieces, self.pieces, self.ids, self.unknown))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled or copied: all but the words seen, which can be cut again."""
        return {name: value for name, value in self.__dict__.items() if name != "_cut"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled or copied."""
        self.__dict__.update(state)
        self._remember()

    def __len__(self) -> int:
        """Return the size of the vocabulary, in tokens."""
        return len(self.vocabulary)

    def tokens(self, text: str, *, special_as_text: bool = False, framed: bool = True) -> list[str]:
        """Cut text into tokens.

        Args:
            text: The text, possibly empty.
            special_as_text: Cut what looks like a special token as any other text, so that a text
                from a stranger cannot end a turn or a document. As `encode_special_tokens` of
                Hugging Face's `tokenizers` (`split_special_tokens` of `transformers`) and
                `disallowed_special=()` of `tiktoken`.
            framed: Put the frame around it, if there is one: `add_special_tokens` of `tokenizers`.

        Returns:
            Tokens, each in the vocabulary.

        Raises:
            TypeError: The text is not a `str`.
            ValueError: The text holds a lone surrogate, or something that the vocabulary lacks
                while there is no unknown token.
        """
        check_text(text)
        before, after = self.frame if framed else ((), ())
        tokens = [*before]
        for index, part in enumerate(split_special(text, () if special_as_text else self.special)):
            if index % 2:
                tokens.append(part)
                continue
            for word in self.spelling.words(part):
                tokens += self._cut(word)
        return [*tokens, *after]

    def encode(self, text: str, *, special_as_text: bool = False, framed: bool = True) -> list[int]:
        """Turn text into ids: those of `tokens`, with the same arguments and errors.

        Args:
            text: The text, possibly empty.
            special_as_text: Cut what looks like a special token as any other text.
            framed: Put the frame around it, if there is one.

        Returns:
            Ids, each at least 0 and below the size of the vocabulary.
        """
        tokens = self.tokens(text, special_as_text=special_as_text, framed=framed)
        return [self.ids[token] for token in tokens]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text.

        Args:
            ids: The ids.

        Returns:
            The text. Special tokens stand in it as they are.

        Raises:
            ValueError: An id is outside the vocabulary.
        """
        runs: list[list[str]] = [[]]  # ordinary tokens at even indices, a special one at odd ones
        gap = self.spelling.gap
        apart = set() if gap is None else {*self.special} - {self.unknown}
        for position, index in enumerate(ids):
            if not 0 <= index < len(self):
                raise ValueError(
                    f"id {index} at position {position} is outside the vocabulary of {len(self)} "
                    f"tokens: ids run from 0 to {len(self) - 1}."
                )
            token = self.vocabulary[index]
            if token in apart:
                runs += [[token], []]
            else:
                runs[-1].append(token)
        texts = [
            run[0] if index % 2 else self.spelling.text(run)
            for index, run in enumerate(runs)
            if run
        ]
        return (gap or "").join(texts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` reads and Hugging Face's `tokenizers` too: a tokenizer.json.

        Both encode and decode as this tokeniser does; see `files.to_dict`, whose errors it has.

        Args:
            path: Where to write it.
        """
        # Here, because `files` knows every kind of tokeniser, and each of them knows this class.
        from qa_lab.transformer.text.files import to_dict

        Path(path).write_text(json.dumps(to_dict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, without: Sequence[str] = ()) -> "Tokeniser":
        """Read a file that `save` or Hugging Face's `tokenizers` wrote: a tokenizer.json.

        Args:
            path: The file.
            without: Parts of the file to leave aside; see `files.from_dict`, whose errors it has.

        Returns:
            The tokeniser, of the kind that the file holds. It encodes and decodes as theirs.

        Raises:
            TypeError: The file holds another kind than the class that was asked.
        """
        from qa_lab.transformer.text.files import from_dict

        read = from_dict(json.loads(Path(path).read_text(encoding="utf-8")), without=without)
        if not isinstance(read, cls):
            raise TypeError(f"{path} holds a {type(read).__name__}, no {cls.__name__}.")
        return read
