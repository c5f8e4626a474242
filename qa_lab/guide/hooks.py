"""What MkDocs is told beyond its configuration: navigation, notebooks, the other language."""

import logging
import re
from pathlib import Path

from markupsafe import escape
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort, PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from qa_lab.claims.manifest import LANGUAGES
from qa_lab.guide.errors import PageError
from qa_lab.guide.library import Library, library
from qa_lab.guide.navigation import UNWRITTEN, navigation
from qa_lab.guide.notebook_pages import slim
from qa_lab.guide.reference import pages
from qa_lab.guide.words import Words

CHATTY = ("jieba", "mkdocs.mkdocs-jupyter", "mkdocs.plugins.mkdocs_jupyter")
EXTENSION = "qa_lab.guide.evidence"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the manifest anew and draw up the navigation from it.

    Raises:
        PluginError: `--quiet` along with `--strict`. MkDocs then overlooks every warning that it
            does not print, broken links among them.
    """
    if config.strict and not logging.getLogger("mkdocs").isEnabledFor(logging.WARNING):
        raise PluginError("--quiet turns --strict off: build without it.")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    library.cache_clear()
    shelf = _library(config)
    config.nav = navigation(shelf.manifest, shelf.lab, _language(config))
    return config


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks behind the published questions, and the pages of the lab's modules.

    Pages of questions that are drafts are held back.
    """
    shelf = _library(config)
    for path, markdown in pages(shelf.lab).items():
        files.append(File.generated(config, path, content=markdown))
    for question in shelf.manifest.questions:
        if question.published:
            for file in _notebook_files(shelf.notebook(question), question.path, config):
                files.append(file)
        elif page := files.get_file_from_path(f"{question.path}.md"):
            page.inclusion = InclusionLevel.DRAFT
    return files


def _notebook_files(recording: Path, path: str, config: MkDocsConfig) -> list[File]:
    """The notebook as a page, and its source beside it for download."""
    if not recording.exists():
        raise PluginError(f"{path} is published, but {recording} is not recorded: make record")
    below_root = str(recording.parents[2])
    where = below_root, config.site_dir, config.use_directory_urls
    page = File(f"notebooks/{path}.ipynb", *where)
    beside = f"notebooks/{path}/{recording.stem}.py"
    source = File(f"notebooks/{path}.py", *where, dest_uri=beside)
    return [page, source]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give the notebooks' pages what a page says in its front matter."""
    if question := _question_of_notebook(page, config):
        language = _language(config)
        title = Words(language)("notebook_title", question.short[language])
        page.meta |= {"title": title, "search": {"exclude": True}, "hide": ["navigation", "toc"]}
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take out of a notebook's page what the site brings itself, and lead back to the answer."""
    if question := _question_of_notebook(page, config):
        return slim(html, question, _language(config))
    return html


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


def on_page_context(context: dict, page: Page, config: MkDocsConfig, nav: Navigation) -> dict:
    """Tell the language switch where this very page is in the other language, if it is."""
    language = _language(config)
    other = next(name for name in LANGUAGES if name != language)
    generated = page.file.abs_src_path is None  # for both languages alike
    page_exists = (Path(config.docs_dir).parent / other / page.file.src_uri).exists()
    if page_exists or generated or _question_of_notebook(page, config):
        path = page.url.removeprefix("./")
        to_the_top = "../" * path.count("/")
        context["other_language"] = to_the_top + {"en": "../", "zh": "zh/"}[other] + path
    return context


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


def on_build_error(error: Exception) -> None:
    """A mistake on a page is told in one sentence, without a trace of the builder's insides."""
    if isinstance(error, PageError):
        raise Abort(str(error))


def _library(config: MkDocsConfig) -> Library:
    options = config.mdx_configs.get(EXTENSION, {})
    return library(Path(options["root"])) if "root" in options else library()


def _language(config: MkDocsConfig) -> str:
    return config.mdx_configs[EXTENSION]["language"]


def _question_of_notebook(page: Page, config: MkDocsConfig):
    if page.file.src_uri.endswith(".ipynb"):
        return _library(config).manifest.question(Path(page.file.src_uri).stem)
    return None
