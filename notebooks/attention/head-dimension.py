# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why is each head's dimension reduced?
#
# The proofs behind the page *head-dimension*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.

# %%
import math
from functools import cache

import numpy as np
import torch

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.claims.figures import figure, spread
from qa_lab.experiments.data.retrieval import ceiling, train_retrieval
from qa_lab.experiments.measures import flops, gaussian, parameter_count
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    attention_weights,
    dot_product_scores,
    masked_softmax,
)

torch.set_num_threads(1)

# %% [markdown]
# ## 1. What the heads cost
#
# For n tokens of width d, the four projections are 4 products of [n d] with [d d], that is
# 4 · 2 n d² operations. With heads of width d/h, scores and weighted sums are 2 h products of
# 2 n² (d/h) operations: 4 n² d. No h is left. Backwards, every product is two products of the same
# size, so a training step takes exactly three times the forward pass.
#
# The counts come from PyTorch's counter, which sees the operations as they run; no number is drawn.
# `wide` gives every head the full width d instead of d/h.

# %%
LAYERS = ((24, 2), (24, 4), (40, 8), (48, 3), (48, 16), (64, 64))  # d_model, heads
BATCH, LENGTH = 2, 11


def layer(d_model, n_heads, wide, **others):
    """A layer with weights and an input of ones: what they hold does not change the cost."""
    attention = MultiHeadAttention(d_model, n_heads, d_k=d_model if wide else None, **others)
    return attention, torch.ones(BATCH, LENGTH, d_model, requires_grad=True)


def passes(d_model, n_heads, wide):
    """Operations of a forward pass, of a fused one, and of a training step; batch 2, length 11."""
    with torch.random.fork_rng(devices=[]):
        attention, x = layer(d_model, n_heads, wide)
    return [
        flops(lambda: attention.attend_with_weights(x)),
        flops(lambda: attention(x)),
        flops(lambda: attention.attend_with_weights(x)[0].sum().backward()),
    ]


def over_the_formula(wide=False):
    """The counted operations over 8 n d² + 4 n² d, and over three times that for a step."""
    for d_model, n_heads in LAYERS:
        formula = BATCH * (8 * LENGTH * d_model**2 + 4 * LENGTH**2 * d_model)
        forward, fused, step = passes(d_model, n_heads, wide)
        yield [forward / formula, fused / formula, step / (3 * formula)]


prove(
    "heads-do-not-change-the-matrix-products",
    en="With d_k = d/h the matrix products take 8nd² + 4n²d operations, whatever h is.",
    zh="取 d_k = d/h 时，矩阵乘法共 8nd² + 4n²d 次运算，与头数 h 无关。",
    of=("operations / formula, 2 … 64 heads", "运算次数 / 公式，2 … 64 个头"),
    measure=lambda wide=False: list(over_the_formula(wide)),
    bound=exactly(1),
    control=broken("heads of full width", "每个头都用全宽", wide=True),
    settles={"mh-compute-unaffected": "conditional", "mh-single-head-costs-more": "refuted"},
)


# %%
def parameters(d_model, n_heads, wide, bias=True):
    """The number of parameters, made without storage."""
    with torch.device("meta"):
        return parameter_count(layer(d_model, n_heads, wide, bias=bias)[0])


prove(
    "heads-do-not-change-the-parameters",
    en="With d_k = d/h the layer has 4d² + 4d parameters, whatever h is.",
    zh="取 d_k = d/h 时，这一层有 4d² + 4d 个参数，与头数 h 无关。",
    of=("parameters / (4d² + 4d), 2 … 64 heads", "参数量 / (4d² + 4d)，2 … 64 个头"),
    measure=lambda wide=False: [
        parameters(d_model, n_heads, wide) / (4 * d_model**2 + 4 * d_model)
        for d_model, n_heads in LAYERS
    ],
    bound=exactly(1),
    control=broken("heads of full width", "每个头都用全宽", wide=True),
    settles={"mh-adds-learnable-parameters": "refuted"},
)


