"""WordPiece: encodings against `tokenizers`, training against counting anew, and the algebra."""

import math
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qa_lab.transformer.text import (
    PairCounts,
    WordPiece,
    bert_words,
    continued_characters,
    joined_pieces,
    likelihood_ratio,
    log_likelihood_gain,
    longest_matches,
    merge_pair,
    pair_frequency,
    tidied_pieces,
    train_wordpiece,
)

TEXT = (
    "the lowest tower is lower than the newest one, and the newer towers are the widest: "
    "wide, wider, widest! 最新的塔最低。 cafe\u0301 naïve 🙂 "
)
UNK = "[UNK]"

alphabet = "abé中🙂\u0301"
words = st.text(alphabet, min_size=1, max_size=12)
pieces = st.lists(
    st.builds(str.__add__, st.sampled_from(["", "##"]), st.text(alphabet, min_size=1, max_size=4)),
    unique=True,
    max_size=25,
)


def their_wordpiece(vocabulary, max_characters=100):
    model = models.WordPiece(
        vocab={token: index for index, token in enumerate(vocabulary)},
        unk_token=UNK,
        max_input_chars_per_word=max_characters,
    )
    theirs = Tokenizer(model)
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.decoder = decoders.WordPiece(cleanup=False)
    return theirs


# ---- encoding


@given(pieces, st.lists(words, max_size=6), st.integers(1, 13))
def test_encodings_are_those_of_tokenizers_for_any_vocabulary(vocabulary, several, max_characters):
    vocabulary = [UNK, *vocabulary, *(c for c in ("a", "##b", "é") if c not in vocabulary)]
    text = " ".join(several)
    theirs = their_wordpiece(vocabulary, max_characters).encode(text)
    ours = WordPiece(vocabulary, words=str.split, max_characters=max_characters)
    assert ours.encode(text) == theirs.ids
    assert ours.tokens(text) == theirs.tokens


@given(pieces, words)
def test_one_word_is_cut_as_tokenizers_cuts_it(vocabulary, word):
    theirs = their_wordpiece([UNK, *vocabulary])
    assert longest_matches(word, {UNK, *vocabulary}) == theirs.encode(word).tokens


@given(st.lists(st.integers(0, 6), max_size=12))
def test_any_ids_decode_as_tokenizers_decodes_them(ids):
    vocabulary = [UNK, "a", "##a", "##b", "中", "##", "#"]
    assert WordPiece(vocabulary).decode(ids) == their_wordpiece(vocabulary).decode(ids)


READ = [
    *["low", "##er", "##", "#", ".", "?", "!", ",", "'", "a ' b", "x 'm", "n't", "'m", "do not"],
    *["'s", "'ve", "'re", "do", "not", "a . b ##c", "##'s", "## ."],
]


@pytest.mark.parametrize("read, cleanup", [(joined_pieces, False), (tidied_pieces, True)])
@given(st.lists(st.sampled_from(READ), max_size=8))
@example(READ)
@example(["low", *READ])
def test_pieces_are_read_as_tokenizers_reads_them(read, cleanup, tokens):
    assert read(tokens) == decoders.WordPiece(cleanup=cleanup).decode(tokens)


def test_english_marks_stand_close_only_where_asked():
    tokens = ["it", "'s", "low", "##er", "!"]
    assert joined_pieces(tokens) == "it 's lower !" and tidied_pieces(tokens) == "it's lower!"


def test_the_longest_piece_wins_even_where_it_ends_badly():
    vocabulary = {"a", "ab", "##bc", "##c"}
    assert longest_matches("abc", vocabulary) == ["ab", "##c"]
    assert longest_matches("abc", vocabulary - {"##c"}) == [UNK]
    assert longest_matches("abc", vocabulary - {"##c"}, unknown="?") == ["?"]
    assert longest_matches("", vocabulary) == []


def test_an_unknown_part_makes_the_whole_word_unknown():
    ours = WordPiece([UNK, "low", "##er"])
    assert ours.tokens("lower lowest low") == ["low", "##er", UNK, "low"]


def test_words_of_more_than_a_hundred_characters_are_unknown_as_in_tokenizers():
    vocabulary = [UNK, "a", "##a"]
    trained = train_wordpiece(["a aa"], 3)
    for length in (99, 100, 101):
        expected = their_wordpiece(vocabulary).encode("a" * length).tokens
        assert WordPiece(vocabulary).tokens("a" * length) == expected
        assert longest_matches("a" * length, vocabulary) == expected
        assert trained.tokens("a" * length) == (
            [UNK] if length > 100 else ["a"] + ["##a"] * (length - 1)
        )
    short = train_wordpiece(["a aa"], 3, max_characters=2)
    assert short.tokens("aa aaa") == ["a", "##a", UNK]
    assert WordPiece(vocabulary, max_characters=1).tokens("a aa") == ["a", UNK]


