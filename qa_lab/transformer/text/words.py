"""Cutting text into words, before any merge: no merge crosses the border of a word.

Each way to cut is a function from text to words, and `InTurn` puts several behind one another. What
is done to the text before that is a function from text to text, and `Normalised` puts it in front.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

Words = Callable[[str], list[str]]
"""From text to words."""


@cache
def _categories() -> str:
    """Return the general category of every code point in order, two letters each."""
    return "".join(unicodedata.category(chr(code)) for code in range(sys.maxunicode + 1))


@cache
def category_class(category: str) -> str:
    r"""Write a Unicode category as the inside of a character class: `re` has no `\p{L}`.

    Args:
        category: The category, Nd decimal digit, Cf format character, or the first letter of
            several: L letter, N number, P punctuation, Z separator.

    Returns:
        Ranges for `[...]`, by the Unicode version of this Python (`unicodedata.unidata_version`).

    Raises:
        ValueError: No category begins so.
    """
    letters = category if len(category) > 1 else f"{category}[a-z]"
    runs = list(re.finditer(f"(?:{letters})+", _categories())) if category[:1].isupper() else []
    if not runs:
        raise ValueError(
            f"no Unicode category begins with {category!r}; give one of C L M N P S Z."
        )
    return "".join(rf"\U{run.start() // 2:08x}-\U{run.end() // 2 - 1:08x}" for run in runs)


def white_space() -> str:
    r"""Write Unicode's White_Space as the inside of a character class.

    Returns:
        Ranges for `[...]`. Python's own `\s` also holds U+001C to U+001F, which Unicode does not.
    """
    return r"\t-\r\x85" + category_class("Z")


@cache
def _between_white_space() -> re.Pattern[str]:
    return re.compile(f"[^{white_space()}]+")


def white_space_words(text: str) -> list[str]:
    """Cut text at white space, and drop it.

    Args:
        text: The text.

    Returns:
        Words. `str.split` differs in U+001C to U+001F only, which it takes for white space.
    """
    return _between_white_space().findall(text)


@cache
def _digit_or_others() -> re.Pattern[str]:
    return re.compile(f"[{category_class('N')}]|[^{category_class('N')}]+")


def digits_apart(text: str) -> list[str]:
    """Make every digit a word of its own, so that 345 is never one token.

    Paper: Touvron et al. 2023, arXiv:2302.13971, section 2.1, split all numbers into digits.

    Args:
        text: The text.

    Returns:
        Pieces which, joined, are the text. Every character that is a number to Unicode counts: ½ Ⅻ.
    """
    return _digit_or_others().findall(text)


def space_first(text: str) -> list[str]:
    """Put a space before a text that begins with none: its first word is then as any other.

    Without it "low" and " low" are different tokens, and a text begins with the rarer one.

    Args:
        text: The text.

    Returns:
        The text with a space first, as one piece; none if it is empty.
    """
    return [text if text.startswith(" ") else " " + text] if text else []


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


CHINESE = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f"
)
"""What BERT takes for Chinese characters, as the inside of a character class."""


@cache
def _alone_or_words(alone: str) -> re.Pattern[str]:
    # All of ASCII that is neither letter nor digit stands alone too: $ and ^ are no punctuation.
    alone = r"!-/:-@\[-`{-~" + category_class("P") + alone
    return re.compile(f"[{alone}]|[^{white_space()}{alone}]+")


def punctuation_words(text: str) -> list[str]:
    """Cut text at white space and around punctuation.

    Args:
        text: The text.

    Returns:
        Words. Each mark of punctuation is one; white space is dropped.
    """
    return _alone_or_words("").findall(text)


def bert_words(text: str) -> list[str]:
    """Cut text where BERT does: at white space, around punctuation and around Chinese characters.

    Paper: Devlin et al. 2018, arXiv:1810.04805; the rules are in the code published with it.
    Departs: what that code does before is apart, in `BertNormaliser`.

    Args:
        text: The text.

    Returns:
        Words. Each mark of punctuation and each Chinese character is one; white space is dropped.
    """
    return _alone_or_words(CHINESE).findall(text)


@dataclass(frozen=True)
class InTurn:
    """Cut text in one way, then each piece in the next.

    Args:
        steps: Ways to cut, `(digits_apart, gpt2_words)`. None of them: the text is one word.
    """

    steps: tuple[Words, ...] = ()

    def __call__(self, text: str) -> list[str]:
        """Cut a text; an empty one has no words."""
        pieces = [text] if text else []
        for step in self.steps:
            pieces = [smaller for piece in pieces for smaller in step(piece)]
        return pieces


@dataclass(frozen=True)
class Normalised:
    """Cut what a text becomes, not the text itself.

    Args:
        normalise: Text to text.
        words: Text into words.
    """

    normalise: Callable[[str], str]
    words: Words

    def __call__(self, text: str) -> list[str]:
        """Normalise a text, then cut it."""
        return self.words(self.normalise(text))


@cache
def _dropped() -> re.Pattern[str]:
    """Match control characters other than tab and line ends, format and private ones, U+FFFD."""
    rest = "".join(map(category_class, ("Cf", "Co")))
    return re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd{rest}]+")


@cache
def _one_space() -> re.Pattern[str]:
    return re.compile(f"[{white_space()}]")


@cache
def _marks() -> re.Pattern[str]:
    return re.compile(f"[{category_class('Mn')}]+")


@dataclass(frozen=True)
class BertNormaliser:
    """What BERT does to a text before it is cut.

    Paper: Devlin et al. 2018, arXiv:1810.04805; the rules are in the code published with it.
    Departs: characters for private use are dropped, as in `tokenizers`. Lower case is found
        character by character, so that Σ at the end of a word becomes σ.

    Args:
        clean_text: Drop control and format characters and U+FFFD; make all white space a space.
        lowercase: Make letters lower case, as the uncased models do.
        strip_accents: Drop accents: the canonical decomposition without its non-spacing marks.
            None: as `lowercase`.
    """

    clean_text: bool = True
    lowercase: bool = True
    strip_accents: bool | None = None

    def __call__(self, text: str) -> str:
        """Normalise a text."""
        if self.clean_text:
            text = _one_space().sub(" ", _dropped().sub("", text))
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = _marks().sub("", unicodedata.normalize("NFD", text))
        if self.lowercase:
            text = "".join(map(str.lower, text))
        return text
