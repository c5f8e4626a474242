"""What a reader can move shows what the lab computes and what the figures recorded."""

import json
import re
from statistics import fmean

import pytest
import torch
from markdown import Markdown
from py_mini_racer import MiniRacer

from qa_lab.claims.notebooks import ROOT
from qa_lab.experiments.measures import entropy_share
from qa_lab.guide.errors import PageError
from qa_lab.guide.explore import EXPLORERS
from qa_lab.guide.library import library
from qa_lab.transformer.attention import attention_weights, default_scale, masks

FORMULAS = "qa_lab/guide/theme/assets/qa/formulas.js"
SCALES = {"root": default_scale, "none": lambda d_k: 1.0, "width": lambda d_k: 1 / d_k}


@pytest.fixture(scope="module")
def formulas(request):
    """The formulas of the page, run outside any page: `formulas("softmax", [1, 2])`."""
    engine = MiniRacer()
    engine.eval((request.config.rootpath / FORMULAS).read_text(encoding="utf-8"))
    yield lambda name, *given: json.loads(
        engine.eval(f"JSON.stringify(formulas.{name}({', '.join(map(json.dumps, given))}))")
    )
    engine.close()


@pytest.mark.parametrize("d_k", [4, 64])
@pytest.mark.parametrize("scale", SCALES)
def test_scores_and_softmax_are_the_labs(formulas, d_k, scale):
    rng = torch.Generator().manual_seed(d_k)
    q, k = (torch.randn(n, d_k, generator=rng, dtype=torch.float64) for n in (1, 7))
    directions = (k @ q[0] / d_k**0.5).tolist()
    found = formulas("softmax", formulas("scores", directions, d_k, scale))
    expected = attention_weights(q, k, scale=SCALES[scale](d_k))[0]
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected)
    assert formulas("entropyShare", found) == pytest.approx(entropy_share(expected[None]))


def test_a_saturated_softmax_is_a_number(formulas):
    assert formulas("softmax", [1000.0, 0.0]) == [1.0, 0.0]
    assert formulas("entropyShare", [1.0, 0.0]) == 0


def test_its_random_numbers_are_standard_normal(formulas):
    drawn = torch.tensor(formulas("gaussian", 20_000, 3), dtype=torch.float64)
    for power, moment in enumerate([0, 1, 0, 3], start=1):  # 5 standard errors
        assert abs((drawn**power).mean() - moment) < 5 * (drawn**power).std() / 20_000**0.5
    assert formulas("gaussian", 5, 3) == drawn[:5].tolist() != formulas("gaussian", 5, 4)


@pytest.mark.parametrize("scale", SCALES)
def test_draws_agree_with_what_the_figure_recorded(formulas, scale):
    series = library(ROOT).evidence.figure("softmax-by-width").drawn[1][scale]
    for exponent, recorded in list(zip(series["x"], series["y"], strict=True))[::3]:
        weights = [
            formulas("softmax", formulas("scores", z, round(10**exponent), scale))
            for z in (formulas("gaussian", 64, seed) for seed in range(100))
        ]
        assert fmean(map(max, weights)) == pytest.approx(recorded, abs=0.08)


REAL = [True, True, True, True, True, False, False]
DOCUMENTS = [0, 0, 0, 1, 1, 1, 2]
LOOKS = {
    "full": masks.full_mask(7),
    "causal": masks.causal_mask(7),
    "strict": masks.causal_mask(7) & ~torch.eye(7, dtype=torch.bool),
    "window": masks.window_mask(7, window=3),
    "prefix": masks.prefix_mask(torch.tensor([2]), 7)[0, 0],
    "packed": masks.packed_mask(torch.tensor([DOCUMENTS]))[0, 0] & masks.causal_mask(7),
}
OPTIONS = {"window": 3, "prefix": 2, "documents": DOCUMENTS}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("real", [REAL, REAL[::-1], [True] * 7], ids=["right", "left", "none"])
def test_the_masks_are_the_labs(formulas, look, real):
    expected = LOOKS[look] & masks.over_keys(torch.tensor([real]))[0, 0]
    assert formulas("keep", look, real, OPTIONS) == expected.tolist()


def test_cross_attention_has_as_many_rows_as_it_asks_for(formulas):
    assert formulas("keep", "full", REAL, {}, 3) == [REAL] * 3


@pytest.mark.parametrize("name", EXPLORERS)
def test_both_languages_have_the_same_words(name):
    def shape(words):
        if isinstance(words, dict):
            return {key: shape(value) for key, value in words.items()}
        return len(words) if isinstance(words, list) else None

    assert shape(EXPLORERS[name]["en"]) == shape(EXPLORERS[name]["zh"])


def test_the_heads_are_read_from_the_record_row_by_row():
    figure = library(ROOT).evidence.figure("heads-over-places")
    written = [float(text) for text in re.findall(r">(\d\.\d)</text>", figure.svg)]
    recorded = [v for panel in figure.drawn for v in panel["matrix"]["value"]]
    assert len(recorded) == 2 * 4 * 12  # panels, heads, places
    assert [round(v, 1) for v in recorded] == written


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_explorer_is_on_a_page_in_both_languages(name, request):
    for language in ("en", "zh"):
        pages = (request.config.rootpath / "docs" / language).glob("*/*.md")
        assert any(f"\nexplore: {name}\n" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize(
    ("id", "name", "says"),
    [
        ("softmax-by-width", "moon", r"no explorer 'moon'; there are .*scores"),
        ("softmax-by-width", "heads", r"'heads' reads matrix from panel 0 of softmax-by-width"),
        ("query-gradients", "scores", r"reads width from panel 0 of query-gradients"),
        ("when-each-is-needed", "heads", r"reads matrix from panel 1 of when-each-is-needed"),
    ],
)
def test_an_explorer_that_cannot_be_shown_stops_the_build(id, name, says):
    fence = f"```figure\nid: {id}\nalt: a\ncaption: c\nexplore: {name}\n```"
    extensions = ["qa_lab.guide.maths", "qa_lab.guide.evidence"]
    with pytest.raises(PageError, match=says):
        Markdown(extensions=extensions).convert(fence)
