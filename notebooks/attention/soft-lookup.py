# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # In what sense is self-attention a key-value lookup?
#
# The proofs behind the page *soft-lookup*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.claims.figures import INK, figure, spread
from qa_lab.experiments.measures import dependence, gaussian, refused
from qa_lab.transformer.attention import (
    MultiHeadAttention,
    attention_weights,
    fused_attention,
    masked_softmax,
    scaled_dot_product_attention,
)

torch.set_num_threads(1)

# %% [markdown]
# ## 1. A dictionary with a temperature
#
# The cleanest dictionary: n keys, orthonormal, and queries that point where a key points. A query
# β√d_k times as long as its key scores β on it, after the scaling by 1/√d_k, and 0 on the others.
# So the other n − 1 keys share (n − 1) / (n − 1 + e^β) of the attention. Everything is computed in
# float64: the bound 1e-12 is rounding. β is an inverse temperature.

# %%
PATHS = (lambda q, k, v: scaled_dot_product_attention(q, k, v)[0], fused_attention)


def orthonormal(n, d_k, seed):
    """Orthonormal keys, n of d_k features, [key d_k]."""
    return torch.linalg.qr(gaussian((d_k, n), seed)).Q.T


def ask_for(keys, beta):
    """Queries that score β on a unit key, with the default scale."""
    return beta * math.sqrt(keys.shape[-1]) * keys


def one_plus(scores, keep=None):
    """Weights in proportion to 1 + score, where the softmax takes e to the score."""
    return (1 + scores) / (1 + scores).sum(-1, keepdim=True)


def distance_from_the_law(seed, softmax=masked_softmax):
    """|weight on the wrong keys − (n − 1) / (n − 1 + e^β)|, worst over the keys."""
    for n in (4, 16, 64):
        keys = orthonormal(n, n + 5, seed)
        for beta in (1.0, 2.0, 4.0, 8.0):
            weights = attention_weights(ask_for(keys, beta), keys, softmax=softmax)
            law = (n - 1) / (n - 1 + math.exp(beta))
            yield ((1 - weights.diagonal()) - law).abs().max().item()


prove(
    "lookup-follows-the-temperature-law",
    en="On orthonormal keys a query that scores β leaves (n − 1)/(n − 1 + e^β) to the wrong keys.",
    zh="键两两正交时，得分为 β 的查询分给其他键的权重共为 (n − 1)/(n − 1 + e^β)。",
    of=("|weight on the wrong keys − the law|", "|其他键的总权重 − 理论值|"),
    measure=lambda seed, softmax=masked_softmax: list(distance_from_the_law(seed, softmax)),
    bound=at_most(1e-12),
    control=broken("1 + score in place of e to the score", "用 1 + 分数代替指数", softmax=one_plus),
    settles={"differentiable-kv-lookup": "holds"},
)

# %% [markdown]
# At β = 40 the wrong keys share less than 15 e^-40 < 1e-16: within rounding, attention returns what
# a Python dictionary returns. The queries come in random order, on both of the lab's paths.


# %%
def against_a_dictionary(seed, beta=40.0):
    """Largest |attention − dictionary| for 16 keys, asked in random order."""
    keys, values = orthonormal(16, 19, seed), gaussian((16, 7), seed + 1_000_000)
    dictionary = dict(enumerate(values))
    asked = torch.randperm(16).tolist()
    wanted = torch.stack([dictionary[i] for i in asked])
    q = ask_for(keys[asked], beta)
    return [(attend(q, keys, values) - wanted).abs().max() for attend in PATHS]


prove(
    "sharp-lookup-is-a-dictionary",
    en="At β = 40 attention over orthonormal keys returns exactly what a dictionary returns.",
    zh="β = 40 且键两两正交时，注意力返回的结果与字典查表完全一致。",
    of=("largest |difference| from a Python dictionary", "与 Python 字典结果的最大绝对差"),
    measure=against_a_dictionary,
    bound=at_most(1e-12),
    control=broken("β = 1, which blends", "β = 1，各个值混在一起", beta=1.0),
    settles={"differentiable-kv-lookup": "holds"},
)


# %% [markdown]
# Soft is what makes it trainable. `gradcheck` compares the derivatives by query, key and value
# with finite differences. The control passes the values' gradient on and holds the weights
# constant. A hard lookup, argmax, does not even have anything to pass on: it does not change when
# a key moves a little. We ask autograd, and we also move each key by 1e-6 and look.


