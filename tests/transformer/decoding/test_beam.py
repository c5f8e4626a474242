"""Beam search against trying everything."""

import math
from itertools import product

import pytest
import torch

from qa_lab.transformer.decoding import (
    LanguageReader,
    Reader,
    TranslationReader,
    beam_search,
    generate,
    power_penalty,
    wu_penalty,
)
from qa_lab.transformer.decoding.beam import PER_TOKEN
from qa_lab.transformer.models import DecoderOnly, Transformer
from tests.comparing import assert_differs, assert_identical

END, PAD, VOCAB, LENGTH = 2, 0, 4, 3
HOW = {"end_id": END, "pad_id": PAD, "max_new_tokens": LENGTH}
PENALTIES = [
    power_penalty(0.0),
    PER_TOKEN,
    wu_penalty(0.6),
    power_penalty(2.0),
    power_penalty(-0.5),
]


def sharp(model):
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


@pytest.fixture
def model():
    return sharp(DecoderOnly(VOCAB, 8, 2, 13, 2, tied=False))


def every_text(ends):
    """All that can be written: an end, and nothing after it, or no end at all."""
    for length in range(1, LENGTH + 1):
        for text in product(range(VOCAB), repeat=length):
            if not ends & set(text[:-1]) and (length == LENGTH or text[-1] in ends):
                yield text


def exhaustive(model, prompt, penalty, ends):
    """Every text with its score, best first."""
    scored = []
    for length in range(1, LENGTH + 1):
        texts = [text for text in every_text(ends) if len(text) == length]
        if texts:
            ids = torch.tensor([[*prompt, *text] for text in texts])
            log_p = model(ids[:, :-1]).log_softmax(-1)[:, len(prompt) - 1 :]
            totals = log_p.gather(-1, ids[:, len(prompt) :, None])[..., 0].sum(1) / penalty(length)
            scored += zip(totals.tolist(), texts, strict=True)
    padded = [(score, [*text, *[PAD] * (LENGTH - len(text))]) for score, text in scored]
    return sorted(padded, reverse=True)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("end", "ends"), [(END, {END}), (None, set()), ([3, END], {END, 3}), ({1, 2, 3}, {1, 2, 3})]
)
@torch.no_grad()
def test_a_beam_that_holds_everything_finds_the_best_texts(model, penalty, end, ends):
    prompts = [[1, 3], [3, 0]]
    how = HOW | {"end_id": end}
    found = beam_search(
        LanguageReader(model), torch.tensor(prompts), beam=VOCAB**LENGTH, penalty=penalty, **how
    )
    for row, prompt in enumerate(prompts):
        expected = exhaustive(model, prompt, penalty, ends)
        count = len(expected)
        scores = torch.tensor([score for score, _ in expected])
        assert torch.allclose(found.scores[row, :count], scores)
        assert found.ids[row, :count].tolist() == [text for _, text in expected]
        assert (found.scores[row, count:] == -torch.inf).all()
        assert (found.ids[row, count:] == PAD).all()


@torch.no_grad()
def beam_by_hand(model, prompt, beam, penalty, ends=(END,)):
    """One row in plain Python, to the very end, without stopping early."""
    live, finished = [(0.0, [])], []
    for t in range(LENGTH):
        candidates = []
        for score, text in live:
            log_p = model(torch.tensor([[*prompt, *text]])).log_softmax(-1)[0, -1]
            candidates += [(score + log_p[v].item(), [*text, v]) for v in range(VOCAB)]
        candidates.sort(reverse=True)
        over = [text[-1] in ends or t + 1 == LENGTH for _, text in candidates]
        finished += [
            (score / penalty(t + 1), text)
            for (score, text), end in zip(candidates[:beam], over, strict=False)
            if end
        ]
        live = [c for c, end in zip(candidates, over, strict=True) if not end][:beam]
    return sorted(finished, reverse=True)[:beam]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("beam", "ends"), [(1, (END,)), (2, (END,)), (3, (END,)), (2, (END, 3)), (2, (1, END, 3))]
)
def test_a_narrow_beam_is_the_loop_in_plain_python(model, penalty, beam, ends):
    prompts = list(product(range(VOCAB), repeat=2))[::3]
    reader, how = LanguageReader(model, cached=beam != 2), HOW | {"end_id": ends}
    found = beam_search(reader, torch.tensor(prompts), beam=beam, penalty=penalty, **how)
    for row, prompt in enumerate(prompts):
        expected = beam_by_hand(model, prompt, beam, penalty, ends)
        for rank, (score, text) in enumerate(expected):
            assert found.ids[row, rank].tolist() == [*text, *[PAD] * (LENGTH - len(text))]
            assert abs(found.scores[row, rank].item() - score) < 1e-10
        assert (found.scores[row, len(expected) :] == -torch.inf).all()


