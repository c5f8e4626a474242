"""The end of a word as a symbol of its own, in the words of a tokenizer.json.

`tokenizers` starts a word from its characters, so a symbol like </w> must be one. Every word here
ends in a space there, which no word holds, since the text was cut at white space: the text becomes
"low lower ", which is cut after each space. In decoding a line feed stands on both sides of each
special token until all is one string, and the gaps are made of them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qa_lab.transformer.text.byte_pair_encoding import BytePairEncoding
from qa_lab.transformer.text.words import Words, white_space_words

CUTS: tuple[tuple[Words, str], ...] = ((str.split, r"[\s\x1c-\x1f]+"), (white_space_words, r"\s+"))
"""Text into words, and the white space between them as an expression of Oniguruma."""

Part = dict[str, Any]


def _replace(pattern: str, content: str, kind: str = "Regex") -> Part:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def _parts(white: str, end_of_word: str, apart: Iterable[str]) -> dict[str, Part]:
    """Write the three parts of the file that this takes.

    Args:
        white: What stands between words, as an expression.
        end_of_word: The symbol. To replace it by itself does nothing, and keeps its name.
        apart: The special tokens that stand apart from others in decoded text.

    Returns:
        `normalizer`, `pre_tokenizer` and `decoder`.
    """
    normalizers = [
        _replace(end_of_word, end_of_word, "String"),
        _replace(white, " "),
        {"type": "Strip", "strip_left": True, "strip_right": False},
        _replace(r"(?<=[^ ])\z", " "),
    ]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    decoders = [
        *(_replace(rf"\A{re.escape(token)}\z", f"\n{token}\n") for token in sorted(apart)),
        {"type": "Fuse"},
        _replace(r"\A\n|\n\z| \z", ""),
        _replace(r" ?\n\n?", " "),
    ]
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {**split, "invert": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def write_ends(tokeniser: BytePairEncoding, end_of_word: str) -> tuple[dict[str, Part], list[str]]:
    """Say in a tokenizer.json that the end of a word is a symbol of its own.

    Args:
        tokeniser: Byte pair encoding over `characters()`.
        end_of_word: Its symbol for the end of a word.

    Returns:
        The parts of the file, and the vocabulary with a space for the symbol.

    Raises:
        ValueError: Words are not cut at white space, a token holds white space or goes on after
            the end of a word, or a special token holds that symbol.
    """
    white = dict(CUTS).get(tokeniser.spelling.words)
    if white is None:
        raise ValueError(
            f"a tokenizer.json cannot say that a symbol ends each word of "
            f"{tokeniser.spelling.words!r}: words must be those of str.split or "
            "white_space_words. With characters(words, apart=False) it can."
        )
    for token in tokeniser.vocabulary:
        special = token in tokeniser.special
        if re.search(r"\s", token):
            raise ValueError(f"the token {token!r} holds white space, which ends a word there.")
        if end_of_word in (token if special else token.removesuffix(end_of_word)):
            raise ValueError(f"the token {token!r} holds {end_of_word!r}, which only ends words.")
    apart = {*tokeniser.special} - {tokeniser.unknown}
    names = [t.replace(end_of_word, " ") for t in tokeniser.vocabulary]
    return _parts(white, end_of_word, apart), names


def unmarked(token: str, end_of_word: str) -> str:
    """Read the name of an ordinary token in the file.

    Args:
        token: Its name, which ends in a space where the token ends a word.
        end_of_word: The symbol for the end of a word.

    Returns:
        The token.
    """
    return token.replace(" ", end_of_word)


def read_ends(
    written: Mapping[str, Any], special: Iterable[str], unknown: str | None
) -> tuple[Words, str] | None:
    """Find out whether a file says that the end of a word is a symbol of its own.

    Args:
        written: The file.
        special: Its special tokens.
        unknown: Its unknown token.

    Returns:
        Text into words, and the symbol for the end of a word; None where the file says otherwise.
    """
    try:
        end_of_word = written["normalizer"]["normalizers"][0]["content"]
    except (KeyError, TypeError, IndexError):
        return None
    for words, white in CUTS:
        parts = _parts(white, end_of_word, {*special} - {unknown})
        if all(written[name] == part for name, part in parts.items()):
            return words, end_of_word
    return None
