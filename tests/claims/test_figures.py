"""A figure carries the numbers it shows, and shows them in the theme's own colours."""

import numpy as np
import pytest

from qa_lab.claims.figures import PALETTE, figure, matrix, spread
from qa_lab.claims.mime import FIGURE


def labelled(ax):
    ax.set_xlabel("d_k (features)")
    ax.set_ylabel("variance")


def drawn(draw, **options):
    def on_axes(*axes):
        draw(*axes)
        for ax in axes:
            labelled(ax)

    return figure("test", on_axes, **options)


def test_what_is_drawn_is_what_is_stored_under_its_key():
    result = drawn(lambda ax: ax.plot([1, 2], [0.123456, 3], label="a label", gid="a-key"))
    assert result.drawn == [{"a-key": {"x": [1, 2], "y": [0.1235, 3]}}]


def test_a_spread_is_a_median_and_the_extremes():
    runs = [[0, 5], [1, 6], [5, 7]]
    (stored,) = drawn(lambda ax: spread(ax, [1, 2], runs, label="a", gid="a")).drawn
    assert stored["a"] == {"x": [1, 2], "y": [1, 6]}
    assert {0, 5, 7} <= set(stored["a-band"]["y"])


def test_logarithmic_axes_store_logarithms():
    def draw(ax):
        ax.plot([1, 10], [1e-8, 1e-2], label="a", gid="a")
        ax.axhline(1e-3, label="bound", gid="bound")
        ax.axvline(7, label="turn", gid="turn")
        ax.set_yscale("log")

    assert drawn(draw).drawn == [
        {"a": {"x": [1, 10], "y": [-8, -2]}, "bound": {"y": [-3]}, "turn": {"x": [7]}}
    ]


def test_bars_matrices_and_panels_are_stored_too():
    left, right = drawn(
        lambda left, right: (
            left.bar([0, 1], [2, 3], gid="bars"),
            left.bar([2], [5], gid="more"),
            matrix(right, [[0.1, 0.9]], rows=["q"], columns=["a", "b"]),
        ),
        panels=2,
    ).drawn
    assert {0, 2, 3} == set(left["bars"]["y"]) and {0, 5} == set(left["more"]["y"])
    assert min(left["bars"]["x"]) == -0.4 and max(left["bars"]["x"]) == 1.4
    assert right == {"matrix": {"value": [0.1, 0.9]}}


def test_every_step_of_a_histogram_is_stored():
    def draw(ax):
        return ax.stairs([0.1, 0.7, 0.2], [0, 1, 2, 3], fill=True, gid="steps")

    assert {0.1, 0.7, 0.2} <= set(drawn(draw).drawn[0]["steps"]["y"])


def test_points_are_stored():
    (stored,) = drawn(lambda ax: ax.scatter([1, 2], [3, 4], gid="dots")).drawn
    assert stored == {"dots": {"x": [1, 2], "y": [3, 4]}}


def test_a_key_is_no_id_of_the_page_so_two_panels_may_share_it():
    def draw(left, right):
        for ax in (left, right):
            ax.plot([1, 2], [3, 4], label="a", gid="shared")

    result = drawn(draw, panels=2)
    assert [list(panel) for panel in result.drawn] == [["shared"], ["shared"]]
    assert "shared" not in result.svg


def test_the_same_drawing_gives_the_same_bytes_in_themed_colours():
    def draw(ax):
        return ax.plot([1, 2], [3, 4], label="a", gid="a")

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
        (
            lambda ax: (ax.plot([1], [np.nan], gid="a"), labelled(ax)),
            "panel 0: a holds .*not finite",
        ),
        (
            lambda ax: (ax.plot([1], [2], label="a"), labelled(ax)),
            "kebab-case key, gid=…; one has None",
        ),
        (lambda ax: (ax.plot([1], [2], gid="÷ √d_k"), labelled(ax)), "one has '÷ √d_k'"),
        (
            lambda ax: (ax.plot([1], [2], gid="a"), ax.axhline(1, gid="a"), labelled(ax)),
            "two series have the key a",
        ),
    ],
)
def test_a_figure_that_shows_nothing_sound_is_refused(draw, says):
    with pytest.raises(ValueError, match=says):
        figure("test", draw)


def test_the_numbers_travel_in_the_outputs_metadata():
    shown = drawn(lambda ax: ax.plot([1], [2], label="a", gid="a"))
    data, metadata = shown._repr_mimebundle_()
    assert data[FIGURE] == {"id": "test"}
    assert metadata[FIGURE]["drawn"] == shown.drawn
