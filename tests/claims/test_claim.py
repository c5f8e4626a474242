"""`prove` returns a claim only when the measurement meets the bound and the control misses it."""

import json
import math
from functools import partial

import pytest
import torch

from qa_lab.claims import (
    ClaimFailed,
    ControlPassed,
    NotFinite,
    at_least,
    at_most,
    broken,
    exactly,
    prove,
    within,
)
from qa_lab.claims.bounds import Bound
from qa_lab.claims.claim import run_seeds
from qa_lab.claims.mime import CLAIM
from qa_lab.claims.sample import Sample
from tests.comparing import assert_identical

HALVED = broken("halved", "减半", factor=0.5)


def claim(measure=lambda seed, factor=1.0: 10.0 * factor, bound=None, control=HALVED, **changes):
    """Prove that ten is ten, with one thing changed."""
    form = {
        "en": "Ten is ten.",
        "zh": "十就是十。",
        "of": ("ten", "十"),
        "settles": {"ten-is-ten": "holds"},
    }
    return prove(
        changes.pop("id", "ten-is-ten"),
        measure=measure,
        bound=bound or within(9, 11),
        control=control,
        **(form | changes),
    )


def test_a_claim_that_holds_says_so_without_a_single_measured_digit():
    data, metadata = claim()._repr_mimebundle_()
    assert data[CLAIM] == {
        "id": "ten-is-ten",
        "en": "Ten is ten.",
        "zh": "十就是十。",
        "of": {"en": "ten", "zh": "十"},
        "bound": {"text": "in [9, 11]", "low": 9.0, "high": 11.0, "closed": True},
        "control": {"en": "halved", "zh": "减半"},
        "verdict": "holds",
        "control_verdict": "missed",
        "settles": {"ten-is-ten": "holds"},
        "n": 5,
    }
    assert metadata[CLAIM]["measured"] == {"min": 10.0, "median": 10.0, "max": 10.0, "n": 5}
    assert metadata[CLAIM]["control"] == {"min": 5.0, "median": 5.0, "max": 5.0, "n": 5}
    assert (metadata[CLAIM]["scale"], metadata[CLAIM]["tolerance"]) == (11, 0.02)
    assert metadata[CLAIM]["seeds"] == [0, 1, 2, 3, 4]
    assert "halved (factor=0.5): missed, as it must" in data["text/plain"]
    assert "10.0" not in data["text/plain"]


def test_a_claim_is_shown_as_text_and_as_a_table():
    proved = claim(
        lambda seed, factor=1.0: (9.5 + seed / 4 - 1e-4) * factor,
        en="Ten is <ten>.",
        of=("ten & one", "十"),
        control=broken("halved <", "减半", factor=0.5, **{}),
    )
    assert str(proved) == (
        "ten-is-ten: holds\n"
        "  Ten is <ten>.\n"
        "  bound    ten & one in [9, 11], all 5 values\n"
        "  control  halved < (factor=0.5): missed, as it must"
    )
    data, metadata = proved._repr_mimebundle_(include=None, exclude=None)
    assert set(data) == {"text/plain", "text/html", CLAIM} and set(metadata) == {CLAIM}
    assert data["text/plain"] == str(proved)
    assert data["text/html"] == (
        "<p><b>Ten is &lt;ten&gt;.</b><br>十就是十。</p>"
        "<table><tr><th>ten &amp; one in [9, 11]</th><th>min</th><th>median</th><th>max</th></tr>"
        "<tr><th>measured</th><td>9.5</td><td>10</td><td>10.5</td></tr>"
        "<tr><th>control: halved &lt;</th><td>4.75</td><td>5</td><td>5.25</td></tr></table>"
    )


def test_a_control_may_change_several_arguments_and_names_them_all():
    both = broken("both", "两者", factor=0.5, shift=1.0)
    proved = claim(lambda seed, factor=1.0, shift=0.0: 10 * factor + shift, control=both)
    assert proved.control_measured.values == (6.0,) * 5
    assert "both (factor=0.5, shift=1): missed" in str(proved)


def test_a_claim_settles_nothing_unless_it_says_so():
    assert claim(settles=None).data()["settles"] == {}
    assert set(claim(settles=dict.fromkeys("abc", "refuted")).settles) == set("abc")
    assert claim(settles={"a": "conditional"}).settles == {"a": "conditional"}


def test_a_tolerance_and_more_seeds_can_be_asked_for():
    proved = claim(tolerance=0.5, seeds=7)
    assert proved.numbers()["tolerance"] == 0.5
    assert proved.seeds == tuple(range(7))
    assert len(proved.measured.values) == len(proved.control_measured.values) == 7


