# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does self-attention work? Explain scaled dot-product attention.
#
# The proofs behind the page *scaled-dot-product*. Each cell is one claim: a measurement, a bound,
# and a control, the same measurement with one thing broken, that must miss the bound.

# %%
import math
from functools import partial

import torch
import torch.nn.functional as F

from qa_lab.claims import at_least, at_most, broken, exactly, prove, within
from qa_lab.claims.figures import figure, matrix, spread
from qa_lab.experiments.data.tasks import associative_recall, generator, vocab_size
from qa_lab.experiments.measures import (
    dependence,
    flops,
    gaussian,
    parameter_count,
    refused,
    saved_bytes,
)
from qa_lab.transformer.attention import (
    AdditiveScores,
    MultiHeadAttention,
    ScoredAttention,
    attention_weights,
    causal_mask,
    dot_product_scores,
    full_mask,
    fused_attention,
    local_attention,
    masked_softmax,
    scaled_dot_product_attention,
    window_mask,
)
from qa_lab.transformer.layers import LayerNorm
from qa_lab.transformer.models import EncoderBlock, post_norm, pre_norm

torch.set_num_threads(1)

# %% [markdown]
# ## 1. One formula, three ways to compute it
#
# The referee is a loop in plain Python: for each query, for each key, for each feature. It shares
# no code with the lab or with PyTorch, and it treats one query at a time, so it also shows that
# the matrix form is the one-query formula, row by row. Every axis has a size of its own, with more
# queries than keys and with fewer.

# %%
QUERIES, KEYS, D_K, D_V = 7, 5, 11, 13


def inputs(seed, queries=QUERIES, keys=KEYS):
    """Queries, keys and values of 2 sequences and 3 heads, features of variance 1."""
    q = gaussian((2, 3, queries, D_K), seed)
    k = gaussian((2, 3, keys, D_K), seed + 1_000_000)
    return q, k, gaussian((2, 3, keys, D_V), seed + 2_000_000)


def one_query_by_hand(q, keys, values):
    """Attention of one query over lists of keys and values, in plain Python."""
    scores = [sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in keys]
    total = sum(math.exp(s) for s in scores)
    weights = [math.exp(s) / total for s in scores]
    return [
        sum(w * v[feature] for w, v in zip(weights, values, strict=True))
        for feature in range(len(values[0]))
    ]


def by_hand(q, k, v):
    """The same for every query of every head and sequence."""
    heads = zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), strict=True)
    rows = [
        one_query_by_hand(query, keys.tolist(), values.tolist())
        for queries, keys, values in heads
        for query in queries.tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64).view(*q.shape[:-1], v.shape[-1])


def over_queries(scores, keep=None):
    """The softmax taken along the wrong axis."""
    return scores.softmax(dim=-2)


def distances(seed, softmax=masked_softmax):
    """Largest difference of the matrix form from the loop, from PyTorch, from the fused path."""
    for sizes in ((QUERIES, KEYS), (4, 9)):
        q, k, v = inputs(seed, *sizes)
        out, _ = scaled_dot_product_attention(q, k, v, softmax=softmax)
        torchs = F.scaled_dot_product_attention(q, k, v)
        for other in (by_hand(q, k, v), torchs, fused_attention(q, k, v)):
            yield (out - other).abs().max()


prove(
    "loop-matrix-form-and-torch-agree",
    en="A loop over single queries, the matrix form and PyTorch's function give the same output.",
    zh="逐个查询的循环、矩阵写法和 PyTorch 自带的函数，三者输出相同。",
    of=("largest |difference| of the outputs", "输出的最大绝对差"),
    measure=lambda seed, softmax=masked_softmax: list(distances(seed, softmax)),
    bound=at_most(1e-12),
    control=broken("softmax over the queries", "softmax 沿查询轴做", softmax=over_queries),
    settles={"sdpa-definition": "holds"},
)


# %%
def sigmoids(scores, keep=None):
    """Each key judged by itself: weights in (0, 1) that need not sum to 1."""
    return scores.sigmoid()


def distance_from_a_distribution(seed, softmax=masked_softmax):
    """Largest |Σ w − 1| and |Σ |w| − 1| of a row: both 0 only if it is ≥ 0 and sums to 1."""
    q, k, _ = inputs(seed)
    weights = attention_weights(q, k, softmax=softmax)
    return [(w.sum(-1) - 1).abs().max() for w in (weights, weights.abs())]


