"""GPT-2 on one page beside the lab's own; beside Hugging Face's it stands in test_hf_presets."""

import ast
import math
from pathlib import Path

import pytest
import torch

from qa_lab.transformer.models import one_page, presets
from tests.comparing import assert_differs, assert_identical, assert_same

SIZES = (17, 22, 2, 13, 3, 7)


@pytest.fixture
def pair():
    """The page, and the lab's model with the same random weights, gains and biases included."""
    page = one_page.GPT2(*SIZES)
    with torch.no_grad():
        for parameter in page.parameters():
            parameter.normal_(std=0.3)
    lab = presets.gpt2(*SIZES[:-1], max_length=SIZES[-1]).eval()
    lab.load_state_dict({in_the_lab(name): value for name, value in page.state_dict().items()})
    return page, lab


def in_the_lab(name):
    name = {"W_E": "embedding.W_E", "W_P": "positions.W_P"}.get(name, f"stack.{name}")
    return name.replace("norm.weight", "norm.gain")


def test_names_and_logits_are_the_labs(pair):
    page, lab = pair
    ids = torch.randint(17, (3, 7))
    logits = page(ids)
    assert (logits - lab(ids)).abs().max() <= 1e-10 and logits.std() > 0.1
    short = page(ids[:, :1])
    assert (short - logits[:, :1]).abs().max() <= 1e-12


def test_the_loss_is_the_surprise_at_the_next_token(pair):
    page, lab = pair
    ids = torch.randint(17, (3, 7))
    surprise = [
        -lab(ids)[row, t].softmax(-1)[ids[row, t + 1]].log() for row in range(3) for t in range(6)
    ]
    assert abs(one_page.loss(page, ids) - sum(surprise) / len(surprise)) <= 1e-10


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_a_text_is_drawn_from_the_labs_probabilities(pair, temperature):
    """Token by token with the same random numbers, and beyond the table of positions."""
    page, lab = pair
    start = torch.randint(17, (3, 4))
    torch.manual_seed(7)
    text = one_page.generate(page, start, 6, temperature)
    torch.manual_seed(7)
    expected = start
    for _ in range(6):
        last = lab(expected[:, -7:])[:, -1] / temperature
        expected = torch.cat([expected, torch.multinomial(last.softmax(-1), 1)], dim=1)
    assert_identical(text, expected)
    assert not text.requires_grad and text.shape == (3, 10)
    torch.manual_seed(7)
    hotter = one_page.generate(page, start, 6, 30.0)
    assert_differs(hotter.double(), text.double())


def test_the_first_weights_are_those_of_gpt2():
    """Radford 2019, section 2.3; standard errors of the deviations are below 1 %."""
    page = one_page.GPT2(101, 64, 4, 128, 3, 90)
    small = 0.02 / math.sqrt(6)
    for name, parameter in page.named_parameters():
        if parameter.ndim > 1:
            std = small if "W_O" in name or "W_2" in name else 0.02
            assert 0.95 < parameter.std() / std < 1.05, name
        else:
            assert_same(parameter, torch.full_like(parameter, not name.endswith("bias")))


def test_it_imports_nothing_but_torch():
    tree = ast.parse(Path(one_page.__file__).read_text(encoding="utf-8"))
    imports = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imports == {"math", "torch"}
