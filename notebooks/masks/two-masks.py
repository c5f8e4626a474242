# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What masks does the Transformer use, in training and at inference?
#
# The proofs behind the page *two-masks*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.

# %%
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.experiments import tasks
from qa_lab.experiments.figures import INK, figure, matrix, spread
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measure import dependence, gaussian
from qa_lab.transformer.attention import fused_attention
from qa_lab.transformer.losses import cross_entropy
from qa_lab.transformer.masks import (
    causal_mask,
    full_mask,
    masked_softmax,
    packed_mask,
    prefix_mask,
    window_mask,
)
from qa_lab.transformer.models import DecoderOnly, EncoderOnly, Transformer
from qa_lab.transformer.multi_head import MultiHeadAttention
from qa_lab.transformer.stacks import Decoder, Encoder

torch.set_num_threads(1)

# %% [markdown]
# ## 1. Where the sequence mask is
#
# Stacks of two layers in float64, on both of the lab's paths. An entry of the dependence matrix is
# the largest derivative of one output position by one input position: 0 where no path leads, and
# not 0 anywhere else, since trained or not, no weight is 0 by accident.

# %%
PATHS = {"fused": masked_softmax, "weights": lambda scores, keep: masked_softmax(scores, keep)}
VOCAB, D_MODEL, HEADS, D_FF = 17, 26, 2, 37
SMALL = 6, 2, 11, 2  # d_model, heads, d_ff, layers, where derivatives are taken


def on(path):
    """A multi-head attention that takes one of the lab's two paths."""
    return partial(MultiHeadAttention, softmax=PATHS[path])


def share_of_zeros(seed, look=None):
    """Share of pairs (output, input) of an encoder between which no path leads."""
    found, changes = [], {"look": look} if look else {}  # None: as the lab's encoder comes
    for path in PATHS:
        encoder = Encoder(*SMALL, attention=on(path), **changes).double()
        found.append((dependence(encoder, gaussian((1, 7, 6), seed)) == 0).double().mean())
    return found


prove(
    "encoder-sees-all-of-its-input",
    en="In the encoder every output depends on every input, later ones too: no sequence mask.",
    zh="编码器的每个输出都依赖每个输入，包括后面的：那里没有序列掩码。",
    of=("share of independent pairs", "互不依赖的位置对所占比例"),
    measure=share_of_zeros,
    bound=exactly(0.0),
    control=broken("a causal mask in the encoder", "给编码器加因果掩码", look=causal_mask),
    settles={"sequence-mask-is-in-encoder": "refuted"},
)


# %%
def decoder_patterns(seed, look=None, path="fused"):
    """What a decoder's outputs depend on: its own inputs, and the encoder's memory."""
    changes = {"look": look} if look else {}
    decoder = Decoder(*SMALL, attention=on(path), **changes).double()
    y, memory = gaussian((1, 5, 6), seed), gaussian((1, 7, 6), seed + 1_000_000)
    own = dependence(lambda y: decoder(y, memory), y)
    return own > 0, dependence(lambda m: decoder(y, m), memory) > 0


def misplaced(seed, look=None):
    """Entries that differ from a triangle (own inputs) and from all True (memory), together."""
    found = []
    for path in PATHS:
        own, memory = decoder_patterns(seed, look, path)
        found.append((own != causal_mask(5)).sum() + (~memory).sum())
    return found


prove(
    "decoder-is-triangular-cross-attention-full",
    en="A decoder output depends on its own inputs up to itself, and on all of the source.",
    zh="解码器的输出依赖目标端直到自身的输入，以及源端的全部位置。",
    of=("entries out of place", "不符的元素个数"),
    measure=misplaced,
    bound=exactly(0.0),
    control=broken("no mask in the decoder", "解码器不加掩码", look=full_mask),
    settles={"sequence-mask-is-in-encoder": "refuted"},
)

