"""What a computation costs, counted and not timed.

Counts are the same on every machine and in every run; clocks are not. What a computation costs is
asked with `run`, a function without arguments: a forward pass, or a forward and a backward pass.

    flops(lambda: model(ids))
    flops(lambda: model(ids).sum().backward())
"""

import os
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

Run = Callable[[], Any]
aten = torch.ops.aten


def _fused_forward(q, k, v, *_, **__) -> int:
    return sdpa_flop_count(q, k, v)


def _fused_backward(gradient, q, k, v, *_, **__) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)


def _with_a_vector(*shapes, out_shape=None, **_) -> int:
    return 2 * prod(shapes[-2])  # a product of shapes[-2] and shapes[-1], after what is added


# PyTorch's counter knows neither the fused attention of CPUs nor products with one vector, and
# would count 0 without a word.
_COUNTED_HERE = {
    aten._scaled_dot_product_flash_attention_for_cpu: _fused_forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_backward,
    aten.mv: _with_a_vector,
    aten.addmv: _with_a_vector,
    aten.dot: _with_a_vector,
}
_MULTIPLIES = ("attention", "conv", "gru", "lstm", "linear", "matmul", "rnn")


def flops(run: Run) -> int:
    r"""Count the floating-point operations of all matrix products.

    $$ flops(A B) = 2 m k n  for  A [m k],  B [k n] $$

    A multiplication and an addition are two. Elementwise work (softmax, norms, activations) does
    not count, as usual: it grows with a lower power of the width.

    Args:
        run: The computation.

    Returns:
        The count. PyTorch's fused attention on CPUs counts as its two products forwards, and as
        five backwards, since it makes the scores again.

    Raises:
        ValueError: An operation multiplies matrices inside and cannot be counted.
    """
    _check_run(run)
    with (
        _Uncounted() as uncounted,
        FlopCounterMode(display=False, custom_mapping=_COUNTED_HERE) as counter,
    ):
        run()
    if uncounted.names:
        raise ValueError(
            f"{sorted(uncounted.names)} multiply matrices where nobody can count: use the readable "
            "form of the mechanism instead of the fused one."
        )
    return counter.get_total_flops()


def parameter_count(model: nn.Module) -> int:
    """Count a model's parameters, tied ones once.

    Args:
        model: On any device, `meta` included.

    Returns:
        The count.
    """
    return sum(p.numel() for p in model.parameters())


def parameter_bytes(model: nn.Module) -> int:
    """Size up a model's parameters, tied ones once.

    Args:
        model: On any device, `meta` included.

    Returns:
        Bytes.
    """
    return sum(p.numel() * p.element_size() for p in model.parameters())


def saved_bytes(run: Run, *models: nn.Module) -> int:
    """Size up what a forward pass keeps for the backward pass.

    Args:
        run: A forward pass; what it returns keeps the saved activations alive.
        *models: Whose parameters do not count: they are there anyway.

    Returns:
        Bytes, each block of memory counted once, whichever operations saved it.
    """
    _check_run(run)
    owned = {_storage(p) for model in models for p in model.parameters()}
    saved: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in owned:
            saved[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def sequential_depth(run: Run) -> int:
    r"""Count the operations on the longest chain in which each needs the one before.

    $$ depth(y) = 1 + \max_{x  in  inputs} depth(x) $$

    With enough processors this, not the number of operations, is the time. Views are free. Two
    operations that write into one block of memory count as a chain.

    Args:
        run: The computation. What exists before it has depth 0.

    Returns:
        Operations.

    Raises:
        ValueError: A fused recurrent kernel ran, which hides its steps.
    """
    _check_run(run)
    with _Depth() as mode:
        run()
    return mode.deepest


def peak_bytes(run: Run) -> int:
    """Measure the most memory of the CPU that a computation holds at one time.

    Args:
        run: The computation.

    Returns:
        Bytes allocated since its start, temporary ones of every kernel included. What existed
        before does not count.
    """
    _check_run(run)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would write to stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _check_run(run: Run) -> None:
    if not callable(run):
        raise TypeError(
            f"run must be a function to call, lambda: model(ids), not what it returned; got "
            f"{type(run).__name__}."
        )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Uncounted(TorchDispatchMode):
    """Notes operations that multiply matrices and that no formula counts."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        known = operation.overloadpacket in {**flop_registry, **_COUNTED_HERE}
        name = operation.overloadpacket.__name__
        if not known and any(word in name for word in _MULTIPLIES):
            self.names.add(name)
        return operation(*args, **(kwargs or {}))


class _Depth(TorchDispatchMode):
    """Gives every block of memory the depth of what was last written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.depths: dict[int, int] = {}
        self.alive: list[Tensor] = []  # so that no address is used twice
        self.deepest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if "rnn" in (name := operation.overloadpacket.__name__) or "lstm" in name or "gru" in name:
            raise ValueError(f"{name} hides its steps: use the readable form of the recurrence.")
        result = operation(*args, **(kwargs or {}))
        read = [_storage(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        depth = 1 + max((self.depths.get(block, 0) for block in read), default=0)
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and (operation._schema.is_mutable or _storage(x) not in read):
                self.depths[_storage(x)] = depth
                self.deepest = max(self.deepest, depth)
                self.alive.append(x)
        return result
