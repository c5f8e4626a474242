"""Half precision is ordinary input: what it gives is the exact result, rounded.

The exact result is float64's, from the very numbers that half precision holds. Every public name
has a case in `half_precision.py`.
"""

import copy
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

import qa_lab.transformer
from qa_lab.transformer.attention import LinearState, elu_plus_one, linear_attention_step
from qa_lab.transformer.layers import layer_norm, rms_norm
from qa_lab.transformer.rivals import causal_mean
from tests.comparing import assert_identical
from tests.transformer.half_precision import CASES, ELSEWHERE, Case

HALVES = [torch.float16, torch.bfloat16]
ROOMS = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(qa_lab.transformer.__path__, "qa_lab.transformer.")
    if found.ispkg
]


def home(value: object) -> str | None:
    """Name the module of a module, a function or a class."""
    if inspect.ismodule(value):
        return value.__name__
    return value.__module__ if inspect.isfunction(value) or inspect.isclass(value) else None


def public(room: types.ModuleType) -> dict[str, object]:
    """Return the functions and classes of a room, those of the modules that it shows included."""
    found = {}
    for name in getattr(room, "__all__", dir(room)):
        value = getattr(room, name)
        if name.startswith("_") or room.__name__ not in (home(value) or ""):
            continue
        found |= public(value) if inspect.ismodule(value) else {name: value}
    return found


def annotations(value: object) -> list[object]:
    """Return what a function, or a class and its methods, say that they are called with."""
    methods = [m for name, m in inspect.getmembers(value, inspect.isfunction) if name[0] != "_"]
    called = [value, *methods] if inspect.isclass(value) else [value]
    return [p.annotation for f in called for p in inspect.signature(f).parameters.values()]


def holds_numbers(annotation: object) -> bool:
    """Say whether an annotation lets floating-point tensors in, or a module, which holds some."""
    if annotation is Tensor or any(holds_numbers(part) for part in typing.get_args(annotation)):
        return True
    if not inspect.isclass(annotation):
        return False
    kinds = getattr(annotation, "dtypes", ())  # of a jaxtyping annotation; Shaped takes any
    return issubclass(annotation, nn.Module) or kinds is Shaped.dtypes or "float32" in kinds


def takes_numbers(value: object) -> bool:
    module = inspect.isclass(value) and issubclass(value, nn.Module)
    return module or any(holds_numbers(a) for a in annotations(value))


ALL = {name: value for room in ROOMS for name, value in public(room).items()}


def test_every_public_name_has_a_case_or_a_reason():
    needed = {name for name, value in ALL.items() if takes_numbers(value)}
    missing = sorted(needed - CASES.keys() - ELSEWHERE.keys())
    assert not missing, f"add to CASES in tests/transformer/half_precision.py a case of {missing}."
    assert not CASES.keys() & ELSEWHERE.keys()
    gone = sorted(CASES.keys() - ALL.keys() | ELSEWHERE.keys() - needed)
    assert not gone, f"take out of tests/transformer/half_precision.py: {gone}."