# %% [markdown]
# What would an encoder lose by a causal mask? Let it tag every token with the token to its right.
# Tokens are uniform over V = 8 and independent, so the answer is independent of all that a causal
# encoder sees: no such encoder, of any size or training, has an expected loss below ln V. On 8000
# held-out tags a model near that floor differs from it by about 0.2 nats per tag, a standard error
# of 0.002; the bound allows 0.02.

# %%
SYMBOLS, LENGTH, STEPS = 8, 9, 120
tokens = partial(tasks.iid_tokens, vocab=SYMBOLS, length=LENGTH)


def right_neighbours(model, ids):
    """Cross-entropy of every tag but the last, which has no right neighbour, in nats."""
    return cross_entropy(model(ids)[:, :-1], ids[:, 1:])


@cache
@torch.enable_grad()
def tagger(seed, look):
    """One trained layer, and its training losses."""
    torch.manual_seed(seed)
    model = EncoderOnly(SYMBOLS, SYMBOLS, 32, 2, 64, 1, look=look)
    draw = partial(tokens, batch=32)
    losses = fit(model, right_neighbours, draw, steps=STEPS, lr=5e-3, seed=seed)
    return model, tuple(losses)


@torch.no_grad()
def above_the_floor(seed, look=causal_mask):
    """Held-out loss − ln V, nats per tag."""
    held_out = tokens(tasks.generator(seed + 1_000_000), batch=1000)
    loss = right_neighbours(tagger(seed, look)[0], held_out).item()
    return loss - tasks.entropy_floor(SYMBOLS)


prove(
    "causal-encoder-cannot-look-right",
    en="Asked for the token to the right, a causal encoder cannot beat a guess; a two-way one can.",
    zh="若要标出右边那个 token，加了因果掩码的编码器只能猜；双向的却能做到。",
    of=("held-out loss − ln V, nats per tag", "留出集损失 − ln V（nat/标签）"),
    measure=above_the_floor,
    bound=at_least(-0.02),
    control=broken("an encoder that looks both ways", "双向可见的编码器", look=full_mask),
    settles={"sequence-mask-is-in-encoder": "refuted"},
    tolerance=0.25,
)

# %% [markdown]
# ## 2. Two masks, joined by *and*
#
# Batched generation after prompts of different lengths: the prompt's padding ends up in the middle
# of the row, so both masks have work to do. Two promises are tested: nothing at a real position
# changes when the padding changes, and nothing changes when a later token changes.

# %%
REAL = torch.tensor([True, True, True, False, False, True, True, True])


def either(length, device=None):
    """The two masks joined by *or*."""
    return causal_mask(length) | REAL


@torch.no_grad()
def broken_promises(seed, join_by_or=False):
    """Largest change at real positions: new padding, then a new last token; both paths."""
    ids, found = torch.randint(VOCAB, (3, 8)), []
    other = (ids + torch.randint(1, VOCAB, ids.shape)) % VOCAB
    last = torch.arange(8) == 7
    for path in PATHS:
        look, keep = (either, None) if join_by_or else (causal_mask, REAL.expand(3, 8))
        model = DecoderOnly(VOCAB, D_MODEL, HEADS, D_FF, 2, look=look, attention=on(path))
        before = model.double()(ids, keep)
        for changed, read in ((~REAL, REAL), (last, REAL & ~last)):
            after = model(torch.where(changed, other, ids), keep)
            found.append((after - before)[:, read].abs().max())
    return found


prove(
    "masks-are-joined-by-and",
    en="Joined by “and”, both masks keep their promise; joined by “or”, both break it.",
    zh="两个掩码用“与”合并，各自的保证都成立；用“或”合并，两个都失效。",
    of=("largest change: of padding, of the future", "最大变化量：改填充、改未来"),
    measure=broken_promises,
    bound=at_most(1e-12),
    control=broken("joined by “or”", "用“或”合并", join_by_or=True),
    settles={"two-kinds-of-mask": "holds"},
)


