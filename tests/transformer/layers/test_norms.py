"""Norms of one token and of the batch against PyTorch's own."""

from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.layers import (
    BatchNorm,
    LayerNorm,
    RMSNorm,
    batch_norm_statistics,
    layer_norm,
    normalise,
    rms_norm,
)
from tests.comparing import assert_differs, assert_identical, assert_same

LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture
def real():
    return real_tokens(LENGTHS, 7)


@pytest.mark.parametrize("chosen", [{}, {"eps": 0.3}])
@pytest.mark.parametrize("path", ["fused", "formula"])
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_norms_of_one_token_agree_with_torch(oracle, twins, size, real, kind, path, chosen):
    ours = kind(size.d_model, **chosen)
    if kind is LayerNorm:
        theirs = nn.LayerNorm(size.d_model, **chosen)
        pairs, formula = oracle.norm(theirs, ours), layer_norm
    else:
        theirs = nn.RMSNorm(size.d_model, **{"eps": 1e-6, **chosen})
        pairs, formula = [(theirs.weight, [ours.gain])], rms_norm
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    sizes = torch.tensor([1e-3, 1.0, 30.0])[:, None, None]  # at the first, eps decides
    inputs, expected = sizes * (x + 0.7), theirs(sizes * (x2 + 0.7))
    if path == "formula":
        out = formula(inputs, *ours.parameters(), **chosen)
    else:
        out = ours(inputs, real)
        assert_same(ours.eval()(inputs), out)
    oracle.agree(out, expected, slice(None), pairs, [x], [x2])


def test_norms_begin_with_gain_1_and_bias_0():
    for norm in (LayerNorm(4), RMSNorm(4), BatchNorm(4, count_padding=True)):
        assert (norm.gain == 1).all()
        assert isinstance(norm, RMSNorm) or (norm.bias == 0).all()


def test_norms_of_one_token_have_no_other_parameters():
    assert [name for name, _ in LayerNorm(4).named_parameters()] == ["gain", "bias"]
    assert [name for name, _ in RMSNorm(4).named_parameters()] == ["gain"]


def test_the_fused_kernels_are_what_runs(monkeypatch):
    called = []
    for name in ("layer_norm", "rms_norm"):
        real = getattr(F, name)
        monkeypatch.setattr(
            F, name, lambda *a, name=name, real=real: called.append(name) or real(*a)
        )
    LayerNorm(4)(torch.randn(2, 3, 4)), RMSNorm(4)(torch.randn(2, 3, 4))
    assert called == ["layer_norm", "rms_norm"]


def test_layer_norm_eps_is_inside_the_root(oracle, size):
    x, gain, bias = 1e-3 * torch.randn(3, size.d_model), torch.randn(22), torch.randn(22)
    theirs = nn.functional.layer_norm(x, [22], gain, bias, 1e-3)
    oracle.close(layer_norm(x, gain, bias, 1e-3), theirs)
    assert_same(layer_norm(torch.ones(1, 22), gain, bias), bias[None])


@given(st.integers(1, 9), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_what_rescaling_and_recentring_do(width, factor, shift):
    """LayerNorm forgets a token's size and mean, RMSNorm its size only."""
    x, gain, bias = torch.randn(3, width), torch.randn(width), torch.randn(width)
    same = layer_norm(factor * x + shift, gain, bias, 0.0) - layer_norm(x, gain, bias, 0.0)
    assert width == 1 or same.abs().max() < 1e-6  # one feature: 0 / 0
    rms = rms_norm(x, gain, 0.0)
    assert (rms_norm(factor * x, gain, 0.0) - rms).abs().max() < 1e-12
    assert (rms / gain).square().mean(-1).sub(1).abs().max() < 1e-12
    assert (rms_norm(x + 1, gain, 0.0) - rms).abs().max() > 1e-3 or width == 1


def test_normalising_by_given_statistics_is_torchs_batch_norm_in_evaluation(oracle):
    x, variance = 0.01 * torch.randn(7, 5), 1e-5 * torch.rand(5)  # so small that eps decides
    mean, gain, bias = 0.01 * torch.randn(5), torch.randn(5), torch.randn(5)
    expected = F.batch_norm(x, mean, variance, gain, bias)
    oracle.close(normalise(x, mean, variance, gain, bias), expected)


def test_a_token_of_zeros_stays_finite():
    assert (rms_norm(torch.zeros(1, 5), torch.ones(5)) == 0).all()
    assert (RMSNorm(5)(torch.zeros(1, 2, 5)) == 0).all()


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
    assert_identical(ours.running_mean, before, because="evaluation does not write it")


@pytest.mark.parametrize("count_padding", [True, False])
def test_padding_moves_real_tokens_only_when_counted(size, real, count_padding):
    norm = BatchNorm(size.d_model, count_padding=count_padding)
    x = torch.randn(size.batch, size.query, size.d_model)
    padded_otherwise = torch.where(real[..., None], x, 9.0)
    ask = assert_differs if count_padding else assert_same
    ask(norm(x, real)[real], norm(padded_otherwise, real)[real])


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


@pytest.mark.parametrize("count_padding", [True, False])
def test_batch_norm_has_the_defaults_of_torch(oracle, size, count_padding):
    ours = BatchNorm(size.d_model, count_padding=count_padding)
    theirs = nn.BatchNorm1d(size.d_model)
    x = 0.01 * torch.randn(2, 5, size.d_model)
    oracle.close(ours(x).flatten(0, 1), theirs(x.flatten(0, 1)))
    oracle.close(ours.running_mean, theirs.running_mean, "running mean")
    oracle.close(ours.running_variance, theirs.running_var, "running variance")
    wide = BatchNorm(size.d_model, count_padding=count_padding, eps=0.3)
    expected = F.batch_norm(x.flatten(0, 1), None, None, training=True, eps=0.3)
    oracle.close(wide(x).flatten(0, 1), expected)


def test_two_positions_are_enough(oracle):
    x = torch.randn(1, 2, 5)
    expected = F.batch_norm(x.flatten(0, 1), None, None, training=True)
    oracle.close(BatchNorm(5, count_padding=True)(x)[0], expected)


def test_masks_that_would_pick_other_tokens_are_refused():
    x = torch.randn(3, 7, 5)
    with pytest.raises(TypeError, match=r"must be torch\.bool, True = a real.*got torch\.int64"):
        unwrap(batch_norm_statistics)(x, torch.ones(3, 7, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \[3\]; x, \[3, 7, 5\], needs .* = \[3, 7\]"):
        unwrap(batch_norm_statistics)(x, torch.ones(3, dtype=torch.bool))
