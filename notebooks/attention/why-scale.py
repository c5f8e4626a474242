# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why divide the scores by √d_k before the softmax?
#
# The proofs behind the page *why-scale*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.

# %%
import math
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.claims import at_least, at_most, broken, prove, within
from qa_lab.claims.figures import figure, spread
from qa_lab.experiments.data.recall import train_recall, twin_losses
from qa_lab.experiments.measures import entropy_share, gaussian, softmax_jacobian
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    additive_scores,
    attention_weights,
    dot_product_scores,
    fused_attention,
    masked_softmax,
    scaled_dot_product_attention,
)

torch.set_num_threads(1)

# %% [markdown]
# ## 1. The variance of a dot product
#
# Independent q and k with mean 0 and variance 1 in every feature. n = 16 384 pairs give the sample
# variance a relative standard error of √((2 + κ)/n), with κ ≤ 6/d_k the excess kurtosis of the sum:
# at most 0.013 for d_k ≥ 8. The bound of ± 0.06 is 4.6 of them.

# %%
WIDTHS = (4, 16, 64, 256, 1024)
DRAWN_PAIRS = 16_384


def uniform(shape, seed):
    """Uniform with variance 1: not Gaussian, so that nothing rests on the Gaussian."""
    draw = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * draw - 1) * math.sqrt(3)


def pair_scores(seed, d_k, scale, draw=gaussian, mean=0.0):
    """Scores [pair] of independent pairs, through the lab's own score function."""
    q = draw((DRAWN_PAIRS, 1, d_k), seed) + mean
    k = draw((DRAWN_PAIRS, 1, d_k), seed + 1_000_000) + mean
    return dot_product_scores(q, k, scale=scale).flatten()


# %%
prove(
    "variance-grows-with-dk",
    en="For independent features of mean 0 and variance 1, the variance of q·k is d_k.",
    zh="若 q、k 各分量相互独立、均值为 0、方差为 1，则 q·k 的方差等于 d_k。",
    of=("Var(q·k) / d_k", "Var(q·k) / d_k"),
    measure=lambda seed, mean=0.0: [
        pair_scores(seed, d_k, 1.0, draw, mean).var() / d_k
        for draw in (gaussian, uniform)
        for d_k in (8, 32, 128)
    ],
    bound=within(0.94, 1.06),
    control=broken("features with mean ½ instead of 0", "分量均值为 ½ 而非 0", mean=0.5),
    settles={"dot-variance-equals-d": "holds"},
)

# %%
prove(
    "mean-score-is-zero",
    en="For independent features of mean 0, q·k has mean 0: only its spread grows with d_k.",
    zh="若各分量相互独立且均值为 0，则 q·k 的均值为 0：随 d_k 增大的只有离散程度。",
    of=("|mean of q·k|, in standard errors", "q·k 均值的绝对值（以标准误为单位）"),
    measure=lambda seed, mean=0.0: [
        pair_scores(seed, d_k, 1.0, mean=mean).mean().abs() / math.sqrt(d_k / DRAWN_PAIRS)
        for d_k in (8, 32, 128)
    ],
    bound=at_most(4.5),
    control=broken("features with mean ½ instead of 0", "分量均值为 ½ 而非 0", mean=0.5),
    settles={"dot-variance-equals-d": "holds"},
    tolerance=0.05,
)

# %%
prove(
    "scaling-restores-unit-variance",
    en="Divided by √d_k, a score has variance 1 at every width.",
    zh="除以 √d_k 之后，无论 d_k 多大，分数的方差都是 1。",
    of=("Var(score), d_k = 8 … 128", "分数的方差，d_k = 8 … 128"),
    measure=lambda seed, scale=None: [pair_scores(seed, d_k, scale).var() for d_k in (8, 32, 128)],
    bound=within(0.94, 1.06),
    control=broken("no division", "不做除法", scale=1.0),
    settles={"scale-restores-unit-variance": "holds", "scale-controls-range": "conditional"},
)