# %%
@torch.no_grad()
def all_real(seed, hidden=0):
    """Largest change of the logits by padding masks that hide the first `hidden` tokens."""
    source, target = torch.randint(VOCAB, (1, 7)), torch.randint(VOCAB, (1, 5))
    found = []
    for path in PATHS:
        model = Transformer(VOCAB, D_MODEL, HEADS, D_FF, 2, attention=on(path)).double()
        keep = torch.arange(7)[None] >= hidden
        found.append((model(source, target, keep) - model(source, target)).abs().max())
    return found


prove(
    "batch-of-one-needs-no-padding-mask",
    en="Where nothing is padded, as in a batch of one, the padding mask changes nothing.",
    zh="没有填充时（例如批次里只有一句），填充掩码加不加都一样。",
    of=("largest |difference| of the logits", "logit 的最大绝对差"),
    measure=all_real,
    bound=at_most(1e-12),
    control=broken("a mask that hides one token", "掩码盖住一个 token", hidden=1),
    settles={"inference-uses-only-padding-mask": "refuted"},
)

# %% [markdown]
# ## 3. The sequence mask at inference
#
# The same weights with and without the causal mask, on the same text; what is read is the last
# position, the one that the next token comes from. Its own attention sees everything in either
# case. In one layer that is all. From two layers on, it reads positions that have looked ahead.
# Logits of these fresh models are of order 1; a change counts from 0.001.


# %%
def twins(path, layers, look, other):
    """Two language models that differ in their mask alone."""
    sizes = VOCAB, D_MODEL, HEADS, D_FF, layers
    first = DecoderOnly(*sizes, look=look, attention=on(path)).double()
    second = DecoderOnly(*sizes, look=other, attention=on(path)).double()
    second.load_state_dict(first.state_dict())
    return first, second


@torch.no_grad()
def change_of_the_last(seed, depths=(2, 3, 4)):
    """Largest change of the last position's logits when the causal mask is dropped."""
    ids, found = torch.randint(VOCAB, (3, 11)), []
    for path in PATHS:
        for layers in depths:
            masked, bare = twins(path, layers, causal_mask, full_mask)
            found.append((masked(ids) - bare(ids))[:, -1].abs().max())
    return found


prove(
    "dropping-the-mask-changes-deeper-decoders",
    en="Dropping the causal mask at inference changes the next token's logits from two layers on.",
    zh="推理时去掉因果掩码，两层及以上的解码器预测下一个 token 的 logit 就会变。",
    of=("change of the last position's logits, 2 … 4 layers", "最后位置 logit 的变化，2 … 4 层"),
    measure=change_of_the_last,
    bound=at_least(1e-3),
    control=broken("a decoder of one layer", "只有一层的解码器", depths=(1,)),
    settles={"inference-uses-only-padding-mask": "refuted"},
)

# %% [markdown]
# With a cache the question changes: the queries are the new tokens only, the keys all tokens so
# far. The referee is one causal pass over the whole text.


# %%
@torch.no_grad()
def in_pieces(seed, piece=1, look=full_mask):
    """Largest |difference| of a text read in pieces through a cache from one causal pass."""
    ids, found = torch.randint(VOCAB, (3, 12)), []
    for path in PATHS:
        whole, reader = twins(path, 3, causal_mask, look)
        cache = reader.new_cache()
        logits = torch.cat([reader(part, cache=cache) for part in ids.split(piece, 1)], 1)
        found.append((logits - whole(ids)).abs().max())
    return found


prove(
    "one-new-token-needs-no-mask",
    en="One token at a time through a cache needs no mask: there is no future to hide.",
    zh="用缓存逐个 token 解码时不需要掩码：没有未来可遮。",
    of=(
        "largest |difference| of the logits from one causal pass",
        "与一次因果前向的 logit 最大绝对差",
    ),
    measure=in_pieces,
    bound=at_most(1e-10),
    control=broken("two tokens at a time", "一次读两个 token", piece=2),
    settles={"inference-uses-only-padding-mask": "refuted"},
)

