"""Toy tasks: every answer recomputed in plain Python."""

import math
from collections import Counter

import pytest
import torch

from qa_lab.experiments.data import tasks
from tests.comparing import assert_differs, assert_identical

ANSWERS = {tasks.copy: list, tasks.reverse: lambda s: s[::-1], tasks.sort: sorted}


@pytest.mark.parametrize("make", ANSWERS)
@pytest.mark.parametrize("lengths", [5, range(1, 8, 3)])
def test_sequence_tasks_have_the_right_answers(make, lengths):
    batch = make(tasks.generator(0), batch=67, n_symbols=11, lengths=lengths)
    longest = 5 if lengths == 5 else 7
    assert batch.source.shape == (67, longest) and batch.target.shape == (67, longest + 2)
    seen = set()
    for source, keep, target, target_real in zip(*(t.tolist() for t in batch), strict=True):
        n = sum(keep)
        seen.add(n)
        symbols = source[:n]
        assert keep == [True] * n + [False] * (longest - n)
        assert source[n:] == [tasks.PAD] * (longest - n)
        assert all(tasks.FIRST_SYMBOL <= s < tasks.vocab_size(11) for s in symbols)
        answer = [tasks.START, *ANSWERS[make](symbols), tasks.END]
        assert target == answer + [tasks.PAD] * (longest - n)
        assert target_real == [True] * (n + 2) + [False] * (longest - n)
    assert seen == ({5} if lengths == 5 else {1, 4, 7})


def test_every_symbol_is_drawn():
    ids, _ = tasks.random_symbols(tasks.generator(0), 97, 5, 13)
    assert set(ids.flatten().tolist()) == set(range(3, 8))


@pytest.mark.parametrize("lengths", [0, range(0, 3), range(3, 3)])
def test_empty_sequences_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be 1 token or more; got"):
        tasks.copy(tasks.generator(0), batch=2, n_symbols=3, lengths=lengths)


def test_associative_recall_asks_for_one_of_its_keys():
    batch = tasks.associative_recall(tasks.generator(0), batch=199, n_keys=7, n_values=5, n_pairs=3)
    assert batch.ids.shape == (199, 7) and batch.real.all()
    asked = Counter()
    for ids, label in zip(batch.ids.tolist(), batch.label.tolist(), strict=True):
        keys, values, query = ids[0:-1:2], ids[1:-1:2], ids[-1]
        assert len(set(keys)) == 3 and all(3 <= k < 10 for k in keys)
        assert all(10 <= v < 15 for v in values)
        assert label == values[keys.index(query)]
        asked[keys.index(query)] += 1
    assert set(asked) == {0, 1, 2} and min(asked.values()) > 40
    assert set(batch.label.tolist()) == set(range(10, 15))


@pytest.mark.parametrize("n_pairs", [0, 4])
def test_associative_recall_cannot_repeat_keys(n_pairs):
    with pytest.raises(ValueError, match=rf"1\.\.n_keys = 3; got {n_pairs}"):
        tasks.associative_recall(tasks.generator(0), batch=2, n_keys=3, n_values=2, n_pairs=n_pairs)


def test_most_frequent_token_counts_no_padding():
    batch = tasks.most_frequent_token(
        tasks.generator(0), batch=199, n_symbols=4, lengths=range(1, 10)
    )
    for ids, keep, label in zip(*(t.tolist() for t in batch), strict=True):
        counts = Counter(ids[: sum(keep)])
        assert label == min(s for s in counts if counts[s] == max(counts.values()))


def test_iid_tokens_are_uniform_over_the_whole_vocabulary():
    ids = tasks.iid_tokens(tasks.generator(0), batch=101, vocab=7, length=211)
    assert ids.shape == (101, 211)
    share = torch.bincount(ids.flatten(), minlength=7) / ids.numel()
    assert ((share - 1 / 7).abs() < 0.012).all()  # 5 standard errors of 21 thousand tokens
    assert tasks.entropy_floor(7) == math.log(7)


@pytest.mark.parametrize("make", [tasks.reverse, tasks.most_frequent_token])
def test_the_seed_decides_the_batch(make):
    def draw(seed):
        return make(tasks.generator(seed), batch=13, n_symbols=5, lengths=range(2, 7))[0]

    assert_identical(draw(3), draw(3))
    assert_differs(draw(3), draw(4))


@pytest.mark.parametrize("make", [tasks.copy, tasks.reverse, tasks.sort, tasks.most_frequent_token])
@pytest.mark.parametrize("count", ["batch", "n_symbols"])
def test_tasks_of_nothing_are_refused(make, count):
    right = {"batch": 2, "n_symbols": 3, "lengths": 4}
    with pytest.raises(ValueError, match=f"{count} must be 1 or more; got 0"):
        make(tasks.generator(0), **(right | {count: 0}))
    assert len(make(tasks.generator(0), **(right | {count: 1}))[0]) == (
        1 if count == "batch" else 2
    )


@pytest.mark.parametrize("count", ["batch", "n_values"])
def test_recall_of_nothing_is_refused(count):
    right = {"batch": 2, "n_keys": 3, "n_values": 2, "n_pairs": 2}
    with pytest.raises(ValueError, match=f"{count} must be 1 or more; got 0"):
        tasks.associative_recall(tasks.generator(0), **(right | {count: 0}))
    assert tasks.associative_recall(tasks.generator(0), **(right | {count: 1})).real.all()


@pytest.mark.parametrize("count", ["batch", "vocab", "length"])
def test_no_tokens_are_refused(count):
    right = {"batch": 2, "vocab": 3, "length": 4}
    with pytest.raises(ValueError, match=f"{count} must be 1 or more; got 0"):
        tasks.iid_tokens(tasks.generator(0), **(right | {count: 0}))
    assert tasks.iid_tokens(tasks.generator(0), **(right | {count: 1})).numel() > 0
    with pytest.raises(ValueError, match="vocab must be 1 or more; got 0"):
        tasks.entropy_floor(0)
    assert tasks.entropy_floor(1) == 0


def test_a_count_that_is_too_small_is_named():
    tasks.at_least(2, pairs=2, keys=7)
    with pytest.raises(ValueError, match="keys must be 2 or more; got 1"):
        tasks.at_least(2, pairs=2, keys=1)
