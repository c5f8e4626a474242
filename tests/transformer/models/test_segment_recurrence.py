"""Segment recurrence against causal attention to the whole sequence."""

from functools import partial
from inspect import unwrap

import pytest
import torch

from qa_lab.transformer.attention import MultiHeadAttention, causal_mask, window_mask
from qa_lab.transformer.models import (
    Encoder,
    SegmentRecurrence,
    post_norm,
    pre_norm,
    remember,
)
from qa_lab.transformer.positions import Rotary
from tests.comparing import assert_identical, moved, reached

D_MODEL, LENGTH = 10, 12
WIRINGS = pytest.mark.parametrize("residual", [pre_norm, post_norm])


def by_distance(queries, keys):
    """Add something to each score that depends on how far back the key is; two heads."""
    positions = torch.arange(keys)
    back = (positions[-queries:, None] - positions).double()
    return torch.stack([0.7 * back.sin(), -0.3 * back])


def encoder(n_layers=1, look=causal_mask, residual=pre_norm, **attention):
    made = Encoder(
        D_MODEL,
        2,
        13,
        n_layers,
        residual=residual,
        look=look,
        attention=partial(MultiHeadAttention, **attention),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.4)
    return made


def read(model, x, cuts):
    """Read x segment by segment."""
    outs, memories = [], None
    for segment in x.split(cuts, dim=1):
        out, memories = model(segment, memories)
        outs.append(out)
    return torch.cat(outs, dim=1), memories


@WIRINGS
def test_one_segment_is_the_plain_stack(oracle, twins, residual):
    plain = encoder(3, residual=residual)
    model = SegmentRecurrence(plain, 4)
    x, x2 = twins(3, LENGTH, D_MODEL)
    everywhere = torch.ones(3, LENGTH, dtype=torch.bool)
    oracle.agree(model(x)[0], plain(x2), everywhere, [], [x], [x2])


@WIRINGS
@pytest.mark.parametrize(
    "positions",
    [{}, {"score_bias": by_distance}, {"rotate": Rotary(4), "d_k": 4}],
    ids=["none", "score_bias", "rotate"],
)
@pytest.mark.parametrize("cuts", [[5, 4, 3], [1] * LENGTH, [2, 10]])
def test_one_layer_that_remembers_everything_is_attention_to_everything(
    oracle, cuts, positions, residual
):
    plain = encoder(residual=residual, **positions)
    x = torch.randn(3, LENGTH, D_MODEL)
    out, (memory,) = read(SegmentRecurrence(plain, LENGTH), x, cuts)
    oracle.close(out, plain(x))
    oracle.close(memory, x)


def test_one_layer_that_remembers_a_window_is_window_attention(oracle):
    plain = encoder(look=partial(window_mask, window=4), score_bias=by_distance)
    x = torch.randn(3, LENGTH, D_MODEL)
    oracle.close(read(SegmentRecurrence(plain, 3), x, 5)[0], plain(x))
    assert (read(SegmentRecurrence(plain, 2), x, 5)[0] - plain(x)).abs().max() > 1e-3


def test_deep_stacks_that_remember_everything_are_the_plain_stack_too(oracle):
    """What a causal block said of a past position does not change with the future."""
    plain = encoder(3, score_bias=by_distance)
    x = torch.randn(3, LENGTH, D_MODEL)
    oracle.close(read(SegmentRecurrence(plain, LENGTH), x, [5, 4, 3])[0], plain(x))


def test_memory_of_length_zero_makes_segments_strangers(oracle):
    plain = encoder(2)
    x = torch.randn(3, LENGTH, D_MODEL)
    out, memories = read(SegmentRecurrence(plain, 0), x, 4)
    oracle.close(out, torch.cat([plain(segment) for segment in x.split(4, dim=1)], dim=1))
    assert [m.shape for m in memories] == [(3, 0, D_MODEL)] * 2


def test_gradients_stop_at_the_segment_boundary():
    model = SegmentRecurrence(encoder(2), 5)
    first = torch.randn(3, 4, D_MODEL, requires_grad=True)
    second = torch.randn(3, 4, D_MODEL, requires_grad=True)
    _, memories = model(first)
    assert not any(m.requires_grad for m in memories)
    out, _ = model(second, memories)
    out.sum().backward()
    assert first.grad is None and reached(second.grad).all()


def test_no_gradient_flows_into_the_memory_that_is_given():
    model = SegmentRecurrence(encoder(), 5)
    memory = torch.randn(3, 4, D_MODEL, requires_grad=True)
    x = torch.randn(3, 5, D_MODEL, requires_grad=True)
    model(x, [memory])[0].sum().backward()
    assert memory.grad is None and x.grad is not None
    assert model.encoder.blocks[0].attention.W_K.weight.grad is not None


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_each_layer_reaches_one_memory_further_back(n_layers):
    """Segments of 1 token: a layer sees the M before its own, so n layers n M."""
    model = SegmentRecurrence(encoder(n_layers), 2)
    x = torch.randn(1, LENGTH, D_MODEL).expand(LENGTH + 1, -1, -1).clone()
    for back in range(LENGTH):  # row `back` is changed that many positions before the last
        x[back, LENGTH - 1 - back] = torch.randn(D_MODEL)
    last = read(model, x, 1)[0][:, -1]
    arrived = moved(last[-1:], last[:-1], by=1e-4)  # each memory on the way takes its part
    assert_identical(arrived, torch.arange(LENGTH) <= 2 * n_layers)


def test_the_memory_is_the_last_positions():
    memory, x = torch.randn(3, 4, 5), torch.randn(3, 2, 5)
    both = torch.cat([memory, x], dim=1)
    for length in range(9):
        expected = both[:, max(6 - length, 0) :]
        assert_identical(remember(memory, x, length), expected, because="both are copies")


@WIRINGS
def test_dropout_is_that_of_the_block(oracle, residual):
    plain = Encoder(D_MODEL, 2, 13, 2, residual=residual, look=causal_mask, dropout=0.5)
    model = SegmentRecurrence(plain, 4)
    x = torch.randn(3, 5, D_MODEL)
    torch.manual_seed(1)
    expected = plain(x)
    torch.manual_seed(1)
    oracle.close(model(x)[0], expected)
    assert (model.eval()(x)[0] - expected).abs().max() > 0.1


def test_bad_input_is_refused():
    plain = encoder(2)
    with pytest.raises(ValueError, match="memory_length must be at least 0 tokens; got -1"):
        SegmentRecurrence(plain, -1)
    model = SegmentRecurrence(plain, 4)
    go = partial(unwrap(SegmentRecurrence.forward), model)
    x = torch.randn(3, 5, D_MODEL)
    memories = model(x)[1]
    with pytest.raises(ValueError, match="1 memories for 2 blocks"):
        go(x, memories[:1])
    for wrong in (memories[0][:2], memories[0][..., 1:]):
        with pytest.raises(ValueError, match=r"a memory of shape \[.*cannot go before a segment"):
            go(x, [wrong, memories[1]])
