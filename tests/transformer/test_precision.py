"""What lifts half precision to float32, and what rounds the result."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from qa_lab.transformer._precision import (
    at_least_float32,
    call_in_float32,
    in_float32,
)
from qa_lab.transformer.layers import BatchNorm, LayerNorm
from qa_lab.transformer.positions import Alibi
from tests.comparing import assert_identical

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def seen_in(seen):
    """Make a formula that writes down the precision of all that it is given."""

    def note(value):
        if isinstance(value, tuple):
            [note(part) for part in value]
        else:
            seen.append(getattr(value, "dtype", value))

    @in_float32
    def formula(*args, **kwargs):
        note(args), note(tuple(kwargs.values()))
        return args[0], args[1]

    return formula


@HALVES
def test_all_numbers_are_lifted_and_the_first_result_is_rounded(dtype):
    seen, x = [], torch.ones(3, dtype=dtype)
    mask, ids = torch.ones(3, dtype=torch.bool), torch.arange(3)
    first, second = seen_in(seen)(x, Pair(x, mask), None, (x, ids), scale=2.0, bias=x)
    single = torch.float32
    assert seen == [single, single, torch.bool, None, single, torch.int64, 2.0, single]
    assert first.dtype == dtype
    assert isinstance(second, Pair) and second.a.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_other_numbers_pass_as_they_are(dtype):
    x = torch.ones(3, dtype=dtype)
    assert at_least_float32(x) is x
    assert seen_in([])(x, x)[0] is x


@HALVES
def test_whole_numbers_are_not_rounded(dtype):
    largest = in_float32(lambda x: x.argmax())
    assert largest(torch.arange(5000.0).to(dtype)).dtype == torch.int64


def test_the_first_tensor_decides_wherever_it_stands():
    @in_float32
    def scaled(factor, x):
        return factor * x

    half = torch.ones(3, dtype=torch.float16)
    assert scaled(2.0, half).dtype == scaled(factor=2.0, x=half).dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_rounds_nothing_inside(dtype):
    """1 + 2^-10 is no number of bfloat16."""
    x = torch.tensor([[1.0, 2.0**-10]], dtype=dtype)
    total = in_float32(lambda x: (x @ torch.ones(2, 1, dtype=torch.float32) - 1) * 2**10)
    with torch.autocast("cpu", torch.bfloat16):
        assert total(x).item() == 1 and total(x).dtype == dtype
        assert (x @ torch.ones(2, 1, dtype=torch.float32)).dtype == torch.bfloat16
    assert torch.is_autocast_enabled("cpu") is False


@HALVES
def test_a_module_is_called_in_float32_and_left_as_it_is(dtype):
    module, heard = nn.Linear(2, 1, bias=False).to(dtype), []
    module.register_forward_hook(lambda *_: heard.append(1))
    with torch.no_grad():
        module.weight.fill_(1)
    x = torch.tensor([[300.0, 2.0**-10]], dtype=torch.float32)
    out = call_in_float32(module, x)
    assert out.item() == pytest.approx(300 + 2**-10, rel=1e-6) and out.dtype == torch.float32
    assert module.weight.dtype == dtype and heard == [1]
    out.backward()
    assert module.weight.grad.dtype == dtype


@HALVES
def test_running_statistics_stay_in_float32(dtype):
    """In bfloat16 the way from 1 to 2.4 ends at 2.25: 0.05 of the rest is rounded away."""
    norm = BatchNorm(3, count_padding=True, momentum=0.05).float().to(dtype)
    x = (1.2**0.5 * torch.tensor([1.0, -1.0])).expand(3, -1).T[None].to(dtype)
    for _ in range(150):
        norm(x)
    assert norm.running_variance.dtype == torch.float32
    unbiased = 2 * x.double().square().mean()  # of two positions, divided by n - 1
    assert norm.running_variance.allclose(unbiased.float(), rtol=0.01)

    saved = {name: value.to(dtype) for name, value in norm.state_dict().items()}
    norm.load_state_dict(saved, assign=True)
    assert norm(x).dtype == norm.eval()(x).dtype == dtype


@HALVES
def test_alibi_tells_distant_positions_apart(dtype):
    bias = Alibi(1).float().to(dtype)(1, 100_001)[0, 0]
    assert bias.dtype == torch.float32 and bias[0].item() == -100_000 / 256
    steps = bias.diff()
    assert_identical(steps, torch.full_like(steps, 1 / 256), "whole numbers times a power of two")
    torch.set_default_dtype(dtype)  # as some libraries make a model in half precision
    try:
        assert Alibi(12).slopes.dtype == torch.float32
        assert BatchNorm(3, count_padding=True).running_mean.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float64)


@HALVES
def test_a_constant_token_that_nobody_reads_has_no_gradient(dtype):
    """BERT's eps is 1e-12, so that 1/sigma is 10^6 where padding is all zeros."""
    x = torch.zeros(1, 2, 8, dtype=dtype)
    x[0, 0] = torch.randn(8)
    norm = LayerNorm(8, eps=1e-12).to(dtype)
    (gradient,) = torch.autograd.grad(norm(x.requires_grad_())[0, 0, 1], x)
    assert (gradient[0, 1] == 0).all() and (gradient[0, 0] != 0).any()
