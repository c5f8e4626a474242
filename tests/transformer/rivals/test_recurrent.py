"""Recurrent cells, layers and models against torch.nn: steps, kernels, states, padding."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.layers import TokenEmbedding, mean_over_tokens
from qa_lab.transformer.rivals import (
    GRU,
    LSTM,
    RNN,
    BidirectionalStack,
    Cell,
    RecurrentClassifier,
    RecurrentLayer,
    RecurrentLM,
    RecurrentStack,
)
from tests.comparing import assert_differs, assert_identical, assert_same, moved

BATCH, LENGTH, D_IN, D_HIDDEN, VOCAB, CLASSES = 3, 7, 5, 4, 17, 6
LENGTHS = torch.tensor([4, 7, 1])
REAL = real_tokens(LENGTHS, LENGTH)
CELLS = {
    "RNN": (RNN, nn.RNN, nn.RNNCell),
    "GRU": (GRU, nn.GRU, nn.GRUCell),
    "LSTM": (LSTM, nn.LSTM, nn.LSTMCell),
}
cells = pytest.mark.parametrize("name", CELLS)


def layer_pairs(theirs, ours, suffix):
    names = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b_W", "bias_hh": "b_U"}
    return [
        (getattr(theirs, their + suffix), [getattr(ours, mine)]) for their, mine in names.items()
    ]


def stack_pairs(theirs, ours):
    pairs = []
    for depth, layer in enumerate(ours.layers):
        pairs += layer_pairs(theirs, layer, f"_l{depth}")
    return pairs


def bidirectional_pairs(theirs, ours):
    pairs = []
    for depth, (right, left) in enumerate(zip(ours.right, ours.left, strict=True)):
        pairs += layer_pairs(theirs, right, f"_l{depth}")
        pairs += layer_pairs(theirs, left, f"_l{depth}_reverse")
    return pairs


def as_torch(states, n_states):
    """From one tuple for each layer to torch's [layer batch d_hidden]."""
    parts = tuple(torch.stack([state[i] for state in states]) for i in range(n_states))
    return parts if n_states > 1 else parts[0]


def random_states(cell, layers):
    return [
        tuple(torch.randn(BATCH, D_HIDDEN, requires_grad=True) for _ in range(cell.n_states))
        for _ in range(layers)
    ]


@cells
def test_a_step_agrees_with_torch(oracle, twins, name):
    cell, _, make = CELLS[name]
    theirs, ours = make(D_IN, D_HIDDEN), RecurrentLayer(D_IN, D_HIDDEN, cell)
    pairs = layer_pairs(theirs, ours, "")
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, D_IN)
    mine, their = zip(*(twins(BATCH, D_HIDDEN) for _ in range(cell.n_states)), strict=True)
    out = cell.step(x, mine, ours.W, ours.U, ours.b_W, ours.b_U)
    expected = theirs(x2, their if cell.n_states > 1 else their[0])
    expected = expected if cell.n_states > 1 else (expected,)
    oracle.agree(
        torch.stack(out), torch.stack(expected), slice(None), pairs, [x, *mine], [x2, *their]
    )


@cells
@pytest.mark.parametrize("path", ["kernel", "loop"])
@pytest.mark.parametrize("given_state", [True, False])
def test_a_stack_agrees_with_torch(oracle, twins, name, path, given_state):
    cell, make, _ = CELLS[name]
    theirs = make(D_IN, D_HIDDEN, 2, batch_first=True)
    one_by_one = cell if path == "kernel" else dataclasses.replace(cell, kernel=None)
    ours = RecurrentStack(D_IN, D_HIDDEN, 2, one_by_one)
    pairs = stack_pairs(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, LENGTH, D_IN)
    states = random_states(cell, 2) if given_state else None
    out, ends = ours(x, states)
    expected, their_ends = theirs(x2, as_torch(states, cell.n_states) if given_state else None)
    ends = as_torch(ends, cell.n_states)
    if cell.n_states == 1:
        ends, their_ends = (ends,), (their_ends,)
    for mine, their in zip(ends, their_ends, strict=True):
        oracle.close(mine, their, "last state")
    both = torch.cat([out.flatten(), *[e.flatten() for e in ends]])
    theirs_flat = torch.cat([expected.flatten(), *[e.flatten() for e in their_ends]])
    oracle.agree(both, theirs_flat, slice(None), pairs, [x], [x2])


