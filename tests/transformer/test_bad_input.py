"""What they are told who get it wrong: what came, and what is needed.

The other tests run under a shape checker that a stranger who imports the lab does not have. Here it
is off, so that nothing but the lab's own checks stands in the way.
"""

from functools import cache, partial

import jaxtyping
import pytest
import torch
from torch import Generator, inf, nan, nn

from qa_lab.experiments.data.tasks import vocab_size
from qa_lab.experiments.fit import evaluate, fit
from qa_lab.experiments.measures import (
    entropy_share,
    flops,
    peak_bytes,
    saved_bytes,
    sequential_depth,
)
from qa_lab.transformer.attention import (
    AdditiveScores,
    BilinearScores,
    Cache,
    KVCache,
    LinearState,
    MultiHeadAttention,
    ScoredAttention,
    additive_scores,
    attention_weights,
    bilinear_scores,
    causal_linear_attention,
    causal_local_attention,
    causal_mask,
    chunked_attention,
    default_scale,
    dot_product_scores,
    fused_attention,
    linear_attention,
    linear_attention_step,
    local_attention,
    lsh_attention,
    lsh_buckets,
    over_keys,
    packed_mask,
    padding_mask,
    positive_random_features,
    prefix_mask,
    random_rotations,
    real_tokens,
    real_tokens_from_ids,
    recurrent_linear_attention,
    reverse_real,
    scaled_dot_product_attention,
)
from qa_lab.transformer.decoding import (
    LanguageReader,
    Sampler,
    TranslationReader,
    beam_search,
    generate,
    greedily,
    greedy,
    speculative,
    wu_penalty,
)
from qa_lab.transformer.decoding.speculation import check_guesses
from qa_lab.transformer.layers import (
    BatchNorm,
    FeedForward,
    GatedFeedForward,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    TokenEmbedding,
    Unembedding,
    batch_norm_statistics,
    group_statistics,
    layer_norm,
    mean_over_tokens,
    rms_norm,
)
from qa_lab.transformer.models import (
    Bert,
    Decoder,
    DecoderOnly,
    Encoder,
    EncoderBlock,
    EncoderOnly,
    SegmentRecurrence,
    Transformer,
    remember,
)
from qa_lab.transformer.models.presets import gpt2, llama
from qa_lab.transformer.positions import (
    Alibi,
    LearnedPositions,
    Rotary,
    ShawAttention,
    T5Bias,
    add_sinusoidal_positions,
    clipped_distances,
    distances,
    frequencies,
    halves_order,
    ntk_base,
    rotary_table,
    rotate_halves,
    rotate_interleaved,
    shaw_attention,
    sinusoidal_positions,
)
from qa_lab.transformer.rivals import (
    BagOfWords,
    BidirectionalStack,
    CausalConvolution,
    RecurrentClassifier,
    RecurrentLayer,
    RecurrentLM,
    Seq2Seq,
    causal_mean,
    receptive_field,
)
from qa_lab.transformer.training import (
    adamw,
    cosine_with_warmup,
    cross_entropy,
    decay_progress,
    linear_with_warmup,
)