prove(
    "weights-are-a-distribution-over-the-keys",
    en="Each query's weights are never negative and sum to 1 over the keys.",
    zh="每个查询的权重都非负，沿键轴求和为 1。",
    of=("largest |Σ w − 1| and |Σ |w| − 1|", "|Σ w − 1| 与 |Σ |w| − 1| 的最大值"),
    measure=distance_from_a_distribution,
    bound=at_most(1e-12),
    control=broken("a sigmoid for each key", "每个键各用一个 sigmoid", softmax=sigmoids),
    settles={"softmax-gives-distribution": "holds"},
)

# %% [markdown]
# Five random points in 13 dimensions are affinely independent: a point of the plane through
# them is a mixture of them, with coefficients of sum 1, in one way only, and it lies in their hull
# if none of these is negative. So we solve for the coefficients from outputs and values alone,
# without the weights. An output outside the plane leaves a residual.


# %%
def outside_the_hull(seed, softmax=masked_softmax):
    """The largest residual of the outputs as mixtures of the values, or negative coefficient."""
    q, k, v = inputs(seed)
    out, _ = scaled_dot_product_attention(q, k, v, softmax=softmax)
    values, outputs = (F.pad(x, (0, 1), value=1.0).mT for x in (v, out))  # the 1: of sum 1
    coefficients = torch.linalg.lstsq(values, outputs).solution
    residual = (values @ coefficients - outputs).abs().max()
    return torch.maximum(residual, -coefficients.min())


prove(
    "outputs-stay-in-the-hull-of-the-values",
    en="An output never leaves the convex hull of the values: attention only averages.",
    zh="输出始终落在各个值的凸包之内：注意力只做加权平均。",
    of=("largest residual or negative coefficient", "最大残差或最大的负系数（取绝对值）"),
    measure=outside_the_hull,
    bound=at_most(1e-12),
    control=broken("a sigmoid for each key", "每个键各用一个 sigmoid", softmax=sigmoids),
    settles={"softmax-gives-distribution": "holds"},
)

# %% [markdown]
# The formula without the scale, at d_k = 64, against PyTorch. Values have variance 1; we call a
# tenth of their standard deviation a difference.


# %%
def without_the_scale(seed, factor=1.0):
    """Root mean square difference of softmax(c Q Kᵀ) V from PyTorch's attention; d_k = 64."""
    q, k = gaussian((37, 64), seed), gaussian((31, 64), seed + 1_000_000)
    v = gaussian((31, 13), seed + 2_000_000)
    out, _ = scaled_dot_product_attention(factor * q, k, v, scale=1.0)
    return (out - F.scaled_dot_product_attention(q, k, v)).square().mean().sqrt()


prove(
    "formula-without-the-scale-is-another-function",
    en="softmax(QKᵀ)V is not what the layer computes, unless Q was divided by √d_k before.",
    zh="softmax(QKᵀ)V 并不是该层计算的函数，除非事先已把 Q 除以 √d_k。",
    of=("RMS difference from PyTorch's attention", "与 PyTorch 注意力输出的均方根差"),
    measure=without_the_scale,
    bound=at_least(0.1),
    control=broken("Q divided by √64 = 8 beforehand", "事先把 Q 除以 √64 = 8", factor=1 / 8),
    settles={"formula-without-scale": "refuted"},
)


# %%
def learned_beside_projections(seed, make_attend=lambda d_k: None):
    """Parameters of a layer of 5 heads, less those of its four projections."""
    layer = MultiHeadAttention(35, 5, attend=make_attend(7))
    projections = (layer.W_Q, layer.W_K, layer.W_V, layer.W_O)
    return parameter_count(layer) - sum(map(parameter_count, projections))


prove(
    "attention-itself-has-no-parameters",
    en="Outside its four projections an attention layer has nothing to learn.",
    zh="除四个投影矩阵外，注意力层没有任何可学习的参数。",
    of=("parameters outside W_Q, W_K, W_V, W_O", "W_Q、W_K、W_V、W_O 之外的参数个数"),
    measure=learned_beside_projections,
    bound=exactly(0),
    control=broken(
        "additive scores instead of dot products",
        "点积改为加性打分",
        make_attend=lambda d_k: ScoredAttention(AdditiveScores(d_k, d_k)),
    ),
    settles={"sdpa-has-no-parameters": "holds"},
)

