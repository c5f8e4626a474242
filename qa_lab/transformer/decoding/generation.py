"""Writing a text token by token: the loop, whatever chooses the next token.

    reader = LanguageReader(model.eval())
    written = generate(reader, prompt, greedy, end_id=2, pad_id=0, max_new_tokens=50)

`greedy` is here, `Sampler` in `sampling`; `beam_search` and `speculative` have loops of their own.
"""

from collections.abc import Callable, Collection
from numbers import Integral

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qa_lab.transformer._checks import check_batch, check_ids, check_lengths
from qa_lab.transformer.decoding.readers import Reader

Choose = Callable[[Tensor], Tensor]
"""From the logits of the next token [batch vocab] to its ids [batch], as `greedy` does."""
Ends = int | Collection[int] | None
"""The tokens that end a text: one, several of which any will do, or none."""


def greedy(logits: Float[Tensor, "*batch vocab"]) -> Int[Tensor, "*batch"]:
    r"""Choose the likeliest token.

    $$ y = \arg\max_v logits_v $$

    Args:
        logits: Of the next token.

    Returns:
        Its id; of several that are equally likely, the smallest.

    Raises:
        ValueError: No token is the likeliest of a row: it holds NaN (which would be taken for the
            largest) or infinity, or nothing but minus infinity.
    """
    ids = logits.argmax(dim=-1)
    if not (logits.gather(-1, ids[..., None]).abs() < torch.inf).all():
        raise ValueError(
            "a row of logits holds NaN or infinity, or only minus infinity: no token is the "
            "likeliest."
        )
    return ids


@torch.no_grad()
def generate(
    reader: Reader,
    prompt: Int[Tensor, "batch prompt"],
    choose: Choose = greedy,
    *,
    end_id: Ends,
    pad_id: int,
    max_new_tokens: int,
    prompt_lengths: Int[Tensor, " batch"] | None = None,
) -> Int[Tensor, "batch {max_new_tokens}"]:
    """Write until every row has ended, or is long enough.

    $$ y_{t+1} = choose(logits(y_1 ... y_t)) $$

    Prompts of different lengths need no mask, and the model never reads their padding: the rows
    start together after the shortest prompt, and as long as a row still has prompt left, its next
    token is the prompt's and not the model's.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3: each step consumes the symbols
        generated before.

    Args:
        reader: Fresh, or having read what stands before the prompt.
        prompt: What the text begins with, one token at least: a start token will do. Padded on the
            right, if `prompt_lengths` says where.
        choose: From logits to the next token of each row: `greedy`, a `Sampler`.
        end_id: The token that ends a row, or several; part of the answer. None: no token does.
        pad_id: What fills a row after its end. Any token of the vocabulary.
        max_new_tokens: Tokens to write at most, the end included.
        prompt_lengths: Tokens of each prompt. None: all fill their row.

    Returns:
        What was written, without the prompt. In each row nothing but `pad_id` follows the first
        end.

    Raises:
        TypeError: The prompt, its lengths or the ends are not whole numbers.
        ValueError: max_new_tokens is less than 1, a prompt is empty or longer than its row, an end
            or pad_id lies outside the vocabulary, or the model answers with NaN.
    """
    lengths = check_prompts(prompt, prompt_lengths, max_new_tokens)
    ends = end_ids(end_id, prompt.device)
    batch, longest = prompt.shape
    text = prompt.new_full((batch, longest + max_new_tokens), pad_id)
    text[:, :longest] = prompt
    own = torch.arange(text.shape[1], device=prompt.device) >= lengths[:, None]
    text[own] = pad_id
    writing = torch.ones_like(lengths, dtype=torch.bool)
    first = int(lengths.min())
    logits = reader.read(text[:, :first])[:, -1]
    check_special(logits, ends, pad_id)
    for t in range(first, longest + max_new_tokens):
        chooses = writing & own[:, t]
        # A row that has ended, or has prompt left, has nothing to choose, whatever its logits are.
        logits = logits.masked_fill(~chooses[:, None], 0.0)
        text[:, t] = torch.where(chooses, choose(logits), text[:, t])
        writing = writing & ~(chooses & torch.isin(text[:, t], ends))
        writing = writing & (t + 1 < lengths + max_new_tokens)
        if not writing.any():
            break
        logits = reader.read(text[:, t : t + 1])[:, -1]
    written = lengths[:, None] + torch.arange(max_new_tokens, device=prompt.device)
    return text.gather(1, written)


def check_prompts(
    prompt: Int[Tensor, "batch prompt"],
    prompt_lengths: Int[Tensor, " batch"] | None,
    max_new_tokens: int,
) -> Int[Tensor, " batch"]:
    """Refuse what cannot be continued; return the length of each prompt, in tokens.

    Raises:
        TypeError: See `generate`.
        ValueError: See `generate`.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1 token; got {max_new_tokens}.")
    check_ids(prompt, "prompt")
    batch, longest = prompt.shape
    if not batch or not longest:
        raise ValueError(
            f"prompt has shape {list(prompt.shape)}: it needs a row and a token, a start token say."
        )
    if prompt_lengths is None:
        return torch.full((batch,), longest, device=prompt.device)
    check_lengths(prompt_lengths, 1, longest, "prompt_lengths")
    check_batch(prompt=prompt, prompt_lengths=prompt_lengths)
    return prompt_lengths.to(prompt.device)


def end_ids(end_id: Ends, device: torch.device) -> Int[Tensor, " end"]:
    """List the tokens that end a text, each once.

    Raises:
        TypeError: They are no token ids.
    """
    ids = () if end_id is None else end_id if isinstance(end_id, Collection) else (end_id,)
    if not all(isinstance(token, Integral) for token in ids):
        raise TypeError(f"end_id must be a token id, several of them, or None; got {end_id!r}.")
    return torch.tensor(sorted(set(ids)), dtype=torch.long, device=device)


def check_special(
    logits: Float[Tensor, "*batch vocab"], ends: Int[Tensor, " end"], pad_id: int
) -> None:
    """Refuse an end that no text can reach, and padding that no model can read.

    Raises:
        ValueError: One of the ids lies outside the vocabulary that the logits are of.
    """
    vocab = logits.shape[-1]
    for name, token in [*(("end_id", end) for end in ends.tolist()), ("pad_id", pad_id)]:
        if not 0 <= token < vocab:
            raise ValueError(f"{name} must lie in 0..{vocab - 1}, the vocabulary; got {token}.")
