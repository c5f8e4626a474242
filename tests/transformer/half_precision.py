"""What is computed in half precision: a case for every public name that takes numbers.

A case makes a function and its arguments, in float64. They are hard as a language model's are: sums
over thousands of tokens, scores beyond 65504, activations of 300 beside others of 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from qa_lab.transformer import attention, decoding, layers, models, positions, rivals, training
from qa_lab.transformer.models import presets
from qa_lab.transformer.rivals import GRU, LSTM, RNN


@dataclass(frozen=True)
class Case:
    """A function at work, and how near its exact result it must come.

    Args:
        make: Returns the function and its arguments.
        within: Units of eps times (|result| + root mean square of the results). One rounding is
            half a unit of |result|.
        wide: Why some result has more precision than the arguments. None: all have theirs.
        float32_within: The same for what is wide, with float32's eps: sums of thousands of terms.
            None: it is made of rounded numbers, and no nearer than they are.
    """

    make: Callable[[], tuple]
    within: float = 4.0
    wide: str | None = None
    float32_within: float | None = None


formula = Case  # computed in float32 and rounded once, or a few roundings one after the other
layer = partial(Case, within=8.0)  # several matrix products, each rounded
model = partial(Case, within=16.0)  # several layers
STATE = "A state that is rounded at every step stops changing."
STATISTIC = "A sum of squares does not fit in float16, nor a mean in 3 digits."
state = partial(Case, wide=STATE, float32_within=500.0)  # after hundreds of steps
statistic = partial(Case, wide=STATISTIC, float32_within=100.0)
states = partial(layer, wide=STATE)
SCORES = "Scores leave float16 before a softmax decides."
scores = partial(Case, wide=SCORES, float32_within=100.0)
chances = partial(Case, wide="Rounded, many small chances do not sum to 1.", float32_within=100.0)

LONG = 4099  # tokens: more than bfloat16 and float16 can count


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape)


def stream(batch: int, length: int, d_model: int) -> Tensor:
    """Draw a residual stream: of its features, two are 300 times as large as the others."""
    x = torch.randn(batch, length, d_model)
    x[..., 2] = 300 * x[..., 2].sign()
    x[..., 5] += 300
    return x


def heads(query: int, key: int, d_k: int = 256, d_v: int = 5) -> list[Tensor]:
    """Draw queries, keys and values: every q·k is about 73984, and what differs is small.

    What they have in common stands last, where float32 rounds it once.
    """
    q, k, v = (torch.randn(1, 2, *s) for s in ((query, d_k), (key, d_k), (key, d_v)))
    q[..., -1] = k[..., -1] = 272
    return [q, k, v + torch.linspace(0, 4, key)[:, None]]


def sequence(length: int, d_k: int = 7, d_v: int = 3) -> list[Tensor]:
    """Draw queries, keys and values that stand on a ramp, so that every token counts."""
    q, k, v = (torch.randn(1, 2, length, width) for width in (d_k, d_k, d_v))
    return [q, k, v + torch.linspace(0, 4, length)[:, None]]


def shared(length: int, d_k: int = 16) -> list[Tensor]:
    """Draw queries that are the keys, as LSH attention wants; the second is all zeros."""
    q = 300 * torch.randn(1, 2, length, d_k)
    q[:, :, 1] = 0
    return [q, q, torch.randn(1, 2, length, 5)]


def padded(batch: int, length: int) -> Tensor:
    """Mark the real tokens of rows of which the last is the shortest."""
    return torch.arange(length) < length - 3 * torch.arange(batch)[:, None]


def ids(*shape: int, below: int = 17) -> Tensor:
    return torch.randint(below, shape)


@torch.no_grad()
def drawn(module: nn.Module) -> nn.Module:
    """Draw the vectors of a module too, which start at 0 or 1."""
    for p in module.parameters():
        if p.ndim == 1:
            p.add_(0.3 * torch.randn_like(p))
    return module


@torch.no_grad()
def to_itself(attention: nn.Module) -> nn.Module:
    """Make queries and keys of the vectors themselves: each is by far the most like itself."""
    for linear in (attention.W_Q, attention.W_K):
        linear.weight.copy_(torch.eye(len(linear.weight)))
    return drawn(attention)


@torch.no_grad()
def remembering(module: nn.Module) -> nn.Module:
    """Make every recurrent layer keep 399 of 400 parts of its state at each step."""
    for part in module.modules():
        if isinstance(part, rivals.RecurrentLayer) and part.cell in (GRU, LSTM):
            part.b_U[part.d_hidden : 2 * part.d_hidden] += 6
    return module


def encoder(n_layers: int = 2, **how) -> nn.Module:
    return drawn(models.Encoder(16, 2, 23, n_layers, **how))


def recurrent_layer(cell, d_in: int = 5) -> nn.Module:
    return remembering(rivals.RecurrentLayer(d_in, 6, cell))


def step(of, n_gates: int, n_states: int) -> tuple:
    states = tuple(normal(3, 6).tanh() for _ in range(n_states))
    rows = 6 * n_gates
    return (
        of,
        30 * normal(3, 5),
        states,
        normal(rows, 5),
        normal(rows, 6),
        normal(rows),
        normal(rows),
    )


def token_by_token(model: nn.Module, ids: Tensor) -> Tensor:
    """Read with `step`, which hands the state on from call to call."""
    states = None
    for t in range(ids.shape[1]):
        logits, states = model.step(ids[:, t], states)
    return logits


def running(norm: nn.Module) -> nn.Module:
    """Evaluate with statistics that came from a residual stream."""
    norm.running_mean += stream(1, 1, 16)[0, 0]
    norm.running_variance += stream(1, 1, 16)[0, 0].square()
    return norm.eval()


def with_bias(bias: nn.Module) -> nn.Module:
    """Draw a bias that starts at 0."""
    nn.init.normal_(bias.W_R)
    return bias


def random_features(q: Tensor, k: Tensor, v: Tensor, directions: Tensor) -> Tensor:
    """Attend linearly with features that estimate softmax's."""
    feature_map = partial(A.positive_random_features, directions=directions)
    return A.causal_linear_attention(q, k, v, feature_map=feature_map)


