"""Byte pair encoding against Hugging Face's `tokenizers`: merges, ids, encodings, ties included."""

import json
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from inspect import unwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from qa_lab.transformer.text import (
    BytePairEncoding,
    PairCounts,
    Spelling,
    Tokeniser,
    apply_merges,
    byte_symbols,
    category_class,
    characters,
    gpt2_words,
    learn_merges,
    merge_pair,
    pair_frequency,
    train_byte_pair_encoding,
    utf8_bytes,
)
from qa_lab.transformer.text.subwords import check_text

END = "\ue000"  # one character, so that `tokenizers` can take it for the end of a word
PLAIN = Spelling(str.split, list, "".join)
ENGLISH = (
    "It's the newest of the low towers, isn't it? We've lowered 12 of the 345 widest ones\n\n  and "
    "they'll be lower still:\tlowest! I'd say you're   right; I'm sure. "
)
MIXED = ENGLISH + "我们降低了最新的塔。她说：“更低！” ①Ⅻ½٣ e\u0301 한글 👩‍👩‍👧 🏳️‍🌈 \u00a0\u3000 x "

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


def trained_by_them(texts, vocab_size, words, alphabet=(), special=()):
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=list(alphabet),
        special_tokens=list(special),
    )
    theirs.train_from_iterator(texts, trainer)
    return theirs


def their_merges(theirs):
    return tuple(tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"])


def assert_the_same(ours, theirs, texts=()):
    assert ours.merges == their_merges(theirs)
    assert ours.ids == theirs.get_vocab()
    for text in texts:
        assert ours.encode(text) == theirs.encode(text).ids


few_letters = st.lists(st.text("ab", min_size=1, max_size=14), min_size=1, max_size=7).map(" ".join)
several_letters = st.lists(st.text("abcde", min_size=1, max_size=9), min_size=1, max_size=20).map(
    " ".join
)
unicode_text = st.text(
    st.characters(exclude_categories=["Cs", "Cn", "Co"])
    | st.sampled_from("  \n\t''stremvld12中文é\u0301🙂"),
    max_size=40,
)


# ---- merges and encodings


@given(few_letters | several_letters, st.integers(5, 60), few_letters | several_letters)
def test_merges_and_encodings_are_those_of_tokenizers_ties_included(text, vocab_size, other):
    theirs = trained_by_them([text], vocab_size, pre_tokenizers.WhitespaceSplit())
    ours = train_byte_pair_encoding([text], vocab_size, PLAIN)
    known = " ".join("".join(c for c in word if c in text) for word in other.split())
    assert_the_same(ours, theirs, [text, known])


def test_many_corpora_full_of_ties_agree_with_tokenizers():
    draw = random.Random(0)
    for _ in range(150):
        letters = "abcd"[: draw.randint(1, 4)]
        words = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(6)]
        vocab_size = draw.randint(5, 40)
        theirs = trained_by_them([" ".join(words)], vocab_size, pre_tokenizers.WhitespaceSplit())
        ours = train_byte_pair_encoding([" ".join(words)], vocab_size, PLAIN)
        seen = sorted(set("".join(words)))
        probes = ["".join(draw.choices(seen, k=draw.randint(1, 40))) for _ in range(4)]
        assert_the_same(ours, theirs, probes)


def test_a_zipfian_corpus_agrees_with_tokenizers_for_hundreds_of_merges():
    draw = random.Random(1)
    stems = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 6))) for _ in range(60)]
    text = " ".join(
        draw.choice(["", "un", "re"])
        + draw.choices(stems, [1 / (i + 1) for i in range(60)])[0]
        + end
        for end in draw.choices(["", "s", "ed", "ing"], k=3000)
    )
    theirs = trained_by_them([text], 300, pre_tokenizers.WhitespaceSplit())
    ours = train_byte_pair_encoding([text], 300, PLAIN)
    assert len(ours) == 300
    assert_the_same(ours, theirs, [text])


