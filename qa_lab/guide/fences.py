"""What each fence of evidence becomes. A fence names its evidence; a template shows it.

Fences stand on pages of known depth, which is all they need to link within the site: a question's
page lies two folders below the top, ledger and audit lie one, the home page lies at the top.
"""

import re
from collections.abc import Callable
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown import Markdown
from markupsafe import Markup

from qa_lab.claims.evidence import RecordedClaim
from qa_lab.claims.manifest import LANGUAGES, unfold_chinese
from qa_lab.guide import code
from qa_lab.guide.errors import PageError
from qa_lab.guide.explore import EXPLORERS, check
from qa_lab.guide.inline import ClaimChip, RecordedValue
from qa_lab.guide.library import Library
from qa_lab.guide.numbers import subscripts, typeset, typeset_bound
from qa_lab.guide.strip import strip
from qa_lab.guide.words import Words

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGE_TAGS = {"en": "en", "zh": "zh-Hans"}
HOME, TOP, QUESTION = "", "../", "../../"


WIDE = 520  # points; beyond this a phone cannot shrink a figure and leave it legible


class Fences:
    """The fences of one page, by the word after the backticks: `by_name`."""

    def __init__(self, library: Library, language: str):
        self.library, self.language = library, language
        self.words = Words(language)
        self.minutes = 1  # to read the page; the extension counts before the fences are drawn

    def by_name(self) -> dict[str, Callable[[str], str]]:
        """Every fence: its name, and what draws its body."""
        return {
            "question": self.question,
            "claim": self.claim,
            "figure": self.figure,
            "cell": self.cell,
            "audit": self.audit,
            "ledger": self.ledger,
            "source-audit": self.source_audit,
            "contents": self.contents,
            "counts": self.counts,
            "mechanisms": self.mechanisms,
            "bench": self.bench,
            "broken": self.broken,
            "showcase": self.showcase,
        }

    def question(self, body: str) -> str:
        """The head of a question's page. Body: its slug."""
        question = self.library.manifest.question(body.strip())
        other = next(language for language in LANGUAGES if language != self.language)
        return self._draw(
            "question", QUESTION, question=question, minutes=self.minutes,
            other=other, other_tag=LANGUAGE_TAGS[other],
        )  # fmt: skip

    def claim(self, body: str) -> str:
        """A card per claim. Body: ids, one a line."""
        claims = [self.library.evidence.claim(id) for id in body.split()]
        return self._draw("claims", QUESTION, cards=map(self._card, claims))

    def figure(self, body: str) -> str:
        """A figure. Body: YAML with `id`, `alt`, and `caption` in Markdown.

        With `explore`, the reader can move what the figure shows: an explorer of `explore.js`.
        """
        given = _options(body, {"id", "alt", "caption"}, {"explore"})
        return self._draw("figure", QUESTION, **self._figure(given, QUESTION))

    def cell(self, body: str) -> str:
        """A cell of a notebook: its code, and what it put out. Body: its id."""
        cell = self.library.cells.get(body.strip())
        if cell is None:
            raise PageError(f"No published notebook has a cell “{body.strip()}”.")
        return self._draw("cell", "", code=code.python(cell.source), outputs=cell.outputs)

    def audit(self, body: str) -> str:
        """The statements that a question's page settles. Body: its slug."""
        question = self.library.manifest.question(body.strip())
        return self._draw(
            "audit", QUESTION, statements=self.library.audit.of(question.slug), full=False
        )

    def ledger(self, body: str) -> str:
        """Every claim of the guide. No body."""
        return self._draw("ledger", TOP, rows=map(self._row, self.library.claims))

    def source_audit(self, body: str) -> str:
        """Every statement of the sources. No body."""
        return self._draw("source_audit", TOP, statements=self.library.audit.statements, full=True)

    def contents(self, body: str) -> str:
        """Every question by chapter. No body."""
        return self._draw("contents", TOP)

    def counts(self, body: str) -> str:
        """How many questions, claims and statements there are. No body."""
        return self._draw("counts", HOME)

    def showcase(self, body: str) -> str:
        """One proof for the home page. Body: YAML with `claim`, `figure`, `alt`, `caption`."""
        given = _options(body, {"claim", "figure", "alt", "caption"})
        claim = self.library.evidence.claim(given.pop("claim"))
        figure = self._figure({"id": given["figure"], **given}, HOME)
        return self._draw("showcase", HOME, card=self._card(claim), **figure)

    def mechanisms(self, body: str) -> str:
        """Every module of the lab, by room. No body."""
        return self._draw("mechanisms", TOP, rooms=self.library.lab.rooms)

    def bench(self, body: str) -> str:
        """How fast the lab is, as `make bench` measured it. No body."""
        return self._draw("bench", TOP, bench=self.library.bench)

    def broken(self, body: str) -> str:
        """Every edit that `make falsify` tried, and the claims that noticed. No body."""
        return self._draw("broken", TOP, broken=self.library.broken)

    def _draw(self, template: str, root: str, **context: Any) -> str:
        drawn = _templates().get_template(f"{template}.html")
        return drawn.render(
            root=root,
            language=self.language,
            words=self.words,
            manifest=self.library.manifest,
            audit=self.library.audit,
            library=self.library,
            **context,
        )

    def _row(self, claim: RecordedClaim) -> dict[str, Any]:
        """A claim as the ledger wants it."""
        return {
            "id": claim.id,
            "data": claim.data,
            "measured": claim.numbers["measured"],
            "control": claim.numbers["control"],
            "seeds": len(claim.numbers["seeds"]),
            "bound": claim.bound,
            "question": self.library.question_of(claim),
            "falls_to": self.library.broken.of(claim.id),
        }

    def _card(self, claim: RecordedClaim) -> dict[str, Any]:
        """A claim as its own page wants it."""
        row = self._row(claim)
        return row | {
            "strip": strip(row["bound"], row["measured"], row["control"], self.words("log")),
            "code": code.python(claim.source),
            "settles": [
                (self.library.audit.statement(id), verdict) for id, verdict in claim.settles.items()
            ],
        }

    def _figure(self, given: dict[str, str], root: str) -> dict[str, Any]:
        figure = self.library.evidence.figure(given["id"])
        if explore := given.pop("explore", None):
            check(explore, figure)
        if self.language == "zh":
            given = {key: unfold_chinese(text) for key, text in given.items()}
        return {
            "id": figure.id,
            "wide": _width(figure.svg) > WIDE,
            "drawn": figure.drawn,
            "explore": explore,
            "explorer": EXPLORERS[explore][self.language] if explore else None,
            "svg": _labelled(figure.svg, given["alt"].strip()),
            "caption": self._markdown(given["caption"], root),
        }

    def _markdown(self, text: str, root: str) -> Markup:
        """A caption's Markdown, without the paragraph around it."""
        md = self._captions[root]
        md.reset()
        return Markup(md.convert(text).removeprefix("<p>").removesuffix("</p>"))

    @cached_property
    def _captions(self) -> dict[str, Markdown]:
        """A Markdown of its own: captions are drawn while the page's is at work."""
        return {root: self._caption_markdown(root) for root in (HOME, QUESTION)}

    def _caption_markdown(self, root: str) -> Markdown:
        md = Markdown(extensions=["qa_lab.guide.maths"])
        chip = ClaimChip(md, self.library, self.language, root)
        md.inlinePatterns.register(chip, "qa_claim", 175)
        md.inlinePatterns.register(RecordedValue(md, self.library), "qa_value", 175)
        return md