# ---- words


def their_words(text):
    spaced = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
    ).normalize_str(text)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(spaced)]


@pytest.mark.parametrize(
    "text", ["", "  ", "it's $5.00, e\u0301!", "我们low塔。 a\x1cb\u3000c\n", TEXT]
)
def test_words_are_cut_where_bert_cuts_them(text):
    assert bert_words(text) == their_words(text)


OUTSIDE_THE_LONG_BLOCKS = [
    *[(0, 0x3500), (0x4DA0, 0x4E20), (0x9F00, 0xAC10), (0xD790, 0xD800), (0xF800, 0x10500)],
    *[(0x1FFF0, 0x20010), (0x2A6C0, 0x2A6E0), (0x2F7F0, 0x2FA30)],
]


def test_every_old_character_is_cut_as_bert_cuts_it():
    """Their tables are older than Python's: compare what has been the same since Unicode 3.2."""
    old = unicodedata.ucd_3_2_0
    known = [
        chr(code)
        for first, last in OUTSIDE_THE_LONG_BLOCKS
        for code in range(first, last)
        if old.category(chr(code)) not in ("Cn", "Co")
        and old.category(chr(code)) == unicodedata.category(chr(code))
    ]
    assert len(known) > 10_000
    for start in range(0, len(known), 100):
        text = "".join(f"a{c}" for c in known[start : start + 100])
        assert bert_words(text) == their_words(text)


CHINESE_ENDS = (
    "\u4e00\u9fff\u3400\u4dbf\U00020000\U0002a6df"
    "\U0002a700\U0002ceaf\uf900\ufaff\U0002f800\U0002fa1f"
)


@pytest.mark.parametrize("character", CHINESE_ENDS)
def test_the_ends_of_the_chinese_blocks_stand_alone(character):
    assert bert_words(f"a{character}b") == their_words(f"a{character}b") == ["a", character, "b"]


@pytest.mark.parametrize("character", "\u33ff\ua000\U0002a6e0\U0002ceb0\U0002fa20")
def test_what_lies_beyond_them_does_not(character):
    assert bert_words(f"a{character}b") == their_words(f"a{character}b") == [f"a{character}b"]


# ---- training


def counted(spelled):
    symbols, pairs = Counter(), Counter()
    for word, times in spelled:
        for symbol in word:
            symbols[symbol] += times
        for pair in pairwise(word):
            pairs[pair] += times
    return symbols, pairs


def trained_by_brute_force(text, vocab_size, score):
    """Count everything anew before every merge; equal scores by the ids of the two symbols."""
    spelled = [
        ([word[0], *("##" + c for c in word[1:])], times)
        for word, times in Counter(text.split()).items()
    ]
    vocabulary = [UNK, *sorted({symbol for word, _ in spelled for symbol in word})]
    while len(vocabulary) < vocab_size:
        symbols, pairs = counted(spelled)
        if not pairs:
            break
        best = min(
            pairs,
            key=lambda pair: (
                -score(pairs[pair], symbols[pair[0]], symbols[pair[1]]),
                vocabulary.index(pair[0]),
                vocabulary.index(pair[1]),
            ),
        )
        merged = best[0] + best[1][2:]
        if merged not in vocabulary:
            vocabulary.append(merged)
        for i, (word, times) in enumerate(spelled):
            out = []
            while word:
                if tuple(word[:2]) == best:
                    out.append(merged)
                    word = word[2:]
                else:
                    out.append(word[0])
                    word = word[1:]
            spelled[i] = (out, times)
    return tuple(vocabulary)


corpora = st.lists(
    st.text("ab", min_size=1, max_size=9) | st.text("abcd中é", min_size=1, max_size=7),
    min_size=1,
    max_size=12,
).map(" ".join)


