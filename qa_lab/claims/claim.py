"""The claim: a sentence, a measurement, a bound, and a control that must miss the bound.

One claim is one notebook cell. `prove` runs the measurement, runs it again with one thing
broken, and returns a `Claim` only if the first met the bound everywhere and the second nowhere.
There is no other way to make one, so a verdict that was not computed cannot be shown.
"""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any

from qa_lab.claims.bounds import Bound
from qa_lab.claims.mime import CLAIM
from qa_lab.claims.sample import Sample

STATEMENT_VERDICTS = ("holds", "conditional", "refuted")
SEEDS = 5  # "over at least five seeds"; more where a claim asks for more
FIRST_SEED_VARIABLE = "QA_LAB_FIRST_SEED"  # a replication run sets this and touches no notebook


class ClaimFailed(AssertionError):
    """A measured value missed the bound."""


class ControlPassed(AssertionError):
    """A control value met the bound: the measurement cannot tell the mechanism from its ruin."""


@dataclass(frozen=True)
class Control:
    """The one thing that is broken: in words, and as arguments to the same measurement."""

    en: str
    zh: str
    changes: Mapping[str, Any]


def broken(en: str, zh: str, **changes: Any) -> Control:
    """Name what the control breaks (`en`, `zh`) and how: arguments for `measure`."""
    if not changes:
        raise ValueError(
            f"The control “{en}” changes nothing: name an argument of the measurement."
        )
    return Control(en, zh, MappingProxyType(changes))


@dataclass(frozen=True)
class Claim:
    """A proved claim. Made by `prove` alone; shows itself in a notebook."""

    id: str
    en: str
    zh: str
    of: tuple[str, str]
    bound: Bound
    control: Control
    settles: Mapping[str, str]
    measured: Sample
    control_measured: Sample
    seeds: tuple[int, ...]
    tolerance: float

    def data(self) -> dict[str, Any]:
        """What a re-run must reproduce to the letter: everything but the numbers."""
        return {
            "id": self.id,
            "en": self.en,
            "zh": self.zh,
            "of": {"en": self.of[0], "zh": self.of[1]},
            "bound": self.bound.data(),
            "control": {"en": self.control.en, "zh": self.control.zh},
            "verdict": "holds",
            "control_verdict": "missed",
            "settles": dict(self.settles),
            "n": len(self.measured.values),
        }

    def numbers(self) -> dict[str, Any]:
        """What a re-run must reproduce within the tolerance."""
        return {
            "measured": self.measured.summary(),
            "control": self.control_measured.summary(),
            "seeds": list(self.seeds),
            "scale": self.bound.scale,
            "tolerance": self.tolerance,
        }

    def __str__(self) -> str:
        changed = ", ".join(f"{k}={_name(v)}" for k, v in self.control.changes.items())
        return (
            f"{self.id}: holds\n"
            f"  {self.en}\n"
            f"  bound    {self.of[0]} {self.bound}, all {len(self.measured.values)} values\n"
            f"  control  {self.control.en} ({changed}): missed, as it must"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"text/plain": str(self), "text/html": self._html(), CLAIM: self.data()}
        return data, {CLAIM: self.numbers()}

    def _html(self) -> str:
        measured, control = self.measured.summary(), self.control_measured.summary()
        rows = (("measured", measured), (f"control: {self.control.en}", control))
        body = "".join(
            f"<tr><th>{escape(name)}</th>"
            f"<td>{s['min']:.3g}</td><td>{s['median']:.3g}</td><td>{s['max']:.3g}</td></tr>"
            for name, s in rows
        )
        return (
            f"<p><b>{escape(self.en)}</b><br>{escape(self.zh)}</p>"
            f"<table><tr><th>{escape(self.of[0])} {escape(str(self.bound))}</th>"
            f"<th>min</th><th>median</th><th>max</th></tr>{body}</table>"
        )


