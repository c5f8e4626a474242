"""Writing token by token, cached and not, against running the whole text again."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import real_tokens, window_mask
from qa_lab.transformer.decoding import (
    LanguageReader,
    Reader,
    Sampler,
    TranslationReader,
    generate,
    greedy,
)
from qa_lab.transformer.models import DecoderOnly, Transformer
from qa_lab.transformer.models.presets import gpt2
from qa_lab.transformer.rivals import RecurrentLM, Seq2Seq
from tests.comparing import assert_differs, assert_identical

END = 5
HOW = {"end_id": END, "pad_id": 0}
CACHED = pytest.mark.parametrize("cached", [True, False])


def far_from_the_start(model):
    """Weights so large that the tokens before matter: an untrained model repeats itself."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


@pytest.fixture
def language_model(size):
    return far_from_the_start(
        DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2, tied=False)
    )


@pytest.fixture
def translator(size):
    return far_from_the_start(
        Transformer(size.vocab, size.d_model, size.head, size.d_ff, 2, tied=False)
    )


def alone(next_logits, prompt, length, ends=(END,)):
    """One row, by running everything again: what any loop must write."""
    text, written = list(prompt), []
    while len(written) < length and (not written or written[-1] not in ends):
        likeliest, second = next_logits(torch.tensor([text + written]))[0, -1].topk(2)[0]
        assert likeliest - second > 1e-9, "a tie, which rounding would decide"
        written.append(int(next_logits(torch.tensor([text + written]))[0, -1].argmax()))
    return written + [0] * (length - len(written))


@CACHED
def test_each_row_is_what_it_would_be_alone(language_model, size, cached):
    prompt = torch.randint(size.vocab, (11, 3))
    written = generate(
        LanguageReader(language_model, cached=cached), prompt, max_new_tokens=9, **HOW
    )
    expected = [alone(language_model, row, 9) for row in prompt.tolist()]
    assert written.tolist() == expected
    assert 0 < sum(END in row for row in expected) < 11, "some rows should end, and some not"


@CACHED
def test_prompts_of_different_lengths_need_no_padding(language_model, size, cached):
    prompt = torch.randint(size.vocab, (11, 6))
    lengths = torch.randint(1, 7, (11,))
    reader = LanguageReader(language_model, cached=cached)
    written = generate(reader, prompt, max_new_tokens=5, prompt_lengths=lengths, **HOW)
    expected = [
        alone(language_model, row[:n], 5)
        for row, n in zip(prompt.tolist(), lengths.tolist(), strict=True)
    ]
    assert written.tolist() == expected
    assert any(END in row[:-1] for row in expected) and any(END not in row for row in expected)


@CACHED
def test_a_translation_is_what_it_would_be_alone_and_unpadded(translator, size, cached):
    source = torch.randint(3, size.vocab, (11, size.key))
    lengths = torch.randint(1, size.key + 1, (11,))
    start = torch.ones(11, 1, dtype=torch.long)
    reader = TranslationReader(translator, source, real_tokens(lengths, size.key), cached=cached)
    written = generate(reader, start, max_new_tokens=7, **HOW)
    with_padding = generate(TranslationReader(translator, source), start, max_new_tokens=7, **HOW)
    assert_differs(with_padding, written)  # the mask matters here
    for row, tokens, n in zip(written.tolist(), source, lengths, strict=True):
        expected = alone(lambda ids, s=tokens[None, :n]: translator(s, ids), [1], 7)
        assert row == expected


def test_the_rivals_write_too(size):
    """Whatever answers with logits can be read with, without a cache."""
    model = far_from_the_start(RecurrentLM(size.vocab, size.d_model, 2))
    prompt = torch.randint(size.vocab, (5, 3))
    written = generate(LanguageReader(model, cached=False), prompt, max_new_tokens=6, **HOW)
    expected = [alone(model, row, 6) for row in prompt.tolist()]
    assert written.tolist() == expected
    translator = far_from_the_start(Seq2Seq(size.vocab, size.d_model))
    source, start = torch.randint(3, size.vocab, (5, size.key)), torch.ones(5, 1, dtype=torch.long)
    keep = real_tokens(torch.tensor([1, 5, 3, 2, 4]), size.key)
    reader = TranslationReader(translator, source, keep, cached=False)
    written = generate(reader, start, max_new_tokens=6, **HOW)
    for row, (tokens, real) in enumerate(zip(source, keep, strict=True)):
        expected = alone(lambda ids, s=tokens[None, real]: translator(s, ids), [1], 6)
        assert written[row].tolist() == expected


