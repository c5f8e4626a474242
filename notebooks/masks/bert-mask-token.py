# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why does BERT replace tokens by [MASK] instead of masking attention scores?
#
# The proofs behind the page *bert-mask-token*. Each cell is one claim: a measurement, a bound, and
# a control, the same measurement with one thing broken, that must miss the bound.
#
# Two referees need no network. Tokens drawn independently and uniformly from V cannot be guessed
# with less than ln V nats, whatever the other tokens are: a loss below ln V proves that the answer
# leaks. And a derivative that automatic differentiation gives as exactly 0 proves that it cannot.

# %%
from functools import cache, partial

import torch
import torch.nn.functional as F

from qa_lab.claims import at_least, at_most, broken, exactly, prove, within
from qa_lab.claims.figures import figure, matrix, spread
from qa_lab.experiments.data.masked_tokens import (
    MASK,
    VOCAB,
    Rule,
    believe,
    blind_floor,
    hide,
    topic_texts,
)
from qa_lab.experiments.data.tasks import entropy_floor, iid_tokens
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measures import dependence, gaussian
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    full_mask,
    scaled_dot_product_attention,
)
from qa_lab.transformer.models import (
    Bert,
    Encoder,
    GuessEveryToken,
    MaskedLanguageModel,
    earlier,
    others,
    post_norm,
    raw_keys,
    reread,
    two_streams,
)
from qa_lab.transformer.positions import sinusoidal_positions

torch.set_num_threads(1)

# %% [markdown]
# ## 1. Who still depends on the hidden token
#
# The lab's BERT with the head that guesses tokens, in float64: two layers on the fused path, three
# on the path that shows its weights. One token is hidden, and its embedding is the variable: the
# derivative of every logit by it. [MASK] puts another embedding in its place. "Hidden as a key" is
# what one does with padding: its column of scores is −∞, for every query, in every layer.
#
# Derivatives of a fresh model are of order 0.1 to 1, and the smallest of many can be a hundredth of
# that. What depends must show by 0.001, far above what rounding could leave (1e-15); what does not
# must be exactly 0.

# %%
LENGTH, HIDDEN, D_MODEL, HEADS = 5, (1, 3), 8, 2
STACKS = ((2, DotProductAttention()), (3, scaled_dot_product_attention))


def logits_of(model, x, keep=None):
    """What BERT says when its embeddings are x, whatever the ids."""
    handle = model.bert.embedding.register_forward_hook(lambda *_: x)
    logits = model(torch.zeros(x.shape[:2], dtype=torch.long), keep)
    handle.remove()
    return logits


@cache
def columns(seed, hide_as, content="token"):
    """For each stack and hidden position: that position, and what depends on its embedding."""
    found = []
    for layers, attend in STACKS:
        torch.manual_seed(seed)
        bert = Bert(4, D_MODEL, HEADS, 2 * D_MODEL, layers, max_length=LENGTH)
        model = MaskedLanguageModel(bert).double()
        for block in bert.encoder.blocks:
            block.attention.attend = attend
        mask = bert.embedding.W_E[-1].detach()
        for i in HIDDEN:
            hidden = torch.arange(LENGTH) == i
            x = gaussian((1, LENGTH, D_MODEL), seed)
            if content == "[MASK]":
                x[:, i] = mask

            def read(x, hidden=hidden, mask=mask, model=model):
                if hide_as == "[MASK]":
                    return logits_of(model, torch.where(hidden[:, None], mask, x))
                return logits_of(model, x, ~hidden[None] if hide_as == "key" else None)

            found.append((i, dependence(read, x)[:, i]))
    return found


prove(
    "mask-token-removes-the-token-everywhere",
    en="Once [MASK] stands in its place, no output anywhere depends on the original token.",
    zh="换成 [MASK] 之后，任何位置的输出都与原来的 token 无关。",
    of=(
        "largest |∂ logit / ∂ original embedding|, over all positions",
        "所有位置上 |∂ logit / ∂ 原词向量| 的最大值",
    ),
    measure=lambda seed, hide_as="[MASK]": [d.max() for _, d in columns(seed, hide_as)],
    bound=exactly(0.0),
    control=broken("hidden as a key instead", "改为屏蔽它这一列的分数", hide_as="key"),
    settles={"bert-mask-premise": "holds"},
)


