"""The stand-in for a GPU refuses what a GPU refuses, and nothing else."""

import pytest
import torch
from torch import Generator

from tests.comparing import assert_identical
from tests.elsewhere import CPU, CUDA, elsewhere, far_generator, there

HERE, FAR = torch.tensor([1.0, 2.0, 3.0]), there(torch.tensor([1.0, 2.0, 3.0]))

REFUSED = {
    "a sum": lambda: FAR + HERE,
    "a choice": lambda: torch.where(FAR > 1, FAR, HERE),
    "a list": lambda: torch.cat([FAR, HERE]),
    "an index from the GPU": lambda: HERE[there(torch.tensor([1]))],
    "a place from the GPU": lambda: HERE.clone().__setitem__(FAR > 1, 0.0),
    "a scalar of the GPU": lambda: HERE + FAR[0],
    "a draw here by a generator there": lambda: torch.rand(3, generator=far_generator(0)),
    "a draw there by a generator here": lambda: torch.rand(3, generator=Generator(), device=CUDA),
    "a token there by a generator here": lambda: torch.multinomial(FAR, 1, generator=Generator()),
    "a token here by a generator there": lambda: torch.multinomial(
        HERE, 1, generator=far_generator(0)
    ),
    "numpy": lambda: FAR.numpy(),
}


@pytest.mark.parametrize("meeting", REFUSED.values(), ids=REFUSED)
def test_two_devices_do_not_meet(meeting):
    with elsewhere(), pytest.raises((RuntimeError, TypeError), match=r"device|generator"):
        meeting()


def test_what_a_gpu_allows_is_allowed():
    with elsewhere():
        assert FAR.device == CUDA and HERE.device == CPU
        assert (
            (FAR + HERE[0]).device == (2 * FAR).device == FAR[torch.tensor([0, 2])].device == CUDA
        )
        assert FAR.cpu().device == FAR.to(HERE).device == FAR.to("cpu").device == CPU
        assert HERE.to(CUDA).device == HERE.to(FAR).device == torch.zeros_like(FAR).device == CUDA
        assert FAR.new_ones(3).device == torch.ones(3, device=CUDA).device == CUDA
        assert FAR.topk(2).indices.device == CUDA
        assert_identical(FAR.cpu(), HERE, because="a copy")
        copied = HERE.clone()
        copied[0] = FAR[1]
        assert copied.copy_(FAR).device == CPU
        assert_identical(
            torch.rand(3, generator=far_generator(5), device=CUDA).cpu(),
            torch.rand(3, generator=Generator().manual_seed(5)),
            because="both are drawn from one seed",
        )


def test_what_is_moved_is_a_copy():
    with elsewhere():
        back = FAR.cpu()
        back[0] = 9.0
        assert FAR[0].item() == 1.0
        far = HERE.to(CUDA)
        far.mul_(2.0)
        assert HERE.tolist() == [1.0, 2.0, 3.0] and far.tolist() == [2.0, 4.0, 6.0]


def test_what_is_looked_at_is_a_view():
    with elsewhere():
        grown = torch.zeros(3, device=CUDA)
        assert grown.add_(1.0) is grown
        grown[1:].copy_(FAR[:2])
        grown.narrow(0, 0, 1)[:] = 7.0
        assert grown.tolist() == [7.0, 1.0, 2.0]
