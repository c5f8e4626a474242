"""Code with colours, marked up as Material marks up its own: once for all pages and languages."""

from functools import cache

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import DiffLexer, PythonLexer

_PYTHON, _DIFF = PythonLexer(), DiffLexer()
_HTML = HtmlFormatter(cssclass="highlight", wrapcode=True)


@cache
def python(code: str) -> Markup:
    """A piece of Python."""
    return Markup(highlight(code, _PYTHON, _HTML))


@cache
def diff(old: str, new: str) -> Markup:
    """Lines that are taken out, and lines that are put in."""
    lines = [f"-{line}" for line in old.splitlines()] + [f"+{line}" for line in new.splitlines()]
    return Markup(highlight("\n".join(lines), _DIFF, _HTML))
