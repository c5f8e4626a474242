"""Markov sources against their definition: every text listed, and text drawn and counted."""

import itertools
import math
from inspect import unwrap

import numpy as np
import pytest
import torch

from qa_lab.experiments.data import floors, markov
from qa_lab.experiments.data.markov import MarkovSource, dirichlet, stationary_distribution
from qa_lab.experiments.data.tasks import START, generator
from tests.comparing import assert_differs, assert_identical


def random_source(n, order, seed=0):
    return MarkovSource(dirichlet(generator(seed), n**order, n, 0.7))


def visits(table):
    """How often each context comes, by walking for long: no linear algebra."""
    contexts, n = table.shape
    share = np.full(contexts, 1 / contexts)
    for _ in range(3000):
        onward = np.zeros(contexts)
        for context, symbol in itertools.product(range(contexts), range(n)):
            onward[(context * n + symbol) % contexts] += share[context] * table[context, symbol]
        share = (onward + share) / 2  # lazy, so that it settles even if periodic
        if np.abs(onward - share).max() < 1e-16:
            break
    return share


def block_probabilities(source, table, length):
    """The probability of every text, from the table alone: `length` >= order."""
    n, order = source.n_symbols, source.order
    share = visits(table.numpy())
    blocks = {}
    for text in itertools.product(range(n), repeat=length):
        context = 0
        for symbol in text[:order]:
            context = context * n + symbol
        p = share[context]
        for symbol in text[order:]:
            p *= table[context, symbol].item()
            context = (context * n + symbol) % n**order
        blocks[text] = p
    return blocks


def entropy(blocks):
    return -sum(p * math.log(p) for p in blocks.values() if p > 0)


def starting(blocks, length):
    sums = {}
    for text, p in blocks.items():
        sums[text[:length]] = sums.get(text[:length], 0.0) + p
    return sums


@pytest.mark.parametrize("n, order", [(3, 0), (4, 1), (3, 2), (2, 3)])
def test_entropies_are_differences_of_block_entropies(n, order):
    source = random_source(n, order)
    assert (source.order, source.n_symbols, source.vocab_size) == (order, n, n + 3)
    blocks = block_probabilities(source, dirichlet(generator(0), n**order, n, 0.7), order + 2)
    block = [entropy(starting(blocks, length)) for length in range(order + 3)]
    expected = [b - a for a, b in itertools.pairwise(block)]
    assert source.entropies.tolist() == pytest.approx(expected[:-1], abs=1e-12)
    assert source.entropy_rate == pytest.approx(expected[-1], abs=1e-12)
    assert source.entropies.dtype == torch.float64
    if order:
        assert (source.entropies.diff() < -1e-3).all()


