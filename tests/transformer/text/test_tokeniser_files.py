"""A tokenizer.json both ways: what we write `tokenizers` reads alike, and what it writes we do."""

import json
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from qa_lab.transformer.text import (
    BertNormaliser,
    BytePairEncoding,
    InTurn,
    Normalised,
    Spelling,
    Tokeniser,
    WordPiece,
    bert_words,
    byte_symbols,
    characters,
    digits_apart,
    from_dict,
    gpt2_words,
    joined_pieces,
    punctuation_words,
    space_first,
    tidied_pieces,
    to_dict,
    train_byte_pair_encoding,
    train_wordpiece,
    utf8_bytes,
    white_space_words,
)

CORPUS = (
    "It's the newest of the low towers, isn't it? We've lowered 12 of the 345 widest ones\n\n and "
    "they do not say they'll be lower still:\tlowest! I'm sure. 我们降低了最新的塔。她说：“更低！” "
    "①Ⅻ½ cafe\u0301 naïve 한글 👩‍👩‍👧 🏳️‍🌈 \u00a0\u3000 "
)
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "<|end|>", "<|end|>er", "中|"]
UNK, CLS, SEP = SPECIAL[:3]
FRAME = ([CLS, "<|end|>"], [SEP])
EVERYTHING = f"{CLS}low\x1cer {CORPUS}{SEP}<|end|>er{CLS} {CORPUS[::-1]}\x85x\u2028中|<|end|>\n"


# ---- texts and ids

BLOCKS = [(0, 0x3400), (0x4DF0, 0x4E10), (0xAC00, 0xAC10), (0xF900, 0x10000), (0x1D400, 0x1D420)]
OLD = [
    chr(code)
    for first, end in BLOCKS
    for code in range(first, end)
    if unicodedata.category(chr(code)) == unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"
]
"""What has been the same since Unicode 3.2: the tables of `tokenizers` are of several ages."""

pieces = st.one_of(
    st.sampled_from([*SPECIAL, *CORPUS.split(" "), " ", "  ", "\n", "\x1c", "\x85", "\u2028"]),
    st.text(st.sampled_from(OLD), max_size=4),
    st.text("[]CLSUNK<|end>r ##'stm.", max_size=6),
    st.sampled_from(["\x00", "\ufffd", "\u200d", "\ue000", "İΣς", "\U0001f642", "\U00020000"]),
)
texts = st.lists(pieces, max_size=8).map("".join) | st.lists(pieces, max_size=8).map(" ".join)
lists_of_ids = st.lists(st.integers(0, 120), max_size=9)


def assert_the_same(ours, theirs, text, ids):
    """Encode a text, its special tokens as such and as text, and decode that and any ids."""
    theirs.encode_special_tokens = False
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.encode(text, framed=False) == theirs.encode(text, add_special_tokens=False).ids
    for some in (ours.encode(text), ids):
        assert ours.decode(some) == theirs.decode(some, skip_special_tokens=False)
    as_text = ours.encode(text, special_as_text=True, framed=False)
    if isinstance(ours, WordPiece):
        theirs = without_special_pieces(theirs)
    theirs.encode_special_tokens = True
    assert as_text == theirs.encode(text, add_special_tokens=False).ids
    assert not ({*ours.special} - {ours.unknown}) & {ours.vocabulary[index] for index in as_text}


def without_special_pieces(theirs):
    """Give the special tokens names that no word can have: see `WordPiece`, Departs."""
    written = {**json.loads(theirs.to_str()), "added_tokens": [], "post_processor": None}
    name = {token: f"{token} " for token in SPECIAL}
    model = written["model"]
    vocabulary = {name.get(token, token): index for token, index in model["vocab"].items()}
    return there({**written, "model": {**model, "vocab": vocabulary, "unk_token": name[UNK]}})


def there(written):
    return Tokenizer.from_str(json.dumps(written))


def back(theirs):
    return from_dict(json.loads(theirs.to_str()))


# ---- what we write


def by_bytes(words):
    return train_byte_pair_encoding([CORPUS], 300, utf8_bytes(words), special=SPECIAL)


def by_characters(spelling):
    return train_byte_pair_encoding([CORPUS], 160, spelling, special=SPECIAL, unknown=UNK)


def by_pieces(words, frame=((), ()), text=joined_pieces):
    vocabulary = train_wordpiece([CORPUS], 150, words=words, special=SPECIAL).vocabulary
    return WordPiece(vocabulary, words=words, special=SPECIAL, text=text, frame=frame)


