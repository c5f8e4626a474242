# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does decoder self-attention differ from the encoder's?
#
# The proofs behind the page *causal-mask*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.

# %%
import math
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F

from qa_lab.claims import at_least, at_most, broken, exactly, prove, within
from qa_lab.claims.figures import INK, figure, matrix, spread
from qa_lab.experiments.data import tasks
from qa_lab.experiments.data.floors import surprisal
from qa_lab.experiments.data.markov import MarkovSource, dirichlet
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measures import dependence, gaussian, refused
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    full_mask,
    masked_softmax,
    scaled_dot_product_attention,
)
from qa_lab.transformer.decoding import LanguageReader, Sampler, generate, greedy
from qa_lab.transformer.models import Decoder, DecoderOnly, Encoder
from qa_lab.transformer.training import cross_entropy

torch.set_num_threads(1)

# %% [markdown]
# ## 1. Who sees whom
#
# Whole stacks of four layers in float64, on both of the lab's paths: a decoder-only stack and the
# decoder of an encoder-decoder. The derivative of output position i by input position j, the
# largest over all features, must be 0 for j > i: not small, but exactly 0, since every path from j
# to i passes through a weight that is exactly 0.

# %%
PATHS = {"fused": DotProductAttention(), "weights": scaled_dot_product_attention}
VOCAB, D_MODEL, HEADS, D_FF = 17, 26, 2, 37


def on(path):
    """A multi-head attention that takes one of the lab's two paths."""
    return partial(MultiHeadAttention, attend=PATHS[path])


def above_the_diagonal(seed, look=causal_mask):
    """Largest derivative of an output by a later input; decoder-only and encoder-decoder."""
    x, memory = gaussian((1, 6, 6), seed), gaussian((1, 4, 6), seed + 1_000_000)
    found = []
    for path in PATHS:
        alone = Encoder(6, 2, 11, 4, look=look, attention=on(path)).double()
        decoder = Decoder(6, 2, 11, 4, look=look, attention=on(path)).double()
        found.append(dependence(alone, x).triu(1).max())
        found.append(dependence(lambda y, d=decoder: d(y, memory), x).triu(1).max())
    return found


prove(
    "no-output-depends-on-a-later-input",
    en="Through four causal layers, no output depends on any later input: the derivative is 0.",
    zh="经过四层因果自注意力，任何输出对其后输入的导数都恰好为 0。",
    of=("largest derivative by a later input", "对其后输入的导数的最大绝对值"),
    measure=above_the_diagonal,
    bound=exactly(0.0),
    control=broken("no mask", "不加掩码", look=full_mask),
    settles={"causal-mask-keeps-autoregressive": "holds"},
)


# %%
PREFIXES = (*range(1, 9), 16, 17, 32, 33)  # of a text of 40 tokens


@torch.no_grad()
def against_prefixes(seed, look=causal_mask):
    """A whole text against prefixes of it run by themselves; logits, then a decoder's stream."""
    ids, y = torch.randint(VOCAB, (3, 40)), gaussian((3, 40, D_MODEL), seed)
    memory = gaussian((3, 5, D_MODEL), seed + 1_000_000)
    found = []
    for path in PATHS:
        sizes, changes = (D_MODEL, HEADS, D_FF, 2), {"look": look, "attention": on(path)}
        language = DecoderOnly(VOCAB, *sizes, **changes).double()
        decoder = Decoder(*sizes, **changes).double()
        for model, text in ((language, ids), (lambda y, d=decoder: d(y, memory), y)):
            whole = model(text)
            found += [(whole[:, :n] - model(text[:, :n])).abs().max() for n in PREFIXES]
    return found