# %%
def elsewhere(i, column):
    """The column without its own position."""
    return torch.cat([column[:i], column[i + 1 :]])


prove(
    "score-masking-hides-it-from-the-others",
    en="Masking its column of scores hides a token from every other position, at any depth.",
    zh="屏蔽一个 token 的分数列，其他所有位置都看不到它，多少层都一样。",
    of=(
        "largest |∂ logit / ∂ embedding| at the other positions",
        "其他位置上 |∂ logit / ∂ 词向量| 的最大值",
    ),
    measure=lambda seed, hide_as="key": [elsewhere(i, d).max() for i, d in columns(seed, hide_as)],
    bound=exactly(0.0),
    control=broken("nothing hidden", "什么都不屏蔽", hide_as="nothing"),
)


# %%
prove(
    "mask-token-is-read-like-any-other",
    en="[MASK] is a token: every other position reads it, and its scores are not masked.",
    zh="[MASK] 也是一个 token：其他每个位置都会读它，它的分数没有被屏蔽。",
    of=(
        "smallest |∂ logit / ∂ embedding of [MASK]| at the other positions",
        "其他位置上 |∂ logit / ∂ [MASK] 词向量| 的最小值",
    ),
    measure=lambda seed, hide_as="nothing": [
        elsewhere(i, d).min() for i, d in columns(seed, hide_as, "[MASK]")
    ],
    bound=at_least(0.001),
    control=broken("its scores masked as well", "同时屏蔽它的分数", hide_as="key"),
    settles={"bert-mask-premise": "holds"},
)

# %% [markdown]
# ## 2. The leak, learned
#
# BERT with two layers on texts of 8 tokens, independent and uniform over V = 8; one of them is
# hidden and to be guessed. Adam, 30 steps. Held-out loss over 4000 texts. An honest model cannot
# beat ln V; what luck there is comes from logits that are not uniform, and over 4000 tokens it is
# well below 0.02 ln V.

# %%
TEXT, SHORT, FLOOR = 8, 4, entropy_floor(VOCAB)


def one_hidden(rng, batch=64):
    """Random texts, and one chosen position in each."""
    ids = iid_tokens(rng, batch=batch, vocab=VOCAB, length=TEXT)
    chosen = torch.randint(TEXT, (batch, 1), generator=rng)
    return ids, torch.arange(TEXT) == chosen


def guess_hidden(model, batch, hide_as):
    """Cross-entropy of the hidden tokens, nats."""
    ids, hidden = batch
    logits = model(ids.masked_fill(hidden, MASK)) if hide_as == "[MASK]" else model(ids, ~hidden)
    return F.cross_entropy(logits[hidden], ids[hidden])


def guess_all(model, ids):
    """Cross-entropy of all tokens, nats."""
    return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


@cache
def trained(seed, how):
    """The loss of every step, and the held-out loss, nats."""
    torch.manual_seed(seed)
    held_out = torch.Generator().manual_seed(seed + 1_000_000)
    if how in ("[MASK]", "key"):
        model = MaskedLanguageModel(Bert(VOCAB + 1, 32, 2, 64, 2, max_length=TEXT))
        loss, batch, rate, steps = partial(guess_hidden, hide_as=how), one_hidden, 1e-2, 30
        test = one_hidden(held_out, 4000)
    else:
        way = {"reread": reread, "raw keys": raw_keys}[how]
        model = GuessEveryToken(VOCAB, SHORT, 32, 2, 64, 2, way=way)
        batch = partial(iid_tokens, batch=64, vocab=VOCAB, length=SHORT)
        loss, rate, steps = guess_all, 5e-3, 80
        test = iid_tokens(held_out, batch=1000, vocab=VOCAB, length=SHORT)
    history = fit(model, loss, batch, steps=steps, lr=rate, seed=seed)
    with torch.no_grad():
        return list(history), loss(model, test).item()


def above_floor(seed, how):
    """Held-out loss as a multiple of the floor ln V."""
    return trained(seed, how)[1] / FLOOR


