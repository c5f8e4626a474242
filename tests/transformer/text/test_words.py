"""Cutting and normalising against `tokenizers`, character by character where tables agree."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers

from qa_lab.transformer.text import (
    BertNormaliser,
    InTurn,
    Normalised,
    bert_words,
    category_class,
    digits_apart,
    gpt2_words,
    punctuation_words,
    space_first,
    white_space_words,
)
from qa_lab.transformer.text._file_parts import STR_SPLIT

KNOWN = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) == unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"
    and not 0xD800 <= code < 0xF000
    and not 0x3500 < code < 0x9F00
    and not 0xAC10 < code < 0xD790
    and not 0x20010 < code
]
"""What has been the same since Unicode 3.2, without the long blocks: several tables are old."""

texts = st.text(st.sampled_from(KNOWN) | st.sampled_from("a1 .\t\n\x1c\x85中é\u0301"), max_size=30)


def cut_by(pre_tokenizer):
    return lambda text: [word for word, _ in pre_tokenizer.pre_tokenize_str(text)]


def their_split(text):
    pattern = pre_tokenizers.Split(Regex(STR_SPLIT["pattern"]["Regex"]), "removed")
    return cut_by(pattern)(text)


CUTS = {
    "white space": (white_space_words, cut_by(pre_tokenizers.WhitespaceSplit())),
    "str.split": (str.split, their_split),
    "punctuation": (punctuation_words, cut_by(pre_tokenizers.BertPreTokenizer())),
    "digits": (digits_apart, cut_by(pre_tokenizers.Digits(individual_digits=True))),
}


@pytest.mark.parametrize("ours, theirs", CUTS.values(), ids=CUTS)
def test_every_old_character_is_cut_as_in_tokenizers(ours, theirs):
    assert len(KNOWN) > 10_000
    for start in range(0, len(KNOWN), 50):
        text = "".join(f"a{c}b{c}{c}1{c}" for c in KNOWN[start : start + 50])
        assert ours(text) == theirs(text)


@pytest.mark.parametrize("ours, theirs", CUTS.values(), ids=CUTS)
@given(text=texts)
def test_any_text_is_cut_as_in_tokenizers(ours, theirs, text):
    assert ours(text) == theirs(text)


def test_digits_stand_alone_and_nothing_is_lost():
    assert digits_apart("a12 3½b") == ["a", "1", "2", " ", "3", "½", "b"]
    assert digits_apart("") == []


def test_a_space_comes_first_once():
    assert [space_first(text) for text in ("", "a", " a", "\ta")] == [[], [" a"], [" a"], [" \ta"]]


def test_ways_to_cut_follow_one_another():
    assert InTurn((digits_apart, space_first))("a1") == [" a", " 1"]
    assert InTurn((digits_apart, gpt2_words))("it's 12") == ["it", "'s", " ", "1", "2"]
    assert InTurn()("a b") == ["a b"] and InTurn()("") == []


def test_words_are_those_of_the_normalised_text():
    assert Normalised(str.upper, str.split)("a b") == ["A", "B"]
    assert Normalised(BertNormaliser(), bert_words)("Café!中") == ["cafe", "!", "中"]


# ---- BERT's normaliser

FLAGS = [
    (clean, lower, strip)
    for clean in (True, False)
    for lower in (True, False)
    for strip in (None, True, False)
]


def normalisers(clean, lower, strip):
    theirs = normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=False, strip_accents=strip, lowercase=lower
    )
    return BertNormaliser(clean, lower, strip), theirs.normalize_str


@pytest.mark.parametrize("flags", FLAGS)
def test_every_old_character_is_normalised_as_in_tokenizers(flags):
    ours, theirs = normalisers(*flags)
    text = "".join(f"a{c}" for c in KNOWN)
    assert ours(text) == theirs(text)


@pytest.mark.parametrize("flags", FLAGS)
@given(text=texts)
def test_any_text_is_normalised_as_in_tokenizers(flags, text):
    ours, theirs = normalisers(*flags)
    assert ours(text) == theirs(text)


def test_what_berts_normaliser_does_by_example():
    text = "Ca\x00fe\u0301\u00a0ΑΣ\t\u200dİ\ufffd\ue000"
    assert BertNormaliser()(text) == "cafe ας i".replace("ς", "σ")
    assert BertNormaliser(lowercase=False)(text) == "Cafe\u0301 ΑΣ İ"
    assert BertNormaliser(lowercase=False, strip_accents=True)(text) == "Cafe ΑΣ I"
    assert BertNormaliser(clean_text=False, strip_accents=False)("A\tÉ\x00") == "a\té\x00"


# ---- categories


@pytest.mark.parametrize("category", ["N", "Nd", "Mn", "Cf", "Co", "L"])
def test_a_class_holds_the_characters_of_its_category(category):
    of_class = re.compile(f"[{category_class(category)}]")
    for code in [*range(0x3000), 0xE000, 0xF8FF, 0x1D7FF, 0x1D800, 0xE0001, 0x10FFFD, 0x10FFFF]:
        right = unicodedata.category(chr(code)).startswith(category)
        assert bool(of_class.match(chr(code))) == right


@pytest.mark.parametrize("category", ["", "l", "Xx", "d", "Nx"])
def test_a_category_that_is_none_is_refused(category):
    with pytest.raises(ValueError, match=f"no Unicode category begins with '{category}'; give"):
        category_class(category)
