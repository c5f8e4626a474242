"""The notebook behind a question, as a page of Markdown.

Its prose is Markdown already, and set like any other page's. A cell of code is a reference, a fence
`cell`, which `fences` draws with what the cell put out when it was recorded.
"""

import json
from html import escape

from nbformat import NotebookNode

from qa_lab.claims.manifest import Question
from qa_lab.guide.words import Words

# Not for the search, which finds the question, and without columns at the sides: code is wide.
_PAGE = """\
---
title: {title}
search: {{exclude: true}}
hide: [navigation, toc]
---

<p class="qa-back">{behind} <a href="../../../{path}/">{question}</a></p>

{cells}
"""


def markdown(notebook: NotebookNode, question: Question, language: str) -> str:
    """The page of `question`'s notebook."""
    words = Words(language)
    return _PAGE.format(
        title=json.dumps(words("notebook_title", question.short[language]), ensure_ascii=False),
        behind=words("behind"),
        path=question.path,
        question=escape(question.title[language]),
        cells="\n\n".join(map(_cell, notebook.cells)),
    )


def _cell(cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return cell.source
    return f"```cell\n{cell.id}\n```"
