"""Sequence to sequence without a Transformer: a recurrent encoder, a recurrent decoder."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_batch, check_ids, check_vectors
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention import real_lengths
from qa_lab.transformer.layers import TokenEmbedding, Unembedding
from qa_lab.transformer.rivals.recurrent_cells import GRU, Cell, State
from qa_lab.transformer.rivals.recurrent_stacks import BidirectionalStack
from qa_lab.transformer.rivals.seq2seq_decoders import (
    AttendedContext,
    BahdanauDecoder,
    MakeContext,
    summary,
)


class Seq2Seq(nn.Module):
    """The recurrent encoder-decoder, called as `Transformer` is.

    $$ memory = encoder(embed(source)),  logits = decoder(embed(target), memory) W_U^T $$

    Paper: Bahdanau et al. 2015, arXiv:1409.0473; without attention, Cho et al. 2014,
        arXiv:1406.1078, and Sutskever et al. 2014, arXiv:1409.3215.
    Departs: the two directions of the encoder share d_model features, so that memory and states
        have one width; and the decoder's first state is made of the ends of both, where Bahdanau et
        al. take the leftward one's.

    Args:
        vocab_size: Tokens in the vocabulary that source and target share.
        d_model: Width of embeddings, states and memory, in features; even.
        n_layers: Layers in the encoder, and again in the decoder.
        cell: `RNN`, `GRU`, `LSTM`, or a `Cell` of one's own.
        decoder: `BahdanauDecoder`, `LuongDecoder`, or another called like them.
        context: Makes a context, `context(d_model)`: `AttendedContext`, or without attention
            `FixedContext`.
        tied: Whether both embeddings and W_U are one matrix.
        dropout: Probability of dropping, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_layers: int = 1,
        *,
        cell: Cell = GRU,
        decoder: Callable[..., nn.Module] = BahdanauDecoder,
        context: MakeContext = AttendedContext,
        tied: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.source_embedding = TokenEmbedding(vocab_size, d_model)
        self.target_embedding = (
            self.source_embedding if tied else TokenEmbedding(vocab_size, d_model)
        )
        self.encoder = BidirectionalStack(d_model, d_model, n_layers, cell, dropout=dropout)
        self.decoder = decoder(d_model, n_layers, cell, context, dropout)
        self.parts = (n_layers, cell.n_states, d_model)
        self.W_init = nn.Linear(d_model, n_layers * cell.n_states * d_model)
        self.unembedding = Unembedding(
            d_model, vocab_size, tied_to=self.target_embedding if tied else None
        )
        register_once(self)

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_real: Bool[Tensor, "batch source"] | None = None,
        target_real: Bool[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Predict, at each target position, the token after it.

        Args:
            source_ids: The source, padded on the right.
            target_ids: The target, beginning with the start token, padded on the right.
            source_real: True at real source tokens. None: all real.
            target_real: True at real target tokens. None: all real.

        Returns:
            Logits. Position t depends on the source and on target positions 0..t only.

        Raises:
            ValueError: An id lies outside the vocabulary, or padding is not on the right.
        """
        memory = self.encode(source_ids, source_real)
        return self.decode(target_ids, memory, target_real, source_real)

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """Read the source both ways into a memory, one vector for each token."""
        lengths = real_lengths(source_real, source_ids)
        return self.encoder(self.source_embedding(source_ids), lengths)

    def decode(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        target_real: Bool[Tensor, "batch target"] | None = None,
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Predict each next target token from the memory; see `forward`."""
        return self.decode_with_weights(target_ids, memory, target_real, source_real)[0]

    def decode_with_weights(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        target_real: Bool[Tensor, "batch target"] | None = None,
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch target vocab"], Float[Tensor, "batch target source"] | None]:
        """Predict as `decode` does, and tell where each prediction looked.

        Returns:
            Logits, and each target position's weights over the source: each row is >= 0 and sums to
            1. None for weights if the context has none.
        """
        real_lengths(target_real, target_ids)  # only to refuse what would be read as text
        check_vectors(memory, self.parts[-1], "memory")
        check_batch(target_ids=target_ids, memory=memory)
        y = self.target_embedding(target_ids)
        start = self.start(memory, source_real)
        out, weights, _ = self.decoder(y, memory, source_real, start)
        return self.unembedding(out), weights

    def start(
        self,
        memory: Float[Tensor, "batch source d_model"],
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> list[State]:
        """Make the decoder's states before its first token out of the source's summary."""
        first = torch.tanh(self.W_init(summary(memory, source_real)))
        return [layer.unbind(1) for layer in first.unflatten(-1, self.parts).unbind(1)]

    def step(
        self,
        target_ids: Int[Tensor, " batch"],
        states: list[State],
        memory: Float[Tensor, "batch source d_model"],
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch vocab"], list[State]]:
        """Read one target token of each row; the states stand for all before it.

        Args:
            target_ids: One token id for each row.
            states: After the tokens before it: of `start`, or of the last step.
            memory: The encoder's output.
            source_real: True at real source tokens. None: all real.

        Returns:
            Logits of the next token, and the states to take the next step from.
        """
        check_ids(target_ids, "target_ids", "batch")
        y = self.target_embedding(target_ids[:, None])
        out, _, states = self.decoder(y, memory, source_real, states)
        return self.unembedding(out)[:, 0], states