@pytest.fixture(autouse=True)
def without_the_shape_checker():
    """As after a plain `import qa_lab`."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# Two rows of five tokens, 22 features; seventeen ids; a memory of seven.
def x(*shape):
    return torch.randn(shape or (2, 5, 22))


def ids(*shape):
    return torch.arange(torch.Size(shape or (2, 5)).numel()).view(shape or (2, 5)) % 17


def yes(*shape):
    return torch.ones(shape, dtype=torch.bool)


@cache
def attend(**how):
    return MultiHeadAttention(22, 2, **how)


@cache
def encoder(**how):
    return Encoder(22, 2, 13, 2, **how)


@cache
def decoder():
    return Decoder(22, 2, 13, 2)


@cache
def language_model():
    return DecoderOnly(17, 22, 2, 13, 1).eval()


@cache
def translator():
    return Transformer(17, 22, 2, 13, 1).eval()


@cache
def recurrent_translator():
    return Seq2Seq(17, 22)


@cache
def small_bert():
    return Bert(17, 22, 2, 13, 1, max_length=9)


@cache
def with_nan():
    model = DecoderOnly(17, 22, 2, 13, 1).eval()
    model.unembedding.W_U.data.fill_(nan)
    return model


def reader(model=language_model, read=0):
    made = LanguageReader(model())
    if read:
        made.read(ids(1, read))
    return made


def write(prompt=None, **how):
    prompt = ids(2, 3) if prompt is None else prompt
    how = {"end_id": 2, "pad_id": 0, "max_new_tokens": 3} | how
    return generate(how.pop("reader", reader()), prompt, **how)


def search(**how):
    how = {"beam": 2, "end_id": 2, "pad_id": 0, "max_new_tokens": 3} | how
    return beam_search(how.pop("reader", reader()), ids(2, 3), **how)


def speculate(prompt=None, target=None, draft=None, **how):
    prompt = ids(1, 3) if prompt is None else prompt
    how = {"guesses": 2, "end_id": None, "pad_id": 0, "max_new_tokens": 3} | how
    return speculative(target or reader(), draft or reader(), prompt, Generator(), **how)


def speculate_with_one_reader():
    both = reader()
    return speculate(target=both, draft=both)


def train(**how):
    how = {"steps": 1, "lr": 0.1, "seed": 0} | how
    return fit(nn.Linear(2, 1), lambda model, b: model(b).sum(), lambda rng: x(3, 2), **how)


def guesses(q, p):
    return check_guesses(torch.tensor([0, 1]), q, p, Generator())


def kept(k, v):
    return KVCache().extend(x(*k), x(*v))


def uncached_batches():
    uncached = LanguageReader(language_model(), cached=False)
    uncached.read(ids(2, 3))
    uncached.read(ids(3, 1))


ROTATIONS = random_rotations(2, 4, 4)
TABLE = rotary_table(5, 8)
STEP = linear_attention_step

SIZES = {
    "d_k of 0": (lambda: default_scale(0), "d_k must be at least 1; got 0"),
    "a quotient for a size": (
        lambda: FeedForward(22, 22 / 4),
        "TypeError: d_ff must be a whole number; got 5.5",
    ),
    "no heads": (lambda: MultiHeadAttention(22, 0), "must be at least 1; got 22, 0 and 0"),
    "heads that do not divide": (lambda: MultiHeadAttention(22, 3), "n_heads = 3 does not divide"),
    "heads of no width": (lambda: attend(d_k=0), "d_k must be at least 1; got 0"),
    "values of no width": (lambda: attend(d_v=-1), "d_v must be at least 1; got -1"),
    "d_ff of 0": (lambda: FeedForward(22, 0), "d_ff must be at least 1; got 0"),
    "d_model of 0": (lambda: FeedForward(0, 5), "d_model must be at least 1"),
    "gated d_ff of 0": (lambda: GatedFeedForward(22, 0), "d_ff must be at least 1"),
    "gated d_model of 0": (lambda: GatedFeedForward(0, 5), "d_model must be at least"),
    "an encoder of no blocks": (
        lambda: Encoder(22, 2, 13, 0),
        "n_layers must be at least 1; got 0",
    ),
    "a decoder of -1 blocks": (
        lambda: Decoder(22, 2, 13, -1),
        "n_layers must be at least 1; got -1",
    ),
    "GPT-2 without blocks": (
        lambda: gpt2(17, 22, 2, 13, 0, max_length=9),
        "n_layers must be at least 1",
    ),
    "Llama without heads": (lambda: llama(17, 22, 0, 13, 1), "must be at least 1; got 22, 0 and 0"),
    "Llama with heads that do not divide": (
        lambda: llama(17, 22, 3, 13, 1),
        "n_heads = 3 does not divide d_model = 22",
    ),
    "Llama with key heads that do not divide": (
        lambda: llama(17, 24, 4, 13, 1, n_kv_heads=3),
        "n_kv_heads = 3 does not divide n_heads = 4",
    ),
    "Llama with an odd d_k": (
        lambda: llama(17, 22, 2, 13, 1),
        "a width of 11 cannot be cut into pairs",
    ),
    "no vocabulary": (lambda: TokenEmbedding(0, 22), "vocab_size must be at least 1"),
    "no embedding": (lambda: TokenEmbedding(17, 0), "d_model must be at least 1"),
    "no vocabulary to score": (lambda: Unembedding(22, 0), "vocab_size must be at least 1"),
    "no features to score with": (lambda: Unembedding(0, 17), "d_model must be at least 1"),
    "tied to another embedding": (
        lambda: Unembedding(22, 18, tied_to=TokenEmbedding(17, 22)),
        "tied_to holds [vocab d_model] = [17, 22]; W_U must be [18, 22]",
    ),
    "no classes": (lambda: EncoderOnly(17, 0, 22, 2, 13, 1), "n_classes must be at least 1; got 0"),
    "no classes of rows": (
        lambda: RecurrentClassifier(17, 0, 22, 1),
        "n_classes must be at least 1",
    ),
    "no classes of bags": (lambda: BagOfWords(17, 0, 22, 13), "n_classes must be at least 1"),
    "no taps": (lambda: receptive_field(0, [1]), "taps must be at least 1; got 0"),
    "no positions to learn": (
        lambda: LearnedPositions(0, 22),
        "max_length must be at least 1; got 0",
    ),
    "positions of no width": (lambda: LearnedPositions(9, 0), "d_model must be at least 1"),
    "sinusoids of -1 positions": (
        lambda: sinusoidal_positions(-1, 4),
        "length must be at least 1; got -1",
    ),
    "angles of -1 positions": (lambda: rotary_table(-1, 4), "length must be at least 1; got -1"),
    "no heads for T5": (lambda: T5Bias(0, bidirectional=True), "n_heads must be at least 1; got 0"),
    "no buckets for T5": (
        lambda: T5Bias(2, bidirectional=True, n_buckets=-1),
        "n_buckets must be at least 1; got -1",
    ),
    "distances from no query": (
        lambda: distances(0, 3),
        "0 queries cannot be the last of 3 positions",
    ),
    "a negative largest distance": (
        lambda: clipped_distances(3, 5, -1),
        "max_distance = -1 tokens: it must be 0 or more",
    ),
    "a negative largest distance to learn": (
        lambda: ShawAttention(4, -1),
        "max_distance = -1 tokens",
    ),
    "Shaw keys of no width": (lambda: ShawAttention(0, 1), "d_k must be at least 1"),
    "Shaw values of no width": (
        lambda: ShawAttention(4, 1, d_v=0),
        "d_v must be at least 1; got 0",
    ),
    "no random features": (
        lambda: positive_random_features(x(2, 4), x(0, 4)),
        "features must be at least 1; got 0",
    ),
    "LayerNorm of no width": (lambda: LayerNorm(0), "d_model must be at least 1; got 0"),
    "RMSNorm of no width": (lambda: RMSNorm(0), "d_model must be at least 1"),
    "BatchNorm of no width": (
        lambda: BatchNorm(0, count_padding=True),
        "d_model must be at least 1",
    ),
    "GroupNorm of no width": (lambda: GroupNorm(0, n_groups=2), "d_model must be at least 1"),
    "a memory of -1 tokens": (
        lambda: remember(x(), x(), -1),
        "memory_length must be at least 0 tokens; got -1",
    ),
    "no symbols": (lambda: vocab_size(0), "n_symbols must be 1 or more; got 0"),
}

NUMBERS = {
    "a negative eps": (lambda: LayerNorm(22, eps=-1e-5), "eps must be at least 0; got -1e-05"),
    "an eps of NaN": (lambda: RMSNorm(22, eps=nan), "eps must be at least 0; got nan"),
    "a negative eps of a batch": (
        lambda: BatchNorm(22, count_padding=True, eps=-1.0),
        "eps must be at least 0",
    ),
    "a negative eps of groups": (
        lambda: GroupNorm(22, n_groups=2, eps=-1.0),
        "eps must be at least 0",
    ),
    "a negative eps in the formula": (
        lambda: layer_norm(x(), x(22), x(22), -1.0),
        "eps must be at least 0",
    ),
    "a negative eps in the RMS formula": (
        lambda: rms_norm(x(), x(22), -1.0),
        "eps must be at least 0",
    ),
    "a negative momentum": (
        lambda: BatchNorm(22, count_padding=True, momentum=-0.1),
        "momentum is a weight, in [0, 1]; got -0.1",
    ),
    "a momentum above 1": (
        lambda: BatchNorm(22, count_padding=True, momentum=1.1),
        "momentum is a weight, in [0, 1]; got 1.1",
    ),
    "dropout of 1.5": (lambda: encoder(dropout=1.5), "probability has to be between 0 and 1"),
    "dropout below 0": (lambda: encoder(dropout=-0.1), "but got -0.1"),
    "a base of NaN": (lambda: frequencies(4, nan), "base = nan has no geometric series"),
    "a stretch of NaN": (lambda: Rotary(8, stretch=nan), "stretch = nan would stop"),
    "a base of 0 to enlarge": (lambda: ntk_base(0.0, 2.0, 8), "base = 0.0 has no geometric"),
    "a negative stretch of the base": (
        lambda: ntk_base(1e4, -1.0, 8),
        "stretch = -1.0 would stop or reverse",
    ),
    "an odd width to stretch": (lambda: ntk_base(1e4, 2.0, 7), "a width of 7 cannot be cut"),
    "odd sinusoids": (lambda: sinusoidal_positions(5, 7), "a width of 7 cannot be cut"),
    "odd rotations": (lambda: Rotary(7), "a width of 7 cannot be cut"),
    "an order of no features": (lambda: halves_order(0), "a width of 0 is odd or too small"),
    "weights that grow": (
        lambda: adamw(nn.Linear(2, 1), 0.1, weight_decay=-0.1),
        "weight_decay must be at least 0: weights would grow; got -0.1",
    ),
    "a linear run that is all warm-up": (
        lambda: linear_with_warmup(0, steps=5, warmup=5),
        "a warm-up of 5 out of 5 updates leaves none for the decay",
    ),
    "a cosine run that is all warm-up": (
        lambda: cosine_with_warmup(0, steps=5, warmup=9),
        "a warm-up of 9 out of 5 updates",
    ),
    "no decay to be part of": (lambda: decay_progress(0, 5, 5), "a warm-up of 5 out of 5 updates"),
    "temperature 0": (lambda: Sampler(Generator(), 0.0), "temperature must be > 0; got 0"),
    "beam 0": (lambda: search(beam=0), "beam must keep at least 1 text; got 0"),
    "a penalty of 0": (
        lambda: search(penalty=lambda length: 0.0),
        "a penalty divides a log probability: it must be > 0, and finite in float32; got 0.0",
    ),
    "a penalty of NaN": (lambda: search(penalty=wu_penalty(nan)), "in float32; got nan"),
    "an infinite penalty": (lambda: search(penalty=lambda length: inf), "in float32; got inf"),
    "a penalty that float32 has as 0": (
        lambda: search(penalty=lambda length: 1e-46),
        "in float32; got 1e-46",
    ),
    "a penalty that float32 has as infinity": (
        lambda: search(penalty=lambda length: 1e39),
        "in float32; got 1e+39",
    ),
    "no new token": (lambda: write(max_new_tokens=0), "max_new_tokens must be at least 1 token"),
    "a cache of no layers": (lambda: Cache(0), "a cache needs at least 1 layer; got 0"),
}

VECTORS = {
    "attention on x of 20": (
        lambda: attend()(x(2, 5, 20)),
        "ValueError: query_input must be 22 features wide; got the shape [2, 5, 20]",
    ),
    "attention on ids": (
        lambda: attend()(ids()),
        "TypeError: query_input must hold floating-point numbers; got torch.int64 of shape [2, 5]",
    ),
    "attention on one row": (
        lambda: attend()(x(5, 22)),
        "query_input must be [batch length d_model]; got the shape [5, 22]",
    ),
    "attention on an empty batch": (
        lambda: attend()(x(0, 5, 22)),
        "query_input holds no token: its shape is [0, 5, 22]",
    ),
    "attention to a memory of 20": (
        lambda: attend()(x(), x(2, 7, 20)),
        "memory must be 22 features wide; got the shape [2, 7, 20]",
    ),
    "a mask where the memory goes": (
        lambda: attend()(x(), yes(5, 5)),
        "TypeError: memory must hold floating-point numbers; got torch.bool of shape [5, 5]. Embed "
        "ids first, and give a mask as real= or keep=",
    ),
    "no memory": (lambda: attend()(x(), x(2, 0, 22)), "memory holds no token"),
    "a memory of one row for a batch": (
        lambda: attend()(x(), x(1, 7, 22)),
        "query_input and memory must be of one batch; got the shapes [2, 5, 22] and [1, 7, 22]",
    ),
    "an encoder on x of 20": (lambda: encoder()(x(2, 5, 20)), "x must be 22 features wide"),
    "an encoder on ids": (lambda: encoder()(ids()), "TypeError: x must hold floating-point"),
    "an encoder on an empty row": (lambda: encoder()(x(2, 0, 22)), "x holds no token"),
    "a decoder on y of 20": (
        lambda: decoder()(x(2, 5, 20), x(2, 7, 22)),
        "y must be 22 features wide; got the shape [2, 5, 20]",
    ),
    "a decoder on another batch": (
        lambda: decoder()(x(), x(3, 7, 22)),
        "query_input and memory must be of one batch",
    ),
    "feed-forward on x of 20": (
        lambda: FeedForward(22, 13)(x(2, 5, 20)),
        "x must be 22 features wide; got the shape [2, 5, 20]",
    ),
    "gated feed-forward on x of 20": (
        lambda: GatedFeedForward(22, 13)(x(2, 5, 20)),
        "x must be 22 features wide",
    ),
    "feed-forward on a number": (
        lambda: FeedForward(22, 13)(torch.tensor(1.0)),
        "x must be 22 features wide; got the shape []",
    ),
    "logits of x of 20": (lambda: Unembedding(22, 17)(x(2, 5, 20)), "x must be 22 features wide"),
    "LayerNorm of x of 20": (lambda: LayerNorm(22)(x(2, 5, 20)), "x must be 22 features"),
    "RMSNorm of x of 20": (lambda: RMSNorm(22)(x(2, 5, 20)), "x must be 22 features wide"),
    "BatchNorm of x of 1": (
        lambda: BatchNorm(22, count_padding=True)(x(2, 5, 1)),
        "x must be 22 features wide; got the shape [2, 5, 1]",
    ),
    "BatchNorm of one row": (
        lambda: BatchNorm(22, count_padding=True)(x(5, 22)),
        "x must be [batch length d_model]; got the shape [5, 22]",
    ),
    "GroupNorm of x of 20": (
        lambda: GroupNorm(22, n_groups=2)(x(2, 5, 20)),
        "x must be 22 features wide",
    ),
    "group statistics of one row": (
        lambda: group_statistics(x(5, 22), 2),
        "x must be [batch length d_model]",
    ),
    "a gain of one number": (
        lambda: layer_norm(x(), x(1), x(22)),
        "gain must be 22 features wide; got the shape [1]",
    ),
    "a bias of one number": (
        lambda: layer_norm(x(), x(22), x(1)),
        "bias must be 22 features wide; got the shape [1]",
    ),
    "an RMS gain of one number": (lambda: rms_norm(x(), x(1)), "gain must be 22 features"),
    "sinusoids on ids": (
        lambda: add_sinusoidal_positions(ids(2, 6)),
        "TypeError: x must hold floating-point numbers; got torch.int64",
    ),
    "learned positions on x of 1": (
        lambda: LearnedPositions(9, 22)(x(2, 5, 1)),
        "x must be 22 features wide; got the shape [2, 5, 1]",
    ),
    "longer than the table": (
        lambda: LearnedPositions(4, 22)(x()),
        "positions 0..4 do not all have a row",
    ),
    "rotation of whole numbers": (
        lambda: Rotary(8)(ids(1, 1, 5, 8)),
        "TypeError: queries and keys are floating-point; got torch.int64",
    ),
    "interleaved pairs and a longer table": (
        lambda: rotate_interleaved(x(2, 1, 8), *TABLE),
        "x is [... length width] = [2, 1, 8]; cos and sin must be [length width/2]; got [5, 4]",
    ),
    "halves and a wider table": (
        lambda: rotate_halves(x(2, 5, 2), *TABLE),
        "x is [... length width] = [2, 5, 2]; cos and sin must be [length width/2]",
    ),
    "an odd number of features to pair": (
        lambda: rotate_halves(x(2, 5, 9), *TABLE),
        "x is [... length width] = [2, 5, 9]",
    ),
    "a sine of another length": (
        lambda: rotate_halves(x(2, 5, 8), TABLE[0], TABLE[1][:1]),
        "got [5, 4] and [1, 4]",
    ),
    "random features of another width": (
        lambda: positive_random_features(x(2, 4), x(8, 5)),
        "x must be 5 features wide; got the shape [2, 4]",
    ),
    "hashes of another width": (
        lambda: lsh_buckets(x(2, 5, 3), ROTATIONS),
        "x must be 4 features wide; got the shape [2, 5, 3]",
    ),
    "a recurrent layer on x of 20": (
        lambda: RecurrentLayer(22, 8)(x(2, 5, 20)),
        "x must be 22 features wide; got the shape [2, 5, 20]",
    ),
    "a convolution of x of 20": (
        lambda: CausalConvolution(22, 3, 2)(x(2, 5, 20)),
        "x must be 22 features wide",
    ),
    "a mean of one row": (
        lambda: causal_mean(x(5, 22)),
        "x must be [batch length d_model]; got the shape [5, 22]",
    ),
    "BERT's pooler on x of 20": (
        lambda: small_bert().pool(x(2, 5, 20)),
        "x must be 22 features wide",
    ),
    "a segment of 20": (
        lambda: SegmentRecurrence(encoder(), 3)(x(2, 5, 20)),
        "x must be 22 features wide",
    ),
    "a segment after another batch's": (
        lambda: SegmentRecurrence(encoder(), 3)(x(), [x(1, 3, 22)] * 2),
        "a memory of shape [1, 3, 22] cannot go before a segment of shape [2, 5, 22]",
    ),
    "a block with another batch's memory": (
        lambda: encoder().blocks[0](x(), memory=x(1, 5, 22)),
        "query_input and memory must be of one batch; got the shapes [2, 5, 22] and [1, 5, 22]",
    ),
    "a memory that ends before the block's stream begins": (
        lambda: encoder(look=causal_mask).blocks[0](x(), memory=x(2, 3, 22)),
        "5 positions cannot be the last of a memory of 3",
    ),
    "a memory of another batch": (
        lambda: remember(x(1, 3, 22), x(), 3),
        "a memory of shape [1, 3, 22] cannot go before",
    ),
    "a memory of another width": (
        lambda: remember(x(2, 3, 20), x(), 3),
        "a memory of shape [2, 3, 20] cannot go before",
    ),
    "a memory without a batch": (
        lambda: remember(x(3, 22), x(), 3),
        "a memory of shape [3, 22] cannot go before",
    ),
}

TOKENS = {
    "float ids": (
        lambda: language_model()(torch.ones(2, 5)),
        "TypeError: ids must be a tensor of whole numbers, torch.int64; got torch.float",
    ),
    "ids of 8 bits": (
        lambda: language_model()(ids().to(torch.uint8)),
        "TypeError: ids must be a tensor of whole numbers, torch.int64; got torch.uint8",
    ),
    "a list of ids": (lambda: language_model()([[1, 2]]), "torch.int64; got list"),
    "ids of one row": (
        lambda: language_model()(ids(5)),
        "ValueError: ids must be [batch length]; got the shape [5]",
    ),
    "one-hot ids": (lambda: language_model()(ids(2, 5, 1)), "got the shape [2, 5, 1]"),
    "an empty batch": (
        lambda: language_model()(ids(0, 5)),
        "no token to embed: ids has shape [0, 5]",
    ),
    "an id outside the vocabulary": (
        lambda: language_model()(ids() + 17),
        "token ids must lie in 0..16, the vocabulary; got 17..26",
    ),
    "float segments": (
        lambda: small_bert()(ids(), None, torch.zeros(2, 5)),
        "TypeError: segments must be a tensor of whole numbers",
    ),
    "segments of one row for a batch": (
        lambda: small_bert()(ids(), None, ids(1, 5)),
        "segments must be one for each token, [2, 5]; got [1, 5]",
    ),
    "BERT on a list": (lambda: small_bert()([[1, 2]]), "TypeError: ids must be a tensor"),
    "BERT on too long a row": (lambda: small_bert()(ids(2, 10)), "max_length = 9 positions"),
    "sources of another batch": (
        lambda: translator()(ids(1, 7), ids()),
        "query_input and memory must be of one batch; got the shapes [2, 5, 22] and [1, 7, 22]",
    ),
    "recurrent sources of another batch": (
        lambda: recurrent_translator()(ids(1, 7), ids()),
        "target_ids and memory must be of one batch; got the shapes [2, 5] and [1, 7, 22]",
    ),
    "a recurrent memory of 20": (
        lambda: recurrent_translator().decode(ids(), x(2, 7, 20)),
        "memory must be 22 features wide; got the shape [2, 7, 20]",
    ),
    "a recurrent step on a row": (
        lambda: RecurrentLM(17, 22, 1).step(ids(2, 1)),
        "ids must be [batch]; got the shape [2, 1]",
    ),
    "a translating step on a row": (
        lambda: recurrent_translator().step(ids(2, 1), [], x(2, 7, 22)),
        "target_ids must be [batch]; got the shape [2, 1]",
    ),
    "a recurrent model on one row": (
        lambda: RecurrentLM(17, 22, 1)(ids(5)),
        "tokens must be [batch length]; got the shape [5]",
    ),
    "documents of one row": (
        lambda: packed_mask(ids(5)),
        "document_ids must be [batch length]; got the shape [5]",
    ),
    "padding of one row": (
        lambda: real_tokens_from_ids(ids(5), 0),
        "ids must be [batch length]; got the shape [5]",
    ),
    "float targets": (
        lambda: cross_entropy(x(2, 5, 17), torch.ones(2, 5)),
        "TypeError: targets must be a tensor of whole numbers, torch.int64; got torch.float",
    ),
    "targets of one row": (
        lambda: cross_entropy(x(5, 17), ids(5)),
        "targets must be [batch length]; got the shape [5]",
    ),
    "a target outside the vocabulary": (
        lambda: cross_entropy(x(2, 5, 9), ids()),
        "targets must lie in 0..8, the vocabulary; got 0..9",
    ),
    "targets of another length": (
        lambda: cross_entropy(x(2, 5, 17), ids(2, 6)),
        "do not fit together",
    ),
}

MASKS = {
    "a float mask": (
        lambda: attend()(x(), keep=torch.ones(5, 5)),
        "TypeError: keep must be torch.bool, True = may look; got torch.float",
    ),
    "a mask of another length": (lambda: attend()(x(), keep=yes(5, 6)), "does not broadcast"),
    "no key to see": (lambda: attend()(x(), keep=~yes(5, 5)), "5 of the 5 rows of keep"),
    "a token mask as a look mask": (lambda: attend()(x(), keep=yes(2, 5)), "does not broadcast"),
    "a float token mask": (
        lambda: encoder()(x(), torch.ones(2, 5)),
        "TypeError: real must be torch.bool, True = a real token; got torch.float",
    ),
    "a token mask of one row for a batch": (
        lambda: encoder()(x(), yes(1, 5)),
        "real has shape [1, 5]; x, [2, 5, 22], needs the token mask [batch length] = [2, 5]",
    ),
    "a token mask without a batch": (lambda: encoder()(x(), yes(5)), "real has shape [5]; x, [2,"),
    "a token mask too long": (
        lambda: encoder()(x(), yes(2, 6)),
        "real covers 6 positions; 5 have been seen",
    ),
    "no real token": (lambda: encoder()(x(), ~yes(2, 5)), "let a query see no key"),
    "a mask of one source token": (
        lambda: decoder()(x(), x(2, 7, 22), memory_real=yes(2, 1)),
        "memory_real has shape [2, 1]; memory, [2, 7, 22], needs the token mask [batch length] = "
        "[2, 7]",
    ),
    "a source without tokens": (
        lambda: translator()(ids(2, 7), ids(), ~yes(2, 7)),
        "let a query see no key",
    ),
    "a pool of no token": (
        lambda: mean_over_tokens(x(), ~yes(2, 5)),
        "row 0 of real has no real token",
    ),
    "a float token mask to hide keys": (
        lambda: over_keys(torch.ones(2, 5)),
        "TypeError: a token mask must be torch.bool, True = real; got torch.float",
    ),
    "a look mask to hide keys": (
        lambda: over_keys(yes(2, 5, 5)),
        "a token mask must be [batch length]; got [2, 5, 5]",
    ),
    "float lengths": (
        lambda: padding_mask(torch.tensor([1.5, 2.0]), 3),
        "TypeError: lengths must be a tensor of whole numbers",
    ),
    "a mask for the lengths": (
        lambda: real_tokens(yes(2), 3),
        "TypeError: lengths must be a tensor of whole numbers, torch.int64; got torch.bool",
    ),
    "lengths with two axes": (
        lambda: real_tokens(torch.tensor([[1, 2]]), 3),
        "lengths must be [batch]; got the shape [1, 2]",
    ),
    "a list of prefixes": (
        lambda: prefix_mask([1, 2], 3),
        "TypeError: prefix_lengths must be a tensor of whole numbers, torch.int64; got list",
    ),
    "a negative prefix": (
        lambda: prefix_mask(torch.tensor([-1, 2]), 3),
        "prefix_lengths must lie in 0..3 tokens; got [-1, 2]",
    ),
    "one length for a batch, to reverse": (
        lambda: reverse_real(x(), torch.tensor([5])),
        "x and lengths must be of one batch; got the shapes [2, 5, 22] and [1]",
    ),
    "a length beyond the row, to read": (
        lambda: RecurrentLayer(22, 8)(x(), None, torch.tensor([6, 1])),
        "lengths must lie in 1..5 tokens; got [6, 1]",
    ),
    "one length for a batch, to read": (
        lambda: RecurrentLayer(22, 8)(x(), None, torch.tensor([5])),
        "x and lengths must be of one batch",
    ),
    "a length of 0, to read both ways": (
        lambda: BidirectionalStack(22, 8, 1)(x(), torch.tensor([5, 0])),
        "lengths must lie in 1..5 tokens; got [5, 0]",
    ),
}

HEADS = {
    "dot products of other widths": (
        lambda: dot_product_scores(x(2, 5, 4), x(2, 7, 3)),
        "give q [... query d_k] and k [... key d_k]; got [2, 5, 4] and [2, 7, 3]",
    ),
    "weights of other batches": (
        lambda: attention_weights(x(2, 5, 4), x(1, 7, 4)),
        "got [2, 5, 4] and [1, 7, 4]",
    ),
    "a query without axes": (
        lambda: attention_weights(x(4), x(4)),
        "give q [... query d_k] and k [... key d_k]; got [4] and [4]",
    ),
    "T5's bias for other heads": (
        lambda: attend(score_bias=T5Bias(1, bidirectional=True))(x()),
        "score_bias gave [1, 5, 5]; these scores need [head query key] = [2, 5, 5]",
    ),
    "distances across attention": (
        lambda: attend(score_bias=Alibi(2))(x(), x(2, 3, 22)),
        "5 queries cannot be the last of 3 positions",
    ),
    "Shaw's keys of another width": (
        lambda: attend(attend=ShawAttention(10, 2))(x()),
        "key_table must be 11 features wide; got the shape [5, 10]",
    ),
    "Shaw's values of width 1": (
        lambda: attend(attend=ShawAttention(11, 2, d_v=1))(x()),
        "value_table must be 11 features wide; got the shape [5, 1]",
    ),
    "additive scores of one row for a batch": (
        lambda: additive_scores(x(2, 5, 4), x(1, 7, 4), x(4)),
        "give q [... query d_k] and k [... key d_k]; got [2, 5, 4] and [1, 7, 4]",
    ),
    "additive scores of other queries": (
        lambda: AdditiveScores(4, 3)(x(5, 5), x(7, 3)),
        "q must be 4 features wide; got the shape [5, 5]",
    ),
    "additive scores of other keys": (
        lambda: AdditiveScores(4, 3)(x(5, 4), x(7, 4)),
        "k must be 3 features wide; got the shape [7, 4]",
    ),
    "bilinear scores of one row for a batch": (
        lambda: bilinear_scores(x(2, 5, 4), x(1, 7, 3), x(4, 3)),
        "give q [... query d_q] and k [... key d_k]; got [2, 5, 4] and [1, 7, 3]",
    ),
    "a step of other widths": (
        lambda: STEP(x(2, 4), x(2, 5), x(2, 3)),
        "give phi_q [... features], phi_k [... features] and v [... d_v]; got [2, 4], [2, 5] and",
    ),
    "a step with the value of one row": (
        lambda: STEP(x(2, 4), x(2, 4), x(1, 3)),
        "got [2, 4], [2, 4] and [1, 3]",
    ),
    "a step from the state of one row": (
        lambda: STEP(*[x(2, 4)] * 2, x(2, 3), LinearState(x(1, 4, 3), x(1, 4))),
        "the state is for phi_k [1, 4] and S [1, 4, 3]; got [2, 4] and [2, 4, 3]",
    ),
    "a cache of keys without values": (
        lambda: kept((2, 3, 5, 4), (2, 3, 6, 4)),
        "give k [batch head new d_k] and v [batch head new d_v]; got [2, 3, 5, 4] and [2, 3, 6, 4]",
    ),
    "a cache of another model": (
        lambda: encoder()(x(), cache=Cache(3)),
        "a cache of 3 layers for 2 blocks",
    ),
}

WRITING = {
    "a prompt of one row": (
        lambda: write(ids(3)),
        "ValueError: prompt must be [batch length]; got the shape [3]",
    ),
    "a list for a prompt": (lambda: write([[1]]), "TypeError: prompt must be a tensor of whole"),
    "an empty prompt": (lambda: write(ids(2, 0)), "it needs a row and a token"),
    "one prompt length for a batch": (
        lambda: write(prompt_lengths=torch.tensor([2])),
        "prompt and prompt_lengths must be of one batch; got the shapes [2, 3] and [1]",
    ),
    "a prompt length of 0": (
        lambda: write(prompt_lengths=torch.tensor([2, 0])),
        "prompt_lengths must lie in 1..3 tokens; got [2, 0]",
    ),
    "an end outside the vocabulary": (
        lambda: write(end_id=17),
        "end_id must lie in 0..16, the vocabulary; got 17",
    ),
    "a negative end": (lambda: write(end_id=-1), "end_id must lie in 0..16"),
    "one of two ends outside the vocabulary": (
        lambda: write(end_id=[2, 17]),
        "end_id must lie in 0..16, the vocabulary; got 17",
    ),
    "half an end": (
        lambda: write(end_id=2.5),
        "TypeError: end_id must be a token id, several of them, or None; got 2.5",
    ),
    "an end and a half": (
        lambda: search(end_id=[2, 2.5]),
        "TypeError: end_id must be a token id, several of them, or None; got [2, 2.5]",
    ),
    "an end in letters": (
        lambda: speculate(end_id="</s>"),
        "TypeError: end_id must be a token id, several of them, or None; got '</s>'",
    ),
    "padding outside the vocabulary": (
        lambda: write(pad_id=17, end_id=None),
        "pad_id must lie in 0..16, the vocabulary; got 17",
    ),
    "a beam's end outside the vocabulary": (lambda: search(end_id=17), "end_id must lie in 0..16"),
    "a guesser's end outside the vocabulary": (
        lambda: speculate(end_id=17),
        "end_id must lie in 0..16, the vocabulary; got 17",
    ),
    "a model that writes NaN": (
        lambda: write(reader=reader(with_nan)),
        "the model's logits are NaN after 3 tokens",
    ),
    "the likeliest of NaN": (
        lambda: greedy(torch.tensor([[0.0, 1.0], [1.0, nan]])),
        "a row of logits holds NaN or infinity, or only minus infinity: no token is the likeliest",
    ),
    "all probability to NaN": (
        lambda: greedily(torch.tensor([[0.0, nan]])),
        "no token is the likeliest",
    ),
    "a draw from NaN": (
        lambda: Sampler(Generator())(torch.tensor([[0.0, 1.0], [1.0, nan]])),
        "a row of logits holds NaN or infinity, or only minus infinity",
    ),
    "a draw from nothing": (
        lambda: Sampler(Generator())(torch.full((2, 3), -torch.inf)),
        "a row of logits holds NaN or infinity, or only minus infinity",
    ),
    "a draw without a batch": (
        lambda: Sampler(Generator())(x(5)),
        "logits must be [batch vocab]; got the shape [5]",
    ),
    "two prompts to guess for": (lambda: speculate(ids(2, 3)), "one prompt at a time; got 2"),
    "a guesser that forgets what left its window": (
        lambda: speculate(draft=LanguageReader(language_model(), window=2)),
        "a cache with a window cannot go back: give the reader no window",
    ),
    "a target with a window": (
        lambda: speculate(target=LanguageReader(language_model(), window=2)),
        "a cache with a window cannot go back: give the reader no window",
    ),
    "one reader for both": (speculate_with_one_reader, "target and draft are one reader"),
    "a target that has read": (
        lambda: speculate(target=reader(read=2)),
        "both readers must be fresh; target has read 2 tokens, draft 0",
    ),
    "a draft that has read": (
        lambda: speculate(draft=reader(read=3)),
        "both readers must be fresh; target has read 0 tokens, draft 3",
    ),
    "guesses of another vocabulary": (
        lambda: guesses(torch.ones(2, 5) / 5, torch.ones(3, 6) / 6),
        "of one vocabulary; got [2], [2, 5] and [3, 6]",
    ),
    "no answer after the last guess": (
        lambda: guesses(torch.ones(2, 5) / 5, torch.ones(2, 5) / 5),
        "target [guess + 1 vocab], of one vocabulary; got [2], [2, 5] and [2, 5]",
    ),
    "a draft of one guess too many": (
        lambda: guesses(torch.ones(3, 5) / 5, torch.ones(3, 5) / 5),
        "got [2], [3, 5] and [3, 5]",
    ),
    "guesses of probability NaN": (
        lambda: guesses(torch.full((2, 5), nan), torch.ones(3, 5) / 5),
        "a probability is NaN or infinite: no guess can be accepted or refused",
    ),
    "a target of NaN after the last guess": (
        lambda: guesses(torch.ones(2, 5) / 5, torch.tensor([0.2, 0.2, nan])[:, None].expand(3, 5)),
        "a probability is NaN or infinite: no guess can be accepted or refused",
    ),
    "targets of probability NaN": (
        lambda: guesses(torch.ones(2, 5) / 5, torch.full((3, 5), nan)),
        "a probability is NaN or infinite: no guess can be accepted or refused",
    ),
    "a cache for a recurrent model": (
        lambda: LanguageReader(RecurrentLM(17, 22, 1)),
        "TypeError: RecurrentLM keeps no keys and values; give cached=False",
    ),
    "a cache for a recurrent translation": (
        lambda: TranslationReader(recurrent_translator(), ids()),
        "TypeError: Seq2Seq keeps no keys and values; give cached=False",
    ),
    "a text of one row": (lambda: reader().read(ids(5)), "ids must be [batch length]; got the"),
    "a text of another batch": (
        uncached_batches,
        "read and ids must be of one batch; got the shapes [2, 3] and [3, 1]",
    ),
}

MEASURING = {
    "NaN that running statistics would keep": (
        lambda: batch_norm_statistics(torch.tensor([[[0.0, nan], [1.0, 1.0]]])),
        "x is NaN or infinite in 1 of its 2 features",
    ),
    "the FLOPs of a result": (
        lambda: flops(x()),
        "TypeError: run must be a function to call, lambda: model(ids), not what it returned; got "
        "Tensor",
    ),
    "the bytes of a result": (lambda: saved_bytes(x()), "run must be a function to call"),
    "the depth of a result": (lambda: sequential_depth(x()), "run must be a function to call"),
    "the peak of a result": (lambda: peak_bytes(x()), "run must be a function to call"),
    "the spread over one key": (
        lambda: entropy_share(torch.ones(3, 1)),
        "weights need a row and 2 keys; got the shape [3, 1]",
    ),
    "the spread of no rows": (lambda: entropy_share(x(0, 4)), "got the shape [0, 4]"),
    "the spread of scores": (
        lambda: entropy_share(torch.tensor([0.5, -0.5])),
        "a weight is negative or NaN",
    ),
    "the spread of NaN": (
        lambda: entropy_share(torch.tensor([nan, 1.0])),
        "a weight is negative or NaN",
    ),
    "an iterator to evaluate on": (
        lambda: evaluate(nn.Linear(2, 1), lambda m, b: m(b).sum(), iter([x(3, 2)])),
        "TypeError: batches are gone through twice: give a list of them, not an iterator",
    ),
    "an optimiser that was made": (
        lambda: train(optimizer=torch.optim.SGD([nn.Parameter(x(1))], 0.1)),
        "TypeError: optimizer makes one from the model and the rate, as adam does; got a SGD",
    ),
}

ALL = [SIZES, NUMBERS, VECTORS, TOKENS, MASKS, HEADS, WRITING, MEASURING]
CASES = {what: case for group in ALL for what, case in group.items()}


@pytest.mark.parametrize("call, told", CASES.values(), ids=CASES.keys())
def test_a_mistake_is_told(call, told):
    with pytest.raises((TypeError, ValueError)) as refusal:
        call()
    assert told in f"{refusal.type.__name__}: {refusal.value}"


def test_no_two_mistakes_share_a_name():
    assert len(CASES) == sum(map(len, ALL))


ATTENTIONS = {
    "plain": scaled_dot_product_attention,
    "fused": fused_attention,
    "chunked": chunked_attention,
    "local": partial(local_attention, window=3),
    "causal local": partial(causal_local_attention, window=3),
    "linear": linear_attention,
    "causal linear": causal_linear_attention,
    "recurrent linear": recurrent_linear_attention,
    "Shaw": partial(shaw_attention, key_table=x(3, 4), value_table=x(3, 3)),
    "scored": lambda *qkv: ScoredAttention(BilinearScores(4, 4))(*qkv),
}


@pytest.mark.parametrize("one", ATTENTIONS.values(), ids=ATTENTIONS.keys())
@pytest.mark.parametrize(
    "q, k, v",
    [
        ([2, 3, 5, 4], [1, 3, 5, 4], [1, 3, 5, 3]),  # one row for a batch, which would be broadcast
        ([2, 3, 5, 4], [2, 1, 5, 4], [2, 1, 5, 3]),  # one head for three
        ([2, 3, 5, 4], [2, 3, 5, 4], [1, 3, 5, 3]),
        ([2, 3, 5, 4], [2, 3, 5, 4], [2, 3, 6, 3]),
        ([2, 3, 5, 4], [2, 3, 5, 6], [2, 3, 5, 3]),
    ],
)
def test_every_attention_refuses_what_does_not_belong_together(one, q, k, v):
    with pytest.raises(ValueError, match=r"got .*\[") as refusal:
        one(x(*q), x(*k), x(*v))
    assert str(k) in str(refusal.value) or "W_a must be" in str(refusal.value)


@pytest.mark.parametrize("one", ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_every_attention_needs_a_key_and_floating_point(one):
    with pytest.raises(ValueError, match=r"no key to look at: k has the shape \[2, 3, 0, 4\]"):
        one(x(2, 3, 0, 4), x(2, 3, 0, 4), x(2, 3, 0, 3))
    with pytest.raises(TypeError, match=r"needs floating-point queries; got torch\.int64"):
        one(ids(2, 3, 5, 4), ids(2, 3, 5, 4), ids(2, 3, 5, 3))


def test_hashed_attention_needs_a_key():
    q = x(2, 3, 0, 4)
    with pytest.raises(ValueError, match="no key to look at"):
        lsh_attention(q, q, q, rotations=ROTATIONS, chunk=2)


def test_the_least_there_can_be_is_enough():
    gpt2(1, 1, 1, 1, 1, max_length=1)(ids(1, 1))
    llama(1, 2, 1, 1, 1)(ids(1, 1))
    EncoderOnly(17, 1, 2, 1, 1, 1, pool=mean_over_tokens)(ids().int(), yes(2, 5))
    real_tokens(torch.tensor([1, 3]), 3), prefix_mask(torch.tensor([0, 3]), 3)
    (
        BatchNorm(1, count_padding=True, momentum=0, eps=0),
        BatchNorm(1, count_padding=True, momentum=1),
    )
    ShawAttention(1, 0), T5Bias(1, bidirectional=False)
    assert halves_order(2).tolist() == [0, 1]
    assert distances(1, 1).tolist() == [0]
    assert sinusoidal_positions(1, 2).tolist() == [[0, 1]]
    assert remember(x(), x(), 0).shape == (2, 0, 22)
    assert adamw(nn.Linear(2, 1), 0.1, weight_decay=0.0)
    assert entropy_share(torch.tensor([1.0, 0.0])) == 0
    assert vocab_size(1) == 4
    assert evaluate(nn.Linear(2, 1), lambda m, b: m(b).sum() * 0, [x(3, 2)]) == 0
    write(end_id=16, pad_id=16), write(end_id=0), write(end_id=None)


def test_a_block_looks_at_its_input_whatever_its_attention_does():
    block = EncoderBlock(22, 2, 13, attention=lambda *_: nn.Identity())
    with pytest.raises(TypeError, match="x must hold floating-point numbers"):
        block(ids(2, 5, 22))