class Script(Reader):
    """A model that says what it is told to say, and notes what it was given."""

    def __init__(self, says):
        self.says = torch.tensor(says)
        self.given = []
        super().__init__(self._say, None)

    def _say(self, ids, cache):
        self.given.append(ids.shape[1])
        logits = torch.zeros(*ids.shape, 10)
        following = self.says[:, ids.shape[1] - 1]
        logits[torch.arange(len(ids)), -1, following] = 1.0
        return logits


def test_it_stops_when_every_row_has_ended():
    reader = Script([[5, 9, 9, 9], [9, 9, 5, 9], [7, 7, 7, 7]])
    written = generate(reader, torch.ones(3, 1, dtype=torch.long), max_new_tokens=4, **HOW)
    assert written.tolist() == [[5, 0, 0, 0], [9, 9, 5, 0], [7, 7, 7, 7]]
    assert reader.given == [1, 2, 3, 4]
    reader = Script([[5, 9, 9, 9], [9, 9, 5, 9], [5, 7, 7, 7]])
    generate(reader, torch.ones(3, 1, dtype=torch.long), max_new_tokens=4, **HOW)
    assert reader.given == [1, 2, 3], "went on after every row had ended"
    assert reader.ids.tolist() == [[1, 5, 0], [1, 9, 9], [1, 5, 0]]


@CACHED
@pytest.mark.parametrize("ends", [[END, 7, 11], (4,), {2, 10}, []])
def test_any_of_several_ends_will_do(language_model, size, cached, ends):
    prompt = torch.randint(size.vocab, (11, 3))
    reader = LanguageReader(language_model, cached=cached)
    written = generate(reader, prompt, end_id=ends, pad_id=0, max_new_tokens=9)
    assert written.tolist() == [alone(language_model, row, 9, ends) for row in prompt.tolist()]
    assert all((written == end).any() for end in ends)


@pytest.mark.parametrize("choose", [greedy, Sampler(torch.Generator(), top_k=2)])
def test_rows_that_choose_nothing_may_have_any_logits(choose):
    """Nothing may follow an end, nor 8: a prompt that goes on after it is not asked what does."""
    logits = torch.full((10, 10), -torch.inf)
    logits[[1, 2, 3, 4], [2, 3, 4, END]] = 0.0
    reader = Reader(lambda ids, cache: logits[ids], None)
    prompt, lengths = torch.tensor([[1, 0, 0], [4, 0, 0], [8, 8, 3]]), torch.tensor([1, 1, 3])
    written = generate(reader, prompt, choose, prompt_lengths=lengths, max_new_tokens=5, **HOW)
    assert written.tolist() == [[2, 3, 4, END, 0], [END, 0, 0, 0, 0], [4, END, 0, 0, 0]]
    with pytest.raises(ValueError, match="only minus infinity"):
        generate(Reader(reader.step, None), prompt[2:, :1], choose, max_new_tokens=1, **HOW)


def test_ids_of_32_bits_stay_so(language_model, size):
    prompt = torch.randint(size.vocab, (11, 3))
    written = generate(LanguageReader(language_model), prompt.int(), max_new_tokens=9, **HOW)
    assert written.dtype == torch.int32
    assert written.tolist() == [alone(language_model, row, 9) for row in prompt.tolist()]


@CACHED
def test_a_table_of_positions_may_be_used_to_its_end(size, cached):
    """The last token that is written is never read."""
    model = far_from_the_start(gpt2(size.vocab, 22, 2, 13, 1, max_length=8))
    for prompt, new in ((1, 8), (5, 4), (8, 1)):
        ids = torch.randint(size.vocab, (3, prompt))
        how = {"end_id": None, "pad_id": 0, "max_new_tokens": new}
        written = generate(LanguageReader(model, cached=cached), ids, **how)
        assert written.tolist() == [alone(model, row, new, ends=()) for row in ids.tolist()]
        with pytest.raises(ValueError, match="max_length = 8 positions"):
            generate(LanguageReader(model, cached=cached), ids, **how | {"max_new_tokens": new + 1})


@pytest.mark.parametrize("window", [1, 3])
def test_a_windowed_cache_writes_what_the_mask_writes(size, window):
    look = partial(window_mask, window=window)
    model = far_from_the_start(
        DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2, tied=False, look=look)
    )
    prompt, lengths = torch.randint(size.vocab, (11, 6)), torch.randint(1, 7, (11,))
    how = {"max_new_tokens": 9, "prompt_lengths": lengths, **HOW}
    written = generate(LanguageReader(model, window=window), prompt, **how)
    expected = [
        alone(model, row[:n], 9) for row, n in zip(prompt.tolist(), lengths.tolist(), strict=True)
    ]
    assert written.tolist() == expected


