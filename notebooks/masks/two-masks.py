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
from qa_lab.claims.figures import INK, figure, matrix, spread
from qa_lab.experiments.data import tasks
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measures import dependence, gaussian
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    causal_mask,
    full_mask,
    fused_attention,
    packed_mask,
    prefix_mask,
    real_tokens,
    scaled_dot_product_attention,
    window_mask,
)
from qa_lab.transformer.models import Decoder, DecoderOnly, Encoder, EncoderOnly, Transformer
from qa_lab.transformer.training import cross_entropy

torch.set_num_threads(1)

# %% [markdown]
# ## 1. Where the sequence mask is
#
# Stacks of two layers in float64, on both of the lab's paths. An entry of the dependence matrix is
# the largest derivative of one output position by one input position: 0 where no path leads, and
# not 0 anywhere else, since trained or not, no weight is 0 by accident.

# %%
PATHS = {"fused": DotProductAttention(), "weights": scaled_dot_product_attention}
VOCAB, D_MODEL, HEADS, D_FF = 17, 26, 2, 37
SMALL = 6, 2, 11, 2  # d_model, heads, d_ff, layers, where derivatives are taken


def on(path):
    """A multi-head attention that takes one of the lab's two paths."""
    return partial(MultiHeadAttention, attend=PATHS[path])


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
def decoder_patterns(seed, look=None, path="fused", memory_real=None):
    """What a decoder's outputs depend on: its own inputs, and the encoder's memory."""
    changes = {"look": look} if look else {}
    decoder = Decoder(*SMALL, attention=on(path), **changes).double()
    y, memory = gaussian((1, 5, 6), seed), gaussian((1, 7, 6), seed + 1_000_000)
    own = dependence(lambda y: decoder(y, memory, None, memory_real), y)
    return own > 0, dependence(lambda m: decoder(y, m, None, memory_real), memory) > 0


prove(
    "decoder-self-attention-is-triangular",
    en="A decoder output depends on its own inputs up to itself, and on none after it.",
    zh="解码器的输出依赖目标端直到自身的输入，不依赖其后的任何输入。",
    of=("entries out of the triangle's place", "与三角不符的元素个数"),
    measure=lambda seed, look=None: [
        (decoder_patterns(seed, look, path)[0] != causal_mask(5)).sum() for path in PATHS
    ],
    bound=exactly(0.0),
    control=broken("no mask in the decoder", "解码器不加掩码", look=full_mask),
    settles={"sequence-mask-is-in-encoder": "refuted"},
)

