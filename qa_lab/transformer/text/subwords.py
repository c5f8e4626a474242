"""What byte pair encoding and WordPiece share: text to words, words to symbols, tokens to ids.

No torch here: a tokeniser is counting (see `merges`) and string work.
"""

import operator
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Spelling:
    """How text becomes symbols before any merge, and how tokens become text again.

    Args:
        words: Text into words. No merge crosses the border of a word.
        symbols: A word into the symbols that it starts as.
        text: Tokens back into text.
        join: Two symbols into the one that replaces them.
        alphabet: Symbols that every vocabulary holds, whether or not the training text does.
        gap: What stands between a special token and its neighbours in decoded text.
    """

    words: Callable[[str], list[str]]
    symbols: Callable[[str], list[str]]
    text: Callable[[list[str]], str]
    join: Callable[[str, str], str] = operator.add
    alphabet: tuple[str, ...] = ()
    gap: str = ""


@cache
def _categories() -> str:
    """Return the first letter of the general category of every code point, in order."""
    return "".join(unicodedata.category(chr(code))[0] for code in range(sys.maxunicode + 1))


@cache
def category_class(initial: str) -> str:
    r"""Write a Unicode category as the inside of a character class: `re` has no `\p{L}`.

    Args:
        initial: First letter of the category: L letter, N number, P punctuation, Z separator.

    Returns:
        Ranges for `[...]`, by the Unicode version of this Python (`unicodedata.unidata_version`).

    Raises:
        ValueError: No category begins so.
    """
    if initial not in _categories():
        raise ValueError(f"no Unicode category begins with {initial!r}; give one of C L M N P S Z.")
    runs = re.finditer(f"{initial}+", _categories())
    return "".join(rf"\U{run.start():08x}-\U{run.end() - 1:08x}" for run in runs)


def white_space() -> str:
    r"""Write Unicode's White_Space as the inside of a character class.

    Returns:
        Ranges for `[...]`. Python's own `\s` also holds U+001C to U+001F, which Unicode does not.
    """
    return r"\t-\r\x85" + category_class("Z")


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


class Tokeniser:
    """Text to ids and back, given how a word is cut into tokens.

    Special tokens are found first and kept whole. The rest is cut into words, each word into
    tokens. What the vocabulary lacks becomes `unknown`.

    Args:
        vocabulary: Tokens in the order of their ids.
        spelling: How text becomes words, and tokens become text.
        pieces: A word into tokens.
        special: Tokens that are never split.
        unknown: The token for what the vocabulary lacks. None: that is an error.

    Attributes:
        vocabulary: From id to token.
        ids: From token to id.

    Raises:
        TypeError: `special` is one string.
        ValueError: A token comes twice or is empty, or a special or unknown token is not in the
            vocabulary.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        spelling: Spelling,
        pieces: Callable[[str], list[str]],
        *,
        special: Sequence[str] = (),
        unknown: str | None = None,
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
        for token in special:
            if token not in self.ids:
                raise ValueError(f"the special token {token!r} is not in the vocabulary.")
        if unknown is not None and unknown not in self.ids:
            raise ValueError(
                f"the unknown token {unknown!r} is not in the vocabulary; add it, to `special` if "
                "the vocabulary is being learned."
            )
        self.spelling = spelling
        self.special = tuple(special)
        self.unknown = unknown
        self._pieces = cache(pieces)  # words repeat: GPT-2's own encoder remembers them too

    def __len__(self) -> int:
        """Return the size of the vocabulary, in tokens."""
        return len(self.vocabulary)

    def tokens(self, text: str) -> list[str]:
        """Cut text into tokens.

        Args:
            text: The text, possibly empty.

        Returns:
            Tokens, each in the vocabulary.

        Raises:
            TypeError: The text is not a `str`.
            ValueError: The text holds a lone surrogate, or something that the vocabulary lacks
                while there is no unknown token.
        """
        check_text(text)
        tokens: list[str] = []
        for index, part in enumerate(split_special(text, self.special)):
            if index % 2:
                tokens.append(part)
                continue
            for word in self.spelling.words(part):
                tokens += [self._known(piece, word) for piece in self._pieces(word)]
        return tokens

    def _known(self, piece: str, word: str) -> str:
        if piece in self.ids:
            return piece
        if self.unknown is None:
            raise ValueError(
                f"{piece!r} in the word {word!r} is not in the vocabulary, and there is no unknown "
                "token: train on text that holds it, or give `unknown`."
            )
        return self.unknown

    def encode(self, text: str) -> list[int]:
        """Turn text into ids: the ids of `tokens(text)`, with the same errors.

        Args:
            text: The text, possibly empty.

        Returns:
            Ids, each at least 0 and below the size of the vocabulary.
        """
        return [self.ids[token] for token in self.tokens(text)]

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
        for position, index in enumerate(ids):
            if not 0 <= index < len(self):
                raise ValueError(
                    f"id {index} at position {position} is outside the vocabulary of {len(self)} "
                    f"tokens: ids run from 0 to {len(self) - 1}."
                )
            token = self.vocabulary[index]
            if token in self.special and token != self.unknown:
                runs += [[token], []]
            else:
                runs[-1].append(token)
        texts = [
            run[0] if index % 2 else self.spelling.text(run)
            for index, run in enumerate(runs)
            if run
        ]
        return self.spelling.gap.join(texts)
