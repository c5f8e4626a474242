"""Evidence inside a sentence: `[claim:some-id]` and `[value:some-id median]`."""

from xml.etree import ElementTree as etree

from markdown import Markdown
from markdown.inlinepatterns import InlineProcessor

from qa_lab.claims.evidence import UnknownEvidence
from qa_lab.guide.errors import PageError
from qa_lab.guide.library import Library
from qa_lab.guide.numbers import typeset
from qa_lab.guide.words import Words

CLAIM = r"[ \n]?\[claim:\s*([^\]\s]+)\s*\]"
VALUE = r"\[value:\s*([^\]\s]+)\s+([a-z-]+)(?:\s+([^\]\s]+))?\s*\]"
STATISTICS = ("median", "min", "max")


class ClaimChip(InlineProcessor):
    """A small ✓ that links a sentence to its proof.

    The link is written as one to the claim's Markdown page, `/attention/why-scale.md#claim-…`:
    MkDocs resolves it for the page it stands on and checks the anchor. Where no MkDocs sees the
    link, inside a fence, `root` says how to get to the top of the site.
    """

    def __init__(self, md: Markdown, library: Library, language: str, root: str | None = None):
        super().__init__(CLAIM, md)
        self.library, self.language, self.words = library, language, Words(language)
        self.root = root

    def handleMatch(self, m, data):
        claim = _known(self.library, m[1])
        path = self.library.question_of(claim).path
        page = f"/{path}.md" if self.root is None else f"{self.root}{path}/"
        sentence = claim.data[self.language]
        chip = etree.Element(
            "a",
            {
                "class": "qa-chip",
                "href": f"{page}#claim-{claim.id}",
                "title": sentence,
                "aria-label": self.words("proved_sentence", sentence),
            },
        )
        chip.text = "✓"
        cited = etree.Element("span", {"class": "qa-cited"})
        cited.text = "\N{NO-BREAK SPACE}"  # a ✓ never begins a line
        cited.append(chip)
        return cited, m.start(0), m.end(0)


class RecordedValue(InlineProcessor):
    """A measured number, so that prose never repeats one by hand."""

    def __init__(self, md: Markdown, library: Library):
        super().__init__(VALUE, md)
        self.library = library

    def handleMatch(self, m, data):
        claim = _known(self.library, m[1])
        control, statistic = m[2].startswith("control-"), m[2].removeprefix("control-")
        if statistic not in STATISTICS:
            raise PageError(
                f"{m[0]}: no such number. There are {', '.join(STATISTICS)}, and each of them "
                f"as control-…"
            )
        value = claim.numbers["control" if control else "measured"][statistic]
        try:
            written = typeset(value, m[3])
        except ValueError as problem:
            raise PageError(f"{m[0]}: {problem}") from None
        element = etree.Element("data", {"class": "qa-value", "value": f"{value:g}"})
        element.text = self.md.htmlStash.store(written)
        return element, m.start(0), m.end(0)


def _known(library: Library, id: str):
    try:
        return library.evidence.claim(id)
    except UnknownEvidence as problem:
        raise PageError(str(problem)) from None