@cells
def test_ragged_rows_end_where_packed_ones_do(oracle, twins, name):
    cell, make, _ = CELLS[name]
    theirs = make(D_IN, D_HIDDEN, 2, batch_first=True)
    ours = RecurrentStack(D_IN, D_HIDDEN, 2, cell)
    pairs = stack_pairs(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, LENGTH, D_IN)
    states = random_states(cell, 2)
    out, ends = ours(x, states, LENGTHS)
    packed = pack_padded_sequence(x2, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, their_ends = theirs(packed, as_torch(states, cell.n_states))
    expected = pad_packed_sequence(expected, batch_first=True)[0]
    ends = as_torch(ends, cell.n_states)
    if cell.n_states == 1:
        ends, their_ends = (ends,), (their_ends,)
    for mine, their in zip(ends, their_ends, strict=True):
        oracle.close(mine, their, "last state")
    oracle.close(ours(x, states)[0][REAL], expected[REAL], "by the kernel")
    oracle.agree(out, expected, REAL, pairs, [x], [x2])


@cells
@pytest.mark.parametrize("layers", [1, 3])
def test_both_directions_agree_with_packed_torch(oracle, twins, name, layers):
    cell, make, _ = CELLS[name]
    theirs = make(D_IN, D_HIDDEN, layers, batch_first=True, bidirectional=True)
    ours = BidirectionalStack(D_IN, 2 * D_HIDDEN, layers, cell)
    pairs = bidirectional_pairs(theirs, ours)
    oracle.copy_random(pairs, ours)
    x, x2 = twins(BATCH, LENGTH, D_IN)
    packed = pack_padded_sequence(x2, LENGTHS, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    oracle.agree(ours(x, LENGTHS), expected, REAL, pairs, [x], [x2])


@cells
def test_the_float32_kernel_is_the_same_function(name):
    """In float32 another kernel (oneDNN's) may run than in float64."""
    layer = RecurrentLayer(D_IN, D_HIDDEN, CELLS[name][0]).float()
    x = torch.randn(BATCH, LENGTH, D_IN, dtype=torch.float32)
    out, end = layer(x)
    looped, looped_end = layer(x, None, torch.full((BATCH,), LENGTH))
    assert torch.allclose(out, looped, atol=1e-6)
    for mine, expected in zip(end, looped_end, strict=True):
        assert torch.allclose(mine, expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(layer.eval()(x)[0], looped, atol=1e-6)


def test_a_cell_of_ones_own_runs():
    def never_forgets(x, state, W, U, b_W, b_U):
        h, c = state
        return h + 1, c

    layer = RecurrentLayer(
        D_IN, D_HIDDEN, dataclasses.replace(LSTM, step=never_forgets, kernel=None)
    )
    out, (h, c) = layer(torch.randn(BATCH, LENGTH, D_IN))
    steps = torch.arange(1.0, LENGTH + 1).expand(BATCH, -1)
    assert_identical(out[:, :, 0], steps, because="it counts")
    assert (h == LENGTH).all() and (c == 0).all()
    assert layer(torch.randn(BATCH, LENGTH, D_IN), None, LENGTHS)[1][0][:, 0].tolist() == [4, 7, 1]

    forgetful = RecurrentLayer(D_IN, D_HIDDEN, Cell(lambda x, state, *_: state[:1], 4, 2))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        forgetful(torch.randn(BATCH, LENGTH, D_IN), None, LENGTHS)


def test_weights_start_uniform_within_one_over_the_root_of_the_width():
    layer = RecurrentLayer(50, 16)
    for weight in layer.parameters():
        assert weight.abs().max() <= 0.25
        assert weight.min() < -0.2 and weight.max() > 0.2
        assert abs(weight.mean()) < 0.05
    assert layer.W.shape == (64, 50) and layer.U.shape == (64, 16)


def test_dropout_falls_on_what_goes_up_and_not_on_what_goes_on_in_time():
    """With all dropped, a layer sees zeros and its biases: its states are those of no input."""
    for make in (
        lambda p: RecurrentStack(D_IN, D_HIDDEN, 2, dropout=p),
        lambda p: BidirectionalStack(D_IN, 2 * D_HIDDEN, 2, dropout=p),
    ):
        x = torch.randn(BATCH, LENGTH, D_IN)
        stack = make(1 - 1e-9)
        arguments = (x,) if isinstance(stack, RecurrentStack) else (x, LENGTHS)
        out = stack(*arguments)
        if isinstance(stack, RecurrentStack):
            out, ends = out
            nothing = torch.zeros(BATCH, LENGTH, D_IN)
            assert torch.allclose(ends[0][0], stack.layers[0](nothing)[1][0])
            quiet = torch.zeros(BATCH, LENGTH, D_HIDDEN)
            assert torch.allclose(ends[1][0], stack.layers[1](quiet)[1][0])
        assert (out == 0).all()
        assert make(0.0)(*arguments)[0].abs().min() > 0
        kept = stack.eval()(*arguments)
        assert (kept[0] if isinstance(stack, RecurrentStack) else kept).abs().min() > 0
    assert RecurrentStack(2, 2, 1).dropout.p == BidirectionalStack(2, 2, 1).dropout.p == 0
    assert RecurrentLM(5, 4, 1, dropout=0.3).stack.dropout.p == 0.3
    assert RecurrentClassifier(5, 3, 4, 1, dropout=0.3).stack.dropout.p == 0.3
    assert RecurrentLM(5, 4, 1).stack.dropout.p == 0
    assert RecurrentClassifier(5, 3, 4, 1).stack.dropout.p == 0


@cells
@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_agrees_with_torch(oracle, name, tied):
    cell, make, _ = CELLS[name]
    ours = RecurrentLM(VOCAB, D_HIDDEN, 2, cell=cell, tied=tied)
    theirs = make(D_HIDDEN, D_HIDDEN, 2, batch_first=True)
    oracle.copy_random(stack_pairs(theirs, ours.stack), ours.stack)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    embedded = D_HIDDEN**0.5 * ours.embedding.W_E[ids]
    W_U = ours.embedding.W_E if tied else ours.unembedding.W_U
    expected = theirs(embedded)[0] @ W_U.T
    oracle.close(ours(ids), expected)
    oracle.close(ours(ids, REAL)[REAL], expected[REAL])
    assert (ours.unembedding.W_U is ours.embedding.W_E) == tied


def test_the_defaults_are_a_tied_lstm():
    lm = RecurrentLM(VOCAB, D_HIDDEN, 1)
    assert lm.stack.layers[0].cell is LSTM is RecurrentLayer(1, 1).cell
    assert lm.unembedding.W_U is lm.embedding.W_E
    assert RecurrentStack(1, 1, 1).layers[0].cell is LSTM
    assert BidirectionalStack(1, 2, 1).left[0].cell is LSTM
    assert RecurrentClassifier(VOCAB, CLASSES, 4, 1).stack.left[0].cell is LSTM
    assert isinstance(lm.embedding, TokenEmbedding)


@cells
def test_reading_in_pieces_is_reading_at_once(oracle, name):
    lm = RecurrentLM(VOCAB, D_HIDDEN, 2, cell=CELLS[name][0])
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    whole = lm(ids)
    states, pieces = None, []
    for t in range(LENGTH):
        logits, states = lm.step(ids[:, t], states)
        pieces.append(logits)
    oracle.close(torch.stack(pieces, 1), whole)
    first, states = lm.read(ids[:, :3])
    second, _ = lm.read(ids[:, 3:], None, states)
    oracle.close(torch.cat([first, second], 1), whole)


@cells
def test_a_ragged_prompt_is_read_on_from_each_rows_own_end(oracle, name):
    lm = RecurrentLM(VOCAB, D_HIDDEN, 2, cell=CELLS[name][0])
    ids, following = torch.randint(VOCAB, (BATCH, LENGTH)), torch.randint(VOCAB, (BATCH,))
    logits, states = lm.read(ids, REAL)
    oracle.close(logits[REAL], lm(ids)[REAL])
    after, _ = lm.step(following, states)
    for b, n in enumerate(LENGTHS):
        row = torch.cat([ids[b, :n], following[b : b + 1]])
        oracle.close(after[b], lm(row[None])[0, -1])


def test_rows_of_one_length_take_the_kernel_and_ragged_ones_the_loop(monkeypatch):
    kernels = []
    monkeypatch.setattr(
        "qa_lab.transformer.rivals.recurrent_stacks.run_kernel",
        lambda *arguments: kernels.append(1) or (arguments[1], arguments[2]),
    )
    lm = RecurrentLM(VOCAB, D_HIDDEN, 1)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    lm(ids), lm(ids, REAL), lm.read(ids), lm.read(ids, torch.ones_like(REAL))
    assert len(kernels) == 4
    lm.read(ids, REAL)
    assert len(kernels) == 4


def test_padding_and_the_future_change_no_real_logit():
    ids = torch.randint(VOCAB - 1, (BATCH, LENGTH))
    otherwise = torch.where(REAL, ids, VOCAB - 1)
    lm, tagger = RecurrentLM(VOCAB, 4, 2), RecurrentClassifier(VOCAB, CLASSES, 4, 2)
    pooled = RecurrentClassifier(VOCAB, CLASSES, 4, 2, pool=mean_over_tokens)
    for model in lm, tagger, pooled:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    for model in lm, tagger:
        assert_same(model(ids, REAL)[REAL], model(otherwise, REAL)[REAL])
        assert_differs(model(ids), model(otherwise))
    assert_same(pooled(ids, REAL), pooled(otherwise, REAL))
    assert_differs(pooled(ids), pooled(otherwise))
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] + 1) % VOCAB
    assert_identical(moved(lm(ids), lm(changed), axis=(0, 2)), torch.arange(LENGTH) >= 4)
    assert moved(tagger(ids), tagger(changed), axis=(0, 2)).all(), "it reads both ways"


@cells
def test_the_classifier_agrees_with_packed_torch(oracle, name):
    cell, make, _ = CELLS[name]
    ours = RecurrentClassifier(VOCAB, CLASSES, 2 * D_HIDDEN, 2, cell=cell)
    theirs = make(2 * D_HIDDEN, D_HIDDEN, 2, batch_first=True, bidirectional=True)
    oracle.copy_random(bidirectional_pairs(theirs, ours.stack), ours.stack)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    embedded = (2 * D_HIDDEN) ** 0.5 * ours.embedding.W_E[ids]
    packed = pack_padded_sequence(embedded, LENGTHS, batch_first=True, enforce_sorted=False)
    vectors = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    expected = vectors @ ours.W_C.weight.T + ours.W_C.bias
    oracle.close(ours(ids, REAL)[REAL], expected[REAL])
    ours.pool = mean_over_tokens
    means = torch.stack([expected[b, :n].mean(0) for b, n in enumerate(LENGTHS)])
    oracle.close(ours(ids, REAL), means)
    oracle.close(ours(ids), ours(ids, torch.ones_like(REAL)))


def test_what_cannot_be_built_is_refused():
    for widths in (0, 3), (3, 0):
        with pytest.raises(ValueError, match="widths are at least 1; got d_in"):
            RecurrentLayer(*widths)
    for stack in RecurrentStack, BidirectionalStack:
        with pytest.raises(ValueError, match="n_layers = 0: a stack has at least 1"):
            stack(4, 4, 0)
    with pytest.raises(ValueError, match="share d_hidden = 5 features"):
        BidirectionalStack(4, 5, 1)
    for dropout in -0.1, 1.1:
        with pytest.raises(ValueError, match="dropout probability"):
            RecurrentLM(5, 4, 1, dropout=dropout)


def test_what_cannot_be_read_is_refused():
    x = torch.randn(BATCH, LENGTH, D_IN)
    layer, stack = RecurrentLayer(D_IN, D_HIDDEN), RecurrentStack(D_IN, D_HIDDEN, 2)
    for empty in x[:, :0], x[:0]:
        with pytest.raises(ValueError, match=r"no token to read: x has shape"):
            layer(empty)
    h = torch.zeros(BATCH, D_HIDDEN)
    for wrong in (h,), (h[:1], h[:1]), (h, h, h), (h, h[:, :2]):
        with pytest.raises(ValueError, match=r"state is 2 x \[batch d_hidden\] = \[3, 4\]; got"):
            layer(x, wrong)
    with pytest.raises(ValueError, match="2 layers need a state each; got 1"):
        stack(x, [(h, h)])
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    lm, classifier = RecurrentLM(VOCAB, 4, 1), RecurrentClassifier(VOCAB, CLASSES, 4, 1)
    left = REAL.flip(1)
    for read in lm, lm.read, classifier:
        with pytest.raises(ValueError, match=r"row 0 of real .* pad on the right"):
            read(ids, left)
        with pytest.raises(ValueError, match=r"0\.\.16, the vocabulary"):
            read(ids + VOCAB)
    with pytest.raises(ValueError, match="vocabulary"):
        lm.step(torch.tensor([VOCAB] * BATCH))
