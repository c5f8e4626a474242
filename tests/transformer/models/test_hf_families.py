"""BLOOM, Mistral and Marian, put together from the lab's parts, against Hugging Face's.

They have no preset: each is one call of a model of the lab, and the functions `bloom`, `mistral`
and `marian` say all that is particular about it. Weights, biases and gains are random and copied.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MarianConfig,
    MarianMTModel,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.models.bloom import modeling_bloom

from qa_lab.transformer.attention import MultiHeadAttention, causal_mask, real_tokens, window_mask
from qa_lab.transformer.decoding import LanguageReader, TranslationReader, generate
from qa_lab.transformer.layers import FeedForward, LayerNorm, TokenEmbedding, Unembedding
from qa_lab.transformer.models import DecoderOnly, Transformer, post_norm
from qa_lab.transformer.models.presets import llama
from qa_lab.transformer.positions import (
    Alibi,
    Rotary,
    add_sinusoidal_positions,
    halves_order,
    no_positions,
    sinusoidal_positions,
)
from tests import comparing
from tests.comparing import assert_differs
from tests.transformer.models.hugging_face import (
    Float64Angles,
    with_float64_sinusoids,
    with_torchs_norms,
)

LENGTH = 41
LENGTHS = torch.tensor([41, 3, 17])
PIECES = [[1, 6, 1, 2, 31], [20, 20, 1]]
START, END = 0, 2  # the start token is the padding, too
NAMES = ["small", "larger"]


def randomise(model, d_model):
    """Draw what is learned at a size that keeps the streams near 1, whatever the width.

    Gains of both signs: with those near 1, a model with one matrix for embeddings and logits says
    one token for ever.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(std=1.0 if is_gain else d_model**-0.5)
    return model.double().eval()


def copy(pairs, ours):
    """Copy, and miss no parameter of ours."""
    for mine, theirs in pairs:
        mine.copy_(theirs)
    assert {id(mine) for mine, _ in pairs} == {id(p) for p in ours.parameters()}
    return ours.double().eval()


def linear(ours, theirs):
    return [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]


def norm(ours, theirs):
    return [(ours.gain, theirs.weight), (ours.bias, theirs.bias)]


def assert_same(found, expected):
    spread = expected.std()
    assert 0.1 < spread < 10, f"logits with a standard deviation of {spread} would hide errors"
    comparing.assert_same(found, expected, within=1e-10)


