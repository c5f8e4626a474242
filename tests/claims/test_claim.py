"""`prove` returns a claim only when the measurement meets the bound and the control misses it."""

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
from qa_lab.claims.claim import MIME

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
    assert data[MIME] == {
        "id": "ten-is-ten",
        "en": "Ten is ten.",
        "zh": "十就是十。",
        "of": {"en": "ten", "zh": "十"},
        "bound": "in [9, 11]",
        "control": {"en": "halved", "zh": "减半"},
        "verdict": "holds",
        "control_verdict": "missed",
        "settles": {"ten-is-ten": "holds"},
        "n": 5,
    }
    assert metadata[MIME]["measured"] == {"min": 10.0, "median": 10.0, "max": 10.0, "n": 5}
    assert metadata[MIME]["control"]["median"] == 5.0
    assert metadata[MIME]["seeds"] == [0, 1, 2, 3, 4]
    assert "halved (factor=0.5): missed, as it must" in data["text/plain"]
    assert "10.0" not in data["text/plain"]


def test_one_seed_outside_the_bound_fails_the_claim():
    with pytest.raises(ClaimFailed, match="1 of 5 values are not; the first is 13"):
        claim(lambda seed, factor=1.0: (13.0 if seed == 4 else 10.0) * factor)


def test_one_control_value_inside_the_bound_fails_the_claim():
    with pytest.raises(ControlPassed, match="1 of 5 values still are; the first is 10"):
        claim(lambda seed, factor=1.0: 10.0 if seed == 4 else 10.0 * factor)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_not_finite_supports_nothing(bad):
    with pytest.raises(NotFinite, match="The measurement gave"):
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


def test_values_come_out_of_any_nesting():
    values = [torch.tensor([9.5, 10.0]), [10.5, (10.0,)]]
    scaled = claim(lambda seed, factor=1.0: [torch.tensor(9.5) * factor, values[0] * factor])
    assert len(scaled.measured.values) == 15


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "Ten is ten"}, "kebab-case"),
        ({"zh": "ten"}, "in English and in Chinese"),
        ({"en": " "}, "in English and in Chinese"),
        ({"of": ("ten", "")}, "`of` names"),
        ({"settles": {"a": "true"}}, "settled as"),
        ({"seeds": 4}, "4 seeds are too few"),
        ({"control": broken("x", "减半", facter=0.5)}, "does not take"),
        ({"control": broken("x", "减半", factor=1.0)}, "what it is anyway"),
    ],
)
def test_an_ill_formed_claim_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        claim(**changes)


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
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert draws.measured.values[3] == torch.rand(()).item()


def test_a_replication_run_asks_for_other_seeds(monkeypatch):
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "100")
    assert claim(seeds=6).seeds == (100, 101, 102, 103, 104, 105)
    monkeypatch.setenv("QA_LAB_FIRST_SEED", "many")
    with pytest.raises(ValueError, match="whole number"):
        claim()


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


def test_bounds_that_bound_nothing_are_refused():
    with pytest.raises(ValueError, match="low must be"):
        within(2, 1)
    with pytest.raises(ValueError, match="proves nothing"):
        within(-math.inf, math.inf)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1 / 8, "0.125"),
        (None, "None"),
        ((math.sqrt, "x", 2), "(sqrt, x, 2)"),
        (torch.zeros(2, 3), "tensor[2, 3]"),
        (partial(math.sqrt), "partial"),
    ],
)
def test_a_control_is_named_the_same_way_in_every_run(value, name):
    text = str(
        claim(
            lambda seed, it="ten": 10.0 if it == "ten" else 5.0, control=broken("x", "改", it=value)
        )
    )
    assert f"x (it={name}): missed" in text