def hashed(rotations: Tensor, q: Tensor, *rest: Tensor) -> Tensor:
    """Attend within hashes; the rotations come first so that they are rounded too."""
    return A.lsh_attention(q, *rest, rotations=rotations, chunk=32)


def likeliest(vocab: int) -> Tensor:
    """Draw logits of which one is above the others, which may be equal once rounded."""
    logits = normal(2, vocab)
    logits[:, vocab // 3] = 9
    return logits


def nucleus() -> tuple:
    """Make 20 000 tokens, all alike: a share just above 0.3 is the first 6001."""
    return partial(decoding.keep_top_p, p=0.300025), torch.zeros(1, 20_000)


def decoder(context, **how) -> tuple:
    build = rivals.LuongDecoder if context is rivals.AttendedContext else rivals.BahdanauDecoder
    module = drawn(build(16, 1, GRU, context, 0.0))
    start = [(normal(2, 16).tanh(),)]
    return module, normal(2, 7, 16), normal(2, 300, 16), padded(2, 300), start


A, D, L, M, P, R, T = attention, decoding, layers, models, positions, rivals, training

CASES: dict[str, Case | list[Case]] = {
    # attention
    "attention_weights": formula(lambda: (A.attention_weights, *heads(5, LONG)[:2])),
    "dot_product_scores": scores(lambda: (A.dot_product_scores, *heads(5, 11)[:2])),
    "scaled_dot_product_attention": formula(
        lambda: (A.scaled_dot_product_attention, *heads(5, LONG))
    ),
    "fused_attention": formula(lambda: (A.fused_attention, *heads(5, LONG))),
    "chunked_attention": formula(lambda: (A.chunked_attention, *heads(5, LONG))),
    "masked_softmax": formula(
        lambda: (A.masked_softmax, 3 * normal(2, 5, LONG), padded(2, LONG)[:, None])
    ),
    "local_attention": formula(
        lambda: (partial(A.local_attention, window=255, global_tokens=(0, 600)), *heads(700, 700))
    ),
    "causal_local_attention": formula(
        lambda: (partial(A.causal_local_attention, window=256), *heads(700, 700))
    ),
    "lsh_attention": formula(
        lambda: (
            hashed,
            A.random_rotations(3, 16, 8),
            *shared(300),
            A.padding_mask(torch.tensor([290]), 300),
        )
    ),
    "lsh_buckets": formula(lambda: (A.lsh_buckets, shared(300)[0], A.random_rotations(3, 16, 8))),
    "LSHAttention": formula(lambda: (A.LSHAttention(8, 32, n_rounds=2), *shared(300))),
    "linear_attention": formula(lambda: (A.linear_attention, *sequence(LONG))),
    "causal_linear_attention": [
        formula(lambda: (A.causal_linear_attention, *sequence(LONG))),
        formula(lambda: (random_features, *sequence(LONG), A.orthogonal_directions(11, 7))),
    ],
    "recurrent_linear_attention": formula(lambda: (A.recurrent_linear_attention, *sequence(400))),
    "linear_attention_step": state(
        lambda: (
            A.linear_attention_step,
            *(normal(3, 7).exp() for _ in range(2)),
            normal(3, 5),
            A.LinearState(1000 * normal(3, 7, 5), 1000 * normal(3, 7).exp()),
        )
    ),
    "elu_plus_one": formula(lambda: (A.elu_plus_one, 5 * normal(3, LONG))),
    "positive_random_features": formula(
        lambda: (A.positive_random_features, normal(3, 7), A.orthogonal_directions(11, 7))
    ),
    "additive_scores": scores(
        lambda: (A.additive_scores, normal(3, 5, 64), normal(3, 7, 64), normal(64))
    ),
    "AdditiveScores": layer(
        lambda: (A.AdditiveScores(16, 11, 64), normal(3, 5, 16), normal(3, 7, 11)), wide=SCORES
    ),
    "bilinear_scores": scores(lambda: (A.bilinear_scores, *heads(5, 7)[:2], torch.eye(256) / 16)),
    "BilinearScores": scores(lambda: (A.BilinearScores(256, 256), *heads(5, 7)[:2])),
    "ScoredAttention": [
        layer(lambda: (A.ScoredAttention(A.AdditiveScores(16, 16)), *sequence(300, 16))),
        formula(lambda: (A.ScoredAttention(A.dot_product_scores), *heads(5, LONG))),
    ],
    "DotProductAttention": [
        formula(lambda: (A.DotProductAttention(), *heads(5, LONG))),
        formula(lambda: (A.DotProductAttention().with_weights, *heads(5, LONG))),
    ],
    "MultiHeadAttention": [
        layer(lambda: (drawn(A.MultiHeadAttention(64, 2)), normal(2, 300, 64))),
        layer(lambda: (drawn(A.MultiHeadAttention(64, 2)).attend_with_weights, normal(2, 300, 64))),
        layer(lambda: (to_itself(A.MultiHeadAttention(64, 2)), 120 * normal(2, 300, 64))),
        layer(
            lambda: (
                to_itself(A.MultiHeadAttention(64, 2)).attend_with_weights,
                120 * normal(2, 300, 64),
            )
        ),
        layer(
            lambda: (
                drawn(A.MultiHeadAttention(64, 2, score_bias=P.Alibi(2))),
                normal(1, 1200, 64),
            )
        ),
    ],
    "tie_query_and_key": layer(
        lambda: (A.tie_query_and_key(drawn(A.MultiHeadAttention(64, 2))), normal(2, 300, 64))
    ),
    "reverse_real": formula(lambda: (A.reverse_real, normal(2, 7, 5), torch.tensor([7, 4]))),
    # positions
    "add_sinusoidal_positions": formula(
        lambda: (partial(P.add_sinusoidal_positions, start=100_003), normal(2, LONG, 16))
    ),
    "LearnedPositions": formula(
        lambda: (partial(P.LearnedPositions(2 * LONG, 16), start=LONG), normal(2, LONG, 16))
    ),
    "no_positions": formula(lambda: (P.no_positions, normal(2, 7, 16))),
    "Rotary": [
        formula(lambda: (partial(P.Rotary(16), start=100_003), 300 * normal(1, 2, LONG, 16))),
        formula(
            lambda: (
                partial(P.Rotary(16, pairing=P.rotate_halves, d_rotated=8), start=LONG),
                300 * normal(1, 2, 7, 16),
            )
        ),
    ],
    "rotate_halves": formula(
        lambda: (P.rotate_halves, 300 * normal(2, LONG, 16), *P.rotary_table(LONG, 16))
    ),
    "rotate_interleaved": formula(
        lambda: (P.rotate_interleaved, 300 * normal(2, LONG, 16), *P.rotary_table(LONG, 16))
    ),
    "T5Bias": formula(
        lambda: (with_bias(P.T5Bias(2, bidirectional=False)), 3, 100_003),
    ),
    "Alibi": Case(
        lambda: (P.Alibi(6), 2, 100_003),
        wide="Distances beyond 65504 do not fit in float16; the attention rounds the bias once.",
        float32_within=4.0,
    ),
    "shaw_attention": formula(
        lambda: (P.shaw_attention, *heads(5, LONG), 0.3 * normal(9, 256), 0.3 * normal(9, 5))
    ),
    "ShawAttention": formula(lambda: (P.ShawAttention(256, 4, d_v=5), *heads(5, LONG))),
    # layers
    "normalise": formula(
        lambda: (
            L.normalise,
            stream(2, 7, 16),
            *(x.mean((0, 1)) for x in (stream(2, 7, 16), stream(2, 7, 16).square() / 4)),
            normal(16),
            normal(16),
        )
    ),
    "layer_norm": [
        formula(lambda: (L.layer_norm, stream(2, 7, 512), normal(512), normal(512))),
        formula(lambda: (L.layer_norm, torch.full((1, 1, 8), 3.0), normal(8), normal(8), 1e-12)),
        formula(lambda: (L.layer_norm, normal(2, 7, LONG) + 3, normal(LONG), normal(LONG), 1e-12)),
    ],
    "LayerNorm": [
        formula(lambda: (drawn(L.LayerNorm(512)), stream(2, 7, 512))),
        formula(lambda: (drawn(L.LayerNorm(8, eps=1e-12)), torch.full((1, 1, 8), 3.0))),
    ],
    "rms_norm": [
        formula(lambda: (L.rms_norm, stream(2, 7, 512), normal(512))),
        formula(lambda: (L.rms_norm, 1e-3 * normal(2, 7, 512), normal(512), 1e-12)),
    ],
    "RMSNorm": [
        formula(lambda: (drawn(L.RMSNorm(512)), stream(2, 7, 512))),
        formula(lambda: (drawn(L.RMSNorm(512, eps=1e-12)), 1e-3 * normal(2, 7, 512))),
    ],
    "batch_norm_statistics": statistic(
        lambda: (L.batch_norm_statistics, stream(2, LONG, 16), padded(2, LONG))
    ),
    "BatchNorm": [
        formula(
            lambda: (
                drawn(L.BatchNorm(16, count_padding=False)),
                stream(2, LONG, 16),
                padded(2, LONG),
            )
        ),
        formula(lambda: (running(drawn(L.BatchNorm(16, count_padding=True))), stream(2, 300, 16))),
    ],
    "group_statistics": statistic(
        lambda: (L.group_statistics, stream(2, LONG, 16), 4, padded(2, LONG))
    ),
    "GroupNorm": formula(
        lambda: (drawn(L.GroupNorm(16, n_groups=4)), stream(2, LONG, 16), padded(2, LONG))
    ),
    "InstanceNorm": formula(lambda: (drawn(L.InstanceNorm(16)), stream(2, LONG, 16))),
    "gelu": formula(lambda: (L.gelu, 30 * normal(3, LONG))),
    "gelu_tanh": formula(lambda: (L.gelu_tanh, 300 * normal(3, LONG))),
    "FeedForward": [
        layer(lambda: (drawn(L.FeedForward(64, 256)), stream(2, 7, 64))),
        layer(lambda: (drawn(L.FeedForward(64, 256, L.gelu_tanh)), stream(2, 7, 64))),
    ],
    "GatedFeedForward": [
        layer(lambda: (drawn(L.GatedFeedForward(64, 256, bias=True)), stream(2, 7, 64))),
        layer(lambda: (L.GatedFeedForward(64, 256, L.gelu), 300 * normal(2, 7, 64))),
    ],
    "TokenEmbedding": formula(lambda: (L.TokenEmbedding(17, 512), ids(2, 300))),
    "Unembedding": formula(lambda: (L.Unembedding(64, 3000), stream(2, 7, 64))),
    "mean_over_tokens": [
        formula(lambda: (L.mean_over_tokens, 300 + 30 * normal(2, LONG, 16))),
        formula(lambda: (L.mean_over_tokens, 300 + 30 * normal(2, LONG, 16), padded(2, LONG))),
    ],
    "every_token": formula(lambda: (L.every_token, normal(2, 7, 16))),
    # models
    "post_norm": formula(lambda: (M.post_norm, stream(2, 7, 64), torch.tanh, L.LayerNorm(64))),
    "pre_norm": formula(lambda: (M.pre_norm, stream(2, 7, 64), torch.tanh, L.LayerNorm(64))),
    "EncoderBlock": layer(lambda: (drawn(M.EncoderBlock(16, 2, 23)), stream(2, 300, 16))),
    "DecoderBlock": layer(
        lambda: (
            drawn(M.DecoderBlock(16, 2, 23)),
            stream(2, 7, 16),
            stream(2, 300, 16),
            None,
            padded(2, 300),
        )
    ),
    "Encoder": model(lambda: (encoder(), stream(2, 300, 16), padded(2, 300))),
    "Decoder": model(
        lambda: (
            drawn(M.Decoder(16, 2, 23, 2, residual=M.pre_norm)),
            stream(2, 7, 16),
            stream(2, 300, 16),
        )
    ),
    "Transformer": model(
        lambda: (drawn(M.Transformer(17, 16, 2, 23, 2)), ids(2, 300), ids(2, 7), padded(2, 300))
    ),
    "DecoderOnly": [
        model(lambda: (drawn(M.DecoderOnly(17, 16, 2, 23, 2)), ids(1, 1100))),
        model(
            lambda: (
                drawn(
                    M.DecoderOnly(
                        17,
                        16,
                        2,
                        23,
                        2,
                        attention=partial(
                            A.MultiHeadAttention, attend=A.recurrent_linear_attention
                        ),
                    )
                ),
                ids(1, 200),
            )
        ),
    ],
    "original": model(lambda: (presets.original(17, 16, 2, 23, 2).eval(), ids(2, 300), ids(2, 7))),
    "bert": model(lambda: (presets.bert(17, 16, 2, 23, 2, max_length=300).eval(), ids(1, 300))),
    "gpt2": model(lambda: (presets.gpt2(17, 16, 2, 23, 2, max_length=300).eval(), ids(1, 300))),
    "llama": model(lambda: (presets.llama(17, 16, 2, 23, 2, n_kv_heads=1), ids(1, 300))),
    "t5": model(lambda: (presets.t5(17, 16, 2, 23, 2).eval(), ids(2, 300), ids(2, 7))),
    "start_small": model(
        lambda: (presets.start_small(M.DecoderOnly(17, 16, 2, 23, 2)), ids(1, 300))
    ),
    "EncoderOnly": model(
        lambda: (
            drawn(M.EncoderOnly(17, 3, 16, 2, 23, 2, pool=L.mean_over_tokens)),
            ids(2, 700),
            padded(2, 700),
        )
    ),
    "Bert": model(lambda: (drawn(M.Bert(17, 16, 2, 23, 2, max_length=300)), ids(2, 300))),
    "MaskedLanguageModel": model(
        lambda: (
            drawn(M.MaskedLanguageModel(M.Bert(17, 16, 2, 23, 2, max_length=300))),
            ids(2, 300),
        )
    ),
    "GuessEveryToken": model(lambda: (drawn(M.GuessEveryToken(17, 90, 16, 2, 23, 2)), ids(2, 90))),
    "raw_keys": model(lambda: (M.raw_keys, encoder(), normal(2, 90, 16), normal(2, 90, 16))),
    "reread": model(lambda: (M.reread, encoder(), normal(2, 90, 16), normal(2, 90, 16))),
    "two_streams": model(
        lambda: (
            partial(
                M.two_streams,
                see=M.earlier(torch.randperm(90)),
                content_sees=A.full_mask,
            ),
            encoder(),
            normal(2, 90, 16),
            normal(2, 90, 16),
        )
    ),
    "remember": formula(
        lambda: (partial(M.remember, memory_length=9), normal(2, 7, 16), normal(2, 5, 16))
    ),
    "SegmentRecurrence": model(
        lambda: (
            M.SegmentRecurrence(encoder(look=A.causal_mask), 300),
            stream(2, 7, 16),
            [stream(2, 300, 16), stream(2, 300, 16)],
        )
    ),
    # rivals
    "causal_mean": formula(lambda: (R.causal_mean, 300 + 30 * normal(2, LONG, 5))),
    "BagOfWords": layer(
        lambda: (drawn(R.BagOfWords(17, 3, 16, 23)), ids(2, LONG), padded(2, LONG))
    ),
    "BagOfWordsLM": layer(lambda: (drawn(R.BagOfWordsLM(17, 16, 23)), ids(2, LONG))),
    "causal_convolution": formula(
        lambda: (R.causal_convolution, stream(2, 300, 64), normal(11, 64, 3), normal(11))
    ),
    "CausalConvolution": formula(
        lambda: (drawn(R.CausalConvolution(64, 11, 3, 5)), stream(2, 300, 64))
    ),
    "ConvolutionBlock": layer(lambda: (drawn(R.ConvolutionBlock(16, 3, 2)), stream(2, 300, 16))),
    "ConvolutionLM": model(lambda: (drawn(R.ConvolutionLM(17, 16, 3)), ids(2, 300))),
    "rnn_step": formula(lambda: step(R.rnn_step, 1, 1)),
    "gru_step": formula(lambda: step(R.gru_step, 3, 1)),
    "lstm_step": formula(lambda: step(R.lstm_step, 4, 2)),
    "RecurrentLayer": [
        state((lambda cell=cell, real=real: (recurrent_layer(cell), normal(2, 300, 5), None, real)))
        for cell in (RNN, GRU, LSTM)
        for real in (None, torch.tensor([300, 200]))
    ],
    "RecurrentStack": states(
        lambda: (remembering(R.RecurrentStack(5, 6, 2, GRU)), normal(2, 700, 5))
    ),
    "BidirectionalStack": layer(
        lambda: (
            remembering(R.BidirectionalStack(5, 6, 2, LSTM)),
            normal(2, 700, 5),
            torch.tensor([700, 300]),
        )
    ),
    "RecurrentLM": [
        layer(lambda: (remembering(R.RecurrentLM(17, 16, 2)), ids(2, 700))),
        states(lambda: (remembering(R.RecurrentLM(17, 16, 2, cell=GRU)).read, ids(2, 700))),
        layer(
            lambda: (token_by_token, remembering(R.RecurrentLM(17, 16, 1, cell=GRU)), ids(2, 200))
        ),
    ],
    "RecurrentClassifier": layer(
        lambda: (
            remembering(R.RecurrentClassifier(17, 3, 16, 1, pool=L.mean_over_tokens)),
            ids(2, 700),
            padded(2, 700),
        )
    ),
    "Seq2Seq": [
        model(lambda: (drawn(R.Seq2Seq(17, 16, 1)), ids(2, 300), ids(2, 7), padded(2, 300))),
        model(lambda: (drawn(R.Seq2Seq(17, 16, 2, cell=LSTM)), ids(2, 300), ids(2, 7))),
    ],
    "BahdanauDecoder": states(lambda: decoder(R.FixedContext)),
    "LuongDecoder": states(lambda: decoder(R.AttendedContext)),
    "AttendedContext": layer(
        lambda: (R.AttendedContext(16), normal(2, 7, 16), normal(2, 300, 16), padded(2, 300))
    ),
    "FixedContext": formula(
        lambda: (R.FixedContext(16), normal(2, 7, 16), normal(2, 300, 16), padded(2, 300))
    ),
    "summary": formula(lambda: (R.summary, normal(2, 300, 16), padded(2, 300))),
    # training
    "cross_entropy": statistic(
        lambda: (T.cross_entropy, 30 * normal(2, LONG, 101), ids(2, LONG), padded(2, LONG))
    ),
    "smoothed_cross_entropy": statistic(
        lambda: (T.smoothed_cross_entropy, 30 * normal(2, LONG, 101), ids(2, LONG))
    ),
    "real_predictions": Case(
        lambda: (T.real_predictions, 30 * normal(2, 7, 19), ids(2, 7), padded(2, 7)),
        wide="What is lined up for a loss is in the loss's precision.",
        float32_within=0.0,
    ),
    "recompute": layer(lambda: (T.recompute, drawn(M.EncoderBlock(16, 2, 23)), stream(2, 300, 16))),
    "checkpoint_blocks": model(
        lambda: (
            lambda stack, x: (T.checkpoint_blocks(stack), stack(x))[1],
            encoder(),
            stream(2, 300, 16),
        )
    ),
    # decoding
    "with_temperature": chances(
        lambda: (partial(D.with_temperature, temperature=0.7), 30 * normal(2, 50_021))
    ),
    "keep_top_k": formula(lambda: (partial(D.keep_top_k, k=40), normal(2, 50_021))),
    "keep_top_p": formula(nucleus),
    "Sampler": chances(
        lambda: (D.Sampler(Generator(), temperature=0.7).probabilities, 3 * normal(2, 50_021))
    ),
    "as_it_is": chances(lambda: (D.as_it_is, 3 * normal(2, 50_021))),
    "greedily": chances(lambda: (D.greedily, likeliest(50_021))),
    "greedy": formula(lambda: (D.greedy, likeliest(50_021))),
}

ELSEWHERE = {
    "KVCache": "It holds what it is given.",
    "LinearState": "The state of linear_attention_step.",
    "ChunkedAttention": "The inside of chunked_attention.",
    "count_real": "Of the vectors it reads the shape only.",
    "real_lengths": "Of the vectors it reads the shape only.",
    "adam": "Parameters in half precision are refused: see test_optimizers.py.",
    "adamw": "Parameters in half precision are refused: see test_optimizers.py.",
    "Cell": "It holds a step function.",
    "Reader": "It hands on a model's logits.",
    "LanguageReader": "It hands on a model's logits.",
    "TranslationReader": "It hands on a model's logits.",
    "generate": "Text out, which one rounding can turn: tests/transformer/decoding.",
    "speculative": "Text out, which one rounding can turn: tests/transformer/decoding.",
    "guess": "Text out, which one rounding can turn: tests/transformer/decoding.",
}
"""Names that take floating-point numbers and have no case here, and why."""
