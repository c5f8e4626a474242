"""Learning merges: count the adjacent pairs of a corpus, merge the best, and count again.

Byte pair encoding and WordPiece differ in what makes a pair the best, which is an argument here.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from qa_lab.transformer.text.subwords import Spelling, check_text, split_special

Merge = tuple[str, str]
"""Two adjacent symbols that become one."""

Criterion = Callable[[int, int, int], float | int]
"""From the counts of a pair, of its first and of its second symbol to a score; highest merges."""


def pair_frequency(pair: int, first: int, second: int) -> int:
    """Score a pair by how often it stands in the corpus: the criterion of byte pair encoding.

    $$ score(a, b) = count(ab) $$

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.

    Args:
        pair: Occurrences of the pair in the corpus.
        first: Occurrences of its first symbol; not needed.
        second: Occurrences of its second symbol; not needed.

    Returns:
        Occurrences of the pair.
    """
    return pair


def merge_pair(symbols: Sequence[str], pair: Merge, merged: str) -> list[str]:
    """Replace every occurrence of a pair, from left to right.

    Args:
        symbols: A word.
        pair: The two symbols to replace where they are adjacent.
        merged: What replaces them.

    Returns:
        The shorter word. Where occurrences overlap, as in a a a, the left one is replaced.
    """
    first, second = pair
    out: list[str] = []
    for symbol in symbols:
        if symbol == second and out and out[-1] == first:
            out[-1] = merged
        else:
            out.append(symbol)
    return out


class PairCounts:
    """The symbols and the adjacent pairs of a corpus, counted, and kept so while pairs merge.

    Overlapping pairs count each: a a a holds the pair (a, a) twice.

    Args:
        words: How often each word, spelled in symbols, stands in the corpus.

    Attributes:
        symbols: Occurrences of each symbol that is left.
        pairs: Occurrences of each pair of adjacent symbols that is left.
    """

    def __init__(self, words: Mapping[tuple[str, ...], int]) -> None:
        self.symbols: Counter[str] = Counter()
        self.pairs: Counter[Merge] = Counter()
        self._words: list[Sequence[str]] = list(words)
        self._counts = list(words.values())
        self._where: defaultdict[Merge, set[int]] = defaultdict(set)  # pair -> indices of words
        self._beside: defaultdict[str, set[Merge]] = defaultdict(set)  # symbol -> its pairs
        for index in range(len(self._words)):
            self._add(index, self._counts[index])

    def _add(self, index: int, times: int) -> set[Merge]:
        word = self._words[index]
        pairs = set(pairwise(word))
        for symbol in word:
            self.symbols[symbol] += times
        for pair in pairwise(word):
            self.pairs[pair] += times
        for pair in pairs:
            self._where[pair].add(index)
            for symbol in pair:
                self._beside[symbol].add(pair)
        return pairs

    def merge(self, pair: Merge, merged: str) -> set[Merge]:
        """Merge a pair everywhere and count again what that changed.

        Only the words that hold the pair are touched: this is what makes training fast.

        Args:
            pair: The pair.
            merged: What replaces it.

        Returns:
            Every pair left whose count, or the count of one of whose symbols, may have changed.
        """
        changed: set[Merge] = set()
        for index in list(self._where[pair]):
            changed |= self._add(index, -self._counts[index])
            self._words[index] = merge_pair(self._words[index], pair, merged)
            changed |= self._add(index, self._counts[index])
        for symbol in {*pair, merged}:
            changed |= self._beside[symbol]
            if not self.symbols[symbol]:
                del self.symbols[symbol]
        gone = {pair for pair in changed if not self.pairs[pair]}
        for pair in gone:
            del self.pairs[pair], self._where[pair]
            for symbol in pair:
                self._beside[symbol].discard(pair)
        return changed - gone


def learn_merges(
    texts: Iterable[str],
    vocab_size: int,
    spelling: Spelling,
    *,
    special: Sequence[str] = (),
    criterion: Criterion = pair_frequency,
) -> tuple[list[str], list[Merge]]:
    """Merge the best pair of the corpus again and again until the vocabulary is full.

    Paper: Sennrich et al. 2016, arXiv:1508.07909, section 3.2, algorithm 1.
    Departs: the paper takes any best pair. Here, as in Hugging Face's `tokenizers`, equal scores
        are decided by the smaller id of the first symbol, then of the second; ids go to the special
        tokens, to the alphabet in the order of code points, and to merged symbols as they come. So
        the result depends on nothing but the counts of the words.

    Args:
        texts: The corpus. Special tokens in it are left out of the counts.
        vocab_size: Tokens in all: special tokens, alphabet and merged symbols.
        spelling: How text becomes symbols.
        special: Tokens that come first and are never split or merged.
        criterion: From the counts of a pair and of its two symbols to a score.

    Returns:
        The vocabulary in the order of ids, and the merges in the order they were learned. The
        vocabulary is smaller than asked when every word of the corpus has become one token.

    Raises:
        TypeError: `texts` is one string, or holds something that is no string.
        ValueError: There is no word, the vocabulary is smaller than the alphabet, a text holds a
            lone surrogate, or the criterion gave NaN.
    """
    if isinstance(texts, str):
        raise TypeError("texts is one string; give a list of strings, [text] for a single one.")
    words: Counter[str] = Counter()
    for text in texts:
        check_text(text)
        for part in split_special(text, special)[::2]:
            words.update(spelling.words(part))
    if not words:
        raise ValueError(
            "texts hold no word to learn from. Was an iterator given that was used up?"
        )
    counts: Counter[tuple[str, ...]] = Counter()
    for word, times in words.items():
        counts[tuple(spelling.symbols(word))] += times
    alphabet = sorted({symbol for symbols in counts for symbol in symbols} | {*spelling.alphabet})
    ids = {token: index for index, token in enumerate(dict.fromkeys([*special, *alphabet]))}
    if vocab_size < len(ids):
        raise ValueError(
            f"vocab_size = {vocab_size} is too small: {len(special)} special tokens and an "
            f"alphabet of {len(alphabet)} symbols already need {len(ids)}."
        )
    merges = _merge_best(PairCounts(counts), ids, vocab_size, spelling.join, criterion)
    return list(ids), merges


def _merge_best(
    corpus: PairCounts,
    ids: dict[str, int],
    vocab_size: int,
    join: Callable[[str, str], str],
    criterion: Criterion,
) -> list[Merge]:
    """Fill `ids` up to `vocab_size`, and return the merges that did it."""

    def entry(pair: Merge) -> tuple[float | int, int, int, Merge]:
        first, second = pair
        score = criterion(corpus.pairs[pair], corpus.symbols[first], corpus.symbols[second])
        if math.isnan(score):
            raise ValueError(f"the criterion gave NaN for the pair {pair}: it cannot be ranked.")
        return -score, ids[first], ids[second], pair

    heap = [entry(pair) for pair in corpus.pairs]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap and len(ids) < vocab_size:
        best = heapq.heappop(heap)
        pair = best[-1]
        if pair not in corpus.pairs or best != entry(pair):
            continue  # its counts have changed since; what they are now was pushed then
        merged = join(*pair)
        ids.setdefault(merged, len(ids))
        merges.append(pair)
        for changed in corpus.merge(pair, merged):
            heapq.heappush(heap, entry(changed))
    return merges
