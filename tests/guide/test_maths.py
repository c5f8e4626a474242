"""Formulas are rendered while the site is built, and a wrong one stops it."""

import pytest
from markdown import Markdown
from material.plugins.search.plugin import Parser

from qa_lab.guide.maths import TexError, render


def convert(text: str) -> str:
    return Markdown(extensions=["qa_lab.guide.maths"]).convert(text)


def test_a_formula_is_html_for_the_eye_and_mathml_for_the_ear():
    html = convert(r"Divide by $\sqrt{d_k}$.")
    assert '<span class="katex-html" aria-hidden="true">' in html
    assert r'<annotation encoding="application/x-tex">\sqrt{d_k}</annotation>' in html
    assert "$" not in html


def test_a_block_is_displayed_and_can_be_scrolled_by_keyboard():
    html = convert("$$\na < b \\\\ \\text{and } a & b\n$$".replace("& b", r"\& b"))
    assert '<qa-math class="qa-display" tabindex="0"' in html


def test_code_is_left_alone():
    assert convert("`$x$`") == "<p><code>$x$</code></p>"


@pytest.mark.parametrize("text", [r"$\sqrt{d_k$", r"$\unknown$"])
def test_a_wrong_formula_stops_the_build_and_is_named(text):
    with pytest.raises(TexError) as problem:
        convert(text)
    assert text in str(problem.value)
    assert "\n" not in str(problem.value)


def test_search_does_not_index_formulas():
    parser = Parser()
    parser.feed(f"<h1 id='a'>T</h1><p>before {render('x^2')} after</p>")
    parser.close()
    text = "".join(parser.data[0].text)
    assert "before" in text and "after" in text
    assert "x" not in text.replace("before", "").replace("after", "")