def test_known_entropy_rates():
    fair = MarkovSource(torch.full((5, 5), 0.2))
    assert fair.entropies.tolist() == pytest.approx([math.log(5)] * 2, abs=1e-7)
    flip = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))
    assert flip.stationary.tolist() == pytest.approx([0.75, 0.25], abs=1e-12)

    def h(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert flip.entropies.tolist() == pytest.approx([h(0.25), 0.75 * h(0.1) + 0.25 * h(0.3)])
    clock = MarkovSource(torch.eye(3, dtype=torch.float64).roll(1, dims=1))
    assert clock.entropies.tolist() == pytest.approx([math.log(3), 0.0], abs=1e-12)


@pytest.mark.parametrize("n, order", [(3, 0), (4, 1), (3, 2), (2, 3)])
def test_the_best_predictor_is_bayes_rule(n, order):
    source = random_source(n, order)
    length = order + 2
    blocks = block_probabilities(source, dirichlet(generator(0), n**order, n, 0.7), length)
    texts = torch.tensor(list(blocks))
    ids = torch.cat([torch.full((len(texts), 1), START), 3 + texts], dim=1)
    for context in (None, *range(order + 3)):
        predictions = source.predict(ids, context)
        assert predictions.shape == (len(ids), length, n + 3)
        assert (predictions[..., :3] == 0).all()
        for row, t in itertools.product(range(0, len(texts), 3), range(length)):
            c = t if context is None else min(t, context)
            text = tuple(texts[row, t - c : t].tolist())
            ahead = starting(blocks, c + 1)
            expected = [ahead[(*text, x)] / starting(blocks, c)[text] for x in range(n)]
            assert predictions[row, t, 3:].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n, order", [(3, 0), (4, 1), (3, 2)])
def test_drawn_text_has_the_right_frequencies_from_the_first_symbol_on(n, order):
    source = random_source(n, order)
    drawn = source.draw(generator(1), batch=20_000, length=order + 3)
    assert drawn.ids.shape == (20_000, order + 4) and drawn.real.all()
    assert (drawn.ids[:, 0] == START).all()
    blocks = block_probabilities(source, dirichlet(generator(0), n**order, n, 0.7), order + 1)
    symbols = drawn.ids[:, 1:] - 3
    for begin in (0, 2):
        window = symbols[:, begin : begin + order + 1]
        for text, p in blocks.items():
            share = (window == torch.tensor(text)).all(dim=1).double().mean().item()
            assert abs(share - p) <= 5 * (p * (1 - p) / 20_000) ** 0.5, (begin, text)


def test_the_floor_is_reached_by_the_best_predictor_of_each_context():
    source = random_source(4, 2)
    drawn = source.draw(generator(1), batch=2000, length=12)
    for context in range(3):
        losses = floors.surprisal(source.predict(drawn.ids, context), drawn)[:, context:].mean(1)
        error = losses.std() / len(losses) ** 0.5
        assert abs(losses.mean() - source.entropies[context]) < 5 * error
        assert error < 0.01


def test_texts_shorter_than_the_order_and_batches_of_one():
    source = random_source(2, 3)
    assert source.draw(generator(0), batch=1, length=1).ids.shape == (1, 2)
    assert source.draw(generator(0), batch=5, length=3).ids.shape == (5, 4)
    assert source.predict(torch.tensor([[START]])).shape == (1, 0, 5)
    for counts in ({"batch": 0, "length": 3}, {"batch": 2, "length": 0}):
        with pytest.raises(ValueError, match="must be 1 or more; got 0"):
            source.draw(generator(0), **counts)


def test_the_seed_decides_table_and_text():
    source = random_source(3, 1)
    a, b, c = (source.draw(generator(seed), batch=5, length=9).ids for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)
    a, b, c = (dirichlet(generator(seed), 2, 3) for seed in (1, 1, 2))
    assert_identical(a, b, because="both are drawn from one seed")
    assert_differs(a, c)
    rng = generator(0)
    assert_differs(dirichlet(rng, 2, 3), dirichlet(rng, 2, 3))


@pytest.mark.parametrize("concentration", [None, 1.0, 0.2, 5.0])
def test_dirichlet_rows_have_the_right_mean_and_spread(concentration):
    kind = {} if concentration is None else {"concentration": concentration}
    rows = dirichlet(generator(0), 20_000, 3, **kind)
    a = concentration or 1.0
    assert rows.dtype == torch.float64 and (rows >= 0).all()
    assert (rows.sum(1) - 1).abs().max() < 1e-12
    variance = 2 / (9 * (3 * a + 1))
    assert ((rows.mean(0) - 1 / 3).abs() < 5 * (variance / 20_000) ** 0.5).all()
    squares = (rows - 1 / 3).square()
    assert ((squares.mean(0) - variance).abs() < 5 * squares.std(0) / 20_000**0.5).all()


def test_impossible_dirichlet_rows_are_refused():
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="concentration must be above 0; got"):
            dirichlet(generator(0), 2, 3, bad)
    for shape in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match="must be 1 or more; got 0"):
            dirichlet(generator(0), *shape)
    assert dirichlet(generator(0), 1, 1).tolist() == [[1.0]]