# %% [markdown]
# A prompt read in chunks of 4: the mask of a chunk is the last 4 rows of the triangle over all
# tokens so far. A triangle that begins in the top left corner of the [4 keys] rectangle instead
# hides most of the past.


# %%
def top_left(length, device=None):
    """The last 4 rows hold a triangle from the top left corner, where an offset one belongs."""
    keep = causal_mask(length)
    keep[-4:] = torch.ones(4, length, dtype=torch.bool).tril()
    return keep


prove(
    "chunked-prefill-needs-the-offset-mask",
    en="A prompt read in chunks needs the causal mask, its triangle set off by the tokens so far.",
    zh="分块读入提示时仍需因果掩码，而且三角要按已读的 token 数平移。",
    of=(
        "largest |difference| of the logits from one causal pass",
        "与一次因果前向的 logit 最大绝对差",
    ),
    measure=lambda seed, look=causal_mask: in_pieces(seed, piece=4, look=look),
    bound=at_most(1e-10),
    control=broken("triangle from the top left corner", "三角从左上角开始", look=top_left),
    settles={"inference-uses-only-padding-mask": "refuted"},
)


# %%
def beside_torch(seed, offset=0):
    """|difference| of is_causal=True, 4 queries on 12 keys, from a triangle with this offset."""
    q, k = gaussian((2, 3, 4, 5), seed), gaussian((2, 3, 12, 5), seed + 1_000_000)
    v = gaussian((2, 3, 12, 7), seed + 2_000_000)
    keep = torch.ones(4, 12, dtype=torch.bool).tril(offset)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return (fused_attention(q, k, v, keep) - theirs).abs().max()


prove(
    "torch-is-causal-starts-at-the-top-left",
    en="PyTorch's is_causal=True starts its triangle at the top left, also with more keys.",
    zh="PyTorch 的 is_causal=True 总是从左上角画三角，键更多时也一样。",
    of=("largest |difference| of the outputs", "输出的最大绝对差"),
    measure=beside_torch,
    bound=at_most(1e-12),
    control=broken("set off by the 8 older keys", "按已有的 8 个键平移", offset=8),
)

# %% [markdown]
# ## 4. Other masks one may be asked for
#
# Written out as sentences, entry by entry, and compared with what one layer's outputs depend on.
# (In one layer, and with position i itself always visible, the two must be equal.)

# %%
DOCUMENTS, PREFIX, WINDOW, PLACES = (0, 0, 0, 1, 1, 2, 2, 2), 3, 3, 8


def packed_and_causal(length, device=None):
    """Documents laid end to end, each causal."""
    return packed_mask(torch.tensor([DOCUMENTS]))[0, 0] & causal_mask(length)


def prefix(length, device=None):
    """The first PREFIX tokens look both ways, the rest are causal."""
    return prefix_mask(torch.tensor([PREFIX]), length)[0, 0]


MASKS = {  # the lab's mask, and when position i may see position j
    "window": (partial(window_mask, window=WINDOW), lambda i, j: i - WINDOW < j <= i),
    "prefix": (prefix, lambda i, j: j < PREFIX or j <= i),
    "packed": (packed_and_causal, lambda i, j: DOCUMENTS[i] == DOCUMENTS[j] and j <= i),
}


def mislabelled(seed, plain_causal=False):
    """Entries in which one layer's dependence differs from the sentence; for each of the masks."""
    x, found = gaussian((1, PLACES, 6), seed), []
    for path in PATHS:
        for look, sees in MASKS.values():
            look = causal_mask if plain_causal else look
            layer = Encoder(6, 2, 11, 1, look=look, attention=on(path)).double()
            said = [[sees(i, j) for j in range(PLACES)] for i in range(PLACES)]
            found.append(((dependence(layer, x) > 0) != torch.tensor(said)).sum())
    return found