def converted(value: object, dtype: torch.dtype) -> object:
    """Copy arguments, a function's bound ones too, with all their numbers in one precision."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(dtype)
    if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
        return getattr(converted(value.__self__, dtype), value.__name__)
    if isinstance(value, partial):
        return partial(converted(value.func, dtype), *value.args, **value.keywords)
    if isinstance(value, list | tuple):
        parts = [converted(part, dtype) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def tensors(value: object) -> list[Tensor]:
    """List the tensors in what a function returned."""
    if isinstance(value, list | tuple):
        return [x for part in value for x in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def run(function, *arguments) -> list[Tensor]:
    torch.manual_seed(0)
    return tensors(function(*arguments))


def assert_rounded(ours: Tensor, exact: Tensor, within: float, eps: float) -> None:
    """Compare, in units of eps times (|result| + root mean square of the results)."""
    assert ours.shape == exact.shape
    smallest = torch.finfo(ours.dtype).smallest_normal
    exact = torch.where(exact.abs() > torch.finfo(ours.dtype).max, exact.sign() * torch.inf, exact)
    ours, finite = ours.double(), exact.isfinite()
    lost = int((finite & ~ours.isfinite()).sum())
    assert not lost, f"{lost} not finite"
    assert_identical(ours[~finite], exact[~finite], "infinities: -inf says what is ruled out")
    ours, exact = ours[finite], exact[finite]
    # Below the smallest normal number the spacing is no longer relative.
    unit = eps * (exact.abs() + exact.square().mean().sqrt() + smallest)
    far = ((ours - exact).abs() / unit).max().item()
    assert far <= within, f"{far:.1f} units away; {within:g} are allowed"


def check(case: Case, dtype: torch.dtype) -> None:
    """Run a case in half precision and in float64, and compare."""
    halves = converted(case.make(), dtype)
    exact = converted(halves, torch.float64)
    for ours, theirs in zip(run(*halves), run(*exact), strict=True):
        if not theirs.is_floating_point():
            assert_identical(ours, theirs)
        elif case.wide and ours.dtype != dtype:
            assert ours.dtype in (torch.float32, torch.float64)
            wide = case.float32_within is not None
            assert_rounded(
                ours,
                theirs,
                case.float32_within if wide else case.within,
                torch.finfo(torch.float32 if wide else dtype).eps,
            )
        else:
            assert ours.dtype == dtype
            assert_rounded(ours, theirs, case.within, torch.finfo(dtype).eps)


def cases(name: str) -> list[Case]:
    """Return the cases of a name, of which there may be one or more."""
    found = CASES[name]
    return found if isinstance(found, list) else [found]


def listed(names: Iterable[str] = CASES) -> list:
    """Make a parameter of every case, whose id is its name, and its number if there are several."""
    return [
        pytest.param(case, id=name if len(cases(name)) == 1 else f"{name}-{i}")
        for name in names
        for i, case in enumerate(cases(name))
    ]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", listed())
@torch.no_grad()
def test_half_precision_is_the_exact_result_rounded(case, dtype):
    check(case, dtype)


SUMS = [
    "linear_attention",
    "causal_linear_attention",
    "recurrent_linear_attention",
    "layer_norm",
    "LayerNorm",
    "rms_norm",
    "RMSNorm",
    "BatchNorm",
    "GroupNorm",
    "GatedFeedForward",
    "mean_over_tokens",
    "causal_mean",
    "RecurrentLayer",
    "cross_entropy",
    "smoothed_cross_entropy",
]
"""What sums over many terms, or goes on from its own state."""


@pytest.mark.parametrize("case", listed([*SUMS, "DecoderOnly", "RecurrentLM"]))
@torch.no_grad()
def test_autocast_rounds_no_sum(case):
    single = converted(case.make(), torch.float32)
    exact = converted(single, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(*single)
    for ours, theirs in zip(found, run(*exact), strict=True):
        # Twice as far as in half precision: the factors of a product are rounded, too.
        assert_rounded(ours, theirs, 2 * case.within, torch.finfo(torch.bfloat16).eps)


def leaves(value: object) -> list[Tensor]:
    """List the floating-point tensors and the parameters in arguments, and ask for gradients."""
    if isinstance(value, list | tuple):
        return [x for part in value for x in leaves(part)]
    if isinstance(value, nn.Module):
        return list(value.parameters())
    found = isinstance(value, Tensor) and value.is_floating_point()
    return [value.requires_grad_()] if found else []


def gradients(function_and_arguments: tuple) -> list[Tensor]:
    """Differentiate a sum of a function's output, with random signs."""
    inputs = leaves(function_and_arguments)
    out = run(*function_and_arguments)[0]
    signs = torch.randn(out.shape).sign().to(out.dtype)
    signs = signs / 64 if out.ndim else signs  # so that gradients fit in float16
    return torch.autograd.grad((out * signs).sum(dtype=torch.float64), inputs)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", listed([*SUMS, "masked_softmax", "InstanceNorm"]))
def test_so_is_the_gradient(case, dtype):
    halves = tuple(converted(case.make(), dtype))
    exact = converted(halves, torch.float64)
    for ours, theirs in zip(gradients(halves), gradients(exact), strict=True):
        assert ours.dtype == dtype
        assert_rounded(ours, theirs, 2 * case.within, torch.finfo(dtype).eps)


def one_by_one(x: Tensor) -> Tensor:
    """Average the tokens, each sum rounded: it stops growing."""
    total = torch.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        total = total + x[:, t]
    return total / x.shape[1]


def state_in_half(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend linearly with a state that is rounded at every step."""
    phi_q, phi_k, state, outs = elu_plus_one(q), elu_plus_one(k), None, []
    for one in zip(phi_q.unbind(-2), phi_k.unbind(-2), v.unbind(-2), strict=True):
        out, state = linear_attention_step(*one, state)
        state = LinearState(*(part.to(q.dtype) for part in state))
        outs.append(out)
    return torch.stack(outs, -2)


@pytest.mark.parametrize(
    "name, broken, dtype",
    [
        ("mean_over_tokens", one_by_one, torch.float16),
        ("mean_over_tokens", one_by_one, torch.bfloat16),
        ("recurrent_linear_attention", state_in_half, torch.bfloat16),
    ],
)
@torch.no_grad()
def test_sums_in_half_precision_are_refused(name, broken, dtype):
    case = cases(name)[0]
    with pytest.raises(AssertionError, match=r"units away|not finite"):
        check(replace(case, make=lambda: (broken, *case.make()[1:])), dtype)


@pytest.mark.parametrize("function", [layer_norm, rms_norm, causal_mean], ids=lambda f: f.__name__)
@torch.no_grad()
def test_squares_and_sums_beyond_65504_are_refused(function):
    case = cases(function.__name__)[0]
    with pytest.raises(AssertionError, match=r"units away|not finite"):
        check(
            replace(case, make=lambda: (inspect.unwrap(function), *case.make()[1:])), torch.float16
        )
