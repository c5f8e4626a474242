"""The lab as the guide sees it: its rooms, modules and public names, read and never imported.

A room is a package of `qa_lab.transformer` or `qa_lab.experiments`. Its docstring begins with its
title in both languages, `Attention · 注意力.`, and its `__init__` is its public face.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qa_lab.claims.manifest import Bilingual, Manifest, Question

MECHANISMS, MEASURING = "transformer", "experiments"


class UnknownMechanism(LookupError):
    """A question uses a mechanism that the lab does not have."""


@dataclass(frozen=True)
class Module:
    """One file of the lab."""

    dotted: str  # its name for an import
    summary: str  # the first sentence of its docstring
    public: tuple[str, ...]  # its own functions and classes, in the order of the file
    imports: frozenset[str]  # the modules and rooms that it imports from, by their dotted names

    @property
    def name(self) -> str:
        """What it is called in its room."""
        return self.dotted.rpartition(".")[2]

    @property
    def room(self) -> str:
        """The dotted name of its room."""
        return self.dotted.rpartition(".")[0]

    @property
    def path(self) -> str:
        """Where its page lives below the top of the site."""
        return "reference/" + "/".join(self.dotted.split(".")[1:])

    @property
    def top(self) -> str:
        """The way from its page to the top of the site."""
        return "../" * (self.path.count("/") + 1)

    @property
    def is_mechanism(self) -> bool:
        """Whether it is of the Transformer, and not of what measures it."""
        return self.dotted.startswith(f"qa_lab.{MECHANISMS}.")


@dataclass(frozen=True)
class Room:
    """A package of the lab, with its modules in the order in which they build on each other."""

    dotted: str
    title: Bilingual
    modules: tuple[Module, ...]

    @property
    def name(self) -> str:
        """What it is called in its package."""
        return self.dotted.rpartition(".")[2]


class Lab:
    """Every room of `qa_lab.transformer` and `qa_lab.experiments`."""

    def __init__(self, package: Path):
        self.package = package

    @cached_property
    def rooms(self) -> tuple[Room, ...]:
        """All rooms that have a module, each after those that it builds on."""
        rooms = []
        for floor in (MECHANISMS, MEASURING):
            faces = sorted((self.package / floor).rglob("__init__.py"))
            found = {room.dotted: room for face in faces if (room := self._room(face)).modules}
            needs = {
                room.dotted: {
                    other
                    for module in room.modules
                    for name in module.imports
                    for other in (name, name.rpartition(".")[0])
                    if other in found and other != room.dotted
                }
                for room in found.values()
            }
            rooms += [found[name] for name in building_order(needs)]
        return tuple(rooms)

    @cached_property
    def modules(self) -> dict[str, Module]:
        """All modules, by their dotted names."""
        return {module.dotted: module for room in self.rooms for module in room.modules}

    def mechanism(self, name: str) -> tuple[Module, str | None]:
        """The module, and the name in it, of `attention.MultiHeadAttention` or of `attention.lsh`.

        A mechanism is named by its room, as one imports it, or a whole file is.

        Raises:
            UnknownMechanism: There is no such mechanism.
        """
        where, _, what = name.partition(".")
        modules = [m for m in self.modules.values() if m.room == f"qa_lab.{MECHANISMS}.{where}"]
        if not modules:
            raise UnknownMechanism(
                f"There is no room qa_lab/{MECHANISMS}/{where} to have “{name}”."
            )
        for module in modules:
            if what == module.name:
                return module, None
        for module in modules:
            if what in module.public:
                return module, what
        has = ", ".join(public for module in modules for public in (module.name, *module.public))
        raise UnknownMechanism(f"{modules[0].room} has no “{what}”. There are: {has}")

    def link(self, name: str) -> str:
        """Where a mechanism is documented, from the top of the site."""
        module, what = self.mechanism(name)
        return f"{module.path}/#{module.dotted}.{what}" if what else f"{module.path}/"

    def file(self, path: str) -> Module | None:
        """The module in a file, `attention/masks.py` for instance, below the mechanisms."""
        dotted = path.removesuffix(".py").replace("/", ".")
        return self.modules.get(f"qa_lab.{MECHANISMS}.{dotted}")

    def _room(self, face: Path) -> Room:
        dotted = ".".join(("qa_lab", *face.parent.relative_to(self.package).parts))
        modules = {
            f"{dotted}.{path.stem}": _read(path, f"{dotted}.{path.stem}")
            for path in sorted(face.parent.glob("*.py"))
            if not path.stem.startswith("_")
        }
        docstring = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or dotted
        english, _, chinese = docstring.splitlines()[0].rstrip(".").partition(" · ")
        needs = {name: modules.keys() & module.imports for name, module in modules.items()}
        order = tuple(modules[name] for name in building_order(needs))
        return Room(dotted, Bilingual(english, chinese or english), order)


def building_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Put each name after those that it needs; the tallest tower is built first.

    So a reader meets what most of the rest leads up to with all that it stands on before it, and
    what stands alone at the end.
    """

    def below(name: str) -> Iterator[str]:
        for other in sorted(needs[name]):
            yield from below(other)
            yield other

    names = sorted(needs, key=lambda name: (-len(set(below(name))), name))
    return list(dict.fromkeys(other for name in names for other in (*below(name), name)))


def questions_about(manifest: Manifest, module: Module, name: str | None = None) -> list[Question]:
    """The questions that list a mechanism, or its whole module. Without a name: any part of it.

    A question that lists a whole module uses everything in it.
    """
    room = module.room.rpartition(".")[2]
    parts = module.public if name is None else (name,)
    wanted = {f"{room}.{module.name}", *(f"{room}.{part}" for part in parts)}
    return [question for question in manifest.questions if wanted & set(question.mechanisms)]


def first_sentence(docstring: str) -> str:
    """Up to the first full stop that ends a sentence."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s(?=[A-Z`])", paragraph)[0]


def _read(path: Path, dotted: str) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = tuple(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    imports = frozenset(
        node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module
    )
    return Module(dotted, first_sentence(ast.get_docstring(tree) or ""), public, imports)
