"""Rotary positions against rotation matrices, and what follows from them."""

import math
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.positions import (
    Rotary,
    halves_order,
    ntk_base,
    rotary,
    rotary_table,
    rotate_halves,
    rotate_interleaved,
)
from tests.comparing import assert_same

PAIRINGS = {
    rotate_interleaved: lambda i, width: (2 * i, 2 * i + 1),
    rotate_halves: lambda i, width: (i, i + width // 2),
}


def rotation(t, width, pairing, base=10000.0, stretch=1.0):
    """The whole matrix that turns a vector at position t, entry by entry."""
    matrix = torch.zeros(width, width)
    for i in range(width // 2):
        angle = t / stretch * math.pow(base, -2 * i / width)
        a, b = PAIRINGS[pairing](i, width)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("base, stretch", [(10000.0, 1.0), (50.0, 2.5)])
def test_rotary_is_a_rotation_matrix_at_each_position(
    oracle, twins, size, pairing, start, base, stretch
):
    rotate = Rotary(14, base=base, pairing=pairing, stretch=stretch)
    x, x2 = twins(size.batch, size.head, size.query, 14)
    matrices = [rotation(t, 14, pairing, base, stretch) for t in range(start, start + size.query)]
    expected = torch.einsum("tij,bhtj->bhti", torch.stack(matrices), x2)
    out = rotate(x, start) if start else rotate(x)
    oracle.agree(out, expected, slice(None), [], [x], [x2])


def test_what_nobody_asked_for_is_the_papers(oracle):
    x = torch.randn(2, 3, 5, 14)
    papers = Rotary(14, base=10000.0, pairing=rotate_interleaved, d_rotated=14, stretch=1.0)
    oracle.close(Rotary(14)(x, 3), papers(x, 3))
    cos, sin = rotary_table(8, 14, base=10000.0, stretch=1.0, dtype=torch.float64)
    assert_same(rotary_table(8, 14)[0], cos)
    assert_same(rotary_table(8, 14)[1], sin)
    assert Rotary(14).angle_dtype == torch.float64
    assert not list(Rotary(14).parameters()) and not Rotary(14).state_dict()


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_only_the_first_features_are_turned(oracle, twins, pairing):
    rotate = Rotary(14, pairing=pairing, d_rotated=6)
    x, x2 = twins(2, 3, 5, 14)
    matrix = torch.stack([rotation(t, 6, pairing) for t in range(4, 9)])
    expected = torch.cat([torch.einsum("tij,bhtj->bhti", matrix, x2[..., :6]), x2[..., 6:]], -1)
    oracle.agree(rotate(x, 4), expected, slice(None), [], [x], [x2])


@pytest.mark.parametrize("pairing", PAIRINGS)
@given(
    pairs=st.integers(1, 7),
    m=st.integers(0, 300),
    n=st.integers(0, 300),
    shift=st.integers(1, 300),
)
def test_a_score_depends_on_the_distance_only(pairing, pairs, m, n, shift):
    q, k = torch.randn(1, 1, 1, 2 * pairs), torch.randn(1, 1, 1, 2 * pairs)
    rotate = Rotary(2 * pairs, pairing=pairing)

    def score(m, n):
        return (rotate(q, m) * rotate(k, n)).sum().item()

    assert abs(score(m, n) - score(m + shift, n + shift)) < 1e-11
    # Controls: turning the query alone, or both by other angles, is noticed.
    assert abs(score(m, n) - score(m + 1, n)) > 1e-6
    assert abs(score(m, n) - (rotate(q, m) * k).sum().item()) > 1e-6 or n == 0
    lengths = rotate(q, m).norm(), q.norm()
    assert abs(lengths[0] - lengths[1]) < 1e-12


def test_the_order_of_halves_maps_one_pairing_to_the_other(oracle):
    order = halves_order(14)
    assert order.tolist() == [0, 2, 4, 6, 8, 10, 12, 1, 3, 5, 7, 9, 11, 13]
    x, memory = torch.randn(2, 3, 5, 14), torch.randn(2, 3, 7, 14)
    near, far = Rotary(14), Rotary(14, pairing=rotate_halves)
    oracle.close(far(x[..., order], 3), near(x, 3)[..., order])
    oracle.close(near(x[..., order.argsort()], 3), far(x, 3)[..., order.argsort()])
    scores = near(x) @ near(memory).mT
    oracle.close(far(x[..., order]) @ far(memory[..., order]).mT, scores, "scores")
    assert (far(x) @ far(memory).mT - scores).abs().max() > 0.1, "the pairing makes no difference"


def test_interpolation_puts_twice_the_positions_into_the_same_angles(oracle):
    x = torch.randn(1, 1, 1, 14)
    oracle.close(Rotary(14, stretch=2.0)(x, 10), Rotary(14)(x, 5))
    assert (Rotary(14, stretch=2.0)(x, 10) - Rotary(14)(x, 10)).abs().max() > 0.1


def test_the_ntk_base_stretches_the_slowest_pair_and_leaves_the_fastest():
    base = ntk_base(10000.0, 4.0, 14)
    slow, slower = math.pow(10000.0, -12 / 14), math.pow(base, -12 / 14)
    assert slower == pytest.approx(slow / 4, rel=1e-12)
    assert ntk_base(10000.0, 1.0, 14) == 10000.0
    assert ntk_base(3.0, 5.0, 4) == pytest.approx(75.0)
    with pytest.raises(ValueError, match=r"width of 3 has no slowest.*needs 4 or more"):
        ntk_base(10000.0, 4.0, 3)


def test_the_table_is_made_a_few_times_only_and_answers_stay_right(oracle, monkeypatch):
    rotate, x = Rotary(6), torch.randn(2, 3, 40, 6)
    expected = Rotary(6)(x)
    made, real = [], rotary.rotary_table
    monkeypatch.setattr(
        rotary, "rotary_table", lambda n, *a, **k: made.append(n) or real(n, *a, **k)
    )
    one_by_one = torch.cat([rotate(x[:, :, t : t + 1], t) for t in range(40)], 2)
    assert made == [2, 4, 8, 16, 32, 64]
    oracle.close(one_by_one, expected)
    rotate(x[:, :, :24], 40)  # ends with the table
    assert made == [2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_another_dtype_leaves_no_coarse_numbers_behind(oracle, dtype):
    rotate, x = Rotary(6), torch.randn(2, 3, 5, 6)
    expected = rotate(x, 7)
    coarse = rotate.to(dtype)(x.to(dtype), 7)
    assert coarse.dtype == dtype
    assert (coarse.double() - expected).abs().max() < 20 * torch.finfo(dtype).eps
    oracle.close(rotate(x, 7), expected)
    oracle.close(deepcopy(rotate)(x, 7), expected)


def test_float32_angles_are_coarser_and_only_where_asked_for():
    x = torch.ones(1, 1, 1, 6)
    gap = (Rotary(6, angle_dtype=torch.float32)(x, 5000) - Rotary(6)(x, 5000)).abs().max()
    assert 1e-7 < gap < 1e-2


def test_a_table_made_while_generating_serves_training():
    rotate, x = Rotary(6), torch.randn(2, 3, 5, 6, requires_grad=True)
    with torch.inference_mode():
        rotate(x.detach())
    rotate(x).square().sum().backward()
    assert torch.allclose(x.grad, 2 * x)  # a rotation keeps the squares


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"d_k": 7}, "width of 7 cannot be cut into pairs"),
        ({"d_k": 8, "d_rotated": 3}, "width of 3 cannot be cut into pairs"),
        ({"d_k": 8, "d_rotated": 0}, "width of 0 cannot be cut into pairs"),
        ({"d_k": 8, "d_rotated": 10}, "d_rotated = 10 features do not fit in d_k = 8"),
        ({"d_k": 8, "base": 0.0}, r"base = 0\.0 .* must be > 0"),
        ({"d_k": 8, "stretch": 0.0}, r"stretch = 0\.0 would stop or reverse.*give one > 0"),
    ],
)
def test_bad_choices_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rotary(**wrong)


def test_bad_inputs_are_refused():
    assert Rotary(8, d_rotated=8)(torch.zeros(1, 1, 2, 8)).shape == (1, 1, 2, 8)
    with pytest.raises(ValueError, match="x is 6 features wide; this rotation is for 8"):
        Rotary(8)(torch.zeros(1, 1, 2, 6))
    with pytest.raises(ValueError, match="start = -1: the first position is 0"):
        Rotary(8)(torch.zeros(1, 1, 2, 8), -1)
    with pytest.raises(ValueError, match="width of 5 is odd"):
        halves_order(5)
