"""Whole models against nn.Transformer, and what may depend on what."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.transformer.attention import full_mask, real_tokens
from qa_lab.transformer.layers import mean_over_tokens
from qa_lab.transformer.models import DecoderOnly, EncoderOnly, Transformer, post_norm, pre_norm
from qa_lab.transformer.positions import no_positions
from tests.comparing import assert_differs, assert_identical, assert_same, moved

SOURCE_LENGTHS = torch.tensor([1, 5, 3])
TARGET_LENGTHS = torch.tensor([7, 2, 5])
ORDERS = pytest.mark.parametrize("residual", [post_norm, pre_norm])


def embed(weight, ids):
    """Vaswani 2017, sections 3.4 and 3.5, number by number."""
    d = weight.shape[1]
    table = [
        [(math.cos if i % 2 else math.sin)(t / 10000 ** ((i - i % 2) / d)) for i in range(d)]
        for t in range(ids.shape[1])
    ]
    return F.embedding(ids, weight) * math.sqrt(d) + torch.tensor(table)


def torch_stacks(size, residual):
    """nn.TransformerEncoder and Decoder, with a final norm only when pre-norm."""
    pre = residual is pre_norm
    shape = (size.d_model, size.head, size.d_ff, 0.0)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(*shape, batch_first=True, norm_first=pre),
        2,
        nn.LayerNorm(size.d_model) if pre else None,
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(*shape, batch_first=True, norm_first=pre),
        2,
        nn.LayerNorm(size.d_model) if pre else None,
    )
    return encoder, decoder


@ORDERS
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
def test_the_transformer_agrees_with_torch(oracle, size, residual, tied, ragged):
    encoder, decoder = torch_stacks(size, residual)
    theirs = nn.Transformer(
        size.d_model, size.head, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    )
    ours = Transformer(
        size.vocab, size.d_model, size.head, size.d_ff, 2, residual=residual, tied=tied
    )
    matrices = [torch.zeros(size.vocab, size.d_model, requires_grad=True) for _ in range(3)]
    if tied:
        matrices = [matrices[0]] * 3
    mine = [ours.source_embedding.W_E, ours.target_embedding.W_E, ours.unembedding.W_U]
    pairs = [
        *oracle.stack(encoder, ours.encoder, oracle.encoder_block),
        *oracle.stack(decoder, ours.decoder, oracle.decoder_block),
        *[(matrices[i], [mine[i]]) for i in range(1 if tied else 3)],
    ]
    oracle.copy_random(pairs, ours)

    source = torch.randint(size.vocab, (size.batch, size.key))
    target = torch.randint(size.vocab, (size.batch, size.query))
    source_real = real_tokens(SOURCE_LENGTHS, size.key)
    real = real_tokens(TARGET_LENGTHS if ragged else torch.tensor([7] * 3), size.query)
    padding = {
        "src_key_padding_mask": ~source_real,
        "tgt_key_padding_mask": ~real,
        "memory_key_padding_mask": ~source_real,
    }
    future = torch.ones(size.query, size.query, dtype=torch.bool).triu(1)  # True = hidden
    stream = theirs(
        embed(matrices[0], source),
        embed(matrices[1], target),
        tgt_mask=future,
        **(padding if ragged else {}),
    )
    logits = ours(source, target, *((source_real, real) if ragged else ()))
    oracle.agree(logits, stream @ matrices[2].T, real, pairs)


@ORDERS
def test_the_language_model_agrees_with_torch(oracle, size, residual):
    theirs, _ = torch_stacks(size, residual)
    ours = DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2, residual=residual)
    matrix = torch.zeros(size.vocab, size.d_model, requires_grad=True)
    pairs = [
        *oracle.stack(theirs, ours.stack, oracle.encoder_block),
        (matrix, [ours.embedding.W_E]),
    ]
    oracle.copy_random(pairs, ours)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    real = real_tokens(TARGET_LENGTHS, size.query)
    future = torch.ones(size.query, size.query, dtype=torch.bool).triu(1)
    stream = theirs(embed(matrix, ids), future, ~real)
    oracle.agree(ours(ids, real), stream @ matrix.T, real, pairs)


@ORDERS
@pytest.mark.parametrize("pooled", [True, False])
def test_the_tagger_and_the_classifier_agree_with_torch(oracle, size, residual, pooled):
    theirs, _ = torch_stacks(size, residual)
    head = nn.Linear(size.d_model, size.classes)
    pool = {"pool": mean_over_tokens} if pooled else {}
    ours = EncoderOnly(
        size.vocab, size.classes, size.d_model, size.head, size.d_ff, 2, residual=residual, **pool
    )
    matrix = torch.zeros(size.vocab, size.d_model, requires_grad=True)
    pairs = [
        *oracle.stack(theirs, ours.encoder, oracle.encoder_block),
        *oracle.linear(head, ours.W_C),
        (matrix, [ours.embedding.W_E]),
    ]
    oracle.copy_random(pairs, ours)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    real = real_tokens(TARGET_LENGTHS, size.query)
    stream = theirs(embed(matrix, ids), src_key_padding_mask=~real)
    if pooled:
        rows = zip(stream, TARGET_LENGTHS, strict=True)
        stream, real_out = torch.stack([row[:n].mean(0) for row, n in rows]), slice(None)
    else:
        real_out = real
    oracle.agree(ours(ids, real), head(stream), real_out, pairs)


def test_the_mean_over_tokens_without_padding(oracle):
    x = torch.randn(3, 7, 5)
    oracle.close(mean_over_tokens(x), x.mean(1))


def depends_on(model, ids, change_at):
    """At which positions do logits move when one token changes?"""
    other = ids.clone()
    other[:, change_at] = (ids[:, change_at] + 1) % 17
    return moved(model(ids), model(other), axis=(0, 2))


def test_what_a_language_model_looks_at_is_its_look(size):
    ids = torch.randint(size.vocab, (size.batch, size.query))
    shape = (size.vocab, size.d_model, size.head, size.d_ff, 2)
    assert depends_on(DecoderOnly(*shape), ids, 4).tolist() == [False] * 4 + [True] * 3
    assert depends_on(DecoderOnly(*shape, look=full_mask), ids, 4).all()


@pytest.mark.parametrize("made", [Transformer, DecoderOnly])
def test_a_hidden_target_token_reaches_no_other_position(size, made):
    """Hidden in the middle: at the right end, causality would hide it anyway."""
    model = made(size.vocab, size.d_model, size.head, size.d_ff, 2)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    other, keep = ids.clone(), torch.ones_like(ids, dtype=torch.bool)
    other[:, 3] = (ids[:, 3] + 1) % size.vocab
    keep[:, 3] = False
    source = (torch.randint(size.vocab, (size.batch, size.key)),) if made is Transformer else ()
    masks = {"target_real": keep} if made is Transformer else {"real": keep}
    before, after = (model(*source, target, **masks) for target in (ids, other))
    assert_identical(moved(before, after, axis=(0, 2)), torch.arange(size.query) == 3)


def test_without_positions_an_encoder_sees_a_set(oracle, size):
    shape = (size.vocab, size.classes, size.d_model, size.head, size.d_ff, 2)
    ids, order = torch.randint(size.vocab, (size.batch, size.query)), torch.randperm(size.query)
    model = EncoderOnly(*shape, positions=no_positions)
    oracle.close(model(ids[:, order]), model(ids)[:, order])
    model = EncoderOnly(*shape)
    assert (model(ids[:, order]) - model(ids)[:, order]).abs().max() > 0.1


def test_the_transformer_uses_the_positions_it_is_given(oracle, size):
    model = Transformer(size.vocab, size.d_model, size.head, size.d_ff, 2, positions=no_positions)
    source = torch.randint(size.vocab, (size.batch, size.key))
    target = torch.randint(size.vocab, (size.batch, size.query))
    oracle.close(model(source.flip(1), target), model(source, target))


@pytest.mark.parametrize("made", [Transformer, DecoderOnly, EncoderOnly])
def test_dropout_reaches_every_place_of_section_5_4(size, made):
    """One in the model, on embeddings plus positions, and one in each block."""
    sizes = (size.d_model, size.head, size.d_ff, 2)
    vocab = (size.vocab, size.classes) if made is EncoderOnly else (size.vocab,)
    model = made(*vocab, *sizes, dropout=0.3)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.3] * (5 if made is Transformer else 3)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    other = torch.randint(size.vocab, (size.batch, size.query))
    model.dropout.p = 1.0  # everything that is embedded is dropped: no token can matter
    for m in model.modules():
        if isinstance(m, nn.Dropout) and m is not model.dropout:
            m.p = 0.0
    inputs, others = ((ids, ids), (other, other)) if made is Transformer else ((ids,), (other,))
    assert_same(model(*inputs), model(*others))
    model.eval()
    assert_differs(model(*inputs), model(*others))


def test_the_first_token_of_a_language_model_may_not_be_padding(size):
    model = DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 1)
    ids = torch.randint(size.vocab, (2, 3))
    with pytest.raises(ValueError, match="row 1 of real begins with padding"):
        model(ids, torch.tensor([[True] * 3, [False, True, True]]))
