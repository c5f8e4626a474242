"""One parameter, one name: a part that serves in two places is registered in the first only.

PyTorch lets a module stand under two names. `torch.func.functional_call` then puts its parameters
in twice, takes them out once, and the model is left without its own; and every saved model holds
them twice, to be loaded from two values that may differ.
"""

import torch
from torch import Tensor, nn


def register_once(model: nn.Module) -> None:
    """Keep the first name of every part that has several; the others become plain attributes.

    They can be read as before, but `parameters`, `state_dict`, `to` and the like do not see them.
    What was saved under all of the names can still be loaded.

    Args:
        model: Changed in place.
    """
    seen = set()
    for parent in model.modules():
        for name, part in list(parent._modules.items()):
            if part in seen:
                del parent._modules[name]
                vars(parent)[name] = part
            elif part is not None:
                seen.add(part)
    model.register_load_state_dict_pre_hook(load_once)


def load_once(model: nn.Module, saved: dict[str, Tensor], prefix: str, *others: object) -> None:
    """Pass over what was saved under further names, if it is equal; this is a hook.

    Args:
        model: May have parts with several names; see `register_once`.
        saved: What is to be loaded, by name. Changed in place.
        prefix: Of the names of the model's parts.
        *others: What else such a hook is given. The last is the list of errors; what was saved with
            two values is one.
    """
    parts = dict(model.named_modules())
    names = {part: name for name, part in parts.items()}
    for parent, holder in parts.items():
        for name, part in vars(holder).items():
            if not isinstance(part, nn.Module) or part not in names:
                continue
            second = prefix + f"{parent}.{name}.".removeprefix(".")
            for key in [key for key in saved if key.startswith(second)]:
                first = f"{prefix}{names[part]}.{key.removeprefix(second)}"
                value = saved.pop(key)
                if not is_same(value, saved.setdefault(first, value)):
                    others[-1].append(f"{first} and {key} are one here, but two in what was saved.")


def is_same(saved: Tensor, other: Tensor) -> bool:
    """Tell whether a saved tensor has the values of another, in the other's dtype and device."""
    if saved.is_meta or other.is_meta:
        return True  # there are no values that could differ
    return saved.shape == other.shape and torch.allclose(
        saved.to(other), other, rtol=0, atol=0, equal_nan=True
    )
