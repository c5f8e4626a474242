"""The recurrent encoder-decoder against a plain loop: one row, one token, one source at a time."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call

from qa_lab.transformer.attention import (
    AdditiveScores,
    BilinearScores,
    dot_product_scores,
    real_tokens,
)
from qa_lab.transformer.rivals import (
    GRU,
    LSTM,
    RNN,
    AttendedContext,
    BahdanauDecoder,
    FixedContext,
    LuongDecoder,
    Seq2Seq,
    summary,
)
from tests.comparing import assert_differs, assert_identical, assert_same, moved

BATCH, SOURCE, TARGET, D, VOCAB = 3, 5, 4, 6, 11
SOURCE_KEEP = real_tokens(torch.tensor([3, 5, 1]), SOURCE)
TARGET_KEEP = real_tokens(torch.tensor([4, 1, 3]), TARGET)
CELLS = {
    "RNN": (RNN, nn.RNN, nn.RNNCell),
    "GRU": (GRU, nn.GRU, nn.GRUCell),
    "LSTM": (LSTM, nn.LSTM, nn.LSTMCell),
}
PLAIN_DOT = partial(AttendedContext, scores=lambda *_: partial(dot_product_scores, scale=1.0))
CONTEXTS = {
    "additive": AttendedContext,
    "bilinear": partial(AttendedContext, scores=BilinearScores),
    "dot": PLAIN_DOT,
    "fixed": FixedContext,
}
both_decoders = pytest.mark.parametrize("decoder", [BahdanauDecoder, LuongDecoder])


def weights_of(layer, suffix=""):
    names = {"weight_ih": layer.W, "weight_hh": layer.U, "bias_ih": layer.b_W, "bias_hh": layer.b_U}
    return {name + suffix: weight for name, weight in names.items()}


def score(model, kind, q, h):
    """One query against one source vector."""
    if kind == "dot":
        return sum(q[d] * h[d] for d in range(D))
    scores = model.decoder.context.attention.scores
    if kind == "bilinear":
        return sum(q[x] * scores.W_a[x, y] * h[y] for x in range(D) for y in range(D))
    hidden = torch.tanh(torch.mv(scores.W_a, q) + torch.mv(scores.U_a, h))
    return sum(scores.v_a[a] * hidden[a] for a in range(D))


def reference(model, kind, name, source, target, layers):
    """Logits and weights of one unpadded row."""
    _, make, make_cell = CELLS[name]
    embed = D**0.5 * model.source_embedding.W_E
    encoder = {}
    for depth, pair in enumerate(zip(model.encoder.right, model.encoder.left, strict=True)):
        for layer, suffix in zip(pair, ("", "_reverse"), strict=True):
            encoder |= weights_of(layer, f"_l{depth}{suffix}")
    net = make(D, D // 2, layers, bidirectional=True)
    memory = functional_call(net, encoder, (embed[source],))[0]
    last = torch.cat([memory[-1, : D // 2], memory[0, D // 2 :]])

    first = torch.tanh(model.W_init.weight @ last + model.W_init.bias).view(layers, -1, D)
    states = [tuple(layer) for layer in first]

    def look(q):
        if kind == "fixed":
            return last, None
        e = [score(model, kind, q, h).exp() for h in memory]
        alpha = torch.stack([value / sum(e) for value in e])
        return sum(a * h for a, h in zip(alpha, memory, strict=True)), alpha

    def advance(x):
        for depth, layer in enumerate(model.decoder.stack.layers):
            cell = make_cell(len(x), D)
            state = states[depth] if len(states[depth]) > 1 else states[depth][0]
            state = functional_call(cell, weights_of(layer), (x, state))
            states[depth] = state if isinstance(state, tuple) else (state,)
            x = states[depth][0]
        return x

    logits, weights = [], []
    for y in (D**0.5 * model.target_embedding.W_E)[target]:
        if isinstance(model.decoder, BahdanauDecoder):
            c, alpha = look(states[-1][0])
            s = advance(torch.cat([y, c]))
            W_o = model.decoder.W_o
            out = torch.tanh(W_o.weight @ torch.cat([s, c, y]) + W_o.bias)
        else:
            s = advance(y)
            c, alpha = look(s)
            W_c = model.decoder.W_c
            out = torch.tanh(W_c.weight @ torch.cat([c, s]) + W_c.bias)
        logits.append(model.unembedding.W_U @ out)
        weights.append(alpha)
    return torch.stack(logits), None if kind == "fixed" else torch.stack(weights)


@both_decoders
@pytest.mark.parametrize(
    ("kind", "name", "layers", "tied"),
    [
        ("additive", "GRU", 1, True),
        ("additive", "LSTM", 2, False),
        ("bilinear", "LSTM", 1, True),
        ("dot", "RNN", 2, False),
        ("fixed", "GRU", 2, True),
        ("fixed", "LSTM", 1, False),
    ],
)
def test_the_model_agrees_with_a_plain_loop(oracle, decoder, kind, name, layers, tied):
    model = Seq2Seq(
        VOCAB, D, layers, cell=CELLS[name][0], decoder=decoder, context=CONTEXTS[kind], tied=tied
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    source, target = torch.randint(VOCAB, (BATCH, SOURCE)), torch.randint(VOCAB, (BATCH, TARGET))
    logits = model(source, target, SOURCE_KEEP, TARGET_KEEP)
    memory = model.encode(source, SOURCE_KEEP)
    again, weights = model.decode_with_weights(target, memory, TARGET_KEEP, SOURCE_KEEP)
    assert_same(again, logits)
    assert (weights is None) == (kind == "fixed")
    assert (model.unembedding.W_U is model.target_embedding.W_E) == tied
    assert (model.target_embedding is model.source_embedding) == tied
    expected = []
    for b in range(BATCH):
        n, m = int(SOURCE_KEEP[b].sum()), int(TARGET_KEEP[b].sum())
        row, alpha = reference(model, kind, name, source[b, :n], target[b, :m], layers)
        expected.append(row)
        if weights is not None:
            oracle.close(weights[b, :m, :n], alpha, "weights")
            assert (weights[b, :, n:] == 0).all()
    expected = torch.cat(expected)
    oracle.close(logits[TARGET_KEEP], expected)

    direction = torch.randn_like(expected)
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = torch.autograd.grad((logits[TARGET_KEEP] * direction).sum(), parameters)
    theirs = torch.autograd.grad((expected * direction).sum(), parameters)
    for parameter, mine, their in zip(names, ours, theirs, strict=True):
        oracle.close(mine, their, f"gradient of {parameter}")
        assert their.abs().max() > 1e-6, parameter


@both_decoders
@pytest.mark.parametrize("kind", ["additive", "fixed"])
def test_steps_with_a_state_are_decoding_at_once(oracle, decoder, kind):
    model = Seq2Seq(VOCAB, D, 2, cell=LSTM, decoder=decoder, context=CONTEXTS[kind])
    source, target = torch.randint(VOCAB, (BATCH, SOURCE)), torch.randint(VOCAB, (BATCH, TARGET))
    for keep in SOURCE_KEEP, None:
        memory = model.encode(source, keep)
        states, steps = model.start(memory, keep), []
        for t in range(TARGET):
            logits, states = model.step(target[:, t], states, memory, keep)
            steps.append(logits)
        oracle.close(torch.stack(steps, 1), model.decode(target, memory, None, keep))
        oracle.close(torch.stack(steps, 1), model(source, target, keep))


@both_decoders
@pytest.mark.parametrize("kind", CONTEXTS)
def test_padding_and_the_future_change_no_real_logit(decoder, kind):
    model = Seq2Seq(VOCAB, D, 2, decoder=decoder, context=CONTEXTS[kind])
    source = torch.randint(VOCAB - 1, (BATCH, SOURCE))
    target = torch.randint(VOCAB - 1, (BATCH, TARGET))
    logits = model(source, target, SOURCE_KEEP, TARGET_KEEP)
    other_source = torch.where(SOURCE_KEEP, source, VOCAB - 1)
    other_target = torch.where(TARGET_KEEP, target, VOCAB - 1)
    otherwise = model(other_source, other_target, SOURCE_KEEP, TARGET_KEEP)
    assert_same(logits[TARGET_KEEP], otherwise[TARGET_KEEP])
    assert_differs(model(source, target), model(other_source, target))
    later = target.clone()
    later[:, 2] = (later[:, 2] + 1) % VOCAB
    reached = moved(model(source, target), model(source, later), axis=(0, 2))
    assert_identical(reached, torch.arange(TARGET) >= 2)
    for position in range(SOURCE):
        changed = source.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCAB
        assert moved(model(source, target), model(changed, target), axis=(0, 2)).all()


def test_the_summary_is_where_both_directions_ended():
    memory = torch.arange(BATCH * SOURCE * 4.0).view(BATCH, SOURCE, 4)
    right = [memory[b, n - 1, :2].tolist() for b, n in enumerate((3, 5, 1))]
    left = memory[:, 0, 2:].tolist()
    expected = [first + second for first, second in zip(right, left, strict=True)]
    assert summary(memory, SOURCE_KEEP).tolist() == expected
    assert_identical(summary(memory)[:, :2], memory[:, -1, :2], because="a copy")
    assert summary(memory.to("meta")).device.type == "meta"


def test_the_control_lacks_the_attention_and_nothing_else():
    attended, fixed = Seq2Seq(VOCAB, D), Seq2Seq(VOCAB, D, context=FixedContext)
    names = {name for name, _ in attended.named_parameters()}
    missing = names - {name for name, _ in fixed.named_parameters()}
    assert missing == {f"decoder.context.attention.scores.{p}" for p in ("W_a", "U_a", "v_a")}
    assert len(names) - len(missing) == len(list(fixed.parameters()))


def test_the_defaults_are_bahdanaus():
    model = Seq2Seq(VOCAB, D)
    assert isinstance(model.decoder, BahdanauDecoder)
    assert isinstance(model.decoder.context.attention.scores, AdditiveScores)
    assert len(model.encoder.left) == len(model.decoder.stack.layers) == 1
    assert model.encoder.left[0].cell is model.decoder.stack.layers[0].cell is GRU
    assert model.unembedding.W_U is model.target_embedding.W_E is model.source_embedding.W_E
    assert model.encoder.dropout.p == model.decoder.stack.dropout.p == 0
    for decoder in BahdanauDecoder, LuongDecoder:
        dropped = Seq2Seq(VOCAB, D, decoder=decoder, dropout=0.3)
        assert dropped.encoder.dropout.p == dropped.decoder.stack.dropout.p == 0.3


def test_what_cannot_be_built_or_read_is_refused():
    with pytest.raises(ValueError, match="share d_hidden = 7 features"):
        Seq2Seq(VOCAB, 7)
    with pytest.raises(ValueError, match="n_layers = 0"):
        Seq2Seq(VOCAB, D, 0)
    model = Seq2Seq(VOCAB, D)
    source, target = torch.randint(VOCAB, (BATCH, SOURCE)), torch.randint(VOCAB, (BATCH, TARGET))
    with pytest.raises(ValueError, match="pad on the right"):
        model(source, target, SOURCE_KEEP.flip(1))
    with pytest.raises(ValueError, match="pad on the right"):
        model(source, target, SOURCE_KEEP, TARGET_KEEP.flip(1))
    with pytest.raises(ValueError, match="row 0 of real has no real token"):
        model(source, target, torch.zeros_like(SOURCE_KEEP))
    for ids in (source + VOCAB, target), (source, target + VOCAB):
        with pytest.raises(ValueError, match=r"0\.\.10, the vocabulary"):
            model(*ids)
    with pytest.raises(ValueError, match="no token"):
        model(source, target[:, :0])
