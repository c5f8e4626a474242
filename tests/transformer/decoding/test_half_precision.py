"""Every way of choosing tokens, from logits of every precision and size, beside float64."""

import math

import pytest
import torch
from torch import Generator

from qa_lab.transformer.decoding import (
    Reader,
    Sampler,
    as_it_is,
    beam_search,
    generate,
    greedily,
    greedy,
    keep_top_k,
    keep_top_p,
    power_penalty,
    speculative,
    with_temperature,
)
from qa_lab.transformer.decoding.sampling import draw
from qa_lab.transformer.decoding.speculation import check_guesses
from tests.comparing import assert_identical

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
every_half = pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda dtype: str(dtype)[6:])


def close(ours, reference, tolerance=1e-6):
    """Compare probabilities or log probabilities with those of a float64 calculation."""
    return (ours.double() - reference).abs().max().item() < tolerance


def softened(logits, temperature):
    """The distribution in plain Python, whose floats are float64."""
    most = max(logits)
    powers = [math.exp((logit - most) / temperature) for logit in logits]
    return torch.tensor([power / sum(powers) for power in powers])


@every_dtype
@pytest.mark.parametrize("temperature", [1e-38, 1e-30, 1e-4, 0.3, 1.0, 1.5, 1e4, 1e30, 1e38])
def test_any_temperature_gives_the_distribution(dtype, temperature):
    largest = min(torch.finfo(dtype).max, 3e38)  # of float16, 65504
    for row in ([10.0, 9.0, 9.5], [largest, -largest, largest / 2], [0.0, -math.inf, -1e-3]):
        logits = torch.tensor([row], dtype=dtype)
        p = Sampler(Generator(), temperature=temperature).probabilities(logits)
        assert close(p[0], softened(logits[0].tolist(), temperature))
        assert p.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every_dtype
@pytest.mark.parametrize(("temperature", "p"), [(5e-324, [1.0, 0.0]), (math.inf, [0.5, 0.5])])
def test_the_limits_of_temperature_rule_out_what_was_ruled_out(dtype, temperature, p):
    logits = torch.tensor([[2.0, 1.0, -math.inf]], dtype=dtype)
    assert close(with_temperature(logits, temperature).softmax(-1)[0], torch.tensor([*p, 0.0]))


@every_dtype
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
def test_a_nucleus_of_fifty_thousand_tokens_holds_its_share(dtype, p):
    """In bfloat16 a sum of small shares stalls; float32 sums are right to 1e-5 of the whole."""
    logits = (2 * torch.randn(3, 50_000)).to(dtype)
    kept = keep_top_p(logits, p)
    assert kept.dtype == dtype
    inside = kept > -torch.inf
    assert_identical(kept[inside], logits[inside], because="what is kept is copied")
    share = logits.double().softmax(-1)
    for row, mask in zip(share, inside, strict=True):
        assert row[mask].sum() >= p - 1e-5
        assert row[mask].sum() - row[mask].min() < p + 1e-5
        assert row[~mask].max() <= row[mask].min()


@every_dtype
def test_a_share_too_small_for_float32_keeps_the_likeliest(dtype):
    logits = torch.tensor([[1.0, 3.0, 2.0]], dtype=dtype)
    assert (keep_top_p(logits, 1e-60) > -torch.inf).tolist() == [[False, True, False]]


@every_dtype
def test_filters_keep_nothing_that_was_ruled_out(dtype):
    """Also where fewer tokens are left than asked for, and where all are as likely."""
    row = torch.tensor([[0.0, -math.inf, 0.0, -math.inf, 0.0]], dtype=dtype)
    for kept in (keep_top_k(row, 4), keep_top_p(row, 1 - 1e-9), keep_top_p(row, 1.0)):
        assert (kept > -torch.inf).tolist() == [[True, False, True, False, True]]
    assert (keep_top_k(row, 2) > -torch.inf).tolist() == [[True, False, True, False, True]]
    assert (keep_top_p(row, 0.5) > -torch.inf).tolist() == [[True, False, True, False, False]]


@every_half
def test_tokens_are_drawn_as_from_float32(dtype):
    """Exact: the probabilities are the same float32 numbers, and so is what is drawn."""
    logits = torch.randn(2000, 50).to(dtype)
    drawn = [
        Sampler(Generator().manual_seed(0), top_k=40, top_p=0.9)(x)
        for x in (logits, logits.float())
    ]
    assert_identical(*drawn)


def test_no_token_of_probability_zero_is_drawn():
    """A distribution made in float16: with seed 20, PyTorch 2.13 draws token 5833 from it."""
    certain = torch.zeros(1, 151_936, dtype=torch.float16)
    certain[:, 0] = 1.0
    for seed in range(18, 23):
        assert draw(certain, Generator().manual_seed(seed)).tolist() == [0]


@every_half
def test_a_models_own_distribution_is_not_rounded(dtype):
    logits = torch.randn(3, 50).to(dtype)
    assert close(as_it_is(logits), logits.double().softmax(-1))


class Table(Reader):
    """A model whose next token depends on the last one: logits [last vocab]."""

    def __init__(self, table):
        super().__init__(lambda ids, cache: table[ids], None)