# %% [markdown]
# ## 2. Weights made from content
#
# A list of (key, value) pairs, then one of the keys: name its value. Nothing is trained. Tokens
# are one-hot vectors; the queried key's vector is the query, and the answer is the largest feature
# of the output. A match leads by 10, every other score is 0: it gets 99.96 % of the weight even
# among ten.
#
# **The ceiling of fixed weights.** If the weights do not depend on the query, neither does the
# output. Which pair is asked for is uniform and independent of the list. So no readout whatsoever
# is right more often than the most frequent value of the list comes up: E[largest count] / pairs.
# This holds for every choice of fixed weights, learned ones included. We ask for half of all
# answers above it.

# %%
SYMBOLS = 20
VOCABULARY = vocab_size(2 * SYMBOLS)
LEAD = 10.0


def fixed_weights(scores, keep=None):
    """Weights that do not look at the scores: the same for every query. They reach the ceiling."""
    return torch.full_like(scores, 1 / scores.shape[-1])


def recall(seed, softmax=masked_softmax, n_pairs=10):
    """Accuracy of the head, and the ceiling of fixed weights, on the same 2000 lists."""
    lists = associative_recall(
        generator(seed), batch=2000, n_keys=SYMBOLS, n_values=SYMBOLS, n_pairs=n_pairs
    )
    tokens = F.one_hot(lists.ids, VOCABULARY).double()
    keys, values, asked = tokens[:, :-1:2], tokens[:, 1::2], tokens[:, -1:]
    query = LEAD * math.sqrt(VOCABULARY) * asked
    out, _ = scaled_dot_product_attention(query, keys, values, softmax=softmax)
    accuracy = (out[:, 0].argmax(-1) == lists.label).double().mean().item()
    return accuracy, values.sum(1).amax(-1).mean().item() / n_pairs


def above_the_ceiling(seed, softmax=masked_softmax):
    accuracy, ceiling = recall(seed, softmax)
    return accuracy - ceiling


prove(
    "content-weights-beat-every-fixed-mix",
    en="Weights computed from the content answer what no fixed weights, learned or not, can.",
    zh="由内容算出的权重能答对的题，任何固定权重（无论是否学习得来）都做不到。",
    of=("accuracy − ceiling of all fixed weights", "准确率 − 一切固定权重的上限"),
    measure=above_the_ceiling,
    bound=at_least(0.5),
    control=broken(
        "the same weights for every query", "所有查询共用一组权重", softmax=fixed_weights
    ),
)

# %% [markdown]
# ## 3. Who takes part
#
# A softmax weight is never 0, however small its score. n · w is 1 for an average key; the bound of
# a thousandth only asks that the weight be there at all, whatever weights the layer was given.

# %%
LENGTH, D_MODEL, HEADS = 9, 12, 3


def layer_and_sequence(seed, length=LENGTH):
    """One layer, and one sequence for it."""
    torch.manual_seed(seed)
    return MultiHeadAttention(D_MODEL, HEADS).double(), gaussian((1, length, D_MODEL), seed)


def least_weight(seed, keep=None):
    """Smallest weight that a position gives to any, itself included, over the average 1/n."""
    layer, x = layer_and_sequence(seed)
    _, weights = layer.attend_with_weights(x, keep=keep)
    return LENGTH * weights.min()


prove(
    "a-position-attends-to-itself-too",
    en="Self-attention compares each position with all positions, itself included.",
    zh="自注意力让每个位置与所有位置比较，也包括它自己。",
    of=("n · weight, smallest of all pairs", "n · 权重，取所有位置对中的最小值"),
    measure=least_weight,
    bound=at_least(0.001),
    control=broken("the diagonal hidden", "屏蔽对角线", keep=~torch.eye(LENGTH, dtype=torch.bool)),
    settles={"each-element-compared-with-others": "conditional"},
)


# %%
def reached(seed, look):
    """Which input positions [output input] an output of one layer depends on at all."""
    layer, x = layer_and_sequence(seed)
    return dependence(lambda x: layer(x, keep=look(LENGTH)), x) > 0


