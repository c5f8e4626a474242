"""Byte pair encoding: the merges that were learned, replayed on new words.

Over characters, as in Sennrich et al. 2016, or over the bytes of UTF-8, as in GPT-2, where no text
is unknown and decoding gives back every byte.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, pairwise

from qa_lab.transformer.text.merges import (
    Criterion,
    Merge,
    learn_merges,
    merge_pair,
    pair_frequency,
)
from qa_lab.transformer.text.subwords import Frame, Spelling, Tokeniser
from qa_lab.transformer.text.words import Words, gpt2_words


def apply_merges(
    symbols: Sequence[str],
    ranks: Mapping[Merge, int],
    join: Callable[[str, str], str] = str.__add__,
) -> list[str]:
    """Cut a word into tokens: do the merge that was learned first, then the next, to the end.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.

    Args:
        symbols: The word as its first symbols.
        ranks: When each merge was learned; smaller is earlier.
        join: Two symbols into the one that replaces them.

    Returns:
        The tokens of the word: no two adjacent ones are a known merge. Takes a time proportional to
        the length of the word times the number of different merges done in it.
    """
    tokens = list(symbols)
    while len(tokens) > 1:
        first, second = min(pairwise(tokens), key=lambda pair: ranks.get(pair, math.inf))
        if (first, second) not in ranks:
            break
        tokens = merge_pair(tokens, (first, second), join(first, second))
    return tokens


@dataclass(frozen=True)
class EndMarked:
    """Spell a word as its characters, and mark its end.

    Args:
        end_of_word: What marks the end.
        apart: The mark is a symbol by itself. False: it is part of the last character's symbol.
    """

    end_of_word: str
    apart: bool = True

    def __call__(self, word: str) -> list[str]:
        """Spell a word."""
        if self.end_of_word in word:
            raise ValueError(
                f"the word {word!r} holds {self.end_of_word!r}, which stands for the end of a "
                "word: decoding could not tell them apart. Choose another end_of_word."
            )
        if self.apart:
            return [*word, self.end_of_word]
        return [*word[:-1], word[-1] + self.end_of_word] if word else []


@dataclass(frozen=True)
class EndsSpaced:
    """Read tokens as text, with a space for each end of a word but the last.

    Args:
        end_of_word: What marks the end.
    """

    end_of_word: str

    def __call__(self, tokens: list[str]) -> str:
        """Read tokens."""
        *tokens, last = tokens or [""]
        text = "".join(token.replace(self.end_of_word, " ") for token in tokens)
        return text + last.replace(self.end_of_word, "")


def characters(
    words: Words = str.split, end_of_word: str = "</w>", *, apart: bool = True
) -> Spelling:
    """Spell a word as its characters and a symbol for its end.

    The end tells "est" at the end of a word from "est" in its middle, and lets decoding put back
    the spaces.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.
    Departs: the paper writes the end as a middle dot in the text, as `</w>` in its algorithm 1.

    Args:
        words: Text into words. The default cuts at white space and drops it.
        end_of_word: The symbol for the end of a word.
        apart: The end is a symbol by itself, as in the paper. False: it is part of the last
            character's symbol, as in the authors' later code, in the first GPT and in `tokenizers`
            (`end_of_word_suffix`).

    Returns:
        The spelling. Decoding puts one space between words, whatever stood there.

    Raises:
        ValueError: The end of a word is empty; or, on use, a word holds it as text.
    """
    if not end_of_word:
        raise ValueError("end_of_word is empty: without it decoding could not find the words.")
    marked = EndMarked(end_of_word, apart)
    return Spelling(words, marked, EndsSpaced(end_of_word), gap=" " if apart else None)


@cache
def byte_symbols() -> tuple[str, ...]:
    """Give every byte a visible character, so that tokens can be read and stored as text.

    A byte that prints, as Latin-1, stands for itself; the other 68 are the characters from U+0100
    on. So the space is Ġ and the line feed is Ċ.

    Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2,
        and `bytes_to_unicode` in the code published with it.

    Returns:
        256 different characters, the one for byte b at index b.
    """
    others = map(chr, count(256))
    latin_1 = map(chr, range(256))
    return tuple(c if c.isprintable() and c != " " else next(others) for c in latin_1)


def byte_spelled(word: str) -> list[str]:
    """Spell a word as the bytes of its UTF-8, each as its visible character.

    Args:
        word: The word.

    Returns:
        Characters of `byte_symbols`.
    """
    symbols = byte_symbols()
    return [symbols[byte] for byte in word.encode()]


@cache
def _bytes_of_symbols() -> dict[str, int]:
    return {symbol: byte for byte, symbol in enumerate(byte_symbols())}


def byte_text(tokens: Iterable[str]) -> str:
    """Read tokens of bytes as text.

    Args:
        tokens: Tokens made of the characters of `byte_symbols`.

    Returns:
        The text. What is no UTF-8, as when a model stops in the middle of a character, is U+FFFD.

    Raises:
        ValueError: A token holds another character.
    """
    to_byte = _bytes_of_symbols()
    written = "".join(tokens)
    if strange := set(written) - to_byte.keys():
        raise ValueError(f"the tokens hold {min(strange)!r}, which stands for no byte.")
    return bytes(to_byte[symbol] for symbol in written).decode(errors="replace")


def utf8_bytes(words: Words = gpt2_words) -> Spelling:
    """Spell a word as the bytes of its UTF-8, each written as one visible character.

    Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.

    Args:
        words: Text into words, none of it dropped if decoding is to give the text back.

    Returns:
        The spelling. Its alphabet is all 256 bytes, so nothing is unknown.
    """
    return Spelling(words, byte_spelled, byte_text, alphabet=byte_symbols())


def _replay(
    symbols: Callable[[str], list[str]],
    ranks: Mapping[Merge, int],
    join: Callable[[str, str], str],
    word: str,
) -> list[str]:
    return apply_merges(symbols(word), ranks, join)


class BytePairEncoding(Tokeniser):
    """A tokeniser that replays merges; see `apply_merges`.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.

    Args:
        vocabulary: Tokens in the order of their ids.
        merges: Pairs in the order they were learned.
        spelling: How text becomes symbols: `characters()` or `utf8_bytes()`.
        special: Tokens that are never split.
        unknown: The token for a symbol that the vocabulary lacks. None: that is an error.
        frame: Tokens that are put before and after every text, `(["<s>"], [])`.

    Raises:
        ValueError: A merge takes or makes a token that is not in the vocabulary, or the vocabulary
            is one that `Tokeniser` refuses.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        merges: Sequence[Merge],
        spelling: Spelling,
        *,
        special: Sequence[str] = (),
        unknown: str | None = None,
        frame: Frame = ((), ()),
    ) -> None:
        self.merges = tuple(merges)
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        pieces = partial(_replay, spelling.symbols, ranks, spelling.join)
        super().__init__(
            vocabulary, spelling, pieces, special=special, unknown=unknown, frame=frame
        )
        for rank, pair in enumerate(self.merges):
            for token in (*pair, spelling.join(*pair)):
                if token not in self.ids:
                    raise ValueError(
                        f"merge {rank}, {pair}, needs {token!r}, which is not in the vocabulary."
                    )