def test_a_beam_finds_what_greedy_misses(model):
    prompts = torch.tensor(list(product(range(VOCAB), repeat=3)))
    plain = power_penalty(0.0)
    greedy = generate(LanguageReader(model), prompts, **HOW)
    wide = beam_search(LanguageReader(model), prompts, beam=4, penalty=plain, **HOW)
    assert_differs(wide.ids[:, 0], greedy)
    narrow = beam_search(LanguageReader(model), prompts, beam=1, penalty=plain, **HOW)
    assert (wide.scores[:, 0] >= narrow.scores[:, 0] - 1e-12).all()


def test_a_translations_beams_keep_their_source():
    model = sharp(Transformer(7, 8, 2, 13, 2, tied=False))
    source = torch.randint(7, (5, 6))
    keep = torch.arange(6) < torch.tensor([[6], [2], [4], [1], [3]])
    start = torch.ones(5, 1, dtype=torch.long)
    together = beam_search(TranslationReader(model, source, keep), start, beam=3, **HOW)
    for row in range(5):
        reader = TranslationReader(model, source[row, None, : int(keep[row].sum())])
        one = beam_search(reader, start[:1], beam=3, **HOW)
        assert_identical(one.ids[0], together.ids[row])
        assert torch.allclose(one.scores[0], together.scores[row])


def test_it_stops_when_nothing_can_win_any_more():
    """The end is certain at once: one reading of the prompt is all."""
    model = sharp(DecoderOnly(VOCAB, 8, 2, 13, 1, tied=False))
    with torch.no_grad():
        model.unembedding.W_U.zero_()
    reader = LanguageReader(model)
    step, reads = reader.step, []

    def counted(ids, cache):
        reads.append(ids.shape)
        logits = step(ids, cache)
        logits[..., END] = 50.0
        return logits

    reader.step = counted
    found = beam_search(reader, torch.ones(2, 3, dtype=torch.long), beam=1, **HOW)
    assert found.ids[:, 0].tolist() == [[END, PAD, PAD]] * 2
    assert reads == [(2, 3)]


def scripted(*steps):
    """A model that says one distribution after the other, whatever it is given."""
    said = []

    def step(ids, cache):
        said.append(len(said))
        p = torch.tensor(steps[min(len(said), len(steps)) - 1])
        return p.log().expand(*ids.shape, -1)

    return Reader(step, None), said


def test_a_text_that_length_still_favours_is_waited_for():
    """Ending at once scores log 0.6; going on, log 0.39 over 4 squared, is better."""
    going_on = [0.005, 0.985, 0.005, 0.005]
    reader, said = scripted([0.005, 0.39, 0.6, 0.005], going_on, going_on, going_on)
    prompt = torch.ones(1, 1, dtype=torch.long)
    how = HOW | {"max_new_tokens": 4, "beam": 1}
    found = beam_search(reader, prompt, penalty=power_penalty(2.0), **how)
    assert found.ids.tolist() == [[[1, 1, 1, 1]]]
    assert abs(found.scores.item() - (math.log(0.39) + 3 * math.log(0.985)) / 16) < 1e-7
    assert len(said) == 4
    reader, said = scripted([0.005, 0.39, 0.6, 0.005], going_on, going_on, going_on)
    found = beam_search(reader, prompt, penalty=power_penalty(0.0), **how)
    assert found.ids.tolist() == [[[END, PAD, PAD, PAD]]] and len(said) == 1


