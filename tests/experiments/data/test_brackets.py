"""Nested brackets against a stack, and every word listed."""

import itertools
import math
from collections import Counter
from inspect import unwrap

import pytest
import torch

from qa_lab.experiments.data import brackets
from qa_lab.experiments.data.bracket_counts import count_words, sentence_entropy
from qa_lab.experiments.data.floors import surprisal
from qa_lab.experiments.data.tasks import END, PAD, START, generator
from tests.comparing import assert_differs, assert_identical, assert_same

SIZES = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]  # n_types, max_depth


def stack_after(text, n_types, max_depth):
    """The brackets left open after a text, or None if it is no beginning of a word."""
    stack = []
    for symbol in text:
        if symbol - 3 < n_types:
            stack.append(symbol)
            if len(stack) > max_depth:
                return None
        elif not stack or stack.pop() != symbol - n_types:
            return None
    return stack


def words(length, n_types, max_depth):
    symbols = range(3, 3 + 2 * n_types)
    return [
        text
        for text in itertools.product(symbols, repeat=length)
        if stack_after(text, n_types, max_depth) == []
    ]


@pytest.mark.parametrize("n_types, max_depth", SIZES)
def test_words_are_counted(n_types, max_depth):
    for length in range(1, 7):
        counted = count_words(length, n_types, max_depth)
        assert counted == len(words(length, n_types, max_depth))


def test_known_counts():
    for half in (1, 2, 5, 30, 60):
        catalan = math.comb(2 * half, half) // (half + 1)
        assert count_words(2 * half, 1, half) == count_words(2 * half, 1, 999) == catalan
        assert count_words(2 * half, 3, half) == catalan * 3**half
        assert count_words(2 * half, 1, 2) == 2 ** (half - 1)
        assert count_words(2 * half, 5, 1) == 5**half
    assert [count_words(n, 1, 3) for n in range(2, 13, 2)] == [1, 2, 5, 13, 34, 89]  # Fibonacci


@pytest.mark.parametrize("n_types, max_depth", [(1, 2), (1, 3), (2, 1), (2, 2), (2, 9)])
def test_all_words_of_a_length_are_equally_likely(n_types, max_depth):
    kind = {"n_types": n_types, "max_depth": max_depth, "lengths": range(2, 7, 2)}
    drawn = brackets.bracket_words(generator(0), batch=12_000, **kind)
    assert drawn.ids.shape == (12_000, 8)
    assert_identical(drawn.real, drawn.ids != PAD)
    counts = Counter()
    for ids in drawn.ids.tolist():
        end = ids.index(END)
        assert ids[0] == START and ids[end + 1 :] == [PAD] * (7 - end)
        counts[tuple(ids[1:end])] += 1
    expected = {}
    for listed in (words(length, n_types, max_depth) for length in (2, 4, 6)):
        expected |= dict.fromkeys(listed, 4000 / len(listed))
    assert set(counts) == set(expected)
    chi2 = sum((counts[w] - e) ** 2 / e for w, e in expected.items())
    freedom = len(expected) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5  # 5 standard errors


