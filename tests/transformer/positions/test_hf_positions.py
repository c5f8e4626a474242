"""Positions against Hugging Face's models."""

import math
from functools import partial
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    GPTNeoXConfig,
    LlamaConfig,
    T5Config,
    VitsConfig,
    Wav2Vec2BertConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vits.modeling_vits import VitsAttention
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    causal_mask,
    masked_softmax,
)
from qa_lab.transformer.positions import (
    Alibi,
    Rotary,
    ShawAttention,
    T5Bias,
    alibi_slopes,
    ntk_base,
    rotary_table,
    rotate_halves,
    t5_bucket,
)
from tests.comparing import assert_differs, assert_identical, assert_same

START = 300  # far enough for float32 angles to show


def q_and_k():
    return torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16)


def llama_config(**rope):
    return LlamaConfig(
        hidden_size=48,
        num_attention_heads=3,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0} | rope,
    )


@pytest.mark.parametrize("stretch", [None, 3.0])
def test_halves_are_llamas_with_float32_angles(stretch):
    """Frequencies of 1, 4 ... 4^7 radians per token are exact, so both round the same angles.

    Divided by 3 they are so large that float32 angles are others than float64 ones.
    """
    rope = {} if stretch is None else {"rope_type": "linear", "factor": stretch}
    q, k = q_and_k()
    positions = torch.arange(START, START + 7)[None]
    cos, sin = llama.LlamaRotaryEmbedding(llama_config(**rope, rope_theta=4.0**-8))(q, positions)
    expected = llama.apply_rotary_pos_emb(q, k, cos, sin)
    rotate = partial(Rotary, 16, base=4.0**-8, pairing=rotate_halves, stretch=stretch or 1.0)
    for ours, theirs in zip((q, k), expected, strict=True):
        assert_same(rotate(angle_dtype=torch.float32)(ours, START), theirs, within=1e-5)
    ask = assert_same if stretch is None else assert_differs
    ask(rotate()(q, START), expected[0], 1e-5 if stretch is None else 0.1)


def test_halves_of_the_first_features_are_gpt_neox():
    config = GPTNeoXConfig(
        hidden_size=48,
        num_attention_heads=3,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 700.0,
            "partial_rotary_factor": 0.25,
        },
    )
    q, k = q_and_k()
    positions = torch.arange(11, 18)[None]
    cos, sin = gpt_neox.GPTNeoXRotaryEmbedding(config)(q, positions)
    expected = gpt_neox.apply_rotary_pos_emb(q, k, cos, sin)
    rotate = partial(Rotary, 16, base=700.0, pairing=rotate_halves)
    for ours, theirs in zip((q, k), expected, strict=True):  # whose angles are in float32
        assert_same(rotate(d_rotated=4)(ours, 11), theirs, within=1e-4)
        assert_differs(rotate(d_rotated=8)(ours, 11), theirs)


def test_neighbours_are_gpt_j(oracle):
    q, _ = q_and_k()
    table = gptj.create_sinusoidal_positions(START + 7, 12)[None, START:]  # float64, as the test is
    sin, cos = table.chunk(2, dim=-1)
    turned = gptj.apply_rotary_pos_emb(q[..., :12].transpose(1, 2), sin, cos).transpose(1, 2)
    expected = torch.cat([turned, q[..., 12:]], -1)
    oracle.close(Rotary(16, d_rotated=12)(q, START), expected)


def test_the_ntk_base_is_hugging_faces_dynamic_one(oracle):
    config = llama_config(rope_type="dynamic", factor=1.0)
    frequency, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, "cpu", seq_len=3 * 512)
    base = ntk_base(700.0, 3.0, 16)
    cos, sin = rotary_table(START, 16, base=base)
    angle = torch.arange(START)[:, None] * frequency.double()
    assert (cos - angle.cos()).abs().max() < 1e-4 and (sin - angle.sin()).abs().max() < 1e-4
    plain, _ = rotary_table(START, 16, base=700.0)
    assert (plain - angle.cos()).abs().max() > 0.5