prove(
    "prefix-alone-gives-the-same-logits",
    en="With the mask, the whole text gives each prefix the output that it gets alone.",
    zh="加了因果掩码，整段一次算出的结果，与每个前缀单独计算的一致。",
    of=(
        "largest |difference|, prefixes of 1 … 33 of 40 tokens",
        "最大绝对差，40 个 token 中长 1 … 33 的前缀",
    ),
    measure=against_prefixes,
    bound=at_most(1e-10),
    control=broken("no mask", "不加掩码", look=full_mask),
    settles={"causal-mask-keeps-autoregressive": "holds"},
)

# %% [markdown]
# So a text may be written with a cache, which reads every token once, or by reading it again for
# every token. The referee knows neither loop nor cache: the likeliest token after each prefix, by
# itself. Prompts of 1, 3 and 2 tokens.

# %%
PROMPTS, NEW = (1, 3, 2), 6


@torch.no_grad()
def written_otherwise(seed, sampled=False):
    """Of 18 new tokens, those that differ from the referee's; cached, then read again."""
    model = DecoderOnly(VOCAB, D_MODEL, HEADS, D_FF, 3).double().eval()
    prompt, found = torch.randint(VOCAB, (3, max(PROMPTS))), []
    alone = []
    for row, length in zip(prompt, PROMPTS, strict=True):
        text = row[:length]
        for _ in range(NEW):
            text = torch.cat([text, model(text[None])[0, -1:].argmax(-1)])
        alone.append(text[length:])
    for cached in (True, False):
        written = generate(
            LanguageReader(model, cached=cached),
            prompt,
            Sampler(tasks.generator(seed)) if sampled else greedy,
            end_id=None,
            pad_id=0,
            max_new_tokens=NEW,
            prompt_lengths=torch.tensor(PROMPTS),
        )
        found.append((written != torch.stack(alone)).sum())
    return found


prove(
    "greedy-writing-equals-each-prefix-alone",
    en="Greedy writing, with or without a cache, writes the likeliest token after each prefix.",
    zh="贪心生成不论用不用缓存，写出的每个 token 都是该前缀单独计算时最可能的那个。",
    of=("tokens that differ, of 18, cached and not", "18 个 token 中不同的个数（用缓存、不用）"),
    measure=written_otherwise,
    bound=exactly(0.0),
    control=broken("tokens sampled instead", "改为采样", sampled=True),
    tolerance=0.1,
)

# %% [markdown]
# ## 2. The diagonal belongs to the mask


# %%
def strict_mask(length, device=None):
    """Only what came before, not the position itself; the first one keeps itself, to see a key."""
    keep = torch.ones(length, length, dtype=torch.bool).tril(-1)
    keep[0, 0] = True
    return keep


@torch.no_grad()
def keys_seen(seed, look=causal_mask):
    """Weights that are positive where the triangle says 0, or 0 where it does not; all heads."""
    attention = MultiHeadAttention(D_MODEL, HEADS).double()
    _, weights = attention.attend_with_weights(gaussian((3, 7, D_MODEL), seed), keep=look(7))
    triangle = torch.arange(7) <= torch.arange(7)[:, None]
    return ((weights > 0) != triangle).sum()


prove(
    "each-position-sees-itself",
    en="Position t sees exactly the t + 1 keys 0 … t: all earlier ones and itself.",
    zh="位置 t 恰好能看到 0 … t 这 t + 1 个键：之前的全部，加上它自己。",
    of=("entries out of place", "不符的元素个数"),
    measure=keys_seen,
    bound=exactly(0.0),
    control=broken("strictly earlier keys only", "只看严格更早的键", look=strict_mask),
    settles={"causal-mask-only-strictly-earlier": "refuted"},
)


# %%
def refusals(seed, diagonal=-1):
    """1 for each path that refuses the triangle below this diagonal, 0 for each that answers."""
    attention, x = MultiHeadAttention(D_MODEL, HEADS).double(), gaussian((3, 7, D_MODEL), seed)
    keep = torch.ones(7, 7, dtype=torch.bool).tril(diagonal)
    paths = attention, attention.attend_with_weights
    return [refused(partial(attend, x, keep=keep)) for attend in paths]


