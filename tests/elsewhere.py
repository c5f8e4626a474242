"""A stand-in for a GPU: tensors that refuse the company of the CPU's, where there is no GPU.

    with elsewhere():
        ids = there(torch.tensor([[1, 2]]))     # ids.device is cuda:0
        rng = far_generator(seed=0)             # and so is rng.device
        generate(reader, ids, Sampler(rng), ...)  # an error wherever two devices meet

The numbers are computed on the CPU. What is imitated are the rules of devices: tensors of two
devices do not meet, but for scalars and indices that come from the CPU, and copies; a generator
draws on its own device only; numpy reads the CPU only.
"""

from copy import deepcopy

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
DEVICE = Tensor.device.__get__


class There(Tensor):
    """A tensor of the CPU that passes, inside `elsewhere`, for one of the GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class FarGenerator(Generator):
    """A generator of the CPU that says it is the GPU's."""

    device = CUDA


def there(x: Tensor) -> Tensor:
    """Move a tensor to the GPU that is not there."""
    return x.detach().clone().as_subclass(There)


def model_there(model: nn.Module) -> nn.Module:
    """Copy a model to the GPU that is not there, its parameters as plain tensors."""
    model = deepcopy(model)
    for name, weight in model.state_dict().items():
        owner, _, last = name.rpartition(".")
        delattr(model.get_submodule(owner), last)
        setattr(model.get_submodule(owner), last, there(weight))
    return model


def far_generator(seed: int) -> Generator:
    """Make a generator on the GPU that is not there; it draws what one on the CPU would."""
    rng = FarGenerator()
    rng.manual_seed(seed)
    return rng


def home(x: Tensor) -> torch.device:
    """Return the device that a tensor passes for."""
    return CUDA if isinstance(x, There) else CPU


class elsewhere(TorchFunctionMode):
    """Let the rules of devices hold."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == DEVICE:
            return home(args[0])
        if func.__name__ == "__get__":  # x.shape, x.T
            return moved(func(*args), home(args[0]))
        leaves = tree_leaves((args, kwargs))
        met = [x for x in leaves if isinstance(x, Tensor)]
        place = asked_for(func.__name__, args, kwargs) or whose(func.__name__, met)
        if func.__name__ == "numpy" and place == CUDA:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        check_company(func.__name__, args, met)
        for rng in leaves:
            if isinstance(rng, Generator) and rng.device != place:
                raise RuntimeError(f"Expected a '{place}' generator but found '{rng.device}'")
        args, kwargs = tree_map(lambda x: CPU if isinstance(x, torch.device) else x, (args, kwargs))
        out = func(*args, **kwargs)
        if func.__name__ in ("to", "cpu", "cuda") and home(out) != place:
            out = out.clone()  # what crosses over is a copy
        return tree_map(lambda x: moved(x, place), out)


def asked_for(name: str, args: tuple, kwargs: dict) -> torch.device | None:
    """Return the device that a call names; None: it names none."""
    if name in ("cpu", "cuda"):
        return CUDA if name == "cuda" else CPU
    named = kwargs.get("device")
    if name == "to":
        named = next((a for a in args[1:] if isinstance(a, torch.device | str)), named)
        named = next((home(a) for a in args[1:] if isinstance(a, Tensor)), named)
    return None if named is None else torch.device(named)


def whose(name: str, met: list[Tensor]) -> torch.device:
    """Return where the result of a call lies that names no device."""
    if name in ("__getitem__", "__setitem__", "copy_"):
        return home(met[0])
    return CUDA if any(home(x) == CUDA for x in met) else CPU


def check_company(name: str, args: tuple, met: list[Tensor]) -> None:
    """Refuse tensors of two devices in one call."""
    if name in ("to", "copy_"):
        return
    if name in (
        "__getitem__",
        "__setitem__",
    ):  # indices may come from the CPU, values from anywhere
        indices = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
        wrong = home(args[0]) == CPU and any(home(x) == CUDA for x in indices)
    else:
        far = any(home(x) == CUDA for x in met)
        wrong = far and any(home(x) == CPU and x.ndim for x in met)
    if wrong:
        raise RuntimeError(f"Expected all tensors to be on the same device in {name}")


def moved(x: object, place: torch.device) -> object:
    """Let a result pass for a tensor of the device where it lies: a view stays a view."""
    if not isinstance(x, Tensor) or home(x) == place:
        return x
    return x.as_subclass(There if place == CUDA else Tensor)
