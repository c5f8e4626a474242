"""A figure carries the numbers it shows, and shows them in the theme's own colours."""

import numpy as np
import pytest

from qa_lab.claims.figures import MIME, PALETTE, figure, matrix, spread


def labelled(ax):
    ax.set_xlabel("d_k (features)")
    ax.set_ylabel("variance")


def drawn(draw, **options):
    def on_axes(*axes):
        draw(*axes)
        for ax in axes:
            labelled(ax)

    return figure("test", on_axes, **options)


def test_what_is_drawn_is_what_is_stored():
    result = drawn(lambda ax: ax.plot([1, 2], [0.123456, 3], label="a"))
    assert result.drawn == {"0/line a 0 x": [1, 2], "0/line a 0 y": [0.1235, 3]}


def test_a_spread_is_a_median_and_the_extremes():
    stored = drawn(lambda ax: spread(ax, [1, 2], [[0, 5], [1, 6], [5, 7]], label="a")).drawn
    assert stored["0/line a 0 y"] == [1, 6]
    assert {0, 5, 7} <= set(stored["0/band 1 y"])


def test_logarithmic_axes_store_logarithms():
    def draw(ax):
        ax.plot([1, 10], [1e-8, 1e-2], label="a")
        ax.axhline(1e-3, label="bound")
        ax.set_yscale("log")

    stored = drawn(draw).drawn
    assert stored["0/line a 0 y"] == [-8, -2]
    assert stored["0/level bound 1 y"] == [-3]


def test_bars_matrices_and_panels_are_stored_too():
    stored = drawn(
        lambda left, right: (
            left.bar([0, 1], [2, 3]),
            matrix(right, [[0.1, 0.9]], rows=["q"], columns=["a", "b"]),
        ),
        panels=2,
    ).drawn
    assert max(stored["0/patch 0 y"]) == 2
    assert max(stored["0/patch 1 y"]) == 3
    assert stored["1/mesh 0 value"] == [0.1, 0.9]


def test_every_step_of_a_histogram_is_stored():
    stored = drawn(lambda ax: ax.stairs([0.1, 0.7, 0.2], [0, 1, 2, 3], fill=True)).drawn
    assert {0.1, 0.7, 0.2} <= set(stored["0/patch 0 y"])


def test_the_same_drawing_gives_the_same_bytes_in_themed_colours():
    def draw(ax):
        return ax.plot([1, 2], [3, 4], label="a")

    first, second = drawn(draw), drawn(draw)
    assert first.svg == second.svg
    assert f"var(--qa-series-1, {PALETTE[0]})" in first.svg
    assert "currentColor" in first.svg
    assert "<style" not in first.svg  # it would restyle the whole page
    assert 'id="test-' in first.svg  # so that two figures can share a page


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda ax: None, "name and unit"),
        (lambda ax: labelled(ax), "nothing was drawn"),
        (lambda ax: (ax.plot([1], [np.nan]), labelled(ax)), "not finite"),
    ],
)
def test_a_figure_that_shows_nothing_sound_is_refused(draw, says):
    with pytest.raises(ValueError, match=says):
        figure("test", draw)


def test_the_numbers_travel_in_the_outputs_metadata():
    data, metadata = drawn(lambda ax: ax.plot([1], [2], label="a"))._repr_mimebundle_()
    assert data[MIME] == {"id": "test"}
    assert metadata[MIME]["drawn"]["0/line a 0 y"] == [2]
