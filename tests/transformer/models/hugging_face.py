"""Hugging Face's models in float64 throughout: some of their parts round to float32 in any model.

What is put in their place is PyTorch's, or the papers' formula, and none of ours.
"""

import numpy as np
import torch
from torch import nn


def with_torchs_norms(model, eps):
    """Put PyTorch's RMSNorm in the place of theirs, which rounds."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "T5LayerNorm"):
                norm = nn.RMSNorm(len(child.weight), eps=eps, dtype=torch.float64)
                norm.weight = child.weight
                setattr(module, name, norm)


class Float64Angles(nn.Module):
    """In the place of their rotary table, which rounds."""

    def __init__(self, base, d_k):
        super().__init__()
        self.frequency = base ** (-torch.arange(0, d_k, 2, dtype=torch.float64) / d_k)

    def forward(self, x, position_ids):
        angle = (position_ids[..., None] * self.frequency).repeat(1, 1, 2)
        return angle.cos(), angle.sin()


def with_float64_sinusoids(embedding):
    """Make Marian's table of positions anew; its own rounds."""
    length, width = embedding.weight.shape
    angle = np.arange(length)[:, None] / np.power(10_000, np.arange(0, width, 2) / width)
    table = torch.from_numpy(np.concatenate([np.sin(angle), np.cos(angle)], axis=1))
    assert (table - embedding.weight).abs().max() <= 1e-7  # float32
    embedding.weight = nn.Parameter(table, requires_grad=False)