def framed(t):
    more = {"special": t.special, "unknown": t.unknown, "frame": FRAME}
    return BytePairEncoding(t.vocabulary, t.merges, t.spelling, **more)


UNCASED = Normalised(BertNormaliser(), bert_words)
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
    "characters, white space": by_characters(characters(white_space_words, "</e>")),
    "characters, end in the last": by_characters(characters(apart=False)),
    "characters, uncased": by_characters(characters(UNCASED, apart=False)),
    "characters, no end": by_characters(Spelling(str.split, list, "".join)),
    "characters, spaced": by_characters(Spelling(InTurn(), list, " ".join, gap=None)),
    "pieces": by_pieces(bert_words),
    "pieces, white space": by_pieces(white_space_words),
    "pieces, uncased, framed": by_pieces(UNCASED, FRAME, tidied_pieces),
    "pieces, cased": by_pieces(Normalised(BertNormaliser(lowercase=False), punctuation_words)),
    "pieces, accents": by_pieces(
        Normalised(BertNormaliser(strip_accents=False), InTurn((digits_apart, bert_words)))
    ),
}
THERE = {name: there(to_dict(ours)) for name, ours in OURS.items()}


@pytest.mark.parametrize("name", OURS)
@given(text=texts, ids=lists_of_ids)
@example(text=EVERYTHING, ids=[*range(60, 0, -1)])
def test_what_we_write_encodes_and_decodes_alike_in_tokenizers(name, text, ids):
    assert_the_same(OURS[name], THERE[name], text, ids)


@given(text=texts)
def test_special_tokens_read_as_text_come_back_byte_for_byte(text):
    ours = OURS["bytes"]
    ids = ours.encode(text, special_as_text=True)
    assert ours.decode(ids).encode() == text.encode()
    assert ours.tokens(text, special_as_text=True) == [ours.vocabulary[index] for index in ids]


@pytest.mark.parametrize("name", OURS)
def test_what_we_write_we_read_and_so_we_do_after_tokenizers_wrote_it_again(name, tmp_path):
    ours, path = OURS[name], tmp_path / "tokenizer.json"
    ours.save(path)
    copies = [Tokeniser.load(str(path))]
    Tokenizer.from_file(str(path)).save(str(path))
    copies.append(type(ours).load(path))
    for copy in copies:
        assert copy.vocabulary == ours.vocabulary and copy.special == ours.special
        assert copy.spelling == ours.spelling and copy.frame == ours.frame
        assert copy.unknown == ours.unknown
        assert to_dict(copy) == to_dict(ours)
        assert copy.encode(CORPUS) == ours.encode(CORPUS)


# ---- what `tokenizers` writes


def trained(model, words, decoder, normalizer=None, post=None):
    theirs = Tokenizer(model)
    theirs.pre_tokenizer, theirs.decoder = words, decoder
    theirs.normalizer, theirs.post_processor = normalizer, post
    more = {"vocab_size": 320, "special_tokens": SPECIAL, "show_progress": False}
    if isinstance(model, models.WordPiece):
        trainer = WordPieceTrainer(**more)
    else:
        alphabet = byte_symbols() if isinstance(decoder, decoders.ByteLevel) else ()
        if model.end_of_word_suffix:
            more["end_of_word_suffix"] = model.end_of_word_suffix
        trainer = BpeTrainer(**more, initial_alphabet=list(alphabet))
    theirs.train_from_iterator([CORPUS], trainer)
    return theirs


def level(first=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=first, use_regex=regex)


def bpe(**options):
    return models.BPE(unk_token=UNK, **options)