def in_pieces(read, ids, real, sizes):
    """Read a text piece by piece; `read` is given the mask of all that was seen."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    masks = [None if real is None else real[:, :end] for end in ends]
    return torch.cat([read(*part) for part in zip(ids.split(sizes, 1), masks, strict=True)], 1)


def forgetful(read):
    """Read each piece as if none came before."""
    return lambda ids, real: read(ids)


def assert_language_models_agree(ours, theirs, window=None):
    """Whole, and in pieces of several sizes; all rows full, and padded on the right."""
    ids, real = torch.randint(theirs.config.vocab_size, (3, LENGTH)), real_tokens(LENGTHS, LENGTH)
    for tokens, counted in ((None, torch.ones_like(real)), (real, real)):
        expected = theirs(ids, attention_mask=counted.long()).logits[counted]
        assert_same(ours(ids, tokens)[counted], expected)
        for sizes in PIECES:
            read = partial(ours, cache=ours.new_cache(window))
            assert_same(in_pieces(read, ids, tokens, sizes)[counted], expected)
            assert_differs(in_pieces(forgetful(ours), ids, tokens, sizes)[counted], expected)


def write(model, prompt, window=None):
    """Go on with a text, greedily."""
    reader = LanguageReader(model, window=window)
    return generate(reader, prompt, end_id=END, pad_id=START, max_new_tokens=30)


def written_by(theirs, prompt):
    """Let theirs go on with a text, greedily."""
    seen = torch.ones_like(prompt)
    text = theirs.generate(prompt, attention_mask=seen, max_new_tokens=30, do_sample=False)
    return text[:, prompt.shape[1] :]


def assert_same_text(written, expected, broken):
    """Ours is theirs, that of a broken model is not, and it is a text."""
    written, broken = (ids[:, : expected.shape[1]].tolist() for ids in (written, broken))
    assert written == expected.tolist() != broken
    assert len(expected.unique()) >= 4


class NormedEmbedding(TokenEmbedding):
    """BLOOM normalises its embeddings before the first block."""

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model, factor=1.0)
        self.norm = LayerNorm(d_model)

    def forward(self, ids):
        return self.norm(super().forward(ids))


def bloom(vocab_size, d_model, n_heads, n_layers, **changed):
    """Pre-norm, ALiBi, a norm after the embedding, and a GELU whose constant is rounded."""
    parts = dict(
        embed=NormedEmbedding,
        positions=no_positions,
        attention=partial(MultiHeadAttention, score_bias=Alibi(n_heads)),
        feed_forward=partial(FeedForward, activation=modeling_bloom.bloom_gelu_forward),
    )
    return DecoderOnly(vocab_size, d_model, n_heads, 4 * d_model, n_layers, **parts | changed)


def per_head(fused, n_heads):
    """BLOOM keeps the query, key and value of a head side by side."""
    return [x.flatten(0, 1) for x in fused.unflatten(0, (n_heads, 3, -1)).unbind(1)]


def one_after_the_other(fused, n_heads):
    """GPT-2 keeps all queries, then all keys, then all values."""
    return fused.chunk(3)


def bloom_pairs(ours, theirs, cut=per_head):
    theirs = theirs.transformer
    pairs = [
        (ours.embedding.W_E, theirs.word_embeddings.weight),
        *norm(ours.embedding.norm, theirs.word_embeddings_layernorm),
        *norm(ours.stack.norm, theirs.ln_f),
    ]
    for mine, block in zip(ours.stack.blocks, theirs.h, strict=True):
        three = (mine.attention.W_Q, mine.attention.W_K, mine.attention.W_V)
        fused = block.self_attention.query_key_value
        weights, biases = (cut(x, mine.attention.n_heads) for x in (fused.weight, fused.bias))
        for matrix, weight, bias in zip(three, weights, biases, strict=True):
            pairs += [(matrix.weight, weight), (matrix.bias, bias)]
        pairs += linear(mine.attention.W_O, block.self_attention.dense)
        pairs += linear(mine.feed_forward.W_1, block.mlp.dense_h_to_4h)
        pairs += linear(mine.feed_forward.W_2, block.mlp.dense_4h_to_h)
        pairs += norm(mine.attention_norm, block.input_layernorm)
        pairs += norm(mine.feed_forward_norm, block.post_attention_layernorm)
    return pairs


# Powers of 2, whose slopes float32 holds: theirs are float32.
BLOOMS = [
    dict(vocab_size=31, d_model=24, n_heads=4, n_layers=2),
    dict(vocab_size=101, d_model=136, n_heads=8, n_layers=3),
]


@pytest.fixture
def their_bloom(monkeypatch):
    """Make theirs; its softmax, which rounds to float32 whatever the model, made PyTorch's."""
    functions = {**vars(F), "softmax": lambda x, dim, dtype: F.softmax(x, dim)}
    monkeypatch.setattr(modeling_bloom, "F", SimpleNamespace(**functions))

    def make(vocab_size, d_model, n_heads, n_layers):
        config = BloomConfig(
            vocab_size=vocab_size, hidden_size=d_model, n_head=n_heads, n_layer=n_layers,
            hidden_dropout=0.0, attention_dropout=0.0, pad_token_id=0, bos_token_id=None,
            eos_token_id=END,
        )  # fmt: skip
        return randomise(BloomForCausalLM(config), d_model)

    return make


@pytest.mark.parametrize("size", BLOOMS, ids=NAMES)
@torch.no_grad()
def test_bloom_is_bloom(their_bloom, size):
    theirs = their_bloom(**size)
    ours = bloom(**size)
    assert_language_models_agree(copy(bloom_pairs(ours, theirs), ours), theirs)


BROKEN_BLOOMS = {
    "no ALiBi": dict(attention=MultiHeadAttention),
    "ALiBi of twice the heads": dict(
        attention=partial(MultiHeadAttention, score_bias=lambda q, k: Alibi(8)(q, k)[:4])
    ),
    "sinusoids besides": dict(positions=add_sinusoidal_positions),
    "post-norm": dict(residual=post_norm, final_norm=True),
    "ReLU": dict(feed_forward=FeedForward),
    "heads one after the other": {},
}


@pytest.mark.parametrize("change", BROKEN_BLOOMS)
@torch.no_grad()
def test_another_bloom_is_far_from_bloom(their_bloom, change):
    theirs = their_bloom(**BLOOMS[0])
    ours = bloom(**BLOOMS[0], **BROKEN_BLOOMS[change])
    cut = one_after_the_other if change == "heads one after the other" else per_head
    copy(bloom_pairs(ours, theirs, cut), ours)
    ids = torch.randint(BLOOMS[0]["vocab_size"], (3, LENGTH))
    assert_differs(ours(ids), theirs(ids).logits)


