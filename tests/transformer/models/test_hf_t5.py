"""T5, whose positions belong to one sequence each, against Hugging Face's with copied weights."""

from functools import partial

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from qa_lab.experiments.measures import parameter_count
from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.decoding import TranslationReader, generate
from qa_lab.transformer.layers import GatedFeedForward, gelu_tanh
from qa_lab.transformer.models.presets import T5_SMALL, t5
from qa_lab.transformer.positions import T5Bias
from tests.comparing import assert_identical
from tests.transformer.models.hugging_face import with_torchs_norms

SIZES = [
    dict(vocab_size=31, d_model=24, n_heads=3, d_ff=13, n_layers=2, d_k=5),
    dict(vocab_size=97, d_model=80, n_heads=5, d_ff=130, n_layers=3, d_k=16),
]
# Theirs finds a bucket by a float32 logarithm, which a processor may round to either side of an
# edge: with 128 tokens at most, at 16, 32 and 64; with a prime number, nowhere.
PRIME = 127
VERSIONS = pytest.mark.parametrize("gated", [False, True], ids=["v1.0", "v1.1"])


def attention_pairs(ours, theirs):
    names = {"W_Q": "q", "W_K": "k", "W_V": "v", "W_O": "o"}
    return [(getattr(ours, o).weight, getattr(theirs, t).weight) for o, t in names.items()]


def feed_forward_pairs(ours, theirs, gated):
    names = {"W": "wi_0", "V": "wi_1", "W_2": "wo"} if gated else {"W_1": "wi", "W_2": "wo"}
    return [(getattr(ours, o).weight, getattr(theirs, t).weight) for o, t in names.items()]


def pairs(ours, theirs, gated):
    found = [(ours.source_embedding.W_E, theirs.shared.weight)]
    if gated:
        found.append((ours.unembedding.W_U, theirs.lm_head.weight))
    for stack, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        found.append((stack.norm.gain, other.final_layer_norm.weight))
        for block, layers in zip(stack.blocks, (b.layer for b in other.block), strict=True):
            own = block.attention if stack is ours.encoder else block.self_attention
            norms = [block.feed_forward_norm]
            if stack is ours.decoder:
                norms = [block.self_attention_norm, block.cross_attention_norm, *norms]
                found += attention_pairs(block.cross_attention, layers[1].EncDecAttention)
            else:
                norms = [block.attention_norm, *norms]
            found += attention_pairs(own, layers[0].SelfAttention)
            found += feed_forward_pairs(block.feed_forward, layers[-1].DenseReluDense, gated)
            found += [(n.gain, y.layer_norm.weight) for n, y in zip(norms, layers, strict=True)]
        table = other.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        found.append((own.score_bias.W_R, table))
    return found


@torch.no_grad()
def twins(size, gated):
    """The preset and theirs, with the same random weights."""
    config = T5Config(
        vocab_size=size["vocab_size"],
        d_model=size["d_model"],
        d_kv=size["d_k"],
        d_ff=size["d_ff"],
        num_layers=size["n_layers"],
        num_heads=size["n_heads"],
        relative_attention_max_distance=PRIME,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        scale_decoder_outputs=not gated,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    theirs = T5ForConditionalGeneration(config).eval()
    with_torchs_norms(theirs, config.layer_norm_epsilon)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)
        parameter.add_(1.0 if parameter.ndim == 1 else 0.0)
    version = (
        dict(feed_forward=partial(GatedFeedForward, activation=gelu_tanh), tied=False)
        if gated
        else {}
    )
    ours = t5(**size, **version).eval()
    for bias in (m for m in ours.modules() if isinstance(m, T5Bias)):
        assert bias.max_distance == T5Config().relative_attention_max_distance
        bias.max_distance = PRIME
    for mine, other in (copied := pairs(ours, theirs, gated)):
        mine.copy_(other)
    assert {id(mine) for mine, _ in copied} == {id(p) for p in ours.parameters()}
    return ours.double(), theirs.double()


@VERSIONS
@pytest.mark.parametrize("size", SIZES, ids=["small", "larger"])
@torch.no_grad()
def test_logits_are_those_of_hugging_face_cached_and_not(size, gated):
    """The target is longer than the source, and both are longer than the first buckets."""
    ours, theirs = twins(size, gated)
    source = torch.randint(2, size["vocab_size"], (3, 19))
    target = torch.randint(2, size["vocab_size"], (3, 41))
    real = real_tokens(torch.tensor([19, 4, 11]), 19)
    expected = theirs(input_ids=source, attention_mask=real.long(), decoder_input_ids=target).logits
    assert (ours(source, target, real) - expected).abs().max() <= 1e-9
    memory, cache = ours.encode(source, real), ours.new_cache()
    steps = [
        ours.decode(part, memory, None, real, cache) for part in target.split([1, 5, 1, 34], 1)
    ]
    assert (torch.cat(steps, 1) - expected).abs().max() <= 1e-9
    assert (ours(source, target) - expected).abs().max() >= 1e-2


@VERSIONS
@torch.no_grad()
def test_greedy_text_is_that_of_hugging_face(gated):
    size = SIZES[0]
    ours, theirs = twins(size, gated)
    source = torch.randint(2, size["vocab_size"], (2, 9))
    start = torch.zeros(2, 1, dtype=torch.long)
    found = generate(TranslationReader(ours, source), start, end_id=1, pad_id=0, max_new_tokens=30)
    expected = theirs.generate(source, max_new_tokens=30, do_sample=False)[:, 1:]
    assert_identical(found[:, : expected.shape[1]], expected)


def test_one_table_of_distances_for_all_layers_of_a_stack_and_none_across():
    ours = t5(**SIZES[0])
    tables = [name for name in ours.state_dict() if "W_R" in name]
    assert not any("cross" in name for name in tables)
    kept = {id(parameter) for parameter in ours.parameters()}
    shared = {id(b.attention.score_bias.W_R) for b in ours.encoder.blocks}
    assert len(shared) == 1 and shared < kept
    assert shared.isdisjoint({id(b.self_attention.score_bias.W_R) for b in ours.decoder.blocks})


def test_the_published_size():
    with torch.device("meta"):
        assert parameter_count(t5(**T5_SMALL)) == 60_506_624
