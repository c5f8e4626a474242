"""What is compared: the lab beside PyTorch's layers and Hugging Face's models.

Every time is a median of runs that alternate, ours and theirs, in one process, so that a slow
moment of the machine falls on both.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.claims.bounds import Bound, at_least, at_most
from qa_lab.experiments.measures import Run, peak_bytes, seconds
from qa_lab.transformer.attention import chunked_attention, scaled_dot_product_attention
from qa_lab.transformer.decoding import LanguageReader, generate
from qa_lab.transformer.models import EncoderBlock
from qa_lab.transformer.models.presets import gpt2
from qa_lab.transformer.training import cross_entropy
from tests.tools.bench.bare import bare_loop


@dataclass(frozen=True)
class Result:
    """Two numbers, ours and theirs, and what their ratio should be."""

    what: dict[str, str]
    unit: str
    ours: float
    theirs: float
    goal: Bound
    note: dict[str, str]

    @property
    def ratio(self) -> float:
        """Ours over theirs, dimensionless."""
        return self.ours / self.theirs

    @property
    def met(self) -> bool:
        """Whether the ratio is what it should be."""
        return self.goal.met_by(self.ratio)

    def as_json(self) -> dict:
        """The fields, four digits each."""
        numbers = {
            name: float(f"{getattr(self, name):.4g}") for name in ("ours", "theirs", "ratio")
        }
        goal = {"goal": self.goal.data(), "unit": self.unit}
        return {"what": self.what, **numbers, **goal, "note": self.note}


def encoder_layer(batch: int, length: int, d_model: int, rounds: int) -> Result:
    """One layer forwards and backwards, beside PyTorch's."""
    x = torch.randn(batch, length, d_model, requires_grad=True)
    mine = EncoderBlock(d_model, 8, 4 * d_model)
    torchs = nn.TransformerEncoderLayer(d_model, 8, 4 * d_model, dropout=0.0, batch_first=True)
    ours, theirs = seconds(
        lambda: mine(x).sum().backward(), lambda: torchs(x).sum().backward(), rounds=rounds
    )
    return Result(
        {
            "en": f"Encoder layer, forward and backward, batch {batch}, length {length}, "
            f"d_model {d_model}; theirs: torch.nn.TransformerEncoderLayer",
            "zh": f"编码器层，前向加反向，批大小 {batch}，长度 {length}，d_model {d_model}；"
            "对照：torch.nn.TransformerEncoderLayer",
        },
        "s",
        ours,
        theirs,
        at_most(1.05),
        {
            "en": "Both use PyTorch's fused attention and its fused layer norm.",
            "zh": "两边都用 PyTorch 的融合注意力和融合 LayerNorm。",
        },
    )


GPT2_SHAPE = {"vocab_size": 1000, "d_model": 256, "n_heads": 8, "d_ff": 1024, "n_layers": 4}


def their_gpt2(max_length: int) -> nn.Module:
    """Hugging Face's GPT-2 of the same shape, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel  # a development dependency

    config = GPT2Config(
        vocab_size=1000,
        n_embd=256,
        n_head=8,
        n_inner=1024,
        n_layer=4,
        n_positions=max_length,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def training_step(rounds: int) -> Result:
    """Forward, backward and AdamW, beside Hugging Face's model with the very same loss."""
    batch, length = 8, 256
    models = [gpt2(**GPT2_SHAPE, max_length=length, dropout=0.0), their_gpt2(length)]
    ids = torch.randint(1000, (batch, length + 1))
    inputs, targets = ids[:, :-1], ids[:, 1:]

    def step(model: nn.Module, loss: Run) -> Run:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def run() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return run

    mine, theirs_too = models
    ours, theirs = seconds(
        step(mine, lambda: cross_entropy(mine(inputs), targets)),
        step(
            theirs_too,
            lambda: F.cross_entropy(
                theirs_too(inputs, use_cache=False).logits.flatten(0, 1), targets.flatten()
            ),
        ),
        rounds=rounds,
    )
    return Result(
        {
            "en": f"GPT-2-shaped training step, 4 layers of 256, batch {batch}, length {length}; "
            "theirs: transformers' GPT2LMHeadModel",
            "zh": f"GPT-2 形状的训练步，4 层、宽 256，批大小 {batch}，长度 {length}；"
            "对照：transformers 的 GPT2LMHeadModel",
        },
        "s",
        ours,
        theirs,
        at_most(0.9),
        {
            "en": "They write GELU's tanh form as separate operations; we call PyTorch's kernel.",
            "zh": "对方把 GELU 的 tanh 近似拆成多个算子；我们直接调用 PyTorch 的算子。",
        },
    )


