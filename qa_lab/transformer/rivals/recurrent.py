"""Recurrent models: the language model, and the classifier that reads both ways."""

from collections.abc import Callable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_ids
from qa_lab.transformer.attention import real_lengths
from qa_lab.transformer.layers import TokenEmbedding, Unembedding, every_token
from qa_lab.transformer.rivals.recurrent_cells import LSTM, Cell, State
from qa_lab.transformer.rivals.recurrent_stacks import BidirectionalStack, RecurrentStack


class RecurrentLM(nn.Module):
    """The recurrent language model: all that it knows of the past is its state.

    $$ logits_t = W_U h_t,  h_t = stack(embed(id_t), state_t) $$

    Paper: Mikolov et al. 2010, "Recurrent neural network based language model"; with LSTM layers,
        Zaremba et al. 2014, arXiv:1409.2329.
    Departs: the embedding matrix serves as W_U unless told otherwise, as in `DecoderOnly`.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of an embedding and of every layer, in features.
        n_layers: Layers.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        tied: Whether the embedding and W_U are one matrix.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_layers: int,
        *,
        cell: Cell = LSTM,
        tied: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.stack = RecurrentStack(d_model, d_model, n_layers, cell, dropout=dropout)
        self.unembedding = Unembedding(
            d_model, vocab_size, tied_to=self.embedding if tied else None
        )

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Predict, at each position, the token after it.

        Args:
            ids: Token ids, padded on the right.
            real: True at real tokens. None: all real.

        Returns:
            Logits. Position t depends on positions 0..t only.

        Raises:
            ValueError: An id lies outside the vocabulary, or padding is not on the right.
        """
        real_lengths(real, ids)  # only to refuse what would be read as text
        return self.unembedding(self.stack(self.embedding(ids))[0])

    def read(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
        states: list[State] | None = None,
    ) -> tuple[Float[Tensor, "batch length vocab"], list[State]]:
        """Predict as `forward` does, from where an earlier reading ended.

        Args:
            ids: Token ids, padded on the right.
            real: True at real tokens. None: all real.
            states: Where the earlier reading ended. None: at the very beginning.

        Returns:
            Logits, and the states after each row's last real token.

        Raises:
            ValueError: As `forward`, or the states are not those of this model and batch.
        """
        lengths = real_lengths(real, ids)
        ragged = real is not None and not bool(real.all())
        x, states = self.stack(self.embedding(ids), states, lengths if ragged else None)
        return self.unembedding(x), states

    def step(
        self, ids: Int[Tensor, " batch"], states: list[State] | None = None
    ) -> tuple[Float[Tensor, "batch vocab"], list[State]]:
        """Read one token of each row; its cost does not depend on how many went before.

        Args:
            ids: One token id for each row.
            states: After the tokens before it. None: there were none.

        Returns:
            Logits of the next token, and the states to take the next step from.

        Raises:
            ValueError: As `read`.
        """
        check_ids(ids, axes="batch")
        logits, states = self.read(ids[:, None], None, states)
        return logits[:, 0], states


class RecurrentClassifier(nn.Module):
    """The tagger or classifier: every row is read both ways, then logits over the classes.

    $$ logits = pool(stack(embed(ids))) W_C + b_C $$

    Paper: Graves and Schmidhuber 2005, "Framewise phoneme classification with bidirectional LSTM
        and other neural network architectures".

    Args:
        vocab_size: Tokens in the vocabulary.
        n_classes: Classes.
        d_model: Width of an embedding and of every layer, in features; even.
        n_layers: Pairs of layers.
        pool: `every_token` (tags), `mean_over_tokens` (one class for a row), or another.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        n_classes: int,
        d_model: int,
        n_layers: int,
        *,
        pool: Callable[[Tensor, Tensor | None], Tensor] = every_token,
        cell: Cell = LSTM,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least_one(n_classes=n_classes)
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.stack = BidirectionalStack(d_model, d_model, n_layers, cell, dropout=dropout)
        self.pool = pool
        self.W_C = nn.Linear(d_model, n_classes)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length classes"] | Float[Tensor, "batch classes"]:
        """Classify each token, or each row, as `pool` says.

        Args:
            ids: Token ids, padded on the right.
            real: True at real tokens. None: all real.

        Returns:
            Logits.

        Raises:
            ValueError: An id lies outside the vocabulary, or padding is not on the right.
        """
        x = self.stack(self.embedding(ids), real_lengths(real, ids))
        return self.W_C(self.pool(x, real))