prove(
    "strict-mask-leaves-the-first-row-blind",
    en="A strict mask leaves the first position no key at all; the lab refuses it on both paths.",
    zh="严格掩码让第一个位置一个键也看不到；实验室的两条计算路径都会拒绝它。",
    of=("1 = refused, 0 = answered", "1 = 报错，0 = 照常返回"),
    measure=refusals,
    bound=exactly(1.0),
    control=broken("diagonal included", "包含对角线", diagonal=0),
    settles={"causal-mask-only-strictly-earlier": "refuted"},
)

# %% [markdown]
# ## 3. Before or after the softmax
#
# After the softmax, the hidden weights can be set to 0 just as well. But the sum under each weight
# was taken over all keys, the future ones too: rows no longer sum to 1, and by how much they miss
# is news from the future.


# %%
def mask_after(renormalise):
    """A softmax over all keys whose hidden weights are set to 0 afterwards."""

    def weights_of(scores, keep):
        weights = masked_softmax(scores)
        weights = weights if keep is None else weights.masked_fill(~keep, 0.0)
        return weights / weights.sum(-1, keepdim=True) if renormalise else weights

    return weights_of


@torch.no_grad()
def row_error(seed, softmax=masked_softmax):
    """Largest |sum of a row of weights − 1| under the causal mask."""
    attention = MultiHeadAttention(
        D_MODEL, HEADS, attend=DotProductAttention(softmax=softmax)
    ).double()
    x = gaussian((3, 7, D_MODEL), seed)
    _, weights = attention.attend_with_weights(x, keep=causal_mask(7))
    return (weights.sum(-1) - 1).abs().max()


prove(
    "masked-before-rows-sum-to-one",
    en="Masked before the softmax, every row of weights sums to 1; masked after it, it does not.",
    zh="在 softmax 之前加掩码，每行权重之和为 1；之后再加则不是。",
    of=("largest |row sum − 1|", "|行和 − 1| 的最大值"),
    measure=row_error,
    bound=at_most(1e-12),
    control=broken(
        "masked after the softmax", "在 softmax 之后加掩码", softmax=mask_after(renormalise=False)
    ),
    settles={"causal-mask-applied-before-softmax": "holds"},
)


# %%
def future_through_the_sum(seed, renormalise=True):
    """Largest derivative by a later input; bare attention, masked after the softmax."""

    def attend(x):
        softmax = mask_after(renormalise)
        return scaled_dot_product_attention(x, x, x, causal_mask(6), softmax=softmax)[0]

    return dependence(attend, gaussian((1, 6, 6), seed)).triu(1).max()


prove(
    "renormalising-closes-the-denominator",
    en="For moderate scores, a mask after the softmax leaks through the denominator until one "
    "renormalises.",
    zh="分数不极端时，在 softmax 之后加掩码，未来仍通过分母起作用；重新归一化之后才消失。",
    of=("largest derivative by a later input", "对其后输入的导数的最大绝对值"),
    measure=future_through_the_sum,
    bound=at_most(1e-12),
    control=broken("not renormalised", "不重新归一化", renormalise=False),
)

# %% [markdown]
# ## 4. The entropy floor as a leak detector
#
# Text from a random Markov source: eight symbols, the next one drawn by a random table from the
# last one alone. Its entropy rate H is known in closed form, and no predictor that reads only the
# past can have a lower expected loss. On held-out text we compare with the surprisal of the table
# itself, so that the luck of the draw cancels. One layer, 200 steps of Adam, the same for all.
#
# Margins, for 6000 held-out tokens. A model near the floor differs from the table by about 0.2 nats
# per token, so its mean excess has a standard error of 0.003: we allow 0.02 below the floor, and
# ask for 0.1 above it at most. A leaking model differs by less than 1 nat per token, a standard
# error of 0.013 at most: a leak is called proved at 0.1 below.