# %%
def held_constant(scores, keep=None):
    """The softmax's weights, cut off from the gradient."""
    return masked_softmax(scores, keep).detach()


def one_hot(scores, keep=None):
    """All weight on the best key."""
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores)


def store(seed, n=3, m=5, d_k=4, d_v=2):
    """Draw n queries and m pairs, in float64: q [n d_k], k [m d_k], v [m d_v]."""
    drawn = gaussian((n + m, d_k), seed), gaussian((m, d_v), seed + 1_000_000)
    return drawn[0][:n], drawn[0][n:], drawn[1]


def gradients_agree(seed, softmax=masked_softmax):
    """1 if autograd agrees with finite differences for q, k and v, else 0."""
    inputs = [x.requires_grad_() for x in store(seed)]
    return float(
        torch.autograd.gradcheck(
            lambda q, k, v: scaled_dot_product_attention(q, k, v, softmax=softmax)[0],
            inputs,
            raise_exception=False,
            nondet_tol=1e-12,
        )
    )


prove(
    "lookup-is-differentiable-in-everything",
    en="The lookup passes exact gradients to the query, the keys and the values.",
    zh="这次查找对查询、键、值都能传回正确的梯度。",
    of=(
        "1 = gradients agree with finite differences, 0 = they do not",
        "1 = 梯度与有限差分一致，0 = 不一致",
    ),
    measure=gradients_agree,
    bound=exactly(1.0),
    control=broken("weights held constant", "把权重当作常数", softmax=held_constant),
    settles={"differentiable-kv-lookup": "holds"},
)


# %%
def effect_of_the_keys(seed, softmax=one_hot):
    """Largest |∂ output / ∂ key|; and |change| of the output when every key moves by 1e-6."""
    q, k, v = store(seed)

    def out(k):
        return scaled_dot_product_attention(q, k, v, softmax=softmax)[0]

    step = 1e-6 * F.normalize(gaussian(k.shape, seed + 2_000_000), dim=-1)
    return [
        torch.autograd.functional.jacobian(out, k).abs().max(),
        (out(k + step) - out(k)).abs().max(),
    ]


prove(
    "hard-lookup-cannot-move-its-keys",
    en="A hard lookup by argmax has gradient 0 by its keys: it cannot learn where to look.",
    zh="用 argmax 做硬查找，对键的梯度恒为 0：它学不会该看哪里。",
    of=(
        "largest |∂ output / ∂ key|, and |change| when the keys move by 1e-6",
        "|∂ 输出 / ∂ 键| 的最大值，以及键移动 1e-6 时输出的最大变化",
    ),
    measure=effect_of_the_keys,
    bound=at_most(1e-12),
    control=broken("softmax", "改用 softmax", softmax=masked_softmax),
    settles={"differentiable-kv-lookup": "holds"},
)

# %% [markdown]
# ## 2. What a dictionary has and attention has not
#
# A key error, first. A query that is orthogonal to every key scores 0 on all of them, and gets the
# plain average of the values, in good faith.


# %%
def missing_key(seed, present=False):
    """Largest |attention − mean of the values| for a query of length 8√d_k, on both paths."""
    directions, values = orthonormal(16, 16, seed), gaussian((15, 7), seed + 1_000_000)
    keys, missing = directions[:15], directions[15:]
    q = ask_for(keys[:1] if present else missing, 8.0)
    return [(attend(q, keys, values) - values.mean(0)).abs().max() for attend in PATHS]


prove(
    "missing-key-returns-the-average",
    en="There is no key error: a query that matches no key gets the average of all values.",
    zh="没有“键不存在”这种报错：与所有键都不匹配的查询，得到的是全部值的平均。",
    of=("largest |difference| from the mean of the values", "与各值平均的最大绝对差"),
    measure=missing_key,
    bound=at_most(1e-12),
    control=broken("a key that is there", "改查一个存在的键", present=True),
)

# %% [markdown]
# The usual way out is a sink: one more key, with value 0, that every query matches a little. Here
# queries carry one more feature that is always on, the sink's key is β/2 on it and 0 elsewhere.
# At β = 16 a missing key leaves 15/(15 + e^8) = 0.5 % to the 15 real values, and a present one
# gives away (14 + e^8)/(e^16 + …) = 0.03 %: the bound is 1 %.


