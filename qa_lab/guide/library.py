"""All that pages may refer to, loaded once: questions, statements, claims, figures, the lab."""

from functools import cached_property, lru_cache
from pathlib import Path

from nbformat import NotebookNode

from qa_lab.claims.audit import Audit, load_audit
from qa_lab.claims.evidence import Evidence, RecordedClaim
from qa_lab.claims.manifest import Manifest, Question, load_manifest
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.bench import Bench, load_bench
from qa_lab.guide.broken import Broken, load_broken
from qa_lab.guide.errors import PageError
from qa_lab.guide.lab import Lab
from qa_lab.guide.search import Vocabulary, load_vocabulary


class Library:
    """The manifest, the audit and the evidence below one root, and how they belong together."""

    def __init__(self, root: Path = ROOT):
        self.root = root

    @cached_property
    def manifest(self) -> Manifest:
        return load_manifest(self.root / "docs" / "questions.yaml")

    @cached_property
    def audit(self) -> Audit:
        return load_audit(self.manifest, self.root / "docs" / "statements.yaml")

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(path for path in sorted((self.root / "notebooks").glob("*/*.ipynb")))

    @cached_property
    def claims(self) -> tuple[RecordedClaim, ...]:
        """The claims that readers can see: those of published questions, in reading order."""
        return tuple(
            claim
            for question in self.manifest.published
            for claim in self.evidence.of(question.slug)
        )

    @cached_property
    def lab(self) -> Lab:
        return Lab.below(self.root)

    @cached_property
    def bench(self) -> Bench | None:
        return load_bench(self.root / "docs" / "bench.json")

    @cached_property
    def broken(self) -> Broken:
        return load_broken(self.root / "docs" / "falsify.json")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return load_vocabulary(self.root / "docs" / "search.yaml", self.manifest)

    def notebook(self, question: Question) -> Path:
        """The recorded notebook behind a question."""
        return self.root / "notebooks" / f"{question.path}.ipynb"

    def recording(self, question: Question) -> NotebookNode:
        """That notebook.

        Raises:
            PageError: There is none.
        """
        if question.slug not in self.evidence.recordings:
            raise PageError(f"{self.notebook(question)} is not recorded: make record")
        return self.evidence.recordings[question.slug]

    @cached_property
    def cells(self) -> dict[str, NotebookNode]:
        """The cells of all notebooks, by id."""
        notebooks = self.evidence.recordings.values()
        return {cell.id: cell for notebook in notebooks for cell in notebook.cells}

    def question_of(self, claim: RecordedClaim) -> Question:
        """The question whose notebook proves the claim."""
        return self.manifest.question(claim.notebook)


@lru_cache
def library(root: Path) -> Library:
    """One library for all the pages of a build: reading everything again would take its time."""
    return Library(root)
