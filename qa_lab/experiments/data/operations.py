"""Arithmetic counted operation by operation: products of matrices and elementwise work alike.

`cost.flops` counts matrix products alone, as is usual. Where two mechanisms differ in their
elementwise work, additive scores and dot products for example, that is the wrong count.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = ("mm", "bmm", "mv")
_COPIES = ("_unsafe_view", "cat", "clone", "empty", "empty_like", "new_empty", "stack")


def operations(run: Callable[[], Any]) -> Counter[str]:
    r"""Count additions, multiplications and function values, by the operation that makes them.

    $$ operations(A B) = 2 m k n,  operations(f(X)) = |X| $$

    A matrix product needs two for each pair that meets, an elementwise operation one for each
    number that it makes. Views and copies are free. Works on the meta device, where nothing is
    computed, so that sizes that fit no memory can be counted.

    Args:
        run: The computation.

    Returns:
        Counts by PyTorch's name of the operation: `mm`, `add`, `tanh` …

    Raises:
        ValueError: An operation is neither a product nor elementwise, so nobody knows its count.
    """
    with _Counting() as counting:
        run()
    return counting.counts


class _Counting(TorchDispatchMode):
    """Adds up what every operation costs as it passes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if name in _PRODUCTS:
            self.counts[name] += 2 * args[0].shape[-1] * result.numel()
        elif operation.is_view or name in _COPIES:
            pass
        elif torch.Tag.pointwise in operation.tags and isinstance(result, Tensor):
            self.counts[name] += result.numel()
        else:
            raise ValueError(f"nobody knows what {name} costs: it is no product, nor elementwise.")
        return result
