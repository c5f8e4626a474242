"""How measured numbers and their bounds are written."""

import math
import re

from markupsafe import Markup, escape

from qa_lab.claims.bounds import Bound

_SCIENTIFIC = re.compile(r"(?P<sign>-?)(?P<digits>[\d.]+)e(?P<power>[+-]\d+)")


def plain(value: float, spec: str | None = None) -> str:
    """`value` as text: 0.0321, 16,384, −0.5, 3.11 × 10⁻¹⁶. `spec` is a Python format."""
    return _write(value, spec, lambda power: power.translate(_SUPERSCRIPTS))


def typeset(value: float, spec: str | None = None) -> Markup:
    """The same for HTML, with a real superscript."""
    text = _write(value, spec, "<sup>{}</sup>".format)
    return Markup(f'<span class="qa-number">{text}</span>' if " " in text else text)


def _write(value: float, spec: str | None, superscript) -> str:
    text = format(value, spec) if spec else _three_digits(value)

    def power_of_ten(match: re.Match) -> str:
        power = superscript(str(int(match["power"])).replace("-", "−"))
        digits = re.sub(r"\.?0+$", "", match["digits"])
        factor = "" if digits == "1" else f"{digits} × "
        return f"{match['sign']}{factor}10{power}"

    return _SCIENTIFIC.sub(power_of_ten, text).replace("-", "−")


def _three_digits(value: float) -> str:
    """Three significant digits, but all of a whole number: a count is not rounded."""
    if abs(value) < 1e6 and value == int(value):
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1000:
        exact = value == float(f"{value:.3g}")  # 0.5 was measured so; 1.00267 is written 1.00
        return f"{value:.3g}" if exact else f"{value:#.3g}".rstrip(".")
    return f"{value:.2e}"


def subscripts(text: str) -> Markup:
    """Letters with an index as they are meant: d_k becomes d with a small k below.

    One letter, an underscore, a word: names from code, as `n_heads_kept` or `to_device`, stay.
    """
    return Markup(_INDEXED.sub(r"\g<letter><sub>\g<index></sub>", str(escape(text))))


_INDEXED = re.compile(r"(?<![\w.])(?P<letter>[A-Za-z])_(?P<index>[A-Za-z0-9]+)(?!\w)")
_SUPERSCRIPTS = str.maketrans("0123456789−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def typeset_bound(bound: Bound) -> Markup:
    """The bound for HTML: ≤ 10⁻¹⁰, 0.95 … 1.05, = 512."""
    low, high = (typeset(end, "g") for end in (bound.low, bound.high))
    if bound.low == bound.high:
        return Markup("= {}").format(low)
    if bound.low == -math.inf:
        return Markup("≤ {}").format(high)
    if bound.high == math.inf:
        return Markup("≥ {}").format(low)
    return Markup("{} … {}").format(low, high)
