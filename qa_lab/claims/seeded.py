"""Run a measurement over its seeds. The one part of a claim that needs torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from qa_lab.claims.sample import Sample, flatten


def sample(measure: Callable[..., Any], seeds: Sequence[int], changes: Mapping[str, Any]) -> Sample:
    """Every value of `measure` over the seeds, with torch's global generator put aside.

    Args:
        measure: Takes a seed and `changes`; where there are no seeds, `changes` alone.
        seeds: Empty for a measurement that draws nothing.
        changes: The control's arguments, or none.

    Raises:
        NotFinite: A value is NaN or infinite, or there is none.
        ValueError: The measurement draws at random and takes no seed.
    """
    with torch.random.fork_rng(devices=[]):
        return Sample(tuple(_values(measure, seeds, changes)))


def _values(measure, seeds, changes) -> Iterator[float]:
    if not seeds:
        before = torch.get_rng_state()
        yield from flatten(measure(**changes))
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError("The measurement draws at random, so it must take a seed.")
    for seed in seeds:
        torch.manual_seed(seed)
        yield from flatten(measure(seed, **changes))