prove(
    "mask-token-stays-on-the-floor",
    en="With [MASK] BERT does not beat ln V on random tokens; with just the key hidden it does.",
    zh="在随机 token 上，用 [MASK] 时 BERT 的损失不低于 ln V；只屏蔽键，就会低于 ln V。",
    of=("held-out loss / ln V", "留出集损失 / ln V"),
    measure=lambda seed, how="[MASK]": above_floor(seed, how),
    bound=at_least(0.98),
    control=broken("hidden as a key instead", "改为屏蔽它这一列的分数", how="key"),
    tolerance=0.05,
)

# %% [markdown]
# Below the floor is a leak; near 0 is a copy. A tenth of ln V leaves the right token a probability
# of 8^−0.1 = 0.81 (geometric mean), where an honest model gives it 1/8.

# %%
prove(
    "a-token-hidden-as-a-key-is-copied",
    en="Hidden as a key only, a random token is copied: the loss is at most a tenth of ln V.",
    zh="只屏蔽键，随机的 token 也会被照抄：损失至多为 ln V 的十分之一。",
    of=("held-out loss / ln V", "留出集损失 / ln V"),
    measure=lambda seed, how="key": above_floor(seed, how),
    bound=at_most(0.1),
    control=broken("[MASK] in its place", "换成 [MASK]", how="[MASK]"),
    tolerance=0.3,
)

# %% [markdown]
# ## 3. Every way back, and what closes it
#
# Now all tokens at once: everybody is guessed, so nobody may look at itself. One attention layer
# first. Its own token can come back in two ways: the residual carries it past the attention, and
# the query that chooses the weights is made from it. (What counts is whether the derivative is 0;
# through the query alone it is the derivative of a softmax, of order 0.1, so 0.001 is clear of it.)

# %%
TOKENS = 6


def tokens_and_places(seed):
    """Token vectors, and the positions' own vectors, in float64."""
    return gaussian((1, TOKENS, D_MODEL), seed), sinusoidal_positions(TOKENS, D_MODEL)[None]


def own_after_attention(seed, token_in=("stream", "query")):
    """Smallest dependence on the own token when it is in the stream, then in the query only."""
    x, places = tokens_and_places(seed)
    attention = MultiHeadAttention(D_MODEL, HEADS).double()

    def attend(x, token_in):
        stream, query = (x + places if part == token_in else places for part in ("stream", "query"))
        return stream + attention(query, x + places, keep=others(TOKENS))

    return [dependence(partial(attend, token_in=t), x).diagonal().min() for t in token_in]


prove(
    "own-token-returns-by-residual-and-by-query",
    en="With its own key hidden, a token still comes back by the residual, and by the query alone.",
    zh="屏蔽了自己的键，自己的 token 仍会从残差连接回来；只靠查询也会。",
    of=("smallest |∂ output / ∂ own token|", "|∂ 输出 / ∂ 自己的 token| 的最小值"),
    measure=own_after_attention,
    bound=at_least(0.001),
    control=broken(
        "both from the position alone", "两者都只由位置产生", token_in=("neither", "neither")
    ),
)

# %% [markdown]
# So let stream and query start from the position alone. In one layer nothing leaks. In the next,
# the keys are what the first layer found: position j has read token i, and position i reads j. Two
# hops, i → j → i.
#
# The law needs no network. With nearly even weights, what reaches i after L layers is proportional
# to the number of walks of L steps on the complete graph of n positions: closed walks for its own
# token, ((n−1)^L + (n−1)(−1)^L) / n, and ((n−1)^L − (−1)^L) / n for another's. Weights are not
# quite even, so the bound is ± 20 %. For L = 1 the ratio is 0; it is 5/4, 20/21, 105/104 after.

# %%
DEEP = (2, 3, 4)


@cache
def depends(seed, depth, way, **encoder):
    """Dependence of every output on every token, n x n, by a way of reading."""
    x, places = tokens_and_places(seed)
    torch.manual_seed(seed)
    stack = Encoder(D_MODEL, HEADS, 2 * D_MODEL, depth, **encoder).double()
    return dependence(lambda x: way(stack, places, x + places), x)


def own_over_other(found):
    """Mean dependence on the own token over that on another's; without the first position."""
    own = torch.eye(len(found), dtype=torch.bool)[1:]
    return found[1:][own].mean() / found[1:][~own].mean()


