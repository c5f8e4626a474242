"""TeX to HTML while the site is built, so that neither Node nor the reader's browser has to.

`$…$` and `$$…$$` are found by pymdownx.arithmatex; KaTeX, which runs here in an embedded V8,
turns them into HTML for the eye and MathML for screen readers.
"""

import atexit
import re
from functools import cache
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as etree

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from py_mini_racer import JSEvalException, MiniRacer

from qa_lab.guide.errors import PageError

KATEX = Path(__file__).parent / "katex" / "katex.min.js"


class TexError(PageError):
    """KaTeX cannot read a formula."""


@cache
def render(tex: str, display: bool = False) -> str:
    r"""The HTML of one formula: `\sqrt{d_k}`, without dollars.

    Raises:
        TexError: With the formula and what is wrong with it.
    """
    try:
        html = _katex().call(
            "katex.renderToString", tex, {"displayMode": display, "strict": "error"}
        )
    except JSEvalException as problem:
        reason = re.search(r"KaTeX parse error: (.*)", str(problem))
        raise TexError(f"${tex}$: {reason[1] if reason else problem}") from None
    # An element of its own, since Material's search forgets an exclusion at the first closing tag
    # of the same name, and KaTeX is made of spans. Wide formulas scroll, so a keyboard must get in.
    attributes = ' class="qa-display" tabindex="0"' if display else ""
    return f"<qa-math{attributes} data-search-exclude>{html}</qa-math>"


@cache
def _katex() -> MiniRacer:
    engine = MiniRacer()
    engine.eval(KATEX.read_text(encoding="utf-8"))
    atexit.register(engine.close)  # left to the interpreter's teardown, it hangs
    return engine


class RenderMaths(Treeprocessor):
    r"""Fill arithmatex's elements, which hold `\(…\)` or an escaped `\[…\]`."""

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex":
                display = element.tag == "div"
                tex = unescape(element.text) if display else element.text
                element.text = self.md.htmlStash.store(render(tex.strip()[2:-2].strip(), display))
                element.attrib.clear()


class MathsExtension(Extension):
    """`$…$` in a line, `$$…$$` as a block of its own."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register arithmatex and, behind it, the rendering."""
        md.registerExtensions(
            ["pymdownx.arithmatex"],
            {
                "pymdownx.arithmatex": {
                    "generic": True,
                    "inline_syntax": ["dollar"],
                    "block_syntax": ["dollar"],
                }
            },
        )
        md.treeprocessors.register(RenderMaths(md), "qa_maths", 15)  # after inline patterns


def makeExtension(**options) -> MathsExtension:
    """Python-Markdown's way in."""
    return MathsExtension(**options)