def cached_decoding(rounds: int) -> Result:
    """Tokens a second with a cache, beside Hugging Face's `generate`."""
    batch, new = 1, 200
    mine, theirs_too = gpt2(**GPT2_SHAPE, max_length=256).eval(), their_gpt2(256).eval()
    prompt = torch.randint(1, 1000, (batch, 8))
    how = {"max_new_tokens": new, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    ours, theirs = seconds(
        lambda: generate(LanguageReader(mine), prompt, end_id=None, pad_id=0, max_new_tokens=new),
        lambda: theirs_too.generate(prompt, **how),
        rounds=rounds,
        warm_up=1,
    )
    return Result(
        {
            "en": f"Cached greedy decoding, batch {batch}, {new} new tokens; "
            "theirs: transformers' generate, cached",
            "zh": f"带缓存的贪心解码，批大小 {batch}，新写 {new} 个 token；"
            "对照：transformers 的 generate（带缓存）",
        },
        "tokens/s",
        batch * new / ours,
        batch * new / theirs,
        at_least(2),
        {
            "en": "By profile, about half of our step is spent inside kernels that both sides "
            "call: what a shorter loop around them can save is limited.",
            "zh": "剖析显示，我们一步约有一半时间花在双方都调用的算子里，外层循环再短也省得有限。",
        },
    )


def bare_decoding(rounds: int) -> Result:
    """Tokens a second with a cache, beside a loop that has nothing but the calls of PyTorch."""
    new = 200
    mine = gpt2(**GPT2_SHAPE, max_length=256).eval()
    prompt, bare = torch.randint(1, 1000, (1, 8)), bare_loop(mine)
    ours, theirs = seconds(
        lambda: generate(LanguageReader(mine), prompt, end_id=None, pad_id=0, max_new_tokens=new),
        lambda: bare(prompt, new),
        rounds=rounds,
        warm_up=1,
    )
    return Result(
        {
            "en": f"Cached greedy decoding, batch 1, {new} new tokens; theirs: a bare loop of "
            "PyTorch calls for the same model, without modules and checks",
            "zh": f"带缓存的贪心解码，批大小 1，新写 {new} 个 token；"
            "对照：同一模型，只有 PyTorch 调用的裸循环，没有模块，也不做检查",
        },
        "tokens/s",
        new / ours,
        new / theirs,
        at_least(0.8),
        {
            "en": "The limit on this machine. What is left is the calling of some fifty modules a "
            "token, and Q, K and V as three products where the loop has one.",
            "zh": "这是这台机器上的上限。剩下的差距来自每个 token 约五十次模块调用，"
            "以及 Q、K、V 分三次乘，而裸循环只乘一次。",
        },
    )


def cache_or_not(rounds: int) -> Result:
    """The last tokens of a text of 512, with a cache and without."""
    length, new = 512, 16
    model = gpt2(**GPT2_SHAPE, max_length=length).eval()
    text = torch.randint(1000, (1, length - new))
    tail = torch.randint(1000, (1, new))

    @torch.no_grad()
    def write(reader: LanguageReader) -> float:
        reader.read(text)
        started = time.perf_counter()
        for token in tail.split(1, dim=1):
            reader.read(token)
        return time.perf_counter() - started

    times = [
        (write(LanguageReader(model)), write(LanguageReader(model, cached=False)))
        for _ in range(rounds + 1)
    ][1:]
    ours, theirs = (new / median(taken) for taken in zip(*times, strict=True))
    return Result(
        {
            "en": f"Decoding up to length {length}, one text; theirs: our own, without the cache",
            "zh": f"解码到长度 {length}，单条文本；对照：我们自己的实现，不用缓存",
        },
        "tokens/s",
        ours,
        theirs,
        at_least(10),
        {
            "en": f"The last {new} tokens only: the prompt is read before the clock starts.",
            "zh": f"只计最后 {new} 个 token：提示在计时之前已经读完。",
        },
    )


def chunked_memory() -> Result:
    """Peak memory of attention at length 8192, in chunks and dense."""
    n, d_k = 8192, 64

    def peak(attend: Callable[..., torch.Tensor]) -> int:
        q, k, v = (torch.randn(1, 1, n, d_k, requires_grad=True) for _ in range(3))
        return peak_bytes(lambda: attend(q, k, v).sum().backward())

    ours = peak(chunked_attention)
    theirs = peak(lambda q, k, v: scaled_dot_product_attention(q, k, v)[0])
    return Result(
        {
            "en": f"Chunked attention, forward and backward, one head of {d_k}, n = {n}; "
            "theirs: dense attention, which stores the weights",
            "zh": f"分块注意力，前向加反向，一个宽 {d_k} 的头，n = {n}；对照：存下权重的稠密注意力",
        },
        "MB, peak",
        ours / 1e6,
        theirs / 1e6,
        at_most(0.05),
        {
            "en": "Counted by the allocator, not timed.",
            "zh": "由内存分配器统计，不是计时。",
        },
    )


def benchmarks(rounds: int) -> dict[str, Result]:
    """Run all of them, one after the other."""
    return {
        "encoder-layer-short": encoder_layer(16, 128, 256, rounds),
        "encoder-layer-long": encoder_layer(4, 512, 512, rounds),
        "gpt2-training-step": training_step(rounds),
        "cached-greedy-decoding": cached_decoding(max(3, rounds // 3)),
        "cached-greedy-decoding-bare": bare_decoding(max(3, rounds // 3)),
        "cache-or-not": cache_or_not(max(3, rounds // 3)),
        "chunked-memory": chunked_memory(),
    }
