r"""Hidden Markov sources: a regular grammar with probabilities, and its best predictor.

A source walks between states that nobody sees and says a symbol at each step. Its edges
[state symbol next] hold the probability to say the symbol and go to the next state. If state and
symbol settle the next state (a *unifilar* source), the entropy rate has a closed form; if not, it
lies between two bounds that close quickly.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from qa_lab.experiments.data.floors import MOST_SEQUENCES
from qa_lab.experiments.data.markov import (
    check_distributions,
    stationary_distribution,
    symbols_after_start,
    walk,
)
from qa_lab.experiments.data.tasks import FIRST_SYMBOL, START, Sentences, at_least, vocab_size


def golden_mean(p: float = 0.5) -> Float[Tensor, "2 2 2"]:
    """Never say 0 twice in a row: 1 0 1 1 0 1.

    After a 1 comes another with probability p; after a 0 always a 1. A Markov source of order 1,
    for p = 1/2 with an entropy rate of 2/3 bit.

    Paper: Crutchfield and Feldman 2001, arXiv:cond-mat/0102181.

    Args:
        p: Probability of 1 after 1, dimensionless, in (0, 1).

    Returns:
        The edges of a unifilar source.

    Raises:
        ValueError: p is not in (0, 1).
    """
    _check_share(p)
    edges = torch.zeros(2, 2, 2, dtype=torch.float64)
    edges[0, 1, 0], edges[0, 0, 1] = p, 1 - p
    edges[1, 1, 0] = 1.0
    return edges


def even_process(p: float = 0.5) -> Float[Tensor, "2 2 2"]:
    """Say 1 an even number of times between zeros: 0 1 1 0 0 1 1 1 1 0.

    After a whole number of pairs of ones, another pair begins with probability p. No finite number
    of symbols back is always enough to predict the next one: whether a run of ones is even so far
    can depend on its beginning. For p = 1/2 the entropy rate is 2/3 bit.

    Paper: Crutchfield and Feldman 2001, arXiv:cond-mat/0102181.

    Args:
        p: Probability of a pair of ones, dimensionless, in (0, 1).

    Returns:
        The edges of a unifilar source.

    Raises:
        ValueError: p is not in (0, 1).
    """
    _check_share(p)
    edges = torch.zeros(2, 2, 2, dtype=torch.float64)
    edges[0, 0, 0], edges[0, 1, 1] = 1 - p, p
    edges[1, 1, 0] = 1.0
    return edges


def state_emitting(
    transition: Float[Tensor, "state state"], emission: Float[Tensor, "state symbol"]
) -> Float[Tensor, "state symbol state"]:
    r"""Return the edges of the textbook hidden Markov model: say a symbol, then move on.

    $$ edges_{sxn} = emission_{sx} transition_{sn} $$

    With rows drawn by `markov.dirichlet` it makes a random source, in general not unifilar.

    Args:
        transition: From state to next state; each row >= 0 with sum 1.
        emission: From state to symbol; each row >= 0 with sum 1.

    Returns:
        The edges: symbol and next state are independent, given the state.

    Raises:
        ValueError: A row is no distribution, or the tables have not as many states.
    """
    check_distributions(transition, "transition")
    check_distributions(emission, "emission")
    states = len(transition)
    if transition.shape != (states, states) or len(emission) != states:
        raise ValueError(
            f"transition must be [state state] and emission [state symbol]; got "
            f"{list(transition.shape)} and {list(emission.shape)}."
        )
    return emission[:, :, None] * transition[:, None, :]


class HiddenMarkovSource:
    r"""Text said by a walk between hidden states.

        source = HiddenMarkovSource(even_process())
        make_batch = partial(source.draw, batch=64, length=32)

    The best predictor holds a belief, a distribution over the states, and learns from each symbol:

    $$ belief_n \propto \sum_s belief_s edges_{sxn} $$

    Paper: Shai et al. 2024, arXiv:2405.15943: Transformers trained on such sources come to hold
        these beliefs.

    Args:
        edges: Probability of symbol and next state, given the state.

    Attributes:
        n_symbols: Symbols.
        vocab_size: Ids that a model of this source needs.
        stationary: How often each state is visited; the belief before the first symbol.
        unifilar: Whether state and symbol settle the next state.

    Raises:
        ValueError: The probabilities out of a state do not sum to 1, or the states fall apart.
    """

    def __init__(self, edges: Float[Tensor, "state symbol state"]) -> None:
        check_distributions(edges.flatten(1), "edges (symbol and next state together)")
        self.edges = edges.double()
        self.n_symbols = edges.shape[1]
        self.vocab_size = vocab_size(self.n_symbols)
        self.stationary = stationary_distribution(self.edges.sum(dim=1))
        self.unifilar = bool(((edges > 0).sum(dim=2) <= 1).all())
        self._says = self.edges.sum(dim=2)  # [state symbol]

    @property
    def entropy_rate(self) -> float:
        r"""The least expected loss of any model with any context, nats per token.

        $$ h = -\sum_s \pi_s \sum_x p(x | s) \ln p(x | s) $$

        Raises:
            ValueError: The source is not unifilar: use `entropy_rate_bounds`.
        """
        if not self.unifilar:
            raise ValueError(
                "the entropy rate has no closed form, since state and symbol leave the next state "
                "open; entropy_rate_bounds(length) encloses it."
            )
        return (self.stationary @ torch.special.entr(self._says).sum(dim=1)).item()

    def position_entropies(
        self, length: int, start: Float[Tensor, " state"] | None = None
    ) -> Float[Tensor, "{length}"]:
        r"""Return the least expected loss at each position, by listing every text that can be said.

        $$ h_t = H(X_t | X_0, ..., X_{t-1}),  t = 0, ..., length - 1 $$

        Args:
            length: Positions. Texts are listed up to length - 1 symbols.
            start: The distribution of the state before the first symbol. None: the stationary one.

        Returns:
            h_t in nats, exact. From the stationary start they never rise, and tend to the entropy
            rate: they are also the floors of a model that sees t symbols back.

        Raises:
            ValueError: The length is below 1, or there are too many texts to list.
        """
        at_least(1, length=length)
        texts = (self.stationary if start is None else start.double())[None]  # [text state]
        entropies = []
        for t in range(length):
            if t:
                texts = torch.einsum("ts,sxn->txn", texts, self.edges).flatten(0, 1)
                texts = texts[texts.sum(dim=1) > 0]
            if len(texts) * self.n_symbols > MOST_SEQUENCES:
                raise ValueError(f"more than {MOST_SEQUENCES} texts of length {t + 1} to list.")
            share = texts.sum(dim=1)
            following = (texts / share[:, None]) @ self._says
            entropies.append(share @ torch.special.entr(following).sum(dim=1))
        return torch.stack(entropies)

    def entropy_rate_bounds(self, length: int) -> tuple[float, float]:
        r"""Enclose the entropy rate of any source: knowing the first state helps, forgetting hurts.

        $$ H(X_t | X_{<t}, S_0) \le h \le H(X_t | X_{<t}),  t = length - 1 $$

        Args:
            length: Symbols to look at; the bounds close as it grows.

        Returns:
            The lower and the upper bound, nats per token.

        Raises:
            ValueError: The length is below 1, or there are too many texts to list.
        """
        states = torch.eye(len(self.stationary), dtype=torch.float64)
        known = torch.stack([self.position_entropies(length, start)[-1] for start in states])
        return (self.stationary @ known).item(), self.position_entropies(length)[-1].item()

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
        states = len(self.stationary)
        table = self.edges.flatten(1)  # column = symbol * states + next state
        following = (torch.arange(table.shape[1]) % states).expand(states, -1)
        _, taken = walk(rng, self.stationary, table, following, batch=batch, steps=length)
        symbols = FIRST_SYMBOL + taken // states
        ids = torch.cat([symbols.new_full((batch, 1), START), symbols], dim=1)
        return Sentences(ids, torch.ones_like(ids, dtype=torch.bool))

    def predict(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length-1 vocab"]:
        """Predict each symbol from all before it, as well as anything can: the forward algorithm.

        Args:
            ids: START and symbols, from `draw`.

        Returns:
            The next id's probabilities after each id but the last, float64; 0 for PAD, START and
            END. Their expected `floors.surprisal` at position t is `position_entropies`[t].

        Raises:
            ValueError: `ids` is not START and symbols, or holds a text that is never said.
        """
        symbols = symbols_after_start(ids, self.n_symbols)
        predictions = torch.zeros(len(ids), ids.shape[1] - 1, self.vocab_size, dtype=torch.float64)
        belief = self.stationary.expand(len(ids), -1)
        moves = self.edges.movedim(1, 0)  # [symbol state next]
        for t in range(predictions.shape[1]):
            predictions[:, t, FIRST_SYMBOL:] = belief @ self._says
            belief = (belief[:, None] @ moves[symbols[:, t]])[:, 0]
            said = belief.sum(dim=1, keepdim=True)
            if (said == 0).any():
                raise ValueError(f"ids holds a text that this source never says, at symbol {t}.")
            belief = belief / said
        return predictions


def _check_share(p: float) -> None:
    if not 0 < p < 1:
        raise ValueError(f"p must lie strictly between 0 and 1; got {p}.")
