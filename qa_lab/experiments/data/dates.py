"""Dates as people write them, in English and in Chinese: a small real translation task.

    Wednesday, March 3rd, 2021   2021-03-03
    二〇二一年三月三日             2021-03-03

The answer to every source is known exactly: no form that is used here can be read as two dates.
Numbers with slashes are day/month/year, as in Britain; the American order is not among the forms.
A year in two digits is one of 1969 to 2068, the hundred years that POSIX reads them as.
"""

from collections.abc import Callable, Mapping
from datetime import date

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from qa_lab.experiments.data.characters import Characters
from qa_lab.experiments.data.number_words import chinese
from qa_lab.experiments.data.tasks import Pairs, at_least

FIRST = date(1969, 1, 1)
LAST = date(2068, 12, 31)

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Form = Callable[[date], str]
"""One way to write a date."""


def _month(day: date) -> str:
    return MONTHS[day.month - 1]


def _weekday(day: date) -> str:
    return WEEKDAYS[day.weekday()]


def _ordinal(number: int) -> str:
    """1 -> 1st, 2 -> 2nd, 3 -> 3rd, 11 -> 11th, 22 -> 22nd."""
    if number in (11, 12, 13):
        return f"{number}th"
    return f"{number}{('th', 'st', 'nd', 'rd', *['th'] * 6)[number % 10]}"


def _year_zh(day: date) -> str:
    return "".join("〇一二三四五六七八九"[int(digit)] for digit in str(day.year))


def _weekday_zh(day: date) -> str:
    return "一二三四五六日"[day.weekday()]


ENGLISH: Mapping[str, Form] = {
    "3 March 2021": lambda d: f"{d.day} {_month(d)} {d.year}",
    "March 3, 2021": lambda d: f"{_month(d)} {d.day}, {d.year}",
    "Mar 3, 2021": lambda d: f"{_month(d)[:3]} {d.day}, {d.year}",
    "03-Mar-2021": lambda d: f"{d.day:02}-{_month(d)[:3]}-{d.year}",
    "the 3rd of March 2021": lambda d: f"the {_ordinal(d.day)} of {_month(d)} {d.year}",
    "Wednesday, March 3rd, 2021": lambda d: (
        f"{_weekday(d)}, {_month(d)} {_ordinal(d.day)}, {d.year}"
    ),
    "Wed 3 Mar 2021": lambda d: f"{_weekday(d)[:3]} {d.day} {_month(d)[:3]} {d.year}",
    "03/03/21": lambda d: f"{d.day:02}/{d.month:02}/{d.year % 100:02}",
}
"""English forms, each by how it writes 3 March 2021."""

CHINESE: Mapping[str, Form] = {
    "2021年3月3日": lambda d: f"{d.year}年{d.month}月{d.day}日",
    "2021年03月03日": lambda d: f"{d.year}年{d.month:02}月{d.day:02}日",
    "2021年3月3号": lambda d: f"{d.year}年{d.month}月{d.day}号",
    "2021年3月3日星期三": lambda d: f"{d.year}年{d.month}月{d.day}日星期{_weekday_zh(d)}",
    "2021年3月3日（周三）": lambda d: f"{d.year}年{d.month}月{d.day}日（周{_weekday_zh(d)}）",
    "二〇二一年三月三日": lambda d: f"{_year_zh(d)}年{chinese(d.month)}月{chinese(d.day)}日",
    "二〇二一年三月三日星期三": lambda d: (
        f"{_year_zh(d)}年{chinese(d.month)}月{chinese(d.day)}日星期{_weekday_zh(d)}"
    ),
}
"""Chinese forms, each by how it writes 3 March 2021."""

_LETTERS = "".join(sorted(set("".join(MONTHS + WEEKDAYS) + "the of")))
VOCABULARY = Characters("0123456789-/," + _LETTERS + "年月日号星期周（）〇一二三四五六七八九十")
"""The characters of all forms and of the answer, so that one model can read both languages."""


def all_days() -> Int[Tensor, " days"]:
    """List the days that are written, 1 January 1969 to 31 December 2068.

    Returns:
        Their proleptic Gregorian ordinals, as in `datetime.date.toordinal`.
    """
    return torch.arange(FIRST.toordinal(), LAST.toordinal() + 1)


def date_conversion(
    rng: Generator,
    *,
    batch: int,
    forms: Mapping[str, Form] = ENGLISH,
    days: Int[Tensor, " days"] | None = None,
) -> Pairs:
    """Write dates the ISO way, character by character: Mar 3, 2021 -> 2021-03-03.

        make_batch = partial(date_conversion, batch=64, forms=ENGLISH | CHINESE)

    Days and forms are drawn uniformly and independently. To hold out days, split `all_days()`; to
    hold out forms, pass the others.

    Args:
        rng: Source of randomness.
        batch: Dates.
        forms: The ways to write the source: ENGLISH, CHINESE, both, or some of them.
        days: Ordinals to draw from, with replacement. None: those of `all_days`.

    Returns:
        Sources and targets, in ids of VOCABULARY, padded to the longest of the batch. A target is
        always START, ten characters, END.

    Raises:
        ValueError: A day is out of range; there is no day or form to draw, or no date is asked for.
    """
    days = all_days() if days is None else days
    at_least(1, batch=batch, forms=len(forms), days=len(days))
    ways = list(forms.values())
    place = torch.randint(len(days), (batch,), generator=rng, device=rng.device)
    drawn = days[place.to(days.device)].tolist()
    chosen = torch.randint(len(ways), (batch,), generator=rng, device=rng.device).tolist()
    if not FIRST.toordinal() <= min(drawn) <= max(drawn) <= LAST.toordinal():
        raise ValueError(
            f"days must be ordinals from {FIRST.toordinal()} ({FIRST}) to {LAST.toordinal()} "
            f"({LAST}); got {min(drawn)}..{max(drawn)}."
        )
    dates = [date.fromordinal(ordinal) for ordinal in drawn]
    sources = [ways[way](day) for way, day in zip(chosen, dates, strict=True)]
    return VOCABULARY.pairs(sources, [day.isoformat() for day in dates])
