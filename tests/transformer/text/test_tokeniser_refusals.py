"""What a tokenizer.json cannot say, and what it says that we cannot do, is refused by name."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from qa_lab.transformer.text import (
    BertNormaliser,
    BytePairEncoding,
    InTurn,
    Normalised,
    Spelling,
    Tokeniser,
    WordPiece,
    bert_words,
    characters,
    from_dict,
    gpt2_words,
    space_first,
    to_dict,
    utf8_bytes,
)

PLAIN = Spelling(str.split, list, "".join)
VOCABULARY = ["[UNK]", "[CLS]", "a", "b", "ab"]


def theirs(model=None, **parts):
    if model is None:
        model = models.BPE(dict(zip(VOCABULARY, range(5), strict=True)), [("a", "b")])
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["[CLS]"])
    tokenizer.decoder = decoders.Fuse()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return json.loads(tokenizer.to_str())


def with_model(**changed):
    written = theirs()
    return {**written, "model": {**written["model"], **changed}}


def with_added(**changed):
    written = theirs(normalizer=normalizers.BertNormalizer(handle_chinese_chars=False))
    return {**written, "added_tokens": [{**written["added_tokens"][0], **changed}]}


def bpe(**options):
    return models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], **options)


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def template(single, pair):
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 1), ("[UNK]", 0)]
    )


def limited(**parts):
    tokenizer = Tokenizer.from_str(json.dumps(theirs()))
    tokenizer.enable_truncation(**parts) if "max_length" in parts else tokenizer.enable_padding()
    return json.loads(tokenizer.to_str())


READ = {
    "unigram": (theirs(models.Unigram([("a", -1.0)], 0)), "the file's model is Unigram, which"),
    "word level": (theirs(models.WordLevel({"a": 0}, "a")), "model is WordLevel"),
    "dropout": (theirs(bpe(dropout=0.5)), "the model BPE says dropout = 0.5, which cannot"),
    "fuse_unk": (theirs(bpe(fuse_unk=True)), "fuse_unk = True"),
    "byte_fallback": (theirs(bpe(byte_fallback=True)), "byte_fallback = True"),
    "ignore_merges": (theirs(bpe(ignore_merges=True)), "ignore_merges = True"),
    "prefix": (with_model(continuing_subword_prefix="@"), "continuing_subword_prefix = '@'"),
    "a key of tomorrow": (with_model(beams=4), "the model BPE says beams = 4"),
    "a part of tomorrow": ({**theirs(), "oracle": {}}, r"the file says oracle = \{\}"),
    "version": ({**theirs(), "version": "2.0"}, "the file says version = '2.0'"),
    "nfc": (theirs(normalizer=normalizers.NFC()), "the file's normalizer is NFC, which"),
    "two normalizers": (
        theirs(normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        "the file's normalizer is NFD then StripAccents, which",
    ),
    "chinese": (
        theirs(normalizer=normalizers.BertNormalizer()),
        "handle_chinese_chars = True without BertPreTokenizer",
    ),
    "metaspace": (theirs(pre_tokenizer=pre_tokenizers.Metaspace()), "pre_tokenizer is .*Metaspace"),
    "digits": (
        theirs(pre_tokenizer=pre_tokenizers.Digits(individual_digits=False)),
        "pre_tokenizer is .*Digits.*False",
    ),
    "inside": (
        theirs(pre_tokenizer=pre_tokenizers.Sequence([byte_level(), pre_tokenizers.Punctuation()])),
        "goes on with Punctuation after ByteLevel",
    ),
    "decoder": (theirs(decoder=decoders.ByteFallback()), "the file's decoder is .*ByteFallback"),
    "a row of decoders": (
        theirs(decoder=decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])),
        "the file's decoder is .*Sequence",
    ),
    "suffix of bytes": (
        theirs(bpe(end_of_word_suffix="</w>"), pre_tokenizer=byte_level()),
        "as bytes and says end_of_word_suffix = '</w>'",
    ),
    "bytes of pieces": (
        theirs(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"), pre_tokenizer=byte_level()),
        "as bytes for WordPiece",
    ),
    "prefix of pieces": (
        theirs(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", continuing_subword_prefix="@@")),
        "continuing_subword_prefix = '@@'",
    ),
    "roberta": (
        theirs(post_processor=processors.RobertaProcessing(("[UNK]", 0), ("[CLS]", 1))),
        "the file's post_processor is .*RobertaProcessing.*without=.'post_processor'. leaves it",
    ),
    "pair": (
        theirs(post_processor=template("[CLS] $A", "[CLS] $A [UNK] $B:1")),
        "the file's post_processor is .*TemplateProcessing",
    ),
    "segment": (
        theirs(post_processor=template("[CLS]:1 $A", "[CLS]:1 $A $B:1")),
        "the file's post_processor is",
    ),
    "id of a template": (
        theirs(post_processor=processors.BertProcessing(("[UNK]", 3), ("[CLS]", 1))),
        "the file's post_processor is",
    ),
    "two templates": (
        theirs(
            post_processor=processors.Sequence([template("[CLS] $A", "[CLS] $A $B:1")] * 2)
        ),
        "the file's post_processor is",
    ),
    "truncation": (
        limited(max_length=7),
        r"asks for truncation, .*7.*; without=\['truncation'\] leaves it aside",
    ),
    "padding": (limited(), "asks for padding, .*which nothing here does"),
    "lstrip": (with_added(lstrip=True), r"the added token '\[CLS\]' says lstrip = True"),
    "rstrip": (with_added(rstrip=True), "rstrip = True"),
    "single_word": (with_added(single_word=True), "single_word = True"),
    "normalized": (with_added(normalized=True), "normalized = True"),
    "not special": (with_added(special=False), "special = False"),
    "another id": (with_added(id=3), r"gives '\[CLS\]' the id 3, and that token another id"),
    "a gap": (with_added(content="<s>", id=6), "no token of the file has the id 5"),
    "an id twice": (with_added(content="<s>", id=4), "gives '<s>' the id 4, and .* another token"),
    "no pair": (with_model(merges=["a b c"]), "the merge 'a b c' is no pair"),
    "order": (
        with_model(
            vocab={"a": 0, "b": 1, "[UNK]": 2, "[CLS]": 3, "ab": 4, "aba": 5},
            merges=[["ab", "a"], ["a", "b"]],
        ) | {"added_tokens": []},
        r"merge 0, \('ab', 'a'\), takes 'ab', which merge 1 makes",
    ),
    "not theirs": ({"a": 1}, "this is no tokenizer.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_a_file_says_and_nothing_here_does_is_refused(name):
    written, message = READ[name]
    with pytest.raises(ValueError, match=message):
        from_dict(written)


def test_but_for_one_thing_each_those_files_are_read():
    for written in (
        theirs(),
        with_model(),
        with_added(),
        theirs(bpe(), pre_tokenizer=byte_level()),
    ):
        assert from_dict(written).special == ("[CLS]",)


def test_a_merge_before_what_it_takes_is_replayed_otherwise_by_tokenizers():
    """Why the order is checked: one at a time there, and every like pair at once here."""
    vocabulary, merges = ["a", "b", "ab", "aba"], [("ab", "a"), ("a", "b")]
    ids = {token: index for index, token in enumerate(vocabulary)}
    there = Tokenizer(models.BPE(ids, merges)).encode("abab").tokens
    assert there == ["aba", "b"]
    assert BytePairEncoding(vocabulary, merges, PLAIN).tokens("abab") == ["ab", "ab"]


def test_what_stands_in_without_is_left_aside():
    tokenizer = Tokenizer.from_str(json.dumps(theirs()))
    tokenizer.enable_truncation(1)
    tokenizer.enable_padding(length=5)
    tokenizer.post_processor = processors.RobertaProcessing(("[UNK]", 0), ("[CLS]", 1))
    written = json.loads(tokenizer.to_str())
    names = ["truncation", "padding", "post_processor"]
    for name in names:
        with pytest.raises(ValueError, match=name):
            from_dict(written, without=[other for other in names if other != name])
    assert from_dict(written, without=names).encode("abab") == [4, 4]
    with pytest.raises(ValueError, match=r"only truncation, padding, .* aside, not normalizer"):
        from_dict(written, without=["normalizer"])


def halves(word):
    return [word[:1], word[1:]]


def pairs(spelling, vocabulary=VOCABULARY, merges=(("a", "b"),), **more):
    return BytePairEncoding(vocabulary, merges, spelling, **more)


class Shouting(BytePairEncoding):
    pass


WRITTEN = {
    "another kind": (Tokeniser(["a"], PLAIN, list), "what a Tokeniser does"),
    "a kind of one's own": (Shouting(["a"], [], PLAIN), "what a Shouting does"),
    "words": (pairs(Spelling(halves, list, "".join)), "what <function halves.*does to a text"),
    "words of GPT-2": (pairs(Spelling(gpt2_words, list, "".join)), "what <function gpt2_words"),
    "a step": (pairs(utf8_bytes(InTurn((space_first, halves)))), "what <function space_first"),
    "normaliser": (pairs(utf8_bytes(Normalised(str.lower, str.split))), "what <method 'lower'"),
    "twice normalised": (
        pairs(utf8_bytes(Normalised(BertNormaliser(), Normalised(BertNormaliser(), str.split)))),
        "what Normalised",
    ),
    "symbols": (pairs(Spelling(str.split, halves, "".join)), "how <function halves.*spells a word"),
    "text": (pairs(Spelling(str.split, list, "-".join)), "how <built-in method join.*reads tokens"),
    "gap": (pairs(Spelling(str.split, list, " ".join)), "that '' is the gap beside special tokens"),
    "a wide gap": (pairs(Spelling(str.split, list, "".join, gap=" ")), "that ' ' is the gap"),
    "join": (
        pairs(Spelling(str.split, list, "".join, lambda a, b: a + b)),
        "how <function .*joins two symbols",
    ),
    "ends of BERT's words": (
        pairs(characters(bert_words)),
        "a symbol ends each word of <function bert_words.*apart=False",
    ),
    "white space": (
        pairs(characters(), ["a b", "a", "b", "ab"]),
        "the token 'a b' holds white space",
    ),
    "a special end": (
        pairs(characters(), [*VOCABULARY, "</w>"], special=["</w>"]),
        "the token '</w>' holds '</w>', which only ends words",
    ),
    "an end inside": (
        pairs(characters(), [*VOCABULARY, "a</w>b"]),
        "the token 'a</w>b' holds '</w>', which only ends words",
    ),
    "order": (
        pairs(PLAIN, [*VOCABULARY, "aba"], [("ab", "a"), ("a", "b")]),
        "merge 0, .*takes 'ab', which merge 1 makes",
    ),
    "pieces of one's own words": (
        WordPiece(VOCABULARY, words=halves),
        "what <function halves.*does to a text",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_file_cannot_say_is_refused(name, tmp_path):
    tokeniser, message = WRITTEN[name]
    with pytest.raises(ValueError, match=message):
        to_dict(tokeniser)
    with pytest.raises(ValueError, match=message):
        tokeniser.save(tmp_path / "never.json")
    assert list(tmp_path.iterdir()) == []


def test_frames_that_hold_no_tokens_are_refused():
    with pytest.raises(ValueError, match="the frame's token '<s>' is not in the vocabulary"):
        pairs(PLAIN, frame=(["<s>"], []))
    with pytest.raises(TypeError, match=r"frame is \('\[CLS\]', \[\]\); give two lists"):
        Tokeniser(VOCABULARY, PLAIN, list, frame=("[CLS]", []))
