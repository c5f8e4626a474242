# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why do Q and K come from different weight matrices?
#
# The proofs behind the page *separate-query-key*. Each cell is one claim: a measurement, a bound,
# and a control, the same measurement with one thing broken, that must miss the bound.

# %%
import torch

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.claims.figures import figure, matrix
from qa_lab.experiments.data.relations import ceiling, not_itself, train_relation
from qa_lab.experiments.measures import gaussian, parameter_count
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    additive_scores,
    causal_mask,
    dot_product_scores,
    masked_softmax,
    tie_query_and_key,
)
from qa_lab.transformer.positions import Rotary

torch.set_num_threads(1)

# %% [markdown]
# ## 1. What one matrix does to the scores
#
# With W_Q = W_K every query is the key of its token, so S = scale · QQᵀ: symmetric, and xᵀSx =
# scale · |Qᵀx|² ≥ 0. Both in float64. With two matrices, S − Sᵀ is √2 times as long as S, and the
# symmetric part of S has negative eigenvalues about as large as its positive ones. Rotary positions
# turn the query and the key of a token alike, and change nothing of this.


# %%
def head(tied, d_model=24, **others):
    """One head, its query and key matrix one and the same or two."""
    attention = MultiHeadAttention(d_model, n_heads=1, **others).double()
    return tie_query_and_key(attention) if tied else attention


def head_scores(seed, tied, length=40, d_model=24, **others):
    """Scores [query key] of an untrained head on random tokens."""
    attention = head(tied, d_model, **others)
    with torch.no_grad():
        q, k, _ = attention.project(gaussian((1, length, d_model), seed))
    return dot_product_scores(q, k)[0, 0]


def asymmetry_and_negative_part(seed, tied=True):
    """|S − Sᵀ| / |S|, and −λ_min / λ_max; without positions, and with rotary ones."""
    for rotate in (None, Rotary(24)):
        scores = head_scores(seed, tied, rotate=rotate)
        eigenvalues = torch.linalg.eigvalsh((scores + scores.T) / 2)
        yield [(scores - scores.T).norm() / scores.norm(), -eigenvalues[0] / eigenvalues[-1]]


prove(
    "tied-scores-are-symmetric-without-negative-part",
    en="With one matrix, the scores are symmetric and have no negative eigenvalue.",
    zh="共用一个矩阵时，分数矩阵对称，且没有负特征值。",
    of=("|S − Sᵀ|/|S|, and −λ_min/λ_max", "|S − Sᵀ|/|S|，以及 −λ_min/λ_max"),
    measure=lambda seed, tied=True: list(asymmetry_and_negative_part(seed, tied)),
    bound=at_most(1e-12),
    control=broken("two matrices", "两个矩阵", tied=False),
    settles={"qk-shared-matrix-loses-asymmetry": "holds"},
)

# %% [markdown]
# From |q_i − q_j|² ≥ 0 comes 2 s_ij ≤ s_ii + s_jj. Summed over i, with j = π(i) for a permutation
# π: the mean of s_{i π(i)} is at most the mean of s_ii. No arrangement of who looks at whom scores
# higher than everybody looking at himself.


# %%
def best_rearrangement(seed, tied=True, length=12, tries=4096):
    """The most by which a permutation's mean score exceeds the mean self-score.

    In standard deviations of the scores.
    """
    scores = head_scores(seed, tied, length)
    order = torch.rand(tries, length, generator=torch.Generator().manual_seed(seed)).argsort(-1)
    means = scores.expand(tries, -1, -1).gather(2, order[:, :, None]).mean((1, 2))
    return (means.max() - scores.diagonal().mean()) / scores.std()


prove(
    "tied-tokens-score-themselves-highest-on-average",
    en="With one matrix, no permutation of the tokens beats the mean self-score.",
    zh="共用一个矩阵时，任何排列的平均分数都不超过 token 对自己的平均分数。",
    of=(
        "best of 4096 permutations − self, in standard deviations",
        "4096 个排列中的最好者 − 自身（以标准差为单位）",
    ),
    measure=best_rearrangement,
    bound=at_most(1e-12),
    control=broken("two matrices", "两个矩阵", tied=False),
    settles={"qk-shared-matrix-loses-asymmetry": "holds"},
)

# %% [markdown]
# An untrained head therefore starts by looking at itself. With PyTorch's default weights a feature
# of q has variance 1/3, so the self-score is about √d_k/3 and any other has standard deviation 1/3:
# √d_k = 8 of them apart at d_k = 64. A narrow head has no such lead: at d_k = 8 it is less than 3,
# and among 64 tokens another one often comes first.


# %%
def look_at_themselves(seed, tied=True):
    """Share of 64 random tokens whose highest score is their own."""
    scores = head_scores(seed, tied, length=64, d_model=64)
    return (scores.argmax(-1) == torch.arange(64)).double().mean()


