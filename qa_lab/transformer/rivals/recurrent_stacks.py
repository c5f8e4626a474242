"""Recurrent stacks: layers on top of each other, read in one direction or in both."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_batch, check_lengths, check_vectors
from qa_lab.transformer.attention import reverse_real
from qa_lab.transformer.rivals.recurrent_cells import LSTM, Cell, State, run_kernel, unroll


class RecurrentLayer(nn.Module):
    r"""A cell with weights of its own, read from left to right.

    $$ state_{t+1} = step(x_t, state_t; W, U, b_W, b_U),  out_t = state_{t+1, 0} $$

    Departs: all weights start uniform in +-1/sqrt(d_hidden), as in PyTorch.

    Args:
        d_in: Width of the input, in features.
        d_hidden: Width of the output and of each part of the state, in features.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.

    Raises:
        ValueError: A width is less than 1.
    """

    def __init__(self, d_in: int, d_hidden: int, cell: Cell = LSTM) -> None:
        super().__init__()
        if d_in < 1 or d_hidden < 1:
            raise ValueError(f"widths are at least 1; got d_in = {d_in}, d_hidden = {d_hidden}.")
        self.cell = cell
        self.d_in = d_in
        self.d_hidden = d_hidden
        rows = cell.n_gates * d_hidden
        shapes = {"W": (rows, d_in), "U": (rows, d_hidden), "b_W": (rows,), "b_U": (rows,)}
        for name, shape in shapes.items():
            start = torch.empty(shape).uniform_(-(d_hidden**-0.5), d_hidden**-0.5)
            self.register_parameter(name, nn.Parameter(start))

    def forward(
        self,
        x: Float[Tensor, "batch length d_in"],
        state: State | None = None,
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch length d_hidden"], State]:
        """Read the tokens, by the cell's kernel unless rows end at different places.

        Padding on the right cannot reach the outputs before it. Give `lengths` only when the state
        will be read on from: the loop that then runs is slower than the kernel.

        Args:
            x: Tokens.
            state: Before the first token. None: zeros.
            lengths: Real tokens of each row. None: all.

        Returns:
            The output after each token, and the state after each row's last real one, in float32
            at least.

        Raises:
            ValueError: x is not [batch length d_in], holds no token, the state is not one for this
                batch and cell, or a length is not that of a row.
        """
        if not x.numel():
            raise ValueError(f"no token to read: x has shape {list(x.shape)}.")
        check_vectors(x, self.d_in)  # PyTorch's LSTM would read a narrower x without a word
        if lengths is not None:
            check_lengths(lengths, 1, x.shape[1])
            check_batch(x=x, lengths=lengths)
        state = self.start(x) if state is None else state
        shapes = [tuple(part.shape) for part in state]
        if shapes != [(len(x), self.d_hidden)] * self.cell.n_states:
            raise ValueError(
                f"this layer's state is {self.cell.n_states} x [batch d_hidden] = "
                f"{[len(x), self.d_hidden]}; got {[list(shape) for shape in shapes]}."
            )
        weights = (self.W, self.U, self.b_W, self.b_U)
        if self.cell.kernel is None or lengths is not None:
            return unroll(self.cell.step, x, state, weights, lengths)
        return run_kernel(self.cell.kernel, x, state, weights)

    def start(self, x: Float[Tensor, "batch length d_in"]) -> State:
        """Return the state before anything was read: zeros."""
        return (x.new_zeros(len(x), self.d_hidden),) * self.cell.n_states


class RecurrentStack(nn.Module):
    """Recurrent layers on top of each other, read from left to right.

    $$ x <- layer_n(... layer_1(x)) $$

    Paper: dropout on what goes up, never on what goes on in time, is Zaremba et al. 2014,
        arXiv:1409.2329.

    Args:
        d_in: Width of the input, in features.
        d_hidden: Width of every layer, in features.
        n_layers: Layers.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        dropout: Probability of dropping from each layer's input and from the output, in [0, 1).

    Raises:
        ValueError: There is no layer, or a width is less than 1.
    """

    def __init__(
        self, d_in: int, d_hidden: int, n_layers: int, cell: Cell = LSTM, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            RecurrentLayer(width, d_hidden, cell)
            for width in input_widths(d_in, d_hidden, n_layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length d_in"],
        states: list[State] | None = None,
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch length d_hidden"], list[State]]:
        """Read the tokens; see `RecurrentLayer.forward`.

        Args:
            x: Tokens.
            states: Of every layer, before the first token. None: zeros.
            lengths: Real tokens of each row. None: all.

        Returns:
            The top layer's output after each token, and every layer's state after the last.

        Raises:
            ValueError: There are no tokens, or the states are not those of these layers.
        """
        if states is not None and len(states) != len(self.layers):
            raise ValueError(f"{len(self.layers)} layers need a state each; got {len(states)}.")
        ends = []
        for layer, state in zip(self.layers, states or [None] * len(self.layers), strict=True):
            x, end = layer(self.dropout(x), state, lengths)
            ends.append(end)
        return self.dropout(x), ends


class BidirectionalStack(nn.Module):
    """Pairs of recurrent layers: one reads from the left, the other from the right.

    $$ x_t <- [right_t(x_0 ... x_t); left_t(x_t ... x_{n-1})], with n the row's real length $$

    Paper: Schuster and Paliwal 1997, "Bidirectional Recurrent Neural Networks".

    Args:
        d_in: Width of the input, in features.
        d_hidden: Width of the output of every pair, in features; each direction has half.
        n_layers: Pairs.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        dropout: Probability of dropping from each pair's input and from the output, in [0, 1).

    Raises:
        ValueError: d_hidden is odd, there is no layer, or a width is less than 1.
    """

    def __init__(
        self, d_in: int, d_hidden: int, n_layers: int, cell: Cell = LSTM, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if d_hidden % 2:
            raise ValueError(f"two directions share d_hidden = {d_hidden} features: give it even.")
        widths = input_widths(d_in, d_hidden, n_layers)
        self.right = nn.ModuleList(RecurrentLayer(width, d_hidden // 2, cell) for width in widths)
        self.left = nn.ModuleList(RecurrentLayer(width, d_hidden // 2, cell) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_in"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length d_hidden"]:
        """Read each row both ways, the leftward layers from its last real token.

        Args:
            x: Tokens.
            lengths: Real tokens of each row.

        Returns:
            One vector for each token; at real tokens the padding has no part in it.

        Raises:
            ValueError: x is not [batch length d_in], holds no token, or a length is not that of a
                row.
        """
        check_lengths(lengths, 1, x.shape[1])
        for right, left in zip(self.right, self.left, strict=True):
            x = self.dropout(x)
            seen_from_right = reverse_real(left(reverse_real(x, lengths))[0], lengths)
            x = torch.cat([right(x)[0], seen_from_right], dim=-1)
        return self.dropout(x)


def input_widths(d_in: int, d_hidden: int, n_layers: int) -> list[int]:
    """Return the width of each layer's input: the first reads x, the others what is below them.

    Args:
        d_in: Width of x, in features.
        d_hidden: Width of every layer's output, in features.
        n_layers: Layers.

    Returns:
        One width for each layer, in features.

    Raises:
        ValueError: There is no layer.
    """
    if n_layers < 1:
        raise ValueError(f"n_layers = {n_layers}: a stack has at least 1 layer.")
    return [d_in] + [d_hidden] * (n_layers - 1)