# %%
def over_one_head(wide=True):
    """Operations and weights of h heads over those of one head, over h."""
    for d_model, n_heads in LAYERS:
        several, one = passes(d_model, n_heads, wide), passes(d_model, 1, wide)
        weights = parameters(d_model, n_heads, wide, bias=False) / parameters(
            d_model, 1, wide, bias=False
        )
        yield [a / b / n_heads for a, b in zip(several, one, strict=True)]
        yield weights / n_heads


prove(
    "unreduced-heads-cost-h-times",
    en="If every head keeps the full width d, operations and parameters are exactly h-fold.",
    zh="若每个头都保留全宽 d，运算次数和参数量恰好是原来的 h 倍。",
    of=("ratio to one head / h", "与单头之比 / h"),
    measure=lambda wide=True: list(over_one_head(wide)),
    bound=exactly(1),
    control=broken("heads of width d/h", "头宽为 d/h", wide=False),
    settles={"mh-compute-unaffected": "conditional"},
)

# %% [markdown]
# The softmax is not a matrix product, and the counter leaves it out. Here it is counted by itself:
# how many weights go through it. The control merges the heads into one of full width.


# %%
def softmax_entries(d_model, n_heads, wide):
    """How many entries one forward pass takes through the softmax."""
    seen = []

    def counted(scores, keep):
        seen.append(scores.numel())
        return masked_softmax(scores, keep)

    with torch.random.fork_rng(devices=[]):
        attention, x = layer(d_model, n_heads, wide, attend=DotProductAttention(softmax=counted))
        attention(x)
    return sum(seen)


prove(
    "softmax-work-grows-with-the-heads",
    en="h heads take h times as many entries through the softmax as one head, narrow or wide.",
    zh="无论头窄还是宽，h 个头经过 softmax 的元素都是单头的 h 倍。",
    of=("softmax entries / (h n²)", "softmax 元素数 / (h n²)"),
    measure=lambda merged=False: [
        softmax_entries(d_model, 1 if merged else n_heads, wide) / (BATCH * n_heads * LENGTH**2)
        for d_model, n_heads in LAYERS
        for wide in (False, True)
    ],
    bound=exactly(1),
    control=broken("the heads merged into one", "把各头并成一个", merged=True),
    settles={"mh-compute-unaffected": "conditional", "mh-single-head-costs-more": "refuted"},
)

# %% [markdown]
# ## 2. Narrow heads are a choice
#
# A head of width d can do all that a head of width d/h can: put the narrow head's weights into the
# first features, zeros into the rest, and keep the narrow head's scale.

# %%
D_MODEL, HEADS = 20, 4


