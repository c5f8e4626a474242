# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why dot-product rather than additive attention? How do cost and effect differ?
#
# The proofs behind the page *dot-or-additive*. Each cell is one claim: a measurement, a bound, and
# a control, the same measurement with one thing broken, that must miss the bound.
#
# How either score learns at different widths is measured on the page *why-scale*, and not again.

# %%
import math
import time
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.claims.figures import INK, figure, spread
from qa_lab.experiments.data.operations import operations
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measures import gaussian, peak_bytes, refused, saved_bytes, seconds
from qa_lab.transformer.attention import (
    AdditiveScores,
    BilinearScores,
    MultiHeadAttention,
    ScoredAttention,
    additive_scores,
    bilinear_scores,
    causal_mask,
    dot_product_scores,
    masked_softmax,
)

torch.set_num_threads(1)

# %% [markdown]
# ## 1. What they cost
#
# First the arithmetic, counted: two operations for each multiply-add of a matrix product, one for
# each number that an elementwise operation makes, a tanh like any other. Both scorers get their
# projections. From n queries and n keys of width d, all widths equal,
#
# - dot product: 4 n d² + 2 n² d + n² (projections, product, scale),
# - additive: 4 n d² + 4 n² d (projections; add, tanh, and a multiply-add with v_a),
#
# so the ratio is below 2 for every n and d, and tends to 2 (a little less because of the scale).
# The control computes the same additive scores without splitting the first layer: it concatenates
# query and key for every pair, and sends the pair through the layer, 4 n² d² operations.
# Counting needs no numbers, so the tensors live on the meta device.


# %%
def concat_scores(q, k, W_a, v_a):
    """Luong's "concat" as it is written: every pair goes through the first layer by itself."""
    n, m = len(q), len(k)
    pairs = torch.cat([q.unsqueeze(1).expand(n, m, -1), k.unsqueeze(0).expand(n, m, -1)], dim=-1)
    return torch.tanh(pairs @ W_a.T) @ v_a


class ProjectedDot(nn.Module):
    """What one head does: two projections, then the scaled dot product."""

    def __init__(self, d_query, d_key, d_k):
        super().__init__()
        self.W_Q = nn.Parameter(torch.randn(d_k, d_query) * d_query**-0.5)
        self.W_K = nn.Parameter(torch.randn(d_k, d_key) * d_key**-0.5)

    def forward(self, q, k):
        return dot_product_scores(q @ self.W_Q.T, k @ self.W_K.T)


class ConcatScores(AdditiveScores):
    """The very weights of additive scores, applied to every pair by itself."""

    def forward(self, q, k):
        return concat_scores(q, k, torch.cat([self.W_a, self.U_a], dim=1), self.v_a)


def arithmetic(scorer, n, d):
    """Operations to score n queries against n keys, all widths d, projections included."""
    with torch.device("meta"):
        score, q, k = scorer(d, d, d), torch.empty(n, d), torch.empty(n, d)
    return operations(lambda: score(q, k)).total()


prove(
    "additive-costs-at-most-twice-the-arithmetic",
    en="At equal widths, a tanh being one operation, additive takes at most twice the arithmetic.",
    zh="各处宽度相等、一次 tanh 算一次运算时，加性打分的运算量最多是点积的两倍。",
    of=(
        "operations, additive / dot product; n = 64 … 16384, d = 16 … 256",
        "运算次数之比（加性 / 点积）；n = 64 … 16384，d = 16 … 256",
    ),
    measure=lambda scorer=AdditiveScores: [
        arithmetic(scorer, n, d) / arithmetic(ProjectedDot, n, d)
        for n in (64, 1024, 16_384)
        for d in (16, 64, 256)
    ],
    bound=at_most(2.0),
    control=broken(
        "the first layer applied to every pair, not once per token",
        "第一层对每一对都算一遍，而不是每个 token 只算一次",
        scorer=ConcatScores,
    ),
    settles={"additive-has-higher-complexity": "conditional"},
)


# %% [markdown]
# What is left is not the order but the kind of work. With prime sizes, so that no other product of
# axes can pass for it: one tanh for each pair and feature, and each of them kept for the backward
# pass (its derivative is 1 − tanh²). The dot product takes no tanh and keeps Q and K.