def assert_t5s_buckets(far, bidirectional, n_buckets, max_distance):
    """Theirs takes a float32 logarithm: where it is a whole number, it may round to the one below.

    That depends on the processor. Ours is exact, so at such an edge it may be one bucket further.
    """
    ours = t5_bucket(
        far, bidirectional=bidirectional, n_buckets=n_buckets, max_distance=max_distance
    )
    theirs = T5Attention._relative_position_bucket(far, bidirectional, n_buckets, max_distance)
    n = n_buckets // 2 if bidirectional else n_buckets
    exact = n // 2
    growth = (far.abs().double() / exact).log() / math.log(max_distance / exact) * (n - exact)
    edge = (growth - growth.round()).abs() < 1e-5
    assert_identical(ours[~edge], theirs[~edge])
    assert set((ours - theirs)[edge].tolist()) <= {0, 1}
    assert edge.float().mean() < 0.2


@given(
    bidirectional=st.booleans(),
    half=st.integers(2, 20),
    beyond=st.integers(1, 200),
)
def test_buckets_are_t5s_for_every_distance(bidirectional, half, beyond):
    exact = half // 2 if bidirectional else half
    assert_t5s_buckets(torch.arange(-400, 401), bidirectional, 2 * half, exact + beyond)


def test_an_edge_is_in_the_bucket_that_it_opens():
    """12 and 18 tokens are edges: (12 / 8)^9 = (27 / 8)^3. A rounded logarithm may miss them."""
    far = -torch.tensor([11, 12, 13, 17, 18, 19])
    found = t5_bucket(far, bidirectional=False, n_buckets=17, max_distance=27)
    assert found.tolist() == [10, 11, 11, 13, 14, 14]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_default_buckets_are_t5s_for_every_distance(bidirectional):
    far = torch.arange(-3000, 3001)
    assert_t5s_buckets(far, bidirectional, 32, 128)
    defaults = t5_bucket(far, bidirectional=bidirectional)
    said = t5_bucket(far, bidirectional=bidirectional, n_buckets=32, max_distance=128)
    assert_identical(defaults, said)


@pytest.mark.parametrize("decoder", [True, False])
def test_t5_bias_is_t5s(oracle, decoder):
    config = T5Config(
        d_model=12,
        num_heads=3,
        d_kv=4,
        relative_attention_num_buckets=10,
        relative_attention_max_distance=23,
        is_decoder=decoder,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True)
    ours = T5Bias(3, bidirectional=not decoder, n_buckets=10, max_distance=23)
    pairs = [(theirs.relative_attention_bias.weight, [ours.W_R])]
    oracle.copy_random(pairs, ours)
    oracle.agree(ours(40, 40)[None], theirs.compute_bias(40, 40), slice(None), pairs)
    oracle.close(ours(7, 40)[None], theirs.compute_bias(7, 40, past_seen_tokens=33))


def test_attention_with_a_t5_bias_and_no_scale_is_t5s(oracle):
    config = T5Config(
        d_model=12, num_heads=3, d_kv=4, dropout_rate=0.0, attn_implementation="eager"
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = MultiHeadAttention(
        12,
        3,
        bias=False,
        attend=DotProductAttention(scale=1.0),
        score_bias=T5Bias(3, bidirectional=True),
    )
    pairs = [(theirs.relative_attention_bias.weight, [ours.score_bias.W_R])]
    for name in "qkvo":
        linear = getattr(ours, f"W_{name.upper()}")
        pairs.append((getattr(theirs, name).weight, [linear.weight]))
    oracle.copy_random(pairs, ours)
    x = torch.randn(2, 9, 12)
    assert (ours(x) - theirs(x)[0]).abs().max() < 1e-5  # theirs takes the softmax in float32


@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 6, 7, 8, 12, 16, 20])
def test_alibi_is_blooms(oracle, n_heads):
    """BLOOM adds slope times key position: ours but for a constant that softmax forgets."""
    keep = causal_mask(7)
    theirs = build_alibi_tensor(torch.ones(1, 7, dtype=torch.long), n_heads, torch.float64)
    assert_same(theirs[:, 0, 1], alibi_slopes(n_heads), within=1e-6)  # theirs are float32
    scores = torch.randn(n_heads, 7, 7)
    expected = masked_softmax(scores + theirs, keep)
    assert_same(masked_softmax(scores + Alibi(n_heads)(7, 7), keep), expected, within=1e-5)
    newest = masked_softmax(scores[:, 5:] + Alibi(n_heads)(2, 7), keep[5:])
    assert_same(newest, expected[:, 5:], within=1e-5)
    assert_differs(masked_softmax(scores, keep), expected, by=1e-3)  # a lone slope is 1/256