@pytest.mark.parametrize(
    "criterion, score",
    [
        (pair_frequency, lambda n, a, b: n),
        (likelihood_ratio, lambda n, a, b: n / (a * b)),
        (lambda n, a, b: n * n / (a + b), lambda n, a, b: n * n / (a + b)),
    ],
    ids=["frequency", "likelihood", "one of one's own"],
)
@given(text=corpora, vocab_size=st.integers(14, 40))
def test_training_agrees_with_counting_anew_before_every_merge(criterion, score, text, vocab_size):
    ours = train_wordpiece([text], vocab_size, criterion=criterion, words=str.split)
    assert ours.vocabulary == trained_by_brute_force(text, vocab_size, score)


def test_by_frequency_tokenizers_learns_the_same_pieces_where_nothing_ties():
    """Only their choice among equal pairs changes from run to run; here there are none."""
    times = {"low": 41, "lower": 19, "newest": 83, "widest": 7, "wild": 3}
    text = " ".join(word for word, n in times.items() for _ in range(n))
    symbols = 1 + len({w[0] for w in times} | {"##" + c for w in times for c in w[1:]})
    inner_only = len({c for w in times for c in w[1:]} - {w[0] for w in times})  # bare, in theirs
    theirs = Tokenizer(models.WordPiece(unk_token=UNK))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=symbols + inner_only + 1, show_progress=False, special_tokens=[UNK]
    )
    theirs.train_from_iterator([text], trainer)
    ours = train_wordpiece([text], symbols + 1, criterion=pair_frequency)
    learned = {t for t in theirs.get_vocab() if len(t.removeprefix("##")) > 1} - {UNK}
    assert len(learned) == 1 and learned == set(ours.vocabulary[symbols:])


def test_the_default_criterion_is_likelihood_and_it_prefers_rare_company():
    """Ab stands thrice, but a and b also stand apart; xy stands once, and never apart."""
    text = "ab ab ab ac ac cb cb xy"
    by_likelihood = train_wordpiece([text], 8)
    by_frequency = train_wordpiece([text], 8, criterion=pair_frequency)
    assert by_likelihood.vocabulary == (UNK, "##b", "##c", "##y", "a", "c", "x", "xy")
    assert by_frequency.vocabulary[:7] == by_likelihood.vocabulary[:7]
    assert by_frequency.vocabulary[7] == "ab"


def test_training_text_is_cut_into_bert_words_unless_told_otherwise():
    ours = train_wordpiece(["low,low"], 9)
    assert "," in ours.ids and "##," not in ours.ids
    assert "##," in train_wordpiece(["low,low"], 9, words=str.split).ids
    assert ours.tokens("low,") == ["low", ","]
    assert train_wordpiece(["low,low"], 9, words=str.split).tokens("w,") == [UNK]


def test_special_tokens_come_first_and_stay_whole():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ours = train_wordpiece([TEXT], 60, special=special)
    assert ours.vocabulary[:5] == tuple(special) and ours.special == tuple(special)
    text = "[CLS]the [MASK]er tower[SEP]"
    assert ours.tokens(text)[0] == "[CLS]" and ours.tokens(text)[-1] == "[SEP]"
    assert "[MASK]" in ours.tokens(text)
    assert ours.decode(ours.encode("[CLS]the lower[SEP]")) == "[CLS] the lower [SEP]"
    assert train_wordpiece([TEXT], 60).special == (UNK,)


def test_an_unknown_token_of_ones_own():
    ours = train_wordpiece(["low"], 4, special=["?"], unknown="?")
    assert ours.tokens("low high") == ["l", "##o", "##w", "?"] and ours.unknown == "?"
    assert WordPiece(["?"], unknown="?").tokens("a") == ["?"]


@given(st.lists(words, min_size=1, max_size=8).map(" ".join))
def test_text_comes_back_up_to_white_space_when_every_word_is_known(text):
    ours = train_wordpiece([text], 200, words=str.split)
    assert ours.decode(ours.encode(text)) == " ".join(text.split())


def test_a_larger_vocabulary_never_makes_the_training_text_longer():
    lengths = [len(train_wordpiece([TEXT], size).encode(TEXT)) for size in (45, 60, 80)]
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 3


def test_spelling_marks_all_but_the_first_character():
    spelling = continued_characters()
    assert spelling.symbols("塔ab") == ["塔", "##a", "##b"] and spelling.symbols("") == []
    assert spelling.join("a", "##b") == "ab" and spelling.join("##a", "##b") == "##ab"
    assert spelling.words("a,b") == ["a", ",", "b"]


# ---- what the likelihood criterion is


def log_likelihood(symbols):
    total = sum(symbols.values())
    return sum(n * math.log(n / total) for n in symbols.values() if n)