def prove(
    id: str,
    *,
    en: str,
    zh: str,
    of: tuple[str, str],
    measure: Callable[..., Any],
    bound: Bound,
    control: Control,
    settles: Mapping[str, str] | None = None,
    seeds: int = SEEDS,
    tolerance: float = 0.02,
) -> Claim:
    """Measure, break, measure again; return the claim or raise.

    Args:
        id: Kebab-case, unique in the whole guide.
        en: The sentence that is proved, in English.
        zh: The same sentence in Chinese.
        of: What the number is, with its unit, in both languages.
        measure: `measure(seed, **changes)` gives a number, or many in any nesting of lists. A
            measurement that draws nothing at random takes no `seed` and is made once.
        bound: Every measured value must meet it, for every seed.
        control: What is broken for the control run: the same `measure`, other arguments. Every
            value of the control must miss the bound.
        settles: The statements of the audit that this decides, each with
            "holds", "conditional" or "refuted".
        seeds: How many seeds; at least 5.
        tolerance: How closely a re-run must reproduce the recorded minimum, median and maximum,
            relative to the larger of the recorded number and the bound's scale. Dimensionless.

    Raises:
        ClaimFailed: A measured value misses the bound.
        ControlPassed: A control value meets it.
        NotFinite: A measurement is NaN, infinite or empty.
        ValueError: The claim is not well formed.
    """
    settles = dict(settles or {})
    _check_form(id, en, zh, of, measure, control, settles, seeds)
    chosen = run_seeds(seeds) if _is_random(measure) else ()
    measured = _sample(id, measure, chosen, {})
    if missed := [v for v in measured.values if not bound.met_by(v)]:
        raise ClaimFailed(
            f"{id}: {of[0]} must be {bound}, but {len(missed)} of {len(measured.values)} values "
            f"are not; the first is {missed[0]:.6g}. Either the claim is wrong or the mechanism is."
        )
    ruined = _sample(f"{id} (control)", measure, chosen, dict(control.changes))
    if met := [v for v in ruined.values if bound.met_by(v)]:
        raise ControlPassed(
            f"{id}: with “{control.en}” {of[0]} should no longer be {bound}, but "
            f"{len(met)} of {len(ruined.values)} values still are; the first is {met[0]:.6g}. "
            f"The measurement does not depend on what the claim is about."
        )
    return Claim(
        id, en, zh, of, bound, control, settles, measured, ruined, tuple(chosen), tolerance
    )


def run_seeds(count: int = SEEDS) -> range:
    """The seeds of this run: 0, 1, 2 … or, in a replication run, from QA_LAB_FIRST_SEED on."""
    first = os.environ.get(FIRST_SEED_VARIABLE, "0")
    if not first.isdecimal():
        raise ValueError(f"{FIRST_SEED_VARIABLE} must be a whole number ≥ 0, not {first!r}.")
    return range(int(first), int(first) + count)


def _sample(id: str, measure, seeds, changes) -> Sample:
    """Every value of `measure` over the seeds; an error says of which claim."""
    from qa_lab.claims import seeded  # brings torch, and who only reads claims does without

    try:
        return seeded.sample(measure, seeds, changes)
    except Exception as problem:
        problem.add_note(f"while measuring the claim {id}")
        raise


def _is_random(measure) -> bool:
    return "seed" in inspect.signature(measure).parameters


def _check_form(id, en, zh, of, measure, control, settles, seeds) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id):
        raise ValueError(f"A claim's id is kebab-case (variance-grows-with-dk), not {id!r}.")
    for what, english, chinese in (("sentence", en, zh), ("control", control.en, control.zh)):
        if not english.strip() or not re.search(r"[\u4e00-\u9fff]", chinese):
            raise ValueError(f"{id}: the {what} must be given in English and in Chinese.")
    if len(of) != 2 or not all(name.strip() for name in of):
        raise ValueError(f"{id}: `of` names what is measured in English and in Chinese.")
    if unknown := {v for v in settles.values()} - set(STATEMENT_VERDICTS):
        raise ValueError(f"{id}: a statement is settled as {STATEMENT_VERDICTS}, not {unknown}.")
    if seeds < SEEDS:
        raise ValueError(f"{id}: {seeds} seeds are too few; a claim needs at least {SEEDS}.")
    parameters = inspect.signature(measure).parameters
    for name, value in control.changes.items():
        if name not in parameters:
            raise ValueError(f"{id}: the control changes {name!r}, which `measure` does not take.")
        if _same(parameters[name].default, value):
            raise ValueError(f"{id}: the control sets {name} to what it is anyway.")


def _same(a, b) -> bool:
    """Equal, where asking is cheap and has a plain answer (tensors and the like do not)."""
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str, bool)) and a == b)


def _name(value: Any) -> str:
    """A short name for what the control passes: the same text in every run."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_name, value)) + ")"
    if hasattr(value, "shape"):
        return f"{type(value).__name__.lower()}{list(value.shape)}"
    if isinstance(value, (int, str, type(None))):
        return str(value)
    return getattr(value, "__name__", type(value).__name__)
