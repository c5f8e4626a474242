"""The search: what is typed is words, and what readers mean is found."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from material.plugins.search.plugin import Parser
from mkdocs.utils.yaml import yaml_load
from py_mini_racer import MiniRacer

from qa_lab.claims.manifest import BadEntry
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.library import Library
from qa_lab.guide.maths import render
from qa_lab.guide.search import add_keywords, load_vocabulary, plain_formula, searchable

OURS = ROOT / "qa_lab/guide/theme/assets/qa/search-worker.js"
THEIRS = "templates/assets/javascripts/workers"
# What a worker finds around it in a browser. By `console.warn` Material says that it cannot read a
# query.
WORKER = """
const self = globalThis, location = {search: ""}, listeners = [], answers = [], complaints = [];
const addEventListener = (kind, listener) => listeners.push(listener);
const postMessage = (answer) => answers.push(answer);
const console = {warn: (complaint) => complaints.push(String(complaint))};
const importScripts = () => {};
function send(type, data) {
    const message = {type, data};
    for (const hear of listeners) hear({data: message});
}
"""


class Search:
    """The site's search worker, ours and Material's, run outside a browser with an index."""

    def __init__(self, index: dict):
        theirs = Path(importlib.util.find_spec("material").origin).parent / THEIRS
        [worker] = theirs.glob("search.*.min.js")
        self.engine = MiniRacer()
        for script in (WORKER, OURS.read_text("utf-8"), worker.read_text("utf-8")):
            self.engine.eval(script)
        self._send(0, index | {"options": {}})

    def __call__(self, query: str) -> list[str]:
        """The pages that are found, best first."""
        found = self._send(2, query)["data"]["items"]
        return list(dict.fromkeys(item["location"].split("#")[0] for [item, *_] in found))

    def words(self, query: str) -> str:
        """What lunr is asked."""
        return self.engine.call("lunrQuery", query)

    def _send(self, kind: int, data: dict | str) -> dict:
        self.engine.eval(f"send({kind}, {json.dumps(data)}); 0")  # answered when this has ended
        assert json.loads(self.engine.eval("JSON.stringify(complaints)")) == []
        return json.loads(self.engine.eval("JSON.stringify(answers.pop())"))


def running(index: dict):
    """A fixture's search, closed at its end: left to the interpreter's, it hangs."""
    search = Search(index)
    yield search
    search.engine.close()


with (ROOT / "mkdocs.yml").open(encoding="utf-8") as file:
    SETTINGS = yaml_load(file)["plugins"]["search"]
INDEX = {
    "config": {
        "lang": ["en"],
        "separator": SETTINGS["separator"],
        "pipeline": SETTINGS["pipeline"],
        "fields": {"title": {"boost": 1000}, "text": {"boost": 1}} | SETTINGS["fields"],
    },
    "docs": [
        {"location": "masks/", "title": "Masks", "text": "Scores of 1e9 and 0.5 for q."},
        {
            "location": "norms/",
            "title": "Norms",
            "text": "of d_k",
            "keywords": "层归一化\u200bNorm",
        },
        {
            "location": "cache/",
            "title": "缓存\u200b与\u200b注意力",
            "text": "a norm of cached keys",
        },
    ],
}


@pytest.fixture(scope="module")
def small():
    """The search of three pages."""
    yield from running(INDEX)


# How a query is read.


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("padding mask", "padding^4 padding mask^4 mask"),
        ("-1e9", "1e9^4 1e9"),
        ("－1e9", "1e9^4 1e9"),
        ("−inf", "inf^4 inf"),
        ("+mask ~mask^9 ma*", "mask^4 mask mask^4 mask 9^4 ma^4 ma"),
        ("title:foo", "title^4 title foo^4 foo"),
        ("q:k", "q^4 k^4"),
        ("W^Q", "W^4 Q^4"),
        ("1/√d_k", "1^4 d_k^4 d_k"),
        ("１／√dₖ", "1^4 d_k^4 d_k"),
        ("d_k^-0.5", "d_k^4 d_k 0.5^4 0.5"),
        ("p(x|y)", "p^4 x^4 y^4"),
        ("softmax(QK^T)", "softmax^4 softmax QK^4 QK T^4"),
        ("ｓｏｆｔｍａｘ（QK^T）", "softmax^4 softmax QK^4 QK T^4"),
        ("10:1", "10^4 10 1^4"),
        ("10⁹", "10^4 10 9^4"),
        ("q~k", "q^4 k^4"),
        ("ＱＫＶ", "QKV^4 QKV"),
        ("softmax. attention.py", "softmax^4 softmax attention^4 attention py^4 py"),
        ('"causal mask"', "causal^4 causal mask^4 mask"),
        ("what is the mask", "mask^4 mask"),
        ("what is the", "what^4 what is^4 is the^4 the"),
        ("KV缓存", "KV^4 KV 缓存^4 缓存"),
        ("“层归一化”？", "层归一化^4 层归一化"),
        ("怎么用层归一化", "用^4 层归一化^4 层归一化"),
        ("缓存注意", "缓存^4 缓存 注意^4 注意"),
        ("缓存注意力的层归", "缓存^4 缓存 注意力^4 注意力 层归^4 层归"),
        ("怎么", "怎么^4 怎么"),
        ("- + * : ^ ~ \" ' ( ) [ ] / \\ | . , ?", ""),
        ("", ""),
    ],
)
def test_what_is_typed_is_words(small, query, words):
    assert small.words(query) == words


@pytest.mark.parametrize("sign", list("-+~^:*|\"'()[]{}<>/\\.,;!?=&%$#@√－＋：（）“”、。？"))
def test_no_sign_changes_what_is_found(small, sign):
    for query in ("1e9", "norms", "层归一化", "cached keys"):
        expected = small(query)
        assert expected
        for typed in (sign + query, query + sign, f"{sign}{query}{sign}", f"{sign} {query}"):
            assert small(typed) == expected


@given(
    st.text(
        st.sampled_from("-+~^:*|\"'() ._0159aqnorm缓存层归一化力⁹ₖ−＊ａ\u200b\ud83d"), max_size=12
    )
)
def test_whatever_is_typed_can_be_read(small, query):
    found = small(query)  # which sees that Material did not complain
    assert found == [] or any(word.isalnum() for word in query)


def test_words_and_beginnings_are_found(small):
    assert small("NORM") == ["norms/", "cache/"]  # the word itself, in the keywords, first
    assert small("nor") == ["norms/", "cache/"]
    assert small("n") == []  # a letter is a word, and not a beginning
    assert small("q") == ["masks/"]
    assert small("层归一") == small("层归一化") == ["norms/"]
    assert small("注意") == ["cache/"]
    assert small("-") == small("") == small("梯度") == []


def test_a_word_itself_outweighs_what_begins_with_it():
    docs = [{"location": f"{w}/", "title": w, "text": ""} for w in ("norms", "norm", "normal")]
    for search in running(INDEX | {"docs": docs}):
        assert search("norm")[0] == "norm/"


# What is indexed.


@pytest.mark.parametrize(
    ("tex", "plain"),
    [
        (r"\frac{Q K^\top}{\sqrt{d_k}}", "Q K^T/√d_k"),
        (
            r"\operatorname{softmax}_{\text{key}}(S), \quad c = d_k^{-0.5}",
            "softmax_key(S), c = d_k^-0.5",
        ),
        (r"\tfrac14 \sqrt6 \left(\max x\right)^2 \le \infty", "1/4 √6 (max x)^2 ≤ ∞"),
        (r"\begin{gathered} a &= b,\\ \{c\} \end{gathered}", "a = b, {c}"),
        (
            r"\mathrm{gain} \frac{x_{\text{in}} - \mathrm{mu}}{\sqrt{\mathrm{sigma}^{2} + 1}}",
            "gain x_in - mu/√sigma^2 + 1",
        ),
        (r"\frac{a}{\frac{b}{c}} \mathbb{E}[x]\,y", "a/b/c E[x] y"),
    ],
)
def test_a_formula_is_written_as_one_types_it(tex, plain):
    assert plain_formula(tex) == plain
    assert searchable(f"<p>A {render(tex)} b</p>").replace("&lt;", "<") == f"<p>A {plain} b</p>"


def test_an_index_below_the_line_is_part_of_the_word():
    assert searchable("<h1>Why √d<sub>k</sub>?</h1> 10<sup>9</sup>") == (
        "<h1>Why √d_k?</h1> 10<sup>9</sup>"
    )


def test_what_is_left_out_is_what_material_leaves_out():
    html = (
        '<h1 id="a">A</h1><p>b <span data-search-exclude>c <span>d</span> e</span> f</p>'
        '<svg role="img" data-search-exclude aria-label="x"><text>g</text></svg>'
        '<details class="q" data-search-exclude><summary>h</summary><pre>i &lt;</pre></details>'
        '<h2 id="j">J</h2><p data-search-excluded="">k</p><li data-search-exclude>l</li>m'
    )
    assert _sections(searchable(html)) == _sections(html)
    assert "g" not in searchable(html) and "k" in searchable(html) and "m" in searchable(html)


def _sections(html: str) -> list[tuple[str, str]]:
    parser = Parser()
    parser.feed(html)
    return [("".join(s.title).strip(), "".join(s.text).strip()) for s in parser.data]


# Other words.


@pytest.fixture
def vocabulary(shelf, tmp_path):
    """Write a vocabulary, and read it: `vocabulary(synonyms, keywords)`."""

    def write(synonyms: list, keywords: dict, **more):
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump({"synonyms": synonyms, "keywords": keywords} | more))
        return load_vocabulary(path, Library(shelf).manifest)

    return write


def test_a_title_has_all_the_names_of_what_it_names(vocabulary):
    words = vocabulary(
        [["KV cache", "键值缓存"], ["beam search", "束搜索"], ["RoPE", "rotary"]], {}
    )
    assert (
        words.of_title("KVCache") == words.of_title("KV-cache, twice") == ["KV cache", "键值缓存"]
    )
    assert words.of_title("beam_search") == ["beam search", "束搜索"]
    assert words.of_title("键值\u200b缓存\u200b与 <code>rotary</code>") == [
        "KV cache",
        "键值缓存",
        "RoPE",
        "rotary",
    ]
    assert words.of_title("Europe, a cache, Rotarys kv") == ["RoPE", "rotary"]
    assert words.chinese == {"键值缓存", "束搜索"}


def test_sections_are_found_by_other_words(vocabulary, shelf):
    words = vocabulary([["ten", "10"], ["small", "little"]], {"ten": ["dozen?"]})
    entries = [
        {"location": "numbers/ten/", "title": "Why ten?"},
        {"location": "numbers/ten/#more", "title": "More"},
        {"location": "reference/transformer/small/tens/", "title": "tens"},
        {"location": "reference/transformer/small/tens/#x", "title": "Ten"},
    ]
    library = Library(shelf)
    add_keywords(entries, words, library.manifest, library.lab)
    assert [entry.get("keywords", "").split("\u200b") for entry in entries] == [
        ["ten", "10", "为何", "dozen?"],
        [""],
        ["ten", "10", "small", "little", "Small", "小"],
        ["ten", "10"],
    ]


@pytest.mark.parametrize(
    ("synonyms", "keywords", "more", "reason"),
    [
        ([["RoPE"]], {}, {}, "one name only"),
        ([["beam search", "beam_search"]], {}, {}, "stands twice"),
        ([["a b", "c"], ["A-B", "d"]], {}, {}, "stands twice"),
        ([], {"twelve": ["dozen"]}, {}, "No question is called “twelve”"),
        ([], {}, {"stop": []}, "synonyms and keywords, and not .*stop"),
    ],
)
def test_a_vocabulary_that_is_not_well_formed_is_refused(
    vocabulary, synonyms, keywords, more, reason
):
    with pytest.raises(BadEntry, match=reason):
        vocabulary(synonyms, keywords, **more)


# The site, searched.


@pytest.fixture(scope="module")
def english(site):
    """The English guide's search."""
    yield from running(_index(site))