def test_without_an_end_nothing_ends(language_model, size):
    prompt = torch.randint(size.vocab, (11, 3))
    how = {"end_id": None, "pad_id": 1, "max_new_tokens": 9}
    reader = LanguageReader(language_model)
    written = generate(reader, prompt, **how)
    expected = [alone(language_model, row, 9, ends=()) for row in prompt.tolist()]
    assert written.tolist() == expected
    assert not reader.cache.layers[0].own.k.requires_grad, "writing needs no graph"
    silence = Script([[0, 3, 0, 4]])
    written = generate(silence, torch.ones(1, 1, dtype=torch.long), **how | {"max_new_tokens": 4})
    assert written.tolist() == [[0, 3, 0, 4]]


def test_how_the_next_token_is_chosen_is_passed_in(language_model, size):
    prompt = torch.randint(size.vocab, (3, 2))
    reader = LanguageReader(language_model)
    written = generate(reader, prompt, lambda logits: logits.argmin(-1), max_new_tokens=1, **HOW)
    assert_identical(written[:, 0], language_model(prompt)[:, -1].argmin(-1))
    assert greedy(torch.tensor([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]])).tolist() == [1, 0]


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
def test_as_much_is_written_as_was_asked_for(batch, prompt, length):
    model = DecoderOnly(7, 4, 2, 3, 1)
    written = generate(
        LanguageReader(model), torch.zeros(batch, prompt, dtype=torch.long),
        end_id=None, pad_id=0, max_new_tokens=length,
    )  # fmt: skip
    assert written.shape == (batch, length)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1 token; got 0"),
        ({"prompt_lengths": torch.tensor([2, 4])}, r"must lie in 1\.\.3 tokens; got \[2, 4\]"),
        ({"prompt_lengths": torch.tensor([0, 3])}, r"must lie in 1\.\.3 tokens; got \[0, 3\]"),
        ({"prompt": torch.zeros(2, 0, dtype=torch.long)}, r"prompt has shape \[2, 0\]"),
        ({"prompt": torch.zeros(0, 3, dtype=torch.long)}, r"prompt has shape \[0, 3\]"),
    ],
)
def test_what_cannot_be_continued_is_refused(changes, message):
    how = {"prompt": torch.zeros(2, 3, dtype=torch.long), "max_new_tokens": 2, **HOW} | changes
    with pytest.raises(ValueError, match=message):
        generate(LanguageReader(DecoderOnly(7, 4, 2, 3, 1)), **how)


def test_a_model_that_answers_nan_is_told_on(language_model):
    with torch.no_grad():
        language_model.unembedding.W_U[3] = torch.nan
    for cached in (True, False):
        with pytest.raises(ValueError, match="logits are NaN after 2 tokens"):
            LanguageReader(language_model, cached=cached).read(torch.ones(1, 2, dtype=torch.long))


@CACHED
def test_a_reader_reads_reorders_and_forgets(oracle, language_model, size, cached):
    text = torch.randint(size.vocab, (3, 7))
    reader = LanguageReader(language_model, cached=cached)
    assert reader.seen == 0
    reader.reorder(torch.tensor([1, 0])), reader.forget(0)  # nothing read: nothing to do
    oracle.close(reader.read(text[:, :2]), language_model(text)[:, :2])
    assert reader.seen == 2
    oracle.close(reader.read(text[:, 2:5]), language_model(text)[:, 2:5])
    reader.forget(0)
    reader.forget(2)
    assert reader.seen == 3
    reader.reorder(torch.tensor([2, 2]))
    oracle.close(reader.read(text[[2, 2], 3:]), language_model(text)[[2, 2], 3:])
    for wrong in (8, -1):
        with pytest.raises(ValueError, match=f"cannot forget {wrong} tokens of the 7 read"):
            reader.forget(wrong)


def test_a_windowed_reader_holds_the_window_only(language_model):
    reader = LanguageReader(language_model, window=4)
    reader.read(torch.ones(1, 6, dtype=torch.long))
    assert reader.cache.layers[0].own.kept == 3


@CACHED
def test_a_translations_rows_take_their_sources_along(oracle, translator, size, cached):
    source = torch.randint(3, size.vocab, (3, size.key))
    keep = real_tokens(torch.tensor([1, 5, 3]), size.key)
    target = torch.randint(size.vocab, (3, 4))
    rows = torch.tensor([2, 0, 0, 1])
    for mask in (keep, None):
        reader = TranslationReader(translator, source, mask, cached=cached)
        reader.reorder(rows)
        out = reader.read(target[rows])
        oracle.close(out, translator(source, target, mask)[rows])
        reader.reorder(torch.tensor([3, 1]))
        again = reader.read(target[rows][[3, 1], :2])
        whole = torch.cat([target[rows], target[rows][:, :2]], 1)
        oracle.close(
            again,
            translator(source[rows], whole, None if mask is None else mask[rows])[[3, 1], 4:],
        )
    assert reader.memory.requires_grad is False