def test_the_stationary_distribution_is_kept_and_found_by_walking():
    table = dirichlet(generator(0), 7, 7, 0.3)
    pi = stationary_distribution(table)
    assert (pi @ table - pi).abs().max() < 1e-12 and abs(pi.sum() - 1) < 1e-12
    assert pi.tolist() == pytest.approx(
        np.linalg.matrix_power(table.numpy(), 4096)[0].tolist(), abs=1e-12
    )


def test_states_that_are_left_for_good_are_never_visited():
    pi = stationary_distribution(
        torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 0.5, 0.5]], dtype=torch.float64)
    )
    assert pi.tolist() == pytest.approx([0, 0.4, 0.6], abs=1e-12) and pi[0] == 0


def test_chains_that_fall_apart_are_refused():
    long_way = torch.eye(9, dtype=torch.float64).roll(1, dims=1)
    assert stationary_distribution(long_way).tolist() == pytest.approx([1 / 9] * 9)
    for table in (torch.eye(2), torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]])):
        with pytest.raises(ValueError, match="falls apart"):
            stationary_distribution(table.double())
        with pytest.raises(ValueError, match="falls apart"):
            MarkovSource(table.double())


@pytest.mark.parametrize(
    "table, wrong",
    [([[0.5, 0.6], [0.5, 0.5]], "sums run from 1 to 1.1"),
     ([[0.5, 0.5], [0.3, 0.5]], "sums run from 0.8 to 1"),
     ([[1.5, -0.5], [0.5, 0.5]], "the least entry is -0.5"),
     ([[math.nan, 0.5], [0.5, 0.5]], "each row of table must be >= 0"),
     ([[0.5, 0.5]] * 3, "needs 2.order rows .1, 2, 4, ....; got 3"),
     ([[1.0], [1.0]], "needs 1.order rows .1, 1, 1, ....; got 2")],
)  # fmt: skip
def test_tables_that_are_none_are_refused(table, wrong):
    with pytest.raises(ValueError, match=wrong):
        MarkovSource(torch.tensor(table))


def test_texts_that_are_none_are_refused():
    source = MarkovSource(
        torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]).double()
    )
    for bad in ([3, 4], [1, 6], [1, 2], [1, 1]):
        with pytest.raises(ValueError, match=r"START \(1\) and then symbols 3\.\.5; got ids"):
            source.predict(torch.tensor([bad]))
    with pytest.raises(ValueError, match="context must be 0 or more; got -1"):
        source.predict(torch.tensor([[1, 3]]), -1)


def test_symbols_that_never_meet_cannot_be_predicted_from():
    """Order 2 over two symbols, where 1 1 never comes: after it nothing is known."""
    table = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.25, 0.75]], dtype=torch.float64)
    source = MarkovSource(table)
    assert source.stationary[3] == 0
    after = source.predict(torch.tensor([[1, 4, 4, 4]]))[0, 2, 3:]
    assert after.tolist() == [0.25, 0.75]  # the table says it, though the source never gets there
    never = MarkovSource(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="never says in a row"):
        never.predict(torch.tensor([[1, 4, 3]]))


def test_walks_never_take_a_step_of_probability_zero(monkeypatch):
    table = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=torch.float64)
    for luck, column in ((0.0, 1), (0.5, 3), (1 - 2**-53, 3), (0.499999, 1)):
        monkeypatch.setattr(
            markov.torch, "rand", lambda *s, luck=luck, **k: torch.full(s, luck, dtype=k["dtype"])
        )
        following = torch.zeros(1, 5, dtype=torch.long).expand(5, 5)
        first, columns = unwrap(markov.walk)(
            generator(0), table[0], table.expand(5, 5), following, batch=1, steps=2
        )
        assert first.tolist() == [column] and columns.tolist() == [[column, column]]