# %%
def per_pair_and_feature(seed, score):
    """Tanhs taken, and numbers kept for the backward pass, over query x key x d_a."""
    n_q, n_k, d_a = 37, 29, 11
    q = gaussian((n_q, d_a), seed).requires_grad_()
    k = gaussian((n_k, d_a), seed + 1_000_000).requires_grad_()
    v_a = nn.Parameter(gaussian((d_a,), seed + 2_000_000))
    run = {
        "additive": lambda: additive_scores(q, k, v_a),
        "dot product": lambda: dot_product_scores(q, k),
    }[score]
    kept = saved_bytes(run, nn.ParameterList([v_a])) / q.element_size()
    return [operations(run)["tanh"] / (n_q * n_k * d_a), kept / (n_q * n_k * d_a)]


prove(
    "additive-keeps-a-tanh-per-pair-and-feature",
    en="For every query, key and feature, additive attention takes one tanh and keeps its result.",
    zh="每个（查询，键，特征）组合，加性注意力都要算一次 tanh，并保存结果供反向传播使用。",
    of=(
        "tanhs taken, and numbers kept / (query × key × d_a)",
        "tanh 次数、为反向保存的数 /（query × key × d_a）",
    ),
    measure=lambda seed, score="additive": per_pair_and_feature(seed, score),
    bound=exactly(1.0),
    control=broken("dot products", "改用点积", score="dot product"),
    settles={"additive-has-higher-complexity": "conditional"},
)

# %% [markdown]
# Is it the *dot product* that saves the memory, or the *matrix product* that computes it? The
# control computes the same dot products by broadcasting: multiply every query with every key,
# feature by feature, then sum. A matrix product and its scaling need two matrices of scores; the
# bound allows four.


# %%
def broadcast_scores(q, k):
    """The scaled dot product without a matrix product."""
    return (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) * q.shape[-1] ** -0.5


DOT = {"matrix product": dot_product_scores, "broadcast": broadcast_scores}


def peak_per_score(seed, dot, n=128, d=64):
    """The most numbers held at one time while scoring, over the number of scores."""
    q, k = gaussian((n, d), seed).float(), gaussian((n, d), seed + 1_000_000).float()
    return peak_bytes(lambda: DOT[dot](q, k)) / (n * n * q.element_size())


prove(
    "matrix-product-holds-only-the-scores",
    en="As one matrix product, dot products are scored without holding a number per feature.",
    zh="用一次矩阵乘法算点积，不需要为每个特征各存一个数，只占分数矩阵本身的空间。",
    of=("peak of numbers held / number of scores, d = 64", "同时占用的数的峰值 / 分数个数，d = 64"),
    measure=lambda seed, dot="matrix product": peak_per_score(seed, dot),
    bound=at_most(4.0),
    control=broken("the same dot products by broadcasting", "用广播算同样的点积", dot="broadcast"),
    settles={"dot-gemm-faster": "holds"},
)

# %% [markdown]
# The clock comes last. Medians of five runs in turn, 384 queries and keys of 64 features, no
# gradients. Counting operations would allow a factor of 2. We ask for 10, five times what the
# arithmetic explains; the control has the arithmetic of the dot product, and no matrix product.


# %%
@torch.no_grad()
def time_ratio(seed, dot, n=384, d=64):
    """Time of additive scores over time of dot products, both without projections."""
    q, k = gaussian((n, d), seed).float(), gaussian((n, d), seed + 1_000_000).float()
    v_a = gaussian((d,), seed + 2_000_000).float()
    additive, dots = seconds(
        lambda: additive_scores(q, k, v_a),
        lambda: DOT[dot](q, k),
        rounds=5,
        warm_up=1,
        clock=time.thread_time,
    )
    return additive / dots


prove(
    "additive-is-far-slower-than-one-matrix-product",
    en="Projections aside, additive scores take over ten times as long as one matrix product.",
    zh="不计投影，加性打分的耗时是一次矩阵乘法算点积的十倍以上。",
    of=("time without projections, additive / dot product", "不计投影的耗时之比（加性 / 点积）"),
    measure=lambda seed, dot="matrix product": time_ratio(seed, dot),
    bound=at_least(10.0),
    control=broken("the same dot products by broadcasting", "用广播算同样的点积", dot="broadcast"),
    settles={"dot-gemm-faster": "holds"},
    tolerance=5.0,  # a clock: the bound is what is asserted
)

# %% [markdown]
# ## 2. The formula
#
# Bahdanau's score is v_a · tanh(W_a q + U_a k); Luong's "concat" is v_a · tanh(W [q; k]). They are
# one function, with W = [W_a U_a] side by side. Keys are as wide as queries once, and wider once.


