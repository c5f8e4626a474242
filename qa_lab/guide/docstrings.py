"""A Griffe extension: our docstrings, as mkdocstrings and the templates beside want them.

Griffe reads the lab's files and imports none. What our form of docstring has beyond Google's is
turned into Markdown here: formulas, “Paper:” and “Departs:”, names of the lab in backticks. What a
template needs to know about an object is put where it finds it, in `extra["qa"]`.
"""

import ast
import re
from collections.abc import Iterator
from os.path import dirname, relpath
from textwrap import dedent

import griffe

from qa_lab.claims.manifest import LANGUAGES
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide import code
from qa_lab.guide.errors import PageError
from qa_lab.guide.lab import Lab, questions_about
from qa_lab.guide.library import library
from qa_lab.guide.maths import TexError, render
from qa_lab.guide.numbers import subscripts
from qa_lab.guide.plain_tex import plain_tex
from qa_lab.guide.words import Words

_PARTS = re.compile(
    r"""
      ^(?P<indent>[ ]*)\$\$(?P<tex>.+?)\$\$[ ]*$
    | `(?:(?P<name>[A-Za-z_][\w.]*)(?![\w.]))?[^`\n]*`
    | (?P<bracket>[\]\[])(?=[\[*])
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_LABELLED = re.compile(r"^(Paper|Departs): (.+(?:\n(?!Paper:|Departs:)[^\n]+)*)$", re.MULTILINE)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_FIELD = re.compile(r"^\s*(?P<name>\w+):[^#\n]*?(?:#\s*(?P<comment>.+))?$", re.MULTILINE)
_ARRAYS = {"Bool", "Complex", "Float", "Inexact", "Int", "Integer", "Num", "Real", "Shaped", "UInt"}
WORDS = {language: Words(language) for language in LANGUAGES}


class LabDocstrings(griffe.Extension):
    """Prepares every public object of the lab for its page."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        """Called once, when the whole package has been read."""
        manifest, lab = library(ROOT).manifest, Lab(pkg)
        modules = [pkg.modules_collection[dotted] for dotted in lab.modules]
        for module in modules:
            for cls in module.classes.values():
                if not cls.is_alias:
                    _list_fields(cls)
        names = Names(modules)
        for module in modules:
            read = lab.modules[module.path]
            for obj in _public(module):
                obj.extra["qa"] |= {"words": WORDS, "index": subscripts, "top": read.top}
                if read.is_mechanism:
                    part = obj.path.removeprefix(f"{module.path}.").split(".")[0]
                    name = None if obj is module else part
                    obj.extra["qa"]["questions"] = questions_about(manifest, read, name)
                if obj.is_function:
                    for annotation in (obj.returns, *(each.annotation for each in obj.parameters)):
                        _quote_shapes(annotation)
                if obj.parent is module and (obj.is_function or obj.is_class):
                    obj.extra["qa"]["source"] = code.python(without_docstrings(obj.source))
                if obj.docstring:
                    obj.docstring.value = _markdown(obj, names)


class Names:
    """What a name in backticks may mean: the documented names of the lab."""

    def __init__(self, modules: list[griffe.Module]):
        self._pages = {module.name: module.path for module in modules}
        self._by_name: dict[str, list[griffe.Object]] = {}
        for module in modules:
            for obj in _public(module):
                if obj.docstring and not obj.is_module:
                    name = obj.path.removeprefix(f"{module.path}.")
                    self._by_name.setdefault(name, []).append(obj)

    def link(self, code: str, name: str, seen_from: griffe.Object) -> str:
        """`code` as a link to what `name` means there, if that is a name of the lab and but one."""
        found = self._by_name.get(name, [])
        here = [obj for obj in found if obj.module is seen_from.module]
        [only] = here or (found if len(found) == 1 else [None])
        if name in {parameter.name for parameter in getattr(seen_from, "parameters", ())}:
            return code
        if only and only is not seen_from:
            return f"[{code}][{only.path}]"
        # Of the modules only those with a name that is no common word.
        is_module = "_" in name and name in self._pages and code == f"`{name}`"
        if only or not is_module:
            return code
        page, here = (p.replace(".", "/") for p in (self._pages[name], seen_from.module.path))
        return f"[{code}]({relpath(page, dirname(here))}.md)"


def _public(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if not member.is_alias and member.is_public:
            yield from _public(member)


def _markdown(obj: griffe.Object, names: Names) -> str:
    """The docstring with our own form turned into Markdown."""

    def formula(match: re.Match) -> str:
        indent, tex = match["indent"], plain_tex(match["tex"])
        try:
            render(tex, display=True)
        except TexError as problem:
            raise PageError(f"{obj.path}: {problem}") from None
        return f"\n{indent}$$\n{indent}{tex}\n{indent}$$\n"

    def part(match: re.Match) -> str:
        if match["tex"]:
            return formula(match)
        if match["bracket"]:
            return match["bracket"] + "\\"  # [batch][length] is no link, [*batch] no emphasis
        return names.link(match[0], match["name"], obj) if match["name"] else match[0]

    def labelled(match: re.Match) -> str:
        return f"{match[1]}\n:   {' '.join(match[2].split())}\n"

    text = _PARTS.sub(part, obj.docstring.value)
    text = _LABELLED.sub(labelled, text)
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _quote_shapes(annotation: griffe.Expr | str | None) -> None:
    """Put back the quotes of shapes such as "{rows}+1", which Griffe reads as expressions."""
    if not isinstance(annotation, griffe.Expr) or isinstance(annotation, griffe.ExprName):
        return
    if isinstance(annotation, griffe.ExprSubscript):
        shape = getattr(annotation.slice, "elements", [])
        if str(annotation.left) in _ARRAYS and len(shape) == 2 and not isinstance(shape[1], str):
            shape[1] = f'"{shape[1]}"'
    for part in annotation.iterate(flat=False):
        _quote_shapes(part)


def _list_fields(cls: griffe.Class) -> None:
    """Give a record, a dataclass or a NamedTuple, the section on its fields.

    What a field is stands under it, or in a comment behind it; or in the docstring, which is then
    left as it is.
    """
    decorators = " ".join(str(decorator.value) for decorator in cls.decorators)
    if "dataclass" not in decorators and "NamedTuple" not in map(str, cls.bases):
        return
    comments = {match["name"]: match["comment"] for match in _FIELD.finditer(cls.source)}
    fields = []
    for name, member in cls.members.items():
        if member.is_attribute and member.annotation and member.is_public:
            about = member.docstring.value if member.docstring else comments.get(name)
            fields.append(f"    {name}: {' '.join((about or '').split())}")
            member.public = False  # listed, and not shown again by itself
    told = cls.docstring and re.search(r"^(Args|Attributes):", cls.docstring.value, re.MULTILINE)
    if fields and cls.docstring and not told:
        cls.docstring.value += "\n\nAttributes:\n" + "\n".join(fields)


def without_docstrings(source: str) -> str:
    """The code alone: what the docstring says stands above it on the page."""
    source = dedent(source)
    lines = source.splitlines()
    for node in reversed(list(ast.walk(ast.parse(source)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            first = node.body[0]
            if len(node.body) > 1:
                after = first.end_lineno
                while not lines[after].strip():
                    after += 1
                del lines[first.lineno - 1 : after]
    return "\n".join(lines)
