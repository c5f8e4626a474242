"""Blocks and stacks against PyTorch's layers, in both norm orders."""

from functools import partial, wraps

import pytest
import torch
from torch import nn

from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    causal_mask,
    full_mask,
    real_tokens,
    window_mask,
)
from qa_lab.transformer.layers import BatchNorm, FeedForward, LayerNorm
from qa_lab.transformer.models import (
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    post_norm,
    pre_norm,
)
from qa_lab.transformer.positions import Alibi, Rotary
from tests.comparing import assert_differs

LENGTHS = torch.tensor([7, 2, 5])
MEMORY_LENGTHS = torch.tensor([1, 5, 3])
ORDERS = pytest.mark.parametrize("residual", [post_norm, pre_norm])


def hidden(look, length):
    """The attn_mask of torch: True = hidden."""
    return None if look is full_mask else ~look(length, None)


@ORDERS
@pytest.mark.parametrize("look", [full_mask, causal_mask])
@pytest.mark.parametrize("ragged", [True, False])
def test_encoder_block_agrees_with_torch(oracle, twins, size, residual, look, ragged):
    # Left in training mode, with dropout 0: torch's fast path, in evaluation, zeroes padded rows.
    theirs = nn.TransformerEncoderLayer(
        size.d_model, size.head, size.d_ff, 0.0, batch_first=True, norm_first=residual is pre_norm
    )
    ours = EncoderBlock(size.d_model, size.head, size.d_ff, residual=residual, look=look)
    pairs = oracle.encoder_block(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    real = real_tokens(LENGTHS if ragged else torch.tensor([7] * 3), size.query)
    expected = theirs(x2, hidden(look, size.query), ~real if ragged else None)
    oracle.agree(ours(x, real if ragged else None), expected, real, pairs, [x], [x2])


@ORDERS
@pytest.mark.parametrize("ragged", [True, False])
def test_decoder_block_agrees_with_torch(oracle, twins, size, residual, ragged):
    theirs = nn.TransformerDecoderLayer(
        size.d_model, size.head, size.d_ff, 0.0, batch_first=True, norm_first=residual is pre_norm
    )
    ours = DecoderBlock(size.d_model, size.head, size.d_ff, residual=residual)
    pairs = oracle.decoder_block(theirs, ours)
    oracle.copy_random(pairs, ours)
    y, y2 = twins(size.batch, size.query, size.d_model)
    memory, memory2 = twins(size.batch, size.key, size.d_model)
    real = real_tokens(LENGTHS if ragged else torch.tensor([7] * 3), size.query)
    memory_real = real_tokens(MEMORY_LENGTHS, size.key)
    expected = theirs(
        y2,
        memory2,
        hidden(causal_mask, size.query),
        tgt_key_padding_mask=~real if ragged else None,
        memory_key_padding_mask=~memory_real if ragged else None,
    )
    keeps = (real, memory_real) if ragged else ()
    oracle.agree(ours(y, memory, *keeps), expected, real, pairs, [y, memory], [y2, memory2])


@ORDERS
def test_encoder_stack_agrees_with_torch(oracle, twins, size, residual):
    pre = residual is pre_norm
    layer = nn.TransformerEncoderLayer(
        size.d_model, size.head, size.d_ff, 0.0, batch_first=True, norm_first=pre
    )
    norm = nn.LayerNorm(size.d_model) if pre else None
    theirs = nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False)
    ours = Encoder(size.d_model, size.head, size.d_ff, 3, residual=residual)
    pairs = oracle.stack(theirs, ours, oracle.encoder_block)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    real = real_tokens(LENGTHS, size.query)
    oracle.agree(ours(x, real), theirs(x2, src_key_padding_mask=~real), real, pairs, [x], [x2])


def test_the_wirings_are_the_two_formulas():
    """post: norm(x + f(x)); pre: x + f(norm(x)). Checked on numbers done by hand."""
    x = torch.tensor([[[3.0]]])
    assert post_norm(x, lambda h: 2 * h, lambda h: h + 1).item() == 10
    assert pre_norm(x, lambda h: 2 * h, lambda h: h + 1).item() == 11


@ORDERS
@pytest.mark.parametrize("made", [Encoder, Decoder])
def test_the_token_mask_reaches_every_norm(size, made, residual):
    """With padding left out of the statistics, nothing at padding may reach a real position."""
    norm = partial(BatchNorm, count_padding=False)
    stack = made(size.d_model, size.head, size.d_ff, 2, residual=residual, norm=norm)
    real = real_tokens(LENGTHS, size.query)
    memory_real = real_tokens(MEMORY_LENGTHS, size.key)
    x = torch.randn(size.batch, size.query, size.d_model)
    memory = torch.randn(size.batch, size.key, size.d_model)
    x2, memory2 = x.clone(), memory.clone()
    x2[~real], memory2[~memory_real] = 9.0, -9.0
    if made is Encoder:
        out, out2, leak = stack(x, real), stack(x2, real), stack(x2)
    else:
        out = stack(x, memory, real, memory_real)
        out2 = stack(x2, memory2, real, memory_real)
        leak = stack(x2, memory2, None, memory_real)
    assert (out - out2)[real].abs().max() <= 1e-12
    assert (out - leak)[real].abs().max() > 0.1


@ORDERS
def test_only_pre_norm_has_a_final_norm(size, residual):
    for made in (Encoder, Decoder):
        stack = made(size.d_model, size.head, size.d_ff, 2, residual=residual)
        assert (stack.norm is not None) == (residual is pre_norm)