@torch.no_grad()
def test_bloom_writes_what_bloom_writes(their_bloom):
    theirs = their_bloom(**BLOOMS[1])
    ours, broken = bloom(**BLOOMS[1]), bloom(**BLOOMS[1], attention=MultiHeadAttention)
    for model in (ours, broken):
        copy(bloom_pairs(model, theirs), model)
    prompt = torch.randint(3, theirs.config.vocab_size, (2, 11))
    expected = written_by(theirs, prompt)
    assert_same_text(write(ours, prompt), expected, write(broken, prompt))


def mistral(window, **size):
    """Llama with grouped heads, whose tokens look back over a window."""
    return llama(**size, look=partial(window_mask, window=window))


LLAMAS = [
    dict(vocab_size=29, d_model=24, n_heads=4, n_kv_heads=2, d_ff=13, n_layers=2, base=500.0),
    dict(vocab_size=103, d_model=144, n_heads=6, n_kv_heads=2, d_ff=190, n_layers=3),
]
MISTRALS = [dict(window=5, **LLAMAS[0]), dict(window=16, **LLAMAS[1])]


def their_mistral(window, vocab_size, d_model, n_heads, n_kv_heads, d_ff, n_layers, base=1e4):
    config = MistralConfig(
        vocab_size=vocab_size, hidden_size=d_model, num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads, intermediate_size=d_ff, num_hidden_layers=n_layers,
        sliding_window=window, rope_parameters={"rope_type": "default", "rope_theta": base},
        pad_token_id=0, bos_token_id=None, eos_token_id=END,
    )  # fmt: skip
    theirs = randomise(MistralForCausalLM(config), d_model)
    with_torchs_norms(theirs, config.rms_norm_eps)
    theirs.model.rotary_emb = Float64Angles(base, d_model // n_heads)
    return theirs


def mistral_pairs(ours, theirs):
    pairs = [
        (ours.embedding.W_E, theirs.model.embed_tokens.weight),
        (ours.unembedding.W_U, theirs.lm_head.weight),
        (ours.stack.norm.gain, theirs.model.norm.weight),
    ]
    for mine, block in zip(ours.stack.blocks, theirs.model.layers, strict=True):
        pairs += [
            (mine.attention.W_Q.weight, block.self_attn.q_proj.weight),
            (mine.attention.W_K.weight, block.self_attn.k_proj.weight),
            (mine.attention.W_V.weight, block.self_attn.v_proj.weight),
            (mine.attention.W_O.weight, block.self_attn.o_proj.weight),
            (mine.feed_forward.W.weight, block.mlp.gate_proj.weight),
            (mine.feed_forward.V.weight, block.mlp.up_proj.weight),
            (mine.feed_forward.W_2.weight, block.mlp.down_proj.weight),
            (mine.attention_norm.gain, block.input_layernorm.weight),
            (mine.feed_forward_norm.gain, block.post_attention_layernorm.weight),
        ]
    return pairs


@pytest.mark.parametrize("size", MISTRALS, ids=NAMES)
@torch.no_grad()
def test_mistral_is_mistral(size):
    """The text is much longer than the window; of the padded rows one is longer, one shorter."""
    theirs, ours = their_mistral(**size), mistral(**size)
    copy(mistral_pairs(ours, theirs), ours)
    assert_language_models_agree(ours, theirs)
    assert_language_models_agree(
        ours, theirs, size["window"]
    )  # the cache holds no more than is seen


def with_neighbours_paired(model):
    model.stack.blocks[0].attention.rotate = Rotary(6, base=500.0)
    for block in model.stack.blocks[1:]:
        block.attention.rotate = model.stack.blocks[0].attention.rotate
    return model


def with_other_groups(model):
    """Give head i the keys of head i modulo 2, not those of its group."""
    for block in model.stack.blocks:
        block.attention.share = lambda x: x.repeat(1, 2, 1, 1)
    return model


BROKEN_MISTRALS = {
    "one key less": lambda: mistral(4, **LLAMAS[0]),
    "one key more": lambda: mistral(6, **LLAMAS[0]),
    "no window": lambda: llama(**LLAMAS[0]),
    "Llama's base": lambda: mistral(**MISTRALS[0] | {"base": 1e4}),
    "neighbours paired": lambda: with_neighbours_paired(mistral(**MISTRALS[0])),
    "other groups": lambda: with_other_groups(mistral(**MISTRALS[0])),
}


@pytest.mark.parametrize("change", BROKEN_MISTRALS)
@torch.no_grad()
def test_another_mistral_is_far_from_mistral(change):
    theirs, ours = their_mistral(**MISTRALS[0]), BROKEN_MISTRALS[change]()
    copy(mistral_pairs(ours, theirs), ours)
    ids = torch.randint(MISTRALS[0]["vocab_size"], (3, LENGTH))
    assert_differs(ours(ids), theirs(ids).logits)


@torch.no_grad()
def test_a_cache_with_another_window_than_the_model_is_far_from_mistral():
    theirs, ours = their_mistral(**MISTRALS[0]), mistral(**MISTRALS[0])
    copy(mistral_pairs(ours, theirs), ours)
    ids = torch.randint(MISTRALS[0]["vocab_size"], (3, LENGTH))
    read = partial(ours, cache=ours.new_cache(4))
    assert_differs(in_pieces(read, ids, None, PIECES[0]), theirs(ids).logits)


@torch.no_grad()
def test_mistral_writes_what_mistral_writes():
    theirs, ours = their_mistral(**MISTRALS[1]), mistral(**MISTRALS[1])
    broken = llama(**LLAMAS[1])
    for model in (ours, broken):
        copy(mistral_pairs(model, theirs), model)
    prompt = torch.randint(3, theirs.config.vocab_size, (2, 11))
    expected, other = written_by(theirs, prompt), write(broken, prompt)
    assert_same_text(write(ours, prompt), expected, other)
    assert_same_text(write(ours, prompt, window=16), expected, other)


class BiasedUnembedding(Unembedding):
    """Marian adds to the logits what the tokens' frequencies suggest."""

    def __init__(self, d_model, vocab_size, *, tied_to=None):
        super().__init__(d_model, vocab_size, tied_to=tied_to)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x):
        return super().forward(x) + self.bias