# %%
def against_concat(seed, order, d_key):
    """Largest difference between additive and concat scores; queries of 7, hidden layer of 13."""
    q, k = gaussian((5, 7), seed), gaussian((3, d_key), seed + 1_000_000)
    additive = AdditiveScores(7, d_key, 13).double()
    blocks = {"W_a": additive.W_a, "U_a": additive.U_a}
    W = torch.cat([blocks[name] for name in order], dim=1)
    return (additive(q, k) - concat_scores(q, k, W, additive.v_a)).abs().max()


prove(
    "concat-score-is-additive-score",
    en="Luong's concat score is Bahdanau's additive score, with the two matrices side by side.",
    zh="Luong 的 concat 打分就是 Bahdanau 的加性打分，只是把两个矩阵并排拼成一个。",
    of=(
        "largest |difference| of the scores; widths 7 and 7, 7 and 11",
        "分数的最大绝对差；宽度为 7 与 7、7 与 11",
    ),
    measure=lambda seed, order=("W_a", "U_a"): [
        against_concat(seed, order, d_key) for d_key in (7, 11)
    ],
    bound=at_most(1e-12),
    control=broken("the matrices in the other order", "两个矩阵的次序调换", order=("U_a", "W_a")),
)

# %% [markdown]
# A head is the score that Luong calls "general": (W_Q q) · (W_K k) / √d_k is qᵀ W_a k with
# W_a = W_Qᵀ W_K / √d_k. For keys as wide as queries, and for wider ones. The control transposes
# W_a, which is possible only where it is square.


# %%
def against_general(seed, d_key, transposed):
    """Largest difference between a head's scores and general scores; d_query = 7, d_k = 3."""
    q, k = gaussian((5, 7), seed), gaussian((4, d_key), seed + 1_000_000)
    head = ProjectedDot(7, d_key, 3).double()
    W_a = head.W_Q.T @ head.W_K * 3**-0.5
    general = bilinear_scores(q, k, W_a.T if transposed else W_a)
    return (general - head(q, k)).abs().max()


prove(
    "head-scores-are-general-scores",
    en="A head's scores are Luong's general scores, with W_a = W_Qᵀ W_K / √d_k.",
    zh="一个头的打分就是 Luong 的 general 打分，其中 W_a = W_Qᵀ W_K / √d_k。",
    of=(
        "largest |difference| of the scores; widths 7 and 7, 7 and 11",
        "分数的最大绝对差；宽度为 7 与 7、7 与 11",
    ),
    measure=lambda seed, d_keys=(7, 11), transposed=False: [
        against_general(seed, d_key, transposed) for d_key in d_keys
    ],
    bound=at_most(1e-12),
    control=broken(
        "W_a transposed, where it is square", "W_a 转置（仅方阵）", d_keys=(7,), transposed=True
    ),
)

# %% [markdown]
# Leave the tanh out, as the common description does, and the score is v_a·W_a q + v_a·U_a k. The
# first term is the same for every key, and a softmax over keys ignores it. We get that formula from
# the lab's own function: the tangent of tanh at 0 is the identity, so the derivative of the scores
# at q = k = 0, in the direction of (q, k), is the scores without the tanh.


# %%
def query_dependence(seed, bend):
    """How much any weight differs between queries: the largest difference from the first row."""
    q, k = gaussian((6, 16), seed), gaussian((9, 16), seed + 1_000_000)
    score = partial(additive_scores, v_a=gaussian((16,), seed + 2_000_000))
    at_zero = (torch.zeros_like(q), torch.zeros_like(k))
    scores = score(q, k) if bend else torch.func.jvp(score, at_zero, (q, k))[1]
    weights = masked_softmax(scores)
    return (weights - weights[:1]).abs().max()


prove(
    "without-the-tanh-every-query-attends-alike",
    en="Without the tanh, additive attention gives every query exactly the same weights.",
    zh="去掉 tanh，加性注意力给每个查询的权重完全相同。",
    of=("largest |difference| of weights between queries", "不同查询的权重的最大绝对差"),
    measure=lambda seed, bend=False: query_dependence(seed, bend),
    bound=at_most(1e-12),
    control=broken("with the tanh", "保留 tanh", bend=True),
    settles={"additive-linear-sum-formula": "refuted"},
)

# %% [markdown]
# Queries of 5 features and keys of 9. A right shape would prove little: a scorer could cut the key
# to 5 features. So we ask on which of the 14 features the scores depend; a refusal counts as none.

# %%
SCORERS = {
    "additive": lambda: AdditiveScores(5, 9, 7),
    "general": lambda: BilinearScores(5, 9),
    "projected dot product": lambda: ProjectedDot(5, 9, 7),
    "bare dot product": lambda: dot_product_scores,
}


