"""How fast the lab is: `docs/bench.json`, as `make bench` measured it and somebody recorded it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_lab.claims.bounds import Bound
from qa_lab.claims.manifest import BadEntry, Bilingual, bilingual

_KEYS = {"ours", "theirs", "ratio", "goal", "unit", "what", "note"}


@dataclass(frozen=True)
class Result:
    """One comparison: medians of ours and theirs, and the goal for their ratio."""

    name: str
    what: Bilingual
    note: Bilingual
    ours: float
    theirs: float
    unit: str
    ratio: float
    goal: Bound

    @property
    def met(self) -> bool:
        """Whether the ratio is what was aimed at; computed here, and never taken on trust."""
        return self.goal.met_by(self.ratio)


@dataclass(frozen=True)
class Bench:
    """What was measured, when, and on what kind of machine."""

    date: str
    machine: Bilingual
    results: tuple[Result, ...]


def load_bench(path: Path) -> Bench | None:
    """Read the recorded benchmark; None where none was recorded.

    Raises:
        BadEntry: Something is missing, unknown, or not what it should be.
    """
    if not path.exists():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    if set(raw) != {"date", "machine", "results"}:
        raise BadEntry(f"{path.name} needs date, machine and results; it has {', '.join(raw)}.")
    results = tuple(_result(name, entry) for name, entry in raw["results"].items())
    return Bench(raw["date"], _both(raw["machine"], f"{path.name}, machine"), results)


def _both(text: Any, where: str) -> Bilingual:
    """Text in both languages; plain text serves for both, as the name of a processor does."""
    return Bilingual(text, text) if isinstance(text, str) else bilingual(text, where)


def _result(name: str, entry: dict[str, Any]) -> Result:
    where = f"bench.json, {name}"
    said = entry.get("met")
    entry = {key: value for key, value in entry.items() if key != "met"}
    if set(entry) != _KEYS:
        raise BadEntry(f"{where} needs {', '.join(sorted(_KEYS))}; it has {', '.join(entry)}.")
    texts = {key: bilingual(entry[key], f"{where}, {key}") for key in ("what", "note")}
    goal = _goal(entry["goal"], where)
    result = Result(name, **{**entry, **texts, "goal": goal})
    if said not in (None, result.met):
        found = "is" if result.met else "is not"
        raise BadEntry(f"{where}: met is {said}, but {result.ratio} {found} {goal}.")
    return result


def _goal(recorded: Any, where: str) -> Bound:
    try:
        return Bound.read(recorded)
    except (KeyError, TypeError, ValueError):
        raise BadEntry(
            f"{where}: goal is a bound as `Bound.data` writes it, not {recorded!r}."
        ) from None