def test_several_ends_leave_room_for_what_goes_on():
    """The three ends are likelier than all else, and still both beams go on."""
    p, given = torch.tensor([0.1, 0.3, 0.25, 0.25, 0.06, 0.04]), []

    def step(ids, cache):
        given.append(ids[:, 1:].tolist())
        return p.log().expand(*ids.shape, -1)

    how = {"end_id": [1, 2, 3], "pad_id": 0, "max_new_tokens": 2, "penalty": power_penalty(3.0)}
    found = beam_search(Reader(step, None), torch.tensor([[5]]), beam=2, **how)
    assert given == [[[]], [[0], [4]]]
    assert found.ids[0].tolist() == [[0, 1], [0, 2]] or found.ids[0].tolist() == [[0, 1], [0, 3]]
    expected = torch.tensor([math.log(0.1 * 0.3) / 8, math.log(0.1 * 0.25) / 8])
    assert torch.allclose(found.scores[0], expected)


def forbidding(table):
    """A model that rules out all but what is listed: the tokens that may follow each token."""
    logits = torch.full((VOCAB, VOCAB), -torch.inf)
    for last, following in table.items():
        logits[last, following] = torch.arange(len(following), dtype=torch.float64)
    return Reader(lambda ids, cache: logits[ids], None)


def test_where_no_text_is_nobody_is_asked():
    """One beginning and three beams: what the model says of the other two is nothing at all."""
    reader = forbidding({0: [1], 1: [END, 1]})  # and of 2 and 3 only that nothing may follow
    found = beam_search(reader, torch.zeros(1, 1, dtype=torch.long), beam=3, **HOW)
    assert found.ids.tolist() == [[[1, 1, 1], [1, 1, END], [1, END, PAD]]]
    assert found.scores.isfinite().all()
    found = beam_search(forbidding({0: [1], 1: [END]}), torch.zeros(1, 1, dtype=torch.long),
                        beam=3, **HOW)  # fmt: skip
    assert found.ids.tolist() == [[[1, END, PAD], [PAD] * 3, [PAD] * 3]]
    assert found.scores.tolist() == [[0.0, -math.inf, -math.inf]]


def test_a_prompt_that_is_done_asks_no_more():
    """Its kept beginnings can no longer win, and end nowhere: another prompt goes on."""
    table = {0: [3, END], 1: [1], 3: []}
    prompts = torch.tensor([[0], [1]])
    found = beam_search(forbidding(table), prompts, beam=1, penalty=power_penalty(0.0), **HOW)
    assert found.ids[:, 0].tolist() == [[END, PAD, PAD], [1, 1, 1]]
    with pytest.raises(ValueError, match="only minus infinity"):
        beam_search(forbidding({0: [END, 3], 3: []}), prompts[:1], beam=1, **HOW)


def test_a_search_keeps_no_graph(model):
    found = beam_search(LanguageReader(model), torch.ones(1, 1, dtype=torch.long), beam=2, **HOW)
    assert not found.scores.requires_grad


def test_the_penalties_are_the_papers():
    assert wu_penalty(0.6)(1) == 1.0
    assert abs(wu_penalty(0.6)(7) - (12 / 6) ** 0.6) < 1e-12
    assert power_penalty(2.0)(3) == 9.0 and PER_TOKEN(7) == 7.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam": 0}, "beam must keep at least 1 text; got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"prompt": torch.zeros(2, 0, dtype=torch.long)}, r"prompt has shape \[2, 0\]"),
    ],
)
def test_impossible_searches_are_refused(model, changes, message):
    how = {"prompt": torch.ones(1, 1, dtype=torch.long), "beam": 2, **HOW} | changes
    with pytest.raises(ValueError, match=message):
        beam_search(LanguageReader(model), **how)
