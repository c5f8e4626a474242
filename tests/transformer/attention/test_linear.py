"""Linear attention against its quadratic form, by a plain loop over queries and keys."""

from functools import partial
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import (
    LinearState,
    MultiHeadAttention,
    causal_linear_attention,
    causal_mask,
    elu_plus_one,
    linear_attention,
    linear_attention_step,
    over_keys,
    positive_random_features,
    real_tokens,
    recurrent_linear_attention,
)
from tests.comparing import assert_same

LENGTHS = torch.tensor([7, 1, 5])
BOTH = pytest.mark.parametrize("attend", [causal_linear_attention, recurrent_linear_attention])


def inputs(query=7, key=7, d_k=11, d_v=3):
    return [
        torch.randn(3, 2, length, width, requires_grad=True)
        for length, width in ((query, d_k), (key, d_k), (key, d_v))
    ]


def copies(tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def by_loop(q, k, v, look, phi=lambda x: F.elu(x) + 1):
    """Weight every key for every query; `look[b][i][j]` says who may look."""
    rows = []
    for b in range(q.shape[0]):
        for i in range(q.shape[2]):
            keys = [j for j in range(k.shape[2]) if look[b][i][j]]
            weights = [(phi(q[b, :, i]) * phi(k[b, :, j])).sum(-1, keepdim=True) for j in keys]
            total = sum(w * v[b, :, j] for w, j in zip(weights, keys, strict=True))
            rows.append(total / sum(weights))
    return torch.stack(rows).unflatten(0, (q.shape[0], q.shape[2])).transpose(1, 2)


def everywhere(x):
    return torch.ones(x.shape[:-1], dtype=torch.bool)


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_quadratic_form(oracle, masked):
    ours = inputs(query=5)
    theirs = copies(ours)
    keep = over_keys(real_tokens(LENGTHS, 7)) if masked else None
    look = [[[not masked or j < n for j in range(7)]] * 5 for n in LENGTHS.tolist()]
    out = linear_attention(*ours, keep)
    oracle.agree(out, by_loop(*theirs, look), everywhere(out), [], ours, theirs)


@pytest.mark.parametrize("masked", ["no", "keys", "causal and keys"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 8, None])
def test_the_parallel_causal_form_is_the_quadratic_form(oracle, chunk, masked):
    ours = inputs()
    theirs = copies(ours)
    tokens = over_keys(real_tokens(LENGTHS, 7))
    keep = {"no": None, "keys": tokens, "causal and keys": tokens & causal_mask(7)}[masked]
    look = [
        [[j <= i and (masked == "no" or j < n) for j in range(7)] for i in range(7)]
        for n in LENGTHS.tolist()
    ]
    out = causal_linear_attention(*ours, keep, **({} if chunk is None else {"chunk": chunk}))
    oracle.agree(out, by_loop(*theirs, look), everywhere(out), [], ours, theirs)


@pytest.mark.parametrize("masked", [False, True])
def test_the_recurrent_form_is_the_parallel_form(oracle, masked):
    ours = inputs()
    theirs = copies(ours)
    keep = over_keys(real_tokens(LENGTHS, 7)) if masked else None
    out = recurrent_linear_attention(*ours, keep)
    expected = causal_linear_attention(*theirs, keep, chunk=3)
    oracle.agree(out, expected, everywhere(out), [], ours, theirs)


@given(st.integers(1, 9), st.integers(1, 10), st.integers(1, 4), st.integers(1, 3))
def test_the_two_causal_forms_agree_for_any_sizes(length, chunk, d_k, d_v):
    q, k, v = inputs(length, length, d_k, d_v)
    parallel = causal_linear_attention(q, k, v, chunk=chunk)
    assert torch.allclose(recurrent_linear_attention(q, k, v), parallel, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "attend", [linear_attention, causal_linear_attention, recurrent_linear_attention]
)
def test_another_feature_map_is_used(oracle, attend):
    directions = torch.randn(5, 11)
    phi = partial(positive_random_features, directions=directions)
    q, k, v = inputs()
    look = [[[attend is linear_attention or j <= i for j in range(7)] for i in range(7)]] * 3
    oracle.close(attend(q, k, v, feature_map=phi), by_loop(q, k, v, look, phi))


def test_random_features_approach_softmax_attention():
    q, k, v = (0.5 * x.detach() for x in inputs(d_k=4))
    exact = F.scaled_dot_product_attention(q, k, v)
    errors = []
    for m in (50, 20_000):
        phi = partial(positive_random_features, directions=torch.randn(m, 4))
        errors.append((linear_attention(q, k, v, feature_map=phi) - exact).abs().mean())
    assert errors[1] < 0.2 * errors[0] and errors[1] < 0.01


def test_the_state_keeps_its_size_and_is_the_two_sums(oracle):
    q, k, v = inputs()
    phi_q, phi_k = elu_plus_one(q), elu_plus_one(k)
    state, sizes = None, set()
    expected = causal_linear_attention(q, k, v)
    for t in range(7):
        out, state = linear_attention_step(phi_q[:, :, t], phi_k[:, :, t], v[:, :, t], state)
        sizes.add((state.S.shape, state.z.shape))
        oracle.close(out, expected[:, :, t])
    assert sizes == {((3, 2, 11, 3), (3, 2, 11))}
    oracle.close(state.S, torch.einsum("bhtc,bhtv->bhcv", phi_k, v))
    oracle.close(state.z, phi_k.sum(2))


def test_a_step_goes_on_from_a_given_state(oracle):
    state = LinearState(S=torch.tensor([[6.0], [2.0]]), z=torch.tensor([3.0, 1.0]))
    out, after = linear_attention_step(
        torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.25]), torch.tensor([8.0]), state
    )
    oracle.close(after.S, torch.tensor([[10.0], [4.0]]))
    oracle.close(after.z, torch.tensor([3.5, 1.25]))
    oracle.close(out, torch.tensor([18 / 6]))


