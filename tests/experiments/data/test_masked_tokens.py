"""Hiding tokens by a rule, and what the best predictor then believes, by counting."""

import math

import pytest
import torch

from qa_lab.experiments.data.masked_tokens import (
    CHOSEN,
    MASK,
    NOISE,
    VOCAB,
    Rule,
    believe,
    blind_floor,
    hide,
    topic_texts,
)
from tests.comparing import assert_identical

BERT = Rule(0.8, 0.1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_text_names_its_topic_unless_noise_strikes():
    ids, topic = topic_texts(generator(), batch=4000, length=7)
    assert topic.shape == (4000, 1)
    assert topic.unique().tolist() == list(range(VOCAB))
    share = (ids == topic).float().mean().item()
    assert math.isclose(share, 1 - NOISE + NOISE / VOCAB, abs_tol=0.02)
    off = (ids + VOCAB - topic)[ids != topic] % VOCAB
    shares = off.bincount(minlength=VOCAB)[1:] / len(off)
    assert (shares - 1 / (VOCAB - 1)).abs().max() < 0.02


def test_a_rule_keeps_what_it_does_not_change():
    assert math.isclose(BERT.kept, 0.1)
    assert Rule(1.0, 0.0).kept == 0


@pytest.mark.parametrize("rule", [BERT, Rule(0.5, 0.5), Rule(0.2, 0.1)])
def test_chosen_tokens_are_masked_swapped_and_kept_by_the_rule(rule):
    ids = torch.zeros(3000, 40, dtype=torch.long)
    shown, chosen, original = hide(generator(), ids, rule)
    assert_identical(original, ids)
    assert_identical(shown[~chosen], ids[~chosen])
    assert math.isclose(chosen.float().mean(), CHOSEN, abs_tol=0.01)
    shares = shown[chosen].bincount(minlength=VOCAB + 1) / chosen.sum()
    assert math.isclose(shares[MASK], rule.masked, abs_tol=0.02)
    assert math.isclose(shares[0], rule.kept + rule.swapped / VOCAB, abs_tol=0.02)
    assert (shares[1:MASK] - rule.swapped / VOCAB).abs().max() < 0.01


@pytest.mark.parametrize("rule", [Rule(0.8, 0.3), Rule(-0.1, 0.2)])
def test_shares_that_are_none_are_refused(rule):
    with pytest.raises(ValueError, match="sum to 1 at most"):
        hide(generator(), torch.zeros(1, 1, dtype=torch.long), rule)


@pytest.mark.parametrize("rule", [BERT, Rule(0.5, 0.4), Rule(0.3, 0.0)])
def test_beliefs_are_the_frequencies_of_the_original(rule):
    """Among chosen tokens that are believed with p, a share p is right: by shown kind, too."""
    shown, chosen, original = hide(
        generator(1), topic_texts(generator(2), batch=40_000, length=3)[0], rule
    )
    beliefs = believe(shown, rule)[chosen]
    torch.testing.assert_close(beliefs.sum(-1), torch.ones(len(beliefs)).double())
    right = torch.nn.functional.one_hot(original[chosen], VOCAB).double()
    masked = shown[chosen] == MASK
    for kind in (masked, ~masked):
        p, hit = beliefs[kind].flatten(), right[kind].flatten()
        for low in (0.0, 0.1, 0.3, 0.6, 0.9):
            bin_ = (p >= low) & (p < low + 0.3)
            if bin_.sum() > 2000:
                assert abs(p[bin_].mean() - hit[bin_].mean()) < 0.015


def test_a_rule_that_keeps_none_leaves_the_prior_and_one_that_swaps_none_is_copied():
    shown = torch.tensor([[0, 0, 0, 0, 5]])
    masked = torch.tensor([[0, 0, 0, 0, MASK]])
    ignored = believe(shown, Rule(0.8, 0.2))[0, 4]
    torch.testing.assert_close(ignored, believe(masked, Rule(0.8, 0.2))[0, 4])
    assert believe(shown, Rule(0.8, 0.0))[0, 4, 5] == pytest.approx(1, abs=1e-12)


def test_the_blind_floor_is_the_entropy_given_the_topic():
    ids, topic = topic_texts(generator(3), batch=20_000, length=5)
    q = NOISE / VOCAB
    p = torch.where(ids == topic, 1 - (VOCAB - 1) * q, q)
    assert math.isclose(-p.log().mean(), blind_floor(), abs_tol=0.01)
