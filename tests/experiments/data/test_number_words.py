"""Number names, read back by parsers that know another way."""

import random
import re

import pytest
import torch

from qa_lab.experiments.data.number_words import (
    LIMIT,
    VOCABULARY,
    chinese,
    digits,
    english,
    number_words,
)
from qa_lab.experiments.data.tasks import END, PAD, START, generator
from tests.comparing import assert_differs, assert_identical

SPOT = {
    0: ("zero", "零"),
    7: ("seven", "七"),
    10: ("ten", "十"),
    12: ("twelve", "十二"),
    20: ("twenty", "二十"),
    99: ("ninety-nine", "九十九"),
    100: ("one hundred", "一百"),
    101: ("one hundred one", "一百零一"),
    110: ("one hundred ten", "一百一十"),
    115: ("one hundred fifteen", "一百一十五"),
    200: ("two hundred", "二百"),
    222: ("two hundred twenty-two", "二百二十二"),
    1000: ("one thousand", "一千"),
    1001: ("one thousand one", "一千零一"),
    1010: ("one thousand ten", "一千零一十"),
    2000: ("two thousand", "两千"),
    2002: ("two thousand two", "两千零二"),
    2200: ("two thousand two hundred", "两千二百"),
    9999: ("nine thousand nine hundred ninety-nine", "九千九百九十九"),
    10_000: ("ten thousand", "一万"),
    10_023: ("ten thousand twenty-three", "一万零二十三"),
    12_000: ("twelve thousand", "一万二千"),
    20_000: ("twenty thousand", "两万"),
    22_222: ("twenty-two thousand two hundred twenty-two", "两万二千二百二十二"),
    20_202: ("twenty thousand two hundred two", "两万零二百零二"),
    100_000: ("one hundred thousand", "十万"),
    100_010: ("one hundred thousand ten", "十万零一十"),
    110_000: ("one hundred ten thousand", "十一万"),
    200_000: ("two hundred thousand", "二十万"),
    205_000: ("two hundred five thousand", "二十万五千"),
    200_001: ("two hundred thousand one", "二十万零一"),
    402_020: ("four hundred two thousand twenty", "四十万二千零二十"),
    999_999: (
        "nine hundred ninety-nine thousand nine hundred ninety-nine",
        "九十九万九千九百九十九",
    ),
}

WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen".split()
    )
} | {
    word: 10 * value
    for value, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
    )
}

_DIGIT = "(?:one|two|three|four|five|six|seven|eight|nine)"
_TEEN = "(?:ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen)"
_TY = f"(?:(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:-{_DIGIT})?)"
_BELOW_100 = f"(?:{_DIGIT}|{_TEEN}|{_TY})"
_BELOW_1000 = f"(?:{_DIGIT} hundred(?: {_BELOW_100})?|{_BELOW_100})"
GRAMMAR = re.compile(f"zero|{_BELOW_1000}(?: thousand(?: {_BELOW_1000})?)?")


def read_english(text):
    assert GRAMMAR.fullmatch(text), text
    total = part = 0
    for word in re.split("[ -]", text):
        if word == "thousand":
            total, part = total + 1000 * part, 0
        elif word == "hundred":
            part *= 100
        else:
            part += WORDS[word]
    return total + part


def say_chinese(number):
    """From the first digit to the last, remembering whether a zero is owed."""
    text, owed = "", False
    for place, digit in zip(reversed(range(len(str(number)))), map(int, str(number)), strict=True):
        if digit:
            unit = ("", "十", "百", "千")[place % 4]
            text += "零" * owed + "零一二三四五六七八九"[digit] + unit
        owed = not digit
        if place == 4:
            text, owed = text + "万", False
    text = re.sub("^一十", "十", text or "零")
    return re.sub("^二(?=[千万])", "两", text)


def some_numbers():
    rng = random.Random(0)
    return [*range(1200), *range(0, LIMIT, 1997), *(rng.randrange(LIMIT) for _ in range(1500)),
            *(d * 10**k + e * 10**j for k in range(6) for j in range(k) for d in range(1, 10)
              for e in (0, 1, 2, 9))]  # fmt: skip


@pytest.mark.parametrize("number", SPOT)
def test_known_names(number):
    assert (english(number), chinese(number)) == SPOT[number]
    assert digits(number) == str(number)


def test_every_english_name_is_grammatical_and_means_its_number():
    for number in some_numbers():
        assert read_english(english(number)) == number


def test_every_chinese_name_is_what_another_algorithm_says():
    for number in some_numbers():
        assert chinese(number) == say_chinese(number), number


def test_no_two_numbers_share_a_chinese_name():
    numbers = set(some_numbers())
    assert len({chinese(number) for number in numbers}) == len(numbers)


@pytest.mark.parametrize("language", [english, chinese, digits])
@pytest.mark.parametrize("number", [-1, LIMIT])
def test_numbers_out_of_range_are_refused(language, number):
    with pytest.raises(ValueError, match=f"from 0 to 999999; got {number}"):
        language(number)


def test_the_vocabulary_holds_just_what_is_said():
    said = set("".join(language(n) for n in SPOT | dict.fromkeys(range(100)) for language in
                       (english, chinese, digits)))  # fmt: skip
    assert set(VOCABULARY.characters) == said


@pytest.mark.parametrize(
    "source, target", [(english, digits), (chinese, english), (digits, chinese)]
)
def test_the_task_translates(source, target):
    batch = number_words(generator(0), batch=67, source=source, target=target)
    assert batch.target[:, 0].eq(START).all()
    sources, targets = VOCABULARY.decode(batch.source), VOCABULARY.decode(batch.target)
    numbers = (
        [int(t) for t in targets] if target is digits
        else [read_english(t) for t in targets] if target is english
        else [int(s) for s in sources]
    )  # fmt: skip
    assert sources == [source(n) for n in numbers] and targets == [target(n) for n in numbers]
    assert max(numbers) > 900_000 and len(set(numbers)) > 60
    for ids, text, keep in zip(batch.target, targets, batch.target_real, strict=True):
        assert ids[len(text) + 1] == END and (ids[len(text) + 2 :] == PAD).all()
        assert keep.sum() == len(text) + 2


def test_english_to_digits_is_the_default():
    a = number_words(generator(0), batch=5)
    b = number_words(generator(0), batch=5, source=english, target=digits)
    assert_identical(a.source, b.source)
    assert_identical(a.target, b.target)


def test_numbers_are_drawn_from_those_given():
    numbers = torch.tensor([7, 10, 123_456])
    batch = number_words(generator(0), batch=300, target=digits, numbers=numbers)
    said = VOCABULARY.decode(batch.target)
    assert set(said) == {"7", "10", "123456"} and min(map(said.count, set(said))) > 60


def test_the_seed_decides_the_numbers():
    a, b, c = (number_words(generator(seed), batch=9).target for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)


def test_impossible_tasks_are_refused():
    with pytest.raises(ValueError, match="batch must be 1 or more; got 0"):
        number_words(generator(0), batch=0)
    with pytest.raises(ValueError, match="numbers must be 1 or more; got 0"):
        number_words(generator(0), batch=1, numbers=torch.arange(0))
    with pytest.raises(ValueError, match="got 1000000"):
        number_words(generator(0), batch=1, numbers=torch.tensor([LIMIT]))
    assert len(number_words(generator(0), batch=1, numbers=torch.tensor([0])).source) == 1