# %% [markdown]
# The width that counts is that of one head. `d_model` = 128; the weights are drawn so that every
# feature of Q and K has variance 1 on average. For given weights the variance of a score scatters
# around 1, so it is averaged over eight draws, and the bound is wide all the same; dividing by
# √d_model would give 1/heads, at most ½.


# %%
def unit_variance(weight):
    """Draw a projection so that features of variance 1 go to features of variance 1."""
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)


def head_score_variance(seed, n_heads, width=None, start=unit_variance, d_model=128, draws=8):
    """The variance of scores over √width, averaged over the heads and over draws of the weights."""
    variances = []
    for draw in range(draws):
        x = gaussian((2, 256, d_model), seed + draw * 1_000)
        attention = MultiHeadAttention(d_model, n_heads, bias=False).double()
        start(attention.W_Q.weight)
        start(attention.W_K.weight)
        with torch.no_grad():
            q, k, _ = attention.project(x[:1], x[1:])
            scale = None if width is None else width**-0.5
            variances.append(dot_product_scores(q, k, scale=scale).var().item())
    return sum(variances) / draws


prove(
    "divide-by-the-heads-own-width",
    en="With several heads, unit variance needs the width of one head, d_k, not d_model.",
    zh="多头时要使方差为 1，除的是单个头的宽度 d_k 的平方根，而不是 d_model 的平方根。",
    of=("Var(score), 2 … 16 heads", "分数的方差，2 … 16 个头"),
    measure=lambda seed, width=None: [
        head_score_variance(seed, n_heads, width) for n_heads in (2, 4, 8, 16)
    ],
    bound=within(0.75, 1.25),
    control=broken("divided by √d_model", "改为除以 √d_model", width=128),
    settles={"scale-uses-key-dimension": "holds"},
    tolerance=0.05,
)

# %% [markdown]
# A layer of `nn.Linear` starts with weights uniform within ± 1/√d_model, of variance 1/(3 d_model).
# Features of variance 1 then become features of variance 1/3, and a scaled score has variance 1/9.


# %%
def torch_default(weight):
    """Leave the weights as `nn.Linear` drew them."""


prove(
    "default-weights-give-a-ninth",
    en="With PyTorch's default linear layers, a scaled score starts with variance 1/9, not 1.",
    zh="用 PyTorch 线性层的默认初始化，缩放后分数的初始方差是 1/9，而不是 1。",
    of=("9 · Var(score)", "9 · 分数的方差"),
    measure=lambda seed, start=torch_default: 9 * head_score_variance(seed, 4, start=start),
    bound=within(0.75, 1.25),
    control=broken(
        "weights drawn to keep variance 1", "按保持方差为 1 的方式初始化", start=unit_variance
    ),
    settles={"scale-stable-for-any-dimension": "conditional"},
    tolerance=0.05,
)


# %%
def own_against_torch(seed, scale=None):
    """Largest difference between the lab's two attention paths and PyTorch's own default."""
    q, k = gaussian((2, 3, 7, 11), seed), gaussian((2, 3, 5, 11), seed + 1_000_000)
    v = gaussian((2, 3, 5, 13), seed + 2_000_000)
    theirs = F.scaled_dot_product_attention(q, k, v)
    fused = fused_attention(q, k, v, scale=scale)
    plain, _ = scaled_dot_product_attention(q, k, v, scale=scale)
    return [(fused - theirs).abs().max(), (plain - theirs).abs().max()]


prove(
    "torch-divides-by-root-dk-too",
    en="PyTorch's scaled_dot_product_attention divides by √d_k by default, as the formula does.",
    zh="PyTorch 的 scaled_dot_product_attention 默认也除以 √d_k，与公式一致。",
    of=("largest |difference| of the outputs", "输出的最大绝对差"),
    measure=own_against_torch,
    bound=at_most(1e-12),
    control=broken("ours divided by √d_v", "我们的实现改为除以 √d_v", scale=13**-0.5),
    settles={"scale-uses-key-dimension": "holds"},
)