def train_byte_pair_encoding(
    texts: Iterable[str],
    vocab_size: int,
    spelling: Spelling,
    *,
    special: Sequence[str] = (),
    unknown: str | None = None,
    criterion: Criterion = pair_frequency,
) -> BytePairEncoding:
    """Learn merges from text, the most frequent pair first; see `learn_merges`.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2, algorithm 1.
    Departs: stops at a size of the vocabulary, not after a number of merges.

    Args:
        texts: The corpus.
        vocab_size: Tokens in all: special tokens, alphabet and merged symbols.
        spelling: How text becomes symbols: `characters()` or `utf8_bytes()`.
        special: Tokens that come first and are never split.
        unknown: The token for a symbol that the vocabulary lacks; one of `special`. None: an error.
        criterion: From the counts of a pair and of its two symbols to a score; highest merges.

    Returns:
        The tokeniser, with the merges and ids that `tokenizers` learns from the same words.

    Raises:
        TypeError: `texts` is one string, or holds something that is no string.
        ValueError: There is no word, the vocabulary is smaller than the alphabet, a text holds a
            lone surrogate, or the vocabulary then lacks `unknown`.
    """
    vocabulary, merges = learn_merges(
        texts, vocab_size, spelling, special=special, criterion=criterion
    )
    return BytePairEncoding(vocabulary, merges, spelling, special=special, unknown=unknown)
