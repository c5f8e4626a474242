"""Speculative decoding writes what the large model alone would write."""

import math
from inspect import unwrap
from itertools import product

import pytest
import torch

from qa_lab.transformer.decoding import (
    LanguageReader,
    Reader,
    Sampler,
    generate,
    greedily,
    speculative,
)
from qa_lab.transformer.decoding.speculation import check_guesses
from qa_lab.transformer.models import DecoderOnly
from qa_lab.transformer.models.presets import gpt2
from tests.comparing import assert_identical

VOCAB, END = 5, 3
HOW = {"end_id": END, "pad_id": 0, "max_new_tokens": 11}


def sharp(seed, n_layers, vocab=VOCAB, std=0.5):
    torch.manual_seed(seed)
    model = DecoderOnly(vocab, 8, 2, 13, n_layers, tied=False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


@pytest.mark.parametrize(("guesses", "cached"), [(1, True), (2, False), (5, True)])
@pytest.mark.parametrize("draft", ["another", "itself"])
def test_greedy_speculation_writes_the_greedy_text(guesses, cached, draft):
    target = sharp(1, 2, vocab=17)
    guesser = target if draft == "itself" else sharp(2, 1, vocab=17)
    asked = 0
    for start in range(0, 17, 4):
        prompt = torch.tensor([[start, 4]])
        alone = generate(LanguageReader(target), prompt, **HOW)
        done = speculative(
            LanguageReader(target, cached=cached), LanguageReader(guesser, cached=cached), prompt,
            torch.Generator().manual_seed(0), guesses=guesses, distribution=greedily, **HOW,
        )  # fmt: skip
        assert_identical(done.ids, alone)
        assert done.accepted <= done.guessed
        if draft == "itself":
            assert done.accepted == done.guessed
            written = int((alone == END).int().argmax()) + 1 if (alone == END).any() else 11
            assert done.target_reads == -(-written // (guesses + 1))
        asked += done.target_reads
    assert asked > 5 or draft == "itself"


def test_what_comes_out_has_the_targets_distribution():
    """One guess in each of 5000 rounds; the bounds are 5 standard errors."""
    rng = torch.Generator().manual_seed(5)
    q = torch.tensor([[0.5, 0.3, 0.1, 0.1, 0.0]])
    p = torch.tensor([[0.1, 0.35, 0.25, 0.0, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2]])
    counts, accepted = torch.zeros(5), 0
    rounds = 5000
    guesses = torch.multinomial(q[0], rounds, replacement=True, generator=rng)
    for x in guesses:
        n, y = check_guesses(x[None], q, p, rng)
        counts[x if n else y] += 1
        accepted += n
    share = counts / counts.sum()
    assert (share - p[0]).abs().max() < 5 * (0.25 / rounds) ** 0.5
    overlap = torch.minimum(p[0], q[0]).sum().item()  # Leviathan 2022, corollary 3.6
    assert abs(accepted / counts.sum() - overlap) < 5 * (0.25 / rounds) ** 0.5


def test_guesses_are_accepted_up_to_the_first_refusal():
    """Certain cases: p = q is always accepted, p = 0 never; the next token is the only one left."""
    one_hot = torch.eye(4)
    q = one_hot[[1, 2, 3]]
    rng = torch.Generator().manual_seed(0)
    for good in range(4):
        p = one_hot[[1, 2, 3, 0]].clone()
        p[good:] = one_hot[0]
        assert check_guesses(torch.tensor([1, 2, 3]), q, p, rng) == (good, 0)


def test_a_refusal_by_rounding_draws_from_the_target(monkeypatch):
    q = torch.tensor([[0.5, 0.5]])
    p = torch.tensor([[0.5 - 1e-12, 0.5], [0.5, 0.5]])
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.ones(1))
    n, y = check_guesses(torch.tensor([0]), q, p, torch.Generator().manual_seed(0))
    assert n == 0 and y in (0, 1)


def bigrams(seed):
    """A model that is a table: the logits of the next token, given the last one."""
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed))
    return table, lambda: Reader(lambda ids, cache: table[ids], None)


def exact(table, start, length):
    """The probability of every text of `length` tokens, by the chain rule."""
    p = table.softmax(-1)
    probabilities = []
    for text in product(range(VOCAB), repeat=length):
        steps = zip([start, *text], text, strict=False)
        probabilities.append(math.prod(p[a, b].item() for a, b in steps))
    return torch.tensor(probabilities)


