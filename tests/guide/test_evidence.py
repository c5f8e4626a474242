"""Evidence on a page: by reference, in both languages, and never unknown."""

import re

import pytest

from qa_lab.guide.errors import PageError
from qa_lab.guide.evidence import minutes_to_read

FIGURE = "```figure\nid: {}\nalt: A line.\ncaption: Twice $x$ [claim:ten-is-ten].\n```"
SHOWCASE = "```showcase\nclaim: {}\nfigure: a-line\nalt: A line.\ncaption: A line.\n```"


@pytest.mark.parametrize(
    "text",
    [
        "```claim\nno-such\n```",
        "```question\nno-such\n```",
        "```audit\nno-such\n```",
        FIGURE.format("no-such"),
        SHOWCASE.format("no-such"),
        "Ten [claim:no-such].",
        "Ten [value:no-such median].",
    ],
)
def test_what_is_unknown_stops_the_build(page, text):
    with pytest.raises(PageError, match="no-such"):
        page(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[value:ten-is-ten mean]", "no such number"),
        ("[value:ten-is-ten median .3q]", "Unknown format code"),
        ("```figure\nid: a-line\n```", "needs alt, caption, id"),
        ("```figure\nid: [\n```", "not YAML"),
        (FIGURE.format("a-line").replace("$x$", "$x_$"), "KaTeX|got 'EOF'|Expected"),
    ],
)
def test_what_is_asked_wrongly_stops_the_build(page, text, reason):
    with pytest.raises(PageError, match=reason):
        page(text)


def test_a_claim_shows_verdict_numbers_bound_control_and_code(page):
    html = page("```claim\nten-is-ten\n```")
    assert 'id="claim-ten-is-ten"' in html
    assert "Ten is d<sub>k</sub> &amp; ten." in html
    assert "10.1" in html and "9.9 to 10.3" in html and "5 values, 5 seeds" in html
    assert "9 … 11" in html
    assert "Broken on purpose: shrunk" in html and "10<sup>−5</sup>" in html
    assert 'href="../../audit/#statement-ten-is-large"' in html
    assert "Holds under conditions" in html
    assert "<details" in html and "prove" in html


def test_the_other_language(page):
    html = page("```claim\nten-is-ten\n```", "zh")
    assert "十就是十。" in html and "故意破坏：缩小" in html and "Measured" not in html
    assert 'lang="en">Why ten?' in page("```question\nten\n```", "zh")
    assert 'lang="zh-Hans">为何ten？' in page("```question\nten\n```")


def test_a_chip_links_to_the_claim_and_says_what_is_proved(page):
    html = page("Ten is ten [claim:ten-is-ten].")
    assert 'href="/numbers/ten.md#claim-ten-is-ten"' in html
    assert 'aria-label="Proved: Ten is d_k &amp; ten."' in html
    assert "ten\u00a0" not in html and '<span class="qa-cited">\u00a0<a' in html


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("median", "10.1"),
        ("min", "9.9"),
        ("median .0%", "1010%"),
        ("control-max", "1.03 × 10<sup>−5</sup>"),
    ],
)
def test_a_value_is_the_recorded_one(page, asked, written):
    html = page(f"It is [value:ten-is-ten {asked}].")
    assert written in re.sub(r"</?(data|span)[^>]*>", "", html)


def test_code_is_no_reference(page):
    assert "[claim:no-such]" in page("Write `[claim:no-such]`.")


def test_a_figure_has_alt_text_and_a_caption_with_markdown(page):
    html = page(FIGURE.format("a-line"))
    assert '<svg role="img" aria-label="A line."' in html
    assert "<qa-math" in html
    assert 'href="../../numbers/ten/#claim-ten-is-ten"' in html


def test_the_audit_of_a_page(page):
    html = page("```audit\nten\n```", "zh")
    assert "十很大。" in html and "与一相比。" in html and "Q7 L3" in html
    assert 'href="../../numbers/ten/#claim-ten-is-ten"' in html
    assert "Ten is &lt;large&gt;." in page("```audit\nten\n```")


def test_the_pages_of_everything(page):
    ledger, audit = page("```ledger\n```"), page("```source-audit\n```")
    assert 'href="../numbers/ten/#claim-ten-is-ten"' in ledger
    assert 'id="statement-ten-is-large"' in audit and 'data-verdict="open"' in audit
    contents = page("```contents\n```")
    assert 'href="../numbers/ten/"' in contents
    assert "numbers/eleven" not in contents and "not yet written" in contents
    counts = page("```counts\n```")
    assert "<strong>1</strong> questions answered, of 2" in counts
    assert "<strong>1</strong> statements settled, of 2" in counts
    assert 'href="numbers/ten/"' in page(SHOWCASE.format("ten-is-ten"))


def test_headings_and_tables(page):
    assert "Why √d<sub>k</sub>?" in page("# Why √d_k?")
    html = page("| a | b |\n| - | - |\n| 1 | 2 |")
    assert '<div aria-label="Table" class="qa-scroll" role="region" tabindex="0">' in html


def test_chinese_lines_are_joined_without_a_space(page):
    html = page("# 标题\n第一行，\n**第二行**。\nThird\nline\n\n- 一\n- 二", "zh")
    assert "第一行，<strong>第二行</strong>。\nThird\nline" in html
    assert html.count("<li>") == 2 and "<h1>标题</h1>" in html


def test_minutes_count_prose_alone():
    prose = "word " * 660
    assert minutes_to_read(prose) == 3
    assert (
        minutes_to_read(prose + "\n```claim\n" + "id\n" * 900 + "```\n$$\n" + "x " * 900 + "$$")
        == 3
    )
    assert minutes_to_read("字" * 700) == 2
    assert minutes_to_read("") == 1