def test_the_end_of_word_symbol_merges_as_tokenizers_merges_a_character():
    marked = "".join(word + END + " " for word in ENGLISH.split())
    theirs = trained_by_them([marked], 70, pre_tokenizers.WhitespaceSplit())
    ours = train_byte_pair_encoding([ENGLISH], 70, characters(end_of_word=END))
    assert ours.merges == their_merges(theirs) and ours.ids == theirs.get_vocab()
    assert ours.encode(ENGLISH) == theirs.encode(marked).ids
    assert ours.decode(ours.encode(ENGLISH)) == " ".join(ENGLISH.split())


def test_the_papers_own_example():
    """Figure 1 of Sennrich et al.: 'lower' is new, and becomes 'low er·'."""
    spelling = characters()
    ours = train_byte_pair_encoding(["low lowest newer wider"], 11 + 4, spelling)
    assert ours.tokens("lower") == ["low", "er</w>"]
    assert set(ours.vocabulary[11:]) == {"er", "er</w>", "lo", "low"}
    assert spelling.symbols("low") == ["l", "o", "w", "</w>"]
    assert ours.decode(ours.encode("lower  low\n")) == "lower low"


@given(unicode_text, st.integers(256, 330))
def test_byte_level_training_agrees_with_tokenizers_on_unicode(text, vocab_size):
    texts = [MIXED, text]
    theirs = trained_by_them(texts, vocab_size, BYTE_LEVEL, BYTE_LEVEL.alphabet())
    ours = train_byte_pair_encoding(texts, vocab_size, utf8_bytes())
    assert_the_same(ours, theirs, [MIXED, text, text[::-1], ""])


def test_character_training_agrees_with_tokenizers_on_chinese_and_marks():
    def words(text):
        return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]

    theirs = trained_by_them([MIXED * 2], 150, pre_tokenizers.Whitespace())
    ours = train_byte_pair_encoding([MIXED * 2], 150, Spelling(words, list, "".join))
    assert len(ours.merges) > 20
    assert_the_same(ours, theirs, [MIXED, "最新的塔 低低 e\u0301"])


def test_special_tokens_take_the_first_ids_as_in_tokenizers():
    special = ["<pad>", "<s>"]
    theirs = trained_by_them([MIXED], 130, pre_tokenizers.WhitespaceSplit(), special=special)
    ours = train_byte_pair_encoding([MIXED], 130, PLAIN, special=special)
    assert ours.vocabulary[:2] == ("<pad>", "<s>")
    assert_the_same(ours, theirs, [MIXED])


def test_a_merge_that_spells_an_old_token_reuses_its_id():
    """With a join of one's own two merges can spell the same token: it stays one token."""

    def join(first, second):
        return first.rstrip("-") + second

    spelling = Spelling(str.split, lambda word: word.split("."), "".join, join)
    texts = ["a.b.z " * 3 + "a.b " * 2 + "c.d.z " * 3 + "c.d " + "a-.b " * 3]
    vocabulary, merges = learn_merges(texts, 10, spelling)
    assert merges == [("a", "b"), ("c", "d"), ("a-", "b"), ("ab", "z"), ("cd", "z")]
    assert vocabulary == ["a", "a-", "b", "c", "d", "z", "ab", "cd", "abz", "cdz"]


@given(
    st.text("abc", max_size=30), st.permutations([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "a")])
)
def test_given_merges_are_replayed_as_tokenizers_replays_them(word, merges):
    if merges.index(("a", "b")) > merges.index(("ab", "c")):
        merges = [pair for pair in merges if pair != ("ab", "c")] + [("ab", "c")]
    vocabulary = ["a", "b", "c", *map("".join, merges)]
    model = models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
    ours = BytePairEncoding(vocabulary, merges, PLAIN)
    assert ours.encode(word) == Tokenizer(model).encode(word).ids
    assert apply_merges(list(word), {p: r for r, p in enumerate(merges)}) == ours.tokens(word)