# %%
def with_sink(seed, sink=True, beta=16.0):
    """Largest error over present and missing keys, relative to the largest value."""
    directions, values = orthonormal(24, 24, seed), gaussian((15, 7), seed + 1_000_000)
    keys = F.pad(directions[:15], (0, 1))
    always_on = F.one_hot(torch.tensor([24]), 25).double()
    wanted = torch.cat([values, torch.zeros(9, 7, dtype=torch.float64)])
    q = beta * math.sqrt(25) * (F.pad(directions, (0, 1)) + always_on)
    if sink:
        keys = torch.cat([keys, always_on / 2])
    found = [attend(q, keys, F.pad(values, (0, 0, 0, int(sink)))) for attend in PATHS]
    return [(out - wanted).abs().max() / values.abs().max() for out in found]


prove(
    "sink-key-lets-a-lookup-miss",
    en="With a sink key of value 0, a missing key returns about 0 and present keys still work.",
    zh="加一个值为 0 的“汇”键（sink），查不到时返回约 0，查得到的键不受影响。",
    of=("largest error / largest |value|", "最大误差 / 最大 |值|"),
    measure=with_sink,
    bound=at_most(0.01),
    control=broken("no sink", "不加汇键", sink=False),
)

# %% [markdown]
# Second, an order or a size limit. The pairs are a set: their order does not matter, as long as
# keys and values move together. Outputs of random lookups differ by about 1, so a wrong pairing
# must show.


# %%
def reordered(seed, together=True):
    """Largest change of the output when the pairs are shuffled, on both paths."""
    q, k, v = store(seed, n=6, m=11, d_k=13, d_v=7)
    order = torch.randperm(11)
    moved = v[order] if together else v
    return [(attend(q, k[order], moved) - attend(q, k, v)).abs().max() for attend in PATHS]


prove(
    "pairs-are-a-set",
    en="Shuffling the (key, value) pairs changes nothing; shuffling the keys alone does.",
    zh="打乱（键，值）对的顺序，结果不变；只打乱键，结果就变了。",
    of=("largest |change| of the output", "输出的最大变化"),
    measure=reordered,
    bound=at_most(1e-12),
    control=broken("keys shuffled, values left", "只打乱键，值不动", together=False),
)

# %% [markdown]
# How many pairs fit? With random unit keys the wrong ones interfere. For one match among n keys
# that point in random directions, the expected interference is (n − 1) e^-β M, where
# M = E[e^(β cos)] over a random direction, a Bessel series. 1/(1 + x) is convex, so by Jensen's
# inequality the mean weight of the match is at least
#
# $$ \frac{1}{1 + (n - 1)\, e^{-\beta} M_{d}(\beta)} , \qquad
#    M_d(\beta) = \sum_k \frac{(\beta/2)^{2k}\, \Gamma(d/2)}{k!\; \Gamma(k + d/2)} . $$
#
# No attention is needed to compute this floor. For 4096 keys in 32 features at β = 20 it is 0.998;
# the bound 0.99 leaves room for the luck of 256 queries.

# %%
BETA = 20.0


def capacity_floor(n, d_k, beta=BETA):
    """The least mean weight of the match among n random unit keys, by Jensen's inequality."""
    half = d_k / 2
    logs = [
        2 * k * math.log(beta / 2) + math.lgamma(half) - math.lgamma(k + 1) - math.lgamma(k + half)
        for k in range(200)
    ]
    return 1 / (1 + (n - 1) * math.exp(-beta) * sum(map(math.exp, logs)))


def weight_of_the_match(seed, d_k, n=4096, beta=BETA):
    """Mean weight of the right key among n random unit keys, over up to 256 queries."""
    keys = F.normalize(gaussian((n, d_k), seed), dim=-1)
    weights = attention_weights(ask_for(keys[:256], beta), keys)
    return weights.diagonal().mean().item()


prove(
    "thousands-of-keys-fit-in-32-features",
    en="4096 random keys fit in 32 features: at β = 20 the right one gets 99 % on average.",
    zh="32 维里放得下 4096 个随机的键：β = 20 时，正确的键平均拿到 99% 以上的注意力。",
    of=("mean weight of the right key", "正确的键的平均权重"),
    measure=lambda seed, d_k=32: weight_of_the_match(seed, d_k),
    bound=at_least(0.99),
    control=broken("8 features", "只有 8 维", d_k=8),
)