def features_used(seed, scorer):
    """The share of the 5 + 9 features that the scores depend on."""
    q, k = gaussian((3, 5), seed).float(), gaussian((4, 9), seed + 1_000_000).float()
    score = SCORERS[scorer]()
    if refused(lambda: score(q, k)):
        return 0.0
    _, by_feature = torch.autograd.functional.vjp(score, (q, k), torch.randn(3, 4))
    return torch.cat([(g != 0).any(dim=0) for g in by_feature]).double().mean()


prove(
    "additive-is-not-alone-with-unequal-widths",
    en="Additive scores take queries and keys of unequal width; so do projected dot products.",
    zh="查询与键宽度不同时，加性打分可用；带投影的点积同样可用。",
    of=(
        "share of the 5 + 9 features that the scores depend on",
        "分数所依赖的特征占全部 5 + 9 个特征的比例",
    ),
    measure=lambda seed, scorers=("additive", "general", "projected dot product"): [
        features_used(seed, scorer) for scorer in scorers
    ],
    bound=exactly(1.0),
    control=broken(
        "a dot product without projection", "不带投影的点积", scorers=("bare dot product",)
    ),
    settles={"additive-for-unequal-lengths": "holds"},
)


# %% [markdown]
# Which of the two does the Transformer use? The judge is PyTorch's own multi-head attention with
# the same weights; our layer takes its score function as an argument. Once every token may look
# everywhere, once only at itself and back.


