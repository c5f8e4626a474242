"""The reference: one page for each module of the lab, in the order in which to read them."""

from qa_lab.guide.lab import Lab

# The docstrings are English, so a page is the same in both languages but for what is around it.
_PAGE = """\
---
title: {module.name}
search: {{boost: 0.4}}
---

# {module.name} {{.qa-module}}

::: {module.dotted}
"""


def pages(lab: Lab) -> dict[str, str]:
    """The Markdown of every module's page, by its file below `docs/en` and `docs/zh`."""
    return {f"{module.path}.md": _PAGE.format(module=module) for module in lab.modules.values()}
