"""Greedy, beam and the sampling filters against Hugging Face, on a copied GPT-2."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from qa_lab.transformer.decoding import (
    LanguageReader,
    beam_search,
    generate,
    keep_top_k,
    keep_top_p,
    power_penalty,
    with_temperature,
)
from qa_lab.transformer.models.presets import gpt2
from tests.comparing import assert_identical, assert_same

PAD = 15


@pytest.fixture(scope="module")
def twins():
    """GPT-2, theirs and ours, with the same random weights, in float64."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=17, n_embd=22, n_head=2, n_inner=13, n_layer=2, n_positions=32,
        attn_implementation="sdpa", bos_token_id=None, eos_token_id=None, pad_token_id=PAD,
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).double().eval()
    ours = gpt2(17, 22, 2, 13, 2, max_length=32).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.6 if parameter.ndim > 1 else 0.2)
            parameter.add_(1.0 if parameter.ndim == 1 else 0.0)
        theirs.transformer.ln_f.bias.zero_()  # it would favour the same token everywhere
        body = theirs.transformer
        ours.embedding.W_E.copy_(body.wte.weight)
        ours.positions.W_P.copy_(body.wpe.weight)
        ours.stack.norm.gain.copy_(body.ln_f.weight), ours.stack.norm.bias.copy_(body.ln_f.bias)
        for mine, block in zip(ours.stack.blocks, body.h, strict=True):
            three = (mine.attention.W_Q, mine.attention.W_K, mine.attention.W_V)
            weights, biases = block.attn.c_attn.weight.chunk(3, 1), block.attn.c_attn.bias.chunk(3)
            for linear, weight, bias in zip(three, weights, biases, strict=True):
                linear.weight.copy_(weight.T), linear.bias.copy_(bias)
            for linear, conv in (
                (mine.attention.W_O, block.attn.c_proj),
                (mine.feed_forward.W_1, block.mlp.c_fc),
                (mine.feed_forward.W_2, block.mlp.c_proj),
            ):
                linear.weight.copy_(conv.weight.T), linear.bias.copy_(conv.bias)
            for norm, theirs_too in (
                (mine.attention_norm, block.ln_1),
                (mine.feed_forward_norm, block.ln_2),
            ):
                norm.gain.copy_(theirs_too.weight), norm.bias.copy_(theirs_too.bias)
    return theirs, ours


def ends_of_some(ours, prompt, length, count=1):
    """Tokens that end some rows and not others."""
    how = {"end_id": None, "pad_id": PAD, "max_new_tokens": length}
    written = generate(LanguageReader(ours), prompt, **how)
    rows = [(written == token).any(1).sum().item() for token in range(17)]
    wanted = len(prompt) / (1 + count)
    return sorted(range(17), key=lambda token: abs(rows[token] - wanted))[:count]


def one_or_several(ends):
    """One end as a number, as most people give it."""
    return ends[0] if len(ends) == 1 else ends


def padded(ids, length):
    return torch.nn.functional.pad(ids, (0, length - ids.shape[1]), value=PAD)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cached", [True, False])
def test_greedy_writes_what_generate_writes(twins, cached, count):
    theirs, ours = twins
    prompt = torch.randint(15, (13, 5))
    ends = ends_of_some(ours, prompt, 12, count)
    end = one_or_several(ends)
    how = {"max_new_tokens": 12, "do_sample": False, "use_cache": True, "eos_token_id": end}
    expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **how)[:, 5:]
    written = generate(
        LanguageReader(ours, cached=cached), prompt, end_id=end, pad_id=PAD, max_new_tokens=12
    )
    assert_identical(written, padded(expected, 12))
    ended = torch.stack([(written == end).any(1) for end in ends])
    assert ended.any(1).all() and not ended.any(0).all(), "each ends some, and some do not end"


@pytest.mark.parametrize(
    ("beam", "alpha", "count"),
    [
        *((beam, alpha, 1) for beam in (2, 4) for alpha in (0.0, 1.0, 0.6)),
        *((2, 1.0, 2), (4, 0.0, 2), (3, 1.0, 3)),
    ],
)
def test_beam_search_writes_what_generate_writes(twins, beam, alpha, count):
    theirs, ours = twins
    prompt = torch.randint(15, (13, 3))
    ends = ends_of_some(ours, prompt, 9, count)
    end = one_or_several(ends)
    expected = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=9, do_sample=False,
        num_beams=beam, num_return_sequences=beam, length_penalty=alpha, early_stopping="never",
        eos_token_id=end,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    found = beam_search(
        LanguageReader(ours), prompt, beam=beam, end_id=end, pad_id=PAD, max_new_tokens=9,
        penalty=power_penalty(alpha),
    )  # fmt: skip
    ids = padded(expected.sequences[:, 3:], 9).view(13, beam, 9)
    scores = expected.sequences_scores.view(13, beam)
    assert_identical(found.ids, ids)
    assert all((ids == end).any() for end in ends), "each ends a text"
    assert (ids[..., -1] != PAD).any(), "and some do not end"
    assert (found.scores - scores).abs().max() < 1e-5  # theirs are kept in float32


def test_the_filters_are_theirs():
    logits = 2 * torch.randn(50, 17)
    for k in (1, 3, 16, 17):
        theirs = TopKLogitsWarper(k)(None, logits)
        assert_identical(keep_top_k(logits, k), theirs, because="what is kept is copied")
    for p in (0.05, 0.5, 0.9, 1.0):
        theirs = TopPLogitsWarper(p)(None, logits)
        assert_identical(keep_top_p(logits, p), theirs, because="what is kept is copied")
    for temperature in (0.7, 1.0, 1.7):
        expected = TemperatureLogitsWarper(temperature)(None, logits).softmax(-1)
        assert_same(with_temperature(logits, temperature).softmax(-1), expected)
