"""What MkDocs is told beyond its configuration: navigation, notebooks, search, languages."""

import logging
import re
from pathlib import Path

import jieba
from markupsafe import escape
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort, PluginError
from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from qa_lab.claims.manifest import LANGUAGES, Question
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.errors import PageError
from qa_lab.guide.library import Library, library
from qa_lab.guide.navigation import UNWRITTEN, navigation
from qa_lab.guide.notebook_pages import markdown
from qa_lab.guide.reference import pages
from qa_lab.guide.search import add_keywords, searchable
from qa_lab.guide.words import Words

EXTENSION = "qa_lab.guide.evidence"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the manifest anew and draw up the navigation from it.

    Raises:
        PluginError: `--quiet` along with `--strict`. MkDocs then overlooks every warning that it
            does not print, broken links among them.
    """
    if config.strict and not logging.getLogger("mkdocs").isEnabledFor(logging.WARNING):
        raise PluginError("--quiet turns --strict off: build without it.")
    logging.getLogger("jieba").setLevel(logging.WARNING)  # it tells of its dictionary
    library.cache_clear()
    shelf = _library(config)
    for word in shelf.vocabulary.chinese:
        jieba.add_word(word)
    config.nav = navigation(shelf.manifest, shelf.lab, _language(config))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks behind the published questions, and the pages of the lab's modules.

    Pages of questions that are drafts are held back.
    """
    shelf = _library(config)
    for path, content in pages(shelf.lab).items():
        files.append(File.generated(config, path, content=content))
    for question in shelf.manifest.questions:
        if question.published:
            for file in _notebook_files(shelf, question, config):
                files.append(file)
        elif page := files.get_file_from_path(f"{question.path}.md"):
            page.inclusion = InclusionLevel.DRAFT
    return files


def _notebook_files(shelf: Library, question: Question, config: MkDocsConfig) -> list[File]:
    """The notebook as a page, and what can be downloaded from it beside it."""
    content = markdown(shelf.recording(question), question, _language(config))
    beside = [
        File(
            f"notebooks/{question.path}{suffix}",
            str(shelf.root),
            config.site_dir,
            config.use_directory_urls,
            dest_uri=f"notebooks/{question.path}/{question.slug}{suffix}",
        )
        for suffix in (".py", ".ipynb")
    ]
    return [File.generated(config, f"notebooks/{question.path}.md", content=content), *beside]


def on_env(env, config: MkDocsConfig, files: Files):
    """Every claim of a published question has its card on the question's page."""
    shelf = _library(config)
    for question in shelf.manifest.published:
        file = files.get_file_from_path(f"{question.path}.md")
        if file is None:
            raise PluginError(
                f"{question.path} is published, but {config.docs_dir} lacks its page."
            )
        anchors = file.page.present_anchor_ids
        for claim in shelf.evidence.of(question.slug):
            if f"claim-{claim.id}" not in anchors:
                raise PluginError(f"{config.docs_dir}/{question.path}.md: no card for {claim.id}.")
    return env


def _say_where_the_other_language_is(
    context: dict, page: Page, config: MkDocsConfig, nav: Navigation
) -> dict:
    """Tell the language switch where this very page is in the other language, if it is."""
    language = _language(config)
    other = next(name for name in LANGUAGES if name != language)
    generated = page.file.abs_src_path is None  # for both languages alike
    page_exists = (Path(config.docs_dir).parent / other / page.file.src_uri).exists()
    if page_exists or generated:
        path = page.url.removeprefix("./")
        to_the_top = "../" * path.count("/")
        context["other_language"] = to_the_top + {"en": "../", "zh": "zh/"}[other] + path
    return context


@event_priority(100)  # before the search plugin reads the page
def _show_what_is_searched(context: dict, page: Page, **_) -> None:
    """Give the search the page's words, with formulas as text."""
    context["qa_whole"] = page.content
    page.content = searchable(page.content)


@event_priority(-100)  # after it
def _show_the_page_again(context: dict, page: Page, **_) -> None:
    page.content = context.pop("qa_whole")


on_page_context = CombinedEvent(
    _say_where_the_other_language_is, _show_what_is_searched, _show_the_page_again
)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """A question that is not written yet stands in the navigation as text, not as a link."""
    note = escape(Words(_language(config))("unwritten"))
    return re.sub(
        rf'<a href="{UNWRITTEN}:[^"]*" class="md-nav__link">(.*?)</a>',
        rf'<span class="md-nav__link qa-unwritten" title="{note}">\1'
        rf'<span class="qa-sr"> ({note})</span></span>',
        output,
        flags=re.DOTALL,
    )


@event_priority(100)  # before the search plugin writes its index
def on_post_build(config: MkDocsConfig) -> None:
    """Let a page be found by what else readers call its subject."""
    shelf = _library(config)
    entries = config.plugins["material/search"].search_index.entries
    add_keywords(entries, shelf.vocabulary, shelf.manifest, shelf.lab)


def on_build_error(error: Exception) -> None:
    """A mistake on a page is told in one sentence, without a trace of the builder's insides."""
    if isinstance(error, PageError):
        raise Abort(str(error))


def _library(config: MkDocsConfig) -> Library:
    return library(Path(config.mdx_configs[EXTENSION].get("root", ROOT)))


def _language(config: MkDocsConfig) -> str:
    return config.mdx_configs[EXTENSION]["language"]