prove(
    "window-prefix-packed-are-what-they-say",
    en="Window, prefix and packed masks let through exactly the pairs that their names promise.",
    zh="窗口、前缀、打包三种掩码，放行的位置对与定义完全一致。",
    of=("entries out of place: window, prefix, packed", "不符的元素个数：窗口、前缀、打包"),
    measure=mislabelled,
    bound=exactly(0.0),
    control=broken("a plain causal mask in their place", "换成普通的因果掩码", plain_causal=True),
)


# %%
def reach(seed, look=None):
    """How far back L layers see, over L (w − 1); windows of 3, L = 1 … 4, 10 positions."""
    x, found = gaussian((1, 10, 6), seed), []
    for layers in range(1, 5):
        stack = Encoder(6, 2, 11, layers, look=look or MASKS["window"][0]).double()
        seen = dependence(stack, x)[-1] > 0
        found.append((9 - seen.int().argmax()) / (layers * (WINDOW - 1)))
    return found


prove(
    "windows-add-up-over-layers",
    en="Under a window of w keys, L layers see back exactly L (w − 1) positions.",
    zh="窗口为 w 个键时，L 层恰好能看到往前 L (w − 1) 个位置。",
    of=("reach / L (w − 1), 1 … 4 layers", "可达距离 / L (w − 1)，1 … 4 层"),
    measure=reach,
    bound=exactly(1.0),
    control=broken("no window", "不设窗口", look=causal_mask),
)

# %% [markdown]
# ## 5. Figures


# %%
def draw_places(*panels):
    torch.manual_seed(0)
    encoder = Encoder(*SMALL).double()
    own, memory = decoder_patterns(0)
    seen = {
        "encoder self-attention": dependence(encoder, gaussian((1, 7, 6), 0)) > 0,
        "decoder self-attention": own,
        "cross-attention": memory,
    }
    sides = (("source", "source"), ("target", "target"), ("target", "source"))
    for ax, (title, pattern), (rows, columns) in zip(panels, seen.items(), sides, strict=True):
        names = [range(1, size + 1) for size in pattern.shape]
        matrix(ax, pattern, rows=names[0], columns=names[1], fmt="{:.0f}")
        ax.set(title=title, ylabel=f"output at {rows} position", xlabel=f"{columns} position")


figure("which-mask-where", draw_places, panels=3, size=(9.6, 3.1))


# %%
def draw_inference(left, right):
    depths = range(1, 7)
    runs = []
    for seed in range(5):
        torch.manual_seed(seed)
        changes = change_of_the_last(seed, depths)
        runs.append([change.item() for change in changes[: len(depths)]])
    spread(left, depths, runs, label="mask dropped", marker="o")
    left.set(xlabel="layers", ylabel="change of the last position's logits", ylim=(0, None))
    for name, look in (("causal encoder", causal_mask), ("two-way encoder", full_mask)):
        runs = np.array([tagger(seed, look)[1] for seed in range(5)])
        spread(right, 2 + 5 * np.arange(STEPS // 5), runs.reshape(5, -1, 5).mean(-1), label=name)
    right.axhline(tasks.entropy_floor(SYMBOLS), color=INK, linestyle="--", linewidth=1)
    right.text(STEPS, 1.9, "floor ln 8", ha="right", fontsize=9)
    right.set(xlabel="training step", ylabel="loss on the right neighbour (nats)", ylim=(0, None))
    right.legend(fontsize=9)


figure("masks-matter", draw_inference, panels=2, size=(8.6, 3.4), tolerance=0.25)


# %%
def draw_other_masks(*panels):
    for ax, (name, (look, _)) in zip(panels, MASKS.items(), strict=True):
        names = range(1, PLACES + 1)
        matrix(ax, look(PLACES), rows=names, columns=names, fmt="{:.0f}")
        ax.set(title=name, xlabel="key", ylabel="query")


figure("other-masks", draw_other_masks, panels=3, size=(9.6, 3.2))