@given(corpora, st.data())
def test_the_gain_is_what_counting_anew_after_the_merge_shows(text, data):
    """Exact for two different symbols, where the new one was not there before."""
    spelling = continued_characters(str.split)
    spelled = [(spelling.symbols(word), times) for word, times in Counter(text.split()).items()]
    before, pairs = counted(spelled)
    different = sorted(pair for pair in pairs if pair[0] != pair[1])
    assume(different)
    pair = data.draw(st.sampled_from(different))
    merged = spelling.join(*pair)
    assume(merged not in before)
    after, _ = counted([(merge_pair(word, pair, merged), times) for word, times in spelled])
    n, a, b, total = pairs[pair], before[pair[0]], before[pair[1]], sum(before.values())
    expected = log_likelihood(after) - log_likelihood(before)
    gain = log_likelihood_gain(n, a, b, total)
    assert gain == pytest.approx(expected, abs=1e-10)
    information = math.log(total * likelihood_ratio(n, a, b))
    assert abs(gain / n - information) <= 1 + 1e-12
    corpus = PairCounts({tuple(word): times for word, times in spelled})
    corpus.merge(pair, merged)
    assert corpus.symbols == after


def test_both_ends_of_the_one_nat_are_reached():
    """Always together: the gain is a nat more per merge than the score says. Rarely: a nat less."""
    together = log_likelihood_gain(10, 10, 10, 10**6) / 10
    assert together - math.log(10**6 * likelihood_ratio(10, 10, 10)) == pytest.approx(1, abs=1e-4)
    rarely = log_likelihood_gain(10, 10**6, 10**6, 2 * 10**6) / 10
    score = math.log(2 * 10**6 * likelihood_ratio(10, 10**6, 10**6))
    assert rarely - score == pytest.approx(-1, abs=1e-4)


def test_the_two_criteria_by_hand():
    assert likelihood_ratio(6, 8, 3) == 0.25
    assert pair_frequency(6, 8, 3) == 6
    assert likelihood_ratio(1, 1, 1) == 1


def test_the_ratio_does_not_pick_the_merge_that_gains_most():
    """Q and z meet once and nowhere else; t and h meet 90 times in 100."""
    total = 1000
    assert likelihood_ratio(1, 1, 1) > likelihood_ratio(90, 100, 100)
    assert log_likelihood_gain(1, 1, 1, total) < log_likelihood_gain(90, 100, 100, total) / 20


# ---- what is refused


@pytest.mark.parametrize(
    "counts", [(0, 5, 5, 20), (6, 5, 7, 20), (6, 7, 5, 20), (3, 5, 7, 11), (-1, 5, 5, 20)]
)
def test_counts_that_no_corpus_has_are_refused(counts):
    n, a, b, total = counts
    with pytest.raises(
        ValueError, match=rf"no corpus of {total} symbols has {a} and {b} .* {n} of"
    ):
        log_likelihood_gain(*counts)
    assert log_likelihood_gain(5, 5, 7, 12) > 0
    assert log_likelihood_gain(1, 1, 1, 2) == pytest.approx(2 * math.log(2))


def test_what_cannot_be_a_tokeniser_is_refused():
    with pytest.raises(ValueError, match=r"unknown token '\[UNK\]' is not in the vocabulary"):
        WordPiece(["a"])
    with pytest.raises(ValueError, match="max_characters = 0: every word would be unknown"):
        WordPiece([UNK], max_characters=0)
    with pytest.raises(ValueError, match="unknown token '<unk>' is not in the vocabulary; add it"):
        train_wordpiece(["low"], 9, unknown="<unk>")
    with pytest.raises(ValueError, match="special token '<s>' is not in the vocabulary"):
        WordPiece([UNK], special=["<s>"])
    with pytest.raises(ValueError, match="'a' comes twice"):
        WordPiece([UNK, "a", "a"])


def test_bad_texts_and_ids_are_refused():
    ours = train_wordpiece(["low"], 9)
    with pytest.raises(ValueError, match=r"lone surrogate U\+DC00 at position 1"):
        ours.encode("a\udc00")
    with pytest.raises(TypeError, match="texts is one string"):
        train_wordpiece("low", 9)
    with pytest.raises(ValueError, match="vocab_size = 3 is too small: 1 special"):
        train_wordpiece(["low"], 3)
    with pytest.raises(ValueError, match="id 99 at position 0 is outside the vocabulary of 6"):
        ours.decode([99])
    assert ours.encode("") == [] and ours.decode([]) == "" and len(ours) == 6