# %% [markdown]
# ## 2. What large scores do to the softmax
#
# A query over 64 keys. With scores of variance 1, the entropy of the softmax is about ln n − ½
# whatever d_k is: 0.88 of ln 64. The bound allows ± 0.05.

# %%
SCALES = {"÷ √d_k": lambda d_k: d_k**-0.5, "none": lambda d_k: 1.0, "÷ d_k": lambda d_k: 1 / d_k}


def random_weights(seed, d_k, scale=None, queries=64, keys=64):
    """Attention weights [query key] of random queries and keys."""
    q, k = gaussian((queries, d_k), seed), gaussian((keys, d_k), seed + 1_000_000)
    return attention_weights(q, k, scale=scale)


prove(
    "entropy-does-not-depend-on-dk",
    en="With the scale, the softmax is equally spread out at every d_k.",
    zh="做了缩放后，无论 d_k 多大，softmax 的分散程度都一样。",
    of=("entropy / ln n, d_k = 4 … 1024", "熵 / ln n，d_k = 4 … 1024"),
    measure=lambda seed, scale=None: [
        entropy_share(random_weights(seed, d_k, scale)) for d_k in WIDTHS
    ],
    bound=within(0.83, 0.93),
    control=broken("no scale", "不缩放", scale=1.0),
    settles={"scale-stable-for-any-dimension": "conditional"},
)

# %%
prove(
    "dividing-by-dk-flattens",
    en="Dividing by d_k instead makes the softmax nearly uniform when d_k is large.",
    zh="若改为除以 d_k，d_k 较大时 softmax 会几乎变成均匀分布。",
    of=("entropy / ln n at d_k = 1024", "d_k = 1024 时的熵 / ln n"),
    measure=lambda seed, scale=1 / 1024: entropy_share(random_weights(seed, 1024, scale)),
    bound=at_least(0.99),
    control=broken("divided by √d_k", "除以 √d_k", scale=1024**-0.5),
)

# %%
prove(
    "one-key-takes-almost-all",
    en="At d_k = 1024 without the scale, one key out of 32 takes almost all of the weight.",
    zh="d_k = 1024 且不缩放时，32 个键中的一个几乎拿走全部权重。",
    of=("mean largest weight", "最大权重的均值"),
    measure=lambda seed, scale=1.0: (
        random_weights(seed, 1024, scale, queries=256, keys=32).amax(-1).mean()
    ),
    bound=at_least(0.9),
    control=broken("divided by √d_k", "除以 √d_k", scale=1024**-0.5),
    settles={"one-score-dominates": "holds"},
)


# %%
def mean_weight_error(seed, factor, normalise):
    """The largest |n · mean weight − 1| over 256 rows of scores, multiplied by `factor`."""
    scores = gaussian((256, 64), seed) * factor
    return (normalise(scores).mean(-1) * 64 - 1).abs().max()


prove(
    "large-scores-leave-the-mean-weight-alone",
    en="Large scores do not make softmax weights small across the board: they still average 1/n.",
    zh="分数大，并不会让 softmax 权重普遍变小：均值仍恰为 1/n。",
    of=("|n · mean weight − 1|, scores × 1 … × 64", "|n · 权重均值 − 1|，分数 × 1 … × 64"),
    measure=lambda seed, normalise=masked_softmax: [
        mean_weight_error(seed, factor, normalise) for factor in (1.0, 4.0, 16.0, 64.0)
    ],
    bound=at_most(1e-12),
    control=broken("a sigmoid for each key", "每个键各用一个 sigmoid", normalise=torch.sigmoid),
    settles={"softmax-value-small-when-scores-large": "refuted"},
)

