"""Recurrent cells: what one step makes of one token and of the state so far.

A step function is called as `step(x, state, W, U, b_W, b_U)` and gives the next state, a tuple
whose first entry is the output. A `Cell` names a step function and says what it needs; a cell of
one's own, or a broken one, is another `Cell`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qa_lab.transformer._precision import in_float32

State = tuple[Tensor, ...]
"""What a cell remembers: one tensor [batch d_hidden] or more; the first is its output."""

OneState = tuple[Float[Tensor, "batch d_hidden"]]
TwoStates = tuple[Float[Tensor, "batch d_hidden"], Float[Tensor, "batch d_hidden"]]


def rnn_step(
    x: Float[Tensor, "batch d_in"],
    state: OneState,
    W: Float[Tensor, "d_hidden d_in"],
    U: Float[Tensor, "d_hidden d_hidden"],
    b_W: Float[Tensor, " d_hidden"],
    b_U: Float[Tensor, " d_hidden"],
) -> OneState:
    r"""Mix the token with the state, and bend.

    $$ h' = \tanh(W x + b_W + U h + b_U) $$

    Paper: Elman 1990, Cognitive Science 14, "Finding Structure in Time".
    Departs: tanh for the logistic function, and a second bias, which only the GRU needs, as in
        PyTorch.

    Args:
        x: One token of each sequence.
        state: (h,).
        W: From the token.
        U: From the state.
        b_W: Bias of W x.
        b_U: Bias of U h.

    Returns:
        (h',), each entry in (-1, 1).
    """
    (h,) = state
    return (torch.tanh(F.linear(x, W, b_W) + F.linear(h, U, b_U)),)


def gru_step(
    x: Float[Tensor, "batch d_in"],
    state: OneState,
    W: Float[Tensor, "three_d_hidden d_in"],
    U: Float[Tensor, "three_d_hidden d_hidden"],
    b_W: Float[Tensor, " three_d_hidden"],
    b_U: Float[Tensor, " three_d_hidden"],
) -> OneState:
    r"""Keep some of the state, and overwrite the rest by a candidate.

    $$ r = \sigma(W_r x + b_{Wr} + U_r h + b_{Ur}),  z = \sigma(W_z x + b_{Wz} + U_z h + b_{Uz}), $$
    $$ n = \tanh(W_n x + b_{Wn} + r (U_n h + b_{Un})),  h' = (1 - z) n + z h $$

    The rows of W, U and the biases are those of r, z and n, one above the other.

    Paper: Cho et al. 2014, arXiv:1406.1078.
    Departs: the reset gate r scales U_n h, as in the paper's first version, in cuDNN and in
        PyTorch; in its last version r scales h.

    Args:
        x: One token of each sequence.
        state: (h,).
        W: From the token.
        U: From the state.
        b_W: Bias of W x.
        b_U: Bias of U h.

    Returns:
        (h',), each entry between the candidate's and the state's.
    """
    (h,) = state
    r_W, z_W, n_W = F.linear(x, W, b_W).chunk(3, dim=-1)
    r_U, z_U, n_U = F.linear(h, U, b_U).chunk(3, dim=-1)
    r, z = torch.sigmoid(r_W + r_U), torch.sigmoid(z_W + z_U)
    return ((1 - z) * torch.tanh(n_W + r * n_U) + z * h,)


def lstm_step(
    x: Float[Tensor, "batch d_in"],
    state: TwoStates,
    W: Float[Tensor, "four_d_hidden d_in"],
    U: Float[Tensor, "four_d_hidden d_hidden"],
    b_W: Float[Tensor, " four_d_hidden"],
    b_U: Float[Tensor, " four_d_hidden"],
) -> TwoStates:
    r"""Forget some of the memory, add something to it, and show some of it.

    $$ (i, f, o) = \sigma(W x + b_W + U h + b_U),  g = \tanh(W_g x + b_{Wg} + U_g h + b_{Ug}), $$
    $$ c' = f c + i g,  h' = o \tanh(c') $$

    The rows of W, U and the biases are those of i, f, g and o, one above the other. Where f is 1
    and i is 0 the memory c passes unchanged, and so does its gradient.

    Paper: Hochreiter and Schmidhuber 1997, Neural Computation 9; the forget gate f is Gers et al.
        2000, Neural Computation 12.
    Departs: a second bias, which only the GRU needs, as in PyTorch.

    Args:
        x: One token of each sequence.
        state: (h, c).
        W: From the token.
        U: From the state.
        b_W: Bias of W x.
        b_U: Bias of U h.

    Returns:
        (h', c'), each entry of h' in (-1, 1).
    """
    h, c = state
    i, f, g, o = (F.linear(x, W, b_W) + F.linear(h, U, b_U)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@dataclass(frozen=True)
class Cell:
    """A step function, and what a layer must know to run it.

    Args:
        step: Called as `step(x, state, W, U, b_W, b_U)`, gives the next state.
        n_gates: Rows of W and U, as a multiple of d_hidden.
        n_states: Tensors in the state.
        kernel: PyTorch's kernel for the same step over a whole sequence. None: the step function
            itself runs, in a loop over time.
    """

    step: Callable[..., State]
    n_gates: int
    n_states: int
    kernel: Callable[..., tuple[Tensor, ...]] | None = None


RNN = Cell(rnn_step, n_gates=1, n_states=1, kernel=torch.rnn_tanh)
GRU = Cell(gru_step, n_gates=3, n_states=1, kernel=torch.gru)
LSTM = Cell(lstm_step, n_gates=4, n_states=2, kernel=torch.lstm)


@in_float32
def unroll(
    step: Callable[..., State],
    x: Float[Tensor, "batch length d_in"],
    state: State,
    weights: tuple[Tensor, ...],
    lengths: Int[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch length d_hidden"], State]:
    r"""Take one step after another, and stop each row at its own end.

    $$ state_{t+1} = step(x_t, state_t) for t < n,  state_t otherwise $$

    Args:
        step: A step function.
        x: Tokens.
        state: Before the first token.
        weights: The rest of what `step` is called with: W, U, b_W, b_U.
        lengths: n, the real tokens of each row. None: all.

    Returns:
        The output after each token, and the state after each row's last real one, in float32 at
        least: rounded at every step, a state that changes little would stop changing.
    """
    outputs = []
    for t in range(x.shape[1]):
        following = step(x[:, t], state, *weights)
        if lengths is not None:
            reading = (t < lengths)[:, None]
            following = tuple(
                torch.where(reading, new, old) for new, old in zip(following, state, strict=True)
            )
        state = following
        outputs.append(state[0])
    return torch.stack(outputs, dim=1), state


@in_float32
def run_kernel(
    kernel: Callable[..., tuple[Tensor, ...]],
    x: Float[Tensor, "batch length d_in"],
    state: State,
    weights: tuple[Tensor, ...],
) -> tuple[Float[Tensor, "batch length d_hidden"], State]:
    """Do what `unroll` does without lengths, by PyTorch's kernel for a whole sequence.

    Args:
        kernel: `torch.rnn_tanh`, `torch.gru` or `torch.lstm`.
        x: Tokens.
        state: Before the first token.
        weights: W, U, b_W, b_U.

    Returns:
        The output after each token, and the state after the last, in float32 at least.
    """
    start = [part.unsqueeze(0) for part in state]  # the kernels count layers and directions here
    out, *end = kernel(
        x,
        start if len(start) > 1 else start[0],
        weights,
        True,  # has biases
        1,  # layers
        0.0,  # dropout between layers
        True,  # training: keep what backward needs
        False,  # bidirectional
        True,  # batch first
    )
    return out, tuple(part.squeeze(0) for part in end)
