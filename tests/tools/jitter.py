"""A pytest plugin that moves every float result by a rounding error: `-p tests.tools.jitter`.

Another processor adds the terms of a product, a sum or a softmax in another order, and may take
another kernel for another number of rows, so that its result differs in the last places. No
setting of one processor shows every such difference. This shows them all: each result of an
operation that rounds more than once is multiplied, entry by entry, by 1 + e, where |e| is at most
`UNITS` units in the last place. Two computations of one number then hardly ever have equal bits,
and a test that asks for them fails. With `--nbval` the same happens in the notebooks' kernels,
except where time or memory is measured: moving a result takes both.

Numbers with few binary digits stay as they are: counts, halves, zeros behind a mask, the only
weight of a softmax over one key are exact on every processor, whatever the order. So are operations
that round once, as IEEE 754 prescribes. In half precision, where kernels sum in float32 and round
the result once, that is moved by one unit at most.
"""

import math
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from qa_lab.experiments import measures

ROOT = Path(__file__).parents[2]
UNITS = 4
SEED = 0
ROUND_MORE_THAN_ONCE = frozenset(
    "addbmm addcdiv addcmul addmm addmv addr baddbmm bmm cdist convolution convolution_backward cos"
    " cumprod cumsum dot einsum elu embedding_dense_backward erf exp exp2 expm1 gelu gelu_backward"
    " index_add lerp linalg_eigh linalg_qr linalg_svd linalg_vector_norm linear log log10 log1p"
    " log2 logaddexp logcumsumexp logsumexp lstm matmul mean mkldnn_linear mkldnn_rnn_layer"
    " mkldnn_rnn_layer_backward mm mse_loss mv native_batch_norm native_batch_norm_backward"
    " native_group_norm native_layer_norm native_layer_norm_backward nll_loss_forward norm pow prod"
    " rsqrt scatter_add sigmoid sigmoid_backward silu silu_backward sin softplus"
    " softplus_backward special_entr std sum tan tanh tanh_backward trace var var_mean vdot xlogy"
    " _fused_rms_norm _linalg_det _linalg_eigh _linalg_solve_ex _linalg_svd _log_softmax"
    " _log_softmax_backward_data _native_batch_norm_legit _scaled_dot_product_attention_math"
    " _scaled_dot_product_flash_attention_for_cpu"
    " _scaled_dot_product_flash_attention_for_cpu_backward _softmax _softmax_backward_data"
    " _thnn_fused_gru_cell _thnn_fused_lstm_cell".split()
)
METERS = ("seconds", "peak_bytes")  # of qa_lab.experiments.measures
STARTUP = f"""
import sys
sys.path.append({str(ROOT)!r})
from tests.tools import jitter
jitter.begin()
"""


class Jitter(TorchDispatchMode):
    """Let every operation run, and move what it returns by a few units in the last place."""

    def __init__(self):
        super().__init__()
        self.random = torch.Generator().manual_seed(SEED)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.split("::")[1]
        if name in ROUND_MORE_THAN_ONCE or name.removesuffix("_") in ROUND_MORE_THAN_ONCE:
            for tensor in tree_leaves(result):
                if type(tensor) is Tensor and tensor.is_cpu and tensor.is_floating_point():
                    self.move(tensor)
        return result

    def move(self, tensor: Tensor) -> None:
        """Multiply in place: what an operation returns belongs to nobody else yet."""
        eps = torch.finfo(tensor.dtype).eps
        half_of_the_digits = 2.0 ** (math.log2(eps) // 2)
        short = torch.frexp(tensor).mantissa % half_of_the_digits == 0
        most = eps if tensor.dtype in (torch.float16, torch.bfloat16) else UNITS * eps
        e = torch.empty_like(tensor).uniform_(-most, most, generator=self.random)
        tensor.mul_(1 + e.masked_fill(short, 0.0))


def begin() -> None:
    """Move everything in this process from here on, but while a meter runs."""
    for name in METERS:
        setattr(measures, name, _unmoved(getattr(measures, name)))
    Jitter().__enter__()


def _unmoved(meter):
    def measure(*args, **kwargs):
        with _disable_current_modes():
            return meter(*args, **kwargs)

    return measure


def pytest_configure(config) -> None:
    """From here on everything is moved, here or in the kernels that nbval starts."""
    if getattr(config.option, "nbval", False):
        config.jitter = tempfile.TemporaryDirectory()
        startup = Path(config.jitter.name, "profile_default", "startup", "jitter.py")
        startup.parent.mkdir(parents=True)
        startup.write_text(STARTUP)
        os.environ["IPYTHONDIR"] = config.jitter.name
    else:
        config.jitter = Jitter()
        config.jitter.__enter__()


def pytest_unconfigure(config) -> None:
    """Undo it."""
    if isinstance(config.jitter, Jitter):
        config.jitter.__exit__(None, None, None)
    else:
        config.jitter.cleanup()