def test_whole_texts_have_the_targets_distribution():
    """Three tokens with up to two guesses: a chi-square test over all 125 texts."""
    (target, read_target), (draft, read_draft) = bigrams(1), bigrams(2)
    rng = torch.Generator().manual_seed(7)
    prompt, runs = torch.tensor([[1]]), 1500
    counts, accepted, guessed = torch.zeros(125), 0, 0
    for _ in range(runs):
        done = speculative(
            read_target(), read_draft(), prompt, rng,
            guesses=2, end_id=None, pad_id=0, max_new_tokens=3,
        )  # fmt: skip
        a, b, c = done.ids[0].tolist()
        counts[25 * a + 5 * b + c] += 1
        accepted, guessed = accepted + done.accepted, guessed + done.guessed
    assert 0.2 < accepted / guessed < 0.95, "both ways out should be taken"

    def chi_square(probability):
        often = probability * runs >= 5
        expected = torch.cat([probability[often], probability[~often].sum()[None]]) * runs
        seen = torch.cat([counts[often], counts[~often].sum()[None]])
        return ((seen - expected) ** 2 / expected).sum().item(), len(expected) - 1

    value, freedom = chi_square(exact(target, 1, 3))
    assert value < freedom + 5 * (2 * freedom) ** 0.5
    value, freedom = chi_square(exact(draft, 1, 3))  # the draft's own would not pass
    assert value > freedom + 50 * (2 * freedom) ** 0.5


def test_all_that_is_random_comes_from_the_generator():
    (_, read_target), (_, read_draft) = bigrams(1), bigrams(2)
    texts = []
    for elsewhere in (0, 1):
        torch.manual_seed(elsewhere)
        rng = torch.Generator().manual_seed(3)
        done = speculative(
            read_target(), read_draft(), torch.tensor([[1]]), rng,
            guesses=3, end_id=None, pad_id=0, max_new_tokens=30,
        )  # fmt: skip
        texts.append(done.ids)
    assert_identical(*texts)


def test_both_models_draw_from_the_distribution_passed_in():
    target, draft = sharp(1, 2), sharp(2, 1)
    rng = torch.Generator().manual_seed(0)
    one = Sampler(rng, top_k=1).probabilities
    for start in range(VOCAB):
        prompt = torch.tensor([[start]])
        done = speculative(
            LanguageReader(target), LanguageReader(draft), prompt, rng,
            guesses=3, distribution=one, **HOW,
        )  # fmt: skip
        assert_identical(done.ids, generate(LanguageReader(target), prompt, **HOW))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("ends", [[3, 7, 11], ()])
def test_any_of_several_ends_will_do(cached, ends):
    target, draft = sharp(1, 2, vocab=17), sharp(2, 1, vocab=17)
    how = HOW | {"end_id": ends}
    for start in (0, 9, 13):
        prompt = torch.tensor([[start, 4]])
        done = speculative(
            LanguageReader(target, cached=cached), LanguageReader(draft, cached=cached), prompt,
            torch.Generator(), guesses=3, distribution=greedily, **how,
        )  # fmt: skip
        assert_identical(done.ids, generate(LanguageReader(target), prompt, **how))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("guesses", [3, 20])
@pytest.mark.parametrize(("length", "new"), [(3, 10), (12, 1), (11, 2)])
def test_a_table_of_positions_may_be_used_to_its_end(cached, guesses, length, new):
    """The last token that is written is never read, nor any that might come after it."""
    torch.manual_seed(0)
    target, draft = (gpt2(17, 22, 2, 13, 1, max_length=12).eval() for _ in range(2))
    for parameter in [*target.parameters(), *draft.parameters()]:
        parameter.data.mul_(5)  # so that the two disagree
    refused, how = 0, {"end_id": None, "pad_id": 0, "max_new_tokens": new}
    for _ in range(3):
        prompt = torch.randint(17, (1, length))
        done = speculative(
            LanguageReader(target, cached=cached), LanguageReader(draft, cached=cached), prompt,
            torch.Generator(), guesses=guesses, distribution=greedily, **how,
        )  # fmt: skip
        assert_identical(done.ids, generate(LanguageReader(target), prompt, **how))
        refused += done.guessed - done.accepted
    assert refused or new < 3, "the two should disagree"


def test_ids_of_32_bits_stay_so():
    target, draft = sharp(1, 2), sharp(2, 1)
    written = [
        speculative(
            LanguageReader(target), LanguageReader(draft), prompt, torch.Generator(),
            guesses=3, distribution=greedily, **HOW,
        ).ids
        for prompt in (torch.tensor([[1, 4]], dtype=torch.int32), torch.tensor([[1, 4]]))
    ]  # fmt: skip
    assert written[0].dtype == torch.int32
    assert_identical(written[0].long(), written[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guesses": 0}, "guesses must be at least 1 token in a round; got 0"),
        ({"prompt": torch.ones(2, 1, dtype=torch.long)}, "one prompt at a time; got 2"),
        ({"prompt": torch.ones(1, 0, dtype=torch.long)}, r"prompt has shape \[1, 0\]"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_impossible_speculations_are_refused(changes, message):
    model = sharp(1, 1)
    how = {
        "target": LanguageReader(model), "draft": LanguageReader(model),
        "prompt": torch.ones(1, 1, dtype=torch.long), "rng": torch.Generator(), "guesses": 2, **HOW,
    } | changes  # fmt: skip
    with pytest.raises(ValueError, match=message):
        unwrap(speculative)(**how)