def sines_then_cosines(x, start=0):
    """The sinusoids of the paper in another order: all sines, then all cosines."""
    _, length, d_model = x.shape
    table = sinusoidal_positions(length, d_model, start=start)
    return x + table[:, halves_order(d_model)].to(x)


def marian(vocab_size, d_model, n_heads, d_ff, n_layers, **changed):
    """The original, with Swish, sines before cosines, and a bias on the logits."""
    parts = dict(
        positions=sines_then_cosines,
        feed_forward=partial(FeedForward, activation=F.silu),
        unembed=BiasedUnembedding,
    )
    return Transformer(vocab_size, d_model, n_heads, d_ff, n_layers, **parts | changed)


MARIANS = [
    dict(vocab_size=37, d_model=22, n_heads=2, d_ff=13, n_layers=2),
    dict(vocab_size=107, d_model=148, n_heads=4, d_ff=210, n_layers=3),
]


def their_marian(vocab_size, d_model, n_heads, d_ff, n_layers):
    config = MarianConfig(
        vocab_size=vocab_size, d_model=d_model, encoder_layers=n_layers, decoder_layers=n_layers,
        encoder_attention_heads=n_heads, decoder_attention_heads=n_heads, encoder_ffn_dim=d_ff,
        decoder_ffn_dim=d_ff, max_position_embeddings=64, activation_function="swish",
        scale_embedding=True, dropout=0.0, pad_token_id=START, decoder_start_token_id=START,
        eos_token_id=END, forced_eos_token_id=None,
    )  # fmt: skip
    theirs = randomise(MarianMTModel(config), d_model)
    theirs.final_logits_bias.normal_(std=0.3)
    with_float64_sinusoids(theirs.model.encoder.embed_positions)
    with_float64_sinusoids(theirs.model.decoder.embed_positions)
    return theirs


def attention_pairs(ours, theirs):
    names = {"W_Q": "q_proj", "W_K": "k_proj", "W_V": "v_proj", "W_O": "out_proj"}
    return [p for o, t in names.items() for p in linear(getattr(ours, o), getattr(theirs, t))]