def walks(depth, n=TOKENS):
    """Closed walks over open ones, on the complete graph."""
    closed = (n - 1) ** depth + (n - 1) * (-1) ** depth
    return closed / ((n - 1) ** depth - (-1) ** depth)


prove(
    "two-hops-bring-the-own-token-back",
    en="Though nobody may look at itself, from two layers on its own token arrives like any other.",
    zh="即使谁都不许看自己，从第二层起，自己的 token 和别人的一样会传回来。",
    of=(
        "own / other token's influence, over the ratio of walks; 2 to 4 layers",
        "自己与他人 token 的影响之比，除以游走数之比；2 到 4 层",
    ),
    measure=lambda seed, way=reread: [
        own_over_other(depends(seed, depth, way)) / walks(depth) for depth in DEEP
    ],
    bound=within(0.8, 1.2),
    control=broken(
        "everybody looks back only",
        "只许看前面的位置",
        way=partial(reread, see=earlier(torch.arange(TOKENS))),
    ),
)

# %% [markdown]
# The same on random tokens, two layers, all four tokens of a text guessed at once: nobody looks at
# itself, stream and query start from the position. Half the floor or less is a leak beyond doubt.
# The control differs in one thing: the second layer looks at the tokens, not at what the first one
# found.

# %%
prove(
    "two-hop-leak-is-learned",
    en="Two layers learn to use the two-hop leak: the loss on random tokens falls below the floor.",
    zh="两层模型学得会利用这条两跳的泄漏：在随机 token 上，损失降到下限以下。",
    of=("held-out loss / ln V", "留出集损失 / ln V"),
    measure=lambda seed, how="reread": above_floor(seed, how),
    bound=at_most(0.5),
    control=broken(
        "every layer looks at the tokens themselves", "每一层都看 token 本身", how="raw keys"
    ),
    tolerance=0.3,
)

# %%
prove(
    "raw-keys-never-leak",
    en="If every layer's keys are the tokens themselves, the own token is out at every depth.",
    zh="若每一层的键都是 token 本身，多少层都看不到自己的 token。",
    of=(
        "largest |∂ output / ∂ own token|, 2 to 4 layers",
        "|∂ 输出 / ∂ 自己的 token| 的最大值，2 到 4 层",
    ),
    measure=lambda seed, way=raw_keys: [depends(seed, d, way).diagonal().max() for d in DEEP],
    bound=exactly(0.0),
    control=broken("keys are what the layer below found", "键取自前一层的输出", way=reread),
)

# %% [markdown]
# Two streams: the query stream starts from the position and asks; the content stream starts from
# the tokens, may see itself, and gives the keys. That alone is not enough: if the content stream
# looks both ways, it carries token i to every j in its first layer. XLNet therefore draws an order:
# queries see what comes earlier in it, content sees the same and itself. Here position 0 comes
# first in every order, and looks at itself, since nothing is earlier: it stands for a start token.


# %%
@cache
def in_an_order(seed, depth, content_sees=None):
    """Dependence in a random order, and True where a token is the own one or a later one."""
    rest = 1 + torch.randperm(TOKENS - 1, generator=torch.Generator().manual_seed(seed))
    rank = torch.cat([torch.tensor([0]), rest])
    way = partial(
        two_streams,
        see=earlier(rank),
        content_sees=content_sees or earlier(rank, itself=True),
    )
    forbidden = (rank >= rank[:, None]) & (rank > 0)[:, None]
    return depends(seed, depth, way), forbidden


def seen_but_forbidden(seed, content_sees=None):
    """Largest dependence on the own token or a later one, 2 to 4 layers."""
    found = [in_an_order(seed, depth, content_sees) for depth in DEEP]
    return [depends[forbidden].max() for depends, forbidden in found]


prove(
    "two-streams-need-an-order",
    en="Two streams in a random order leak nothing; with content that looks both ways they leak.",
    zh="双流注意力按随机顺序看，毫无泄漏；若内容流双向可见，就会泄漏。",
    of=(
        "largest |∂ output / ∂ own or later token|, 2 to 4 layers",
        "|∂ 输出 / ∂ 自己或更靠后的 token| 的最大值，2 到 4 层",
    ),
    measure=seen_but_forbidden,
    bound=exactly(0.0),
    control=broken("content looks both ways", "内容流双向可见", content_sees=full_mask),
)