def test_one_seed_outside_the_bound_fails_the_claim():
    with pytest.raises(ClaimFailed, match="1 of 5 values are not; the first is 13"):
        claim(lambda seed, factor=1.0: (13.0 if seed == 4 else 10.0) * factor)
    with pytest.raises(ClaimFailed, match="2 of 5 values are not; the first is 13"):
        claim(lambda seed, factor=1.0: (10.0 + seed if seed > 2 else 10.0) * factor)


def test_one_control_value_inside_the_bound_fails_the_claim():
    with pytest.raises(ControlPassed, match="1 of 5 values still are; the first is 10"):
        claim(lambda seed, factor=1.0: 10.0 if seed == 4 else 10.0 * factor)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_not_finite_supports_nothing(bad):
    with pytest.raises(NotFinite, match="The measurement gave"):
        claim(lambda seed, factor=1.0: [10.0 * factor, bad])
    with pytest.raises(NotFinite, match=rf"gave {bad} \(5 of 10\)"):
        claim(lambda seed, factor=1.0: [10.0 * factor, bad])


def test_a_control_that_is_nan_does_not_count_as_missing_the_bound():
    with pytest.raises(NotFinite) as caught:
        claim(lambda seed, factor=1.0: 10.0 if factor == 1.0 else math.nan)
    assert caught.value.__notes__ == ["while measuring the claim ten-is-ten (control)"]


def test_no_numbers_at_all_support_nothing():
    with pytest.raises(NotFinite, match="no numbers"):
        claim(lambda seed, factor=1.0: [])


def test_counts_are_stored_exactly_and_everything_else_to_six_digits():
    counted = claim(lambda seed, factor=1.0: 65_013_763 * factor, exactly(65_013_763))
    assert counted.measured.summary()["median"] == 65_013_763
    assert "= 65013763" in str(counted)
    third = claim(lambda seed, factor=1.0: factor / 3, within(0.3, 0.4))
    assert third.measured.summary()["median"] == 0.333333
    some = Sample((3.0, 1 / 3, 5.0, 2 / 3))
    assert some.summary() == {"min": 0.333333, "median": 1.83333, "max": 5.0, "n": 4}


def test_values_come_out_of_any_nesting():
    values = [torch.tensor([9.5, 10.0]), [10.5, (10.0,)]]
    scaled = claim(lambda seed, factor=1.0: [torch.tensor(9.5) * factor, values[0] * factor])
    assert len(scaled.measured.values) == 15


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "Ten is ten"}, "kebab-case"),
        ({"zh": "ten"}, "the sentence must be given in English and in Chinese"),
        ({"en": " "}, "in English and in Chinese"),
        ({"of": ("ten", "")}, "`of` names"),
        ({"settles": {"a": "true"}}, "settled as"),
        ({"seeds": 4}, "4 seeds are too few"),
        ({"control": broken("x", "减半", facter=0.5)}, "does not take"),
        ({"control": broken("x", "减半", factor=1.0)}, "what it is anyway"),
        ({"id": "ten--is"}, "kebab-case"),
        ({"id": "ten-is-ten!"}, "kebab-case"),
        ({"of": ("ten",)}, "`of` names"),
        ({"of": (" ", "十")}, "`of` names"),
        ({"control": broken("x", "half", factor=0.5)}, "the control must be given"),
        ({"control": broken("", "减半", factor=0.5)}, "the control must be given"),
        ({"settles": {"a": "holds", "b": "open"}}, "not {'open'}"),
    ],
)
def test_an_ill_formed_claim_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        claim(**changes)


@pytest.mark.parametrize("id", ["ten", "10-is-10", "a-b-c"])
def test_an_id_is_kebab_case(id):
    assert claim(id=id).id == id


ONES = torch.ones(2)


@pytest.mark.parametrize(
    ("default", "value", "same"),
    [
        (1, 1, True),
        (1e3, float("1e3"), True),
        ("a", "a", True),
        (ONES, ONES, True),
        (None, None, True),
        (1, 2, False),
        (1, 1.0, False),
        (1, True, False),
        ("a", "b", False),
        (ONES, torch.ones(2), False),
        ([1], [1], False),
    ],
)
def test_a_control_that_changes_nothing_is_seen_where_that_is_plain(default, value, same):
    calls = []

    def measure(seed, it=default):
        calls.append(seed)
        return 10.0 if len(calls) <= 5 else 5.0

    control = broken("x", "改", it=value)
    if same:
        with pytest.raises(ValueError, match="the control sets it to what it is anyway"):
            claim(measure, control=control)
    else:
        assert claim(measure, control=control).control_measured.values == (5.0,) * 5


