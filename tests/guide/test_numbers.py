"""Numbers and bounds are written as people write them."""

import pytest

from qa_lab.claims import at_least, at_most, exactly, within
from qa_lab.guide.numbers import plain, subscripts, typeset, typeset_bound


@pytest.mark.parametrize(
    ("value", "spec", "written"),
    [
        (0.0, None, "0"),
        (0.5, None, "0.5"),
        (1.00267, None, "1.00"),
        (0.0321234, None, "0.0321"),
        (-11.3007, None, "−11.3"),
        (510.644, None, "511"),
        (512.0, None, "512"),
        (16384.0, None, "16,384"),
        (12345.6, None, "12,346"),
        (3.11e-16, None, "3.11 × 10⁻¹⁶"),
        (-2e-9, None, "−2 × 10⁻⁹"),
        (1e-12, "g", "10⁻¹²"),
        (6.50138e7, None, "6.5 × 10⁷"),
        (1e20, None, "10²⁰"),
        (0.957675, ".0%", "96%"),
        (0.957675, ".1f", "1.0"),
    ],
)
def test_plain(value, spec, written):
    assert plain(value, spec) == written


def test_typeset_uses_a_superscript_and_does_not_break():
    assert typeset(3.11e-16) == '<span class="qa-number">3.11 × 10<sup>−16</sup></span>'


@pytest.mark.parametrize(
    ("bound", "written"),
    [
        (within(-0.95, 1.05), "−0.95 … 1.05"),
        (at_least(0.99), "≥ 0.99"),
        (at_least(-3), "≥ −3"),
        (exactly(512), "= 512"),
    ],
)
def test_a_bound_is_written_with_its_ends(bound, written):
    assert typeset_bound(bound) == written


def test_a_tiny_bound_is_a_power_of_ten():
    assert "10<sup>−12</sup>" in typeset_bound(at_most(1e-12))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("√d_k & W_Q, d_model", "√d<sub>k</sub> &amp; W<sub>Q</sub>, d<sub>model</sub>"),
        ("除以 d_k。", "除以 d<sub>k</sub>。"),
        ("scaled_dot_product_attention", "scaled_dot_product_attention"),
        ("x_max_norm", "x_max_norm"),
    ],
)
def test_subscripts(text, html):
    assert subscripts(text) == html