prove(
    "one-full-layer-reaches-every-position",
    en="In one layer without a mask, every output depends on every input position.",
    zh="不加掩码时，一层之内每个输出都依赖每个输入位置。",
    of=("share of (output, input) pairs with a derivative", "导数不为零的（输出，输入）对所占比例"),
    measure=lambda seed, look=full_mask: reached(seed, look).double().mean(),
    bound=exactly(1),
    control=broken("a causal mask", "加上因果掩码", look=causal_mask),
    settles={"every-element-sees-whole-sequence": "conditional"},
)

# %%
OUTPUT, INPUT = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)
WINDOW = 3
MASKED = (  # a mask, and what it should leave
    (causal_mask, OUTPUT >= INPUT),
    (partial(window_mask, window=WINDOW), (OUTPUT >= INPUT) & (INPUT > OUTPUT - WINDOW)),
)


def pairs_out_of_place(seed, shown=lambda look: look):
    """How many (output, input) pairs differ from the triangle, and from the band."""
    return [(reached(seed, shown(look)) != pattern).sum() for look, pattern in MASKED]


prove(
    "a-masked-layer-reaches-what-its-mask-shows",
    en="With a causal mask one layer reaches exactly the past and itself; with a window, a band.",
    zh="加因果掩码后，一层恰好只依赖过去和自身；加窗口，则恰好是一条带。",
    of=("(output, input) pairs out of place", "与预期不符的（输出，输入）对数"),
    measure=pairs_out_of_place,
    bound=exactly(0),
    control=broken("the masks dropped", "去掉掩码", shown=lambda look: full_mask),
    settles={
        "every-element-sees-whole-sequence": "conditional",
        "each-element-compared-with-others": "conditional",
    },
)

# %% [markdown]
# ## 4. Shapes

# %%
SHAPES = ((1, 6, 1), (4, 10, 5), (7, 12, 3))  # length, d_model, heads


def axes_that_differ(seed, extra_keys=0):
    """Axes on which the output's shape differs from that of the input that was asked."""
    for n, d_model, n_heads in SHAPES:
        memory = gaussian((2, n + extra_keys, d_model), seed)
        out = MultiHeadAttention(d_model, n_heads, d_v=8).double()(memory[:, :n], memory)
        yield sum(a != b for a, b in zip(out.shape, memory.shape, strict=True))


prove(
    "output-has-the-shape-of-the-input",
    en="Self-attention returns one vector for each input vector, as wide as the input.",
    zh="自注意力为每个输入向量返回一个向量，宽度与输入相同。",
    of=("axes on which output and memory differ", "输出与 memory 形状不同的轴数"),
    measure=lambda seed, extra_keys=0: list(axes_that_differ(seed, extra_keys)),
    bound=exactly(0),
    control=broken("keys and values from a longer sequence", "键和值来自更长的序列", extra_keys=3),
    settles={"output-same-shape-as-input": "holds"},
)

# %%
MUST_AGREE = ({"d_q": 7}, {"values": 6})  # a query wider than a key; a value without a key
MAY_DIFFER = ({"d_v": 7}, {"queries": 6})


def attend(path, queries=5, keys=5, values=5, d_q=4, d_k=4, d_v=4):
    """Call one of the lab's two paths with vectors of these sizes, equal unless told otherwise."""
    return path(torch.ones(2, queries, d_q), torch.ones(2, keys, d_k), torch.ones(2, values, d_v))


prove(
    "only-two-pairs-of-sizes-must-agree",
    en="A query must be as wide as a key and each key needs one value; d_v and n_q are free.",
    zh="查询与键必须等宽，键与值必须一一对应；d_v 和 n_q 可以任取。",
    of=("1 = refused, 0 = answered", "1 = 报错，0 = 照常返回"),
    measure=lambda changes=MUST_AGREE: [
        refused(partial(attend, path, **change))
        for path in (scaled_dot_product_attention, fused_attention)
        for change in changes
    ],
    bound=exactly(1),
    control=broken("d_v ≠ d_k, and n_q ≠ n_k", "d_v ≠ d_k，以及 n_q ≠ n_k", changes=MAY_DIFFER),
    settles={"qkv-same-shape": "conditional"},
)