# %% [markdown]
# The price of the order: of the n (n − 1) pairs of a guess and another token, an order keeps half.
# Raw tokens as keys, which need no order, keep all.


# %%
def context_share(seed, ordered=True):
    """Share of the other tokens that a guess depends on, 2 to 4 layers."""
    found = []
    for depth in DEEP:
        seen = in_an_order(seed, depth)[0] if ordered else depends(seed, depth, raw_keys)
        found.append((seen[others(TOKENS)] > 0).double().mean())
    return found


prove(
    "an-order-hides-half-the-context",
    en="In one order a guess sees, on average, half of the other tokens.",
    zh="在一个顺序里，每次猜测平均只看得到一半的其他 token。",
    of=("share of the other tokens that a guess depends on", "猜测所依赖的其他 token 的比例"),
    measure=context_share,
    bound=exactly(0.5),
    control=broken("keys stay the tokens, no order", "键用 token 本身，不排顺序", ordered=False),
)


# %%
prove(
    "raw-keys-show-all-the-others",
    en="If every layer's keys are the tokens themselves, a guess sees all the other tokens.",
    zh="若每一层的键都是 token 本身，每次猜测都看得到所有其他 token。",
    of=("share of the other tokens that a guess depends on", "猜测所依赖的其他 token 的比例"),
    measure=lambda seed, ordered=False: context_share(seed, ordered),
    bound=exactly(1.0),
    control=broken("two streams in an order", "双流，按顺序看", ordered=True),
)

# %% [markdown]
# ## 4. What each tenth of 80/10/10 is for
#
# Texts of 12 tokens with a topic: each token is the topic, or with probability 0.4 any of 8 tokens.
# 15 % are chosen, as in BERT, and by the rule replaced by [MASK], swapped for a random token, or
# kept. One layer, Adam, 90 steps of 48 texts; steps and rate were picked in a
# pilot, on other seeds.
#
# Two numbers need no network. A predictor that does not read the token itself cannot get below the
# entropy H of a token given the topic. And the best predictor's belief in a visible token is Bayes'
# rule: with prior π, a share k kept and r swapped, π (k + r/V) / (π (k + r/V) + (1 − π) r/V). For
# k = 0 that is π: the token is ignored. For r = 0 it is 1: the token is copied.

# %%
WORDS = 12
BERTS, ONLY_MASK = Rule(0.8, 0.1), Rule(1.0, 0.0)
NONE_KEPT, NONE_SWAPPED = Rule(0.8, 0.2), Rule(0.8, 0.0)
H = blind_floor()


def guess_chosen(model, batch):
    """Cross-entropy of the chosen tokens, nats."""
    return F.cross_entropy(model(batch.ids)[batch.chosen], batch.original[batch.chosen])


@cache
def after(seed, rule):
    """Train by the rule; probabilities of held-out tokens, masked, as they are, and wrong."""
    torch.manual_seed(seed)
    model = MaskedLanguageModel(Bert(VOCAB + 1, 32, 2, 64, 1, max_length=WORDS))
    fit(
        model,
        guess_chosen,
        lambda rng: hide(rng, topic_texts(rng, batch=48, length=WORDS)[0], rule),
        steps=90,
        lr=5e-3,
        seed=seed,
    )
    rng = torch.Generator().manual_seed(seed + 1_000_000)
    texts, topic = topic_texts(rng, batch=1500, length=WORDS)
    masked, wrong = texts.clone(), texts.clone()
    masked[:, 3] = MASK
    wrong[:, 3] = (topic[:, 0] + torch.randint(1, VOCAB, (1500,), generator=rng)) % VOCAB

    def probability(ids, of):
        """Of these tokens, at their positions; the vocabulary without [MASK]."""
        with torch.no_grad():
            logits = model(ids)[..., :VOCAB].double()
        return logits.softmax(-1).gather(2, of[..., None])[..., 0]

    shown = wrong[:, 3:4]
    found = {
        "at [MASK]": probability(masked, texts)[:, 3].mean().item(),
        "visible": probability(texts, texts).mean().item(),
        "corrected": probability(wrong, topic.expand_as(wrong))[:, 3].mean().item(),
        "believed": probability(wrong, wrong)[:, 3].mean().item(),
        "loss on clean text": -probability(texts, texts).log().mean().item(),
    }
    found["believed by Bayes"] = believe(wrong, BERTS)[:, 3].gather(1, shown).mean().item()
    return found