# %%
SYMBOLS, LENGTH, STEPS = 8, 12, 200
KINDS = {  # look, softmax, whether inputs are shifted, steps
    "causal": (causal_mask, None, True, STEPS),
    "no mask": (full_mask, None, True, STEPS),
    "mask after softmax": (causal_mask, mask_after(renormalise=False), True, STEPS),
    "not shifted": (causal_mask, None, False, 60),
}


@cache
def source_of(seed):
    """A random source: each row of the table drawn from a Dirichlet distribution with ½."""
    return MarkovSource(dirichlet(tasks.generator(seed), SYMBOLS, SYMBOLS, 0.5))


@cache
@torch.enable_grad()
def trained(seed, kind):
    """A model, the loss it was trained on, and its training losses."""
    look, softmax, shifted, steps = KINDS[kind]
    source = source_of(seed)
    torch.manual_seed(seed)
    attention = partial(MultiHeadAttention, attend=DotProductAttention(softmax=softmax))
    model = DecoderOnly(source.vocab_size, 32, 2, 64, 1, look=look, attention=attention)

    def loss(model, text):
        seen = text.ids[:, :-1] if shifted else text.ids[:, 1:]
        return cross_entropy(model(seen), text.ids[:, 1:])

    draw = partial(source.draw, batch=32, length=LENGTH)
    losses = fit(model, loss, draw, steps=steps, lr=5e-3, seed=seed)
    return model, loss, tuple(losses)


@cache
def held_out(seed):
    """Text that no model was trained on, and the table's own mean surprisal on it, in nats."""
    source = source_of(seed)
    text = source.draw(tasks.generator(seed + 1_000_000), batch=500, length=LENGTH)
    return text, surprisal(source.predict(text.ids), text).mean().item()


@torch.no_grad()
def excess(seed, kind):
    """Held-out loss above the floor, nats per token."""
    model, loss, _ = trained(seed, kind)
    text, floor = held_out(seed)
    return loss(model, text).item() - floor


# %%
prove(
    "causal-model-ends-at-the-entropy-floor",
    en="A causal model's loss ends at the entropy of the source; without the mask, below it.",
    zh="因果模型的损失停在信源的熵上；不加掩码则低于它。",
    of=("held-out loss − floor, nats per token", "留出集损失 − 下限（nat/token）"),
    measure=lambda seed, kind="causal": excess(seed, kind),
    bound=within(-0.02, 0.1),
    control=broken("no mask", "不加掩码", kind="no mask"),
    settles={"causal-mask-keeps-autoregressive": "holds"},
    tolerance=0.25,
)

# %%
prove(
    "mask-after-softmax-trains-below-the-floor",
    en="Masked after the softmax, a model ends below the entropy floor: it reads the future.",
    zh="在 softmax 之后加掩码，模型的损失会跌破熵的下限：它读到了未来。",
    of=("held-out loss − floor, nats per token", "留出集损失 − 下限（nat/token）"),
    measure=lambda seed, kind="mask after softmax": excess(seed, kind),
    bound=at_most(-0.1),
    control=broken("masked before the softmax", "在 softmax 之前加掩码", kind="causal"),
    settles={"causal-mask-applied-before-softmax": "holds"},
    tolerance=0.5,
)

# %% [markdown]
# Without the shift, position t reads the token it is to name. 0.1 nats is a fifteenth of the floor.


# %%
@torch.no_grad()
def held_out_loss(seed, kind):
    """Held-out loss, nats per token."""
    model, loss, _ = trained(seed, kind)
    return loss(model, held_out(seed)[0]).item()


prove(
    "unshifted-inputs-drive-the-loss-to-zero",
    en="Under the inclusive mask, inputs that are not shifted drive the loss to 0: a mere copy.",
    zh="掩码含对角线时，输入若不右移，损失会降到 0：只是照抄。",
    of=("held-out loss, nats per token", "留出集损失（nat/token）"),
    measure=lambda seed, kind="not shifted": held_out_loss(seed, kind),
    bound=at_most(0.1),
    control=broken("inputs shifted by one", "输入右移一位", kind="causal"),
    settles={"causal-mask-only-strictly-earlier": "refuted"},
    tolerance=0.25,
)

