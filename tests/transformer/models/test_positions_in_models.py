"""What must hold in whole models whatever tells the positions, and whatever attends.

No later target reaches an earlier logit, a cache changes nothing, the target may be longer or
shorter than the source, and padding behind the source does not count.
"""

from functools import partial

import pytest
import torch

from qa_lab.transformer.attention import (
    LSHAttention,
    MultiHeadAttention,
    causal_linear_attention,
    causal_local_attention,
    chunked_attention,
    full_mask,
    linear_attention,
    local_attention,
    look_back,
    real_tokens,
    recurrent_linear_attention,
    tie_query_and_key,
)
from qa_lab.transformer.models import DecoderOnly, Transformer
from qa_lab.transformer.positions import (
    Alibi,
    LearnedPositions,
    Rotary,
    ShawAttention,
    T5Bias,
    no_positions,
    rotate_halves,
    rotate_interleaved,
)
from tests.comparing import assert_differs, assert_same

VOCAB, D_MODEL, HEADS, D_FF, LAYERS = 29, 24, 3, 13, 2
SHAPE = (VOCAB, D_MODEL, HEADS, D_FF, LAYERS)


def inside(**options):
    """Positions that act in attention and not before it."""
    return dict(positions=no_positions, attention=partial(MultiHeadAttention, **options))


def t5(bidirectional):
    bias = T5Bias(HEADS, bidirectional=bidirectional)
    torch.nn.init.normal_(bias.W_R)  # at its start it tells nothing
    return bias


