"""Norms against PyTorch's own."""

import pytest
import torch
from torch import nn

from qa_lab.transformer.masks import real_tokens
from qa_lab.transformer.norms import BatchNorm, LayerNorm, batch_norm_statistics, layer_norm

LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture
def real():
    return real_tokens(LENGTHS, 7)


def test_layer_norm_agrees_with_torch(oracle, twins, size, real):
    theirs, ours = nn.LayerNorm(size.d_model), LayerNorm(size.d_model)
    pairs = oracle.norm(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    everywhere = torch.ones_like(real)
    oracle.agree(ours(x, real), theirs(x2), everywhere, pairs, [x], [x2])
    oracle.close(ours(x), theirs(x2))
    oracle.close(ours.eval()(x, real), theirs(x2))


def test_layer_norm_eps_is_inside_the_root(oracle, size):
    x, gain, bias = 1e-3 * torch.randn(3, size.d_model), torch.randn(22), torch.randn(22)
    theirs = nn.functional.layer_norm(x, [22], gain, bias, 1e-3)
    oracle.close(layer_norm(x, gain, bias, 1e-3), theirs)
    assert (layer_norm(torch.ones(1, 22), gain, bias) == bias).all()


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_batch_norm_agrees_with_torch_on_the_counted_positions(
    oracle, twins, size, real, count_padding, masked
):
    """Counting the padding is BatchNorm1d on all positions; leaving it out is on the real ones."""
    theirs = nn.BatchNorm1d(size.d_model, momentum=0.3)
    ours = BatchNorm(size.d_model, count_padding=count_padding, momentum=0.3)
    pairs = oracle.norm(theirs, ours)
    oracle.copy_random(pairs, ours)
    keep = real if masked else None
    counted = real if masked and not count_padding else torch.ones_like(real)
    for _ in range(3):
        x, x2 = twins(size.batch, size.query, size.d_model)
        ours.zero_grad(), theirs.zero_grad()
        out, expected = ours(2 * x + 5, keep)[counted], theirs((2 * x2 + 5)[counted])
        oracle.agree(out, expected, slice(None), pairs, [x], [x2])
        oracle.close(ours.running_mean, theirs.running_mean, "running mean")
        oracle.close(ours.running_variance, theirs.running_var, "running variance")
    ours.eval(), theirs.eval()
    x = torch.randn(size.batch, size.query, size.d_model)
    oracle.close(ours(x, keep), theirs(x.flatten(0, 1)).view_as(x), "evaluation")
    before = ours.running_mean.clone()
    ours(x, keep)
    assert torch.equal(ours.running_mean, before), "evaluation moved the running mean"


@pytest.mark.parametrize("count_padding", [True, False])
def test_padding_moves_real_tokens_only_when_counted(size, real, count_padding):
    norm = BatchNorm(size.d_model, count_padding=count_padding)
    x = torch.randn(size.batch, size.query, size.d_model)
    padded_otherwise = torch.where(real[..., None], x, 9.0)
    moved = (norm(x, real) - norm(padded_otherwise, real))[real].abs().max()
    assert moved > 0.1 if count_padding else moved == 0


def test_batch_statistics_are_the_biased_ones_of_the_counted(oracle, real):
    x = torch.randn(3, 7, 11)
    mean, variance, n = batch_norm_statistics(x, real)
    assert n == 14
    oracle.close(mean, x[real].mean(0), "mean")
    oracle.close(variance, x[real].var(0, correction=0), "variance")
    assert batch_norm_statistics(x)[2] == 21


def test_padded_positions_are_normalised_by_the_same_statistics(oracle, size, real):
    norm = BatchNorm(size.d_model, count_padding=False)
    x = torch.randn(size.batch, size.query, size.d_model)
    mean, variance, _ = batch_norm_statistics(x, real)
    oracle.close(norm(x, real), (x - mean) / (variance + 1e-5).sqrt())


def test_one_position_has_no_variance(size):
    x = torch.randn(1, 3, size.d_model)
    keep = torch.tensor([[True, False, False]])
    norm = BatchNorm(size.d_model, count_padding=False)
    with pytest.raises(
        ValueError, match=r"at least 2 counted positions.*got 1 in x of shape \[1, 3"
    ):
        norm(x, keep)
    assert norm.eval()(x, keep).isfinite().all()
    assert BatchNorm(size.d_model, count_padding=True)(x, keep).isfinite().all()
    with pytest.raises(ValueError, match="got 0 in x of shape"):
        batch_norm_statistics(torch.randn(0, 3, 4))