# %% [markdown]
# β is what it takes. Queries and keys whose features have variance 1 score √d_k on a match, as the
# page *why-scale* shows: β = 5.7 at 32 features, where the floor for 4096 keys is 0.04. The floor
# is nearly tight where many small weights add up; the bound 0.1 is more than twice as much.

# %%
AT_THE_START = math.sqrt(32)

prove(
    "blunt-queries-find-nothing-among-thousands",
    en="At β = √32, as for features of variance 1, the match gets less than a tenth on average.",
    zh="β = √32（各分量方差为 1 时的得分）时，正确的键平均拿到的权重不到十分之一。",
    of=("mean weight of the right key", "正确的键的平均权重"),
    measure=lambda seed, beta=AT_THE_START: weight_of_the_match(seed, 32, beta=beta),
    bound=at_most(0.1),
    control=broken("β = 20", "改用 β = 20", beta=BETA),
)

# %% [markdown]
# ## 3. Nearest neighbour?
#
# −|q − k|²/2 = q·k − |q|²/2 − |k|²/2. The query's length is the same for all keys and drops out of
# the softmax. The key's does so only if all keys have one length.


# %%
def gaussian_kernel(q, k):
    """Weights in proportion to exp(−|q − k|² / (2√d_k)), without a dot product."""
    distance = (q[:, None] - k[None]).square().sum(-1)
    kernel = (-(distance - distance.amin(-1, keepdim=True)) / (2 * math.sqrt(k.shape[-1]))).exp()
    return kernel / kernel.sum(-1, keepdim=True)


def kernel_difference(seed, one_length=True):
    """Attention against the kernel, weights and outputs; keys of one length, or as drawn."""
    q, k, v = store(seed, n=6, m=11, d_k=13, d_v=7)
    k = F.normalize(k, dim=-1) * math.sqrt(13) if one_length else k
    kernel = gaussian_kernel(q, k)
    found = [attention_weights(q, k) - kernel, *(a(q, k, v) - kernel @ v for a in PATHS)]
    return [difference.abs().max() for difference in found]


prove(
    "keys-of-one-length-make-a-gaussian-kernel",
    en="If all keys have one length, the weights are a Gaussian kernel of the distance |q − k|.",
    zh="如果所有键的长度相等，注意力权重就是关于距离 |q − k| 的高斯核。",
    of=("largest |difference| of weights and outputs", "权重与输出的最大绝对差"),
    measure=kernel_difference,
    bound=at_most(1e-12),
    control=broken("keys of random lengths", "键的长度随机", one_length=False),
    settles={"soft-nearest-neighbour": "conditional"},
)

# %% [markdown]
# Otherwise the largest inner product wins. Take 256 unit keys in 16 features, and make one ten
# times as long. Ask with an exact copy of each of the others, at distance 0 from its key: the long
# key wins where its cosine with the query exceeds 0.1. For random directions in 16 dimensions that
# happens with probability 0.35; the bound 0.2 is five standard errors below.


# %%
def lost_to_the_long_key(seed, stretch=10.0):
    """Share of the exact copies of a key that put most weight on another key."""
    keys = F.normalize(gaussian((256, 16), seed), dim=-1)
    copies = keys[1:].clone()
    keys[0] *= stretch
    winner = attention_weights(copies, keys).argmax(-1)
    return (winner != torch.arange(1, 256)).double().mean()


prove(
    "long-key-beats-an-exact-copy",
    en="A key ten times as long takes queries away from their own exact copies.",
    zh="一个十倍长的键，会把查询从与它一模一样的键那里抢走。",
    of=("share of the queries that do not find their copy", "没有找到自己副本的查询所占比例"),
    measure=lost_to_the_long_key,
    bound=at_least(0.2),
    control=broken("all keys of length 1", "所有键长度为 1", stretch=1.0),
    settles={"soft-nearest-neighbour": "conditional"},
)

# %% [markdown]
# And a key can be out of reach altogether. The score of an average of keys is the average of their
# scores, so it never exceeds the largest: whatever the query, a key inside the convex hull of the
# others cannot win. Stretched to the length of the others, it can.


# %%
def wins_of_the_inner_key(seed, stretched=False):
    """Share of 4096 queries, short and long, that put most weight on the average of six keys."""
    keys = F.normalize(gaussian((6, 5), seed), dim=-1)
    inner = keys.mean(0, keepdim=True)
    inner = F.normalize(inner, dim=-1) if stretched else inner
    q = gaussian((4096, 5), seed + 1_000_000) * torch.logspace(-2, 1, 4096)[:, None]
    weights = attention_weights(q, torch.cat([keys, inner]))
    return (weights.argmax(-1) == 6).double().mean()


