"""Half precision in, half precision out, float32 in between.

float16 ends at 65504 and neither float16 nor bfloat16 counts to 5000: squares overflow, and a long
sum stops growing. So what is summed, divided by a sum or put into an exponential is computed in
float32, and rounded once, at the end. float32 and float64 stay what they are.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

HALVES = (torch.float16, torch.bfloat16)
P = ParamSpec("P")
R = TypeVar("R")


def at_least_float32(x: Tensor) -> Tensor:
    """Lift half precision to float32.

    Args:
        x: Floating-point numbers.

    Returns:
        x in float32 if it has less, else x itself.
    """
    return x.float() if x.dtype in HALVES else x


def autocast_is_on(x: Tensor) -> bool:
    """Say whether matrix products on the device of x are rounded to half precision."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Leave autocast, under which a matrix product would round its factors to half precision.

    Args:
        x: A tensor on the device in question.

    Returns:
        A context to compute in.
    """
    return torch.autocast(x.device.type, enabled=False) if autocast_is_on(x) else nullcontext()


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Compute a formula in float32 at least, whatever the precision of its arguments.

        @in_float32
        def mean(x): return x.sum(0) / len(x)

    Args:
        function: A formula of tensors, the first of which is called x here. Tensors may stand in
            tuples, too.

    Returns:
        The same formula. Its result has the dtype of x; of a tuple the first entry has, and the
        rest (a state to go on from, say) keeps the precision that it was computed in.
    """

    @wraps(function)
    def precise(*args: P.args, **kwargs: P.kwargs) -> R:
        x = args[0] if args else None
        if not isinstance(x, Tensor):
            x = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        if x.dtype not in HALVES and not autocast_is_on(x):
            return function(*args, **kwargs)
        args, kwargs = _lifted(args), {name: _lifted(a) for name, a in kwargs.items()}
        with without_autocast(x):
            result = function(*args, **kwargs)
        if isinstance(result, tuple):
            return (_rounded(result[0], x), *result[1:])
        return _rounded(result, x)

    return precise


def call_in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module as if its parameters were in float32 at least.

    Args:
        module: Takes one tensor. It is left as it is; its hooks run.
        x: In float32 at least.

    Returns:
        What the module makes of x, in the dtype of x.
    """
    weights = {name: at_least_float32(weight) for name, weight in module.named_parameters()}
    with without_autocast(x):
        return torch.func.functional_call(module, weights, (x,))


def _lifted(value: object) -> object:
    """Lift the floating-point tensors in an argument."""
    if isinstance(value, Tensor):
        return at_least_float32(value)
    if isinstance(value, tuple):
        parts = [_lifted(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _rounded(result: Tensor, like: Tensor) -> Tensor:
    """Round a result to the dtype of an argument, unless it is made of whole numbers."""
    return result.to(like.dtype) if result.is_floating_point() else result
