"""The words of the explorers, the parts of a figure that a reader can move; see `explore.js`."""

from qa_lab.claims.evidence import RecordedFigure
from qa_lab.guide.errors import PageError

_SCORES = {
    "en": {
        "title": "Try it: widen the head",
        "width": "Width of the head, dₖ =",
        "divide": "Scores divided by",
        "nothing": "nothing",
        "again": "Draw again",
        "bars": "The weight of each key; the full height is 100 %.",
        "says": (
            "One query, 64 keys: the largest weight is {largest}, "
            "the entropy {entropy} of its largest value."
        ),
        "recorded": (
            "Recorded in the figure at dₖ = {d_k}: "
            "mean largest weight {largest}, entropy {entropy} (medians over five seeds)."
        ),
    },
    "zh": {
        "title": "动手试试：把头加宽",
        "width": "头的宽度 dₖ =",
        "divide": "分数除以",
        "nothing": "不除",
        "again": "重新抽取",
        "bars": "每个键的权重；柱子全高为 100%。",
        "says": "一个查询，64 个键：最大权重为 {largest}，熵为最大值的 {entropy}。",
        "recorded": (
            "上图在 dₖ = {d_k} 处的记录：平均最大权重 {largest}，熵 {entropy}"
            "（五个随机种子的中位数）。"
        ),
    },
}

_MASKS = {
    "en": {
        "title": "Try it: who may look at whom",
        "attention": "Attention",
        "looks": {
            "causal": "decoder self-attention",
            "full": "encoder self-attention",
            "cross": "cross-attention",
            "window": "sliding window of 3",
            "prefix": "prefix of 2, then causal",
            "packed": "two packed documents",
            "strict": "causal without the diagonal",
        },
        "padding": "Padding",
        "sides": {"right": "on the right", "left": "on the left", "none": "none"},
        "masked": "padding mask",
        "caption": "Rows ask, columns are looked at. Choose a row.",
        "tokens": ["the", "cat", "sat", "on", "it"],
        "target": ["[BOS]", "le", "chat"],
        "says": "“{query}” may look at {seen} of {all} positions: {keys}.",
        "blind": (
            "“{query}” may look at nothing. "
            "There is no softmax over no keys: the lab refuses this mask."
        ),
        "comma": ", ",
    },
    "zh": {
        "title": "动手试试：谁能看见谁",
        "attention": "注意力",
        "looks": {
            "causal": "解码器自注意力",
            "full": "编码器自注意力",
            "cross": "交叉注意力",
            "window": "宽度为 3 的滑动窗口",
            "prefix": "前 2 个为前缀，其后因果",
            "packed": "两篇打包的文档",
            "strict": "去掉对角线的因果掩码",
        },
        "padding": "填充",
        "sides": {"right": "在右侧", "left": "在左侧", "none": "没有"},
        "masked": "填充掩码",
        "caption": "行是查询，列是键。点选一行。",
        "tokens": ["猫", "坐", "在", "垫子", "上"],
        "target": ["[BOS]", "the", "cat"],
        "says": "“{query}”能看到 {all} 个位置中的 {seen} 个：{keys}。",
        "blind": "“{query}”什么都看不到。没有键就没有 softmax：实验室会拒绝这样的掩码。",
        "comma": "、",
    },
}

_HEADS = {
    "en": {
        "title": "Try it: switch heads off",
        "task": "Asked for",
        "tasks": {"0": "the contents of four places", "1": "the content of one place"},
        "head": "head {head}",
        "place": "place",
        "left": "most",
        "caption": "Recorded weights of four trained heads. Switch a head off, or on again.",
        "lost": "No head that is left looks at: {places}. That content is gone.",
        "kept": "Every place that was looked at still is.",
        "comma": ", ",
    },
    "zh": {
        "title": "动手试试：关掉几个头",
        "task": "要取的是",
        "tasks": {"0": "四处的内容", "1": "一处的内容"},
        "head": "头 {head}",
        "place": "位置",
        "left": "最大",
        "caption": "四个训练好的头的权重，取自记录。点击可关掉或重新打开一个头。",
        "lost": "剩下的头没有一个看位置 {places}：那里的内容取不回来了。",
        "kept": "原先看向的每个位置，现在仍有头在看。",
        "comma": "、",
    },
}

EXPLORERS = {"heads": _HEADS, "scores": _SCORES, "masks": _MASKS}
# The series that an explorer reads from its figure, by key, for each panel.
READS = {
    "heads": [{"matrix"}, {"matrix"}],
    "scores": [{"root", "none", "width"}, {"root", "none", "width"}],
    "masks": [],
}


def check(name: str, figure: RecordedFigure) -> None:
    """See that there is such an explorer, and that the figure has what it reads.

    Raises:
        PageError: It has not, or there is none.
    """
    if name not in EXPLORERS:
        raise PageError(f"There is no explorer {name!r}; there are {', '.join(EXPLORERS)}.")
    panels = [set(panel) for panel in figure.drawn]
    for number, needed in enumerate(READS[name]):
        if missing := needed - (panels[number] if number < len(panels) else set()):
            raise PageError(
                f"The explorer {name!r} reads {', '.join(sorted(missing))} from panel {number} of "
                f"{figure.id}, which records no such series."
            )
