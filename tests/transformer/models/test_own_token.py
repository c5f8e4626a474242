"""Ways to guess every token from the others: who sees whom, by automatic differentiation."""

from functools import partial

import pytest
import torch

from qa_lab.experiments.measures import dependence, gaussian
from qa_lab.transformer.attention import full_mask
from qa_lab.transformer.models import (
    Encoder,
    GuessEveryToken,
    earlier,
    others,
    raw_keys,
    reread,
    two_streams,
)
from tests.comparing import assert_differs, assert_identical, assert_same, moved, reached

LENGTH, D_MODEL = 5, 6
RANK = torch.tensor([2, 0, 4, 1, 3])
OWN = torch.eye(LENGTH, dtype=torch.bool)
ORDERED = partial(two_streams, see=earlier(RANK), content_sees=earlier(RANK, itself=True))


def seen(way, depth):
    """True where an output depends on a token."""
    torch.manual_seed(0)
    encoder = Encoder(D_MODEL, 2, 7, depth).double()
    places = gaussian((1, LENGTH, D_MODEL), 1)
    return reached(dependence(partial(way, encoder, places), gaussian((1, LENGTH, D_MODEL), 2)))


def test_others_are_all_but_oneself():
    assert_identical(others(LENGTH), ~OWN)


def test_earlier_goes_by_the_order_and_the_first_sees_itself():
    before = [{1}, {1}, {0, 1, 3, 4}, {1}, {0, 1, 3}]
    before[0] = {1, 3}
    looks = earlier(RANK)(LENGTH)
    assert [set(row.nonzero().flatten().tolist()) for row in looks] == before
    assert_identical(earlier(RANK, itself=True)(LENGTH), looks | OWN)


@pytest.mark.parametrize(
    "way", [reread, raw_keys, partial(two_streams, see=others, content_sees=full_mask)]
)
def test_one_layer_sees_all_but_the_own_token(way):
    assert_identical(seen(way, 1), ~OWN)


@pytest.mark.parametrize("depth", [2, 3])
def test_deeper_only_raw_keys_and_an_order_keep_the_own_token_out(depth):
    assert seen(reread, depth).all()
    assert seen(partial(two_streams, see=others, content_sees=full_mask), depth).all()
    assert_identical(seen(raw_keys, depth), ~OWN)
    assert_identical(seen(ORDERED, depth), earlier(RANK)(LENGTH))


def test_guesses_have_a_logit_for_every_token_and_none_for_its_own():
    torch.manual_seed(0)
    model = GuessEveryToken(11, LENGTH, D_MODEL, 2, 7, 2).double()
    ids = torch.randint(11, (3, LENGTH))
    changed = ids.clone()
    changed[:, 2] = (ids[:, 2] + 1) % 11
    before, after = model(ids), model(changed)
    assert before.shape == (3, LENGTH, 11)
    assert_identical(moved(before, after, axis=(0, 2)), torch.arange(LENGTH) != 2)


def test_the_way_of_reading_is_passed_on():
    ids = torch.randint(11, (2, LENGTH))
    make = partial(GuessEveryToken, 11, LENGTH, D_MODEL, 2, 7, 2)
    assert_same(*make(way=lambda encoder, places, x: places)(ids))
    assert_differs(*make()(ids))