def test_overlapping_pairs_merge_from_the_left():
    assert merge_pair(list("aaa"), ("a", "a"), "aa") == ["aa", "a"]
    assert merge_pair(list("aaaab"), ("a", "a"), "aa") == ["aa", "aa", "b"]
    assert merge_pair(list("xaby"), ("a", "b"), "ab") == ["x", "ab", "y"]
    assert merge_pair(list("ba"), ("a", "b"), "ab") == ["b", "a"]
    assert merge_pair([], ("a", "b"), "ab") == []


# ---- counts


def counts_by_hand(words):
    symbols, pairs = Counter(), Counter()
    for word, times in words.items():
        for i, symbol in enumerate(word):
            symbols[symbol] += times
            if i:
                pairs[word[i - 1], symbol] += times
    return symbols, pairs


@given(
    st.dictionaries(
        st.text("abc", max_size=9).map(tuple), st.integers(1, 4), min_size=1, max_size=6
    ),
    st.data(),
)
def test_counts_kept_while_merging_are_those_of_counting_anew(words, data):
    corpus = PairCounts(words)
    spelled = [(list(word), times) for word, times in words.items()]
    while True:
        symbols, pairs = Counter(), Counter()
        for word, times in spelled:
            one = counts_by_hand({tuple(word): times})
            symbols += one[0]
            pairs += one[1]
        assert (dict(corpus.symbols), dict(corpus.pairs)) == (dict(symbols), dict(pairs))
        if not pairs:
            break
        pair = data.draw(st.sampled_from(sorted(pairs)))
        before = {p: (n, symbols[p[0]], symbols[p[1]]) for p, n in pairs.items()}
        changed = corpus.merge(pair, "".join(pair))
        spelled = [(merge_pair(word, pair, "".join(pair)), times) for word, times in spelled]
        for p, n in corpus.pairs.items():
            now = (n, corpus.symbols[p[0]], corpus.symbols[p[1]])
            assert p in changed or before.get(p) == now
        assert changed <= corpus.pairs.keys()


def test_the_criterion_is_given_the_three_counts():
    seen = set()

    def criterion(pair, first, second):
        seen.add((pair, first, second))
        return pair_frequency(pair, first, second)

    train_byte_pair_encoding(["ab ab ac bb"], 4, PLAIN, criterion=criterion)
    assert seen >= {(2, 3, 4), (1, 3, 1), (1, 4, 4)}


def test_another_criterion_learns_other_merges():
    def rarest(pair, first, second):
        return -pair

    assert train_byte_pair_encoding(["ab ab cd"], 5, PLAIN).merges == (("a", "b"),)
    rare = train_byte_pair_encoding(["ab ab cd"], 5, PLAIN, criterion=rarest)
    assert rare.merges == (("c", "d"),)
    assert learn_merges(["ab ab cd"], 5, PLAIN)[1] == [("a", "b")]


def test_training_ends_early_when_every_word_is_one_token():
    ours = train_byte_pair_encoding(["abc abc"], 100, PLAIN)
    assert ours.vocabulary == ("a", "b", "c", "ab", "abc")


