"""The notebook behind a page: mkdocs-jupyter's HTML, cut down to what it says.

mkdocs-jupyter brings a copy of JupyterLab's style sheet (574 KB), scripts, and a MathJax that it
expects from elsewhere. The site has a style sheet (`notebook.css`), copy buttons and maths of its
own, so all of that goes, and code is marked up like the site's other code.
"""

import re

from bs4 import BeautifulSoup, NavigableString, Tag

from qa_lab.claims.manifest import Question
from qa_lab.guide.maths import render
from qa_lab.guide.words import Words

UNWANTED = (
    "script, style, link, .clipboard-copy-txt, .zeroclipboard-container, .celltoolbar, "
    ".jp-Collapser, .jp-InputPrompt, .jp-OutputPrompt, .anchor-link"
)
MATHS = re.compile(r"\$\$(?P<display>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.DOTALL)


def slim(html: str, question: Question, language: str) -> str:
    """The notebook's HTML for the page of `question`'s notebook."""
    soup = BeautifulSoup(html, "html.parser").select_one(".jupyter-wrapper")
    for element in soup.select(UNWANTED):
        element.decompose()
    for block in soup.select(".highlight-ipynb"):
        _like_the_site(block)
    for focusable in soup.select("[tabindex]"):
        del focusable["tabindex"]  # a cell does not scroll, so it is no stop for the keyboard
    for text in soup.find_all(string=MATHS):
        if not text.find_parent(["code", "pre", "svg"]):
            text.replace_with(BeautifulSoup(_typeset(text), "html.parser"))
    for table in soup.select("table"):
        _scrollable(table, Words(language)("table"))
    return _way_back(question, language) + str(soup)


def _like_the_site(block: Tag) -> None:
    """Material styles `.highlight` and puts its copy button on `pre > code`."""
    block["class"] = "highlight"
    block.pre.name = "code"
    block.code.wrap(BeautifulSoup().new_tag("pre"))


def _scrollable(table: Tag, name: str) -> None:
    table["class"] = "qa-table"
    region = {"class": "qa-scroll", "role": "region", "tabindex": "0", "aria-label": name}
    table.wrap(BeautifulSoup().new_tag("div", attrs=region))


def _typeset(text: NavigableString) -> str:
    def formula(match: re.Match) -> str:
        return render((match["display"] or match["inline"]).strip(), bool(match["display"]))

    return MATHS.sub(formula, str(text).replace("<", "&lt;"))


def _way_back(question: Question, language: str) -> str:
    words = Words(language)
    return (
        f'<p class="qa-back">{words("behind")} '
        f'<a href="../../../{question.path}/">{question.title[language]}</a></p>'
    )
