"""Greedy decoding."""

import pytest
import torch

from qa_lab.transformer.decoding import greedy_decode
from qa_lab.transformer.masks import real_tokens
from qa_lab.transformer.models import Transformer

IDS = {"start_id": 1, "end_id": 2, "pad_id": 0}


@pytest.fixture
def model(size):
    model = Transformer(size.vocab, size.d_model, size.head, size.d_ff, 2, tied=False)
    for parameter in model.parameters():
        if parameter.ndim == 2:  # far from the start, where the source hardly matters
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


def test_each_row_is_what_it_would_be_alone_and_unpadded(model, size):
    source = torch.randint(3, size.vocab, (11, size.key))
    lengths = torch.randint(1, size.key + 1, (11,))
    end = 5  # an untrained model rarely says 2, so let another id end a row
    ids = IDS | {"end_id": end}
    together = greedy_decode(model, source, real_tokens(lengths, size.key), max_length=7, **ids)
    assert together.shape == (11, 7)
    with_padding = greedy_decode(model, source, max_length=7, **ids)
    assert not torch.equal(with_padding, together), "the mask should matter here"
    for row, tokens, n in zip(together.tolist(), source, lengths, strict=True):
        expected = [1]
        while len(expected) < 8 and expected[-1] != end:
            logits = model(tokens[None, :n], torch.tensor([expected]))
            expected.append(int(logits[0, -1].argmax()))
        assert row == expected[1:] + [0] * (8 - len(expected))


def test_nothing_follows_the_end(model, size, monkeypatch):
    """Row 0 ends after 1 token, row 1 after 3, row 2 never."""
    says = torch.tensor([[2, 9, 9, 9], [9, 9, 2, 9], [9, 9, 9, 9]])
    widths = []

    def decode(target_ids, memory, target_keep=None, source_keep=None):
        widths.append(target_ids.shape[1])
        assert (target_ids[:, 0] == 1).all()
        logits = torch.zeros(3, target_ids.shape[1], size.vocab)
        logits[torch.arange(3), -1, says[:, target_ids.shape[1] - 1]] = 1.0
        return logits

    monkeypatch.setattr(model, "decode", decode)
    source = torch.full((3, 5), 4)
    out = greedy_decode(model, source, max_length=4, **IDS)
    assert out.tolist() == [[2, 0, 0, 0], [9, 9, 2, 0], [9, 9, 9, 9]]
    assert widths == [1, 2, 3, 4]
    says[2] = 2
    widths.clear()
    assert greedy_decode(model, source, max_length=4, **IDS)[2].tolist() == [2, 0, 0, 0]
    assert widths == [1, 2, 3], "went on after every row had ended"


def test_at_least_one_token_must_be_asked_for(model):
    with pytest.raises(ValueError, match="max_length must be at least 1 token; got 0"):
        greedy_decode(model, torch.tensor([[3]]), max_length=0, **IDS)
