"""Tokenisers as the JSON of Hugging Face's `tokenizers`, both ways: what a tokenizer.json holds.

No file is touched here: `Tokeniser.save` and `Tokeniser.load` do that. What one side says and the
other cannot is refused by name, never left out in silence:

    here                                        in a tokenizer.json
    BytePairEncoding                            model BPE
      utf8_bytes()                              pre_tokenizer and decoder ByteLevel
      characters(apart=False)                   end_of_word_suffix, decoder BPEDecoder
      characters()                              what `_file_ends` writes
    WordPiece                                   model WordPiece
    words: gpt2_words, space_first              ByteLevel: use_regex, add_prefix_space
      bert_words, punctuation_words             BertPreTokenizer, handle_chinese_chars or not
      white_space_words, str.split              WhitespaceSplit, Split
      digits_apart, InTurn                      Digits, Sequence
      Normalised(BertNormaliser(), ...)         normalizer BertNormalizer
    special, frame                              added_tokens, post_processor
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qa_lab.transformer.text._file_ends import read_ends, unmarked, write_ends
from qa_lab.transformer.text._file_parts import only, read_text, read_words, write_text, write_words
from qa_lab.transformer.text._file_tokens import (
    read_frame,
    read_special,
    read_vocabulary,
    write_frame,
    write_special,
)
from qa_lab.transformer.text.byte_pair_encoding import (
    BytePairEncoding,
    EndMarked,
    byte_spelled,
    byte_symbols,
    byte_text,
    characters,
)
from qa_lab.transformer.text.merges import Merge
from qa_lab.transformer.text.subwords import Frame, Spelling, Tokeniser
from qa_lab.transformer.text.wordpiece import CONTINUES, WordPiece

LEFT_ASIDE = ("truncation", "padding", "post_processor")
"""Parts of a file that `from_dict` can do without: what is done to ids once a text is encoded."""

PARTS = {"added_tokens", "normalizer", "pre_tokenizer", "decoder", "model", *LEFT_ASIDE}
"""All parts of a file."""


def to_dict(tokeniser: Tokeniser) -> dict[str, Any]:
    """Write a tokeniser as what `json` makes a tokenizer.json of.

    Read by `tokenizers`, the file encodes and decodes as the tokeniser does, special tokens
    included (`skip_special_tokens=False`).

    Departs: four things are `tokenizers`' own. A symbol that the vocabulary lacks is dropped there
        if there is no unknown token; here it is an error. So is a word that holds the end of a
        word as text. A special token with letters like é is read as bytes by its ByteLevel. And a
        special token is no piece of WordPiece here; see `WordPiece`.

    Args:
        tokeniser: A `BytePairEncoding` or a `WordPiece`.

    Returns:
        Dicts, lists, strings, numbers, booleans and None.

    Raises:
        ValueError: The format cannot say what the tokeniser does: it is of another kind, or one of
            its functions is not among those listed above.
    """
    if type(tokeniser) is BytePairEncoding:
        parts = _write_byte_pairs(tokeniser)
    elif type(tokeniser) is WordPiece:
        parts = _write_wordpiece(tokeniser)
    else:
        raise ValueError(
            f"a tokenizer.json cannot say what a {type(tokeniser).__name__} does; it can hold a "
            "BytePairEncoding or a WordPiece."
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": write_special(tokeniser),
        "post_processor": write_frame(tokeniser.frame, tokeniser.ids),
        **parts,
    }


def _write_byte_pairs(tokeniser: BytePairEncoding) -> dict[str, Any]:
    spelling, symbols = tokeniser.spelling, tokeniser.spelling.symbols
    _check_order(tokeniser.merges)
    if spelling.join not in (operator.add, str.__add__):
        raise ValueError(f"a tokenizer.json cannot say how {spelling.join!r} joins two symbols.")
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokeniser.unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": tokeniser.ids,
        "merges": [list(pair) for pair in tokeniser.merges],
    }
    if isinstance(symbols, EndMarked) and spelling == characters(
        spelling.words, symbols.end_of_word
    ):
        parts, names = write_ends(tokeniser, symbols.end_of_word)
        name = dict(zip(tokeniser.vocabulary, names, strict=True))
        model["vocab"] = {name[token]: index for token, index in tokeniser.ids.items()}
        model["merges"] = [[name[token] for token in pair] for pair in tokeniser.merges]
        model["unk_token"] = name.get(tokeniser.unknown)
        return {**parts, "model": model}
    if isinstance(symbols, EndMarked) and not symbols.apart:
        model["end_of_word_suffix"] = symbols.end_of_word
    elif symbols not in (list, byte_spelled):
        raise ValueError(f"a tokenizer.json cannot say how {symbols!r} spells a word.")
    return {**_write_spelling(spelling), "model": model}


def _write_wordpiece(tokeniser: WordPiece) -> dict[str, Any]:
    model = {
        "type": "WordPiece",
        "unk_token": tokeniser.unknown,
        "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": tokeniser.max_characters,
        "vocab": tokeniser.ids,
    }
    return {**_write_spelling(tokeniser.spelling), "model": model}


def _write_spelling(spelling: Spelling) -> dict[str, Any]:
    normalizer, pre_tokenizer = write_words(spelling.words, spelling.symbols == byte_spelled)
    decoder = write_text(spelling.text)
    if spelling.gap != _gap(spelling.text):
        raise ValueError(
            f"a tokenizer.json cannot say that {spelling.gap!r} is the gap beside special tokens "
            f"where {spelling.text!r} reads tokens; it can say {_gap(spelling.text)!r}."
        )
    return {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": decoder}


def _gap(text: Callable[[list[str]], str]) -> str | None:
    return "" if text in (byte_text, "".join) else None


def _check_order(merges: Sequence[Merge]) -> None:
    """Refuse merges that `tokenizers` replays otherwise: it does one at a time, not all alike."""
    made = {first + second: rank for rank, (first, second) in enumerate(merges)}
    for rank, pair in enumerate(merges):
        for token in pair:
            if made.get(token, -1) > rank:
                raise ValueError(
                    f"merge {rank}, {pair}, takes {token!r}, which merge {made[token]} makes: in "
                    "this order tokenizers and this lab replay merges differently."
                )


def from_dict(written: Mapping[str, Any], *, without: Sequence[str] = ()) -> Tokeniser:
    """Read a tokeniser from what `json` makes of a tokenizer.json.

    Args:
        written: The file.
        without: Parts to leave aside, of truncation, padding and post_processor.

    Returns:
        A `BytePairEncoding` or a `WordPiece` that encodes and decodes as `tokenizers` does with the
        file, but for what `to_dict` names.

    Raises:
        ValueError: The file says something that cannot be represented here, or is none of theirs.
    """
    if strange := set(without) - {*LEFT_ASIDE}:
        raise ValueError(f"only {', '.join(LEFT_ASIDE)} can be left aside, not {min(strange)}.")
    if not isinstance(written.get("model"), dict):
        raise ValueError("this is no tokenizer.json of tokenizers: there is no model in it.")
    kinds = {"BPE": _read_byte_pairs, "WordPiece": _read_wordpiece}
    kind = written["model"].get("type")
    if kind not in kinds:
        raise ValueError(
            f"the file's model is {kind}, which cannot be represented here; what can is "
            f"{' and '.join(kinds)}."
        )
    none = dict.fromkeys(("normalizer", "pre_tokenizer", "decoder", *LEFT_ASIDE))
    written = {"added_tokens": [], **none, **written, **dict.fromkeys(without)}
    for name in ("truncation", "padding"):
        if written[name] is not None:
            raise ValueError(
                f"the file asks for {name}, {written[name]}, which nothing here does; "
                f"without=[{name!r}] leaves it aside."
            )
    only(written, "the file", version=("1.0",), **dict.fromkeys(written.keys() & PARTS))
    special = read_special(written["added_tokens"], written["normalizer"])
    vocabulary = read_vocabulary(written["model"]["vocab"], written["added_tokens"])
    frame = read_frame(written["post_processor"], vocabulary)
    return kinds[kind](written, vocabulary, special=special, frame=frame)


def _read_byte_pairs(
    written: Mapping[str, Any], vocabulary: list[str], *, special: list[str], frame: Frame
) -> BytePairEncoding:
    model = written["model"]
    only(
        model,
        "the model BPE",
        dropout=(None, 0),
        continuing_subword_prefix=(None, ""),
        fuse_unk=(False,),
        byte_fallback=(False,),
        ignore_merges=(False,),
        **dict.fromkeys(("unk_token", "end_of_word_suffix", "vocab", "merges")),
    )
    merges, unknown = [_read_merge(merge) for merge in model["merges"]], model.get("unk_token")
    _check_order(merges)
    if ends := read_ends(written, special, unknown):
        spelling = characters(*ends)
        vocabulary = [t if t in special else unmarked(t, ends[1]) for t in vocabulary]
        merges = [(unmarked(first, ends[1]), unmarked(second, ends[1])) for first, second in merges]
    else:
        spelling = _read_spelling(written, model.get("end_of_word_suffix") or "")
    return BytePairEncoding(
        vocabulary, merges, spelling, special=special, unknown=unknown, frame=frame
    )


def _read_merge(merge: str | Sequence[str]) -> Merge:
    """Read a merge from "a b", as files of before 2024 hold it, or from ["a", "b"]."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if len(pair) != 2:
        raise ValueError(f"the merge {merge!r} is no pair of tokens.")
    return pair[0], pair[1]


