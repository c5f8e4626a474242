"""Numbers from 0 to 999,999 in English, in Chinese and in digits: three languages to translate.

    10023   ten thousand twenty-three   一万零二十三

Whoever reads one of them knows the number, and every number is said in exactly one way.
"""

import re
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from qa_lab.experiments.data.characters import Characters
from qa_lab.experiments.data.tasks import Pairs, at_least

LIMIT = 1_000_000
"""The first number that is not said any more."""

Language = Callable[[int], str]
"""From a number to its name: `english`, `chinese` or `digits`."""

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CHINESE_DIGITS = "零一二三四五六七八九"

VOCABULARY = Characters(
    "0123456789 -"
    + "".join(sorted(set("".join(_ONES + _TENS) + "hundredthousand")))
    + "零一二三四五六七八九十百千万两"
)
"""The characters of all three languages, so that one model can read and say any of them."""


def english(number: int) -> str:
    """Say a number in English: 10023 -> "ten thousand twenty-three".

    American: no "and" after hundred; a hyphen from twenty-one to ninety-nine; no commas.

    Args:
        number: 0 to 999,999.

    Returns:
        Its name, in lower case.

    Raises:
        ValueError: The number is out of range.
    """
    _check(number)
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    many, rest = divmod(number, unit)
    return f"{english(many)} {name}" + (f" {english(rest)}" if rest else "")


def chinese(number: int) -> str:
    """Say a number in Chinese: 10023 -> "一万零二十三".

    One 零 for each run of zeros between two digits; none for zeros that end the number or the part
    before 万 (205000 is 二十万五千), but one where the part after 万 begins with zeros. 10 to 19
    and 100,000 to 199,999 begin with 十, not 一十. A number that begins with 2 thousand or 2 万
    begins with 两; everywhere else 2 is 二: 两万二千二百二十二, 二十二万, 二百. Speakers also say
    两百 and 两万两千; here each number has one name.

    Args:
        number: 0 to 999,999.

    Returns:
        Its name, in simplified characters.

    Raises:
        ValueError: The number is out of range.
    """
    _check(number)
    high, low = divmod(number, 10_000)
    said = (_four_digits(high) + "万" if high else "") + _four_digits(low)
    said = said.lstrip("零") or "零"
    if said.startswith("一十"):
        return said[1:]
    if said.startswith(("二千", "二万")):
        return "两" + said[1:]
    return said


def digits(number: int) -> str:
    """Write a number in digits: 10023 -> "10023".

    Raises:
        ValueError: The number is out of range.
    """
    _check(number)
    return str(number)


def number_words(
    rng: Generator,
    *,
    batch: int,
    source: Language = english,
    target: Language = digits,
    numbers: Int[Tensor, " numbers"] | None = None,
) -> Pairs:
    """Translate numbers, character by character: ten thousand twenty-three -> 10023.

        train, held_out = data_sets.split(rng, number_words.LIMIT, 0.9)  # numbers[i] = i
        make_batch = partial(number_words, batch=64, source=chinese, numbers=train)

    Args:
        rng: Source of randomness.
        batch: Numbers.
        source: The language that is read.
        target: The language that is to be said.
        numbers: To draw from, uniformly, with replacement. None: 0 to 999,999, nine tenths of which
            have six digits.

    Returns:
        Sources and targets, in ids of VOCABULARY, padded to the longest of the batch.

    Raises:
        ValueError: A number is out of range, there is none to draw, or none is asked for.
    """
    limit = LIMIT if numbers is None else len(numbers)
    at_least(1, batch=batch, numbers=limit)
    drawn = torch.randint(limit, (batch,), generator=rng, device=rng.device)
    said = (drawn if numbers is None else numbers[drawn.to(numbers.device)]).tolist()
    return VOCABULARY.pairs([source(n) for n in said], [target(n) for n in said])


def _four_digits(number: int) -> str:
    """Say 0 to 9999 with its leading zeros, if any, as one 零: 23 -> 零二十三."""
    said = "".join(
        CHINESE_DIGITS[digit] + unit if digit else "零"
        for digit, unit in zip(map(int, f"{number:04}"), ("千", "百", "十", ""), strict=True)
    )
    return re.sub("零+", "零", said).rstrip("零")


def _check(number: int) -> None:
    if not 0 <= number < LIMIT:
        raise ValueError(f"numbers are said from 0 to {LIMIT - 1}; got {number}.")
