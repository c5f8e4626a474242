"""Masks, and the softmax that obeys them."""

from inspect import unwrap  # past the run-time shape check, to the function's own errors

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    causal_mask,
    full_mask,
    masked_softmax,
    over_keys,
    packed_mask,
    padding_mask,
    padding_mask_from_ids,
    prefix_mask,
    real_tokens,
    real_tokens_from_ids,
    window_mask,
)
from qa_lab.transformer.attention.masks import check_keep
from qa_lab.transformer.models import DecoderOnly
from qa_lab.transformer.positions import no_positions
from tests.comparing import assert_identical, assert_same


def test_real_tokens_are_the_first_of_each_row():
    assert real_tokens(torch.tensor([2, 4, 1]), 4).tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, False, False, False],
    ]


def test_real_tokens_from_ids_are_those_that_are_not_padding():
    ids = torch.tensor([[5, 9, 0], [0, 0, 0], [9, 0, 5]])
    expected = [[True, True, False], [False, False, False], [True, False, True]]
    assert real_tokens_from_ids(ids, 0).tolist() == expected
    assert real_tokens_from_ids(ids, 9).tolist() == [
        [True, False, True],
        [True, True, True],
        [False, True, True],
    ]


@pytest.mark.parametrize("lengths", [[0, 2], [2, 5], [-1, 2]])
def test_lengths_outside_the_batch_are_refused(lengths):
    with pytest.raises(ValueError, match=r"lengths must lie in 1\.\.4 tokens; got \["):
        real_tokens(torch.tensor(lengths), 4)
    with pytest.raises(ValueError, match=r"lengths must lie in 1\.\.4"):
        padding_mask(torch.tensor(lengths), 4)


def test_padding_is_hidden_as_a_key_from_every_query():
    lengths = torch.tensor([2, 3, 1])
    mask = padding_mask(lengths, 3)
    assert mask.shape == (3, 1, 1, 3)
    assert_identical(mask[:, 0, 0, :], real_tokens(lengths, 3))
    assert_identical(mask, over_keys(real_tokens(lengths, 3)))
    ids = torch.tensor([[4, 4, 7], [4, 4, 4], [4, 7, 7]])
    assert_identical(padding_mask_from_ids(ids, 7), mask)


def test_causal_mask_includes_the_diagonal_and_nothing_after_it():
    assert causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert full_mask(5).all() and full_mask(5).shape == (5, 5)