# %% [markdown]
# ## 3. What that does to the gradient
#
# The Jacobian of the softmax is J = diag(p) − p pᵀ. It vanishes as p becomes one-hot, and its
# largest eigenvalue never exceeds ½. For scores of variance 1 over n keys, Σp² is about e/n, and
# ‖J‖ about √(e/n). "Vanishes" is asked of the median row: less than a hundredth of that.


# %%
def median_jacobian(seed, scale):
    """Median over 256 rows of the Frobenius norm of the softmax Jacobian; d_k = 4096, 64 keys."""
    weights = random_weights(seed, 4096, scale, queries=256)
    return softmax_jacobian(weights).flatten(1).norm(dim=1).median()


prove(
    "softmax-jacobian-vanishes",
    en="At d_k = 4096 without the scale, the median query's softmax Jacobian has all but vanished.",
    zh="不缩放且 d_k = 4096 时，softmax 雅可比矩阵范数的中位数几乎为零。",
    of=("median ‖J‖", "‖J‖ 的中位数"),
    measure=lambda seed, scale=1.0: median_jacobian(seed, scale),
    bound=at_most(0.002),  # a hundredth of √(e/64) = 0.206
    control=broken("divided by √d_k", "除以 √d_k", scale=4096**-0.5),
    settles={"large-scores-vanish-softmax-gradient": "holds"},
)


# %%
def jacobian_change(seed, shift=1000.0, stretch=1.0):
    """Relative change of the softmax Jacobian when scores are shifted, and stretched."""
    scores = gaussian((64, 16), seed)
    before, after = (
        softmax_jacobian(masked_softmax(s)) for s in (scores, scores * stretch + shift)
    )
    return (after - before).norm() / before.norm()


prove(
    "spread-not-size-saturates",
    en="Adding 1000 to every score changes no weight and no gradient: only their spread saturates.",
    zh="所有分数都加 1000，权重和梯度都不变：使 softmax 饱和的是分数的离散程度，不是大小。",
    of=("relative change of the Jacobian", "雅可比矩阵的相对变化"),
    measure=jacobian_change,
    bound=at_most(1e-9),
    control=broken("spread out by 4 as well", "同时把分数拉开 4 倍", stretch=4.0),
    settles={
        "large-scores-vanish-softmax-gradient": "holds",
        "softmax-value-small-when-scores-large": "refuted",
    },
)


# %%
def exp_without_sum(scores):
    """The softmax with its normalisation left out."""
    return (scores - scores.amax(-1, keepdim=True)).exp()


def largest_singular_value(seed, normalise=masked_softmax):
    """Over random scores of sizes up to 10⁴, and for two equal scores far above the rest."""
    for size in (0.1, 1.0, 10.0, 100.0, 10_000.0):
        scores = gaussian((32, 16), seed) * size
        scores[0] = -1e4
        scores[0, :2] = 0.0
        jacobian = torch.func.vmap(torch.func.jacrev(normalise))(scores)
        yield torch.linalg.matrix_norm(jacobian, ord=2).max().item()


prove(
    "softmax-cannot-explode-a-gradient",
    en="No scores, however large, make the softmax multiply a gradient by more than ½.",
    zh="无论分数多大，梯度经过 softmax 最多剩下一半。",
    of=("largest singular value of the Jacobian", "雅可比矩阵的最大奇异值"),
    measure=lambda seed, normalise=masked_softmax: list(largest_singular_value(seed, normalise)),
    bound=at_most(0.5 + 1e-9),
    control=broken(
        "exp without dividing by the sum", "只取 exp，不除以总和", normalise=exp_without_sum
    ),
    settles={"scale-prevents-explosion": "conditional"},
)


# %% [markdown]
# Without the factor c = 1/√d_k, two things happen to a query's gradient c · Kᵀ J ∂L/∂p: J shrinks
# or not, row by row, and c is missing from the product. To tell them apart, one control has the
# very same large scores from queries √d_k times as long, with the factor in place. Ten times and
# a tenth are round margins, set after pilot runs and then tried on seeds that the pilots had not
# used.