def shaw(d_model, n_heads):
    return MultiHeadAttention(d_model, n_heads, attend=ShawAttention(d_model // n_heads, 3))


POSITIONS = {
    "sinusoidal": dict,
    "learned": lambda: dict(positions=LearnedPositions(31, D_MODEL, std=1.0)),
    "rotary, neighbours": lambda: inside(rotate=Rotary(8, pairing=rotate_interleaved)),
    "rotary, halves": lambda: inside(rotate=Rotary(8, pairing=rotate_halves)),
    "rotary, partial": lambda: inside(rotate=Rotary(8, d_rotated=4)),
    "alibi": lambda: inside(score_bias=Alibi(HEADS)),
    "t5, back": lambda: inside(score_bias=t5(bidirectional=False)),
    "t5, both ways": lambda: inside(score_bias=t5(bidirectional=True)),
    "shaw": lambda: dict(positions=no_positions, attention=shaw),
    "all at once": lambda: inside(rotate=Rotary(8), score_bias=Alibi(HEADS)),
}
EVERY_KIND = pytest.mark.parametrize("kind", POSITIONS)
LENGTHS = pytest.mark.parametrize(("source_length", "target_length"), [(12, 7), (4, 11), (1, 5)])


def ids(length):
    return torch.randint(VOCAB, (3, length))


def first_three(read, target):
    """Return the first three logits of a text, of the same with another end, and of its start."""
    other = target.clone()
    other[:, 3:] = (target[:, 3:] + torch.randint(1, VOCAB, target[:, 3:].shape)) % VOCAB
    return [read(ids)[:, :3] for ids in (target, other, target[:, :3])]


def assert_causal(read, target):
    logits, with_another_end, without_it = first_three(read, target)
    assert_same(with_another_end, logits)
    assert_same(without_it, logits)


def in_pieces(read, target, new_cache):
    """Read with one cache, or with a new one for each piece."""
    sizes = [1, 2, target.shape[1] - 4, 1]
    return torch.cat([read(piece, cache=new_cache()) for piece in target.split(sizes, 1)], dim=1)


def assert_causal_and_cached(model, read, target, looking_ahead):
    assert_causal(read, target)
    logits, *others = first_three(looking_ahead, target)
    for other in others:
        assert_differs(other, logits)
    cache = model.new_cache()
    assert_same(in_pieces(read, target, lambda: cache), read(target))
    assert_differs(in_pieces(read, target, model.new_cache), read(target))


def reads(model, source):
    """Read a target beside this source."""
    memory = model.encode(source)
    return partial(model.decode, memory=memory)


@EVERY_KIND
@LENGTHS
@torch.no_grad()
def test_a_transformer_is_causal_and_its_cache_changes_nothing(kind, source_length, target_length):
    options, source, target = POSITIONS[kind](), ids(source_length), ids(target_length)
    model = Transformer(*SHAPE, **options)
    ahead = Transformer(*SHAPE, **options, look=full_mask)
    assert_causal_and_cached(model, reads(model, source), target, reads(ahead, source))


@EVERY_KIND
@torch.no_grad()
def test_a_language_model_is_causal_and_its_cache_changes_nothing(kind):
    options = POSITIONS[kind]()
    model, ahead = DecoderOnly(*SHAPE, **options), DecoderOnly(*SHAPE, **options, look=full_mask)
    assert_causal_and_cached(model, model, ids(13), ahead)


@EVERY_KIND
@LENGTHS
@torch.no_grad()
def test_padding_behind_the_source_does_not_count(kind, source_length, target_length):
    model, target = Transformer(*SHAPE, **POSITIONS[kind]()), ids(target_length)
    longer = ids(source_length + 5)
    expected = model(longer[:, :source_length], target)
    real = real_tokens(torch.full((3,), source_length), source_length + 5)
    assert_same(model(longer, target, real), expected)
    assert_differs(model(longer, target), expected)


def sharp(model):
    """Spread the scores, which at the start are so close that every token averages all."""
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.W_Q.weight.mul_(3)
            module.W_K.weight.mul_(3)
    return model


@EVERY_KIND
@torch.no_grad()
def test_every_kind_tells_the_order_of_the_source_and_of_the_target(kind):
    """Otherwise what stands above would hold because nothing is told."""
    source, target = ids(12), ids(7)
    model = sharp(Transformer(*SHAPE, **POSITIONS[kind]()))
    turned = source.roll(1, dims=1)  # not flipped: distances alone would not show that
    assert_differs(model(turned, target), model(source, target))
    swapped = target[:, [1, 0, 2, 3, 4, 5, 6]]
    assert_differs(model(source, swapped)[:, 2:], model(source, target)[:, 2:])
    blind = Transformer(*SHAPE, positions=no_positions)
    assert_same(blind(turned, target), blind(source, target))


def attending(attend):
    return partial(MultiHeadAttention, attend=attend)


def tied(d_model, n_heads, attend=None):
    return tie_query_and_key(MultiHeadAttention(d_model, n_heads, attend=attend))


def hashing(causal):
    """Attention by hashing draws new rotations at every call: the same ones here."""

    class Repeated(LSHAttention):
        def forward(self, *inputs):
            self.generator.manual_seed(0)
            return super().forward(*inputs)

    return lambda *sizes: tied(*sizes, Repeated(4, 5, causal=causal, generator=torch.Generator()))


# What attends in the encoder, and in the decoder to the target itself.
ATTENDS = {
    "local": (
        attending(partial(local_attention, window=5)),
        attending(partial(causal_local_attention, window=4)),
    ),
    "linear": (attending(linear_attention), attending(causal_linear_attention)),
    "recurrent": (attending(linear_attention), attending(recurrent_linear_attention)),
    "hashing": (hashing(causal=False), hashing(causal=True)),
    "chunked": (
        attending(chunked_attention),
        attending(partial(chunked_attention, look=look_back)),
    ),
}


@pytest.mark.parametrize("kind", ATTENDS)
@pytest.mark.parametrize(("source_length", "target_length"), [(12, 7), (4, 11), (7, 7)])
@torch.no_grad()
def test_an_attention_of_the_target_with_itself_is_not_asked_about_the_source(
    kind, source_length, target_length
):
    """The logits are those of plain cross-attention, whatever the two lengths."""
    of_source, of_target = ATTENDS[kind]
    options = dict(encoder=dict(attention=of_source))
    source, target = ids(source_length), ids(target_length)
    model = Transformer(*SHAPE, **options, decoder=dict(attention=of_target))
    across = tied if kind == "hashing" else MultiHeadAttention
    plain = Transformer(
        *SHAPE, **options, decoder=dict(attention=of_target, cross_attention=across)
    )
    plain.load_state_dict(model.state_dict())
    assert_same(model(source, target), plain(source, target))
    if kind != "hashing":  # where a token is sorted depends on those after it
        assert_causal(partial(model, source), target)


@torch.no_grad()
def test_an_attention_within_one_sequence_that_is_asked_for_shows():
    """The control of the test above: given as cross-attention, local attention is another model."""
    of_source, of_target = ATTENDS["local"]
    source, target = ids(7), ids(7)
    model = Transformer(*SHAPE, decoder=dict(attention=of_target))
    asked = Transformer(*SHAPE, decoder=dict(attention=of_target, cross_attention=of_source))
    asked.load_state_dict(model.state_dict())
    assert_differs(asked(source, target), model(source, target))