def test_masks_combine_with_and():
    both = causal_mask(3) & padding_mask(torch.tensor([2, 3]), 3)
    assert both[0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert_identical(both[1, 0], causal_mask(3))


def test_masked_softmax_is_a_softmax_over_the_kept_keys_alone(oracle):
    scores, keep = torch.randn(2, 3, 5), torch.rand(2, 3, 5) < 0.6
    keep[..., 0] = True
    weights = masked_softmax(scores, keep)
    for b in range(2):
        for q in range(3):
            kept = keep[b, q]
            oracle.close(weights[b, q, kept], torch.softmax(scores[b, q, kept], 0))
            assert (weights[b, q, ~kept] == 0).all()
    oracle.close(masked_softmax(scores), torch.softmax(scores, -1))


def test_hidden_scores_do_not_matter_however_large():
    scores = torch.tensor([[-800.0, -801.0, 900.0]])
    weights = masked_softmax(scores, torch.tensor([[True, True, False]]))
    assert weights[0, 2] == 0 and weights[0, 0] > weights[0, 1] > 0.2
    assert_same(weights.sum(-1), torch.ones(1))


def test_a_query_that_may_see_no_key_is_an_error():
    keep = torch.tensor([[True, False], [False, False], [False, False]])
    with pytest.raises(
        ValueError, match=r"2 of the 3 rows of keep \(the first: \[1\]\).*see no key"
    ):
        masked_softmax(torch.zeros(3, 2), keep)
    with pytest.raises(ValueError, match="Hide padding as keys, not as queries"):
        masked_softmax(torch.zeros(3, 2), keep)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_mask_that_is_not_boolean_is_an_error(dtype):
    keep = torch.ones(3, 2, dtype=dtype)
    with pytest.raises(TypeError, match=rf"torch\.bool, True = may look; got {dtype}"):
        unwrap(masked_softmax)(torch.zeros(3, 2), keep)


@pytest.mark.parametrize("shape", [(2, 3), (4, 1, 3, 2), (3, 4), (2, 1, 3, 1)])
def test_a_mask_that_does_not_fit_is_an_error(shape):
    keep = torch.ones(shape, dtype=torch.bool)
    if shape == (2, 1, 3, 1):  # this one fits
        check_keep(keep, (2, 5, 3, 2))
    else:
        with pytest.raises(ValueError, match=r"does not broadcast.*\[2, 5, 3, 2\]"):
            check_keep(keep, (2, 5, 3, 2))


def test_a_mask_may_not_enlarge_the_scores():
    with pytest.raises(ValueError, match="does not broadcast"):
        check_keep(torch.ones(4, 3, 2, dtype=torch.bool), (3, 2))


@given(length=st.integers(1, 9), window=st.integers(1, 12))
def test_a_window_holds_itself_and_those_just_before(length, window):
    mask = window_mask(length, window=window)
    for q in range(length):
        assert mask[q].nonzero().flatten().tolist() == list(range(length))[: q + 1][-window:]


@given(
    prefixes=st.lists(st.integers(0, 7), min_size=1, max_size=4),
)
def test_a_prefix_is_seen_by_all_and_the_rest_is_causal(prefixes):
    mask = prefix_mask(torch.tensor(prefixes), 7)
    assert mask.shape == (len(prefixes), 1, 7, 7)
    for row, prefix in zip(mask[:, 0], prefixes, strict=True):
        assert row[0].sum() == max(1, prefix)  # the first position sees the prefix, and itself
        for q in range(7):
            seen = set(range(prefix)) | set(range(q + 1))
            assert row[q].nonzero().flatten().tolist() == sorted(seen)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=1, max_size=3))
def test_packed_documents_do_not_see_each_other(documents):
    mask = packed_mask(torch.tensor(documents))
    assert mask.shape == (len(documents), 1, 6, 6)
    for b, row in enumerate(documents):
        for q in range(6):
            for k in range(6):
                assert mask[b, 0, q, k] == (row[q] == row[k])


def test_a_packed_batch_is_each_document_alone(oracle, size):
    """Two documents in one row, causal, without positions: as if each stood alone."""
    ids = torch.randint(size.vocab, (2, 7))
    documents = torch.tensor([[4, 4, 4, 9, 9, 9, 9], [0, 0, 0, 0, 0, 1, 1]])

    def look(length, device):
        return packed_mask(documents[:, :length]) & causal_mask(length)

    torch.manual_seed(0)
    shape = (size.vocab, size.d_model, size.head, size.d_ff, 2)
    model = DecoderOnly(*shape, positions=no_positions, look=look)
    alone = DecoderOnly(*shape, positions=no_positions)
    alone.load_state_dict(model.state_dict())
    out = model(ids)
    for row, cut in enumerate([3, 5]):
        oracle.close(out[row, :cut], alone(ids[row, None, :cut])[0])
        oracle.close(out[row, cut:], alone(ids[row, None, cut:])[0])


@pytest.mark.parametrize("window", [0, -2])
def test_a_window_without_keys_is_refused(window):
    with pytest.raises(ValueError, match=f"at least 1 key, the query's own; got {window}"):
        window_mask(5, window=window)


@pytest.mark.parametrize("prefix", [-1, 8])
def test_a_prefix_longer_than_the_sequence_is_refused(prefix):
    with pytest.raises(ValueError, match=rf"must lie in 0\.\.7 tokens; got \[3, {prefix}\]"):
        prefix_mask(torch.tensor([3, prefix]), 7)
    prefix_mask(torch.tensor([0, 7]), 7)