# %%
D_K = 1024
FACTOR = {  # scale, and length of the queries
    "in place": (None, 1.0),
    "dropped": (1.0, 1.0),
    "in place, longer queries": (None, math.sqrt(D_K)),
}


@cache
def query_gradients(seed, factor):
    """|∂L/∂q| of each of 256 queries; L is the squared error of the attention output."""
    scale, length = FACTOR[factor]
    q = (length * gaussian((256, D_K), seed)).requires_grad_()
    k, v = gaussian((64, D_K), seed + 1_000_000), gaussian((64, D_K), seed + 2_000_000)
    out, _ = scaled_dot_product_attention(q, k, v, scale=scale)
    loss = (out - gaussian((256, D_K), seed + 3_000_000)).square().mean()
    (gradient,) = torch.autograd.grad(loss, q)
    return gradient.norm(dim=-1)


def relative_gradients(seed, factor):
    """The same over a typical one: the median with the factor in place."""
    return query_gradients(seed, factor) / query_gradients(seed, "in place").median()


prove(
    "without-scale-some-gradients-grow",
    en="Without the scale, the largest query gradient is more than ten times as large as with it.",
    zh="不缩放时，最大的查询梯度是缩放时的十倍以上。",
    of=("largest |∂L/∂q| / the largest with the factor", "最大 |∂L/∂q| / 有系数时的最大值"),
    measure=lambda seed, factor="dropped": (
        query_gradients(seed, factor).max() / query_gradients(seed, "in place").max()
    ),
    bound=at_least(10.0),
    control=broken(
        "the same scores from longer queries, the factor in place",
        "分数相同，但由更长的查询产生，系数保留",
        factor="in place, longer queries",
    ),
    settles={"scale-prevents-explosion": "conditional"},
    tolerance=0.05,
)

# %%
prove(
    "without-scale-some-gradients-die",
    en="Yet more than a tenth of the queries get less than a thousandth of a typical gradient.",
    zh="但同时有超过十分之一的查询，梯度不到典型值的千分之一。",
    of=("share of the queries", "查询所占比例"),
    measure=lambda seed, factor="dropped": (
        (relative_gradients(seed, factor) < 1e-3).double().mean()
    ),
    bound=at_least(0.1),
    control=broken("divided by √d_k", "除以 √d_k", factor="in place"),
    settles={
        "large-scores-vanish-softmax-gradient": "holds",
        "scale-prevents-explosion": "conditional",
    },
    tolerance=0.05,
)

# %% [markdown]
# ## 4. The conditions
#
# The derivation assumes independent q and k. Aligned vectors break the assumption by definition,
# and training breaks it on purpose.


# %%
def aligned_score(seed, d_k, power):
    """|score / √d_k − 1| of a key equal to its query, features of mean square 1, over d_k^power."""
    q = gaussian((64, 1, d_k), seed)
    q = q / q.square().mean(-1, keepdim=True).sqrt()
    return (dot_product_scores(q, q, scale=d_k**-power) / d_k**0.5 - 1).abs().max()


prove(
    "aligned-scores-still-grow",
    en="A key equal to its query scores √d_k even after the scaling: the range is not bounded.",
    zh="若键与查询相同，缩放之后分数仍为 √d_k：取值范围并没有被限定。",
    of=("|score / √d_k − 1|, d_k = 4 … 1024", "|分数 / √d_k − 1|，d_k = 4 … 1024"),
    measure=lambda seed, power=0.5: [aligned_score(seed, d_k, power) for d_k in WIDTHS],
    bound=at_most(1e-12),
    control=broken("divided by d_k", "除以 d_k", power=1.0),
    settles={"scale-controls-range": "conditional"},
)


