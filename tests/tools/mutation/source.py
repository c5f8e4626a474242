"""A file's text and what stands where in it, and an edit of that text."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, order=True)
class Mutant:
    """One edit: `new` instead of what stands at `start:end` (bytes) of the file."""

    file: str  # relative to the project
    start: int
    end: int
    new: bytes
    line: int  # the first line of the edit, from 1
    before: str  # the lines it touches, as they are …
    after: str  # … and as they become


class Source:
    """A file's text and syntax tree, with spans in bytes, as `ast` counts columns."""

    def __init__(self, text: bytes):
        self.text = text
        self.tree = ast.parse(text)

    @cached_property
    def line_starts(self) -> list[int]:
        """Where each line begins; index 0 is line 1."""
        return [0, *(match.end() for match in re.finditer(rb"\n", self.text))]

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where the node begins and ends."""
        start = self.line_starts[node.lineno - 1] + node.col_offset
        return start, self.line_starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.AST) -> bytes:
        """The node's own text, without parentheses around it."""
        start, end = self.span(node)
        return self.text[start:end]

    def between(
        self, left: ast.AST, right: ast.AST, old: str, new: str
    ) -> Iterator[tuple[int, int, bytes]]:
        """Replace the operator that stands between two nodes."""
        start, end = self.span(left)[1], self.span(right)[0]
        at = self.text.find(old.encode(), start, end)
        if at >= 0:
            yield at, at + len(old), new.encode()

    def shown(self, start: int, end: int, new: bytes) -> tuple[int, str, str]:
        """The line number, and the touched lines before and after, in one line each."""
        first = self.text.rfind(b"\n", 0, start) + 1
        last = self.text.find(b"\n", end)
        last = len(self.text) if last < 0 else last
        before = self.text[first:last]
        after = self.text[first:start] + new + self.text[end:last]
        number = self.text.count(b"\n", 0, start) + 1
        before, after = (" ".join(part.decode().split()) for part in (before, after))
        return number, before, after or "(removed)"