prove(
    "key-inside-the-hull-never-wins",
    en="No query can put most of its attention on a key that is the average of others.",
    zh="若一个键是其他键的平均，任何查询都不可能把最大的权重给它。",
    of=("share of the queries that it wins", "它胜出的查询所占比例"),
    measure=wins_of_the_inner_key,
    bound=exactly(0.0),
    control=broken("stretched to the length of the others", "拉长到与其他键等长", stretched=True),
    settles={"soft-nearest-neighbour": "conditional"},
)

# %% [markdown]
# Is a score a similarity? In self-attention it is x_i W_Q W_Kᵀ x_jᵀ, any bilinear form. With
# W_Q = −W_K, orthogonal, and tokens of one length, a token's own score is minus its squared length,
# and by Cauchy–Schwarz no other score is lower. Random tokens are not parallel, so none ties.


# %%
@torch.no_grad()
def least_to_itself(seed, sign=-1.0):
    """Share of the tokens whose smallest attention weight is the one on themselves."""
    attention = MultiHeadAttention(16, 1, bias=False).double()
    nn.init.orthogonal_(attention.W_K.weight)
    attention.W_Q.weight.copy_(sign * attention.W_K.weight)
    x = 4 * F.normalize(gaussian((1, 12, 16), seed), dim=-1)
    _, weights = attention.attend_with_weights(x)
    return (weights[0, 0].argmin(-1) == torch.arange(12)).double().mean()


prove(
    "a-token-can-attend-least-to-its-equal",
    en="With W_Q = −W_K every token attends least to the token most similar to it: itself.",
    zh="取 W_Q = −W_K，每个 token 分给与自己最相似的 token（就是它自己）的权重反而最小。",
    of=("share of the tokens", "token 所占比例"),
    measure=least_to_itself,
    bound=exactly(1.0),
    control=broken("W_Q = W_K", "令 W_Q = W_K", sign=1.0),
    settles={"attention-modifies-by-similarity": "conditional"},
)

# %% [markdown]
# ## 4. Shapes
#
# n queries of width d_k, m keys of width d_k and m values of width d_v, no two sizes alike.

# %%
SIZES = ((2, 3, 5, 7), (7, 2, 3, 5), (5, 7, 2, 3), (11, 3, 2, 5))


def pooled(scores, keep=None):
    """One row of weights for all queries together."""
    return masked_softmax(scores, keep).mean(-2, keepdim=True)


def wrong_shapes(seed, softmax=masked_softmax):
    """How many of weights [n m] and output [n d_v] have another shape, for each set of sizes."""
    for n, m, d_k, d_v in SIZES:
        out, weights = scaled_dot_product_attention(*store(seed, n, m, d_k, d_v), softmax=softmax)
        yield float((out.shape != (n, d_v)) + (weights.shape != (n, m)))


prove(
    "one-row-of-weights-per-query",
    en="n queries over m pairs give weights (n, m) and output (n, d_v): one result per query.",
    zh="n 个查询查 m 个键值对，权重为 (n, m)，输出为 (n, d_v)：每个查询一个结果。",
    of=("wrong shapes, of two", "两个形状中不符的个数"),
    measure=lambda seed, softmax=masked_softmax: list(wrong_shapes(seed, softmax)),
    bound=exactly(0.0),
    control=broken("weights averaged over the queries", "权重对查询取平均", softmax=pooled),
    settles={"attention-shapes": "holds"},
)


# %%
def over_queries(scores, keep=None):
    """A softmax along the wrong axis: keys share their attention among queries."""
    return scores.softmax(-2)


def between_queries(seed, softmax=masked_softmax):
    """Largest |∂ result i / ∂ query j|, i ≠ j."""
    q, k, v = (x[None] for x in store(seed))
    found = dependence(
        lambda q: scaled_dot_product_attention(q, k, v, softmax=softmax)[0], q
    ).fill_diagonal_(0.0)
    return found.max()


prove(
    "each-query-is-a-lookup-of-its-own",
    en="The result of one query does not depend on any other query.",
    zh="一个查询的结果与其他查询无关。",
    of=("largest |∂ result i / ∂ query j|, i ≠ j", "|∂ 结果 i / ∂ 查询 j| 的最大值，i ≠ j"),
    measure=between_queries,
    bound=exactly(0.0),
    control=broken("softmax over the queries", "softmax 沿查询轴", softmax=over_queries),
    settles={"attention-shapes": "holds"},
)


