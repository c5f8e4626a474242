"""A Python-Markdown extension that puts recorded evidence on a page, by reference.

    ```claim
    variance-grows-with-dk
    ```

    The variance is [value:variance-grows-with-dk median] [claim:variance-grows-with-dk].

It needs no MkDocs, so that the pages outlive it. What a reference names must exist: anything
unknown stops the build.
"""

import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as etree

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor

from qa_lab.claims.evidence import UnknownEvidence
from qa_lab.claims.manifest import BadEntry, unfold_chinese
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.errors import PageError
from qa_lab.guide.fences import Fences
from qa_lab.guide.inline import ClaimChip, RecordedValue
from qa_lab.guide.lab import UnknownMechanism
from qa_lab.guide.library import library
from qa_lab.guide.numbers import subscripts
from qa_lab.guide.tables import FocusableTables

ENGLISH_WORDS_A_MINUTE = 220
CHINESE_CHARACTERS_A_MINUTE = 350


class EvidenceExtension(Extension):
    """Fences, chips and numbers of evidence."""

    def __init__(self, **options):
        self.config = {
            "language": ["en", "The language of the page: en or zh"],
            "root": [str(ROOT), "The folder with docs/ and notebooks/ to take evidence from"],
        }
        super().__init__(**options)

    def extendMarkdown(self, md: Markdown) -> None:
        """Register everything; SuperFences too, since fences can be told to it only once."""
        language = self.getConfig("language")
        shelf = library(Path(self.getConfig("root")))
        fences = Fences(shelf, language)
        custom = [
            {"name": name, "class": "qa-evidence", "format": partial(_draw, draw)}
            for name, draw in fences.by_name().items()
        ]
        md.registerExtensions(
            ["pymdownx.superfences"], {"pymdownx.superfences": {"custom_fences": custom}}
        )
        # Before the fences are taken out (25), after line ends are made alike (30).
        md.preprocessors.register(CountMinutes(md, fences), "qa_minutes", 29)
        if language == "zh":
            md.preprocessors.register(UnfoldChinese(md), "qa_unfold", 24)
        # After `code` (190) and escapes (180), before links (160).
        md.inlinePatterns.register(ClaimChip(md, shelf, language), "qa_claim", 175)
        md.inlinePatterns.register(RecordedValue(md, shelf), "qa_value", 175)
        md.treeprocessors.register(FocusableTables(md, fences.words("table")), "qa_tables", 14)
        md.treeprocessors.register(HeadingSubscripts(md), "qa_subscripts", -1)
        anchors = Anchors(md)
        md.treeprocessors.register(anchors, "qa_anchors_shown", 6)
        md.treeprocessors.register(anchors.hide, "qa_anchors_hidden", 4)


class CountMinutes(Preprocessor):
    """Minutes to read the prose: fences, formulas and markup are left out of the count."""

    def __init__(self, md: Markdown, fences: Fences):
        super().__init__(md)
        self.fences = fences

    def run(self, lines: list[str]) -> list[str]:
        self.fences.minutes = minutes_to_read("\n".join(lines))
        return lines


def minutes_to_read(text: str) -> int:
    """Whole minutes, at least one."""
    for left_out in (r"^(```+).*?^\1", r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"\[(claim|value):[^\]]*\]"):
        text = re.sub(left_out, " ", text, flags=re.DOTALL | re.MULTILINE)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    words = len(re.findall(r"[A-Za-z][\w'’-]*", text))
    return max(1, round(words / ENGLISH_WORDS_A_MINUTE + chinese / CHINESE_CHARACTERS_A_MINUTE))


class UnfoldChinese(Preprocessor):
    """A line break inside a Chinese paragraph is none of the reader's business: no space for it.

    Runs when the fences have been taken out. Headings keep their line.
    """

    def run(self, lines: list[str]) -> list[str]:
        joined: list[str] = []
        for line in lines:
            if joined and joined[-1] and not joined[-1].startswith("#"):
                pair = f"{joined[-1]}\n{line}"
                if "\n" not in (unfolded := unfold_chinese(pair)):
                    joined[-1] = unfolded
                    continue
            joined.append(line)
        return joined


class Anchors(Treeprocessor):
    """Shows the anchors inside the fences to whoever checks links, for as long as they look.

    A fence's HTML is put in at the very end. MkDocs collects anchors from the tree (at priority
    5) and would not find `claim-…`, so every link to a claim would count as broken. The anchors
    are in the tree from priority 6 to 4, and real ones take their place in the page.
    """

    def __init__(self, md: Markdown):
        super().__init__(md)
        self._shown: list[etree.Element] = []
        self.hide = _HideAnchors(self)

    def run(self, root: etree.Element) -> None:
        fences = "".join(html for html in self.md.htmlStash.rawHtmlBlocks if "qa-" in html)
        for id in re.findall(r'\bid="((?:claim|statement|source)-[^"]+)"', fences):
            self._shown.append(etree.SubElement(root, "a", {"id": id, "href": f"#{id}"}))

    def remove(self, root: etree.Element) -> None:
        """Take out again what `run` put in."""
        for anchor in self._shown:
            root.remove(anchor)
        self._shown.clear()


class HeadingSubscripts(Treeprocessor):
    """Set `d_k` in headings with an index, once titles and contents have been read off them."""

    def run(self, root: etree.Element) -> None:
        for heading in root.iter():
            if re.fullmatch("h[1-6]", str(heading.tag)) and "_" in (heading.text or ""):
                heading.text = self.md.htmlStash.store(subscripts(heading.text))


class _HideAnchors(Treeprocessor):
    def __init__(self, anchors: Anchors):
        super().__init__(anchors.md)
        self._anchors = anchors

    def run(self, root: etree.Element) -> None:
        self._anchors.remove(root)


def _draw(draw, source: str, language: str, css_class: str, options, md: Markdown, **_) -> str:
    """SuperFences' formatter. Errors go out as the one kind that it does not swallow."""
    try:
        return draw(source)
    except (UnknownEvidence, UnknownMechanism, BadEntry) as problem:
        raise PageError(f"```{language}: {problem}") from problem
    except PageError:
        raise
    except Exception as problem:
        raise PageError(f"```{language} cannot be drawn: {problem!r}") from problem


def makeExtension(**options) -> EvidenceExtension:
    """Python-Markdown's way in."""
    return EvidenceExtension(**options)