@pytest.mark.parametrize("lengths", [4, 40, range(2, 61, 2)])
@pytest.mark.parametrize("max_depth", [1, 3, 99])
def test_long_words_are_well_nested(lengths, max_depth):
    drawn = brackets.bracket_words(
        generator(0), batch=67, n_types=3, max_depth=max_depth, lengths=lengths
    )
    deepest = 0
    for ids, keep in zip(drawn.ids.tolist(), drawn.real.sum(1).tolist(), strict=True):
        text = ids[1 : keep - 1]
        assert stack_after(text, 3, max_depth) == [] and ids[keep - 1] == END
        deepest = max(deepest, *(len(stack_after(text[:t], 3, 99)) for t in range(len(text))))
    longest = lengths if isinstance(lengths, int) else 60
    assert drawn.ids.shape == (67, longest + 2)
    assert deepest == min(max_depth, longest // 2) or (max_depth == 99 and deepest > 5)


@pytest.mark.parametrize("n_types, max_depth", SIZES)
def test_allowed_tokens_are_those_that_some_word_goes_on_with(n_types, max_depth):
    known = (
        words(6, n_types, max_depth) + words(4, n_types, max_depth) + words(2, n_types, max_depth)
    )
    ids = torch.full((len(known), 8), PAD)
    for row, word in zip(ids, known, strict=True):
        row[: len(word) + 2] = torch.tensor([START, *word, END])
    allowed = brackets.allowed_next(ids, n_types=n_types, max_depth=max_depth)
    assert allowed.shape == (len(known), 7, 3 + 2 * n_types)
    for row, word in enumerate(known):
        for t in range(7):
            if t > len(word):
                assert not allowed[row, t].any()
                continue
            expected = {
                s
                for s in range(3, 3 + 2 * n_types)
                if stack_after((*word[:t], s), n_types, max_depth) is not None
            }
            if stack_after(word[:t], n_types, max_depth) == []:
                expected.add(END)
            assert set(allowed[row, t].nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize("n_types, max_depth", SIZES)
@pytest.mark.parametrize("lengths", [6, range(2, 7, 2), range(2, 7, 4)])
def test_the_best_predictor_is_the_share_of_words_that_go_on_so(n_types, max_depth, lengths):
    choices = [lengths] if isinstance(lengths, int) else list(lengths)
    likely = {}
    for listed in (words(length, n_types, max_depth) for length in choices):
        likely |= {(*word, END): 1 / len(choices) / len(listed) for word in listed}
    ids = torch.full((len(likely), 8), PAD)
    for row, word in zip(ids, likely, strict=True):
        row[: len(word) + 1] = torch.tensor([START, *word])
    kind = {"n_types": n_types, "max_depth": max_depth, "lengths": lengths}
    predictions = brackets.predict_brackets(ids, **kind)
    beginnings = Counter()
    for word, p in likely.items():
        for t in range(len(word) + 1):
            beginnings[word[:t]] += p
    for row, word in enumerate(likely):
        for t in range(7):
            expected = [0.0] * (3 + 2 * n_types)
            if t < len(word):
                for name in range(len(expected)):
                    expected[name] = beginnings[(*word[:t], name)] / beginnings[word[:t]]
            assert predictions[row, t].tolist() == pytest.approx(expected, abs=1e-12)
    assert (predictions >= 0).all()
    total = sum(-p * math.log(p) for p in likely.values())
    assert sentence_entropy(**kind) == pytest.approx(total, rel=1e-12)
    losses = surprisal(predictions, brackets.Sentences(ids, ids != PAD)).sum(1)
    assert losses.tolist() == pytest.approx([-math.log(p) for p in likely.values()])


def test_unfinished_words_can_be_predicted_too():
    kind = {"n_types": 2, "max_depth": 2, "lengths": 4}
    ids = torch.tensor([[1, 3, 4, 6]])
    assert_same(
        brackets.predict_brackets(ids, **kind),
        brackets.predict_brackets(torch.tensor([[1, 3, 4, 6, 5, 2]]), **kind)[:, :3],
    )


@pytest.mark.parametrize(
    "ids",
    [[1, 5, 2], [1, 3, 6, 2], [1, 3, 2, 0], [1, 3, 0, 0], [3, 5, 2], [1, 3, 3, 3], [1, 1, 3, 5],
     [1, 3, 5, 2, 3, 5], [1, 3, 5, 2, 2], [1, 7, 2], [1, -1, 2], [1, 3, 5, 2, 0, 3], [2, 3, 5],
     [1, 3, 5, 2, 0, 2], [1, 3, 4, 5, 6, 2], [0, 3, 5], [1, 3, 5, 0, 0], [1, 3, 5, 2, 1, 0]],
)  # fmt: skip
def test_what_is_no_beginning_of_a_word_is_refused(ids):
    with pytest.raises(ValueError, match=r"row 1 of ids .* 2 deep"):
        brackets.allowed_next(
            torch.tensor([[1, 3, 5, 2, 0, 0][: len(ids)], ids]), n_types=2, max_depth=2
        )


@pytest.mark.parametrize("ids", [[1, 3, 4, 6, 5, 3, 5, 2], [1, 3, 3, 3, 5], [1, 3, 5, 2, 0, 0]])
def test_words_of_other_lengths_are_refused(ids):
    with pytest.raises(ValueError, match=r"the beginning of no word with a length in \[4\]"):
        brackets.predict_brackets(torch.tensor([ids]), n_types=2, max_depth=9, lengths=4)


@pytest.mark.parametrize(
    "n_types, max_depth, lengths", [(1, 3, 6), (2, 2, range(2, 13, 2)), (3, 9, 8)]
)
def test_validity_is_what_a_stack_says(n_types, max_depth, lengths):
    batch = brackets.bracket_validity(
        generator(0), batch=3001, n_types=n_types, max_depth=max_depth, lengths=lengths
    )
    no = 3 + 2 * n_types
    faults = Counter()
    for ids, keep, label in zip(*(t.tolist() for t in batch), strict=True):
        n = sum(keep)
        text = ids[:n]
        assert ids[n:] == [PAD] * (len(ids) - n) and keep == [True] * n + [False] * (len(ids) - n)
        well = stack_after(text, n_types, max_depth) == []
        assert label == no + well
        opens, closes = Counter(s for s in text if s < 3 + n_types), Counter(text)
        assert all(closes[s + n_types] == count for s, count in opens.items())  # bags match
        if not well:
            shape = [3 + (s - 3) // n_types for s in text]  # types forgotten
            faults["crossed" if stack_after(shape, 1, max_depth) == [] else "outermost"] += 1
    assert abs(faults.total() - 1500.5) < 5 * 3001**0.5 / 2
    if n_types == 1:
        assert set(faults) == {"outermost"}
    else:
        assert faults["crossed"] > 300 and faults["outermost"] > 600


def test_right_and_wrong_words_hold_the_same_brackets():
    batch = brackets.bracket_validity(generator(0), batch=20_000, n_types=2, max_depth=2, lengths=4)
    bags = Counter()
    for ids, label in zip(batch.ids.sort(1).values.tolist(), batch.label.tolist(), strict=True):
        bags[tuple(ids), label] += 1
    assert {bag for bag, _ in bags} == {(3, 3, 5, 5), (3, 4, 5, 6), (4, 4, 6, 6)}
    for bag in {bag for bag, _ in bags}:
        wrong, right = bags[bag, 7], bags[bag, 8]
        assert abs(right - wrong) < 5 * (right + wrong) ** 0.5


def test_each_wrong_word_of_a_kind_is_equally_likely():
    """Of ( ) [ ] either pair can be turned, or the closing ones crossed."""
    batch = brackets.bracket_validity(generator(0), batch=12_000, n_types=1, max_depth=1, lengths=4)
    counts = Counter(tuple(ids) for ids in batch.ids.tolist())
    assert set(counts) == {(3, 4, 3, 4), (4, 3, 3, 4), (3, 4, 4, 3)}
    for wrong in ((4, 3, 3, 4), (3, 4, 4, 3)):
        assert abs(counts[wrong] - 3000) < 5 * (12_000 * 0.25 * 0.75) ** 0.5
    batch = brackets.bracket_validity(generator(0), batch=12_000, n_types=2, max_depth=1, lengths=4)
    counts = Counter(tuple(ids) for ids in batch.ids.tolist())
    assert abs(counts[3, 6, 4, 5] - 750) < 5 * 750**0.5
    assert abs(counts[5, 3, 4, 6] - 375) < 5 * 375**0.5
    assert abs(counts[3, 5, 6, 4] - 375) < 5 * 375**0.5


@pytest.mark.parametrize(
    "n_types, max_depth, lengths", [(1, 3, 6), (3, 2, range(2, 13, 2)), (3, 9, 8)]
)
def test_the_closing_bracket_is_what_a_stack_says(n_types, max_depth, lengths):
    batch = brackets.closing_bracket(
        generator(0), batch=3001, n_types=n_types, max_depth=max_depth, lengths=lengths
    )
    assert batch.ids.shape == (3001, 12 if lengths == range(2, 13, 2) else lengths)
    for ids, keep, label in zip(*(t.tolist() for t in batch), strict=True):
        n = sum(keep)
        assert ids[n:] == [PAD] * (len(ids) - n) and keep == [True] * n + [False] * (len(ids) - n)
        assert label == stack_after(ids[:n], n_types, max_depth)[-1] + n_types
    share = torch.bincount(batch.label, minlength=3 + 2 * n_types)[3 + n_types :] / 3001
    assert ((share - 1 / n_types).abs() <= 5 * (0.25 / 3001) ** 0.5).all()


def test_every_closing_bracket_is_asked_for_alike():
    batch = brackets.closing_bracket(generator(0), batch=9000, n_types=1, max_depth=1, lengths=6)
    counts = Counter(batch.real.sum(1).tolist())
    assert set(counts) == {1, 3, 5}
    assert all(abs(count - 3000) < 5 * 2000**0.5 for count in counts.values())


MAKERS = [brackets.bracket_words, brackets.bracket_validity, brackets.closing_bracket]


@pytest.mark.parametrize("make", MAKERS)
def test_the_seed_decides(make):
    kind = {"n_types": 2, "max_depth": 3, "lengths": 8}
    a, b, c = (make(generator(seed), batch=9, **kind).ids for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)
    assert len(make(generator(0), batch=1, n_types=1, max_depth=1, lengths=2).ids) == 1


@pytest.mark.parametrize(
    "broken, message",
    [({"batch": 0}, "batch must be 1"), ({"n_types": 0}, "n_types must be 1"),
     ({"max_depth": 0}, "max_depth must be 1"), ({"lengths": 0}, "lengths must be 1"),
     ({"lengths": 3}, "even length; got lengths 3"),
     ({"lengths": range(2, 5)}, "even length; got lengths range")],
)  # fmt: skip
def test_impossible_words_are_refused(broken, message):
    kind = {"batch": 2, "n_types": 2, "max_depth": 2, "lengths": 4} | broken
    for make in MAKERS:
        with pytest.raises(ValueError, match=message):
            make(generator(0), **kind)
    kind.pop("batch")
    if "batch" not in broken:
        with pytest.raises(ValueError, match=message):
            sentence_entropy(**kind)
        with pytest.raises(ValueError, match=message):
            brackets.predict_brackets(torch.tensor([[1, 3, 5]]), **kind)
    if "lengths" not in broken:
        length = kind.pop("lengths")
        if "batch" not in broken:
            with pytest.raises(ValueError, match=message):
                count_words(length, **kind)
            with pytest.raises(ValueError, match=message):
                unwrap(brackets.allowed_next)(torch.tensor([[1, 3, 5]]), **kind)
    with pytest.raises(ValueError, match="length must be 1 or more; got 0"):
        count_words(0, 1, 1)