# %%
prove(
    "cross-attention-sees-all-of-the-source",
    en="Every decoder output depends on every position of the source: no triangle there.",
    zh="解码器的每个输出都依赖源端的每个位置：那里没有三角。",
    of=("independent pairs (target, source)", "互不依赖的（目标，源端）位置对个数"),
    measure=lambda seed, memory_real=None: [
        (~decoder_patterns(seed, None, path, memory_real)[1]).sum() for path in PATHS
    ],
    bound=exactly(0.0),
    control=broken(
        "a mask that hides one source token",
        "掩码盖住源端的一个 token",
        memory_real=torch.arange(7)[None] != 3,
    ),
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
ASKED = torch.tensor([3, 1, 4])  # tokens of each prompt, padded to 5; 3 tokens of answer follow
REAL = torch.cat([real_tokens(ASKED, 5), torch.ones(3, 3, dtype=torch.bool)], 1)


def either(length, device=None):
    """The two masks joined by *or*, [batch 1 query key]."""
    return causal_mask(length) | REAL[:, None, None]


@torch.no_grad()
def broken_promises(seed, join_by_or=False):
    """Largest change at real positions: new padding, then a new last token; both paths."""
    ids, found = torch.randint(VOCAB, (3, 8)), []
    other = (ids + torch.randint(1, VOCAB, ids.shape)) % VOCAB
    last = torch.arange(8) == 7
    for path in PATHS:
        look, keep = (either, None) if join_by_or else (causal_mask, REAL)
        model = DecoderOnly(VOCAB, D_MODEL, HEADS, D_FF, 2, look=look, attention=on(path))
        before = model.double()(ids, keep)
        for changed, read in ((~REAL, REAL), (last, REAL & ~last)):
            after = model(torch.where(changed, other, ids), keep)
            found.append((after - before)[read].abs().max())
    return found


prove(
    "masks-are-joined-by-and",
    en="Joined by “and”, both masks keep their promise; joined by “or”, both break it.",
    zh="两个掩码用“与”合并，各自的保证都成立；用“或”合并，两个都失效。",
    of=("largest change: of padding, of the future", "最大变化量：改填充、改未来"),
    measure=broken_promises,
    bound=at_most(1e-12),
    control=broken("joined by “or”", "用“或”合并", join_by_or=True),
    settles={"two-kinds-of-mask": "conditional"},
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
    settles={"inference-uses-only-padding-mask": "conditional"},
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
    settles={"inference-uses-only-padding-mask": "conditional"},
)

# %% [markdown]
# With a cache the question changes: the queries are the new tokens only, the keys all tokens so
# far. The referee is one causal pass over the whole text.


# %%
@torch.no_grad()
def in_pieces(seed, piece=1, look=full_mask, whole=causal_mask, window=None):
    """Largest |difference| of a text read in pieces through a cache from one masked pass."""
    ids, found = torch.randint(VOCAB, (3, 12)), []
    for path in PATHS:
        writer, reader = twins(path, 3, whole, look)
        cache = reader.new_cache(window)
        logits = torch.cat([reader(part, cache=cache) for part in ids.split(piece, 1)], 1)
        found.append((logits - writer(ids)).abs().max())
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
    settles={"inference-uses-only-padding-mask": "conditional"},
)

# %% [markdown]
# A prompt of 12 tokens read in chunks of 2, 3, 4 and 5: the mask of a chunk is the last rows of the
# triangle over all tokens so far. A triangle that begins in the top left corner of the chunk's
# [query key] rectangle instead hides most of the past.

# %%
CHUNKS = 2, 3, 4, 5


def top_left(length, device=None, *, chunk):
    """The last chunk's rows hold a triangle from the top left corner, not an offset one."""
    new = (length - 1) % chunk + 1
    keep = causal_mask(length)
    keep[-new:] = torch.ones(new, length, dtype=torch.bool).tril()
    return keep


def in_chunks(seed, corner=False):
    """`in_pieces` for every size of chunk."""
    looks = {chunk: partial(top_left, chunk=chunk) if corner else causal_mask for chunk in CHUNKS}
    return [in_pieces(seed, chunk, look) for chunk, look in looks.items()]


prove(
    "chunked-prefill-needs-the-offset-mask",
    en="A prompt read in chunks needs the causal mask, its triangle set off by the tokens so far.",
    zh="分块读入提示时仍需因果掩码，而且三角要按已读的 token 数平移。",
    of=(
        "largest |difference| of the logits from one causal pass, chunks of 2 … 5",
        "与一次因果前向的 logit 最大绝对差，每块 2 … 5 个 token",
    ),
    measure=in_chunks,
    bound=at_most(1e-10),
    control=broken("triangle from the top left corner", "三角从左上角开始", corner=True),
    settles={"inference-uses-only-padding-mask": "conditional"},
)

# %% [markdown]
# The padding mask through a cache. Prompts of 2, 4 and 3 tokens are padded to 4, read at once, and
# continued by one token, another one, and three; the referee is each row alone, not padded.
# (No position signals: they would have to be shifted as well.)

# %%
PROMPTS, PIECES = torch.tensor([2, 4, 3]), (4, 1, 1, 3)
KEEP = torch.cat([real_tokens(PROMPTS, 4), torch.ones(3, 5, dtype=torch.bool)], 1)


def no_positions(x, start=0):
    """Nothing is added: attention alone tells positions apart, by its mask."""
    return x