# %%
prove(
    "kept-tokens-make-it-read-visible-ones",
    en="With a tenth kept, the model reads visible tokens: its loss beats any blind guess.",
    zh="留下一成不变，模型就会去读可见的 token：损失低于一切看不到该 token 的预测。",
    of=("loss on unmasked text / H", "未遮盖文本上的损失 / H"),
    measure=lambda seed, rule=BERTS: after(seed, rule)["loss on clean text"] / H,
    bound=at_most(0.9),  # 18 000 tokens: below 0.98 is beyond luck
    control=broken("that tenth swapped too", "这一成也换成随机 token", rule=NONE_KEPT),
    tolerance=0.1,
)

# %% [markdown]
# Where a wrong token is shown, Bayes' rule (of the whole text, as `believe` has it) gives it about
# a third and the right one about 0.46. The margin is a factor of 2 on the former: what copies (1)
# and what does not read the token (q = 0.05, its share of the texts) are both farther off. And the
# sign of the difference of the two needs no margin: the right token wins, or the wrong one does.

# %%
prove(
    "visible-tokens-are-believed-in-part",
    en="By 80/10/10 a wrong token shown is believed, on average, within a factor 2 of Bayes' rule.",
    zh="按 80/10/10 训练，对眼前错误的 token，模型平均的相信程度与贝叶斯值相差在两倍以内。",
    of=(
        "mean probability of the wrong token shown / Bayes",
        "眼前错误的 token 得到的平均概率 / 贝叶斯值",
    ),
    measure=lambda seed, rule=BERTS: (
        after(seed, rule)["believed"] / after(seed, BERTS)["believed by Bayes"]
    ),
    bound=within(1 / 2, 2.0),  # the margin: a factor 2, as 90 steps do not reach Bayes' value
    control=broken("none swapped", "一个也不换成随机 token", rule=NONE_SWAPPED),
    tolerance=0.2,
)


# %%
def right_over_wrong(seed, rule=BERTS):
    """Mean probability of the right token less that of the wrong one that is shown."""
    found = after(seed, rule)
    return found["corrected"] - found["believed"]


prove(
    "swaps-keep-it-from-copying",
    en=(
        "Where tokens are also kept, swapping a tenth prevents copying: on average, the right "
        "token beats the wrong one shown."
    ),
    zh=(
        "既然有保留不变的 token，再随机换掉一成，模型就不会照抄："
        "平均而言，正确的 token 比眼前错误的那个更可能。"
    ),
    of=(
        "where a wrong token stands, mean probability of the right one − of the wrong one",
        "错误 token 处，正确 token 与错误 token 的平均概率之差",
    ),
    measure=right_over_wrong,
    bound=at_least(0.0),
    control=broken("none swapped", "一个也不换成随机 token", rule=NONE_SWAPPED),
    tolerance=0.2,
)

# %% [markdown]
# What a model trained on [MASK] alone says about a visible token is not fixed by its training: it
# is never asked. So no theorem sets this bound, and the margin is wide: half-way from a blind guess
# (1) to the 0.6 that the pilot gave for 80/10/10. (On 130 other seeds the median was 1.1, but five
# fell below 0.97: "no better than blind" holds for most runs, not for every one.) A model that
# reads the token and is misled by it meets the bound as well: this does not say that it ignores it.

# %%
prove(
    "mask-only-training-gains-little-from-visible-tokens",
    en=(
        "Trained on [MASK] alone, it gains little from seeing the token: its loss is at most a "
        "fifth below that of the best blind guess."
    ),
    zh="只用 [MASK] 训练，看得到 token 也没多少好处：损失比最好的盲猜至多低两成。",
    of=("loss on unmasked text / H", "未遮盖文本上的损失 / H"),
    measure=lambda seed, rule=ONLY_MASK: after(seed, rule)["loss on clean text"] / H,
    bound=at_least(0.8),
    control=broken("80/10/10", "改用 80/10/10", rule=BERTS),
    tolerance=0.1,
)

