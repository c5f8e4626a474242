"""Every test: one thread, and the shapes in the signatures checked at run time."""

import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
install_import_hook(["qa_lab.transformer", "qa_lab.experiments"], "beartype.beartype")