# %%
def folded(seed, fold=11**-0.5):
    """Scaled attention against unscaled attention whose W_Q was multiplied by `fold`."""
    x = gaussian((2, 9, 66), seed)
    scaled = MultiHeadAttention(66, 6, bias=False).double()
    unscaled = MultiHeadAttention(66, 6, bias=False, attend=DotProductAttention(scale=1.0)).double()
    unscaled.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        unscaled.W_Q.weight.mul_(fold)
        return (scaled(x) - unscaled(x)).abs().max()


prove(
    "scale-folds-into-the-query-weights",
    en="Multiplying W_Q by 1/√d_k gives the same function: the scale adds no expressive power.",
    zh="把 1/√d_k 乘进 W_Q 就得到同一个函数：缩放不增加任何表达能力。",
    of=("largest |difference| of the outputs", "输出的最大绝对差"),
    measure=folded,
    bound=at_most(1e-12),
    control=broken("folding in 1/√d_model instead", "改为乘进 1/√d_model", fold=66**-0.5),
    settles={"scale-improves-training-and-generalisation": "conditional"},
)

# %%
prove(
    "scale-is-initialisation-and-step-size",
    en="Fold the scale into W_Q's start and W_Q's learning rate, and Adam takes the same path.",
    zh="把缩放同时折进 W_Q 的初值和学习率，Adam 走的路径完全相同。",
    of=("largest |difference| of the losses over 50 steps, nats", "50 步内损失的最大绝对差（nat）"),
    measure=lambda seed, fold_step=True: twin_losses(seed, d_k=24, fold_step=fold_step),
    bound=at_most(1e-6),
    control=broken("only the initial value folded", "只折进初值", fold_step=False),
    settles={"scale-improves-training-and-generalisation": "conditional"},
)

# %% [markdown]
# ## 5. Learning
#
# One head must find the pair that a query asks for among ten (`qa_lab/experiments/data/recall.py`).
# Adam, learning rate 3e-3; queries and keys start with features of variance 1. We call recall
# learned at an accuracy of 0.95 and not learned at 0.9, and a difference of 0.1 a difference.
# Width, steps and these thresholds were chosen in pilot runs, and then tried on seeds that the
# pilots had not used.


# %%
class AdditiveScores(nn.Module):
    """Additive scores; the output vector v_a starts with entries of standard deviation `std`."""

    def __init__(self, d_k, std):
        super().__init__()
        self.v_a = nn.Parameter(std * torch.randn(d_k))

    def forward(self, q, k):
        return additive_scores(q, k, self.v_a)


SCORES = {
    "÷ √d_k": lambda d_k: dot_product_scores,
    "none": lambda d_k: partial(dot_product_scores, scale=1.0),
    "÷ d_k": lambda d_k: partial(dot_product_scores, scale=1 / d_k),
    "additive": lambda d_k: AdditiveScores(d_k, std=d_k**-0.5),  # fan-in, as is usual
    "additive, v_a of variance 1": lambda d_k: AdditiveScores(d_k, std=1.0),
}
STEPS = {16: 200, 128: 100}  # a narrow head needs longer


@cache
def recall(seed, d_k, scores, query_gain=1.0):
    """One trained head; cached, since claims and figures share it."""
    return train_recall(seed, d_k, SCORES[scores], query_gain=query_gain, steps=STEPS[d_k])


# %%
prove(
    "unscaled-head-learns-worse",
    en="At d_k = 128, a head without the scale has not learned recall after 100 steps.",
    zh="d_k = 128 时，不缩放的头训练 100 步后还没有学会检索。",
    of=("held-out accuracy", "留出集准确率"),
    measure=lambda seed, scores="none": recall(seed, 128, scores).accuracy,
    bound=at_most(0.9),
    control=broken("divided by √d_k", "除以 √d_k", scores="÷ √d_k"),
    settles={"scale-improves-training-and-generalisation": "conditional"},
    tolerance=0.25,
)

