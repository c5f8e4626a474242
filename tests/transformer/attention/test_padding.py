"""Where each row ends, against plain Python lists."""

from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_lab.transformer.attention import count_real, padding, real_lengths, reverse_real
from tests.comparing import assert_identical

X = torch.arange(3 * 5 * 2).view(3, 5, 2)
RIGHT = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)
HOLES = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)


def test_real_tokens_are_counted():
    assert real_lengths(RIGHT, X).tolist() == count_real(RIGHT, X).tolist() == [3, 5, 1]
    assert real_lengths(None, X).tolist() == count_real(None, X).tolist() == [5, 5, 5]
    assert count_real(HOLES, X).tolist() == [3, 3, 1]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 3))
def test_only_the_real_tokens_are_turned_around(lengths, d):
    x = torch.randn(len(lengths), 6, d)
    turned = reverse_real(x, torch.tensor(lengths))
    for row, mine, n in zip(x, turned, lengths, strict=True):
        expected = torch.cat([row[:n].flip(0), row[n:]])
        assert_identical(mine, expected, because="both are copies")
    again = reverse_real(turned, torch.tensor(lengths))
    assert_identical(again, x, because="both are copies")


def test_nothing_leaves_the_device_of_its_input():
    """The meta device holds no values, but it will not be mixed with another."""
    x = X.to("meta")
    lengths = count_real(None, x)
    assert lengths.device.type == reverse_real(x, lengths).device.type == "meta"


def test_padding_that_would_be_read_is_refused(monkeypatch):
    monkeypatch.setattr(padding, "count_real", unwrap(count_real))
    with pytest.raises(ValueError, match=r"row 1 of real has a real token to the right"):
        real_lengths(HOLES, X)
    for count in unwrap(real_lengths), unwrap(count_real):
        with pytest.raises(ValueError, match=r"row 2 of real has no real token"):
            count(torch.cat([RIGHT[:2], ~RIGHT[1:2]]), X)
        with pytest.raises(TypeError, match=r"torch\.bool.*got torch\.int64"):
            count(RIGHT.long(), X)
        with pytest.raises(ValueError, match=r"shape \[3, 4\].*\[batch length\] = \[3, 5\]"):
            count(RIGHT[:, :4], X)