# %% [markdown]
# ## 5. What happens to the output
#
# An encoder block whose feed-forward network has been silenced (all its weights 0) leaves only
# what surrounds the attention. ε = 0 in the norms, so that normalising twice is normalising once.


# %%
@torch.no_grad()
def distance_from_post_norm(seed, residual=post_norm):
    """Largest difference of such a block's output from LN(x + attention(x))."""
    x = 2 * gaussian((2, 7, D_MODEL), seed)
    norm = partial(LayerNorm, eps=0.0)
    block = EncoderBlock(D_MODEL, HEADS, 17, residual=residual, norm=norm).double()
    for parameter in block.feed_forward.parameters():
        parameter.zero_()
    return (block(x) - F.layer_norm(x + block.attention(x), (D_MODEL,), eps=0.0)).abs().max()


prove(
    "attention-is-added-to-its-own-input-then-normalised",
    en="In the original block, attention's output is added to its own input, then normalised.",
    zh="在原论文的块里，注意力的输出加到它自己的输入上，然后做归一化。",
    of=("largest |difference| from LN(x + attention(x))", "与 LN(x + attention(x)) 的最大绝对差"),
    measure=distance_from_post_norm,
    bound=at_most(1e-10),
    control=broken("wired as pre-norm", "改接成 pre-norm", residual=pre_norm),
    settles={"attention-result-added-and-normalised": "conditional"},
)

# %% [markdown]
# ## 6. What length does to the weights
#
# One key leads by g; the other n − 1 score 0. Then the match gets e^g / (e^g + n − 1). That is an
# identity: what is left is the rounding of a sum of n terms, at most n ε = 2e-12 at n = 10 000,
# hence the bound of 1e-11.


# %%
def weight_of_the_match(seed, n, lead, spread_of_others, factor=1.0):
    """The weight of key 0, whose score is `lead`, through the lab's own function."""
    others = spread_of_others * gaussian((n - 1,), seed)
    k = torch.cat([torch.tensor([lead], dtype=torch.float64), others])[:, None]
    return attention_weights(torch.ones(1, 1, dtype=torch.float64), k, scale=factor)[0, 0].item()


LEADS = (2.0, 5.0, 10.0)


def off_the_law(factor=lambda n: 1.0):
    """|weight / law − 1| of a match for each length and lead; scores multiplied by `factor`."""
    for n in (100, 1_000, 10_000):
        for lead in LEADS:
            law = math.exp(lead) / (math.exp(lead) + n - 1)
            yield abs(weight_of_the_match(0, n, lead, 0.0, factor(n)) / law - 1)


prove(
    "a-fixed-lead-is-diluted",
    en="A match that leads n − 1 keys of score 0 by g gets eᵍ/(eᵍ + n − 1): less as n grows.",
    zh="其余 n − 1 个键分数为 0 时，领先 g 的匹配键分到 eᵍ/(eᵍ + n − 1)：n 越大，权重越小。",
    of=("|weight / law − 1|, n = 100 … 10 000", "|权重 / 理论值 − 1|，n = 100 … 10 000"),
    measure=lambda factor=lambda n: 1.0: list(off_the_law(factor)),
    bound=at_most(1e-11),
    control=broken("scores multiplied by ln n", "分数再乘以 ln n", factor=math.log),
)

# %% [markdown]
# Let the other scores scatter, with mean 0 and variance σ². On average e^score is e^(σ²/2), so the
# odds of the match, w / (1 − w), should be e^g / ((n − 1) e^(σ²/2)). The sum of the others has a
# relative standard deviation of √((e^(σ²) − 1)/n): 0.041 at σ = 1 and n = 1000, less in the other
# two cases. The bound of ± 25 % is five of them. Without scatter the ratio would be e^(σ²/2), at
# least 1.65.


# %%
def odds_over_the_law(seed, scatter=1.0):
    """The odds of a match over the law, for each case and lead; σ multiplied by `scatter`."""
    for n, sigma in ((1_000, 1.0), (10_000, 1.0), (10_000, 1.5)):
        for lead in LEADS:
            weight = weight_of_the_match(seed, n, lead, scatter * sigma)
            yield weight / (1 - weight) * (n - 1) * math.exp(sigma**2 / 2 - lead)