def test_a_control_must_change_something():
    with pytest.raises(ValueError, match="changes nothing"):
        broken("nothing", "什么都没改")


def test_without_a_seed_a_measurement_is_made_once_and_may_not_draw():
    assert claim(lambda factor=1.0: 10.0 * factor).seeds == ()
    with pytest.raises(ValueError, match="must take a seed"):
        claim(lambda factor=1.0: 10.0 * factor + 0 * torch.rand(()))


def test_every_seed_starts_the_global_generator_afresh_and_leaves_the_callers_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    draws = claim(
        lambda seed, shift=0.0: torch.rand(()) + shift,
        within(0, 1),
        broken("moved", "平移", shift=2.0),
    )
    assert_identical(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert draws.measured.values[3] == torch.rand(()).item()


def test_a_replication_run_asks_for_other_seeds(monkeypatch):
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "100")
    assert claim(seeds=6).seeds == (100, 101, 102, 103, 104, 105)
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "many")
    with pytest.raises(ValueError, match="whole number"):
        claim()
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "-1")
    with pytest.raises(ValueError, match="whole number ≥ 0, not '-1'"):
        claim()


def test_a_run_has_five_seeds_from_zero_on(monkeypatch):
    assert run_seeds() == range(5)
    assert run_seeds(7) == range(7)
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "3")
    assert run_seeds() == range(3, 8)


@pytest.mark.parametrize(
    ("bound", "inside", "outside", "text"),
    [
        (within(1, 2), (1, 2), (0.999, 2.001), "in [1, 2]"),
        (at_least(0.9), (0.9, 5), (0.89,), "≥ 0.9"),
        (at_most(1e-10), (1e-10, -3), (2e-10,), "≤ 1e-10"),
        (exactly(0), (0,), (1e-300,), "= 0"),
    ],
)
def test_bounds(bound, inside, outside, text):
    assert all(map(bound.met_by, inside))
    assert not any(map(bound.met_by, (*outside, math.nan)))
    assert str(bound) == text


@pytest.mark.parametrize(
    ("bound", "scale"),
    [
        (within(1, 2), 2),
        (within(-3, 2), 3),
        (at_least(0.9), 0.9),
        (at_most(-7), 7),
        (exactly(4), 4),
    ],
)
def test_a_bound_has_the_scale_of_its_largest_finite_end(bound, scale):
    assert bound.scale == scale


@pytest.mark.parametrize(
    ("bound", "low", "high"),
    [
        (within(-0.5, 1e-10), -0.5, 1e-10),
        (at_least(-3), -3.0, None),
        (at_most(1e-300), None, 1e-300),
        (exactly(65_013_763), 65_013_763.0, 65_013_763.0),
    ],
)
def test_a_bound_is_recorded_as_numbers_and_read_back(bound, low, high):
    recorded = json.loads(json.dumps(bound.data(), allow_nan=False))
    assert recorded == {"text": str(bound), "low": low, "high": high, "closed": True}
    assert Bound.read(recorded) == bound


def test_the_last_bits_of_a_computed_bound_are_not_recorded():
    third = at_least(1 / 3)
    assert third.data() == at_least(math.nextafter(1 / 3, 1)).data()
    assert third.data()["low"] == 0.333333333333
    assert third.data() != at_least(1 / 3 + 1e-11).data()


def test_bounds_that_bound_nothing_are_refused():
    with pytest.raises(ValueError, match="low must be"):
        within(2, 1)
    with pytest.raises(ValueError, match="proves nothing"):
        within(-math.inf, math.inf)
    for low, high in ((math.nan, 1), (1, math.nan)):
        with pytest.raises(ValueError, match="is no interval"):
            within(low, high)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1 / 8, "0.125"),
        (None, "None"),
        ((math.sqrt, "x", 2), "(sqrt, x, 2)"),
        (torch.zeros(2, 3), "tensor[2, 3]"),
        (partial(math.sqrt), "partial"),
        ([1.0, [2.5]], "(1, (2.5))"),
        (1e-7, "1e-07"),
        (12345678, "12345678"),
        ("nine", "nine"),
    ],
)
def test_a_control_is_named_the_same_way_in_every_run(value, name):
    text = str(
        claim(
            lambda seed, it="ten": 10.0 if it == "ten" else 5.0, control=broken("x", "改", it=value)
        )
    )
    assert f"x (it={name}): missed" in text
