"""A tokeniser goes to another process, into a checkpoint and through copy, and stays the same."""

import copy
import multiprocessing
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from qa_lab.transformer.text import (
    BertNormaliser,
    BytePairEncoding,
    InTurn,
    Normalised,
    Spelling,
    Tokeniser,
    bert_words,
    characters,
    continued_characters,
    digits_apart,
    gpt2_words,
    punctuation_words,
    space_first,
    tidied_pieces,
    train_byte_pair_encoding,
    train_wordpiece,
    utf8_bytes,
    white_space_words,
)

TEXT = "It's the lowest of 12 towers, isn't it? 我们降低了 é "
MORE = {"special": ["<unk>", "<s>"], "unknown": "<unk>"}


class Counting(BytePairEncoding):
    """A kind of one's own, with something to remember."""

    count = 0


def pairs(spelling):
    return train_byte_pair_encoding([TEXT], 330, spelling, **MORE)


def counting():
    trained = pairs(characters())
    ours = Counting(trained.vocabulary, trained.merges, trained.spelling, **MORE)
    ours.count = 3
    return ours


TOKENISERS = {
    "bytes": pairs(utf8_bytes()),
    "bytes, digits apart": pairs(utf8_bytes(InTurn((digits_apart, space_first, gpt2_words)))),
    "characters": pairs(characters()),
    "characters, end in the last": pairs(characters(white_space_words, apart=False)),
    "plain": pairs(Spelling(str.split, list, "".join)),
    "pieces": train_wordpiece([TEXT], 60, **MORE),
    "pieces, uncased": train_wordpiece(
        [TEXT], 60, words=Normalised(BertNormaliser(), punctuation_words), **MORE
    ),
    "any": Tokeniser(["a", "b"], continued_characters(bert_words, tidied_pieces), list),
    "of one's own": counting(),
}
COPIES = {
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "pickle, oldest": lambda t: pickle.loads(pickle.dumps(t, 2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
named = pytest.mark.parametrize("tokeniser", TOKENISERS.values(), ids=TOKENISERS)


def text_for(tokeniser):
    return "abba" if len(tokeniser) == 2 else TEXT + "<s>new words"


def assert_same(ours, copied):
    assert type(copied) is type(ours) and copied is not ours
    text = text_for(ours)
    assert copied.encode(text) == ours.encode(text)
    assert copied.encode(text, special_as_text=True) == ours.encode(text, special_as_text=True)
    assert copied.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    for name in ("vocabulary", "ids", "spelling", "special", "unknown", "frame"):
        assert getattr(copied, name) == getattr(ours, name)
    assert getattr(copied, "count", None) == getattr(ours, "count", None)


@named
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_does_the_same(tokeniser, copied):
    assert_same(tokeniser, copied(tokeniser))


@named
def test_what_it_has_seen_is_not_pickled(tokeniser):
    small = len(pickle.dumps(copy.deepcopy(tokeniser)))
    for count in range(300):
        tokeniser.encode("ab" * count)
    assert len(pickle.dumps(tokeniser)) == small


@named
def test_it_stands_in_a_checkpoint(tokeniser, tmp_path):
    torch.save({"tokeniser": tokeniser, "weight": torch.ones(2)}, tmp_path / "checkpoint.pt")
    read = torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert_same(tokeniser, read["tokeniser"])


def test_all_of_them_go_to_a_process_that_starts_from_nothing():
    pool = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        for ours in TOKENISERS.values():
            if type(ours) is not Counting:  # this module is no place that a new process can import
                assert pool.map(ours.encode, [text_for(ours)]) == [ours.encode(text_for(ours))]


class Encoded(torch.utils.data.Dataset):
    def __init__(self, tokeniser, texts):
        self.tokeniser, self.texts = tokeniser, texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return self.tokeniser.encode(self.texts[index])


def test_data_loader_workers_encode():
    """Workers are forked where the system can; what they are given is what a user gives them."""
    texts, ours = [TEXT, "it's", ""], TOKENISERS["bytes"]
    loader = DataLoader(Encoded(ours, texts), batch_size=None, num_workers=2)
    assert list(loader) == [ours.encode(text) for text in texts]


def test_data_loader_workers_started_from_nothing_encode():
    texts, ours = [TEXT, "it's", ""], TOKENISERS["pieces, uncased"]
    loader = DataLoader(
        texts,
        batch_size=None,
        collate_fn=ours.encode,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert list(loader) == [ours.encode(text) for text in texts]


@named
def test_every_part_of_a_spelling_can_be_pickled_by_itself(tokeniser):
    for part in (tokeniser.spelling, tokeniser.pieces):
        pickle.loads(pickle.dumps(part))
    assert copy.deepcopy(tokeniser.spelling) == tokeniser.spelling