prove(
    "scattered-scores-dilute-more",
    en="If the other scores scatter with variance σ², they count e^(σ²/2) times as much.",
    zh="其余分数若有方差 σ²，它们的影响就放大到 e^(σ²/2) 倍。",
    of=("odds of the match / law", "匹配键的权重与其余权重之比 / 理论值"),
    measure=lambda seed, scatter=1.0: list(odds_over_the_law(seed, scatter)),
    bound=within(0.75, 1.25),
    control=broken("the others all score 0", "其余分数全为 0", scatter=0.0),
)

# %%
prove(
    "length-alone-drowns-a-match",
    en="The match that has most of the weight among 10 keys has almost none among 10 000.",
    zh="同一个匹配键，在 10 个键中占去大部分权重，在 10 000 个键中却所剩无几。",
    of=("weight of a match that leads by 5", "领先 5 的匹配键的权重"),
    measure=lambda n=10_000: weight_of_the_match(0, n, 5.0, 0.0),
    bound=at_most(0.02),  # the law says 0.0146
    control=broken("10 keys", "10 个键", n=10),
)

# %% [markdown]
# ## 7. What length does to the cost
#
# A multiplication and an addition are two operations. Four projections of n vectors: 4 · 2nd².
# Scores, and weights times values, over all heads: 2 · 2n²d.

# %%
WIDTH = 48
LENGTHS = (24, 96, 384)  # below, at and above 2d


def layer_flops(n, attend=None, d_model=WIDTH):
    """Operations of one forward pass of one layer on a sequence of n vectors."""
    layer, x = MultiHeadAttention(d_model, 3, attend=attend), torch.ones(1, n, d_model)
    return flops(lambda: layer(x))


prove(
    "projections-cost-nd2-scores-n2d",
    en="One layer costs 8nd² operations for the projections and 4n²d for scores and sums.",
    zh="一层的运算量：投影为 8nd²，打分与加权求和为 4n²d。",
    of=("counted operations / (8nd² + 4n²d)", "数出的运算次数 / (8nd² + 4n²d)"),
    measure=lambda seed, attend=None: [
        layer_flops(n, attend) / (8 * n * WIDTH**2 + 4 * n**2 * WIDTH) for n in LENGTHS
    ],
    bound=exactly(1),
    control=broken(
        "each token sees a window of 5",
        "每个 token 只看 5 个键的窗口",
        attend=partial(local_attention, window=5),
    ),
)


# %%
def stored_per_score(seed, method="attend_with_weights", n=16, n_heads=3):
    """Numbers kept for the backward pass for each (head, query, key), from second differences."""
    layer = MultiHeadAttention(D_MODEL, n_heads)
    kept = [
        saved_bytes(lambda x=x: getattr(layer, method)(x), layer)
        for x in (torch.ones(1, n * times, D_MODEL) for times in (1, 2, 3))
    ]
    # an² + bn + c at n, 2n and 3n: the second difference is 2an².
    return (kept[2] - 2 * kept[1] + kept[0]) / (2 * n**2) / (n_heads * 4)


prove(
    "the-weights-are-kept-for-the-backward-pass",
    en="Training the plain form keeps one n × n matrix of weights for every head.",
    zh="按公式直接实现时，训练要为每个头保留一个 n × n 的权重矩阵。",
    of=("numbers kept per (head, query, key)", "每个（头，查询，键）保留的数的个数"),
    measure=stored_per_score,
    bound=exactly(1),
    control=broken("the fused path", "融合路径", method="forward"),
)

# %% [markdown]
# ## 8. Figures
#
# The example is set by hand, so that it can be checked by hand: four tokens, d_k = 4. The features
# of a key say what the token is (determiner, noun, verb, pronoun), those of a query what it looks
# for. Values are points in a plane.

# %%
TOKENS = ("the", "cat", "ran", "it")
Q = torch.tensor([[0, 2, 2, 0], [0, 0, 5, 0], [0, 4, 0, 0], [0, 7, 0, 0]], dtype=torch.float64)
K = torch.eye(4, dtype=torch.float64)
V = torch.tensor([[0.0, 0.0], [4.0, 1.0], [3.0, 4.0], [0.5, 3.0]], dtype=torch.float64)


