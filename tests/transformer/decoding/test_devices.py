"""Decoding on another device than the CPU's, with a generator here or there: the same texts."""

import pytest
import torch
from torch import Generator

from qa_lab.transformer.decoding import (
    LanguageReader,
    Sampler,
    TranslationReader,
    beam_search,
    generate,
    greedily,
    greedy,
    speculative,
)
from qa_lab.transformer.models import Transformer
from qa_lab.transformer.models.presets import gpt2
from tests.comparing import assert_identical
from tests.elsewhere import CUDA, elsewhere, far_generator, model_there, there

HOW = {"end_id": 3, "pad_id": 0, "max_new_tokens": 5}
GENERATORS = {"here": lambda seed: Generator().manual_seed(seed), "there": far_generator}


def sharp(model):
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.ndim > 1 else 1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def language_model():
    torch.manual_seed(0)
    return sharp(gpt2(17, 22, 2, 13, 2, max_length=16).double())


@pytest.fixture(scope="module")
def small_language_model():
    torch.manual_seed(1)
    return sharp(gpt2(17, 22, 2, 13, 1, max_length=16).double())


def reader_there(model, cached=True):
    return LanguageReader(model_there(model), cached=cached)


def written_there(write):
    with elsewhere():
        written = write()
        assert written.device == CUDA
        return written.cpu()


PROMPT, LENGTHS = torch.tensor([[1, 4, 2], [9, 8, 0], [7, 7, 7]]), torch.tensor([3, 1, 2])


@pytest.mark.parametrize("cached", [True, False])
def test_greedy_texts(language_model, cached):
    how = HOW | {"prompt_lengths": LENGTHS}
    expected = generate(LanguageReader(language_model, cached=cached), PROMPT, **how)
    for lengths in (LENGTHS, there(LENGTHS)):
        reader, how = reader_there(language_model, cached), HOW | {"prompt_lengths": lengths}
        ids = written_there(lambda: generate(reader, there(PROMPT), **how))  # noqa: B023
        assert_identical(ids, expected)


@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_sampled_texts(language_model, generator):
    kind = {"temperature": 0.7, "top_k": 9, "top_p": 0.9}
    sampler = Sampler(GENERATORS["here"](3), **kind)
    expected = generate(LanguageReader(language_model), PROMPT, sampler, **HOW)
    sampler, reader = Sampler(generator(3), **kind), reader_there(language_model)
    ids = written_there(lambda: generate(reader, there(PROMPT), sampler, **HOW))
    assert_identical(ids, expected)


@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_a_token_for_logits_of_the_cpu(generator):
    logits = torch.randn(50, 17)
    expected = Sampler(GENERATORS["here"](3))(logits)
    with elsewhere():
        assert_identical(Sampler(generator(3))(logits), expected)
        assert_identical(greedy(there(logits)).cpu(), greedy(logits))


def test_texts_by_beam(language_model):
    expected = beam_search(LanguageReader(language_model), PROMPT, beam=3, **HOW)
    reader = reader_there(language_model)
    ids = written_there(lambda: beam_search(reader, there(PROMPT), beam=3, **HOW).ids)
    assert_identical(ids, expected.ids)


@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
@pytest.mark.parametrize("kind", [{}, {"distribution": greedily}])
def test_speculative_texts(language_model, small_language_model, generator, kind):
    how, guessed = HOW | {"guesses": 2} | kind, 0
    for row in PROMPT[:2, None]:
        models = (language_model, small_language_model)
        rng, far = GENERATORS["here"](3), generator(3)
        expected = speculative(*map(LanguageReader, models), row, rng, **how)
        readers, prompt = [reader_there(model) for model in models], there(row)
        ids = written_there(lambda: speculative(*readers, prompt, far, **how).ids)  # noqa: B023
        assert_identical(ids, expected.ids)
        guessed += expected.guessed
    assert guessed


def test_translations():
    model = sharp(Transformer(17, 22, 2, 13, 2, tied=False))
    source, start = torch.randint(17, (3, 5)), torch.ones(3, 1, dtype=torch.long)
    expected = beam_search(TranslationReader(model, source), start, beam=2, **HOW)
    far = model_there(model)

    def search():
        reader = TranslationReader(far, there(source))
        return beam_search(reader, there(start), beam=2, **HOW).ids

    assert_identical(written_there(search), expected.ids)
