"""What a decoder remembers: cached is the same as uncached, whatever the pieces."""

from functools import partial
from inspect import unwrap
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    Cache,
    KVCache,
    MultiHeadAttention,
    causal_mask,
    real_tokens,
    window_mask,
)
from qa_lab.transformer.models import (
    Decoder,
    DecoderOnly,
    Encoder,
    Transformer,
    post_norm,
    pre_norm,
)
from tests.comparing import assert_identical


def pieces_of(length, cuts):
    ends = [0, *sorted(cuts), length]
    return [(a, b) for a, b in pairwise(ends) if a < b]


@given(
    cuts=st.sets(st.integers(1, 10)), kv_heads=st.sampled_from([1, 2, 4]), window=st.integers(0, 12)
)
def test_a_language_model_reads_in_pieces_as_it_reads_at_once(oracle, cuts, kv_heads, window):
    """Grouped heads and windows included; window 0 stands for none."""
    torch.manual_seed(1)
    look = {"look": partial(window_mask, window=window)} if window else {}
    attention = partial(MultiHeadAttention, n_kv_heads=kv_heads)
    model = DecoderOnly(17, 12, 4, 13, 2, attention=attention, **look)
    ids = torch.randint(17, (3, 11))
    cache = model.new_cache(window or None)
    read = [model(ids[:, a:b], cache=cache) for a, b in pieces_of(11, cuts)]
    oracle.close(torch.cat(read, 1), model(ids))
    kept = min(11, window - 1) if window else 11
    assert cache.seen == 11 and cache.layers[1].own.kept == kept
    assert cache.nbytes == 2 * (2 * 3 * kv_heads * kept * 3) * 8  # layers, k and v, float64


@pytest.mark.parametrize("residual", [post_norm, pre_norm])
def test_a_translation_in_pieces_is_the_translation_at_once(oracle, size, residual):
    model = Transformer(size.vocab, size.d_model, size.head, size.d_ff, 2, residual=residual)
    source = torch.randint(size.vocab, (size.batch, size.key))
    target = torch.randint(size.vocab, (size.batch, size.query))
    real = real_tokens(torch.tensor([1, 5, 3]), size.key)
    target_real = torch.ones_like(target, dtype=torch.bool)
    target_real[1, 2] = False  # hidden in the middle, and still hidden after it was cached
    expected = model(source, target, real, target_real)
    memory, cache = model.encode(source, real), model.new_cache()
    read = [
        model.decode(target[:, a:b], memory, target_real[:, :b], real, cache)
        for a, b in [(0, 3), (3, 4), (4, 7)]
    ]
    oracle.close(torch.cat(read, 1), expected)
    assert [layer.memory.seen for layer in cache.layers] == [size.key] * 2


def test_keep_covers_what_the_cache_has_seen(oracle, size):
    model = DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[0, 1] = keep[2, 3] = False
    cache = model.new_cache()
    read = [model(ids[:, a:b], keep[:, :b], cache) for a, b in [(0, 4), (4, 7)]]
    oracle.close(torch.cat(read, 1), model(ids, keep))
    model(ids[:, :2], cache=(cache := model.new_cache()))
    with pytest.raises(ValueError, match="real covers 1 positions; 3 have been seen"):
        unwrap(type(model).forward)(model, ids[:, 2:3], keep[:, 2:3], cache)


def test_gradients_flow_through_a_cache(oracle, twins, size):
    """Where they are recorded, nothing that was kept may be written over."""
    attention = MultiHeadAttention(size.d_model, size.head)
    x, x2 = twins(size.batch, size.query, size.d_model)
    cache = KVCache()
    read = [
        attention(x[:, a:b], keep=causal_mask(size.query)[a:b, :b], cache=cache)
        for a, b in [(0, 2), (2, 3), (3, 4), (4, 7)]
    ]
    expected = attention(x2, keep=causal_mask(size.query))
    torch.cat(read, 1).square().sum().backward(), expected.square().sum().backward()
    oracle.close(x.grad, x2.grad, "input gradient")


