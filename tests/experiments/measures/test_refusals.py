import pytest

from qa_lab.experiments.measures import refused


def test_a_value_error_is_a_refusal():
    assert refused(lambda: int("seven")) == 1.0


def test_an_answer_is_none():
    assert refused(lambda: int("7")) == 0.0


def test_another_error_is_no_refusal():
    with pytest.raises(TypeError):
        refused(lambda: int(None))