def test_nothing_depends_on_the_order_of_texts_or_of_hashing():
    first = train_byte_pair_encoding([ENGLISH, MIXED, "ba ab"], 300, utf8_bytes())
    again = train_byte_pair_encoding(iter(["ba ab", MIXED, ENGLISH]), 300, utf8_bytes())
    assert first.merges == again.merges and first.vocabulary == again.vocabulary
    program = (
        "from qa_lab.transformer.text.byte_pair_encoding import *\n"
        "print(train_byte_pair_encoding(['abab baba cabc bcac abcabc'], 300, utf8_bytes()).merges)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1 and "('a', 'b')" in runs.pop()


# ---- bytes and words


def test_the_alphabet_of_bytes_is_gpt2s():
    assert sorted(byte_symbols()) == sorted(BYTE_LEVEL.alphabet())
    for text in ["Aé中🙂", "".join(map(chr, range(0x3000))), "\U0010ffff"]:
        pieces = BYTE_LEVEL.pre_tokenize_str(text)
        assert "".join(byte_symbols()[b] for b in text.encode()) == "".join(p for p, _ in pieces)
    for byte, symbol in [(0x20, "Ġ"), (0x0A, "Ċ"), (0xAD, "Ń"), (0xFF, "ÿ"), (0x7F, "ġ")]:
        assert byte_symbols()[byte] == symbol


def their_words(text):
    return ["".join(piece) for piece, _ in BYTE_LEVEL.pre_tokenize_str(text)]


def in_their_letters(words):
    symbols = byte_symbols()
    return ["".join(symbols[byte] for byte in word.encode()) for word in words]


@given(unicode_text)
def test_words_are_cut_where_byte_level_cuts_them(text):
    assert in_their_letters(gpt2_words(text)) == their_words(text)
    assert "".join(gpt2_words(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "   ",
        "a ",
        "a  ",
        "a  b",
        "a \n b",
        "\n\n a\t\t1",
        "it's he'Ll 'tis they're'd x'm 've'll's 'nothing '",
        "12345 a1b2 ½Ⅻ٣ ²",
        "don't!?...  ok\r\n",
        "a\x1cb \x1c \x85 \u2028c\u00a0d",
        "_a__b_",
        MIXED,
    ],
)
def test_contractions_numbers_and_white_space_are_cut_alike(text):
    assert in_their_letters(gpt2_words(text)) == their_words(text)


def test_every_character_that_python_knows_is_cut_alike():
    """Neighbours tell letter, number, white space and sign apart: only a like one is joined."""
    known = [
        chr(code)
        for code in [*range(0xD7A4), *range(0xE000, 0x20000)]
        if unicodedata.category(chr(code)) not in ("Cn", "Co")
        and not 0x3500 < code < 0x9F00
        and not 0xAC10 < code < 0xD790
        and not 0x17010 < code < 0x18CD0
    ]
    assert len(known) > 30_000
    for start in range(0, len(known), 100):
        text = "".join(f"a{c}1{c}!{c}" for c in known[start : start + 100])
        assert in_their_letters(gpt2_words(text)) == their_words(text)


def test_a_category_is_the_ranges_of_its_characters():
    digits = re.compile(f"[{category_class('N')}]")
    for code in [0x2F, 0x30, 0x39, 0x3A, 0xB2, 0x2160, 0x1D7FF, 0x1D800, 0x10FFFF]:
        assert bool(digits.match(chr(code))) == (unicodedata.category(chr(code))[0] == "N")


GPT2_LIKE = train_byte_pair_encoding([MIXED], 320, utf8_bytes(), special=["<|end|>"])


@given(st.text() | unicode_text)
def test_any_unicode_text_comes_back_byte_for_byte(text):
    back = GPT2_LIKE.decode(GPT2_LIKE.encode(text))
    assert back.encode() == text.encode()
    assert "".join(GPT2_LIKE.tokens(text)) == "".join(byte_symbols()[b] for b in text.encode())


@given(st.lists(st.integers(0, 319), max_size=12))
def test_any_ids_decode_as_tokenizers_decodes_them(ids):
    """Most lists of ids are no UTF-8: what cannot be read becomes U+FFFD, in both alike."""
    vocabulary = {token: index for token, index in GPT2_LIKE.ids.items()}
    theirs = Tokenizer(models.BPE(vocab=vocabulary, merges=list(GPT2_LIKE.merges)))
    theirs.decoder = decoders.ByteLevel()
    ordinary = [index for index in ids if index != 0]  # ours reads a special token by itself
    assert GPT2_LIKE.decode(ordinary) == theirs.decode(ordinary)


def test_a_character_cut_in_two_decodes_as_a_replacement():
    ids = GPT2_LIKE.encode("☃")
    assert GPT2_LIKE.decode(ids) == "☃" and len(ids) > 1
    assert "\ufffd" in GPT2_LIKE.decode(ids[:-1])


# ---- special, unknown, ids


def test_special_tokens_are_kept_whole_as_tokenizers_keeps_them():
    special = ["<|end|>", "<|end|>er", "中|"]
    ours = train_byte_pair_encoding([ENGLISH], 290, utf8_bytes(), special=special)
    theirs = trained_by_them([ENGLISH], 290, BYTE_LEVEL, BYTE_LEVEL.alphabet(), special)
    theirs.add_special_tokens([AddedToken(token) for token in special])
    theirs.decoder = decoders.ByteLevel()
    text = "<|end|>low <|end|>er <|end|>ers 中|  中 <|end| ><|end|><|end|>"
    assert_the_same(ours, theirs, [text, ENGLISH])
    assert ours.tokens("low<|end|>erst")[-3:-1] == ["<|end|>er", "s"]
    assert ours.decode(ours.encode(text)) == text
    assert theirs.decode(ours.encode(text), skip_special_tokens=False) == text
    assert ours.special == tuple(special) and ours.ids["中|"] == 2


def test_special_tokens_of_the_training_text_are_not_learned_from():
    with_them = train_byte_pair_encoding(["<s>low<s>lower"], 20, PLAIN, special=["<s>"])
    without = train_byte_pair_encoding(["low lower"], 20, PLAIN, special=["<s>"])
    assert with_them.vocabulary == without.vocabulary
    assert "<" not in with_them.ids


def test_special_tokens_stand_apart_in_decoded_words():
    special = ["[CLS]", "[SEP]", "[UNK]"]
    ours = train_byte_pair_encoding(
        ["low lower"], 15, characters(), special=special, unknown="[UNK]"
    )
    ids = ours.encode("[CLS]low lower[SEP] lox [SEP]")
    assert ours.decode(ids) == "[CLS] low lower [SEP] lo[UNK] [SEP]"
    assert ours.decode([]) == ""


def test_unknown_symbols_become_the_unknown_token_one_by_one_as_in_tokenizers():
    theirs = Tokenizer(
        models.BPE(vocab={"?": 0, "a": 1, "b": 2, "ab": 3}, merges=[("a", "b")], unk_token="?")
    )
    ours = BytePairEncoding(["?", "a", "b", "ab"], [("a", "b")], PLAIN, unknown="?")
    for word in ["xaby", "xyab", "中文", "aab"]:
        assert ours.encode(word) == theirs.encode(word).ids
    assert ours.unknown == "?" and ours.tokens("xab") == ["?", "ab"]


def test_an_unknown_symbol_without_an_unknown_token_is_an_error():
    """`tokenizers` drops it without a word."""
    ours = train_byte_pair_encoding(["ab"], 3, PLAIN)
    with pytest.raises(ValueError, match=r"'x' in the word 'axb' is not in the vocabulary, and"):
        ours.encode("ab axb")
    assert ours.unknown is None and ours.special == ()


def test_ids_and_tokens_are_each_others_inverse():
    assert len(GPT2_LIKE) == 320 == len(GPT2_LIKE.vocabulary)
    assert [GPT2_LIKE.ids[token] for token in GPT2_LIKE.vocabulary] == list(range(320))
    ids = GPT2_LIKE.encode(MIXED)
    assert [GPT2_LIKE.vocabulary[index] for index in ids] == GPT2_LIKE.tokens(MIXED)


def test_a_larger_vocabulary_never_makes_the_training_text_longer():
    lengths = [
        len(train_byte_pair_encoding([MIXED], size, utf8_bytes()).encode(MIXED))
        for size in (256, 270, 300, 350)
    ]
    assert lengths[0] == len(MIXED.encode())
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 4


def test_empty_text_is_no_token():
    assert GPT2_LIKE.encode("") == [] and GPT2_LIKE.decode([]) == ""


# ---- what is refused


def test_lone_surrogates_are_refused_everywhere():
    message = r"lone surrogate U\+D83D at position 2: half of a UTF-16 pair"
    with pytest.raises(ValueError, match=message):
        GPT2_LIKE.encode("ab\ud83d")
    with pytest.raises(ValueError, match=message):
        train_byte_pair_encoding(["ab", "ab\ud83d"], 300, utf8_bytes())
    for lone in "\ud800\udfff":
        with pytest.raises(ValueError, match="at position 0"):
            check_text(lone)
    check_text("\ud7ff\ue000")


def test_what_is_no_text_is_refused():
    with pytest.raises(TypeError, match="text is of type bytes; give a str"):
        unwrap(check_text)(b"low")
    with pytest.raises(TypeError, match="texts is one string; give a list"):
        learn_merges("low", 300, PLAIN)
    with pytest.raises(TypeError, match=r"special is one string, '<s>'; give a list"):
        learn_merges(["low"], 300, PLAIN, special="<s>")
    with pytest.raises(TypeError, match="special is one string"):
        Tokeniser(["<s>"], PLAIN, list, special="<s>")


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(
        ValueError, match=r"vocab_size = 4 is too small: 2 special.* of 3 symbols already need 5"
    ):
        train_byte_pair_encoding(["abc"], 4, PLAIN, special=["<s>", "</s>"])
    assert len(train_byte_pair_encoding(["abc"], 5, PLAIN, special=["<s>", "</s>"])) == 5
    with pytest.raises(ValueError, match=r"vocab_size = 255 .* 0 special.* of 256 symbols"):
        train_byte_pair_encoding(["abc"], 255, utf8_bytes())


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_a_corpus_without_words_is_refused(texts):
    with pytest.raises(ValueError, match="no word to learn from"):
        train_byte_pair_encoding(texts, 300, PLAIN)


def test_a_criterion_that_gives_nan_is_refused():
    with pytest.raises(ValueError, match=r"NaN for the pair \('a', 'b'\)"):
        train_byte_pair_encoding(["ab"], 9, PLAIN, criterion=lambda *counts: float("nan"))


@pytest.mark.parametrize("bad", [-1, 320, 4096])
def test_ids_outside_the_vocabulary_are_refused(bad):
    with pytest.raises(
        ValueError, match=rf"id {bad} at position 1 is outside the vocabulary of 320.* 0 to 319"
    ):
        GPT2_LIKE.decode([0, bad])


def test_vocabularies_that_do_not_hang_together_are_refused():
    with pytest.raises(ValueError, match="'a' comes twice"):
        BytePairEncoding(["b", "a", "a"], [], PLAIN)
    with pytest.raises(ValueError, match="the token with id 1 is empty"):
        BytePairEncoding(["a", ""], [], PLAIN)
    with pytest.raises(ValueError, match="special token '<s>' is not in the vocabulary"):
        BytePairEncoding(["a"], [], PLAIN, special=["<s>"])
    with pytest.raises(ValueError, match="unknown token '<unk>' is not in the vocabulary"):
        BytePairEncoding(["a"], [], PLAIN, unknown="<unk>")
    with pytest.raises(ValueError, match="a special token is empty"):
        learn_merges(["a"], 9, PLAIN, special=["<s>", ""])
    with pytest.raises(ValueError, match=r"merge 1, \('ab', 'c'\), needs 'abc', which"):
        BytePairEncoding(["a", "b", "c", "ab"], [("a", "b"), ("ab", "c")], PLAIN)
    with pytest.raises(ValueError, match=r"merge 0, \('a', 'b'\), needs 'b', which"):
        BytePairEncoding(["a", "ab"], [("a", "b")], PLAIN)


def test_text_that_holds_the_end_of_word_symbol_is_refused():
    with pytest.raises(ValueError, match=r"the word 'a</w>b' holds '</w>', which stands for"):
        train_byte_pair_encoding(["ok a</w>b"], 99, characters())
    with pytest.raises(ValueError, match="end_of_word is empty"):
        characters(end_of_word="")


def test_a_category_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no Unicode category begins with 'l'; give one of C L M"):
        category_class("l")


def test_a_token_that_is_no_bytes_is_refused():
    with pytest.raises(ValueError, match="the tokens hold '中', which stands for no byte"):
        BytePairEncoding(["中"], [], utf8_bytes()).decode([0])
