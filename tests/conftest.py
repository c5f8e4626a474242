"""Every test: one thread, shapes checked at run time, the same random examples every time."""

import hypothesis
import jaxtyping
import torch

from tests.tools.shapes import check_once

torch.set_num_threads(1)
jaxtyping.jaxtyped = check_once
jaxtyping.install_import_hook(["qa_lab.transformer", "qa_lab.experiments"], "beartype.beartype")

# A red build must be red again on the next machine: examples are drawn, but always the same ones.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=20, database=None
)
hypothesis.settings.load_profile("repeatable")
