"""Data are drawn on the device of the generator, and are the same wherever that is."""

from functools import partial

import pytest
import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves

from qa_lab.experiments.data import (
    arithmetic,
    brackets,
    data_sets,
    dates,
    hidden_markov,
    induction,
    markov,
    masked_tokens,
    number_words,
    retrieval,
    tasks,
)
from qa_lab.transformer.attention import (
    MultiHeadAttention,
    orthogonal_directions,
    random_rotations,
)
from tests.comparing import assert_identical
from tests.elsewhere import CPU, CUDA, elsewhere, far_generator

some = {"batch": 5, "n_symbols": 4, "lengths": range(2, 7)}
words = {"batch": 5, "n_types": 3, "max_depth": 3, "lengths": range(4, 9, 2)}
source = markov.MarkovSource(markov.dirichlet(Generator().manual_seed(0), 9, 3))
hidden = hidden_markov.HiddenMarkovSource(hidden_markov.even_process())
masked = masked_tokens.Rule(masked=0.4, swapped=0.3)

ON_THE_GENERATORS = {
    **{make.__name__: partial(make, **some) for make in (tasks.copy, tasks.reverse, tasks.sort)},
    "most_frequent_token": partial(tasks.most_frequent_token, **some),
    "associative_recall": partial(
        tasks.associative_recall, batch=5, n_keys=4, n_values=3, n_pairs=2
    ),
    "iid_tokens": partial(tasks.iid_tokens, batch=5, vocab=7, length=3),
    "parity": partial(arithmetic.parity, batch=5, lengths=range(1, 4)),
    "running_parity": partial(arithmetic.running_parity, batch=5, lengths=range(1, 4)),
    "induction": partial(induction.induction, batch=5, n_symbols=4, length=7),
    "repeated_sequence": partial(induction.repeated_sequence, batch=5, n_symbols=4, length=7),
    "bracket_words": partial(brackets.bracket_words, **words),
    "bracket_validity": partial(brackets.bracket_validity, **words),
    "closing_bracket": partial(brackets.closing_bracket, **words),
    "a Markov source": partial(source.draw, batch=5, length=7),
    "a hidden Markov source": partial(hidden.draw, batch=5, length=7),
    "texts of a topic": partial(masked_tokens.topic_texts, batch=5, length=7),
    "rotations": lambda rng: random_rotations(2, 4, 6, rng),
    "orthogonal directions": lambda rng: orthogonal_directions(7, 3, rng),
}

DATA = tasks.copy(Generator().manual_seed(0), **some)
ids = torch.arange(12).view(3, 4) % masked_tokens.VOCAB


def shaken(rng):
    attention = MultiHeadAttention(8, 2)
    torch.nn.init.zeros_(attention.W_Q.weight)
    retrieval.shake_apart(attention, 0.1, rng)
    return attention.W_Q.weight.detach()


WHERE_THE_DATA_ARE = {
    "a table": lambda rng: markov.dirichlet(rng, 3, 4),
    "a split": lambda rng: data_sets.split(rng, 7, 0.5),
    "rows": partial(data_sets.draw_rows, data=DATA, batch=5),
    "sums": partial(arithmetic.modular_addition, modulus=5, train_fraction=0.5),
    "dates": partial(dates.date_conversion, batch=5),
    "numbers": partial(number_words.number_words, batch=5),
    "given numbers": partial(number_words.number_words, batch=5, numbers=torch.arange(9)),
    "hidden tokens": lambda rng: masked_tokens.hide(rng, ids, masked),
    "noise": shaken,
}


def drawn_there_and_here(make):
    """The tensors that a generator of the stand-in for a GPU gives, and a CPU's of that seed."""
    here = [x for x in tree_leaves(make(Generator().manual_seed(3))) if isinstance(x, Tensor)]
    with elsewhere():
        there = [x for x in tree_leaves(make(far_generator(3))) if isinstance(x, Tensor)]
        places = [x.device for x in there]
        there = [x.cpu() for x in there]
    for ours, theirs in zip(there, here, strict=True):
        assert_identical(ours, theirs, because="both are drawn from one seed")
    assert here
    return places


@pytest.mark.parametrize("make", ON_THE_GENERATORS.values(), ids=ON_THE_GENERATORS)
def test_what_is_drawn_lies_where_the_generator_is(make):
    assert set(drawn_there_and_here(make)) == {CUDA}


@pytest.mark.parametrize("make", WHERE_THE_DATA_ARE.values(), ids=WHERE_THE_DATA_ARE)
def test_what_is_drawn_from_data_lies_where_they_are(make):
    assert set(drawn_there_and_here(make)) == {CPU}