@torch.no_grad()
def ragged(seed, told=True):
    """Largest |difference| of ragged prompts and answers in a cache from each row alone."""
    ids, found = torch.randint(VOCAB, (3, 9)), []
    for path in PATHS:
        model = DecoderOnly(
            VOCAB, D_MODEL, HEADS, D_FF, 3, attention=on(path), positions=no_positions
        ).double()
        cache, parts = model.new_cache(), []
        for part in ids.split(PIECES, 1):
            keep = KEEP[:, : cache.seen + part.shape[1]]
            parts.append(model(part, keep if told or not cache.seen else None, cache))
        logits = torch.cat(parts, 1)
        apart = [(logits[b, k] - model(ids[b][k][None])[0]).abs() for b, k in enumerate(KEEP)]
        found.append(max(difference.max() for difference in apart))
    return found


prove(
    "padding-stays-hidden-through-the-cache",
    en="With a cache, every new token still needs the padding mask of the prompts it continues.",
    zh="用了缓存，后续的每个新 token 仍需要提示部分的填充掩码。",
    of=("largest |difference| of the logits from each row alone", "与单独计算的 logit 最大绝对差"),
    measure=ragged,
    bound=at_most(1e-10),
    control=broken("padding forgotten after the prompt", "读完提示就忘了填充", told=False),
    settles={"inference-uses-only-padding-mask": "conditional"},
)

# %% [markdown]
# The encoder-decoder writes from START. Sources of 7, 4 and 2 tokens, padded to 7; targets of 6
# tokens, read one at a time by a decoder without any causal mask, then in pieces of 2, 1 and 3 by
# one with it. The referee is each pair alone: one causal pass, nothing padded.

# %%
SOURCES, STEPWISE = (7, 4, 2), ((full_mask, 1), (None, (2, 1, 3)))


@torch.no_grad()
def decode_pieces(seed, told=True):
    """Largest |difference| of targets in a cache, sources padded, from each pair alone."""
    source, target = torch.randint(VOCAB, (3, 7)), torch.randint(VOCAB, (3, 6))
    keep, found = real_tokens(torch.tensor(SOURCES), 7), []
    for path in PATHS:
        sizes = VOCAB, D_MODEL, HEADS, D_FF, 2
        alone = Transformer(*sizes, attention=on(path)).double()
        for look, pieces in STEPWISE:
            changes = {"look": look} if look else {}  # None: causal, as the lab's decoder comes
            model = Transformer(*sizes, attention=on(path), **changes).double()
            model.load_state_dict(alone.state_dict())
            memory, cache, parts = model.encode(source, keep), model.new_cache(), []
            for part in target.split(pieces, 1):
                shown = keep if told or not cache.seen else None
                parts.append(model.decode(part, memory, None, shown, cache))
            apart = [
                (logits - alone(source[b : b + 1, :n], target[b : b + 1])[0]).abs().max()
                for b, (n, logits) in enumerate(zip(SOURCES, torch.cat(parts, 1), strict=True))
            ]
            found.append(max(apart))
    return found