@torch.no_grad()
def test_one_more_position_seldom_copies_those_before_it():
    """The room doubles, so that 64 positions, one by one, move only a few times."""
    cache, places = KVCache(), set()
    rows = torch.randn(2, 3, 64, 5)
    for t in range(64):
        k, v = cache.extend(rows[:, :, t : t + 1], 2 * rows[:, :, t : t + 1])
        places.add(k.data_ptr())
    assert_identical(k, rows, because="a copy")
    assert_identical(v, 2 * rows, because="a copy")
    assert len(places) <= 7
    assert cache.nbytes == 2 * rows.nbytes


def test_rows_are_reordered_in_every_layer(oracle, size):
    model = Transformer(size.vocab, size.d_model, size.head, size.d_ff, 2)
    source = torch.randint(size.vocab, (size.batch, size.key))
    target = torch.randint(size.vocab, (size.batch, size.query))
    rows = torch.tensor([2, 0, 2])
    memory, cache = model.encode(source), model.new_cache()
    model.decode(target[:, :4], memory, cache=cache)
    cache.reorder(rows)
    last = model.decode(target[rows, 4:], torch.zeros_like(memory), cache=cache)
    oracle.close(last, model(source[rows], target[rows])[:, 4:])


def test_an_empty_cache_is_reordered_and_forgets_nothing_without_complaint():
    cache = Cache(2)
    cache.reorder(torch.tensor([1, 0]))
    cache.forget(0)
    assert (cache.seen, cache.nbytes) == (0, 0)


def test_what_is_forgotten_can_be_read_again(oracle, size):
    model = DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    other = torch.randint(size.vocab, (size.batch, size.query))
    cache = model.new_cache()
    model(torch.cat([ids[:, :3], other[:, 3:6]], 1), cache=cache)
    cache.forget(3)
    assert cache.seen == 3 and cache.layers[0].own.kept == 3
    oracle.close(model(ids[:, 3:], cache=cache), model(ids)[:, 3:])
    with pytest.raises(ValueError, match="cannot forget 8 positions of the 7 seen"):
        cache.forget(8)
    with pytest.raises(ValueError, match="cannot forget -1"):
        cache.forget(-1)
    cache.forget(7)
    oracle.close(model(ids, cache=cache), model(ids))


def test_a_mask_of_tokens_reaches_the_keys_that_a_window_kept(oracle):
    """Hidden tokens, some of which have left the cache."""
    look = partial(window_mask, window=4)
    model = DecoderOnly(17, 12, 4, 13, 2, look=look)
    ids = torch.randint(17, (3, 11))
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[0, 1] = keep[1, 7] = keep[2, 9] = False
    cache = model.new_cache(4)
    read = [model(ids[:, a:b], keep[:, :b], cache) for a, b in [(0, 3), (3, 8), (8, 9), (9, 11)]]
    oracle.close(torch.cat(read, 1), model(ids, keep))


def test_a_window_cannot_go_back():
    cache = KVCache(window=3)
    cache.extend(torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))
    cache.forget(0)
    with pytest.raises(ValueError, match="a window cannot go back"):
        cache.forget(1)


def test_mistakes_with_caches_are_told(size):
    for made in (Encoder, Decoder):
        stack = made(size.d_model, size.head, size.d_ff, 2)
        x = torch.randn(1, 3, size.d_model)
        with pytest.raises(ValueError, match="a cache of 3 layers for 2 blocks"):
            stack(*([x] if made is Encoder else [x, x]), cache=Cache(3))
    with pytest.raises(ValueError, match="at least 1 layer; got 0"):
        Cache(0)
    for window in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 key, the query's own; got {window}"):
            Cache(1, window)
    cache = KVCache()
    cache.extend(torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 5, 11))
    for k, v in [
        ((1, 3, 1, 7), (1, 3, 1, 11)),
        ((2, 3, 1, 6), (2, 3, 1, 11)),
        ((2, 3, 1, 7), (2, 2, 1, 11)),
    ]:
        with pytest.raises(ValueError, match="Use a new cache for a new batch"):
            unwrap(KVCache.extend)(cache, torch.zeros(k), torch.zeros(v))


def test_new_caches_are_as_deep_as_the_stack():
    assert len(DecoderOnly(5, 4, 2, 3, 3).new_cache(7).layers) == 3
    assert DecoderOnly(5, 4, 2, 3, 3).new_cache(7).layers[2].own.window == 7
    translator = Transformer(5, 4, 2, 3, 2).new_cache(6)
    assert len(translator.layers) == 2 and translator.layers[1].own.window == 6
    assert translator.layers[1].memory.window is None
