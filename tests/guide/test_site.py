"""The built site: nothing missing, nothing from elsewhere, both languages complete."""

import posixpath
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from qa_lab.claims.manifest import LANGUAGES, load_manifest
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.library import library
from tests.guide.conftest import run


class Page(HTMLParser):
    """What the tests want to know of one HTML page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.language: str | None = None
        self.switch: str | None = None
        self.twice: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "html":
            self.language = given.get("lang")
        if id := given.get("id"):
            self.twice |= {id} & self.ids
            self.ids.add(id)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            if "qa-language" in (given.get("class") or ""):
                self.switch = given["href"]
        elif tag == "link" and "href" in given:
            self.loads.append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    """Every page of the site by its path from the top."""
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_published_question_has_page_and_notebook_in_both_languages(site):
    published = load_manifest().published
    assert published
    for question in published:
        for language in ("", "zh/"):
            assert (site / f"{language}{question.path}/index.html").exists()
            notebook = site / f"{language}notebooks/{question.path}"
            assert {"index.html", f"{question.slug}.py", f"{question.slug}.ipynb"} == {
                path.name for path in notebook.iterdir()
            }


def test_every_page_names_its_language(pages):
    for path, page in pages.items():
        assert page.language == ("zh" if path.startswith("zh/") else "en"), path


def test_the_language_switch_stays_on_the_page(pages):
    for path, page in pages.items():
        if path.endswith("404.html"):
            continue
        other = path.removeprefix("zh/") if path.startswith("zh/") else f"zh/{path}"
        assert page.switch, path
        assert resolve(path, page.switch) == other
        assert other in pages


def test_internal_links_and_anchors_resolve(site, pages):
    broken = []
    for path, page in pages.items():
        if path.endswith("404.html"):  # served from anywhere, so its links begin at the root
            continue
        for link in {*page.links, *page.loads}:
            if urlsplit(link).scheme:
                continue
            target = resolve(path, link)
            anchor = unquote(urlsplit(link).fragment)
            if not (site / target).is_file():
                broken.append(f"{path}: {link} leads to {target}, which is not there")
            elif anchor and anchor not in pages[target].ids | {"__codelineno"}:
                broken.append(f"{path}: {link} has no such anchor")
    assert not broken, "\n".join(broken[:20])


def resolve(page: str, link: str) -> str:
    """The file that a link on a page leads to, as a path from the top of the site."""
    path = unquote(urlsplit(link).path)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    is_folder = path.endswith(("/", "."))
    return posixpath.normpath(posixpath.join(target, "index.html")) if is_folder else target


def test_ids_are_used_once_a_page(pages):
    assert {path: page.twice for path, page in pages.items() if page.twice} == {}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert not [load for load in page.loads if urlsplit(load).netloc], path
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*", text), sheet
    for script in (site / "assets" / "qa").glob("*.js"):
        assert "//" not in re.sub(r"^\s*//.*$", "", script.read_text("utf-8"), flags=re.MULTILINE)


def test_a_notebooks_page_shows_every_cell_and_what_it_put_out(site, pages):
    shelf = library(ROOT)
    for question in shelf.manifest.published:
        cells = shelf.recording(question).cells
        shown = (site / f"notebooks/{question.path}/index.html").read_text(encoding="utf-8")
        article = shown.split("<article", 1)[1].split("</article>")[0]
        assert article.count('<div class="highlight">') == sum(
            cell.cell_type == "code" for cell in cells
        )
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        assert article.count('<div class="qa-output') == len(outputs) > 0
        assert article.count('<svg role="img" aria-label="figure ') == sum(
            "image/svg+xml" in output.data for output in outputs
        )
        assert f'<a href="../../../{question.path}/">' in article
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings = re.findall(r"^#+ ([^`_$*\n]+)$", prose, re.MULTILINE)
        assert headings
        assert [title for title in headings if title not in unescape(article)] == []


def test_both_languages_have_the_same_pages():
    english, chinese = (
        {path.relative_to(ROOT / "docs" / name) for path in (ROOT / "docs" / name).rglob("*.md")}
        for name in LANGUAGES
    )
    assert english == chinese


def test_quiet_builds_are_refused(tmp_path):
    done = run("mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path))
    assert done.returncode == 1
    assert "--quiet turns --strict off" in done.stderr