@cache
def _templates() -> Environment:
    """The templates of all fences, read and compiled once."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    templates.globals |= {"number": typeset, "bound": typeset_bound}
    templates.filters |= {
        "math": subscripts,
        "code": backticks,
        "diff": code.diff,
        "svg": _labelled,
        "scrollable": _scrollable,
    }
    return templates


def _options(body: str, wanted: set[str], possible: set[str] = frozenset()) -> dict[str, str]:
    """The YAML of a fence, with exactly the keys that are wanted, and perhaps the possible ones."""
    try:
        given = yaml.safe_load(body)
    except yaml.YAMLError as problem:
        raise PageError(f"The body of a fence is not YAML:\n{body}\n{problem}") from None
    if not isinstance(given, dict) or set(given) - possible != wanted or not all(given.values()):
        raise PageError(f"A fence needs {', '.join(sorted(wanted))}; this one has:\n{body}")
    return given


def _labelled(svg: str, label: str) -> Markup:
    """A figure, with what it shows in words for those who do not see it."""
    attributes = f'role="img" aria-label="{escape(label)}" data-search-exclude'
    return Markup(svg.replace("<svg ", f"<svg {attributes} ", 1))


def _scrollable(html: str, name: str) -> Markup:
    """A claim's own HTML, with its table as `FocusableTables` leaves tables."""
    region = f'<div class="qa-scroll" role="region" tabindex="0" aria-label="{name}">'
    html = html.replace("<table>", f'{region}<table class="qa-table">')
    return Markup(html.replace("</table>", "</table></div>"))


def backticks(text: str) -> Markup:
    """`name` in backticks as code, for a sentence from a docstring."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _width(svg: str) -> float:
    """A figure's own width, in points."""
    return float(re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+)', svg)[1])
