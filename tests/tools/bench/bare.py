"""GPT-2's greedy decoding as a bare loop of PyTorch calls: as fast as this can be made here.

No modules, no checks, one matrix for Q, K and V, a cache of the final size that is written in
place. It reads the weights out of the lab's model, and writes the same text.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from qa_lab.transformer.models import DecoderOnly

EPS = 1e-5


@torch.no_grad()
def bare_loop(model: DecoderOnly) -> Callable[[Tensor, int], Tensor]:
    """Take a GPT-2 apart.

    Args:
        model: Made by `presets.gpt2`; later changes of its weights are not noticed.

    Returns:
        From a prompt of one row and a number of tokens to what greedy decoding writes.
    """
    W_E, W_P, final = model.embedding.W_E, model.positions.W_P, model.stack.norm
    heads, d_k = model.stack.blocks[0].attention.n_heads, model.stack.blocks[0].attention.d_k
    blocks = [_weights(block) for block in model.stack.blocks]
    d_model = heads * d_k

    def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, (d_model,), gain, bias, EPS)

    @torch.no_grad()
    def write(prompt: Tensor, new: int) -> Tensor:
        seen, ids, written = 0, prompt, []
        total = prompt.shape[1] + new
        caches = [torch.empty(2, 1, heads, total, d_k) for _ in blocks]
        while True:
            n = ids.shape[1]
            x = F.embedding(ids, W_E) + W_P[seen : seen + n]
            for (norm_1, qkv, out, norm_2, widen, narrow), cache in zip(
                blocks, caches, strict=True
            ):
                q, k, v = F.linear(norm(x, *norm_1), *qkv).view(1, n, 3, heads, d_k).unbind(2)
                cache[0, :, :, seen : seen + n] = k.transpose(1, 2)
                cache[1, :, :, seen : seen + n] = v.transpose(1, 2)
                k, v = cache[:, :, :, : seen + n]
                found = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=n > 1)
                x = x + F.linear(found.transpose(1, 2).reshape(1, n, d_model), *out)
                h = F.gelu(F.linear(norm(x, *norm_2), *widen), approximate="tanh")
                x = x + F.linear(h, *narrow)
            seen += n
            logits = F.linear(norm(x[:, -1], final.gain, final.bias), W_E)
            ids = logits.argmax(-1, keepdim=True)
            written.append(ids)
            if len(written) == new:
                return torch.cat(written, dim=1)

    return write


def _weights(block: torch.nn.Module) -> tuple[tuple[Tensor, Tensor], ...]:
    """The block's parameters, in the order in which the loop needs them."""
    attention, feed_forward = block.attention, block.feed_forward
    three = attention.W_Q, attention.W_K, attention.W_V
    qkv = torch.cat([W.weight for W in three]), torch.cat([W.bias for W in three])
    out, widen, narrow = attention.W_O, feed_forward.W_1, feed_forward.W_2
    return (
        (block.attention_norm.gain, block.attention_norm.bias),
        qkv,
        (out.weight, out.bias),
        (block.feed_forward_norm.gain, block.feed_forward_norm.bias),
        (widen.weight, widen.bias),
        (narrow.weight, narrow.bias),
    )