prove(
    "untrained-tied-head-looks-at-itself",
    en="An untrained head of width 64 with one matrix gives the largest weight to the token "
    "itself.",
    zh="宽 64、共用一个矩阵、尚未训练的头，会把最大的权重给 token 自己。",
    of=("share of the tokens, d_k = 64", "token 所占比例，d_k = 64"),
    measure=look_at_themselves,
    bound=at_least(0.9),
    control=broken("two matrices", "两个矩阵", tied=False),
    settles={"qk-shared-matrix-loses-asymmetry": "holds"},
)

# %% [markdown]
# ## 2. No cycles
#
# Can a prefer b to c, b prefer c to a, and c prefer a to b? With S symmetric that reads
# s_ab > s_ac = s_ca > s_cb = s_bc > s_ba = s_ab, a contradiction. We look at all ordered triples of
# 40 random tokens: with a tied head, with no matrix at all, and with additive scores, which are
# symmetric too, as q + k = k + q. Independent scores would make a cycle of one triple in eight.


# %%
def cyclic_triples(scores):
    """Share of ordered triples of different tokens in which each prefers the next to the third."""
    prefers = scores[:, :, None] > scores[:, None, :]  # i prefers j to k
    cyclic = prefers & prefers.permute(2, 0, 1) & prefers.permute(1, 2, 0)
    n = len(scores)
    return cyclic.sum() / (n * (n - 1) * (n - 2))


def circles(seed, tied=True):
    """For a head, for vectors dotted with themselves (or others, if not tied), and added up."""
    x = gaussian((40, 24), seed)
    other = x if tied else gaussian((40, 24), seed + 1_000_000)
    v_a = gaussian((24,), seed + 2_000_000)
    kinds = (head_scores(seed, tied), dot_product_scores(x, other), additive_scores(x, other, v_a))
    return [cyclic_triples(scores) for scores in kinds]


prove(
    "no-three-tokens-look-round-in-a-circle",
    en="With one matrix, or none, no three tokens can each prefer the next one in a circle.",
    zh="共用一个矩阵（或完全不用矩阵）时，不可能有三个 token 依次偏好下一个而围成一圈。",
    of=("share of the ordered triples", "有序三元组中的比例"),
    measure=circles,
    bound=exactly(0),
    control=broken("two matrices, two vectors", "两个矩阵、两组向量", tied=False),
    settles={"qk-shared-matrix-loses-asymmetry": "holds"},
)

# %% [markdown]
# ## 3. What that costs a trained head
#
# Six symbols, each with a random value; each symbol must return the value of its partner, the next
# in its cycle. The theorem bounds what any training can give: with one matrix, at least one token
# in each cycle of three must give another token more weight than its partner, so at most 2/3 find
# their partner. In pairs nothing is lost, unless a token sees itself: then 2 s_ab ≤ s_aa + s_bb
# leaves one of each pair with itself.
#
# One head of width 32 without positions, Adam, 100 steps (`qa_lab/experiments/data/relations.py`).
# "Solves" asks for an accuracy of 0.95. Steps and rate were chosen in pilot runs, and then tried
# on fresh seeds.

# %%
prove(
    "tied-head-loses-one-in-every-circle-of-three",
    en="Trained with one matrix, at most two in three tokens find the next of a circle of three.",
    zh="共用一个矩阵，无论怎么训练，三元圈里最多三分之二的 token 能找到下一个。",
    of=("share that look at their partner most", "最关注自己搭档的 token 比例"),
    measure=lambda seed, tied=True: train_relation(seed, cycle=3, tied=tied).found,
    bound=at_most(ceiling(3)),
    control=broken("two matrices", "两个矩阵", tied=False),
    settles={
        "qk-shared-matrix-loses-asymmetry": "holds",
        "qk-separate-improves-quality": "conditional",
    },
    tolerance=0.25,
)

# %%
prove(
    "two-matrices-follow-a-directed-relation",
    en="Trained with two matrices, the same head solves the directed relation.",
    zh="换成两个矩阵，同样的头就能学会这种有方向的关系。",
    of=("held-out accuracy, circles of three", "留出集准确率，三元圈"),
    measure=lambda seed, tied=False: train_relation(seed, cycle=3, tied=tied).accuracy,
    bound=at_least(0.95),
    control=broken("one matrix", "一个矩阵", tied=True),
    settles={"qk-separate-improves-quality": "conditional"},
    tolerance=0.25,
)

