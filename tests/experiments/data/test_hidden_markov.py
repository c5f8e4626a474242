"""Hidden Markov sources against sums over every hidden path."""

import itertools
import math

import numpy as np
import pytest
import torch

from qa_lab.experiments.data import hidden_markov as hidden
from qa_lab.experiments.data.floors import surprisal
from qa_lab.experiments.data.hidden_markov import HiddenMarkovSource
from qa_lab.experiments.data.markov import MarkovSource, dirichlet
from qa_lab.experiments.data.tasks import START, generator
from tests.comparing import assert_differs, assert_identical


def h(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def noisy(seed=0):
    rng = generator(seed)
    return HiddenMarkovSource(
        hidden.state_emitting(dirichlet(rng, 3, 3, 0.5), dirichlet(rng, 3, 2, 0.5))
    )


def text_probability(source, text, start=None):
    """Sum over all hidden paths, one by one."""
    start = source.stationary if start is None else start
    start, edges = start.tolist(), source.edges.tolist()
    total = 0.0
    for path in itertools.product(range(len(start)), repeat=len(text) + 1):
        p = start[path[0]]
        for symbol, state, onward in zip(text, path, path[1:], strict=False):
            p *= edges[state][symbol][onward]
        total += p
    return total


def block_entropy(source, length, start=None):
    texts = itertools.product(range(source.n_symbols), repeat=length)
    probabilities = [text_probability(source, text, start) for text in texts]
    assert math.isclose(sum(probabilities), 1)
    return -sum(p * math.log(p) for p in probabilities if p > 0)


SOURCES = {
    "golden": lambda: HiddenMarkovSource(hidden.golden_mean(0.3)),
    "even": lambda: HiddenMarkovSource(hidden.even_process(0.3)),
    "noisy": noisy,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_position_entropies_are_differences_of_block_entropies(kind):
    source = SOURCES[kind]()
    expected = [block_entropy(source, t + 1) - block_entropy(source, t) for t in range(5)]
    assert source.position_entropies(5).tolist() == pytest.approx(expected, abs=1e-12)
    start = torch.zeros(len(source.stationary))
    start[1] = 1.0
    expected = [
        block_entropy(source, t + 1, start) - block_entropy(source, t, start) for t in range(4)
    ]
    assert source.position_entropies(4, start).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_best_predictor_is_bayes_rule(kind):
    source = SOURCES[kind]()
    texts = [t for t in itertools.product(range(source.n_symbols), repeat=4)
             if text_probability(source, t) > 0]  # fmt: skip
    ids = torch.tensor([[START, *(3 + s for s in text)] for text in texts])
    predictions = source.predict(ids)
    assert predictions.shape == (len(texts), 4, source.vocab_size)
    assert (predictions[..., :3] == 0).all()
    for row, text in enumerate(texts):
        for t in range(4):
            before = text_probability(source, text[:t])
            expected = [
                text_probability(source, (*text[:t], x)) / before for x in range(source.n_symbols)
            ]
            assert predictions[row, t, 3:].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_known_entropy_rates(p):
    golden = HiddenMarkovSource(hidden.golden_mean(p))
    assert golden.unifilar and golden.n_symbols == 2 and golden.vocab_size == 5
    assert golden.stationary.tolist() == pytest.approx([1 / (2 - p), (1 - p) / (2 - p)])
    assert golden.entropy_rate == pytest.approx(h(p) / (2 - p), rel=1e-12)
    even = HiddenMarkovSource(hidden.even_process(p))
    assert even.unifilar and even.entropy_rate == pytest.approx(h(p) / (1 + p), rel=1e-12)
    markov = MarkovSource(torch.tensor([[0.0, 1.0], [1 - p, p]], dtype=torch.float64))
    assert golden.entropy_rate == pytest.approx(markov.entropy_rate, rel=1e-12)


def test_half_is_the_default_and_gives_two_thirds_of_a_bit():
    for edges in (hidden.golden_mean(), hidden.even_process()):
        assert HiddenMarkovSource(edges).entropy_rate == pytest.approx(2 / 3 * math.log(2))


def test_golden_mean_is_of_order_one_and_the_even_process_of_none():
    golden = HiddenMarkovSource(hidden.golden_mean(0.4))
    assert golden.position_entropies(9)[1:].tolist() == pytest.approx([golden.entropy_rate] * 8)
    even = HiddenMarkovSource(hidden.even_process(0.4))
    excess = even.position_entropies(14) - even.entropy_rate
    assert (excess > 1e-5).all() and (excess.diff() < 0).all()


def test_the_bounds_enclose_the_rate_and_close():
    for source in (HiddenMarkovSource(hidden.even_process(0.4)), noisy()):
        bounds = [source.entropy_rate_bounds(length) for length in (1, 2, 4, 8)]
        lows, highs = zip(*bounds, strict=True)
        assert (np.diff(lows) > -1e-12).all() and (np.diff(highs) < 1e-12).all()
        assert lows[-1] < highs[-1] + 1e-12
        if source.unifilar:
            assert all(low == pytest.approx(source.entropy_rate) for low in lows)
            assert all(high > source.entropy_rate for high in highs)
        else:
            assert lows[0] < lows[-1] and highs[-1] - lows[-1] < (highs[0] - lows[0]) / 20
    low, high = noisy().entropy_rate_bounds(3)
    states = torch.eye(3)
    weights = noisy().stationary.tolist()
    known = [block_entropy(noisy(), 3, s) - block_entropy(noisy(), 2, s) for s in states]
    assert low == pytest.approx(sum(w * k for w, k in zip(weights, known, strict=True)))
    assert high == pytest.approx(block_entropy(noisy(), 3) - block_entropy(noisy(), 2))


def test_an_open_next_state_has_no_closed_form():
    assert not noisy().unifilar
    two = torch.full((2, 2), 0.5)
    assert not HiddenMarkovSource(hidden.state_emitting(two, two)).unifilar
    with pytest.raises(ValueError, match=r"entropy_rate_bounds\(length\) encloses it"):
        noisy().entropy_rate  # noqa: B018


@pytest.mark.parametrize("kind", SOURCES)
def test_drawn_text_has_the_right_frequencies_from_the_first_symbol_on(kind):
    source = SOURCES[kind]()
    drawn = source.draw(generator(1), batch=10_000, length=5)
    assert drawn.ids.shape == (10_000, 6) and drawn.real.all() and (drawn.ids[:, 0] == START).all()
    for begin in (1, 3):
        window = drawn.ids[:, begin : begin + 3] - 3
        for text in itertools.product(range(source.n_symbols), repeat=3):
            p = text_probability(source, text)
            share = (window == torch.tensor(text)).all(dim=1).double().mean().item()
            assert abs(share - p) <= 5 * (p * (1 - p) / 10_000) ** 0.5, (begin, text)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_floor_of_each_position_is_reached(kind):
    source = SOURCES[kind]()
    drawn = source.draw(generator(2), batch=4000, length=7)
    losses = surprisal(source.predict(drawn.ids), drawn)
    error = losses.std(0) / 4000**0.5
    assert ((losses.mean(0) - source.position_entropies(7)).abs() < 5 * error).all()
    assert error.max() < 0.02


def test_grammars_are_kept():
    golden = HiddenMarkovSource(hidden.golden_mean()).draw(generator(0), batch=50, length=40)
    even = HiddenMarkovSource(hidden.even_process()).draw(generator(0), batch=50, length=40)
    for row in golden.ids[:, 1:].tolist():
        assert "33" not in "".join(map(str, row))
    runs = [run for row in even.ids[:, 1:].tolist()
            for run in "".join(map(str, row)).split("3")[1:-1]]  # fmt: skip
    assert all(len(run) % 2 == 0 for run in runs) and max(map(len, runs)) >= 6


def test_the_seed_decides_the_text():
    source = noisy()
    a, b, c = (source.draw(generator(seed), batch=5, length=9).ids for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)
    assert source.draw(generator(0), batch=1, length=1).ids.shape == (1, 2)


@pytest.mark.parametrize("make", [hidden.golden_mean, hidden.even_process])
@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_shares_must_leave_a_choice(make, p):
    with pytest.raises(ValueError, match="strictly between 0 and 1; got"):
        make(p)


def test_impossible_sources_are_refused():
    from inspect import unwrap

    with pytest.raises(ValueError, match="each row of edges"):
        HiddenMarkovSource(torch.full((2, 2, 2), 0.3))
    with pytest.raises(ValueError, match="falls apart"):
        HiddenMarkovSource(torch.eye(2, dtype=torch.float64)[:, None, :])
    half = torch.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="each row of transition"):
        hidden.state_emitting(half * 1.1, half)
    with pytest.raises(ValueError, match="each row of emission"):
        hidden.state_emitting(half, half * 0.9)
    for transition, emission in ((half, half[:1]), (half[:1], half[:1])):
        with pytest.raises(ValueError, match=r"must be \[state state\] and emission"):
            unwrap(hidden.state_emitting)(transition, emission)


def test_impossible_demands_are_refused(monkeypatch):
    source = HiddenMarkovSource(hidden.golden_mean())
    for counts in ({"batch": 0, "length": 2}, {"batch": 2, "length": 0}):
        with pytest.raises(ValueError, match="must be 1 or more; got 0"):
            source.draw(generator(0), **counts)
    for method in (source.position_entropies, source.entropy_rate_bounds):
        with pytest.raises(ValueError, match="length must be 1 or more; got 0"):
            method(0)
    with pytest.raises(ValueError, match=r"START \(1\) and then symbols 3\.\.4"):
        source.predict(torch.tensor([[1, 5]]))
    with pytest.raises(ValueError, match="never says, at symbol 2"):
        source.predict(torch.tensor([[1, 4, 3, 3, 4]]))
    monkeypatch.setattr(hidden, "MOST_SEQUENCES", 16)  # 8 texts of length 4, two symbols after each
    assert len(source.position_entropies(5)) == 5
    with pytest.raises(ValueError, match="more than 16 texts of length 6 to list"):
        source.position_entropies(6)
