"""The strip shows bound, measurement and control where they are."""

import math
import re

from qa_lab.claims.bounds import Bound
from qa_lab.guide.strip import strip


def numbers(low, middle, high):
    """A sample's summary."""
    return {"min": low, "median": middle, "max": high}


def draw(bound, measured, control):
    """The strip, and where its bound, median and control are, in per cent."""
    svg = strip(Bound(*bound), numbers(*measured), numbers(*control), "log scale")
    left, width = re.search(r'qa-strip__bound" x="([\d.-]+)%" width="([\d.]+)%"', svg).groups()
    median = re.search(r'qa-strip__median" cx="([\d.-]+)%"', svg)[1]
    control = re.search(r'qa-strip__control" x="([\d.-]+)%"', svg)[1]
    bound = float(left), float(left) + float(width)
    return svg, bound, float(median), float(control)


def test_the_measurement_lies_in_the_band_and_the_control_outside():
    svg, (left, right), median, control = draw((0.94, 1.06), (0.98, 1.0, 1.02), (1.4, 1.5, 1.6))
    assert left < median < right < control <= 100
    assert "log scale" not in svg


def test_far_apart_numbers_get_a_logarithmic_scale_that_says_so():
    svg, (left, right), median, control = draw(
        (-math.inf, 1e-12), (0.0, 1e-16, 4e-16), (1.0, 1.5, 2.0)
    )
    assert "log scale" in svg
    assert left == 0 < median < right < control


def test_a_control_that_is_too_far_becomes_an_arrow():
    svg, *_, control = draw((-1.0, 1.0), (-0.5, 0.1, 0.6), (500.0, 510.0, 520.0))
    assert control == 100
    assert 'd="M-9 -6 L0 0 L-9 6"' in svg


def test_an_exact_count_is_still_seen():
    _, (left, right), median, control = draw((512, 512), (512, 512, 512), (64, 64, 64))
    assert right - left == 1
    assert left < median < right
    assert control < left
