"""Look at shapes once: a call like an earlier one would be found as right or wrong as that was.

`jaxtyping` binds and compares the shapes of every call, which takes longer than most of the calls
in these tests: a text that is decoded token by token is looked at a thousand times.
"""

import functools
import inspect
import weakref
from collections.abc import Callable

import jaxtyping
from torch import Tensor, nn

check_every_call = jaxtyping.jaxtyped


def check_once(*, typechecker: Callable) -> Callable:
    """Decorate as `jaxtyping.jaxtyped` does, to check one call of each kind; see `kind`."""

    def decorate(function: Callable) -> Callable:
        checked = check_every_call(typechecker=typechecker)(function)
        if inspect.isclass(function):
            return checked
        seen = weakref.WeakKeyDictionary()  # what a module has been called with, while it lives

        @functools.wraps(function)
        def call(*args: object, **named: object) -> object:
            if jaxtyping.config.jaxtyping_disable:
                return function(*args, **named)
            owner = args[0] if args and isinstance(args[0], nn.Module) else function
            calls, this = seen.setdefault(owner, set()), (kind(args), kind(named))
            if this in calls:
                return function(*args, **named)
            out = checked(*args, **named)
            calls.add(this)
            return out

        return call

    return decorate


def kind(x: object) -> object:
    """Whatever a shape in a signature may depend on: shapes and whole numbers.

    What a call returns is checked with its arguments, and again only for arguments of another kind.
    """
    if isinstance(x, Tensor):
        return type(x), x.shape, x.dtype
    if isinstance(x, tuple | list):
        return type(x), *map(kind, x)
    if isinstance(x, dict):
        return type(x), *x, *map(kind, x.values())
    return (type(x), x) if isinstance(x, int) else type(x)