# %% [markdown]
# Now the same models must do without the future, as in generation: each token is predicted from its
# prefix alone. The yardsticks need no network either: a uniform guess over the symbols loses ln 8,
# and text of uniform noise lies at a known distance from the source. The distance of written text
# is taken from the frequencies of 5500 pairs in 64 cells: the luck of the draw alone puts it some
# 0.04 from what it should be, half the sum of 64 absolute errors. "Farther than noise" must be more
# than that: 0.05. At least 95 % of the pairs must be of symbols, not of START or padding.


# %%
@torch.no_grad()
def honest_loss(seed, kind):
    """Mean loss when each prefix is run by itself, over that of a uniform guess."""
    model, (text, _) = trained(seed, kind)[0], held_out(seed)
    losses = [
        F.cross_entropy(model(text.ids[:, :n])[:, -1], text.ids[:, n]).item()
        for n in range(1, LENGTH + 1)
    ]
    return sum(losses) / len(losses) / math.log(SYMBOLS)


prove(
    "unmasked-model-predicts-worse-than-guessing",
    en="Trained without the mask and given only the past, a model predicts worse than a guess.",
    zh="不加掩码训练的模型，只给它过去时，预测得比随机猜还差。",
    of=("loss from prefixes / ln 8", "只看前缀的损失 / ln 8"),
    measure=lambda seed, kind="no mask": honest_loss(seed, kind),
    bound=at_least(1.0),
    control=broken("trained with the mask", "训练时加掩码", kind="causal"),
    settles={"causal-mask-keeps-autoregressive": "holds"},
    tolerance=0.5,
)


# %%
def pairs_of(source):
    """The probability of each pair of neighbouring symbols in the source's text."""
    return source.stationary[:, None] * source.tables[-1]


@cache
def distances(seed, kind):
    """Total variation distance of written text, and of noise, from the source; symbol pairs."""
    source, model = source_of(seed), trained(seed, kind)[0]
    start, sampler = torch.full((500, 1), tasks.START), Sampler(tasks.generator(seed))
    reader = LanguageReader(model, cached=False)
    written = generate(reader, start, sampler, end_id=None, pad_id=tasks.PAD, max_new_tokens=LENGTH)
    symbols = written - tasks.FIRST_SYMBOL
    first, second = symbols[:, :-1].flatten(), symbols[:, 1:].flatten()
    real = (first >= 0) & (second >= 0)
    if (share := real.double().mean().item()) <= 0.95:
        raise ValueError(f"only {share:.0%} of the pairs are of symbols: no text to judge.")
    counts = torch.bincount((first * SYMBOLS + second)[real], minlength=SYMBOLS**2).double()
    return tuple(
        0.5 * (p.view(SYMBOLS, SYMBOLS) - pairs_of(source)).abs().sum().item()
        for p in (counts / counts.sum(), torch.full((SYMBOLS**2,), SYMBOLS**-2))
    )


prove(
    "unmasked-model-writes-worse-than-noise",
    en="What a model trained without the mask writes lies farther from the source than noise.",
    zh="不加掩码训练的模型写出的文本，离信源比随机噪声还远。",
    of=("distance of its text − distance of noise", "所写文本的距离 − 噪声的距离"),
    measure=lambda seed, kind="no mask": distances(seed, kind)[0] - distances(seed, kind)[1],
    bound=at_least(0.05),
    control=broken("trained with the mask", "训练时加掩码", kind="causal"),
    settles={"causal-mask-keeps-autoregressive": "holds"},
    tolerance=0.25,
)

