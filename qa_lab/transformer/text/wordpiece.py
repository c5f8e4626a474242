"""WordPiece: a vocabulary of pieces, and the longest one that fits, from left to right.

Nothing but the vocabulary is kept: encoding does not replay merges, as byte pair encoding does.
Training merges pairs all the same, and what makes a pair the best is an argument.
"""

import math
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial

from qa_lab.transformer.text.merges import Criterion, learn_merges
from qa_lab.transformer.text.subwords import Frame, Spelling, Tokeniser
from qa_lab.transformer.text.words import Words, bert_words

CONTINUES = "##"
"""Stands before a piece that is not the first of its word."""


def longest_matches(
    word: str,
    vocabulary: Container[str],
    unknown: str = "[UNK]",
    max_characters: int = 100,
) -> list[str]:
    """Cut a word into pieces: the longest that fits, then the longest that fits after it.

    Greedy, so it can fail where another cut would not: with the pieces a, ab and ##bc, abc is
    unknown.

    Paper: Song et al. 2021, arXiv:2012.15524, section 1, which calls it MaxMatch.
    Departs: at most 100 characters, as in `tokenizers`; the paper sets no limit.

    Args:
        word: A word.
        vocabulary: The pieces; those inside a word begin with ##.
        unknown: What a word becomes that the pieces do not cover.
        max_characters: A longer word is unknown, in Unicode code points.

    Returns:
        The pieces; or `unknown` alone, for the whole word, never for a part of it.
    """
    if len(word) > max_characters:
        return [unknown]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = CONTINUES if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocabulary:
                break
        else:
            return [unknown]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def likelihood_ratio(pair: int, first: int, second: int) -> float:
    r"""Score a pair by how much more often it stands than chance would put it there.

    $$ score(a, b) = \frac{count(ab)}{count(a) count(b)} $$

    This is what is commonly taught as WordPiece's criterion. With N symbols in the corpus,
    ln(N score) is the pair's pointwise mutual information, which is the gain in unigram
    log-likelihood per merged occurrence, up to 1 nat; see `log_likelihood_gain`. So it ranks pairs
    by (nearly) the gain of one occurrence, where the paper asks for the gain of all: a pair seen
    once, of two symbols seen once, has the highest score there can be.

    Paper: after Schuster and Nakajima 2012, "Japanese and Korean voice search".
    Departs: the paper adds the unit that raises the likelihood of the training text most.

    Args:
        pair: Occurrences of the pair in the corpus.
        first: Occurrences of its first symbol.
        second: Occurrences of its second symbol.

    Returns:
        The score, per occurrence; above 0 and at most 1.
    """
    return pair / (first * second)


def log_likelihood_gain(pair: int, first: int, second: int, total: int) -> float:
    r"""Measure exactly what merging a pair of two different symbols does to the likelihood.

    The corpus is a bag of symbols, each as probable as it is frequent. Merging n pairs takes n from
    either symbol's count, makes n of the new one, and leaves N - n symbols.

    $$ \Delta = \phi(n) + \phi(a - n) - \phi(a) + \phi(b - n) - \phi(b) - \phi(N - n) + \phi(N),
       \phi(x) = x \ln x $$

    $$ \left| \frac{\Delta}{n} - \ln \frac{n N}{a b} \right| \le 1 $$

    Paper: after Schuster and Nakajima 2012, "Japanese and Korean voice search", who add the unit
        that gains most.
    Departs: theirs is the likelihood of a language model built anew; this is the unigram model's.

    Args:
        pair: n, occurrences of the pair in the corpus.
        first: a, occurrences of its first symbol.
        second: b, occurrences of its second symbol.
        total: N, symbols in the corpus.

    Returns:
        The log-likelihood after the merge less that before it, in nats; with the new symbol not in
        the corpus before.

    Raises:
        ValueError: No corpus has such counts: the pair stands nowhere, or more often than one of
            its symbols, or the two symbols together more often than all.
    """
    if not 1 <= pair <= min(first, second) or first + second > total:
        raise ValueError(
            f"no corpus of {total} symbols has {first} and {second} of two different ones and "
            f"{pair} of their pair: it takes 1 <= pair <= first, second; first + second <= total."
        )

    def phi(count: int) -> float:
        return count * math.log(count) if count else 0.0

    before = phi(first) + phi(second) - phi(total)
    return phi(pair) + phi(first - pair) + phi(second - pair) - phi(total - pair) - before


def continued_symbols(word: str) -> list[str]:
    """Spell a word as its characters, with ## before all but the first.

    Args:
        word: The word.

    Returns:
        As many symbols as the word has characters.
    """
    return [CONTINUES * (index > 0) + character for index, character in enumerate(word)]


def continued_join(first: str, second: str) -> str:
    """Join two pieces of a word.

    Args:
        first: A piece.
        second: The piece after it.

    Returns:
        The longer piece, without the ## between them.
    """
    return first + second.removeprefix(CONTINUES)