# %%
prove(
    "one-matrix-is-enough-for-a-symmetric-relation",
    en="On a symmetric relation, with the self masked, one matrix solves the task as well.",
    zh="关系对称且屏蔽自身时，一个矩阵同样能解决任务。",
    of=("held-out accuracy of the tied head", "共用矩阵的头的留出集准确率"),
    measure=lambda seed, cycle=2: train_relation(seed, cycle=cycle, tied=True).accuracy,
    bound=at_least(0.95),
    control=broken("a directed relation: circles of three", "有方向的关系：三元圈", cycle=3),
    settles={"qk-separate-improves-quality": "conditional"},
    tolerance=0.25,
)

# %%
prove(
    "tied-pair-that-sees-itself-has-a-loser",
    en="If tokens may look at themselves, at most one of a pair finds its partner with one matrix.",
    zh="若允许看自己，共用一个矩阵时，每对 token 最多只有一个能找到对方。",
    of=("share that look at their partner most", "最关注自己搭档的 token 比例"),
    measure=lambda seed, sees_itself=True: (
        train_relation(seed, cycle=2, tied=True, sees_itself=sees_itself).found
    ),
    bound=at_most(ceiling(2, sees_itself=True)),
    control=broken("the self masked", "屏蔽自身", sees_itself=False),
    settles={
        "qk-shared-matrix-loses-asymmetry": "holds",
        "qk-separate-improves-quality": "conditional",
    },
    tolerance=0.25,
)

# %% [markdown]
# ## 4. Where one matrix costs nothing
#
# Under a causal mask each pair of tokens is scored once, by the later one. Take any scores below
# the diagonal, mirror them above it, and put c on the diagonal, which is masked: for c large enough
# the matrix is positive definite, so it is QQᵀ for some Q, its Cholesky factor. A tied head with
# as many features as tokens therefore reaches every causal pattern of a sequence, if a token does
# not see itself. The first token has nobody else, and looks at itself.


# %%
def causal_without_self(length):
    """Let each token look at what came before it; the first, at itself."""
    keep = causal_mask(length) & not_itself(length)
    keep[0, 0] = True
    return keep


def tied_against_wanted(seed, look=causal_without_self, length=16):
    """Largest difference of a tied head's weights from those of random scores."""
    wanted, keep = gaussian((length, length), seed), look(length)
    mirrored = wanted.tril(-1) + wanted.tril(-1).T
    lowest = torch.linalg.eigvalsh(mirrored)[0]
    factor = torch.linalg.cholesky(mirrored + (1 - lowest) * torch.eye(length))
    attention = head(True, length, bias=False, attend=DotProductAttention(scale=1.0))
    tokens = torch.eye(length, dtype=torch.float64)[None]
    with torch.no_grad():
        attention.W_K.weight.copy_(factor.T)
        weights = attention.attend_with_weights(tokens, keep=keep)[1][0, 0]
    return (weights - masked_softmax(wanted, keep)).abs().max()


prove(
    "one-matrix-reaches-every-causal-pattern",
    en="Looking back only, not at themselves, tied tokens with n features can reach any pattern.",
    zh="只看前文、不看自己，且特征数不少于 token 数时，共用一个矩阵也能实现任意的注意力模式。",
    of=("largest |difference| of the weights", "权重的最大绝对差"),
    measure=tied_against_wanted,
    bound=at_most(1e-10),
    control=broken("looking both ways", "前后都能看", look=not_itself),
    settles={"qk-separate-improves-quality": "conditional"},
)


# %%
def share_of_parameters(tied=True):
    """Parameters of a layer over those with two matrices."""
    for d_model, n_heads in ((24, 1), (24, 4), (40, 5)):
        with torch.device("meta"):
            separate = MultiHeadAttention(d_model, n_heads, bias=False)
            other = MultiHeadAttention(d_model, n_heads, bias=False)
        other = tie_query_and_key(other) if tied else other
        yield parameter_count(other) / parameter_count(separate)


prove(
    "one-matrix-saves-a-quarter-of-the-weights",
    en="One matrix for queries and keys saves a quarter of the layer's parameters, biases apart.",
    zh="查询和键共用矩阵，恰好省下这一层四分之一的参数。",
    of=("parameters / parameters with two matrices", "参数量 / 两个矩阵时的参数量"),
    measure=lambda tied=True: list(share_of_parameters(tied)),
    bound=exactly(0.75),
    control=broken("two matrices", "两个矩阵", tied=False),
)

# %% [markdown]
# ## 5. What two matrices do not mean
#
# Scores are x W_Q W_Kᵀ yᵀ: only the product counts. For every invertible A, (W_Q A, W_K A⁻ᵀ) gives
# the same scores. So the coordinates of a query, or of a key, mean nothing by themselves.


# %%
def set_linear(layer, turn):
    """Multiply what a linear layer returns, bias included, by a matrix."""
    with torch.no_grad():
        layer.weight.copy_(turn @ layer.weight)
        if layer.bias is not None:
            layer.bias.copy_(turn @ layer.bias)