prove(
    "cached-cross-attention-needs-the-source-mask",
    en="Writing from START with a cache needs the source's padding mask at every step; token by "
    "token, no other mask.",
    zh="用缓存从 START 写起，每一步都需要源端的填充掩码；逐个 token 写时，不需要别的掩码。",
    of=(
        "largest |difference| of the logits from each pair alone, token by token and in pieces",
        "与单独计算的 logit 最大绝对差（逐个 token、分块）",
    ),
    measure=decode_pieces,
    bound=at_most(1e-10),
    control=broken("padding forgotten after the first step", "第一步之后忘了填充", told=False),
    settles={"inference-uses-only-padding-mask": "conditional"},
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
DOCUMENTS, PREFIXES, WINDOWS, WINDOW, PLACES = (1, 1, 1, 0, 0, 2, 2, 2), (2, 3, 8), (1, 3, 7), 3, 8


def packed(length, device=None):
    """Documents laid end to end, each looking both ways; the first row of a batch of two."""
    return packed_mask(torch.tensor([DOCUMENTS, DOCUMENTS[::-1]]))[0, 0]


def packed_and_causal(length, device=None):
    """Documents laid end to end, each causal."""
    return packed(length) & causal_mask(length)


def prefix(length, device=None, *, row):
    """The first PREFIXES[row] tokens look both ways, the rest are causal; a row of a batch."""
    return prefix_mask(torch.tensor(PREFIXES), length)[row, 0]


MASKS = {  # the lab's mask, and when position i may see position j
    **{
        f"window of {w}": (partial(window_mask, window=w), lambda i, j, w=w: i - w < j <= i)
        for w in WINDOWS
    },
    **{
        f"prefix of {p}": (partial(prefix, row=row), lambda i, j, p=p: j < p or j <= i)
        for row, p in enumerate(PREFIXES)
    },
    "packed, two-way": (packed, lambda i, j: DOCUMENTS[i] == DOCUMENTS[j]),
    "packed, causal": (packed_and_causal, lambda i, j: DOCUMENTS[i] == DOCUMENTS[j] and j <= i),
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
    of=(
        "entries out of place: windows of 1, 3, 7, prefixes of 2, 3, 8, packed",
        "不符的元素个数：窗口 1、3、7，前缀 2、3、8，打包",
    ),
    measure=mislabelled,
    bound=exactly(0.0),
    control=broken("a plain causal mask in their place", "换成普通的因果掩码", plain_causal=True),
    settles={"two-kinds-of-mask": "conditional"},
)


# %%
def reach(seed, look=None):
    """How far back L layers see, over L (w − 1); windows of 3, L = 1 … 4, 10 positions."""
    x, found = gaussian((1, 10, 6), seed), []
    for layers in range(1, 5):
        stack = Encoder(6, 2, 11, layers, look=look or partial(window_mask, window=WINDOW)).double()
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


# %%
def in_a_windowed_cache(seed, window=WINDOW):
    """`in_pieces` under windows of 3, tokens one at a time, then four; a cache for `window`."""
    look = partial(window_mask, window=WINDOW)
    return [in_pieces(seed, piece, look, look, window) for piece in (1, 4)]


prove(
    "windowed-cache-equals-one-windowed-pass",
    en="Under a window of w keys, a cache needs the last w − 1 positions, and no more.",
    zh="窗口为 w 个键时，缓存只需保留最近的 w − 1 个位置。",
    of=(
        "largest |difference| of the logits from one windowed pass",
        "与一次窗口前向的 logit 最大绝对差",
    ),
    measure=in_a_windowed_cache,
    bound=at_most(1e-10),
    control=broken("one position fewer", "少保留一个位置", window=WINDOW - 1),
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
    spread(left, depths, runs, gid="dropped", label="mask dropped", marker="o")
    left.set(xlabel="layers", ylabel="change of the last position's logits", ylim=(0, None))
    for key, look in (("causal", causal_mask), ("two-way", full_mask)):
        runs = np.array([tagger(seed, look)[1] for seed in range(5)]).reshape(5, -1, 5).mean(-1)
        spread(right, 2 + 5 * np.arange(STEPS // 5), runs, gid=key, label=f"{key} encoder")
    floor = tasks.entropy_floor(SYMBOLS)
    right.axhline(floor, color=INK, linestyle="--", linewidth=1, gid="floor")
    right.text(STEPS, 1.9, "floor ln 8", ha="right", fontsize=9)
    right.set(xlabel="training step", ylabel="loss on the right neighbour (nats)", ylim=(0, None))
    right.legend(fontsize=9)


figure("masks-matter", draw_inference, panels=2, size=(8.6, 3.4), tolerance=0.25)


# %%
def draw_other_masks(*panels):
    shown = {"window": "window of 3", "prefix": "prefix of 3", "packed": "packed, causal"}
    for ax, (name, mask) in zip(panels, shown.items(), strict=True):
        names = range(1, PLACES + 1)
        matrix(ax, MASKS[mask][0](PLACES), rows=names, columns=names, fmt="{:.0f}")
        ax.set(title=name, xlabel="key", ylabel="query")


figure("other-masks", draw_other_masks, panels=3, size=(9.6, 3.2))
