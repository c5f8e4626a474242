"""Optimisers against the papers' updates in plain Python."""

import math

import pytest
import torch
from torch import nn

from qa_lab.transformer.layers import TokenEmbedding, Unembedding
from qa_lab.transformer.training import adam, adamw


def by_hand(w, gradients, lr, betas, eps, decay):
    """Adam's update for one number, step by step; the decay apart from the gradient's moments."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        w = w - lr * decay * w - lr * m_hat / (math.sqrt(v_hat) + eps)
    return w


@pytest.mark.parametrize(
    "make, betas, eps, decays",
    [
        (adam, (0.9, 0.98), 1e-9, {1: 0.0, 2: 0.0, 3: 0.0}),
        (adamw, (0.9, 0.95), 1e-8, {1: 0.0, 2: 0.1, 3: 0.1}),
        (lambda m, lr: adamw(m, lr, weight_decay=0.7), (0.9, 0.95), 1e-8, {1: 0, 2: 0.7, 3: 0.7}),
    ],
)
@pytest.mark.parametrize("size", [1.0, 3e-9])  # at gradients of 3e-9, eps is seen too
def test_three_steps_are_the_papers(make, betas, eps, decays, size):
    model = nn.ParameterList([torch.randn(shape) for shape in ((3,), (2, 5), (2, 3, 2))])
    before = [p.detach().clone() for p in model]
    gradients = [[size * torch.randn_like(p) for p in model] for _ in range(3)]
    optimizer = make(model, 0.05)
    for step in gradients:
        for p, g in zip(model, step, strict=True):
            p.grad = g
        optimizer.step()
    for i, p in enumerate(model):
        for j, w in enumerate(p.flatten().tolist()):
            seen = [step[i].flatten()[j].item() for step in gradients]
            expected = by_hand(
                before[i].flatten()[j].item(), seen, 0.05, betas, eps, decays[p.ndim]
            )
            assert w == pytest.approx(expected, abs=1e-10)


def test_tied_embeddings_decay_once():
    embedding = TokenEmbedding(17, 4)
    model = nn.ModuleList([embedding, Unembedding(4, 17, tied_to=embedding), nn.LayerNorm(4)])
    decaying, rest = adamw(model, 0.1).param_groups
    assert [p is embedding.W_E for p in decaying["params"]] == [True]
    assert [p.shape for p in rest["params"]] == [(4,), (4,)]


@pytest.mark.parametrize("make", [adam, adamw])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_in_half_precision_are_refused(make, dtype):
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2).to(dtype))
    with pytest.raises(TypeError, match=rf"1\.weight is in {dtype}.* torch\.autocast"):
        make(model, 1e-3)


def test_what_would_happen_to_them():
    """The reason: at a rate of 0.001, the steps that float32 takes are rounded away."""
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        p = nn.Parameter(torch.ones(5, dtype=dtype))
        optimizer = torch.optim.Adam([p], 1e-3, fused=True)
        for _ in range(100):
            p.grad = torch.ones_like(p)
            optimizer.step()
        moved[dtype] = (1 - p).max().item()
    assert moved[torch.float32] == pytest.approx(0.1, rel=1e-3)
    assert moved[torch.bfloat16] == 0
