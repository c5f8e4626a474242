"""Norms over one sequence against PyTorch's own, on each sequence without its padding."""

from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.layers import GroupNorm, InstanceNorm, group_statistics
from tests.comparing import assert_same

LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture
def real():
    return real_tokens(LENGTHS, 7)


def both(d_model, n_groups, **eps):
    """Ours and theirs. One feature in a group: instance normalization, under its own name."""
    if n_groups == d_model:
        return InstanceNorm(d_model, **eps), nn.InstanceNorm1d(d_model, affine=True, **eps)
    return GroupNorm(d_model, n_groups=n_groups, **eps), nn.GroupNorm(n_groups, d_model, **eps)


def one_by_one(theirs, x, lengths):
    """Theirs on every sequence alone, cut to its length."""
    alone = [theirs(row[None, :n].mT).mT[0] for row, n in zip(x, lengths, strict=True)]
    return torch.cat(alone)


@pytest.mark.parametrize("n_groups", [1, 2, 11, 22])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("eps", [{}, {"eps": 0.3}])
def test_sequence_norms_agree_with_torch_on_each_sequence(
    oracle, twins, size, real, n_groups, masked, eps
):
    ours, theirs = both(size.d_model, n_groups, **eps)
    assert (ours.gain == 1).all() and (ours.bias == 0).all()
    pairs = oracle.norm(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    scale = torch.tensor([0.01, 1.0, 20.0])[:, None, None]
    keep, counted = (real, real) if masked else (None, torch.ones_like(real))
    expected = one_by_one(theirs, scale * x2 + 0.7, LENGTHS if masked else [7, 7, 7])
    out = ours(scale * x + 0.7, keep)
    oracle.agree(out[counted], expected, slice(None), pairs, [x], [x2])
    oracle.close(ours.eval()(scale * x + 0.7, keep), out)
    if not masked:
        oracle.close(out, theirs((scale * x + 0.7).mT).mT)


@pytest.mark.parametrize("norm", [InstanceNorm(22), GroupNorm(22, n_groups=2)])
@pytest.mark.parametrize("junk", [9.0, torch.nan, torch.inf])
def test_padding_never_reaches_a_real_token(size, real, norm, junk):
    x = torch.randn(size.batch, size.query, size.d_model)
    padded_otherwise = torch.where(real[..., None], x, junk)
    assert_same(norm(padded_otherwise, real)[real], norm(x, real)[real])
    counted = norm(torch.where(real[..., None], x, 9.0))
    assert (counted - norm(x))[real].abs().max() > 0.1, "nobody would notice"


def test_padded_positions_are_normalised_by_the_same_statistics(oracle, size, real):
    x = torch.randn(size.batch, size.query, size.d_model)
    mean, variance = group_statistics(x, 2, real)
    oracle.close(GroupNorm(22, n_groups=2)(x, real), (x - mean) / (variance + 1e-5).sqrt())


def test_without_a_mask_every_position_counts(oracle):
    x = torch.randn(3, 7, 4)
    mean, variance = group_statistics(x, 2)
    groups = x.unflatten(-1, (2, 2)).transpose(1, 2).flatten(2)
    oracle.close(mean[:, 0, ::2], groups.mean(-1), "mean")
    oracle.close(variance[:, 0, 1::2], groups.var(-1, correction=0), "variance")


@given(st.integers(1, 4), st.integers(2, 6), st.integers(1, 4), st.integers(1, 3))
def test_every_group_ends_with_mean_0_and_variance_1(batch, length, n_groups, width):
    x = 3 * torch.randn(batch, length, n_groups * width) + 2
    y = GroupNorm(n_groups * width, n_groups=n_groups, eps=0.0)(x)
    groups = y.unflatten(-1, (n_groups, width)).transpose(1, 2).flatten(2)
    assert groups.mean(-1).abs().max() < 1e-12
    assert (groups.var(-1, correction=0) - 1).abs().max() < 1e-12


def test_later_tokens_change_earlier_outputs(size):
    """Why neither belongs into a causal model."""
    x = torch.randn(1, size.query, size.d_model)
    later = torch.cat([x[:, :-1], 5 + x[:, -1:]], 1)
    for norm in (InstanceNorm(22), GroupNorm(22, n_groups=2)):
        assert (norm(later) - norm(x))[:, 0].abs().max() > 0.1


@pytest.mark.parametrize("n_groups", [3, 0, -2])
def test_groups_that_do_not_divide_the_features_are_refused(n_groups):
    message = rf"n_groups = {n_groups} does not divide d_model = 22\. Choose a divisor"
    with pytest.raises(ValueError, match=message):
        GroupNorm(22, n_groups=n_groups)
    with pytest.raises(ValueError, match=message):
        group_statistics(torch.randn(2, 3, 22), n_groups)


def test_one_value_has_no_variance(oracle):
    x = torch.randn(2, 3, 4)
    keep = torch.tensor([[True, True, False], [True, False, False]])
    with pytest.raises(ValueError, match=r"at least 2 values .* got \[2, 1\] in the sequences"):
        InstanceNorm(4)(x, keep)
    pairs = GroupNorm(4, n_groups=2)(x, keep)[1, 0]
    oracle.close(pairs, nn.GroupNorm(2, 4)(x[1:, :1].mT).flatten())


def test_masks_that_would_pick_other_tokens_are_refused():
    x = torch.randn(3, 7, 4)
    with pytest.raises(TypeError, match=r"must be torch\.bool.*got torch\.int64"):
        unwrap(group_statistics)(x, 2, torch.ones(3, 7, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \[7\]; x, \[3, 7, 4\], needs"):
        unwrap(group_statistics)(x, 2, torch.ones(7, dtype=torch.bool))