def _read_spelling(written: Mapping[str, Any], end_of_word: str) -> Spelling:
    words, by_bytes = read_words(written["normalizer"], written["pre_tokenizer"])
    text = read_text(written["decoder"])
    if by_bytes and end_of_word:
        raise ValueError(
            f"the file spells words as bytes and says end_of_word_suffix = {end_of_word!r}: both "
            "together cannot be represented here."
        )
    if by_bytes:
        return Spelling(words, byte_spelled, text, alphabet=byte_symbols(), gap=_gap(text))
    symbols = EndMarked(end_of_word, apart=False) if end_of_word else list
    return Spelling(words, symbols, text, gap=_gap(text))


def _read_wordpiece(
    written: Mapping[str, Any], vocabulary: list[str], *, special: list[str], frame: Frame
) -> WordPiece:
    model = written["model"]
    only(
        model,
        "the model WordPiece",
        continuing_subword_prefix=(CONTINUES,),
        **dict.fromkeys(("unk_token", "max_input_chars_per_word", "vocab")),
    )
    words, by_bytes = read_words(written["normalizer"], written["pre_tokenizer"])
    if by_bytes:
        raise ValueError("the file spells words as bytes for WordPiece; here it takes characters.")
    return WordPiece(
        vocabulary,
        words=words,
        special=special,
        unknown=model["unk_token"],
        max_characters=model["max_input_chars_per_word"],
        text=read_text(written["decoder"]),
        frame=frame,
    )
