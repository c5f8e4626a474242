"""Markov sources: text whose next symbol depends on the last few, with its entropy in closed form.

A table [context symbol] holds the probability of each symbol after each context. With n symbols and
order k there are n^k contexts, the numbers that the last k symbols write in base n, the oldest
first: for n = 10 and k = 2, after the symbols 4 and 7 comes row 47. Symbol s has the id
FIRST_SYMBOL + s.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from qa_lab.experiments.data.tasks import FIRST_SYMBOL, START, Sentences, at_least, vocab_size


def dirichlet(
    rng: Generator, rows: int, columns: int, concentration: float = 1.0
) -> Float[Tensor, "{rows} {columns}"]:
    """Draw random distributions: how a source's table is made.

    Args:
        rng: Source of randomness.
        rows: Distributions.
        columns: Outcomes of each.
        concentration: Of the symmetric Dirichlet distribution, dimensionless: at 1 all are equally
            likely, below 1 they are peaked, above 1 nearly uniform.

    Returns:
        The rows, float64, each >= 0 with sum 1.

    Raises:
        ValueError: A count is below 1, or the concentration is not above 0.
    """
    at_least(1, rows=rows, columns=columns)
    if not concentration > 0:
        raise ValueError(f"concentration must be above 0; got {concentration}.")
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    table = np.random.default_rng(seed).dirichlet([concentration] * columns, size=rows)
    return torch.from_numpy(table)


def stationary_distribution(transition: Float[Tensor, "row row"]) -> Float[Tensor, " row"]:
    r"""Return the distribution that a Markov chain keeps once it has it.

    $$ \pi = \pi P,  \sum_i \pi_i = 1 $$

    Args:
        transition: P, from row to column; each row >= 0 with sum 1.

    Returns:
        pi, >= 0 with sum 1; exactly 0 in rows that the chain leaves for good.

    Raises:
        ValueError: The chain has several: it can end up in parts that it never leaves.
    """
    size = len(transition)
    reached = (transition > 0).double() + torch.eye(size, dtype=torch.float64)
    for _ in range(size.bit_length()):  # 1, 2, 4, ... steps
        reached = (reached @ reached).clamp(max=1)
    home = (reached > 0).all(dim=0)  # the rows that the chain returns to, wherever it begins
    if not home.any():
        raise ValueError(
            "no row can be reached from every row: the chain falls apart, and no single stationary "
            "distribution exists."
        )
    returning = int(home.sum())
    equations = transition[home][:, home].T - torch.eye(returning, dtype=transition.dtype)
    equations[-1] = 1.0  # one equation follows from the others: their sum is 0 = 0
    answer = torch.zeros(returning, dtype=transition.dtype)
    answer[-1] = 1.0
    pi = torch.zeros(size, dtype=transition.dtype)
    pi[home] = torch.linalg.solve(equations, answer)
    return pi / pi.sum()


def check_distributions(probabilities: Float[Tensor, "*rows column"], name: str) -> None:
    """Refuse rows that are no probability distributions.

    Raises:
        ValueError: A row has a negative entry, or does not sum to 1, or is not finite.
    """
    sums = probabilities.sum(-1)
    if not ((sums - 1).abs() < 1e-6).all() or (probabilities < 0).any():
        raise ValueError(
            f"each row of {name} must be >= 0 and sum to 1; the least entry is "
            f"{probabilities.min():.3g} and the sums run from {sums.min():.6g} to {sums.max():.6g}."
        )


def walk(
    rng: Generator,
    start: Float[Tensor, " row"],
    table: Float[Tensor, "row column"],
    following: Int[Tensor, "row column"],
    *,
    batch: int,
    steps: int,
) -> tuple[Int[Tensor, "{batch}"], Int[Tensor, "{batch} {steps}"]]:
    """Walk from row to row, each step by a column drawn from the row.

    Args:
        rng: Source of randomness.
        start: The distribution of the first row.
        table: The distribution of the column, given the row.
        following: The next row, given row and column.
        batch: Walks.
        steps: Columns to draw in each.

    Returns:
        The first row and the columns of each walk.
    """
    # numpy, since each step is a handful of numbers: torch's overhead makes it three times slower.
    here, double = rng.device, torch.float64
    luck = torch.rand(steps + 1, batch, 1, dtype=double, generator=rng, device=here).cpu().numpy()
    bounds, onward = _bounds(table), following.numpy()
    row = first = (_bounds(start) > luck[0]).argmax(axis=1)
    columns = np.empty((steps, batch), dtype=np.int64)
    for step in range(steps):
        columns[step] = (bounds.take(row, axis=0) > luck[step + 1]).argmax(axis=1)
        row = onward[row, columns[step]]
    return torch.from_numpy(first).to(here), torch.from_numpy(columns.T.copy()).to(here)


def _bounds(table: Float[Tensor, "*rows column"]) -> np.ndarray:
    """Upper ends of the intervals of [0, 1) that stand for the columns; the last is exactly 1."""
    cumulative = table.double().cumsum(-1)
    return (cumulative / cumulative[..., -1:]).numpy()


class MarkovSource:
    r"""Text whose next symbol depends on the last `order` ones and nothing else.

        source = MarkovSource(dirichlet(rng, 5**2, 5))  # order 2, five symbols
        make_batch = partial(source.draw, batch=64, length=32)

    $$ h_c = H(X_t | X_{t-c}, ..., X_{t-1}) = -\sum_{context} \pi(context) \sum_x p(x | context)
       \ln p(x | context) $$

    Paper: Edelman et al. 2024, arXiv:2402.11004, train Transformers on Markov chains with tables
        drawn from a Dirichlet distribution.
    Departs: one table for all sequences, so that a model may learn it by heart.

    Args:
        table: Rows of probabilities, n^order of them for n symbols; order 0 is one row.

    Attributes:
        order: Symbols that the next one depends on.
        n_symbols: Symbols.
        vocab_size: Ids that a model of this source needs.
        tables: The best predictions from the last 0, 1, ..., order symbols: [n^c n_symbols], NaN
            after symbols that never come together.
        entropies: h_0 to h_order, nats per token: the least expected loss of a model that sees 0,
            1, ..., order symbols back. They never rise.
        entropy_rate: The last of them: no model has less, whatever it sees.

    Raises:
        ValueError: The rows are no distributions, their number is no power of n, or the chain has
            several stationary distributions.
    """

    def __init__(self, table: Float[Tensor, "context symbol"]) -> None:
        check_distributions(table, "table")
        contexts, n = table.shape
        order = 0
        while n**order < contexts and n > 1:
            order += 1
        if n**order != contexts:
            raise ValueError(
                f"a table for {n} symbols needs {n}^order rows (1, {n}, {n**2}, ...); got "
                f"{contexts}."
            )
        self.order, self.n_symbols, self.vocab_size = order, n, vocab_size(n)
        self.following = (
            torch.arange(contexts)[:, None] * n + torch.arange(n)
        ) % contexts  # drops the oldest symbol
        table = table.double()
        transition = torch.zeros(contexts, contexts, dtype=torch.float64)
        transition.scatter_add_(1, self.following, table)
        self.stationary = stationary_distribution(transition)
        joint = self.stationary[:, None] * table
        self.tables, entropies = [], []
        for c in range(order + 1):
            seen = joint.view(n ** (order - c), n**c, n).sum(dim=0)  # forgets the oldest symbols
            entropies.append(torch.special.entr(seen).sum() - torch.special.entr(seen.sum(1)).sum())
            self.tables.append(seen / seen.sum(dim=1, keepdim=True))
        self.tables[order] = table  # also after contexts that never come
        self.entropies = torch.stack(entropies)
        self.entropy_rate = entropies[order].item()

    def draw(self, rng: Generator, *, batch: int, length: int) -> Sentences:
        """Draw stationary text: every stretch of it has the same distribution, the first too.

        Args:
            rng: Source of randomness.
            batch: Sequences.
            length: Symbols in each.

        Returns:
            START and `length` symbols, without END and padding.

        Raises:
            ValueError: A count is below 1.
        """
        at_least(1, batch=batch, length=length)
        first, rest = walk(
            rng,
            self.stationary,
            self.tables[-1],
            self.following,
            batch=batch,
            steps=max(0, length - self.order),
        )
        places = self.n_symbols ** torch.arange(self.order - 1, -1, -1, device=first.device)
        opening = first[:, None] // places % self.n_symbols
        symbols = FIRST_SYMBOL + torch.cat([opening, rest], dim=1)[:, :length]
        ids = torch.cat([symbols.new_full((batch, 1), START), symbols], dim=1)
        return Sentences(ids, torch.ones_like(ids, dtype=torch.bool))

    def predict(
        self, ids: Int[Tensor, "batch length"], context: int | None = None
    ) -> Float[Tensor, "batch length-1 vocab"]:
        """Predict each symbol from those before it, as well as anything can.

        Args:
            ids: START and symbols, from `draw`.
            context: How many symbols back the predictor sees. None: as many as help.

        Returns:
            The next id's probabilities after each id but the last, float64; 0 for PAD, START and
            END. From position `context` on, their expected `floors.surprisal` is
            `entropies[context]`, in nats.

        Raises:
            ValueError: `ids` is not START and symbols, the context is negative, or some of the
                symbols never come together.
        """
        context = self.order if context is None else min(context, self.order)
        at_least(0, context=context)
        symbols = symbols_after_start(ids, self.n_symbols)[:, :-1]
        predictions = torch.zeros(len(ids), ids.shape[1] - 1, self.vocab_size, dtype=torch.float64)
        seen = torch.zeros(len(ids), dtype=torch.long)
        for t in range(predictions.shape[1]):
            c = min(t, context)
            predictions[:, t, FIRST_SYMBOL:] = self.tables[c][seen % self.n_symbols**c]
            if t < symbols.shape[1]:
                seen = (seen * self.n_symbols + symbols[:, t]) % self.n_symbols**self.order
        if predictions.isnan().any():
            raise ValueError("ids holds symbols that this source never says in a row.")
        return predictions


def symbols_after_start(
    ids: Int[Tensor, "batch length"], n_symbols: int
) -> Int[Tensor, "batch length-1"]:
    """Return what comes after START, as numbers from 0 to n_symbols - 1.

    Raises:
        ValueError: A row does not begin with START or holds anything but symbols after it.
    """
    symbols = ids[:, 1:] - FIRST_SYMBOL
    if (ids[:, :1] != START).any() or ((symbols < 0) | (symbols >= n_symbols)).any():
        raise ValueError(
            f"ids must be START ({START}) and then symbols {FIRST_SYMBOL}.."
            f"{vocab_size(n_symbols) - 1}; got ids {ids.min()}..{ids.max()}."
        )
    return symbols
