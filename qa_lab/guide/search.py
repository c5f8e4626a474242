r"""What the site's search is given: the words of a page, its formulas as text, and synonyms.

Material cuts each page into sections and indexes them. Before it does, `searchable` takes out what
is not for it and writes formulas as one would type them. After, `add_keywords` adds what readers
call the same thing, from `docs/search.yaml`. `theme/assets/qa/search-worker.js` reads queries.
"""

import re
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any

import jieba

from qa_lab.claims.manifest import BadEntry, Manifest, read_yaml
from qa_lab.guide.lab import Lab

_FORMULA = re.compile(
    r'<qa-math\b.*?<annotation encoding="application/x-tex">(.*?)</annotation>.*?</qa-math>',
    re.DOTALL,
)
# As far as Material, too, would leave out: to the first end of a like element.
_EXCLUDED = re.compile(r"<([\w-]+)\b[^>]*\sdata-search-exclude\b.*?</\1>", re.DOTALL)
_INDEX = re.compile(r"(?<=\w)<sub>(\w+)</sub>")


def searchable(html: str) -> str:
    r"""The HTML of a page as the search is to see it: `d_k` and `√d_k` are words in it."""
    html = _FORMULA.sub(lambda formula: escape(plain_formula(unescape(formula[1]))), html)
    return _INDEX.sub(r"_\1", _EXCLUDED.sub("", html))


_SIGNS = {
    r"\top": "T",
    r"\infty": "∞",
    r"\cdot": "·",
    r"\times": "×",
    r"\le": "≤",
    r"\ge": "≥",
    r"\approx": "≈",
    r"\sum": "Σ",
    r"\lVert": "‖",
    r"\rVert": "‖",
    r"\left": "",
    r"\right": "",
    r"\qquad": "",
    r"\quad": "",
}
_COMMAND = re.compile(r"\\[A-Za-z]+")
_FRAME = re.compile(r"\\(?:begin|end)\{\w+\*?\}")
_SPACES = re.compile(r"\\[,;:!\\ ]|[&~\s]")
_BRACES = (
    (re.compile(r"\\[td]?frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))"), r"\1\2/\3\4"),
    (re.compile(r"\\sqrt\s*(?:\{([^{}]*)\}|(\w))"), r"√\1\2"),
    (re.compile(r"\\(?:text|operatorname|math\w+|tilde|hat|underbrace)\*?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(?<![\w}\\])\{([^{}]*)\}|(?<=[_^])\{([^{}]*)\}"), r"\1\2"),
)


def plain_formula(tex: str) -> str:
    r"""TeX as one would type it: `\frac{Q K^\top}{\sqrt{d_k}}` as `Q K^T/√d_k`.

    Good enough to be found and to be recognised. A command that has no sign keeps its name.
    """
    tex = _COMMAND.sub(lambda command: _SIGNS.get(command[0], command[0]), _FRAME.sub("", tex))
    return _unbraced(" ".join(_SPACES.sub(" ", tex).split())).replace("\\", "")


def _unbraced(tex: str) -> str:
    """Without the braces that can be done without, from the innermost on."""
    for pattern, plain in _BRACES:
        tex, found = pattern.subn(plain, tex)
        if found:
            return _unbraced(tex)
    return tex


@dataclass(frozen=True)
class Vocabulary:
    """What readers type when they mean what a page calls otherwise."""

    synonyms: tuple[tuple[str, ...], ...]  # names of one thing
    keywords: dict[str, tuple[str, ...]]  # of a question's page, by its slug

    @property
    def chinese(self) -> set[str]:
        """The Chinese words, which are to be kept whole."""
        everything = [*self.synonyms, *self.keywords.values()]
        return {word for words in everything for word in words if re.fullmatch(r"[一-鿿]+", word)}

    def of_title(self, title: str) -> list[str]:
        """All names of whatever a title names."""
        said = _spoken(title)
        return [word for names in self.synonyms if _any_in(said, names) for word in names]


def load_vocabulary(path: Path, manifest: Manifest) -> Vocabulary:
    """Read and check `docs/search.yaml`; without it there are no synonyms.

    Raises:
        BadEntry: Something is unknown, or stands twice, or alone.
    """
    if not path.exists():
        return Vocabulary((), {})
    raw = read_yaml(path)
    if raw.keys() != {"synonyms", "keywords"}:
        raise BadEntry(f"{path.name} has synonyms and keywords, and not {', '.join(raw)}.")
    synonyms = tuple(tuple(map(str, names)) for names in raw["synonyms"])
    seen: set[str] = set()
    for names in synonyms:
        spoken = [_spoken(name) for name in names]
        if len(names) < 2 or len(set(spoken)) < len(spoken) or seen & set(spoken):
            raise BadEntry(f"{path.name}: {names} has one name only, or one that stands twice.")
        seen |= set(spoken)
    for slug in raw["keywords"]:
        manifest.question(slug)
    keywords = {slug: tuple(map(str, words)) for slug, words in raw["keywords"].items()}
    return Vocabulary(synonyms, keywords)


@cache
def _spoken(text: str) -> str:
    """The words alone, in small letters: ` kv cache ` of `KVCache` and of `kv_caches`."""
    text = re.sub(r"<[^>]+>|\u200b", "", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)  # CamelCase
    text = re.sub(r"[一-鿿]", r" \g<0> ", text)
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(re.sub('(?<=..)s$', '', word) for word in words)} "


def _any_in(said: str, names: tuple[str, ...]) -> bool:
    return any(_spoken(name) in said for name in names)


def add_keywords(
    entries: list[dict[str, Any]], words: Vocabulary, manifest: Manifest, lab: Lab
) -> None:
    """Give the index's sections the field `keywords`, which is searched and never shown."""
    pages = {f"{q.path}/": (q.short, words.keywords.get(q.slug, ())) for q in manifest.published}
    for room in lab.rooms:
        pages |= {f"{module.path}/": (room.title, ()) for module in room.modules}
    for entry in entries:
        title, found = entry["title"], []
        if entry["location"] in pages:
            short, more = pages[entry["location"]]
            title = f"{title} / {short.en} / {short.zh}"
            found = [short.en, *jieba.cut(short.zh), *more]
        if found := dict.fromkeys([*words.of_title(title), *found]):
            entry["keywords"] = "\u200b".join(found)  # the sign at which Material parts Chinese
