"""Text to ids and back."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from qa_lab.experiments.data.characters import Characters

LETTERS = Characters("abc 年")


def test_characters_are_numbered_from_the_first_symbol():
    assert LETTERS.vocab_size == 8 and LETTERS.characters == "abc 年"
    ids, keep = LETTERS.encode(["cab", "年", " "])
    assert ids.tolist() == [[5, 3, 4], [7, 0, 0], [6, 0, 0]]
    assert keep.tolist() == [[True] * 3, [True, False, False], [True, False, False]]
    assert ids.dtype == torch.long


def test_targets_stand_between_start_and_end():
    pairs = LETTERS.pairs(["ab", "c"], ["c", "bba"])
    assert pairs.source.tolist() == [[3, 4], [5, 0]]
    assert pairs.source_real.tolist() == [[True, True], [True, False]]
    assert pairs.target.tolist() == [[1, 5, 2, 0, 0], [1, 4, 4, 3, 2]]
    assert pairs.target_real.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert LETTERS.decode(pairs.target) == ["c", "bba"]


def test_decoding_stops_at_the_end():
    ids = torch.tensor([[1, 3, 4, 2, 5], [2, 3, 3, 3, 3], [0, 3, 0, 1, 7]])
    assert LETTERS.decode(ids) == ["ab", "", "a年"]
    assert LETTERS.decode(torch.zeros(0, 3, dtype=torch.long)) == []


@given(st.lists(st.text("abc 年", min_size=1, max_size=7), min_size=1, max_size=5))
def test_any_text_comes_back(texts):
    ids, keep = LETTERS.encode(texts)
    assert LETTERS.decode(ids) == texts
    assert keep.sum(1).tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("characters", ["", "abca"])
def test_each_character_must_be_there_once(characters):
    with pytest.raises(ValueError, match="each once; got"):
        Characters(characters)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match=r"not in the vocabulary: \['x', 'y'\]"):
        LETTERS.encode(["ay", "xb"])
    for texts in ([], ["a", ""]):
        with pytest.raises(ValueError, match="none of them empty"):
            LETTERS.encode(texts)
    with pytest.raises(ValueError, match="2 sources need as many targets; got 1"):
        LETTERS.pairs(["a", "b"], ["c"])


@pytest.mark.parametrize("bad", [8, -1])
def test_ids_outside_the_vocabulary_are_refused(bad):
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.7; got"):
        LETTERS.decode(torch.tensor([[3, bad]]))