# %% [markdown]
# ## 5. A popular argument: "causal attention has full rank, two-way attention has not"
#
# A triangular matrix with a positive diagonal is invertible, that much is true. Two-way weights
# come from scores of rank d_k, here 4 with 64 positions, but the exponential stands in between.

# %%
POSITIONS, NARROW, WIDE = 64, 4, 64


def weights_at(seed, look, d_k, softmax=masked_softmax):
    """Attention weights [query key] of random queries and keys."""
    q, k = gaussian((POSITIONS, d_k), seed), gaussian((POSITIONS, d_k), seed + 1_000_000)
    return attention_weights(q, k, look(POSITIONS), softmax=softmax)


def linear_scores(scores, keep):
    """No exponential and no sum: the bare scores."""
    return scores


prove(
    "two-way-attention-has-full-rank-too",
    en="For random queries and keys, two-way weights of 64 positions have rank 64, the scores 4.",
    zh="对随机的查询和键，64 个位置的双向注意力矩阵秩是 64，尽管分数矩阵的秩只有 4。",
    of=("numerical rank, float64", "数值秩（float64）"),
    measure=lambda seed, softmax=masked_softmax: torch.linalg.matrix_rank(
        weights_at(seed, full_mask, NARROW, softmax)
    ),
    bound=exactly(POSITIONS),
    control=broken("scores without the softmax", "不做 softmax 的分数", softmax=linear_scores),
)

# %% [markdown]
# How far a matrix is from losing rank is its condition number. Ten times is the margin for "worse".


# %%
def decades_worse(seed, look=causal_mask):
    """log₁₀ of the condition number, beyond that of two-way attention; d_k = 4, 16, 64."""
    return [
        torch.linalg.cond(weights_at(seed, look, d_k)).log10()
        - torch.linalg.cond(weights_at(seed, full_mask, d_k)).log10()
        for d_k in (NARROW, 16, WIDE)
    ]


prove(
    "causal-attention-is-worse-conditioned",
    en="For random queries and keys, causal weights are far closer to losing rank than two-way.",
    zh="对随机的查询和键，因果注意力矩阵比双向的更接近降秩，条件数大得多。",
    of=("log₁₀ of the ratio of condition numbers", "条件数之比的 log₁₀"),
    measure=decades_worse,
    bound=at_least(1.0),
    control=broken("two-way as well", "同样用双向", look=full_mask),
    tolerance=0.5,
)

# %% [markdown]
# What is left of the argument: how many singular values matter. We count those above a hundredth of
# the largest. A twentieth more is the margin for "more", at either width.


# %%
def singular_values(seed, look, d_k):
    """Singular values of the weights, relative to the largest."""
    values = torch.linalg.svdvals(weights_at(seed, look, d_k))
    return values / values[0]


def advantages(seed, widths=(NARROW, WIDE)):
    """Large values, causal / two-way, at the first width; two-way / causal, at the second."""
    causal, two_way = (
        [(singular_values(seed, look, d_k) > 0.01).sum() for d_k in widths]
        for look in (causal_mask, full_mask)
    )
    return [causal[0] / two_way[0], two_way[1] / causal[1]]


prove(
    "causal-rank-advantage-needs-narrow-heads",
    en="For random queries and keys, causal attention has more large singular values with d_k = 4, "
    "fewer with d_k = 64.",
    zh="对随机的查询和键，d_k = 4 时因果注意力的大奇异值更多，d_k = 64 时反而更少。",
    of=(
        "counts above 1 %: causal / two-way at d_k = 4, two-way / causal at d_k = 64",
        "大于 1% 的个数：d_k = 4 时因果 / 双向，d_k = 64 时双向 / 因果",
    ),
    measure=advantages,
    bound=at_least(1.05),
    control=broken("widths exchanged", "两种宽度对调", widths=(WIDE, NARROW)),
    tolerance=0.1,
)

# %% [markdown]
# ## 6. Figures

# %%
TOKENS = ("START", "the", "cat", "sat")


