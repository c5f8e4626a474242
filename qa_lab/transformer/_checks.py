"""What is refused at the door: sizes, vectors, ids and masks that cannot mean what they say.

A mistake that is let in becomes a number that looks right, or an error about a matrix that nobody
has heard of. Shapes and types are compared everywhere, which costs nothing. Values are read where a
tensor comes in, and once: inside a stack, `values_are_checked` says that they have been.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_checked = ContextVar("values have been checked", default=False)


@contextmanager
def values_are_checked() -> Iterator[None]:
    """Spare what is called here a second look at values that were checked at the door."""
    before = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(before)


def to_be_read(x: Tensor) -> bool:
    """Say whether the values of a tensor are there to be checked, and have not been.

    They are not there while a model is compiled or exported, under `vmap`, and on the meta device.
    To read them from a GPU makes the program wait for it, so there a layer takes them on trust.
    """
    if torch.compiler.is_compiling() or _checked.get():
        return False
    is_wrapped = isinstance(x, FakeTensor) or torch._C._functorch.is_functorch_wrapped_tensor(x)
    return x.device.type == "cpu" and not is_wrapped


def check_at_least_one(**sizes: int) -> None:
    """Refuse a size that is no number of things.

    Args:
        **sizes: Each by its name.

    Raises:
        TypeError: One is not a whole number: d_model / n_heads, say, for d_model // n_heads.
        ValueError: One is less than 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral):
            raise TypeError(f"{name} must be a whole number; got {size!r}.")
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}.")


def check_eps(eps: float) -> None:
    """Refuse what would leave a norm with the root of a negative number.

    Args:
        eps: In the units of x squared.

    Raises:
        ValueError: It is negative or NaN.
    """
    if not eps >= 0:
        raise ValueError(f"eps must be at least 0; got {eps}.")


def check_batch(**tensors: Tensor) -> None:
    """Refuse tensors that are not of one batch, which would be broadcast where one has one row.

    Args:
        **tensors: Each by its name, the batch first.

    Raises:
        ValueError: They have different numbers of rows.
    """
    if len({len(x) for x in tensors.values()}) > 1:
        shapes = _listed([str(list(x.shape)) for x in tensors.values()])
        raise ValueError(f"{_listed(list(tensors))} must be of one batch; got the shapes {shapes}.")


def check_width(x: Tensor, width: int, name: str = "x") -> None:
    """Refuse vectors of another width, which would be broadcast if theirs is 1.

    Args:
        x: Vectors.
        width: What is needed, in features.
        name: What the caller calls x.

    Raises:
        TypeError: x holds whole numbers (ids that were not embedded) or a mask.
        ValueError: x is of another width.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must hold floating-point numbers; got {x.dtype} of shape {list(x.shape)}. "
            "Embed ids first, and give a mask as real= or keep=."
        )
    if not x.ndim or x.shape[-1] != width:
        raise ValueError(f"{name} must be {width} features wide; got the shape {list(x.shape)}.")


def check_vectors(x: Tensor, d_model: int, name: str = "x") -> None:
    """Refuse what is no sequence of vectors of a model's width.

    Args:
        x: One vector for each token.
        d_model: The width, in features.
        name: What the caller calls x.

    Raises:
        TypeError: It holds whole numbers (ids that were not embedded) or a mask.
        ValueError: It is not [batch length d_model], or there is no token in it.
    """
    check_width(x, d_model, name)
    if x.ndim != 3:
        raise ValueError(f"{name} must be [batch length d_model]; got the shape {list(x.shape)}.")
    if not x.numel():
        raise ValueError(f"{name} holds no token: its shape is {list(x.shape)}.")


def check_ids(ids: Tensor, name: str = "ids", axes: str = "batch length") -> None:
    """Refuse what cannot be token ids, or other whole numbers.

    Args:
        ids: The numbers. Whether they lie in a vocabulary is for the vocabulary to say.
        name: What the caller calls them.
        axes: Theirs, in words.

    Raises:
        TypeError: They are not a tensor of torch.int64 or torch.int32. (Numbers of 8 bits would be
            read as a mask.)
        ValueError: They have other axes.
    """
    kind = getattr(ids, "dtype", type(ids).__name__)
    if kind not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be a tensor of whole numbers, torch.int64; got {kind}.")
    if ids.ndim != len(axes.split()):
        raise ValueError(f"{name} must be [{axes}]; got the shape {list(ids.shape)}.")


def check_lengths(lengths: Tensor, least: int, most: int, name: str = "lengths") -> None:
    """Refuse what cannot be the lengths of sequences that were padded to one length.

    Args:
        lengths: One for each sequence, in tokens.
        least: The shortest that makes sense, in tokens.
        most: Positions after padding, in tokens.
        name: What the caller calls them.

    Raises:
        TypeError: They are not whole numbers.
        ValueError: They are not [batch], or one lies outside least..most.
    """
    check_ids(lengths, name, "batch")
    if to_be_read(lengths) and ((lengths < least) | (lengths > most)).any():
        raise ValueError(f"{name} must lie in {least}..{most} tokens; got {lengths.tolist()}.")


def check_token_mask(real: Tensor, x: Tensor, name: str = "real", of: str = "x") -> None:
    """Refuse a token mask that would pick other tokens than it says.

    Args:
        real: The mask.
        x: What it is for, [batch length] or [batch length d_model].
        name: What the caller calls the mask.
        of: What the caller calls x.

    Raises:
        TypeError: The mask is not Boolean. (An integer mask would be read as positions.)
        ValueError: It is not [batch length].
    """
    if real.dtype != torch.bool:
        raise TypeError(f"{name} must be torch.bool, True = a real token; got {real.dtype}.")
    if real.shape != x.shape[:2]:
        raise ValueError(
            f"{name} has shape {list(real.shape)}; {of}, {list(x.shape)}, needs the token mask "
            f"[batch length] = {list(x.shape[:2])}."
        )


def check_qkv(q: Tensor, k: Tensor, v: Tensor | None = None, *, one_width: bool = True) -> None:
    """Refuse queries, keys and values that do not belong together.

    Args:
        q: Queries.
        k: Keys.
        v: Values. None: there are none yet.
        one_width: Whether a query must be as wide as a key.

    Raises:
        TypeError: The queries are whole numbers.
        ValueError: The shapes do not fit (a batch of 1 would be broadcast), or there is no key.
    """
    v_fits = v is None or k.shape[:-1] == v.shape[:-1]
    fit = v_fits and q.ndim > 1 and q.shape[:-2] == k.shape[:-2]
    if not fit or (one_width and q.shape[-1] != k.shape[-1]):
        d_q = "d_k" if one_width else "d_q"
        axes = [f"q [... query {d_q}]", "k [... key d_k]", "v [... key d_v]"]
        given = [x for x in (q, k, v) if x is not None]
        shapes = _listed([str(list(x.shape)) for x in given])
        raise ValueError(f"give {_listed(axes[: len(given)])}; got {shapes}.")
    if not q.is_floating_point():
        raise TypeError(f"attention needs floating-point queries; got {q.dtype}.")
    if not k.shape[-2]:
        raise ValueError(f"there is no key to look at: k has the shape {list(k.shape)}.")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
