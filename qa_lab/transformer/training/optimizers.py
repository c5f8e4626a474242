"""Optimisers: functions from a model and a learning rate to a torch.optim.Optimizer.

The parameters are in float32 or float64. Half precision is for computing with them, by
`torch.autocast`; see `check_precise`.
"""

import torch
from torch import nn

from qa_lab.transformer._precision import at_least_float32


def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Make the Transformer's optimiser.

    Paper: Kingma and Ba 2014, arXiv:1412.6980, algorithm 1; beta_2 and eps from Vaswani et al.
        2017, arXiv:1706.03762, section 5.3.

    Args:
        model: Whose parameters are trained.
        lr: Learning rate.

    Returns:
        Adam with betas (0.9, 0.98) and eps 1e-9.

    Raises:
        TypeError: A parameter is in half precision.
    """
    check_precise(model)
    return torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.98), eps=1e-9, fused=True)


def adamw(model: nn.Module, lr: float, *, weight_decay: float = 0.1) -> torch.optim.Optimizer:
    r"""Make GPT-3's optimiser: Adam, and matrices that shrink a little on every step.

    $$ W <- W - lr * weight\_decay * W - lr * \hat{m} / (\sqrt{\hat{v}} + eps) $$

    Matrices decay, embeddings among them, as in GPT, BERT and nanoGPT; with tied embeddings that
    matrix is also the output layer's. Vectors do not: pulling a norm's gain to 0 would not make
    the model simpler, it would switch the layer off, and a bias is too few numbers to overfit with.

    Paper: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; betas, eps and weight_decay
        from Brown et al. 2020, arXiv:2005.14165, appendix B.
    Departs: the decay is multiplied by the learning rate, as in PyTorch, where the paper multiplies
        it by the schedule's factor alone.

    Args:
        model: Whose parameters are trained.
        lr: Learning rate.
        weight_decay: Dimensionless, at least 0.

    Returns:
        AdamW with betas (0.9, 0.95) and eps 1e-8; of its two groups only the first, of the
        parameters with two axes or more, decays.

    Raises:
        TypeError: A parameter is in half precision.
        ValueError: weight_decay is negative.
    """
    check_precise(model)
    if not weight_decay >= 0:
        raise ValueError(
            f"weight_decay must be at least 0: weights would grow; got {weight_decay}."
        )
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def check_precise(model: nn.Module) -> None:
    """Refuse to train parameters that are kept in half precision.

    PyTorch's Adam does it without a word. Near 1 a bfloat16 parameter stays where it is, as half of
    its last digit, 1/256, is more than a step of 0.001. In float16 the mean square of gradients of
    1e-4 rounds to 0, and the steps are too large by far.

    Raises:
        TypeError: A parameter is in float16 or bfloat16.
    """
    for name, parameter in model.named_parameters():
        if at_least_float32(parameter) is not parameter:
            raise TypeError(
                f"{name} is in {parameter.dtype}, in which Adam's small steps are rounded away. "
                "Keep the parameters in float32 and compute in half precision by torch.autocast, "
                "as in_bfloat16 does."
            )