def draw_example(left, middle, right):
    scores = dot_product_scores(Q, K)
    out, weights = scaled_dot_product_attention(Q, K, V)
    matrix(left, scores, rows=TOKENS, columns=TOKENS, high=3.5, fmt="{:.1f}")
    matrix(middle, weights, rows=TOKENS, columns=TOKENS)
    left.set_title("scores QKᵀ / √d_k")
    middle.set_title("weights: rows sum to 1")
    for ax in (left, middle):
        ax.set_xlabel("key")
        ax.set_ylabel("query")
    hull = V[[0, 1, 2, 3, 0]]
    dashed = {"color": "#cc79a7", "linewidth": 1, "linestyle": "--"}
    right.plot(*hull.T, gid="hull", label="hull of the values", **dashed)
    right.plot(*V.T, "o", gid="values", label="values")
    right.plot(*out.T, "X", markersize=8, gid="outputs", label="outputs")
    for token, value, mixed in zip(TOKENS, V, out, strict=True):
        right.annotate(token, value, xytext=(5, 5), textcoords="offset points")
        right.annotate(
            token,
            mixed,
            xytext=(-6, -4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="#d55e00",
        )
    right.set_xlim(-0.5, 5.3)
    right.set_ylim(-0.6, 6.9)
    right.set_title("outputs: weights · values")
    right.set_xlabel("feature 1 of a value")
    right.set_ylabel("feature 2 of a value")
    right.legend(loc="upper left", fontsize=8)


figure("attention-step-by-step", draw_example, panels=3, size=(9.6, 3.3))


# %%
SEEDS = range(5)
PAIRS = (2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20)


def draw_recall(ax):
    found = [[recall(seed, n_pairs=n) for n in PAIRS] for seed in SEEDS]
    answered, ceilings = ([[pair[i] for pair in run] for run in found] for i in (0, 1))
    spread(ax, PAIRS, answered, gid="content", label="weights from the content")
    spread(ax, PAIRS, ceilings, gid="fixed", label="ceiling of fixed weights")
    ax.axhline(1 / SYMBOLS, color="#009e73", linestyle=":", gid="guessing", label="guessing")
    ax.set_xticks(range(2, 21, 2))
    ax.set_xlabel("(key, value) pairs in the list")
    ax.set_ylabel("share of queries answered")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="center right")


figure("content-against-fixed-weights", draw_recall)


# %%
def draw_reach(*axes):
    looks = {"full": full_mask, "causal": causal_mask, "window of 3": MASKED[1][0]}
    layer, x = layer_and_sequence(0, length=6)
    names = [str(i) for i in range(1, 7)]
    for ax, (name, look) in zip(axes, looks.items(), strict=True):
        reach = dependence(lambda x, look=look: layer(x, keep=look(6)), x)
        matrix(ax, reach / reach.max(), rows=names, columns=names, fmt="{:.1f}")
        ax.set_title(name)
        ax.set_xlabel("input position")
        ax.set_ylabel("output position")


figure("who-depends-on-whom", draw_reach, panels=3, size=(8.8, 3.1))


# %%
def draw_length(left, right):
    counts = [10 * 2**i for i in range(12)]
    for lead in (10.0, 5.0, 2.0):
        weights = [[weight_of_the_match(s, n, lead, 1.0) for n in counts] for s in SEEDS]
        spread(left, counts, weights, gid=f"lead-{lead:g}", label=f"{lead:g}")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("n (keys)")
    left.set_ylabel("weight of the match")
    left.legend(title="lead of its score", loc="lower left")
    lengths = [12 * 2**i for i in range(8)]
    counted = [layer_flops(n) for n in lengths]
    projections = [8 * n * WIDTH**2 for n in lengths]
    products = [4 * n * n * WIDTH for n in lengths]
    right.plot(lengths, counted, "o-", gid="counted", label="counted")
    right.plot(lengths, projections, "--", gid="projections", label="projections, 8nd²")
    right.plot(lengths, products, ":", gid="scores-and-sums", label="scores and sums, 4n²d")
    right.axvline(2 * WIDTH, color="#cc79a7", linewidth=1, gid="crossing", label="n = 2d")
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=10)
    right.set_xlabel("n (tokens), d = 48")
    right.set_ylabel("operations of one layer")
    right.legend()


figure("what-length-does", draw_length, panels=2, size=(8.8, 3.6))
