"""Dates, read back by a reader that knows nothing of how they were written."""

import re
from datetime import date

import pytest
import torch

from qa_lab.experiments.data.data_sets import split
from qa_lab.experiments.data.dates import (
    CHINESE,
    ENGLISH,
    FIRST,
    LAST,
    VOCABULARY,
    all_days,
    date_conversion,
)
from qa_lab.experiments.data.tasks import END, START, generator
from tests.comparing import assert_differs, assert_identical

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
WEEKDAYS = "Sun Mon Tue Wed Thu Fri Sat".split()
NUMERALS = (
    "一 二 三 四 五 六 七 八 九 十 十一 十二 十三 十四 十五 十六 十七 十八 十九 二十 "
    "二十一 二十二 二十三 二十四 二十五 二十六 二十七 二十八 二十九 三十 三十一"
).split()


def weekday(year, month, day):
    """0 for Sunday: Sakamoto's formula, without any calendar library."""
    year -= month < 3
    shift = (0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4)[month - 1]
    return (year + year // 4 - year // 100 + year // 400 + shift + day) % 7


def chinese_number(text):
    return int(text) if text.isdigit() and text.isascii() else 1 + NUMERALS.index(text)


def read(text):
    """Read a date in any form: (year, month, day), and its weekday if said, checked."""
    if "/" in text:
        day, month, short = map(int, text.split("/"))
        return (1900 if short >= 69 else 2000) + short, month, day
    if "年" in text:
        year, month, day, rest = re.fullmatch("(.{4})年(.+)月(.+?)[日号](.*)", text).groups()
        for value, digit in enumerate("〇一二三四五六七八九"):
            year = year.replace(digit, str(value))
        read = int(year), chinese_number(month), chinese_number(day)
        said = "日一二三四五六".index(rest.strip("（）")[-1]) if rest else None
    else:
        words = re.findall("[A-Za-z]+", text)
        month = next(MONTHS.index(w[:3]) + 1 for w in words if w[:3] in MONTHS)
        numbers = re.findall("[0-9]+", text)
        year, day = int(max(numbers, key=len)), int(min(numbers, key=len))
        read = year, month, day
        said = next((WEEKDAYS.index(w[:3]) for w in words if w[:3] in WEEKDAYS), None)
    if said is not None:
        assert said == weekday(*read), text
    return read


def test_each_form_is_named_after_what_it_writes():
    for forms in (ENGLISH, CHINESE):
        for name, form in forms.items():
            assert form(date(2021, 3, 3)) == name


KNOWN = {
    date(2000, 2, 29): ("the 29th of February 2000", "29/02/00", "2000年02月29日",
                        "二〇〇〇年二月二十九日星期二", "Tuesday, February 29th, 2000"),
    date(1969, 1, 1): ("Wed 1 Jan 1969", "01/01/69", "1969年1月1日星期三", "一九六九年一月一日",
                       "the 1st of January 1969"),
    date(2068, 12, 31): ("Dec 31, 2068", "31/12/68", "2068年12月31号", "二〇六八年十二月三十一日",
                         "Monday, December 31st, 2068", "2068年12月31日（周一）"),
    date(2024, 9, 22): ("22 September 2024", "22-Sep-2024", "Sunday, September 22nd, 2024",
                        "2024年9月22日（周日）", "二〇二四年九月二十二日星期日"),
    date(2010, 8, 11): ("the 11th of August 2010", "August 11, 2010", "二〇一〇年八月十一日"),
    date(2012, 5, 12): ("the 12th of May 2012", "May 12, 2012", "12-May-2012"),
    date(2013, 10, 13): ("the 13th of October 2013", "二〇一三年十月十三日"),
    date(1999, 7, 23): ("the 23rd of July 1999", "一九九九年七月二十三日星期五", "23/07/99"),
    date(2005, 6, 20): ("the 20th of June 2005", "20/06/05", "05".join(("20", "年6月20日"))),
    date(2007, 4, 21): ("the 21st of April 2007", "Sat 21 Apr 2007"),
    date(2030, 11, 30): ("the 30th of November 2030", "二〇三〇年十一月三十日"),
}  # fmt: skip


@pytest.mark.parametrize("day", KNOWN, ids=str)
def test_known_dates_in_known_forms(day):
    said = {form(day) for form in (ENGLISH | CHINESE).values()}
    assert set(KNOWN[day]) <= said


@pytest.mark.parametrize("name", ENGLISH | CHINESE)
def test_every_form_means_its_date_and_fits_the_vocabulary(name):
    form = (ENGLISH | CHINESE)[name]
    edges = [date(y, m, d) for y in range(1969, 2069, 3) for m in range(1, 13) for d in (1, 3, 28)]
    leaps = [date(y, 2, 29) for y in range(1972, 2069, 4)]
    month = [date(2011, 1, d) for d in range(1, 32)]
    for day in edges + leaps + month:
        text = form(day)
        assert read(text) == (day.year, day.month, day.day), text
        assert set(text) <= set(VOCABULARY.characters)


def test_the_vocabulary_holds_just_what_is_written():
    written = {
        c
        for form in (ENGLISH | CHINESE).values()
        for month in range(1, 13)
        for day in range(1, 29)
        for c in form(date(1974 + month * 7, month, day))
    }
    assert set(VOCABULARY.characters) == written | set("-")


def test_the_days_are_the_hundred_years_that_two_digits_can_tell():
    days = all_days()
    assert (FIRST, LAST) == (date(1969, 1, 1), date(2068, 12, 31))
    assert len(days) == 100 * 365 + 25  # 2000 is a leap year
    assert (date.fromordinal(int(days[0])), date.fromordinal(int(days[-1]))) == (FIRST, LAST)
    assert (days.diff() == 1).all()


@pytest.mark.parametrize("forms", [ENGLISH, CHINESE, ENGLISH | CHINESE])
def test_the_task_translates_to_iso(forms):
    batch = date_conversion(generator(0), batch=997, forms=forms)
    sources, targets = VOCABULARY.decode(batch.source), VOCABULARY.decode(batch.target)
    assert batch.target.shape == (997, 12) and batch.target_real.all()
    assert (batch.target[:, 0] == START).all() and (batch.target[:, -1] == END).all()
    used = set()
    for source, target in zip(sources, targets, strict=True):
        year, month, day = read(source)
        assert target == f"{year}-{month:02}-{day:02}"
        used |= {name for name, form in forms.items() if form(date(year, month, day)) == source}
    assert used == set(forms)
    assert len({target[:4] for target in targets}) > 95
    assert batch.source_real.sum(1).tolist() == [len(source) for source in sources]


def test_english_is_the_default():
    a, b = (date_conversion(generator(0), batch=9, **forms) for forms in ({}, {"forms": ENGLISH}))
    assert_identical(a.source, b.source)


def test_held_out_days_stay_out():
    train, held_out = split(generator(0), len(all_days()), 0.001)
    days = all_days()[train]
    batch = date_conversion(generator(1), batch=500, days=days)
    said = {date.fromisoformat(text).toordinal() for text in VOCABULARY.decode(batch.target)}
    assert said == set(days.tolist()) and not said & set(all_days()[held_out].tolist())


def test_the_seed_decides_the_dates():
    a, b, c = (date_conversion(generator(seed), batch=9).target for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)


def test_impossible_tasks_are_refused():
    rng = generator(0)
    with pytest.raises(ValueError, match="batch must be 1 or more; got 0"):
        date_conversion(rng, batch=0)
    with pytest.raises(ValueError, match="forms must be 1 or more; got 0"):
        date_conversion(rng, batch=1, forms={})
    with pytest.raises(ValueError, match="days must be 1 or more; got 0"):
        date_conversion(rng, batch=1, days=torch.arange(0))
    for bad in (FIRST.toordinal() - 1, LAST.toordinal() + 1):
        with pytest.raises(ValueError, match=rf"days must be ordinals from .* got {bad}\.\.{bad}"):
            date_conversion(rng, batch=1, days=torch.tensor([bad]))
    for good in (FIRST, LAST):
        days = torch.tensor([good.toordinal()])
        batch = date_conversion(rng, batch=1, forms={"03/03/21": ENGLISH["03/03/21"]}, days=days)
        assert VOCABULARY.decode(batch.target) == [good.isoformat()]