@every_half
def test_the_scores_of_a_beam_are_their_sums(dtype):
    """Sixty tokens of about 3 nats: in half precision the sum is wrong by whole nats."""
    for seed in range(5):
        table = torch.randn(50, 50, generator=Generator().manual_seed(seed)).to(dtype)
        found = beam_search(
            Table(table), torch.tensor([[1]]), beam=4, end_id=None, pad_id=0, max_new_tokens=60,
            penalty=power_penalty(0.0),
        )  # fmt: skip
        log_p = table.double().log_softmax(-1)
        true = [
            sum(log_p[a, b].item() for a, b in zip([1, *ids], ids, strict=False))
            for ids in found.ids[0].tolist()
        ]
        assert close(found.scores[0], torch.tensor(true), 1e-3)
        assert max(true) < true[0] + 1e-3, "the text put first is the likeliest"
        assert found.scores.dtype == torch.float32


@every_half
def test_a_beam_of_the_largest_logits_has_finite_scores(dtype):
    largest = 60_000 if dtype == torch.float16 else 2.0**100
    table = torch.tensor([[largest, -largest, 0.0]] * 3).to(dtype)
    how = {"end_id": None, "pad_id": 0, "max_new_tokens": 2, "penalty": power_penalty(0.0)}
    found = beam_search(Table(table), torch.tensor([[1]]), beam=3, **how)
    assert found.ids[0, 0].tolist() == [0, 0] and found.scores[0, 0].item() == 0.0
    assert abs(found.scores[0, 1].item() / -largest - 1) < 1e-3, "one 2 beside a 0"


@pytest.mark.parametrize(
    ("dtype", "p", "q"),
    [(torch.bfloat16, 192 / 256, 193 / 256), (torch.float16, 1467 / 2048, 1468 / 2048)],
)
def test_guesses_are_accepted_as_often_as_half_precision_says(dtype, p, q):
    """How many are, before one is refused: r / (1 - r) for r = p / q, within 5 standard errors.

    Both are numbers of the format; their ratio, and a random number's product, are not.
    """
    r, rounds = p / q, 1000
    n = int(15 * r / (1 - r))
    draft = torch.tensor([[q, 1 - q]], dtype=dtype).expand(n, -1)
    target = torch.tensor([[p, 1 - p]], dtype=dtype).expand(n + 1, -1)
    rng, guesses = Generator().manual_seed(0), torch.zeros(n, dtype=torch.long)
    accepted = [check_guesses(guesses, draft, target, rng)[0] for _ in range(rounds)]
    assert max(accepted) < n
    assert abs(sum(accepted) / rounds - r / (1 - r)) < 5 * r**0.5 / (1 - r) / rounds**0.5


@every_half
def test_speculation_in_half_precision_is_greedy_in_half_precision(dtype):
    table, other = torch.randn(2, 17, 17).to(dtype)
    how = {"end_id": 3, "pad_id": 0, "max_new_tokens": 12}
    for start in range(17):
        prompt = torch.tensor([[start]])
        done = speculative(
            Table(table), Table(other), prompt, Generator(), guesses=3, distribution=greedily, **how
        )
        assert_identical(done.ids, generate(Table(table), prompt, **how))


WRONG = {
    "NaN": [0.0, math.nan, 1.0],
    "infinity": [0.0, math.inf, 1.0],
    "two infinities": [math.inf, 0.0, math.inf],
    "nothing": [-math.inf, -math.inf, -math.inf],
}
cold, hot = {"temperature": 0.5}, {"temperature": 2.0}
CHOICES = {
    "greedy": greedy,
    "greedily": greedily,
    "as it is": as_it_is,
    **{
        f"sampled {setting}": Sampler(Generator(), **setting)
        for setting in (cold, hot, {"top_k": 2}, {"top_p": 0.5}, cold | {"top_k": 2, "top_p": 0.5})
    },
}


@every_dtype
@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_a_row_without_a_distribution_is_refused(choose, row, dtype):
    good = [0.0, 2.0, 1.0]
    choose(torch.tensor([good, good], dtype=dtype))
    with pytest.raises(ValueError, match="NaN or infinity, or only minus infinity"):
        choose(torch.tensor([good, row], dtype=dtype))


def said_after(*rows):
    """A model that says one row of logits after the other, whatever it is given."""
    return Reader(
        lambda ids, cache: torch.tensor(rows)[: ids.shape[1]].expand(len(ids), -1, -1), None
    )


@pytest.mark.parametrize("row", list(WRONG.values())[1:], ids=list(WRONG)[1:])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_search_refuses_what_has_no_distribution(row, late):
    good = [0.0, 2.0, 1.0]
    prompt = torch.zeros(1, 1, dtype=torch.long)
    how = {"end_id": 0, "pad_id": 0, "max_new_tokens": 3}
    said = [row if t == late else good for t in range(3)]
    with pytest.raises(ValueError, match="NaN or infinity, or only minus infinity"):
        beam_search(said_after(*said), prompt, beam=2, **how)
    for target, draft in ((said, [good] * 3), ([good] * 3, said)):
        if draft is said and late == 2:
            continue  # the last token is not guessed
        with pytest.raises(ValueError, match="NaN or infinity, or only minus infinity"):
            speculative(
                said_after(*target), said_after(*draft), prompt, Generator(),
                guesses=2, **how | {"end_id": None},
            )  # fmt: skip