def after_a_turn(seed, keys_too=True):
    """Largest change of weights and outputs after a change of basis of queries and keys."""
    attention = MultiHeadAttention(20, n_heads=1, d_k=7).double()
    x = 3 * gaussian((2, 9, 20), seed)
    turn = gaussian((7, 7), seed)
    with torch.no_grad():
        before = attention.attend_with_weights(x)
        set_linear(attention.W_Q, turn)
        if keys_too:
            set_linear(attention.W_K, torch.linalg.inv(turn).T)
        after = attention.attend_with_weights(x)
    return [(a - b).abs().max() for a, b in zip(after, before, strict=True)]


prove(
    "queries-and-keys-have-no-basis-of-their-own",
    en="Turn queries by an invertible A and keys by A⁻ᵀ: no weight and no output changes.",
    zh="查询乘可逆的 A、键乘 A⁻ᵀ：权重和输出都不变。",
    of=("largest |change|, weights and outputs", "权重、输出的最大变化"),
    measure=after_a_turn,
    bound=at_most(1e-10),
    control=broken("only the queries turned", "只变换查询", keys_too=False),
    settles={"qk-different-semantics": "conditional"},
)

# %% [markdown]
# Nor do the names: in one head without biases, at d_k = d_model, where the matrices are square,
# A = W_Q⁻¹ W_K makes the old key matrix the new query matrix. The key matrix must answer for it; if
# it stays, the head is tied.


# %%
def roles_swapped(seed, answer=True, d_model=12):
    """Largest change of the output when the key matrix serves as the query matrix."""
    attention = head(False, d_model, bias=False)
    x = 3 * gaussian((2, 9, d_model), seed)
    with torch.no_grad():
        before = attention(x)
        w_q, w_k = attention.W_Q.weight.clone(), attention.W_K.weight.clone()
        attention.W_Q.weight.copy_(w_k)
        if answer:
            attention.W_K.weight.copy_(torch.linalg.inv(w_k).T @ w_q.T @ w_k)
        return (attention(x) - before).abs().max()


prove(
    "the-key-matrix-can-serve-as-query-matrix",
    en="At d_k = d_model, in one head without biases, the key matrix can make the queries: with a "
    "matching new key matrix, no output changes.",
    zh="d_k = d_model、单头、不带偏置时，配上相应的新键矩阵，原来的键矩阵可以当查询矩阵，"
    "输出不变。",
    of=("largest |change| of the outputs", "输出的最大变化"),
    measure=roles_swapped,
    bound=at_most(1e-10),
    control=broken("the key matrix left as it is", "键矩阵保持不变", answer=False),
    settles={"qk-different-semantics": "conditional"},
)

# %% [markdown]
# ## 6. Figures

# %%
NAMES = "abcdef"


def draw_weights(left, right):
    for ax, tied, title in ((left, False, "two matrices"), (right, True, "one matrix")):
        weights = train_relation(0, cycle=3, tied=tied).weights
        matrix(ax, weights, rows=NAMES, columns=NAMES)
        ax.set_title(title)
        ax.set_xlabel("looked at")
        ax.set_ylabel("who looks (a → b → c → a)")


figure("who-looks-at-whom", draw_weights, panels=2, size=(8.4, 3.8), tolerance=0.25)


# %%
SEEDS = range(5)
TASKS = {  # cycle, whether tokens see themselves
    "pairs,\nself masked": (2, False),
    "pairs,\nself visible": (2, True),
    "circles of three,\nself masked": (3, False),
}


def draw_relations(ax):
    for offset, tied, key, name in (
        (-0.2, False, "two", "two matrices"),
        (0.2, True, "one", "one matrix"),
    ):
        for place, (cycle, sees_itself) in enumerate(TASKS.values()):
            found = [
                train_relation(seed, cycle=cycle, tied=tied, sees_itself=sees_itself).found
                for seed in SEEDS
            ]
            ax.plot(
                [place + offset] * len(SEEDS),
                found,
                "o",
                color="C1" if tied else "C0",
                gid=f"{key}-{place}",
                label=None if place else name,
                alpha=0.7,
            )
    limits = [ceiling(cycle, sees_itself=sees) for cycle, sees in TASKS.values()]
    for place, limit in enumerate(limits):
        ax.plot(
            [place, place + 0.4],
            [limit, limit],
            color="C2",
            gid=f"ceiling-{place}",
            label=None if place else "most that one matrix allows",
        )
    ax.set_xticks(range(len(TASKS)), TASKS)
    ax.set_xlabel("relation and mask")
    ax.set_ylabel("share that look at their partner most")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower right")


figure("what-one-matrix-allows", draw_relations, tolerance=0.25)