@pytest.mark.parametrize(
    "attend", [linear_attention, causal_linear_attention, recurrent_linear_attention]
)
def test_the_leading_axes_may_be_any(oracle, attend):
    q, k, v = inputs()
    keep = over_keys(real_tokens(LENGTHS, 7))
    out = attend(q, k, v, keep)
    oracle.close(attend(q[1], k[1], v[1], keep[1]), out[1])
    oracle.close(attend(q[1, 0], k[1, 0], v[1, 0], keep[1, 0]), out[1, 0])


@pytest.mark.parametrize("attend", [linear_attention, causal_linear_attention])
def test_it_serves_as_the_attention_of_all_heads(oracle, size, attend):
    ours = MultiHeadAttention(size.d_model, size.head, attend=attend)
    x = torch.randn(3, 7, size.d_model)
    keep = over_keys(real_tokens(LENGTHS, 7))
    q, k, v = ours.project(x)
    oracle.close(ours(x, keep=keep), ours.mix(attend(q, k, v, keep)))
    square = keep & causal_mask(7) if attend is causal_linear_attention else keep.expand(3, 1, 7, 7)
    oracle.close(ours(x, keep=square), ours(x, keep=keep))


def test_a_mask_that_differs_from_query_to_query_is_refused():
    q, k, v = inputs()
    with pytest.raises(ValueError, match="keep differs from query to query"):
        linear_attention(q, k, v, causal_mask(7))
    before = causal_mask(7)
    before[5, 2] = False
    with pytest.raises(ValueError, match="keep differs from query to query"):
        causal_linear_attention(q, k, v, before)
    after = causal_mask(7)
    after[2, 5] = True  # not looked at anyway
    assert_same(causal_linear_attention(q, k, v, after), causal_linear_attention(q, k, v))


@BOTH
def test_a_hidden_first_key_is_refused_by_the_causal_forms(attend):
    q, k, v = inputs()
    padded_on_the_left = over_keys(real_tokens(LENGTHS, 7).flip(-1))
    with pytest.raises(ValueError, match=r"first key is hidden in 2 of 3 rows.*Pad on the right"):
        attend(q, k, v, padded_on_the_left)
    assert linear_attention(q, k, v, padded_on_the_left).isfinite().all()


@BOTH
def test_the_causal_forms_want_as_many_queries_as_keys(attend):
    with pytest.raises(ValueError, match=r"5 queries and 7 keys.*linear_attention_step"):
        unwrap(attend)(*inputs(query=5))


@pytest.mark.parametrize(
    "attend", [linear_attention, causal_linear_attention, recurrent_linear_attention]
)
def test_bad_input_is_refused(attend):
    q, k, v = inputs()
    go = unwrap(attend)
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        go(q, k, v, torch.ones(7, 7))
    with pytest.raises(ValueError, match="does not broadcast"):
        go(q, k, v, torch.ones(7, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="1 of the 3 rows of keep"):
        go(q, k, v, over_keys(real_tokens(LENGTHS, 7) & torch.tensor([[True], [False], [True]])))
    for wrong in ((q[:2], k, v), (q, k[..., :5], v), (q, k, v[:, :, :5])):
        with pytest.raises(ValueError, match=r"give q \[\.\.\. query d_k\]"):
            go(*wrong)


@pytest.mark.parametrize("bad", [-1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["queries", "keys"])
def test_features_that_cannot_be_weights_are_refused(bad, where):
    q, k, v = inputs()
    x = {"queries": q, "keys": k}[where]
    x.data[0, 1, 2, 3] = bad
    x.data[2, 1, 2, 3] = bad

    def relu_unless_bad(x):
        return torch.where((x == bad) | x.isnan(), x, x.abs())

    with pytest.raises(ValueError, match=f"gave 2 of 462 features of the {where} that are neg"):
        linear_attention(q, k, v, feature_map=relu_unless_bad)


@pytest.mark.parametrize(
    "attend", [linear_attention, causal_linear_attention, recurrent_linear_attention]
)
def test_features_that_are_all_zero_are_refused(attend):
    q, k, v = inputs()
    q.data[1, 0, 4] = -1.0
    message = r"features of 1 of the (42|6) queries are 0 on every key.*0/0"
    with pytest.raises(ValueError, match=message):
        attend(q, k.abs(), v, feature_map=torch.relu)


def test_an_empty_chunk_is_refused():
    with pytest.raises(ValueError, match="chunk must be at least 1 token; got 0"):
        causal_linear_attention(*inputs(), chunk=0)