# %%
prove(
    "one-over-dk-learns-too",
    en="A head that divides by d_k learns the same task: √d_k is not the only divisor that works.",
    zh="除以 d_k 的头同样学得会：√d_k 并不是唯一可行的除数。",
    of=("held-out accuracy", "留出集准确率"),
    measure=lambda seed, scores="÷ d_k": recall(seed, 128, scores).accuracy,
    bound=at_least(0.95),
    control=broken("no division at all", "完全不除", scores="none"),
    tolerance=0.25,
)

# %% [markdown]
# Is it the variance at the start that counts? Give the unscaled head a W_Q that is √d_k times
# smaller: its scores start with variance 1 like the scaled head's. Among ten keys, a standard
# deviation of 10 leaves the softmax nearly one-hot; that is the bound. The control folds the step
# size too, which is the scaled head, by the claim about Adam's path.

# %%
prove(
    "unit-variance-at-the-start-is-not-enough",
    en="An unscaled head that starts with unit-variance scores still ends up saturated.",
    zh="不缩放的头，即使初始分数的方差为 1，训练后照样饱和。",
    of=("log₁₀ of the scores' standard deviation after training", "训练后分数标准差的 log₁₀"),
    measure=lambda seed, scores="none": math.log10(
        recall(seed, 128, scores, 1.0 if scores == "÷ √d_k" else 128**-0.5).score_std[1]
    ),
    bound=at_least(1.0),
    control=broken("the step size of W_Q folded too", "同时折进 W_Q 的步长", scores="÷ √d_k"),
    settles={"scale-stable-for-any-dimension": "conditional"},
    tolerance=0.25,
)

# %%
BEFORE, AFTER = 0, 1

prove(
    "trained-scores-outgrow-unit-variance",
    en="After training, scaled scores spread far wider than 1: the derivation is about the start.",
    zh="训练之后，缩放过的分数的标准差远大于 1：推导说的只是初始时刻。",
    of=("standard deviation of the scaled scores", "缩放后分数的标准差"),
    measure=lambda seed, moment=AFTER: recall(seed, 128, "÷ √d_k").score_std[moment],
    bound=at_least(2.0),
    control=broken("before training", "训练之前", moment=BEFORE),
    settles={"scale-stable-for-any-dimension": "conditional"},
    tolerance=0.25,
)

# %%
prove(
    "training-aligns-queries-with-their-keys",
    en="Training aligns a query with the key it looks for: they are no longer independent.",
    zh="训练会让查询与它要找的键方向趋于一致：两者不再独立。",
    of=("mean cosine of a query and its key", "查询与对应键的平均余弦"),
    measure=lambda seed, moment=AFTER: recall(seed, 128, "÷ √d_k").alignment[moment],
    bound=at_least(0.5),
    control=broken("before training", "训练之前", moment=BEFORE),
    settles={"scale-stable-for-any-dimension": "conditional"},
    tolerance=0.25,
)

# %%
prove(
    "additive-beats-unscaled-when-wide",
    en="At d_k = 128, additive attention learns recall and the unscaled dot product does not yet.",
    zh="d_k = 128 时，加性注意力学会了检索，不缩放的点积还没有。",
    of=("accuracy of additive − accuracy of the dot product", "加性准确率 − 点积准确率"),
    measure=lambda seed, dot="none": (
        recall(seed, 128, "additive").accuracy - recall(seed, 128, dot).accuracy
    ),
    bound=at_least(0.1),
    control=broken("the dot product scaled", "点积做缩放", dot="÷ √d_k"),
    settles={"small-dk-equal-large-dk-additive-wins": "conditional"},
    tolerance=0.25,
)


# %%
def score_std_ratio(seed, v_std=lambda d_k: d_k**-0.5):
    """How much wider additive scores spread at d_k = 1024 than at d_k = 4, at the start."""
    stds = []
    for d_k in (4, 1024):
        heads = 64
        q, k = gaussian((heads, 1, d_k), seed), gaussian((heads, 32, d_k), seed + 1_000_000)
        v_a = gaussian((heads, d_k), seed + 2_000_000) * v_std(d_k)
        stds.append(torch.func.vmap(additive_scores)(q, k, v_a).std().item())
    return stds[1] / stds[0]