@torch.no_grad()
def draw_weights(*panels):
    shown = {
        "two-way (encoder)": (full_mask, masked_softmax),
        "causal (decoder)": (causal_mask, masked_softmax),
        "masked after softmax": (causal_mask, mask_after(renormalise=False)),
    }
    torch.manual_seed(0)
    state = MultiHeadAttention(D_MODEL, 1).double().state_dict()
    for ax, (title, (look, softmax)) in zip(panels, shown.items(), strict=True):
        attention = MultiHeadAttention(
            D_MODEL, 1, attend=DotProductAttention(softmax=softmax)
        ).double()
        attention.load_state_dict(state)
        _, weights = attention.attend_with_weights(gaussian((1, 4, D_MODEL), 4), keep=look(4))
        weights = weights[0, 0]
        table = torch.cat([weights, weights.sum(-1, keepdim=True)], dim=1)
        matrix(ax, table, rows=TOKENS, columns=(*TOKENS, "sum"))
        ax.set(title=title, xlabel="key", ylabel="query")
        ax.axvline(4, color=INK, linewidth=1, gid="before-the-sum")


figure("causal-weights", draw_weights, panels=3, size=(9.6, 2.9))


# %%
def draw_floor(left, right):
    kinds = {"causal": "causal", "no mask": "none", "mask after softmax": "after"}
    colours = {}
    for kind, key in kinds.items():
        runs = np.array([trained(seed, kind)[2] for seed in range(5)])
        runs -= np.array([[source_of(seed).entropy_rate] for seed in range(5)])
        smooth = runs.reshape(5, -1, 10).mean(-1)
        spread(left, 5 + 10 * np.arange(STEPS // 10), smooth, gid=key, label=kind)
        colours[kind] = left.lines[-1].get_color()
    left.axhline(0, color=INK, linestyle="--", linewidth=1, gid="floor")
    left.text(2, -0.03, "entropy floor H", va="top", fontsize=9)
    left.set(xlabel="training step", ylabel="training loss − H (nats per token)")
    left.legend(fontsize=9)
    dots = {"color": INK, "markersize": 3, "linestyle": "none"}
    for place, (kind, key) in enumerate(kinds.items()):
        values = [distances(seed, kind)[0] for seed in range(5)]
        right.bar(place, np.median(values), 0.6, color=colours[kind], gid=f"{key}-median")
        right.plot([place] * 5, values, "o", gid=f"{key}-seeds", **dots)
    noise = np.median([distances(seed, "causal")[1] for seed in range(5)])
    right.axhline(noise, color=INK, linestyle="--", linewidth=1, gid="noise")
    right.text(-0.4, noise + 0.015, "uniform noise", fontsize=9)
    right.set_xticks(range(3), ["causal", "no mask", "mask after\nsoftmax"])
    right.set(xlabel="trained with", ylabel="distance from the source")
    right.set_ylim(0, 1)


figure("entropy-floor", draw_floor, panels=2, size=(9.0, 3.6), tolerance=0.25)


# %%
def draw_spectra(*panels):
    for ax, d_k in zip(panels, (NARROW, WIDE), strict=True):
        for name, look in (("two-way", full_mask), ("causal", causal_mask)):
            runs = np.array([singular_values(seed, look, d_k).numpy() for seed in range(5)])
            logs = np.log10(runs.clip(1e-10))
            spread(ax, np.arange(1, POSITIONS + 1), logs, gid=name, label=name)
        ax.axhline(-2, color=INK, linestyle="--", linewidth=1, gid="one-percent")
        ax.set(title=f"d_k = {d_k}", xlabel="rank of the singular value")
        ax.set(ylabel="log₁₀ (singular value / largest)", ylim=(-10, 0.3))
        ax.legend(fontsize=9, loc="lower left")


figure("causal-spectra", draw_spectra, panels=2, size=(8.4, 3.4), tolerance=0.15)
