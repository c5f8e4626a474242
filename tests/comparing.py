"""How a test compares numbers: within a rounding error, or exactly and for a reason.

Two computations of one number have equal bits only by luck: a processor may take another kernel
for another number of rows, another length, a view or a slice, and add the terms in another order.
So a test asks for `assert_same`, which leaves room for that, and shows with `assert_differs` that
what is broken is far away. `assert_identical` is for what no kernel rounds.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAME = {torch.float64: 1e-12, torch.float32: 1e-5}  # some thousand, some hundred units in the last
DIFFERENT = 1e-2

Numbers = Tensor | float | Sequence[float]


def assert_same(ours: Numbers, theirs: Numbers, within: float | None = None) -> None:
    """Ask for the same numbers, however they were computed.

    Args:
        ours: A tensor, a number or a list of numbers.
        theirs: The same, of the same shape.
        within: Largest difference, absolute for numbers up to 1 and relative to the largest
            beyond. None: `SAME` for the less precise of the two; Python's numbers are float64.
    """
    ours, theirs = _tensor(ours), _tensor(theirs)
    assert ours.shape == theirs.shape, f"{list(ours.shape)}, not {list(theirs.shape)}"
    if within is None:
        within = max(SAME[x.dtype] for x in (ours, theirs))
    gap = difference(ours, theirs)
    assert gap <= within * max(1.0, _largest(theirs)), f"they differ by {gap:.1e}"


def assert_differs(ours: Numbers, theirs: Numbers, by: float = DIFFERENT) -> None:
    """Ask for a difference that no rounding explains, at one place at least."""
    ours, theirs = _tensor(ours), _tensor(theirs)
    gap = math.inf if ours.shape != theirs.shape else difference(ours, theirs)
    assert gap >= by, f"they differ by {gap:.1e} only"


def assert_identical(ours: Tensor, theirs: Tensor, because: str = "") -> None:
    """Ask for equal bits: of whole numbers and masks, or of floats that nothing rounds.

    Args:
        ours: Any tensor.
        theirs: One that must hold the same bits.
        because: For floats, why no processor can round them differently: they are copied, say.
    """
    assert because or not ours.is_floating_point(), "say why these floats have equal bits"
    assert torch.equal(ours, theirs), f"{ours}\nis not\n{theirs}"


def moved(
    before: Tensor, after: Tensor, axis: int | tuple[int, ...] = -1, by: float = DIFFERENT
) -> Tensor:
    """Say where a change of the input arrived: true from `by` on, false within `SAME`.

    Args:
        before: What was computed from one input.
        after: What was computed from another.
        axis: Over these the largest difference counts.
        by: What no rounding explains.

    Returns:
        A mask over the other axes. A difference too large for rounding and too small for a
        dependence is an error: choose a larger change.
    """
    gap = (before - after).abs().amax(axis)
    near, far = gap <= SAME[gap.dtype] * max(1.0, _largest(before)), gap >= by
    assert (near | far).all(), f"neither the same nor different: {gap[~(near | far)].tolist()}"
    return far


def reached(derivatives: Tensor, by: float = 1e-6) -> Tensor:
    """Say where derivatives arrived: true from `by` on, false at exactly 0, and nothing between.

    Automatic differentiation finds no path, or multiplies by the exact zero of a mask.
    """
    size = derivatives.abs()
    assert ((size == 0) | (size >= by)).all(), f"neither 0 nor {by}: {size.tolist()}"
    return size >= by


def difference(ours: Numbers, theirs: Numbers) -> float:
    """The largest absolute difference; equal infinities differ by 0, NaN from all by infinity."""
    ours, theirs = _tensor(ours), _tensor(theirs)
    gap = torch.where(ours == theirs, 0.0, (ours.double() - theirs.double()).abs())
    return gap.nan_to_num(nan=math.inf, posinf=math.inf).max().item() if gap.numel() else 0.0


def _tensor(numbers: Numbers) -> Tensor:
    if isinstance(numbers, Tensor):
        return numbers.detach()
    return torch.tensor(numbers, dtype=torch.float64)


def _largest(numbers: Tensor) -> float:
    finite = numbers[numbers.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0