prove(
    "additive-scores-carry-their-own-scale",
    en="Additive scores do not spread with d_k because v_a usually starts with a 1/√d_k in it.",
    zh="加性分数不随 d_k 拉开，因为 v_a 的初值通常已带有 1/√d_k。",
    of=("score std at d_k = 1024 / at d_k = 4", "d_k = 1024 与 d_k = 4 时分数标准差之比"),
    measure=score_std_ratio,
    bound=within(0.75, 1.25),
    control=broken("v_a with entries of variance 1", "v_a 各分量方差为 1", v_std=lambda d_k: 1.0),
    settles={"small-dk-equal-large-dk-additive-wins": "conditional"},
)

# %%
prove(
    "additive-without-its-scale-learns-worse",
    en="With v_a of variance 1, the additive head has not learned recall after 100 steps either.",
    zh="若 v_a 各分量的初始方差为 1，加性头训练 100 步后同样没有学会检索。",
    of=("held-out accuracy", "留出集准确率"),
    measure=lambda seed, scores="additive, v_a of variance 1": recall(seed, 128, scores).accuracy,
    bound=at_most(0.9),
    control=broken("v_a of length about 1", "v_a 的长度约为 1", scores="additive"),
    settles={"small-dk-equal-large-dk-additive-wins": "conditional"},
    tolerance=0.25,
)

# %% [markdown]
# ## 6. Figures

# %%
SEEDS = range(5)
FINE = [2**i for i in range(2, 13)]
KEYS = {"÷ √d_k": "root", "none": "none", "÷ d_k": "width", "additive": "additive"}


def draw_entropy(left, right):
    for name, scale in SCALES.items():
        entropy = [[entropy_share(random_weights(s, d, scale(d))) for d in FINE] for s in SEEDS]
        largest = [
            [random_weights(s, d, scale(d)).amax(-1).mean().item() for d in FINE] for s in SEEDS
        ]
        spread(left, FINE, entropy, gid=KEYS[name], label=name)
        spread(right, FINE, largest, gid=KEYS[name], label=name)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xlabel("d_k (features)")
        ax.set_ylim(-0.03, 1.05)
    left.set_ylabel("entropy of the weights / ln n")
    right.set_ylabel("mean largest weight")
    left.legend(title="scale")


figure("softmax-by-width", draw_entropy, panels=2, size=(8.4, 3.4))


# %%
def draw_gradients(ax):
    edges = np.linspace(-13.5, 3, 50)
    for name, factor in (("÷ √d_k", "in place"), ("none", "dropped")):
        rows = torch.cat([relative_gradients(seed, factor) for seed in SEEDS])
        logs = rows.clamp_min(1e-13).log10().numpy()
        share = np.histogram(logs, bins=edges)[0] / len(logs)
        ax.stairs(share, edges, fill=True, alpha=0.6, gid=KEYS[name], label=name)
    ax.set_xlabel("log₁₀ |∂L/∂q| of a query, 0 = the scaled median")
    ax.set_ylabel("share of the queries")
    ax.legend(title="scale")


figure("query-gradients", draw_gradients, tolerance=0.05)


# %%
def draw_learning(left, right):
    window = np.ones(10) / 10
    for ax, d_k in ((left, 16), (right, 128)):
        for name, key in KEYS.items():
            runs = [np.convolve(recall(s, d_k, name).losses, window, "valid")[::10] for s in SEEDS]
            spread(ax, np.arange(len(runs[0])) * 10 + 5, runs, gid=key, label=name)
        ax.set_title(f"d_k = {d_k}")
        ax.set_xlabel("optimiser steps")
        ax.set_ylabel("training loss (nats)")
        ax.set_ylim(0, 6)
    right.legend(title="scores")


figure("learning-by-scale", draw_learning, panels=2, size=(8.4, 3.4), tolerance=0.25)
