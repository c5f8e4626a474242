"""Byte pair encoding: the merges that were learned, replayed on new words.

Over characters, as in Sennrich et al. 2016, or over the bytes of UTF-8, as in GPT-2, where no text
is unknown and decoding gives back every byte.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import count, pairwise

from qa_lab.transformer.text.merges import (
    Criterion,
    Merge,
    learn_merges,
    merge_pair,
    pair_frequency,
)
from qa_lab.transformer.text.subwords import Spelling, Tokeniser, category_class, white_space


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


def characters(
    words: Callable[[str], list[str]] = str.split, end_of_word: str = "</w>"
) -> Spelling:
    """Spell a word as its characters and a symbol for its end.

    The end tells "est" at the end of a word from "est" in its middle, and lets decoding put back
    the spaces.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.
    Departs: the paper writes the end as a middle dot in the text, as `</w>` in its algorithm 1.

    Args:
        words: Text into words. The default cuts at white space and drops it.
        end_of_word: The symbol for the end of a word.

    Returns:
        The spelling. Decoding puts one space between words, whatever stood there.

    Raises:
        ValueError: The end of a word is empty; or, on use, a word holds it as text.
    """
    if not end_of_word:
        raise ValueError("end_of_word is empty: without it decoding could not find the words.")

    def symbols(word: str) -> list[str]:
        if end_of_word in word:
            raise ValueError(
                f"the word {word!r} holds {end_of_word!r}, which stands for the end of a word: "
                "decoding could not tell them apart. Choose another end_of_word."
            )
        return [*word, end_of_word]

    def text(tokens: list[str]) -> str:
        return "".join(token.replace(end_of_word, " ") for token in tokens).removesuffix(" ")

    return Spelling(words, symbols, text, gap=" ")


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


@cache
def _gpt2_pattern() -> re.Pattern[str]:
    letter, number, space = category_class("L"), category_class("N"), white_space()
    return re.compile(
        "'s|'t|'re|'ve|'m|'ll|'d"
        rf"| ?[{letter}]+| ?[{number}]+| ?[^{space}{letter}{number}]+"
        rf"|[{space}]+(?![^{space}])|[{space}]+"
    )


def gpt2_words(text: str) -> list[str]:
    r"""Cut text where GPT-2 does: no word mixes letters, numbers and other signs.

        's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

    A space goes with the word after it. Of several, the last one does; the others are a word.

    Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2;
        the expression is in the code published with it.
    Departs: `re` knows no Unicode categories, so the classes are written out from `unicodedata`.
        Letters and numbers younger than its Unicode version count as other signs.

    Args:
        text: The text.

    Returns:
        Words which, joined, are the text.
    """
    return _gpt2_pattern().findall(text)


def utf8_bytes(words: Callable[[str], list[str]] = gpt2_words) -> Spelling:
    """Spell a word as the bytes of its UTF-8, each written as one visible character.

    Paper: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.

    Args:
        words: Text into words, none of it dropped if decoding is to give the text back.

    Returns:
        The spelling. Its alphabet is all 256 bytes, so nothing is unknown. Bytes that are no UTF-8,
        as when a model stops in the middle of a character, decode as U+FFFD.
    """
    to_symbol = byte_symbols()
    to_byte = {symbol: byte for byte, symbol in enumerate(to_symbol)}

    def symbols(word: str) -> list[str]:
        return [to_symbol[byte] for byte in word.encode()]

    def text(tokens: list[str]) -> str:
        written = "".join(tokens)
        if strange := set(written) - to_byte.keys():
            raise ValueError(f"the tokens hold {min(strange)!r}, which stands for no byte.")
        return bytes(to_byte[symbol] for symbol in written).decode(errors="replace")

    return Spelling(words, symbols, text, alphabet=to_symbol)


class BytePairEncoding(Tokeniser):
    """A tokeniser that replays merges; see `apply_merges`.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.

    Args:
        vocabulary: Tokens in the order of their ids.
        merges: Pairs in the order they were learned.
        spelling: How text becomes symbols: `characters()` or `utf8_bytes()`.
        special: Tokens that are never split.
        unknown: The token for a symbol that the vocabulary lacks. None: that is an error.

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
    ) -> None:
        self.merges = tuple(merges)
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}

        def pieces(word: str) -> list[str]:
            return apply_merges(spelling.symbols(word), ranks, spelling.join)

        super().__init__(vocabulary, spelling, pieces, special=special, unknown=unknown)
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