DIGITS, WHITE = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.WhitespaceSplit()
BERT = normalizers.BertNormalizer
TEMPLATE = processors.TemplateProcessing(
    single=f"{CLS} $A {SEP} <|end|>",
    pair=f"{CLS} $A {SEP} <|end|> $B:1 {SEP}:1 <|end|>:1",
    special_tokens=[(CLS, 1), (SEP, 2), ("<|end|>", 3)],
)
THEIRS = {
    "GPT-2": trained(models.BPE(), level(), decoders.ByteLevel(), post=processors.ByteLevel()),
    "GPT-2 with add_prefix_space": trained(models.BPE(), level(True), decoders.ByteLevel()),
    "SmolLM2": trained(
        models.BPE(), pre_tokenizers.Sequence([DIGITS, level()]), decoders.ByteLevel()
    ),
    "bytes without the expression": trained(
        models.BPE(),
        pre_tokenizers.Sequence([pre_tokenizers.Sequence([DIGITS, WHITE]), level(True, False)]),
        decoders.ByteLevel(),
        post=processors.Sequence([processors.ByteLevel(), TEMPLATE]),
    ),
    "characters with an end of word": trained(
        bpe(end_of_word_suffix="</w>"), WHITE, decoders.BPEDecoder()
    ),
    "characters, BERT's words": trained(
        bpe(end_of_word_suffix="</e>"), pre_tokenizers.BertPreTokenizer(),
        decoders.BPEDecoder("</e>"), BERT(),
    ),
    "characters, fused": trained(bpe(), pre_tokenizers.BertPreTokenizer(), decoders.Fuse()),
    "characters, one word, no decoder": trained(bpe(), None, None, BERT(False, False, True, False)),
    "BERT, uncased": trained(
        models.WordPiece(unk_token=UNK), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(),
        BERT(), processors.BertProcessing((SEP, 2), (CLS, 1)),
    ),
    "BERT, cased": trained(
        models.WordPiece(unk_token=UNK, max_input_chars_per_word=5),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(cleanup=False),
        normalizers.Sequence([BERT(lowercase=False)]),
        TEMPLATE,
    ),
    "pieces, no decoder": trained(models.WordPiece(unk_token=UNK), WHITE, None),
}  # fmt: skip
HERE = {name: back(theirs) for name, theirs in THEIRS.items()}


@pytest.mark.parametrize("name", THEIRS)
@given(text=texts, ids=lists_of_ids)
@example(text=EVERYTHING, ids=[*range(60, 0, -1)])
def test_what_tokenizers_writes_encodes_and_decodes_alike_here(name, text, ids):
    assert_the_same(HERE[name], THEIRS[name], text, ids)
    assert HERE[name].ids == THEIRS[name].get_vocab()


@pytest.mark.parametrize("name", THEIRS)
def test_what_tokenizers_wrote_we_write_again(name):
    again = there(to_dict(HERE[name]))
    for text in [CORPUS, CORPUS[::-1], f"{CLS}x<|end|>er{SEP} a  中|b<|end|>"]:
        assert_the_same(HERE[name], again, text, [*range(3, 9)])


def test_merges_may_be_written_with_a_space_between():
    written = json.loads(THEIRS["GPT-2"].to_str())
    old = {**written["model"], "merges": [" ".join(pair) for pair in written["model"]["merges"]]}
    assert len(old["merges"]) > 50
    assert from_dict({**written, "model": old}).merges == HERE["GPT-2"].merges


def test_special_tokens_that_are_in_no_vocabulary_come_after_it_and_may_be_normalised_later():
    theirs = there({**to_dict(OURS["bytes"]), "added_tokens": []})
    theirs.add_special_tokens(["<new>"])
    written = json.loads(theirs.to_str())
    written["added_tokens"] += [
        {**written["added_tokens"][0], "id": 301, "content": "{later}", "normalized": True}
    ]
    ours, theirs = from_dict(written), there(written)
    assert ours.special == ("<new>", "{later}") and ours.vocabulary[300:] == ours.special
    text = "low<new>{later}er[CLS]"
    assert ours.encode(text) == theirs.encode(text).ids
    written["added_tokens"][1]["content"] = "new>{"
    with pytest.raises(ValueError, match=r"'<new>' and 'new>\{', which can overlap"):
        from_dict(written)


def test_fifty_thousand_tokens_are_read_and_written_in_seconds(tmp_path):
    alphabet = byte_symbols()
    merges = [(a, b) for a in alphabet for b in alphabet][:50_000]
    vocabulary = [*alphabet, *(a + b for a, b in merges)]
    ours = BytePairEncoding(vocabulary, merges, utf8_bytes())
    start = time.process_time()
    ours.save(tmp_path / "large.json")
    copy = BytePairEncoding.load(tmp_path / "large.json")
    assert time.process_time() - start < 10  # seconds; it takes half of one
    assert copy.merges == ours.merges and copy.ids == ours.ids


def test_a_file_of_another_kind_is_refused(tmp_path):
    OURS["pieces"].save(tmp_path / "pieces.json")
    with pytest.raises(TypeError, match=r"pieces\.json holds a WordPiece, no BytePairEncoding"):
        BytePairEncoding.load(tmp_path / "pieces.json")
