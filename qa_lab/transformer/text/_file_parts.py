"""How a tokenizer.json says what cuts a text into words, and what reads tokens as text.

For each part there is a function that writes it and one that reads it. What either side cannot say
is refused by name.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qa_lab.transformer.text.byte_pair_encoding import EndsSpaced, byte_text
from qa_lab.transformer.text.wordpiece import CONTINUES, joined_pieces, tidied_pieces
from qa_lab.transformer.text.words import (
    BertNormaliser,
    InTurn,
    Normalised,
    Words,
    bert_words,
    digits_apart,
    gpt2_words,
    punctuation_words,
    space_first,
    white_space_words,
)

Part = dict[str, Any]
"""One part of the file, as `json` reads it."""

Text = Callable[[list[str]], str]
"""From tokens to text."""

STR_SPLIT: Part = {
    "type": "Split",
    "pattern": {"Regex": r"[\s\x1c-\x1f]+"},
    "behavior": "Removed",
    "invert": False,
}
"""What `str.split` does, which takes four characters more than Unicode for white space."""

STEPS: tuple[tuple[Words, Part], ...] = (
    (white_space_words, {"type": "WhitespaceSplit"}),
    (punctuation_words, {"type": "BertPreTokenizer"}),
    (digits_apart, {"type": "Digits", "individual_digits": True}),
    (str.split, STR_SPLIT),
)

TEXTS: tuple[tuple[Text, Part | None], ...] = (
    (" ".join, None),
    ("".join, {"type": "Fuse"}),
    (joined_pieces, {"type": "WordPiece", "prefix": CONTINUES, "cleanup": False}),
    (tidied_pieces, {"type": "WordPiece", "prefix": CONTINUES, "cleanup": True}),
)


def only(part: Part, where: str, **readable: Sequence[Any] | None) -> None:
    """Refuse a part that says something which cannot be represented.

    Args:
        part: The part.
        where: What to call it.
        readable: The keys that can be read, each with its possible values; None: any value.

    Raises:
        ValueError: There is another key, or another value.
    """
    for key, value in part.items():
        known = (value,) if key == "type" else readable.get(key, ())
        if known is not None and value not in known:
            raise ValueError(f"{where} says {key} = {value!r}, which cannot be represented here.")


def flat(part: Part | None, inside: str) -> Iterator[Part]:
    """List a part, or what it is a sequence of.

    Args:
        part: The part, if there is one.
        inside: Where a sequence holds its parts.

    Yields:
        Parts that are no sequence.
    """
    if part is None:
        return
    if part["type"] == "Sequence":
        for smaller in part[inside]:
            yield from flat(smaller, inside)
    else:
        yield part


# ---- words: normalizer and pre_tokenizer


def write_words(words: Words, by_bytes: bool) -> tuple[Part | None, Part | None]:
    """Name what cuts a text.

    Args:
        words: Text into words.
        by_bytes: Words are then spelled as bytes.

    Returns:
        `normalizer` and `pre_tokenizer`.
    """
    normalise, words = (
        (words.normalise, words.words) if isinstance(words, Normalised) else (None, words)
    )
    steps = list(words.steps) if isinstance(words, InTurn) else [words]
    last: list[Part] = []
    if by_bytes:
        steps, regex = _without_last(steps, gpt2_words)
        steps, prefix = _without_last(steps, space_first)
        flags = {"add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}
        last = [{"type": "ByteLevel", **flags}]
    chinese = bert_words in steps
    steps = [punctuation_words if step == bert_words else step for step in steps]
    cuts = [*map(_write_step, steps), *last]
    if len(cuts) > 1:
        cuts = [{"type": "Sequence", "pretokenizers": cuts}]
    return _write_normaliser(normalise, chinese), cuts[0] if cuts else None


def _without_last(steps: list[Words], step: Words) -> tuple[list[Words], bool]:
    """Take a step away if it is the last one, and say whether it was."""
    return (steps[:-1], True) if steps[-1:] == [step] else (steps, False)


def _write_step(step: Words) -> Part:
    for ours, theirs in STEPS:
        if ours == step:
            return theirs
    raise ValueError(
        f"a tokenizer.json cannot say what {step!r} does to a text; it can name str.split and the "
        "functions of `words`: gpt2_words and space_first at the end, with utf8_bytes only."
    )


def _write_normaliser(normalise: Callable[[str], str] | None, chinese: bool) -> Part | None:
    if normalise is None and not chinese:
        return None
    bert = normalise or BertNormaliser(clean_text=False, lowercase=False)
    if not isinstance(bert, BertNormaliser):
        raise ValueError(
            f"a tokenizer.json cannot say what {normalise!r} does to a text; it can name "
            "BertNormaliser."
        )
    return {
        "type": "BertNormalizer",
        "clean_text": bert.clean_text,
        "handle_chinese_chars": chinese,
        "strip_accents": bert.strip_accents,
        "lowercase": bert.lowercase,
    }


def read_words(normalizer: Part | None, pre_tokenizer: Part | None) -> tuple[Words, bool]:
    """Find what cuts a text as a file says.

    Args:
        normalizer: What is done to the text first.
        pre_tokenizer: Where it is cut.

    Returns:
        Text into words, and whether words are then spelled as bytes.
    """
    steps: list[Words] = []
    by_bytes = False
    for part in flat(pre_tokenizer, "pretokenizers"):
        if by_bytes:
            raise ValueError(
                f"the file's pre_tokenizer goes on with {part['type']} after ByteLevel, where the "
                "text is bytes already: that cannot be represented here."
            )
        by_bytes = part["type"] == "ByteLevel"
        steps += _read_byte_level(part) if by_bytes else [_read_step(part)]
    normalise, chinese = _read_normaliser(list(flat(normalizer, "normalizers")))
    if chinese and punctuation_words not in steps:
        raise ValueError(
            "the file's normalizer says handle_chinese_chars = True without BertPreTokenizer, "
            "which cannot be represented here."
        )
    if chinese:
        steps = [bert_words if step == punctuation_words else step for step in steps]
    words = steps[0] if len(steps) == 1 else InTurn(tuple(steps))
    return (Normalised(normalise, words) if normalise else words), by_bytes


def _read_byte_level(part: Part) -> list[Words]:
    either = (True, False)
    only(part, "ByteLevel", add_prefix_space=either, use_regex=either, trim_offsets=either)
    prefix, regex = part["add_prefix_space"], part.get("use_regex", True)
    return [space_first] * prefix + [gpt2_words] * regex


def _read_step(part: Part) -> Words:
    for ours, theirs in STEPS:
        if theirs == part:
            return ours
    raise ValueError(
        f"the file's pre_tokenizer is {part}, which cannot be represented here; what can is "
        "ByteLevel, BertPreTokenizer, WhitespaceSplit, Digits of individual digits, and a Sequence "
        "of these."
    )


def _read_normaliser(parts: Sequence[Part]) -> tuple[BertNormaliser | None, bool]:
    """Find what is done to a text, if anything, and whether Chinese characters are set apart."""
    if not parts:
        return None, False
    if [part["type"] for part in parts] != ["BertNormalizer"]:
        raise ValueError(
            f"the file's normalizer is {' then '.join(p['type'] for p in parts)}, which cannot be "
            "represented here; what can is BertNormalizer, alone."
        )
    either, keys = (True, False), ("clean_text", "lowercase", "strip_accents")
    only(
        parts[0],
        "BertNormalizer",
        clean_text=either,
        lowercase=either,
        strip_accents=(*either, None),
        handle_chinese_chars=either,
    )
    normalise = BertNormaliser(*(parts[0][key] for key in keys))
    changes = normalise.clean_text or normalise.lowercase or normalise.strip_accents
    return (normalise if changes else None), parts[0]["handle_chinese_chars"]


# ---- text: decoder


def write_text(text: Text) -> Part | None:
    """Name what reads tokens as text.

    Args:
        text: Tokens into text.

    Returns:
        `decoder`.
    """
    if text == byte_text:
        flags = ("add_prefix_space", "trim_offsets", "use_regex")
        return {"type": "ByteLevel", **dict.fromkeys(flags, True)}
    if isinstance(text, EndsSpaced):
        return {"type": "BPEDecoder", "suffix": text.end_of_word}
    for ours, theirs in TEXTS:
        if ours == text:
            return theirs
    raise ValueError(f"a tokenizer.json cannot say how {text!r} reads tokens.")


def read_text(decoder: Part | None) -> Text:
    """Find what reads tokens as text as a file says.

    Args:
        decoder: How tokens become text. ByteLevel's options mean nothing in decoding.

    Returns:
        Tokens into text.
    """
    if decoder is not None and decoder["type"] == "ByteLevel":
        return byte_text
    if decoder is not None and decoder["type"] == "BPEDecoder" and decoder["suffix"]:
        return EndsSpaced(decoder["suffix"])
    for ours, theirs in TEXTS:
        if theirs == decoder:
            return ours
    raise ValueError(
        f"the file's decoder is {decoder}, which cannot be represented here; what can is "
        f"ByteLevel, BPEDecoder, WordPiece with the prefix {CONTINUES}, Fuse, and none."
    )
