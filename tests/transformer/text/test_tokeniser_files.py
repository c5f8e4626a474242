"""A tokenizer.json both ways: what we write `tokenizers` reads alike, and what it writes we do."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
)

from qa_lab.transformer.text.byte_pair_encoding import (
    BytePairEncoding,
    characters,
    train_byte_pair_encoding,
    utf8_bytes,
)
from qa_lab.transformer.text.files import to_dict
from qa_lab.transformer.text.subwords import Spelling
from qa_lab.transformer.text.wordpiece import (
    WordPiece,
    joined_pieces,
    tidied_pieces,
    train_wordpiece,
)
from qa_lab.transformer.text.words import (
    BertNormaliser,
    InTurn,
    Normalised,
    bert_words,
    digits_apart,
    gpt2_words,
    punctuation_words,
    space_first,
    white_space_words,
)

CORPUS = (
    "It's the newest of the low towers, isn't it? We've lowered 12 of the 345 widest ones\n\n and "
    "they do not say they'll be lower still:\tlowest! I'm sure. 我们降低了最新的塔。她说：“更低！” "
    "①Ⅻ½ cafe\u0301 naïve 한글 👩‍👩‍👧 🏳️‍🌈 \u00a0\u3000 "
)
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "<|end|>", "<|end|>er", "中|"]
FRAME = (["[CLS]", "<|end|>"], ["[SEP]"])

# ---- texts

OLD = [
    chr(code)
    for code in [
        *range(0x3400),
        *range(0x4DF0, 0x4E10),
        *range(0xAC00, 0xAC10),
        *range(0xF900, 65536),
    ]
    if unicodedata.category(chr(code)) == unicodedata.ucd_3_2_0.category(chr(code)) != "Cs"
]
"""What has been the same since Unicode 3.2: the tables of `tokenizers` are of several ages."""

pieces = st.one_of(
    st.sampled_from([*SPECIAL, *CORPUS.split(" "), " ", "  ", "\n", "\x1c", "\x85", "\u2028"]),
    st.text(st.sampled_from(OLD), max_size=4),
    st.text("[]CLSUNK<|end>r ##'stm.", max_size=6),
    st.sampled_from(["\x00", "\ufffd", "\u200d", "\ue000", "İΣς", "\U0001f642", "\U00020000"]),
)
texts = st.lists(pieces, max_size=8).map("".join) | st.lists(pieces, max_size=8).map(" ".join)


def assert_the_same(ours, theirs, text, ids):
    """Encode a text, with its special tokens and with none, and decode that and any ids."""
    theirs.encode_special_tokens = False
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.encode(text, framed=False) == theirs.encode(text, add_special_tokens=False).ids
    for some in (ours.encode(text), ids):
        assert ours.decode(some) == theirs.decode(some, skip_special_tokens=False)
    theirs.encode_special_tokens = True
    assert ours.encode(text, special_as_text=True) == theirs.encode(text).ids


# ---- from here to there, and back


def by_bytes(words, **more):
    return train_byte_pair_encoding([CORPUS], 300, utf8_bytes(words), special=SPECIAL, **more)


def by_characters(spelling):
    return train_byte_pair_encoding([CORPUS], 160, spelling, special=SPECIAL, unknown=SPECIAL[0])


def by_pieces(words, frame=((), ()), text=joined_pieces):
    vocabulary = train_wordpiece([CORPUS], 150, words=words, special=SPECIAL).vocabulary
    return WordPiece(vocabulary, words=words, special=SPECIAL, text=text, frame=frame)


def framed(tokeniser):
    return BytePairEncoding(
        tokeniser.vocabulary,
        tokeniser.merges,
        tokeniser.spelling,
        special=tokeniser.special,
        unknown=tokeniser.unknown,
        frame=FRAME,
    )


OURS = {
    "bytes": by_bytes(gpt2_words),
    "bytes, framed": framed(by_bytes(gpt2_words)),
    "bytes, space first": by_bytes(InTurn((space_first, gpt2_words))),
    "bytes, digits apart": by_bytes(InTurn((digits_apart, gpt2_words))),
    "bytes, digits apart, space first": by_bytes(InTurn((digits_apart, space_first, gpt2_words))),
    "bytes, one word": by_bytes(InTurn()),
    "bytes, BERT's words": by_bytes(bert_words),
    "bytes, white space": by_bytes(InTurn((white_space_words, punctuation_words))),
    "characters": by_characters(characters()),
    "characters, framed": framed(by_characters(characters())),
    "characters, white space": by_characters(characters(white_space_words, "·")),
    "characters, end in the last": by_characters(characters(apart=False)),
    "characters, BERT's words": by_characters(
        characters(Normalised(BertNormaliser(), bert_words), apart=False)
    ),
    "characters, no end": by_characters(Spelling(str.split, list, "".join)),
    "characters, spaced": by_characters(Spelling(InTurn(), list, " ".join, gap=None)),
    "pieces": by_pieces(bert_words),
    "pieces, white space": by_pieces(white_space_words),
    "pieces, uncased, framed": by_pieces(
        Normalised(BertNormaliser(), bert_words), FRAME, tidied_pieces
    ),
    "pieces, cased": by_pieces(Normalised(BertNormaliser(lowercase=False), punctuation_words)),
    "pieces, accents": by_pieces(
        Normalised(BertNormaliser(strip_accents=False), InTurn((digits_apart, bert_words)))
    ),
}
THEIRS = {name: Tokenizer.from_str(json.dumps(to_dict(ours))) for name, ours in OURS.items()}


@pytest.mark.parametrize("name", OURS)
@settings(max_examples=600)
@given(text=texts, ids=st.lists(st.integers(0, 120), max_size=9))
def test_what_we_write_encodes_and_decodes_alike_in_tokenizers(name, text, ids):
    assert_the_same(OURS[name], THEIRS[name], text, ids)