def _spaced(tokens: Sequence[str]) -> list[str]:
    """Put a space before each word but the first, and nothing before what continues one."""
    later = [t[len(CONTINUES) :] if t.startswith(CONTINUES) else f" {t}" for t in tokens[1:]]
    return [*tokens[:1], *later]


def joined_pieces(tokens: Sequence[str]) -> str:
    """Read pieces as text: one space between words.

    Args:
        tokens: Pieces.

    Returns:
        The text.
    """
    return "".join(_spaced(tokens))


CONTRACTIONS = {
    **{f" {mark}": mark for mark in (".", "?", "!", ",")},
    **{" ' ": "'", " n't": "n't", " 'm": "'m", " do not": " don't"},
    **{" 's": "'s", " 've": "'ve", " 're": "'re"},
}
"""What `tidied_pieces` replaces, in this order."""


def tidied_pieces(tokens: Sequence[str]) -> str:
    """Read pieces as text, without the space before marks that English writes with none.

    Departs: the rules, and that each looks at one token, are those of Hugging Face's `tokenizers`
        (`cleanup`).

    Args:
        tokens: Pieces.

    Returns:
        The text.
    """

    def tidied(token: str) -> str:
        for spaced, close in CONTRACTIONS.items():
            token = token.replace(spaced, close)
        return token

    return "".join(map(tidied, _spaced(tokens)))


def continued_characters(
    words: Words = bert_words, text: Callable[[list[str]], str] = joined_pieces
) -> Spelling:
    """Spell a word as its characters, with ## before all but the first.

    Args:
        words: Text into words.
        text: Tokens back into text: `joined_pieces` or `tidied_pieces`.

    Returns:
        The spelling. Decoding puts one space between words, whatever stood there.
    """
    return Spelling(words, continued_symbols, text, continued_join, gap=None)


class WordPiece(Tokeniser):
    """A tokeniser that takes the longest piece that fits; see `longest_matches`.

    Paper: Devlin et al. 2018, arXiv:1810.04805, which uses it; Song et al. 2021, arXiv:2012.15524,
        section 1.
    Departs: a special token is no piece, so that no word of a text can become one. In `tokenizers`
        a word does that is spelled exactly so.

    Args:
        vocabulary: Pieces in the order of their ids; those inside a word begin with ##.
        words: Text into words.
        special: Tokens that are never split.
        unknown: What a word becomes that the pieces do not cover.
        max_characters: A longer word is unknown, in Unicode code points.
        text: Tokens back into text: `joined_pieces` or `tidied_pieces`.
        frame: Tokens that are put before and after every text, `(["[CLS]"], ["[SEP]"])`.

    Raises:
        ValueError: `max_characters` is below 1, `unknown` is not in the vocabulary, or the
            vocabulary is one that `Tokeniser` refuses.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        words: Words = bert_words,
        special: Sequence[str] = (),
        unknown: str = "[UNK]",
        max_characters: int = 100,
        text: Callable[[list[str]], str] = joined_pieces,
        frame: Frame = ((), ()),
    ) -> None:
        if max_characters < 1:
            raise ValueError(f"max_characters = {max_characters}: every word would be unknown.")
        self.max_characters = max_characters
        pieces = partial(
            longest_matches,
            vocabulary=frozenset(vocabulary) - {*special},
            unknown=unknown,
            max_characters=max_characters,
        )
        spelling = continued_characters(words, text)
        super().__init__(
            vocabulary, spelling, pieces, special=special, unknown=unknown, frame=frame
        )


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    *,
    criterion: Criterion = likelihood_ratio,
    words: Words = bert_words,
    special: Sequence[str] = ("[UNK]",),
    unknown: str = "[UNK]",
    max_characters: int = 100,
) -> WordPiece:
    """Learn a vocabulary of pieces by merging the pair that the criterion likes best.

    Paper: Schuster and Nakajima 2012, "Japanese and Korean voice search".
    Departs: the trainer behind BERT was never published. This one is byte pair encoding over
        characters spelled with ##. With `pair_frequency` it does what the trainer in `tokenizers`
        does, but breaks ties the same way every time; with `likelihood_ratio`, what is commonly
        taught. It ends at a size, not when the likelihood stops rising.

    Args:
        texts: The corpus.
        vocab_size: Tokens in all: special tokens, alphabet and merged pieces.
        criterion: From the counts of a pair and of its two symbols to a score; highest merges.
        words: Text into words.
        special: Tokens that come first and are never split.
        unknown: What a word becomes that the pieces do not cover; one of `special`.
        max_characters: In encoding, a longer word is unknown, in Unicode code points.

    Returns:
        The tokeniser. Equal scores are decided as in `learn_merges`.

    Raises:
        TypeError: `texts` is one string, or holds something that is no string.
        ValueError: There is no word, the vocabulary is smaller than the alphabet, a text holds a
            lone surrogate, or the vocabulary then lacks `unknown`.
    """
    spelling = continued_characters(words)
    vocabulary, _ = learn_merges(texts, vocab_size, spelling, special=special, criterion=criterion)
    return WordPiece(
        vocabulary, words=words, special=special, unknown=unknown, max_characters=max_characters
    )