@ORDERS
@pytest.mark.parametrize("made", [EncoderBlock, DecoderBlock])
def test_dropout_acts_on_what_a_sublayer_says_before_it_is_added(size, made, residual):
    """Vaswani 2017, section 5.4. With everything dropped only the stream, and its norms, remain."""
    block = made(size.d_model, size.head, size.d_ff, residual=residual, dropout=0.3)
    assert [m.p for m in block.modules() if isinstance(m, nn.Dropout)] == [0.3]
    block.dropout.p = 1.0
    x = 5 * torch.randn(size.batch, size.query, size.d_model)
    out = block(x) if made is EncoderBlock else block(x, x)
    expected = x
    if residual is post_norm:
        for _ in range(2 if made is EncoderBlock else 3):
            expected = LayerNorm(size.d_model)(expected)
    assert torch.allclose(out, expected, atol=1e-12)
    block.eval()
    assert_differs(block(x) if made is EncoderBlock else block(x, x), expected)


def test_parts_are_made_by_what_is_passed(size):
    made = []

    def attention(d_model, n_heads):
        made.append(("attention", d_model, n_heads))
        return MultiHeadAttention(d_model, n_heads, attend=DotProductAttention(scale=1.0))

    def feed_forward(d_model, d_ff):
        made.append(("feed_forward", d_model, d_ff))
        return FeedForward(d_model, d_ff)

    parts = {"attention": attention, "feed_forward": feed_forward}
    decoder = Decoder(size.d_model, size.head, size.d_ff, 1, **parts)
    attend, widen = ("attention", 22, 2), ("feed_forward", 22, 13)
    assert made == [attend, attend, widen]
    assert decoder.blocks[0].cross_attention.attend.scale == 1.0


def test_the_attention_to_the_memory_can_be_another(size):
    """Positions belong into self-attention only: what made one need not make the other."""
    from_self = partial(MultiHeadAttention, attend=DotProductAttention(scale=0.3))
    from_memory = partial(MultiHeadAttention, attend=DotProductAttention(scale=0.7))
    shape = (size.d_model, size.head, size.d_ff)
    block = DecoderBlock(*shape, attention=from_self, cross_attention=from_memory)
    scales = lambda block: (block.self_attention.attend.scale, block.cross_attention.attend.scale)  # noqa: E731
    assert scales(block) == (0.3, 0.7)
    assert scales(DecoderBlock(*shape, attention=from_self)) == (0.3, 0.3)


@ORDERS
def test_a_block_may_look_at_a_memory_that_ends_where_it_does(oracle, size, residual):
    """The memory is normalised as the stream is, and positions are counted in the memory."""
    attention = partial(MultiHeadAttention, rotate=Rotary(4), score_bias=Alibi(2), d_k=4)
    block = EncoderBlock(22, 2, 13, residual=residual, attention=attention, look=causal_mask)
    x = torch.randn(3, 7, 22)
    oracle.close(block(x, memory=x), block(x))
    oracle.close(block(x[:, 4:], memory=x), block(x)[:, 4:])
    real = torch.ones(3, 7, dtype=torch.bool)
    real[0, 5:] = real[1, 6:] = False
    oracle.close(block(x[:, 4:], real, memory=x), block(x, real)[:, 4:])
    assert (block(x[:, 4:]) - block(x)[:, 4:]).abs().max() > 1e-2


@ORDERS
@pytest.mark.parametrize("made", [Encoder, Decoder])
def test_a_wrapper_of_a_wiring_must_say_whether_a_final_norm_is_needed(size, made, residual):
    shape = (size.d_model, size.head, size.d_ff, 2)
    wrapped = lambda *inputs: residual(*inputs)  # noqa: E731
    with pytest.raises(ValueError, match="final_norm=True, as pre-norm needs"):
        made(*shape, residual=wrapped)
    for final_norm in (True, False):
        stack = made(*shape, residual=wrapped, final_norm=final_norm)
        assert (stack.norm is not None) == final_norm
    assert (made(*shape, residual=wraps(residual)(wrapped)).norm is not None) == (
        residual is pre_norm
    )


def padded(*lengths):
    """A token mask of sequences padded on the right to the longest."""
    return real_tokens(torch.tensor(lengths), max(lengths))


@pytest.mark.parametrize("window", [1, 3])
def test_padding_that_sees_only_padding_is_nobodys_business(oracle, size, window):
    """A window leaves the last positions of a short row nothing real to look at."""
    stack = Encoder(22, 2, 13, 2, look=partial(window_mask, window=window))
    real = padded(2, 7, 5)
    x = torch.randn(3, 7, 22)
    out = stack(x, real)
    assert out.isfinite().all()
    for row, length in enumerate((2, 7, 5)):
        oracle.close(out[row, :length], stack(x[row : row + 1, :length])[0])


def test_a_real_token_that_sees_nothing_is_refused_all_the_same(size):
    stack = Encoder(22, 2, 13, 2, look=lambda n, device: causal_mask(n).tril(-1))
    with pytest.raises(ValueError, match="let a query see no key"):
        stack(torch.randn(3, 7, 22), padded(2, 7, 5))


def test_blocks_by_themselves_are_post_norm_and_look_everywhere_or_back(size):
    shape = (size.d_model, size.head, size.d_ff)
    assert EncoderBlock(*shape).residual is DecoderBlock(*shape).residual is post_norm
    assert EncoderBlock(*shape).look is full_mask and DecoderBlock(*shape).look is causal_mask