def marian_pairs(ours, theirs):
    pairs = [
        (ours.source_embedding.W_E, theirs.model.shared.weight),
        (ours.unembedding.bias, theirs.final_logits_bias[0]),
    ]
    for mine, layer in zip(ours.encoder.blocks, theirs.model.encoder.layers, strict=True):
        pairs += attention_pairs(mine.attention, layer.self_attn)
        pairs += norm(mine.attention_norm, layer.self_attn_layer_norm)
    for mine, layer in zip(ours.decoder.blocks, theirs.model.decoder.layers, strict=True):
        pairs += attention_pairs(mine.self_attention, layer.self_attn)
        pairs += norm(mine.self_attention_norm, layer.self_attn_layer_norm)
        pairs += attention_pairs(mine.cross_attention, layer.encoder_attn)
        pairs += norm(mine.cross_attention_norm, layer.encoder_attn_layer_norm)
    blocks = [*ours.encoder.blocks, *ours.decoder.blocks]
    layers = [*theirs.model.encoder.layers, *theirs.model.decoder.layers]
    for mine, layer in zip(blocks, layers, strict=True):
        pairs += linear(mine.feed_forward.W_1, layer.fc1) + linear(mine.feed_forward.W_2, layer.fc2)
        pairs += norm(mine.feed_forward_norm, layer.final_layer_norm)
    return pairs


def translation(vocab_size, source_length=19):
    """A source, which tokens of it are real, and a target that is longer."""
    source = torch.randint(vocab_size, (3, source_length))
    target = torch.randint(vocab_size, (3, LENGTH))
    target[:, 0] = START
    return source, real_tokens(torch.tensor([19, 4, 11]), source_length), target


def beside(model, source, source_real):
    """Read a target beside a source, which is read here."""
    memory = model.encode(source, source_real)

    def read(ids, real=None, cache=None):
        return model.decode(ids, memory, real, source_real, cache)

    return read


@pytest.mark.parametrize("size", MARIANS, ids=NAMES)
@torch.no_grad()
def test_marian_is_marian(size):
    theirs, ours = their_marian(**size), marian(**size)
    copy(marian_pairs(ours, theirs), ours)
    source, source_real, target = translation(size["vocab_size"])
    target_real = real_tokens(LENGTHS, LENGTH)
    read = beside(ours, source, source_real)
    for real, counted in ((None, torch.ones_like(target_real)), (target_real, target_real)):
        masks = dict(attention_mask=source_real.long(), decoder_attention_mask=counted.long())
        expected = theirs(source, decoder_input_ids=target, **masks).logits[counted]
        assert_same(ours(source, target, source_real, real)[counted], expected)
        assert_differs(ours(source, target, None, real)[counted], expected)
        for sizes in PIECES:
            found = in_pieces(partial(read, cache=ours.new_cache()), target, real, sizes)
            assert_same(found[counted], expected)
            assert_differs(in_pieces(forgetful(read), target, real, sizes)[counted], expected)


BROKEN_MARIANS = {
    "a cosine after each sine": dict(positions=add_sinusoidal_positions),
    "positions that start anew": dict(positions=lambda x, start=0: sines_then_cosines(x, 1)),
    "ReLU": dict(feed_forward=FeedForward),
    "embeddings as they are": dict(embed=partial(TokenEmbedding, factor=1.0)),
    "no look at the end": dict(encoder=dict(look=causal_mask)),
}


@pytest.mark.parametrize("change", BROKEN_MARIANS)
@torch.no_grad()
def test_another_marian_is_far_from_marian(change):
    theirs, ours = their_marian(**MARIANS[0]), marian(**MARIANS[0], **BROKEN_MARIANS[change])
    copy(marian_pairs(ours, theirs), ours)
    source, real, target = translation(MARIANS[0]["vocab_size"])
    expected = theirs(source, real.long(), target).logits
    assert_differs(ours(source, target, real), expected)


@torch.no_grad()
def test_marian_without_its_bias_is_far_from_marian():
    theirs, ours = their_marian(**MARIANS[0]), marian(**MARIANS[0])
    copy(marian_pairs(ours, theirs), ours)
    ours.unembedding.bias.zero_()
    source, real, target = translation(MARIANS[0]["vocab_size"])
    assert_differs(ours(source, target, real), theirs(source, real.long(), target).logits)


@torch.no_grad()
def test_marian_writes_what_marian_writes():
    theirs, ours = their_marian(**MARIANS[1]), marian(**MARIANS[1])
    broken = marian(**MARIANS[1], positions=add_sinusoidal_positions)
    for model in (ours, broken):
        copy(marian_pairs(model, theirs), model)
    source, real, target = translation(MARIANS[1]["vocab_size"])
    written, other = (
        generate(
            TranslationReader(model, source, real), target[:, :1],
            end_id=END, pad_id=START, max_new_tokens=30,
        )
        for model in (ours, broken)
    )  # fmt: skip
    expected = theirs.generate(
        source, attention_mask=real.long(), max_new_tokens=30, do_sample=False, num_beams=1
    )
    assert_same_text(written, expected[:, 1:], other)