def widened(seed, scale=(D_MODEL // HEADS) ** -0.5):
    """Largest difference between narrow heads and wide heads that hold the same weights."""
    narrow = MultiHeadAttention(D_MODEL, HEADS).double()
    wide = MultiHeadAttention(
        D_MODEL, HEADS, d_k=D_MODEL, attend=DotProductAttention(scale=scale)
    ).double()
    with torch.no_grad():
        for name in ("W_Q", "W_K", "W_V"):
            for part in ("weight", "bias"):
                from_, into = (getattr(getattr(a, name), part) for a in (narrow, wide))
                into.zero_()
                into.unflatten(0, (HEADS, -1))[:, : D_MODEL // HEADS] = from_.unflatten(
                    0, (HEADS, -1)
                )
        wide.W_O.weight.zero_()
        wide.W_O.weight.unflatten(1, (HEADS, -1))[:, :, : D_MODEL // HEADS] = (
            narrow.W_O.weight.unflatten(1, (HEADS, -1))
        )
        wide.W_O.bias.copy_(narrow.W_O.bias)
        x = 3 * gaussian((2, 9, D_MODEL), seed)
        return (narrow(x) - wide(x)).abs().max()


prove(
    "wide-heads-contain-narrow-heads",
    en="Heads of full width can be set to any layer of narrow heads: narrowing adds no ability.",
    zh="全宽的头照样能用，而且可以设成任意一层窄头：降维不增加任何能力。",
    of=("largest |difference| of the outputs", "输出的最大绝对差"),
    measure=widened,
    bound=at_most(1e-12),
    control=broken("scaled by the wide head's own √d", "按宽头自己的 √d 缩放", scale=D_MODEL**-0.5),
    settles={"heads-projected-to-low-dimension": "refuted"},
)

# %% [markdown]
# ## 3. The price: the rank of the scores
#
# QKᵀ is a product of [n d_k] and [d_k n], so its rank is at most d_k. The claim asks for the
# (d_k + 1)-th singular value over the first; it is 0 in exact arithmetic. With heads of full width,
# the same singular value of a 40 × 40 matrix is not small.


# %%
def beyond_the_rank(seed, wide=False, d_model=48, length=40):
    """The singular value of every head's scores after the first d_model / h, over the largest."""
    x = gaussian((1, length, d_model), seed)
    for n_heads in (2, 4, 8, 16, 48):
        attention = MultiHeadAttention(d_model, n_heads, d_k=d_model if wide else None).double()
        with torch.no_grad():
            q, k, _ = attention.project(x)
            singular = torch.linalg.svdvals(dot_product_scores(q, k))[0]
        yield (singular[:, d_model // n_heads] / singular[:, 0]).max()


prove(
    "score-rank-is-at-most-the-head-width",
    en="A head's score matrix has rank at most d_k = d/h, however long the sequence.",
    zh="无论序列多长，一个头的分数矩阵的秩都不超过 d_k = d/h。",
    of=("singular value d/h + 1, over the first", "第 d/h + 1 个奇异值 / 第一个"),
    measure=lambda seed, wide=False: list(beyond_the_rank(seed, wide)),
    bound=at_most(1e-12),
    control=broken("heads of full width", "每个头都用全宽", wide=True),
)

# %% [markdown]
# Which patterns does that rule out? Softmax forgets a constant added to a row, so a pattern P is
# reached exactly by scores S if, and only if, S is ln P up to such constants. Let C be ln P with
# the mean of each row taken out. Then C = S (I − 11ᵀ/n) for every such S, so rank S ≥ rank C: the
# head needs d_k ≥ rank C features. C itself is such an S, so rank C features are enough. A random
# P has rank C = n − 1.
#
# Cut off after d_k singular values, C gives the best scores of rank d_k in the sense of least
# squares (Eckart and Young 1936). No network and no training is involved.

# %%
N = 64


def random_pattern(seed, n=N):
    """Dense attention weights [query key]: the softmax of Gaussian scores of deviation 2."""
    return masked_softmax(2 * gaussian((n, n), seed))


def window_pattern(seed, n=N):
    """Weights by distance: −(i − j)²/2σ², up to row constants ij/σ² − j²/2σ², of rank 2."""
    place = torch.arange(n, dtype=torch.float64)
    width = 2.0 + seed % 7
    return masked_softmax(-((place[:, None] - place) ** 2) / (2 * width**2))


def centred_log(weights):
    """Scores that give these weights, with the mean of every row taken out."""
    return weights.log() - weights.log().mean(-1, keepdim=True)


def best_queries_and_keys(pattern, d_k):
    """Queries and keys of width d_k whose scores are nearest to the pattern's own."""
    u, singular, v = torch.linalg.svd(centred_log(pattern))
    root = singular[:d_k].sqrt()
    return (u[:, :d_k] * root).contiguous(), (v[:d_k].T * root).contiguous()


def reached(seed, d_k=N - 1):
    """Largest error of a weight, with the best scores that d_k features can make."""
    pattern = random_pattern(seed)
    q, k = best_queries_and_keys(pattern, d_k)
    return (attention_weights(q, k, scale=1.0) / pattern - 1).abs().max()


prove(
    "dense-pattern-needs-n-minus-one-features",
    en="A random pattern over n keys is reached exactly at d_k = n − 1, and not below.",
    zh="n 个键上的随机注意力模式，d_k = n − 1 时能精确实现，再小就不能。",
    of=("largest relative error of a weight, n = 64", "权重的最大相对误差，n = 64"),
    measure=reached,
    bound=at_most(1e-10),
    control=broken("one feature fewer", "少一个特征", d_k=N - 2),
)

# %% [markdown]
# How much of the scores is lost on the way there? The singular values of a large square Gaussian
# matrix follow the quarter-circle law. Keep the share c = d_k/n of largest ones, and the share of
# the squared scores that is lost is (2θ − ½ sin 4θ)/π, where (2θ + sin 2θ)/π = 1 − c. The law is
# for n → ∞; its error is of the order 1/n, and we allow 2/n.


# %%
def quarter_circle_loss(share):
    """Share of the sum of squares below the top `share` of singular values, by the law."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if 2 * middle + math.sin(2 * middle) < math.pi * (1 - share):
            low = middle
        else:
            high = middle
    return (2 * low - math.sin(4 * low) / 2) / math.pi


def lost_share(pattern, d_k):
    """Share of the pattern's squared scores that the best d_k features leave out."""
    q, k = best_queries_and_keys(pattern, d_k)
    scores = centred_log(pattern)
    fitted = centred_log(attention_weights(q, k, scale=1.0))
    return ((fitted - scores).square().sum() / scores.square().sum()).item()


prove(
    "a-narrow-head-loses-most-of-a-dense-pattern",
    en="The best d_k-wide scores for a random pattern lose what the quarter-circle law says.",
    zh="宽 d_k 的分数去拟合随机模式，最优解的损失正是四分之一圆律给出的比例。",
    of=("|lost share − law|, d_k = n/8, n/4, n/2", "|损失比例 − 理论值|，d_k = n/8、n/4、n/2"),
    measure=lambda seed, pattern=random_pattern: [
        abs(lost_share(pattern(seed), d_k) - quarter_circle_loss(d_k / N))
        for d_k in (N // 8, N // 4, N // 2)
    ],
    bound=at_most(2 / N),
    control=broken(
        "a pattern that depends on distance", "只取决于距离的模式", pattern=window_pattern
    ),
    tolerance=0.1,
)

# %% [markdown]
# Least squares of scores is not what a softmax is judged by. So we also searched for the queries
# and keys with the smallest Kullback-Leibler divergence from the pattern, from the least-squares
# solution on. A search gives the best that was found, not a proof that nothing is better; hence the
# wide margin: a tenth of what uniform weights miss, which need no features at all.

# %%
SHORT = 32


@cache
def divergence(seed, pattern, d_k, steps=40):
    """Smallest divergence found with d_k features, over that of uniform weights."""
    weights = pattern(seed, SHORT)
    q, k = (part.requires_grad_() for part in best_queries_and_keys(weights, d_k))

    def missed():
        found = attention_weights(q, k, scale=1.0)
        return (weights * (weights.log() - found.log())).sum(-1).mean()

    search = torch.optim.LBFGS([q, k], max_iter=steps, line_search_fn="strong_wolfe")

    def evaluate():
        search.zero_grad()
        loss = missed()
        loss.backward()
        return loss

    search.step(evaluate)
    uniform = (weights * (weights * SHORT).log()).sum(-1).mean()
    with torch.no_grad():
        return (missed() / uniform).item()


prove(
    "no-narrow-fit-of-a-dense-pattern-was-found",
    en="At d_k = n/8 the best fit found still misses over a tenth of what uniform weights miss.",
    zh="d_k = n/8 时，找到的最优拟合，KL 散度仍超过均匀权重的十分之一。",
    of=("KL divergence / that of uniform weights", "KL 散度 / 均匀权重的 KL 散度"),
    measure=lambda seed, pattern=random_pattern: divergence(seed, pattern, SHORT // 8),
    bound=at_least(0.1),
    control=broken(
        "a pattern that depends on distance", "只取决于距离的模式", pattern=window_pattern
    ),
    tolerance=0.1,
)

# %% [markdown]
# ## 4. What few features are enough for
#
# One feature: the scores are q·k with numbers q and k, so the winner is the largest key or the
# smallest, by the sign of q. Two features: put the keys on a circle, and every key is the nearest
# to some direction. With queries of length g times the keys', the other n − 1 keys together get at
# most (n − 1) exp(−g (1 − cos 2π/n)) of the weight; g is chosen to make this 1 %.


# %%
def winners(seed, d_k=1, n=32, queries=4096):
    """How many of n random keys are the best match of any of 4096 random queries."""
    q, k = gaussian((queries, d_k), seed), gaussian((n, d_k), seed + 1_000_000)
    return attention_weights(q, k).argmax(-1).unique().numel()


prove(
    "one-feature-finds-only-two-keys",
    en="With d_k = 1 only two of 32 keys can ever be a query's best match.",
    zh="d_k = 1 时，32 个键里只有两个可能成为某个查询的最佳匹配。",
    of=("keys that win for some query, of 32", "能胜出的键数（共 32 个）"),
    measure=winners,
    bound=exactly(2),
    control=broken("two features", "两个特征", d_k=2),
)


# %%
def found(seed, d_k=2, n=SHORT):
    """Share of queries that give 99 % to the key that a random permutation names."""
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    keys = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, :d_k]
    gain = math.log(100 * n) / (1 - math.cos(2 * math.pi / n))
    wanted = gaussian((n,), seed).argsort()
    weights = attention_weights(gain * keys[wanted], keys, scale=1.0)
    return (weights.gather(1, wanted[:, None]) >= 0.99).double().mean()


prove(
    "two-features-find-any-key",
    en="With d_k = 2 any permutation of 32 keys is reached, each query with 99 % on its own key.",
    zh="d_k = 2 就能实现 32 个键的任意排列：每个查询把 99% 的权重给自己的那个键。",
    of=("share of the queries", "查询所占比例"),
    measure=found,
    bound=exactly(1),
    control=broken("one of the two features", "只留其中一个特征", d_k=1),
)

# %% [markdown]
# ## 5. Too few heads, and too narrow ones
#
# d_model = 16. Twelve learned queries must each return the contents, two numbers each, of four
# places of twelve (`qa_lab/experiments/data/retrieval.py`; the page *why-multi-head* is about that
# task). One head has one pattern for a query, so R² cannot exceed ¼, however wide it is. Sixteen
# heads have patterns enough, but one feature each, to match with and to carry. The control gives
# the same sixteen heads two features each (d_k = 2), and leaves d_model at 16.
#
# Queries, steps and learning rate were chosen in pilot runs, and then tried on fresh seeds. The
# first bound is twice the ceiling of one head; the second, a tenth of the variance.

# %%
TARGETS = 4


def retrieval(seed, n_heads, d_k=None):
    """Share of the asked contents' variance that was returned; d_k None: 16 / n_heads."""
    return train_retrieval(
        seed,
        n_heads=n_heads,
        n_targets=TARGETS,
        content=2,
        d_model=16,
        d_k=d_k,
        n_queries=12,
        steps=80,
        lr=3e-2,
    ).r_squared


prove(
    "eight-narrow-heads-beat-any-single-head",
    en="At d_model = 16, eight heads of two features return twice what any one head could.",
    zh="d_model = 16 时，8 个宽度为 2 的头取回的内容，是任何单头上限的两倍以上。",
    of=("held-out R²; one head: ≤ ¼", "留出集 R²；单头 ≤ ¼"),
    measure=lambda seed, n_heads=8: retrieval(seed, n_heads),
    bound=at_least(2 * ceiling(1, TARGETS)),
    control=broken("one head of 16 features", "一个宽度为 16 的头", n_heads=1),
    tolerance=0.25,
)

# %%
prove(
    "heads-of-one-feature-are-too-narrow",
    en="Sixteen heads of one feature return less than eight heads of two, at the same d_model.",
    zh="d_model 相同时，16 个宽度为 1 的头取回的内容少于 8 个宽度为 2 的头。",
    of=("R² of 8 heads − R² of 16 heads", "8 个头的 R² − 16 个头的 R²"),
    measure=lambda seed, d_k=None: retrieval(seed, 8) - retrieval(seed, 16, d_k),
    bound=at_least(0.1),
    control=broken("the sixteen heads two features wide", "16 个头的宽度也取 2", d_k=2),
    tolerance=0.5,
)

# %% [markdown]
# ## 6. Figures

# %%
SEEDS = range(5)


def draw_cost(left, right):
    d_model, counts = 48, (1, 2, 4, 8, 16)
    base = passes(d_model, 1, False)[0]
    for wide, key, name in ((False, "split", "d_k = d/h"), (True, "full", "d_k = d")):
        products = [passes(d_model, n_heads, wide)[0] / base for n_heads in counts]
        left.plot(counts, products, marker="o", gid=key, label=name)
        one = softmax_entries(d_model, 1, wide)
        entries = [softmax_entries(d_model, n_heads, wide) / one for n_heads in counts]
        style = {"linestyle": "--", "marker": "s"} if wide else {"marker": "o"}
        right.plot(counts, entries, gid=key, label=name, **style)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set_xlabel("heads h")
        ax.set_ylim(0.7, 24)
    left.set_title("matrix products")
    right.set_title("softmax")
    left.set_ylabel("operations, one head = 1")
    right.set_ylabel("entries, one head = 1")
    left.legend(title="width of a head")


figure("cost-by-heads", draw_cost, panels=2, size=(8.4, 3.4))


# %%
def draw_rank(left, right):
    shares = np.array([1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 63])
    left.plot(
        shares,
        [quarter_circle_loss(d_k / N) for d_k in shares],
        gid="law",
        label="random, by the law",
        linestyle="--",
    )
    for key, name, pattern, line in (
        ("random", "random", random_pattern, "none"),
        ("distance", "by distance", window_pattern, "-"),
    ):
        runs = [[lost_share(pattern(seed), d_k) for d_k in shares] for seed in SEEDS]
        spread(left, shares, runs, gid=key, label=name, marker="o", linestyle=line)
    widths = (1, 2, 4, 8, 16, 24, 31)
    for colour, key, pattern in (
        ("C1", "random", random_pattern),
        ("C2", "distance", window_pattern),
    ):
        runs = [[divergence(seed, pattern, d_k) for d_k in widths] for seed in SEEDS]
        spread(right, widths, runs, gid=key, label=key, marker="o", color=colour)
    left.set_title("best possible scores, n = 64")
    left.set_ylabel("share of the scores lost")
    right.set_title("best weights found, n = 32")
    right.set_ylabel("KL / KL of uniform weights")
    for ax in (left, right):
        ax.set_xlabel("d_k (features)")
        ax.set_ylim(-0.03, 1.05)
    left.legend(title="pattern")


figure("pattern-by-width", draw_rank, panels=2, size=(8.4, 3.4), tolerance=0.1)


# %%
def draw_heads(ax):
    counts = (1, 2, 4, 8, 16)
    spread(
        ax,
        counts,
        [[retrieval(seed, n_heads) for n_heads in counts] for seed in SEEDS],
        gid="trained",
        label="trained",
        marker="o",
    )
    ax.plot(
        counts,
        [ceiling(n_heads, TARGETS) for n_heads in counts],
        linestyle="--",
        gid="ceiling",
        label="ceiling: one pattern per head",
    )
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [f"{h}\n({16 // h})" for h in counts])
    ax.set_xlabel("heads h (and features of each, 16 / h)")
    ax.set_ylabel("held-out R²")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower right")


figure("too-few-and-too-narrow", draw_heads, tolerance=0.25)
