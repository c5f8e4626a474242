"""From token ids to vectors, and from vectors back to logits over the vocabulary."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_ids, check_width, to_be_read
from qa_lab.transformer._sharing import is_same


class TokenEmbedding(nn.Module):
    r"""Look up a learned vector for each token id.

    $$ x_t = factor * W_E[id_t],  factor = \sqrt{d_{model}} $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.4.
    Departs: the paper is silent on the initial values; ours are N(0, 1/d_model), so that embeddings
        start with variance 1, and so do logits of normalised vectors under a tied W_U.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of an embedding, in features.
        factor: Dimensionless. None: sqrt(d_model).

    Raises:
        ValueError: A size is less than 1.
    """

    def __init__(self, vocab_size: int, d_model: int, *, factor: float | None = None) -> None:
        super().__init__()
        check_at_least_one(vocab_size=vocab_size, d_model=d_model)
        self.W_E = nn.Parameter(torch.randn(vocab_size, d_model) * d_model**-0.5)
        self.factor = d_model**0.5 if factor is None else factor

    def forward(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        """Embed the tokens.

        Args:
            ids: Token ids, 0 <= id < vocab_size.

        Returns:
            The embeddings.

        Raises:
            TypeError: The ids are not whole numbers.
            ValueError: The ids are not [batch length], there are none, or one lies outside the
                vocabulary.
        """
        check_ids(ids)
        if not ids.numel():
            raise ValueError(f"no token to embed: ids has shape {list(ids.shape)}.")
        if to_be_read(ids) and not 0 <= ids.min() <= ids.max() < len(self.W_E):
            low, high = (int(end) for end in ids.aminmax())
            raise ValueError(
                f"token ids must lie in 0..{len(self.W_E) - 1}, the vocabulary; got {low}..{high}."
            )
        return self.factor * F.embedding(ids, self.W_E)


class Unembedding(nn.Module):
    """Score every token of the vocabulary.

    $$ logits = factor * x W_U^T $$

    A tied one has no matrix. It asks the embedding for its own at every call, so that there is
    nothing that copying, converting or loading could tear apart, and a saved model holds the matrix
    once. Who replaces a model's embedding by another makes another unembedding, too.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.4: W_U may be the very matrix of the
        embeddings.
    Departs: a W_U of its own starts at N(0, 1/d_model); the paper is silent.

    Args:
        d_model: Width of a vector, in features.
        vocab_size: Tokens in the vocabulary.
        tied_to: The embedding whose W_E serves as W_U. None: a matrix of its own.
        factor: Dimensionless. T5 has 1/sqrt(d_model) where W_U is tied.

    Raises:
        ValueError: A size is less than 1, or not that of the embedding.
    """

    # In a tuple, where nn.Module does not see it: the embedding is part of the model already.
    owner: tuple[TokenEmbedding, ...] = ()

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        *,
        tied_to: TokenEmbedding | None = None,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        check_at_least_one(d_model=d_model, vocab_size=vocab_size)
        self.factor = factor
        if tied_to is None:
            self.W_U = nn.Parameter(torch.randn(vocab_size, d_model) * d_model**-0.5)
        elif tied_to.W_E.shape != (vocab_size, d_model):
            raise ValueError(
                f"tied_to holds [vocab d_model] = {list(tied_to.W_E.shape)}; W_U must be "
                f"{[vocab_size, d_model]}."
            )
        else:
            self.owner = (tied_to,)

    def __getattr__(self, name: str) -> object:
        """Find in the embedding the W_U that a tied unembedding does not have."""
        if name == "W_U" and self.owner:
            return self.owner[0].W_E
        return super().__getattr__(name)

    def forward(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length vocab"]:
        """Score the vocabulary at each position.

        Args:
            x: The last residual stream.

        Returns:
            The logits, dimensionless: log probabilities up to one constant for each position.

        Raises:
            TypeError: x holds whole numbers.
            ValueError: x is of another width.
        """
        check_width(x, self.W_U.shape[-1])
        logits = F.linear(x, self.W_U)
        return logits if self.factor == 1 else self.factor * logits

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *others: object
    ) -> None:
        """Pass over a W_U saved beside the W_E it is tied to, as models once did, if it is equal.

        The embedding stands before its unembedding in a model, and is loaded before it.
        """
        saved = state_dict.pop(prefix + "W_U", None) if self.owner else None
        if saved is not None and not is_same(saved, self.W_U):
            others[-1].append(
                f"{prefix}W_U was saved with values other than those of the embedding, to which it "
                "is tied here. Make the model with tied=False to load both."
            )
        super()._load_from_state_dict(state_dict, prefix, *others)
