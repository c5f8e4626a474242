"""What turns a source and a target so far into the next target token: contexts and decoders.

What the decoder knows of the source at each step is its context vector. `AttendedContext` looks for
it anew at every step; `FixedContext` is the control, one vector for the whole source. Bahdanau's
decoder asks before it updates its state, Luong's after.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qa_lab.transformer.attention import AdditiveScores, ScoredAttention, Scores, real_lengths
from qa_lab.transformer.rivals.recurrent_cells import Cell, State
from qa_lab.transformer.rivals.recurrent_stacks import RecurrentStack

Weights = Float[Tensor, "batch query source"] | None
"""How much each query looks at each source token; None: it does not look."""


def summary(
    memory: Float[Tensor, "batch source d_model"],
    real: Bool[Tensor, "batch source"] | None = None,
) -> Float[Tensor, "batch d_model"]:
    """Return one vector for the whole source: where each direction of the encoder ended.

    $$ c = [right_{n-1}; left_0] $$

    Args:
        memory: The encoder's output; its first half was read from the left.
        real: True at real source tokens. None: all real.

    Returns:
        The last output of either direction, after all n real tokens.
    """
    half = memory.shape[-1] // 2
    rows = torch.arange(len(memory), device=memory.device)
    last = memory[rows, real_lengths(real, memory) - 1]
    return torch.cat([last[:, :half], memory[:, 0, half:]], dim=-1)


class AttendedContext(nn.Module):
    r"""Look for the context in the whole memory, anew for each query.

    $$ c_i = \sum_j \alpha_{ij} h_j,  \alpha_i = softmax_j(scores(s_i, h_j)) $$

    Paper: Bahdanau et al. 2015, arXiv:1409.0473; Luong et al. 2015, arXiv:1508.04025 (global
        attention).

    Args:
        d_model: Width of a query and of the memory, in features.
        scores: Makes a score function, `scores(d_query, d_memory)`: `AdditiveScores`,
            `BilinearScores`, or another.
    """

    def __init__(
        self, d_model: int, *, scores: Callable[[int, int], Scores] = AdditiveScores
    ) -> None:
        super().__init__()
        self.attention = ScoredAttention(scores(d_model, d_model))

    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query d_model"], Weights]:
        """Attend to the memory.

        Args:
            query: The decoder's states.
            memory: The encoder's output.
            real: True at real source tokens. None: all real.

        Returns:
            A context vector for each query, and its weights: each row is >= 0 and sums to 1.
        """
        look = None if real is None else real[:, None, :]
        return self.attention(query, memory, memory, look)


class FixedContext(nn.Module):
    """Give every query the same context: the summary of the source. The control.

    $$ c_i = c $$

    Paper: Cho et al. 2014, arXiv:1406.1078, whose decoder sees one vector at every step.
    Departs: the encoder reads both ways, so that the attention is all that is missing.

    Args:
        d_model: Width of a query and of the memory, in features. Nothing is learned.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query d_model"], Weights]:
        """Ignore what the query asks.

        Args:
            query: The decoder's states; only their number counts.
            memory: The encoder's output.
            real: True at real source tokens. None: all real.

        Returns:
            The summary, once for each query, and None: there are no weights.
        """
        return summary(memory, real)[:, None].expand(-1, query.shape[1], -1), None


MakeContext = Callable[[int], nn.Module]
"""Makes a context, `context(d_model)`, called as `context(query, memory, real)`."""


class BahdanauDecoder(nn.Module):
    r"""Ask with the old state; what comes back takes part in the new one.

    $$ c_i = context(s_{i-1}),  s_i = stack([y_i; c_i], s_{i-1}),
       out_i = \tanh(W_o [s_i; c_i; y_i]) $$

    y_i is the embedding of the last token known, from which the next is predicted.

    Paper: Bahdanau et al. 2015, arXiv:1409.0473.
    Departs: a tanh layer where the paper has a maxout layer.

    Args:
        d_model: Width of embeddings, states and memory, in features.
        n_layers: Layers; the top one asks.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        context: Makes a context, `context(d_model)`.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self, d_model: int, n_layers: int, cell: Cell, context: MakeContext, dropout: float
    ) -> None:
        super().__init__()
        self.context = context(d_model)
        self.stack = RecurrentStack(2 * d_model, d_model, n_layers, cell, dropout=dropout)
        self.W_o = nn.Linear(3 * d_model, d_model)

    def forward(
        self,
        y: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch source"] | None,
        states: list[State],
    ) -> tuple[Float[Tensor, "batch target d_model"], Weights, list[State]]:
        """Take one step after another, since each question waits for the step before it.

        Args:
            y: Embedded target tokens.
            memory: The encoder's output.
            real: True at real source tokens. None: all real.
            states: Of every layer, before the first token.

        Returns:
            The output for each token, the weights of its context, and the states after the last.
        """
        s, c, weights = [], [], []
        for t in range(y.shape[1]):
            query = states[-1][0][:, None].to(y)  # states are in float32 at least
            context, weight = self.context(query, memory, real)
            out, states = self.stack(torch.cat([y[:, t : t + 1], context], dim=-1), states)
            s.append(out), c.append(context), weights.append(weight)
        features = torch.cat([torch.cat(s, dim=1), torch.cat(c, dim=1), y], dim=-1)
        weights = None if weights[0] is None else torch.cat(weights, dim=1)
        return torch.tanh(self.W_o(features)), weights, states


class LuongDecoder(nn.Module):
    r"""Update the state first, then ask with it: all steps can ask at once.

    $$ s_i = stack(y_i, s_{i-1}),  c_i = context(s_i),  out_i = \tanh(W_c [c_i; s_i]) $$

    Paper: Luong et al. 2015, arXiv:1508.04025.
    Departs: no input feeding: out_i is not part of the next step's input, so that the states do not
        wait for the attention.

    Args:
        d_model: Width of embeddings, states and memory, in features.
        n_layers: Layers; the top one asks.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        context: Makes a context, `context(d_model)`.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self, d_model: int, n_layers: int, cell: Cell, context: MakeContext, dropout: float
    ) -> None:
        super().__init__()
        self.context = context(d_model)
        self.stack = RecurrentStack(d_model, d_model, n_layers, cell, dropout=dropout)
        self.W_c = nn.Linear(2 * d_model, d_model)

    def forward(
        self,
        y: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        real: Bool[Tensor, "batch source"] | None,
        states: list[State],
    ) -> tuple[Float[Tensor, "batch target d_model"], Weights, list[State]]:
        """Read the target, then attend for every token of it; see `BahdanauDecoder.forward`."""
        s, states = self.stack(y, states)
        c, weights = self.context(s, memory, real)
        return torch.tanh(self.W_c(torch.cat([c, s], dim=-1))), weights, states
