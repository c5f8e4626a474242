"""The lab as the guide sees it: its rooms, modules and public names, read and never imported.

A room is a package of `qa_lab.transformer` or `qa_lab.experiments`. Its docstring begins with its
title in both languages, `Attention · 注意力.`, and its `__init__` is its face: what it imports from
the room's modules is what one imports from the room.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import griffe

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
    imports: frozenset[str]  # all that it imports, by dotted names

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
    about: str  # what the room holds, in a sentence or two
    modules: tuple[Module, ...]
    face: Mapping[str, str]  # each name that one imports from the room, and the module it is of

    @property
    def name(self) -> str:
        """What it is called in its package."""
        return self.dotted.rpartition(".")[2]


class Lab:
    """Every room of `qa_lab.transformer` and `qa_lab.experiments`."""

    def __init__(self, package: griffe.Module):
        self._package = package

    @classmethod
    def below(cls, root: Path) -> "Lab":
        """Read the package `qa_lab` in a folder."""
        loader = griffe.GriffeLoader(search_paths=[root], allow_inspection=False)
        return cls(loader.load("qa_lab", try_relative_path=False))

    @cached_property
    def rooms(self) -> tuple[Room, ...]:
        """All rooms that have a module, each after those that it builds on."""
        rooms = []
        for name in (MECHANISMS, MEASURING):
            floor = self._package.members.get(name)
            found = {room.dotted: room for room in _rooms(floor)} if floor else {}
            imports = {
                room.dotted: [name for module in room.modules for name in module.imports]
                for room in found.values()
            }
            rooms += [found[name] for name in building_order(_needs(imports))]
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
        dotted = f"qa_lab.{MECHANISMS}.{where}"
        [room] = [room for room in self.rooms if room.dotted == dotted] or [None]
        if room is None:
            raise UnknownMechanism(f"There is no room {dotted} to have “{name}”.")
        if whole := self.modules.get(f"{dotted}.{what}"):
            return whole, None
        if what in room.face:
            return self.modules[room.face[what]], what
        has = ", ".join([*(module.name for module in room.modules), *room.face])
        raise UnknownMechanism(f"{dotted} has no “{what}”. There are: {has}")

    def link(self, name: str) -> str:
        """Where a mechanism is documented, from the top of the site."""
        module, what = self.mechanism(name)
        return f"{module.path}/#{module.dotted}.{what}" if what else f"{module.path}/"

    def file(self, path: str) -> Module | None:
        """The module in a file, `attention/masks.py` for instance, below the mechanisms."""
        dotted = path.removesuffix(".py").replace("/", ".")
        return self.modules.get(f"qa_lab.{MECHANISMS}.{dotted}")


def _rooms(package: griffe.Module) -> Iterator[Room]:
    """A package of modules as a room, and the rooms within it."""
    modules = [m for m in package.modules.values() if not m.name.startswith("_")]
    within = {module.path: _module(module) for module in modules if not module.is_init_module}
    if within:
        needs = _needs({module.dotted: module.imports for module in within.values()})
        title, _, about = _docstring(package).partition("\n\n")
        english, _, chinese = title.rstrip(".").partition(" · ")
        yield Room(
            dotted=package.path,
            title=Bilingual(english, chinese or english),
            about=" ".join(about.split()),
            modules=tuple(within[name] for name in building_order(needs)),
            face={
                name: of
                for name, path in package.imports.items()
                if (of := path.rpartition(".")[0]) in within and name in within[of].public
            },
        )
    for module in modules:
        if module.is_init_module:
            yield from _rooms(module)


def _module(module: griffe.Module) -> Module:
    members = [member for member in module.members.values() if not member.is_alias]
    return Module(
        dotted=module.path,
        summary=first_sentence(_docstring(module)),
        public=tuple(
            member.name
            for member in members
            if (member.is_function or member.is_class) and not member.name.startswith("_")
        ),
        imports=frozenset(module.imports.values()),
    )


def _docstring(module: griffe.Module) -> str:
    return module.docstring.value if module.docstring else module.path


def _needs(imports: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Which of these modules, or rooms, each imports from, given all that it imports."""

    def home(name: str) -> str:
        while name and name not in imports:
            name = name.rpartition(".")[0]
        return name

    return {dotted: set(map(home, names)) - {"", dotted} for dotted, names in imports.items()}


def building_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Put each name after those that it needs; the tallest tower is built first.

    So a reader meets what most of the rest leads up to with all that it stands on before it, and
    what stands alone at the end.
    """

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset().union(needs[name], *map(below, needs[name]))

    order: dict[str, None] = {}

    def build(name: str) -> None:
        if name not in order:
            for other in sorted(needs[name]):
                build(other)
            order[name] = None

    for name in sorted(needs, key=lambda name: (-len(below(name)), name)):
        build(name)
    return list(order)


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