# %%
def refusals(seed, off=1):
    """1 for each refused store: a value short, a value too many, wider queries; on both paths."""
    q, k, v = store(seed, n=3, m=5, d_k=4, d_v=2)
    wide = gaussian((3, 4 + off), seed)
    extra = F.pad(v, (0, 0, 0, off))
    calls = ((q, k, v[: 5 - off]), (q, k, extra), (wide, k, v))
    return [refused(lambda a=a, c=c: a(*c)) for a in PATHS for c in calls]


prove(
    "keys-and-values-come-in-pairs",
    en="A key without a value, a value without a key, or a query of another width is refused.",
    zh="有键无值、有值无键，或查询与键宽度不同，都会被拒绝。",
    of=("1 = refused, 0 = answered", "1 = 报错，0 = 照常返回"),
    measure=refusals,
    bound=exactly(1.0),
    control=broken("sizes that fit", "尺寸相符", off=0),
    settles={"attention-shapes": "holds"},
)

# %% [markdown]
# ## 5. Figures

# %%
SEEDS = range(5)


def draw_temperature(ax):
    betas = torch.linspace(0, 12, 25).tolist()
    for n in (4, 16, 256):
        keys = orthonormal(n, n, 0)
        ours = [attention_weights(ask_for(keys, b), keys).diagonal().mean().item() for b in betas]
        ax.plot(betas, ours, gid=f"n-{n}", label=f"n = {n}")
    keys = orthonormal(16, 16, 0)
    linear = [
        attention_weights(ask_for(keys, b), keys, softmax=one_plus).diagonal().mean().item()
        for b in betas
    ]
    ax.plot(betas, linear, gid="linear", label="n = 16, 1 + score, no exp", linestyle="--")
    ax.set_xlabel("β, score of the matching key (logits)")
    ax.set_ylabel("weight of the matching key")
    ax.set_ylim(-0.03, 1.05)
    ax.legend()


figure("lookup-by-temperature", draw_temperature)


# %%
def draw_capacity(ax):
    counts = [2**i for i in range(2, 13)]
    for key, d_k, beta, name in (
        ("width-32", 32, BETA, "d_k = 32, β = 20"),
        ("width-16", 16, BETA, "d_k = 16, β = 20"),
        ("width-8", 8, BETA, "d_k = 8, β = 20"),
        ("start", 32, AT_THE_START, "d_k = 32, β = √32"),
    ):
        runs = [[weight_of_the_match(seed, d_k, n, beta) for n in counts] for seed in SEEDS]
        spread(ax, counts, runs, gid=key, label=name)
        floor = [capacity_floor(n, d_k, beta) for n in counts]
        ax.plot(counts, floor, gid=f"{key}-floor", color=INK, linestyle=":", linewidth=1.5)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("random unit keys")
    ax.set_ylabel("mean weight of the right key")
    ax.set_ylim(-0.03, 1.05)
    ax.legend()


figure("capacity-of-random-keys", draw_capacity)


# %%
def draw_winners(left, right):
    angles = torch.linspace(0, 360, 181, dtype=torch.float64)

    def on_circle(degrees):
        return torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=-1)

    keys = on_circle(torch.tensor([45.0, 135.0, 225.0, 315.0], dtype=torch.float64))
    lengths = torch.tensor([3.0, 1.0, 1.0, 0.3], dtype=torch.float64)[:, None]
    for ax, stretch in ((left, torch.ones_like(lengths)), (right, lengths)):
        weights = attention_weights(ask_for(on_circle(angles), 5.0), keys * stretch)
        for i, style in enumerate(("-", "--", "-.", ":")):
            name = f"{45 + 90 * i}°, length {stretch[i].item():g}"
            ax.plot(angles, weights[:, i], gid=f"key-{i}", label=name, linestyle=style)
        ax.set_xlabel("direction of the query (degrees)")
        ax.set_ylabel("weight of the key")
        ax.set_ylim(-0.03, 1.35)
        ax.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
        ax.legend(title="key", fontsize=8, ncols=2, loc="upper center")
    left.set_title("keys of one length")
    right.set_title("keys of three lengths")


figure("nearest-or-longest", draw_winners, panels=2, size=(8.4, 3.6))