@pytest.fixture(scope="module")
def chinese(site):
    """The Chinese guide's."""
    yield from running(_index(site / "zh"))


def _index(site: Path) -> dict:
    return json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))


LAYERNORM = "stability/layernorm-not-batchnorm/"
IN_BOTH = [
    ("-1e9", "masks/padding-mask/"),
    ("-inf", "masks/padding-mask/"),
    ("-1000", "masks/padding-mask/"),
    ("−10⁹", "masks/padding-mask/"),
    ("RoPE", "reference/transformer/positions/rotary/"),
    ("MHA", "attention/why-multi-head/"),
    ("QKV", "attention/separate-query-key/"),
    ("sqrt(d_k)", "attention/why-scale/"),
    ("1/√d_k", "attention/why-scale/"),
    ("d_k^-0.5", "attention/why-scale/"),
    ("W^Q", "attention/separate-query-key/"),
    ("q:k", "attention/separate-query-key/"),
    ("softmax(QK^T)", "attention/scaled-dot-product/"),
    ("KV cache", "reference/transformer/attention/cache/"),
    ("beam search", "reference/transformer/decoding/beam/"),
    ("层归一化", LAYERNORM),
    ("层规范化", LAYERNORM),
    ("批归一化", LAYERNORM),
    ("批规范化", LAYERNORM),
    ("批量归一化", LAYERNORM),
    ("layer normalization", LAYERNORM),
    ("束搜索", "reference/transformer/decoding/beam/"),
    ("标签平滑", "reference/transformer/training/losses/"),
    ("分词", "reference/transformer/text/subwords/"),
]
IN_ENGLISH = [
    ("scaling factor in attention", "attention/why-scale/"),
    ("encoder decoder attention", "attention/three-uses/"),
    ("why divide by sqrt d_k", "attention/why-scale/"),
    ("sinusoidal encoding", "reference/transformer/positions/absolute/"),
    ("post-norm or pre-norm?", LAYERNORM),
    ("variance of q·k", "attention/why-scale/"),
]
IN_CHINESE = [
    ("根号d", "attention/why-scale/"),
    ("BERT为什么用mask", "masks/bert-mask-token/"),
    ("KV缓存", "reference/transformer/attention/cache/"),
    ("RoPE 旋转位置编码", "reference/transformer/positions/rotary/"),
    ("padding mask 怎么加", "masks/padding-mask/"),
    ("为什么除以根号dk", "attention/why-scale/"),
    ("QKV 的含义", "attention/separate-query-key/"),
    ("Q和K为什么用不同的矩阵", "attention/separate-query-key/"),
    ("ＱＫＶ", "attention/separate-query-key/"),
    ("－1e9", "masks/padding-mask/"),
    ("为什么用多头注意力", "attention/why-multi-head/"),
    ("点积和加性", "attention/dot-or-additive/"),
    ("因果掩码", "masks/causal-mask/"),
]


@pytest.mark.parametrize(("query", "page"), IN_BOTH + IN_ENGLISH)
def test_what_is_meant_is_among_the_first_three(english, query, page):
    assert page in english(query)[:3]


@pytest.mark.parametrize(("query", "page"), IN_BOTH + IN_CHINESE)
def test_so_it_is_in_chinese(chinese, query, page):
    assert page in chinese(query)[:3]


def test_every_synonym_leads_somewhere(site, english, chinese):
    words = Library(ROOT).vocabulary
    titles = [entry["title"] for entry in _index(site)["docs"]]
    named = {word for title in titles for word in words.of_title(title)}
    for names in words.synonyms:
        assert set(names) <= named, names
        assert [name for name in names if not english(name) or not chinese(name)] == []


def test_formulas_and_prose_are_in_the_index_and_code_is_not(site):
    [answer] = [
        entry["text"]
        for entry in _index(site)["docs"]
        if entry["location"] == "attention/why-scale/#in-one-breath"
    ]
    assert "sum of d_k products" in answer and "√d_k" in answer
    assert "annotation" not in answer and "katex" not in answer
    assert not [e for e in _index(site)["docs"] if e["location"].startswith("notebooks/")]