# %%
def against_torch(seed, scores, d_model=12, heads=3):
    """Largest difference between our layer with these scores and PyTorch's: unmasked, causal."""
    theirs = nn.MultiheadAttention(d_model, heads, bias=False, batch_first=True).double()
    attend = ScoredAttention(
        {
            "dot product": dot_product_scores,
            "additive": partial(additive_scores, v_a=gaussian((d_model // heads,), seed)),
        }[scores]
    )
    ours = MultiHeadAttention(d_model, heads, bias=False, attend=attend).double()
    x = gaussian((2, 7, d_model), seed)
    with torch.no_grad():
        projections = (ours.W_Q, ours.W_K, ours.W_V)
        for ours_in, weight in zip(projections, theirs.in_proj_weight.chunk(3), strict=True):
            ours_in.weight.copy_(weight)
        ours.W_O.weight.copy_(theirs.out_proj.weight)
        keep = causal_mask(7)
        pairs = (
            (ours(x), theirs(x, x, x)[0]),
            (ours(x, keep=keep), theirs(x, x, x, attn_mask=~keep)[0]),
        )
        return [(one - other).abs().max() for one, other in pairs]


prove(
    "torch-layer-scores-by-dot-product",
    en="PyTorch's Transformer attention layer scores by the scaled dot product, masked or not.",
    zh="无论加不加掩码，PyTorch 的 Transformer 注意力层用的都是缩放点积打分。",
    of=(
        "largest |difference| of the outputs: unmasked, causal",
        "输出的最大绝对差：无掩码、因果掩码",
    ),
    measure=lambda seed, scores="dot product": against_torch(seed, scores),
    bound=at_most(1e-12),
    control=broken(
        "additive scores, the same weights", "权重相同，改用加性打分", scores="additive"
    ),
    settles={"two-common-scorers": "holds"},
)

# %% [markdown]
# ## 3. What they can express
#
# n queries against n keys give a table of n × n scores. A table of dot products is Q Kᵀ: its rank
# is at most the width, however Q and K were made. The tanh is under no such bound.


# %%
def rank_over_width(seed, score, n=64):
    """Numerical rank of the table of scores over the width, for widths 2, 4 and 8."""
    for d in (2, 4, 8):
        q, k = gaussian((n, d), seed), gaussian((n, d), seed + 1_000_000)
        v_a = gaussian((d,), seed + 2_000_000)
        table = dot_product_scores(q, k) if score == "dot product" else additive_scores(q, k, v_a)
        yield torch.linalg.matrix_rank(table).item() / d


prove(
    "dot-product-scores-have-rank-dk",
    en="Dot-product scores have rank at most d_k, however many there are; random ones reach it.",
    zh="无论查询和键有多少个，点积分数表的秩都不超过 d_k；随机的查询和键能达到 d_k。",
    of=("rank of 64 × 64 scores / d_k, d_k = 2 … 8", "64 × 64 分数表的秩 / d_k，d_k = 2 … 8"),
    measure=lambda seed, score="dot product": list(rank_over_width(seed, score)),
    bound=exactly(1.0),
    control=broken("additive scores", "改用加性打分", score="additive"),
    settles={"dot-better-correlation": "refuted"},
    tolerance=0.1,
)

# %% [markdown]
# That makes a floor, with no network in it. By Eckart and Young, the best table of rank d leaves
# out the singular values after the d-th; no dot product of width d comes nearer, whatever layers
# make its queries and keys. A softmax ignores a constant added to a row, so tables are compared
# with the mean of each row removed, which cannot raise the floor.
#
# Three relations between the positions of 64 queries and 64 keys: *before* (j < i), *near*
# (|i − j| ≤ 2), *the same* (i = j). Additive scores write them with one, two and two features:
# a steep tanh of i − j is a step, and the difference of two steps is a window.

# %%
PLACES = torch.arange(64, dtype=torch.float64)
APART = PLACES.unsqueeze(1) - PLACES  # i − j
TABLES = {"before": APART > 0, "near": APART.abs() <= 2, "the same": APART == 0}
STEPS = {  # where a step in i − j goes up (+½) or down (−½)
    "before": {1: 0.5},
    "near": {-2: 0.5, 3: -0.5},
    "the same": {0: 0.5, 1: -0.5},
}


def centred(table):
    """The table without the mean of each row, which a softmax over keys ignores."""
    return table - table.mean(dim=-1, keepdim=True)


def relative_error(table, target):
    """The error that is left, relative to the table's own size; 1 for a scorer that is constant."""
    return ((centred(table) - centred(target)).norm() / centred(target).norm()).item()


def floor(target, rank):
    """The smallest relative error of any table of this rank (Eckart and Young)."""
    singular = torch.linalg.svdvals(centred(target))
    return (singular[rank:].norm() / singular.norm()).item()


def hand_set(steps, q=PLACES, k=PLACES, steep=50.0):
    """Additive scores of positions, one feature for each step."""
    queries = torch.stack([steep * (q - place + 0.5) for place in steps], dim=-1)
    keys = (-steep * k).unsqueeze(-1).expand(-1, len(steps))
    return additive_scores(queries, keys, torch.tensor(list(steps.values()), dtype=torch.float64))


def error_on(relation, scorer):
    """Of the hand-set additive scores, or of the best dot product of width 8 that there is."""
    target = TABLES[relation].double()
    if scorer == "additive":
        return relative_error(hand_set(STEPS[relation]), target)
    return floor(target, rank=8)


prove(
    "additive-writes-tables-that-no-dot-product-can",
    en="Two additive features write the tables before, near and same; no width-8 dot product can.",
    zh="“在前”“相邻”“相同”三张表，加性打分用两个特征就能写出；宽度为 8 的点积无论如何都做不到。",
    of=(
        "relative error of a 64 × 64 table: before, near, the same",
        "64 × 64 分数表的相对误差：在前、相邻、相同",
    ),
    measure=lambda scorer="additive": [error_on(relation, scorer) for relation in TABLES],
    bound=at_most(1e-10),
    control=broken(
        "the best of all dot products of width 8",
        "宽度为 8 的点积中最好的一个",
        scorer="dot product",
    ),
    settles={"dot-better-correlation": "refuted"},
)

# %% [markdown]
# And the other way round: is there a table of dot products that additive scores cannot write? Far
# to the left, tanh(x) = −1 + 2e^{2x} − …, and e^{a + b} = e^a e^b is a product. So with
# ½ ln(Q + c) − t as queries and ½ ln(K + c) as keys, feature a of the additive score becomes
# (Q_a + c)(K_a + c), up to a constant and an error of the order of e^{−2t}(Q + c)(K + c).
# Multiplied out, that is Q_a K_a, a term of the query alone, which a softmax ignores, and c K_a,
# which one more feature takes away. Here d = 8, t = 8, (Q + c)(K + c) is at most about 100, and
# 100 e^{−16} is about 10⁻⁵. The bound is 10⁻³. The control does the same in the middle of the
# tanh, t = 0.
#
# It takes queries and keys that are logarithms, which the layers before would have to compute. It
# is a statement about tables, as the floor is; of linear projections the last two claims speak.


# %%
def imitation_error(seed, t, d=8):
    """Relative error of additive scores of width d + 1 made to imitate given dot products."""
    Q, K = gaussian((40, d), seed), gaussian((32, d), seed + 1_000_000)
    c = 1 - min(Q.min(), K.min())
    unwanted = c * K.sum(-1, keepdim=True)
    queries = torch.cat([Q + c, torch.ones(len(Q), 1)], dim=1).log() / 2 - t
    keys = torch.cat([K + c, unwanted - unwanted.min() + 1], dim=1).log() / 2
    v_a = torch.full((d + 1,), math.exp(2 * t) / 2, dtype=torch.float64)
    v_a[-1] *= -1
    return relative_error(additive_scores(queries, keys, v_a), dot_product_scores(Q, K, scale=1.0))


prove(
    "additive-can-imitate-any-dot-product",
    en="Additive scores of width d + 1 can imitate any table of dot products of width d.",
    zh="宽度为 d + 1 的加性打分可以模仿任意一张宽度为 d 的点积分数表。",
    of=("relative error of a 40 × 32 table, d = 8", "40 × 32 分数表的相对误差，d = 8"),
    measure=lambda seed, t=8.0: imitation_error(seed, t),
    bound=at_most(1e-3),
    control=broken("in the middle of the tanh, not in its tail", "放在 tanh 的中段而非尾部", t=0.0),
    settles={"dot-better-correlation": "refuted"},
)

# %% [markdown]
# A table is one thing, the winner of a row another: a softmax can be sharpened. Put the keys on a
# straight line in feature space. A dot product is linear in the key, so along the line it only
# rises or only falls, and the largest score is at an end: no query ever prefers a key between. The
# control has random weights, three times as large as usual, so that the tanh bends.


# %%
def middle_wins(seed, score, d=8):
    """The share of 2000 random queries that prefer one of the seven keys between the two ends."""
    q, direction = 3 * gaussian((2000, d), seed), gaussian((1, d), seed + 1_000_000)
    k = 3 * torch.linspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1) * direction
    scorer = {"projected dot product": ProjectedDot, "additive": AdditiveScores}[score]
    best = scorer(d, d, 16).double()(q, k).argmax(dim=-1)
    return ((best > 0) & (best < 8)).double().mean()


prove(
    "dot-product-never-prefers-the-middle-key",
    en="Of keys on a straight line, a dot product can only prefer an end, whatever the query.",
    zh="键若排在一条直线上，点积只会选中两端的键，无论查询是什么。",
    of=("share of the queries that prefer a key between", "选中中间某个键的查询所占比例"),
    measure=lambda seed, score="projected dot product": middle_wins(seed, score),
    bound=exactly(0.0),
    control=broken("additive scores", "改用加性打分", score="additive"),
    settles={"dot-better-correlation": "refuted"},
    tolerance=0.1,
)

# %% [markdown]
# Why nobody suffers from it: keys of equal length lie on a sphere, and no point of a sphere is
# between others. With itself as query, each has the largest score, since k·k > k·k′ when the
# lengths are equal. Normalising the keys (QK-norm) makes them so. In the control the keys keep the
# lengths they were drawn with.


# %%
def own_query_wins(seed, normalise, n=256, d=8):
    """The share of keys that get the largest score from a query equal to themselves."""
    k = gaussian((n, d), seed)
    k = F.normalize(k, dim=-1) if normalise else k
    return (dot_product_scores(k, k).argmax(dim=-1) == torch.arange(n)).double().mean()


prove(
    "keys-of-equal-length-can-all-win",
    en="If all keys have the same length, a dot product can prefer any of them.",
    zh="若所有键长度相同，点积可以选中其中任何一个。",
    of=(
        "share of 256 keys that a query picks out, d_k = 8",
        "256 个键中能被某个查询选中的比例，d_k = 8",
    ),
    measure=lambda seed, normalise=True: own_query_wins(seed, normalise),
    bound=exactly(1.0),
    control=broken("keys of unequal length", "键的长度不等", normalise=False),
    tolerance=0.1,
)

# %% [markdown]
# So far every query and key could be anything. A head has only a linear map before its scores. 64
# queries and 64 keys of four Gaussian features and a constant; the target is the table of distances
# −Σ|q − k|. With linear maps before it, *every* dot product is qᵀ (W_Qᵀ W_K) k with a 5 × 5 matrix
# between, and the best of those is a least-squares problem: no training, and a floor under all
# heads of any width. Additive scores are trained, with 7 hidden features: 77 parameters, where a
# dot product of width 7 has 70. Width, steps and rate were chosen in pilot runs on other seeds, so
# that no run stays in a poor local minimum; a margin of 0.1 in the relative error is what we call
# a difference. The control changes the target to the products q·k, where the floor is 0.

# %%
FEATURES, HIDDEN = 4, 7


@cache
def fitted(seed, target):
    """Relative errors of the best dot product and of trained additive scores, on one table."""
    x, y = gaussian((64, FEATURES), seed), gaussian((64, FEATURES), seed + 1_000_000)
    table = {"product": x @ y.T, "distance": -torch.cdist(x, y, p=1)}[target] / FEATURES**0.5
    q, k = (F.pad(z, (0, 1), value=1.0) for z in (x, y))
    inner = torch.linalg.pinv(q) @ centred(table) @ torch.linalg.pinv(k - k.mean(0)).T
    best_dot = BilinearScores(FEATURES + 1, FEATURES + 1).double()
    torch.manual_seed(seed)
    additive = AdditiveScores(FEATURES + 1, FEATURES + 1, HIDDEN).double()
    fit(
        additive,
        lambda model, goal: (centred(model(q, k)) - goal).square().mean(),
        lambda rng: centred(table),
        steps=400,
        lr=3e-2,
        seed=seed,
    )
    with torch.no_grad():
        best_dot.W_a.copy_(inner)
        return relative_error(best_dot(q, k), table), relative_error(additive(q, k), table)


def advantage(seed, target):
    """By how much trained additive scores err less than the best of all dot products."""
    dot, additive = fitted(seed, target)
    return dot - additive


prove(
    "additive-fits-distances-better-than-any-dot-product",
    en="Behind linear maps, seven additive features fit distances better than any dot product can.",
    zh="打分前只有线性投影时，七个特征的加性打分拟合距离，胜过任何宽度的点积。",
    of=(
        "relative error on −Σ|q − k|, best dot product − additive",
        "−Σ|q − k| 上的相对误差之差（最好的点积 − 加性）",
    ),
    measure=lambda seed, target="distance": advantage(seed, target),
    bound=at_least(0.1),
    control=broken("products q·k for distances", "目标由距离换成乘积 q·k", target="product"),
    settles={"dot-better-correlation": "refuted"},
    tolerance=0.5,  # training: another CPU may find another local minimum
)

# %% [markdown]
# Products are another matter: a dot product fits them without error, and the seven features, so
# trained, do not. Is that what additive scores cannot do, or only what these did not learn? The
# tanh bends away from 0, so tanh(c + εu) + tanh(c − εu) = 2 tanh c + ε² tanh″(c) u² + …, a square,
# and (q + k)² − (q − k)² = 4 q k. That is four hidden features for each product, set by hand, and
# still behind linear projections: the constant feature of the query carries the c. We take c where
# the tanh bends most, tanh c = 1/√3. There the next term of the series is ε² u² / 3 of the square;
# with ε = 10⁻³ and |u| < 10 that is below 10⁻⁴. The bound is 10⁻³. The control keeps all weights
# and sets c = 0, where the tanh does not bend.


# %%
MOST_BENT = 3**-0.5  # where the second derivative of the tanh is largest: the tanh there


def product_error(seed, place, small=1e-3):
    """Relative error of 4 hidden features for each product, set where the tanh is `place`."""
    x, y = gaussian((64, FEATURES), seed), gaussian((64, FEATURES), seed + 1_000_000)
    q, k = (F.pad(z, (0, 1), value=1.0) for z in (x, y))
    eye = small * torch.eye(FEATURES, dtype=torch.float64)
    additive = AdditiveScores(FEATURES + 1, FEATURES + 1, 4 * FEATURES).double()
    bend = -2 * MOST_BENT * (1 - MOST_BENT**2)  # tanh″ = −2 tanh (1 − tanh²)
    c = math.atanh(place)
    with torch.no_grad():
        additive.W_a.copy_(F.pad(torch.cat([eye, -eye, eye, -eye]), (0, 1), value=c))
        additive.U_a.copy_(F.pad(torch.cat([eye, -eye, -eye, eye]), (0, 1)))
        additive.v_a.fill_(1 / (4 * bend * small**2))
        additive.v_a[2 * FEATURES :] *= -1
        return relative_error(additive(q, k), x @ y.T)


prove(
    "four-additive-features-write-a-product",
    en="Behind linear maps, four additive features for each product write q·k to within 0.1%.",
    zh="打分前只有线性投影时，加性打分为每个乘积用四个特征，就能写出 q·k，误差不到 0.1%。",
    of=(
        "relative error of a 64 × 64 table of q·k, 4 features",
        "64 × 64 的 q·k 表的相对误差，4 个特征",
    ),
    measure=lambda seed, place=MOST_BENT: product_error(seed, place),
    bound=at_most(1e-3),
    control=broken("where the tanh does not bend", "放在 tanh 不弯曲处", place=0.0),
    settles={"dot-better-correlation": "refuted"},
)

# %% [markdown]
# ## 4. Figures

# %%
WIDTHS = [2**i for i in range(2, 11)]
LENGTHS = [2**i for i in range(4, 10)]


def numbers_kept(score, n, d=64):
    """Numbers kept for the backward pass by n queries and keys."""
    q, k = torch.zeros(n, d, requires_grad=True), torch.zeros(n, d, requires_grad=True)
    v_a = nn.Parameter(torch.zeros(d))
    run = {
        "additive": lambda: additive_scores(q, k, v_a),
        "dot product": lambda: dot_product_scores(q, k),
    }[score]
    return saved_bytes(run, nn.ParameterList([v_a])) / q.element_size()


def draw_cost(left, right):
    dots = [arithmetic(ProjectedDot, 4096, d) for d in WIDTHS]
    for key, name, scorer in (
        ("dot", "dot product", ProjectedDot),
        ("additive", "additive", AdditiveScores),
    ):
        counts = [arithmetic(scorer, 4096, d) for d in WIDTHS]
        ratios = [c / one for c, one in zip(counts, dots, strict=True)]
        left.plot(WIDTHS, ratios, "o-", gid=key, label=name)
        kept = [numbers_kept(name, n) for n in LENGTHS]
        right.plot(LENGTHS, kept, "o-", gid=key, label=name)
    counts = [arithmetic(ConcatScores, 4096, d) for d in WIDTHS]
    ratios = [c / one for c, one in zip(counts, dots, strict=True)]
    left.plot(WIDTHS, ratios, "o-", gid="pairwise", label="pair by pair")
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.legend()
    left.set_xlabel("width d (features)")
    left.set_ylabel("operations / the dot product's")
    right.set_xlabel("queries and keys n (tokens)")
    right.set_ylabel("numbers kept for backward")


figure("additive-cost", draw_cost, panels=2, size=(8.4, 3.4))

# %% [markdown]
# Scores along a line of keys. On the left, five queries and a dot product; keys are their place on
# the line and a constant. On the right the same five as additive scores of two features.


# %%
def draw_line(left, right):
    line = torch.linspace(-1, 1, 81, dtype=torch.float64)
    keys = torch.stack([line, torch.ones_like(line)], dim=-1)
    for number, place in enumerate((-0.8, -0.4, 0.0, 0.4, 0.8)):
        style = {"gid": f"query-{number}", "label": f"{place:+.1f}"}
        query = torch.tensor([[place, 0.0]], dtype=torch.float64)
        left.plot(line, dot_product_scores(query, keys, scale=1.0)[0], **style)
        window = hand_set({0.35: 0.5, 0.65: -0.5}, query[:, 0], line, steep=8.0)
        right.plot(line, window[0], **style)
    left.set_title("dot product")
    right.set_title("additive, two features")
    for ax in (left, right):
        ax.set_xlabel("place of the key on the line")
        ax.set_ylabel("score (logit)")
    right.legend(title="query", loc="upper left", bbox_to_anchor=(1.0, 1.0))


figure("score-along-a-line", draw_line, panels=2, size=(8.4, 3.4))


# %%
def draw_expression(left, right):
    ranks = range(65)
    for name, table in TABLES.items():
        key, trained = name.replace(" ", "-"), error_on(name, "additive")
        left.plot(ranks, [floor(table.double(), rank) for rank in ranks], gid=key, label=name)
        left.plot([len(STEPS[name])], [trained], "*", gid=f"{key}-trained", color=INK, ms=10)
    left.set_xlabel("width d (features)")
    left.set_ylabel("smallest relative error")
    lines = left.get_lines()
    left.legend(lines[::2] + lines[1:2], [*TABLES, "additive"], title="relation")
    targets = ("product", "distance")
    names = {"dot": "best dot product", "additive": "additive, trained"}
    for which, (key, name) in enumerate(names.items()):
        errors = [[fitted(seed, target)[which] for target in targets] for seed in range(5)]
        spread(right, [0, 1], errors, gid=key, label=name, marker="o")
    right.set_xticks([0, 1], ["q·k", "−Σ|q − k|"])
    right.set_xlim(-0.25, 1.25)
    right.set_xlabel("relation to fit")
    right.set_ylabel("relative error")
    right.set_ylim(-0.03, 1.0)
    right.legend()


figure("what-scores-can-express", draw_expression, panels=2, size=(8.4, 3.4), tolerance=0.5)