# %% [markdown]
# ## 5. Figures

# %%
CURVES = {
    "[MASK]": ("mask", "[MASK] in its place"),
    "key": ("key", "hidden as a key"),
    "reread": ("reread", "nobody sees itself"),
    "raw keys": ("raw-keys", "the same, keys stay the tokens"),
}


def draw_floor(ax):
    for how, (key, label) in CURVES.items():
        runs = [trained(seed, how)[0] for seed in range(5)]
        spread(ax, range(len(runs[0])), runs, gid=key, label=label)
    ax.axhline(FLOOR, color="C4", linestyle="--", gid="floor", label="floor: ln 8")
    ax.set_xlabel("training step")
    ax.set_ylabel("loss (nats per token)")
    ax.legend(loc=(0.42, 0.2))


figure("loss-against-the-floor", draw_floor, tolerance=0.2)


# %%
def bare(x, sublayer, norm):
    """A sub-layer without the residual path."""
    return norm(sublayer(x))


bare.final_norm = False


def plain(stack, places, tokens):
    """The encoder as it is: the stream holds the tokens."""
    return stack(tokens)


def one_at_a_time(depth, seed, hide_as):
    """Row i of the dependence when token i alone is hidden, by [MASK] or as a key."""
    rows = []
    for i in range(TOKENS):
        hidden = torch.arange(TOKENS) == i

        def way(stack, places, tokens, hidden=hidden):
            if hide_as == "key":
                return stack(tokens, ~hidden[None])[:, hidden]
            return stack(torch.where(hidden[:, None], places, tokens))[:, hidden]

        rows.append(depends(seed, depth, way)[0])
    return torch.stack(rows)


REPAIRS = {
    "one token hidden as a key": lambda d, s: one_at_a_time(d, s, "key"),
    "nobody sees itself": lambda d, s: depends(s, d, plain, look=others),
    "… and no residual": lambda d, s: depends(s, d, plain, look=others, residual=bare),
    "… and stream, query: position only": lambda d, s: depends(s, d, reread, residual=post_norm),
    "… and two streams": lambda d, s: depends(
        s, d, partial(two_streams, see=others, content_sees=full_mask)
    ),
    "two streams, in a random order": lambda d, s: in_an_order(s, d)[0],
    "keys stay the tokens": lambda d, s: depends(s, d, raw_keys),
    "[MASK] in its place": lambda d, s: one_at_a_time(d, s, "[MASK]"),
}


def draw_repairs(ax):
    depths = (1, 2, 3, 4)
    found = []
    for repair in REPAIRS.values():
        runs = [[own_over_other(repair(d, seed)) for d in depths] for seed in range(3)]
        found.append(torch.tensor(runs).median(0).values.tolist())
    matrix(ax, found, rows=list(REPAIRS), columns=depths, high=4.0)
    ax.set_xlabel("layers (in the cells:\ninfluence of the own token / of another)")
    ax.set_ylabel("what is done")


figure("ways-back-to-the-own-token", draw_repairs, size=(7.2, 4.0), tolerance=0.05)


# %%
RULES = {
    "100 / 0 / 0": ONLY_MASK,
    "80 / 20 / 0": NONE_KEPT,
    "80 / 10 / 10 (BERT)": BERTS,
    "80 / 0 / 20": NONE_SWAPPED,
}
ASKED = ("at [MASK]", "visible", "corrected")


def draw_rules(ax):
    found = []
    for rule in RULES.values():
        runs = [[after(seed, rule)[what] for what in ASKED] for seed in range(5)]
        found.append(torch.tensor(runs).median(0).values.tolist())
    names = ("[MASK] shown", "token shown as it is", "wrong token shown")
    matrix(ax, found, rows=list(RULES), columns=names)
    ax.set_xlabel("probability of the right token, by what is shown")
    ax.set_ylabel("masked / swapped / kept (%)")


figure("what-each-tenth-does", draw_rules, size=(6.8, 3.0), tolerance=0.1)