def test_attention_with_alibi_is_blooms(oracle):
    config = BloomConfig(hidden_size=24, n_head=4, hidden_dropout=0.0, attention_dropout=0.0)
    theirs = BloomAttention(config, layer_idx=0).eval()
    ours = MultiHeadAttention(24, 4, score_bias=Alibi(4))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    with torch.no_grad():  # theirs keeps q, k and v of a head together
        for kind in ("weight", "bias"):
            qkv = [getattr(w, kind).unflatten(0, (4, 6)) for w in (ours.W_Q, ours.W_K, ours.W_V)]
            getattr(theirs.query_key_value, kind).copy_(torch.stack(qkv, 1).flatten(0, 2))
            getattr(theirs.dense, kind).copy_(getattr(ours.W_O, kind))
    x, keep = torch.randn(2, 7, 24), causal_mask(7)
    alibi = build_alibi_tensor(torch.ones(2, 7, dtype=torch.long), 4, torch.float64)
    hidden = torch.zeros(7, 7).masked_fill(~keep, torch.finfo(torch.float64).min)[None, None]
    expected = theirs(x, torch.zeros_like(x), alibi, hidden)[0]
    assert (ours(x, keep=keep) - expected).abs().max() < 1e-5  # theirs takes the softmax in float32


def shaw_twins(theirs, names, m):
    """Ours with their random weights, and the pairs of parameters (theirs, ours)."""
    ours = MultiHeadAttention(24, 3, attend=ShawAttention(8, m))
    pairs = []
    for name, linear in zip(names, (ours.W_Q, ours.W_K, ours.W_V, ours.W_O), strict=True):
        pairs += [(getattr(theirs, name).weight, linear.weight)]
        pairs += [(getattr(theirs, name).bias, linear.bias)]
    return ours, pairs


def assert_same_attention(oracle, twins, ours, theirs, pairs, length):
    with torch.no_grad():
        for parameter, mine in pairs:
            mine.copy_(parameter.normal_(std=0.4).view_as(mine))
    x, x2 = twins(2, length, 24)
    oracle.agree(ours(x), theirs(x2)[0], slice(None), [], [x], [x2])
    for parameter, mine in pairs:
        oracle.close(mine.grad, parameter.grad.view_as(mine), "parameter gradient")


def test_shaw_keys_and_values_are_those_of_vits(oracle, twins):
    """VITS drops what lies beyond its window instead of clipping it: compare within."""
    config = VitsConfig(
        hidden_size=24, num_attention_heads=3, window_size=6, attention_dropout=0.0, use_bias=True
    )
    theirs = VitsAttention(config)
    ours, pairs = shaw_twins(theirs, ("q_proj", "k_proj", "v_proj", "out_proj"), 6)
    pairs += [(theirs.emb_rel_k, ours.attend.key_table)]
    pairs += [(theirs.emb_rel_v, ours.attend.value_table)]
    assert_same_attention(oracle, twins, ours, theirs, pairs, 7)


@pytest.mark.parametrize("m", [1, 3])
def test_shaw_keys_are_clipped_like_those_of_wav2vec2_bert(oracle, twins, m):
    """It has relative keys only: our value table is 0."""
    config = Wav2Vec2BertConfig(
        hidden_size=24,
        num_attention_heads=3,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=m,
        right_max_position_embeddings=m,
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    theirs = Wav2Vec2BertSelfAttention(config)
    ours, pairs = shaw_twins(theirs, ("linear_q", "linear_k", "linear_v", "linear_out"), m)
    torch.nn.init.zeros_(ours.attend.value_table)
    pairs += [(theirs.distance_embedding.weight, ours.attend.key_table)]
    assert_same_attention(oracle, twins, ours, theirs, pairs, 9)


def test_odd_bidirectional_buckets_leave_one_unused_there_and_are_refused_here():
    far = torch.arange(-400, 401)
    assert T5Attention._relative_position_bucket(far, True, 9, 50).max() == 7
    with pytest.raises(ValueError, match="n_buckets = 9"):
        unwrap(t5_bucket)(far, bidirectional=True, n_buckets=9, max_distance=50)
