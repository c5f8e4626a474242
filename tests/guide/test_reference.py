"""The reference: every module has a page, every mechanism a question, every formula is set."""

import ast
import importlib
import json
import re

import griffe
import pytest

from qa_lab.claims import at_least, at_most
from qa_lab.claims.manifest import LANGUAGES, BadEntry, load_manifest
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.bench import load_bench
from qa_lab.guide.docstrings import LabDocstrings, without_docstrings
from qa_lab.guide.errors import PageError
from qa_lab.guide.lab import (
    MECHANISMS,
    Lab,
    UnknownMechanism,
    building_order,
    first_sentence,
    questions_about,
)
from qa_lab.guide.library import library
from qa_lab.guide.reference import pages

REAL = Lab.below(ROOT)
MANIFEST = load_manifest()


# The double entry: what questions say they use, and what there is.


def test_every_question_names_mechanisms_and_every_name_exists():
    for question in MANIFEST.questions:
        assert question.mechanisms, question.slug
        assert len(set(question.mechanisms)) == len(question.mechanisms), question.slug
        for name in question.mechanisms:
            REAL.mechanism(name)


def test_no_question_names_both_a_module_and_a_part_of_it():
    for question in MANIFEST.questions:
        named = [REAL.mechanism(name) for name in question.mechanisms]
        whole = {module for module, part in named if part is None}
        assert not [part for module, part in named if part and module in whole], question.slug


def test_every_mechanism_that_a_room_shows_belongs_to_a_question():
    orphans = [
        f"{room.name}.{name}"
        for room in REAL.rooms
        for name, module in room.face.items()
        if REAL.modules[module].is_mechanism
        and not questions_about(MANIFEST, REAL.modules[module], name)
    ]
    assert orphans == [], "list them, or their file, in docs/questions.yaml"


def test_every_file_of_mechanisms_belongs_to_a_question():
    mechanisms = [module for module in REAL.modules.values() if module.is_mechanism]
    assert [m.dotted for m in mechanisms if not questions_about(MANIFEST, m)] == []


@pytest.mark.parametrize("question", MANIFEST.published, ids=lambda question: question.slug)
def test_a_published_question_names_what_its_notebook_imports(question):
    tree = ast.parse((ROOT / "notebooks" / f"{question.path}.py").read_text(encoding="utf-8"))
    imported = {
        f"{node.module.split('.')[2]}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith(f"qa_lab.{MECHANISMS}.")
        for alias in node.names
    }
    assert imported
    listed = {REAL.mechanism(name) for name in question.mechanisms}
    left_out = [
        name
        for name in imported
        if (found := try_mechanism(name)) and found not in listed and (found[0], None) not in listed
    ]
    assert left_out == []


def try_mechanism(name):
    """The mechanism of this name; None for what is no function and no class (a type, a size)."""
    try:
        return REAL.mechanism(name)
    except UnknownMechanism:
        return None


def test_a_face_is_what_one_imports(lab):
    for room in REAL.rooms:
        face = importlib.import_module(room.dotted)
        for name, module in room.face.items():
            assert getattr(face, name) is getattr(importlib.import_module(module), name)
        # A name means a function or class, or else a whole file.
        assert not room.face.keys() & {module.name for module in room.modules}, room.dotted
    [_, small, _] = lab.rooms
    assert small.face == dict.fromkeys(("Tens", "ten"), "qa_lab.transformer.small.tens")
    assert small.about == "Numbers that `tens` knows, all of them."


def test_the_tallest_tower_is_built_first_and_from_below():
    needs = {"roof": ["wall"], "wall": ["floor", "door"], "door": ["floor"], "floor": [], "den": []}
    assert building_order(needs) == ["floor", "door", "wall", "roof", "den"]


def test_many_ways_down_are_gone_once():
    needs = {f"{n:02}": [f"{m:02}" for m in range(n)] for n in range(40)}  # 2^39 ways from the top
    assert building_order(needs) == sorted(needs)


# The lab, read.


@pytest.fixture
def lab(shelf):
    """Three modules: small/tens, large/other_tens and experiments/count."""
    return Lab.below(shelf)


def test_modules_are_found_with_their_names(lab):
    assert list(lab.modules) == [
        "qa_lab.transformer.large.other_tens",
        "qa_lab.transformer.small.tens",
        "qa_lab.experiments.count",
    ]
    assert [room.title.zh for room in lab.rooms] == ["大", "小", "实验"]
    tens = lab.modules["qa_lab.transformer.small.tens"]
    assert tens.public == ("ten", "Tens")
    assert tens.summary == "Tens: `ten`, and what helps it."
    assert list(pages(lab)) == [f"{module.path}.md" for module in lab.modules.values()]
    assert (
        "::: qa_lab.transformer.small.tens\n" in pages(lab)["reference/transformer/small/tens.md"]
    )


def test_links_to_mechanisms(lab):
    anchor = "reference/transformer/small/tens/#qa_lab.transformer.small.tens.ten"
    assert lab.link("small.ten") == anchor
    assert lab.link("small.tens") == "reference/transformer/small/tens/"
    assert lab.file("small/tens.py") is lab.modules["qa_lab.transformer.small.tens"]
    assert lab.file("small/fives.py") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fives", "no room qa_lab.transformer.fives"),
        ("small.five", "has no “five”. There are: tens, Tens, ten"),
        ("count", "no room"),
    ],
)
def test_a_mechanism_that_is_not_there_is_named(lab, name, reason):
    with pytest.raises(UnknownMechanism, match=reason):
        lab.mechanism(name)


def test_every_room_has_its_title_in_both_languages():
    for room in REAL.rooms:
        assert room.title.en and re.search("[\u4e00-\u9fff]", room.title.zh), room.dotted


def test_who_uses_a_mechanism(shelf, lab):
    manifest = load_manifest(shelf / "docs" / "questions.yaml")
    tens, others = lab.file("small/tens.py"), lab.file("large/other_tens.py")
    slugs = lambda *name: [q.slug for q in questions_about(manifest, *name)]  # noqa: E731
    assert slugs(tens, "ten") == ["ten", "eleven"]
    assert slugs(tens, "Tens") == ["eleven"]
    assert slugs(tens) == ["ten", "eleven"]
    assert slugs(others) == slugs(others, "ten") == []


def test_the_first_sentence():
    assert first_sentence("One thing\nand e.g. more. Two.\n\nThree.") == "One thing and e.g. more."
    assert first_sentence("No stop\n\nMore.") == "No stop"


# Docstrings, turned into Markdown.


@pytest.fixture
def tens(shelf):
    """The module `tens`, as mkdocstrings gets it."""
    return load(shelf)["transformer.small.tens"]


def load(shelf):
    """The shelf's lab, read by Griffe with our extension."""
    return griffe.load(
        "qa_lab",
        search_paths=[shelf],
        try_relative_path=False,
        docstring_parser="google",
        docstring_options={"returns_multiple_items": False, "warn_missing_types": False},
        allow_inspection=False,
        extensions=griffe.load_extensions(LabDocstrings),
    )


def test_formula_paper_and_departs_become_markdown(tens):
    text, *_ = tens["ten"].docstring.parsed
    assert "\n\n$$\n" in text.value and r"\mathrm{softmax}_{\mathrm{key}}" in text.value
    arxiv = "[arXiv:1706.03762](https://arxiv.org/abs/1706.03762)"
    assert f"\nPaper\n:   Ten 1710, {arxiv}, section 1; and more of it, section 2.\n" in text.value
    assert "\nDeparts\n:   not `keep`" in text.value


def test_names_of_the_lab_become_links(tens):
    text, *_ = tens["ten"].docstring.parsed
    path = "qa_lab.transformer.small.tens"
    assert f"[`Number`][{path}.Number], [`Tens.total`][{path}.Tens.total]" in text.value
    # A field, a private name, and brackets that are no link stay as they are.
    assert text.value.endswith(" and `Tens.size`.")
    assert r"not `keep`, nor `_helper`, but [a]\[\*b]" in text.value
    assert f"[`ten`][{path}.ten]" in tens.docstring.value
    see = tens["Tens"].docstring.value
    assert "see [`other_tens`](../large/other_tens.md) and " in see
    assert "[`twenty()`][qa_lab.transformer.large.other_tens.twenty], not `tens`." in see


def test_shapes_keep_their_quotes(tens):
    returned = "tuple[Float[Tensor, '*batch {factor}+1'], Int[Tensor, \"{factor} + 1\"]] | None"
    assert str(tens["ten"].returns) == returned
    assert str(tens["ten"].parameters["keep"].annotation) == "Float[Tensor, ' batch']"


def test_sections_are_googles(tens):
    _, parameters, returns = tens["ten"].docstring.parsed
    assert [entry.name for entry in parameters.value] == ["keep", "factor", "**rest"]
    assert parameters.value[0].description == "What `ten` keeps."
    assert returns.value[0].description == "Ten, and nothing: else."


def test_a_record_lists_its_fields_once(tens):
    _, fields = tens["Tens"].docstring.parsed
    described = {field.name: field.description for field in fields.value}
    assert described == {"count": "how many", "size": "How large."}
    assert not tens["Tens.count"].is_public


def test_source_is_shown_without_its_docstrings(tens):
    source = tens["ten"].extra["qa"]["source"].striptags()
    assert source.startswith("def ten(") and source.endswith("return 10 * factor")
    assert "Return ten" not in source
    assert "source" not in tens["Tens.total"].extra["qa"]  # it stands in that of its class
    source = '    class A:\n        """A."""\n\n        def f(self):\n            """F."""\n'
    assert without_docstrings(source) == 'class A:\n    def f(self):\n        """F."""'


def test_a_formula_that_cannot_be_set_stops_the_build_and_says_where(shelf, tmp_path):
    module = tmp_path / "qa_lab" / "transformer" / "wrong.py"
    module.parent.mkdir(parents=True)
    for folder in module.parents[:2]:
        (folder / "__init__.py").touch()
    module.write_text('def f():\n    r"""F.\n\n    $$ \\frac{1 $$\n    """\n', encoding="utf-8")
    with pytest.raises(PageError, match=r"qa_lab\.transformer\.wrong\.f: "):
        load(tmp_path)


# Fences.


def test_a_question_links_what_it_uses(page):
    html = page("```question\nten\n```")
    assert (
        'href="../../reference/transformer/small/tens/#qa_lab.transformer.small.tens.ten"' in html
    )
    assert "用到的代码" in page("```question\nten\n```", "zh")


def test_the_list_of_modules(page):
    html = page("```mechanisms\n```")
    assert '<a href="../reference/transformer/small/tens/"><code>tens</code></a>' in html
    assert "Tens: <code>ten</code>, and what helps it.</dd>" in html
    assert "实验" in page("```mechanisms\n```", "zh")


RESULT = {
    "what": {"en": "A layer", "zh": "一层"},
    "note": {"en": "fused", "zh": "融合"},
    "ours": 4.2,
    "theirs": 5.0,
    "ratio": 0.84,
    "goal": at_most(1.05).data(),
    "unit": "ms",
}


@pytest.fixture
def bench(shelf):
    """Write a benchmark, with one result changed as given; it is gone after the test."""
    path = shelf / "docs" / "bench.json"

    def write(**changed):
        results = {"layer": {**RESULT, **changed}, "slow": {**RESULT, "ratio": 1.2}}
        content = {"date": "2026-01-02", "machine": "two cores", "results": results}
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    yield write
    path.unlink(missing_ok=True)


def test_what_was_not_measured_is_said(page, shelf):
    assert not (shelf / "docs" / "bench.json").exists()
    assert "Not measured yet." in page("```bench\n```")


def test_a_goal_is_met_or_missed_by_the_numbers(bench):
    assert [result.met for result in load_bench(bench()).results] == [True, False]
    [result, _] = load_bench(bench(goal=at_least(2).data(), ratio=2.5, met=True)).results
    assert result.met
    [result, _] = load_bench(bench(goal=at_least(2).data(), ratio=1.5)).results
    assert not result.met


def test_speed_in_both_languages(bench, fresh_page):
    bench()
    html = fresh_page("```bench\n```")
    assert "Measured on 2026-01-02, on two cores." in html
    assert "A layer" in html and "4.2 ms" in html and "0.84" in html and "≤ 1.05" in html
    assert html.index("0.84") < html.index('holds">Met</span>') < html.index("1.2</strong>")
    assert html.index("1.2</strong>") < html.index('refuted">Missed</span>')
    html = fresh_page("```bench\n```", "zh")
    assert "一层" in html and "融合" in html and "未达到" in html


@pytest.fixture
def fresh_page(page):
    """`page`, with nothing remembered from a page before."""
    library.cache_clear()
    yield page
    library.cache_clear()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"goal": "≤ 1.05"}, "goal is a bound as `Bound.data` writes it, not '≤ 1.05'"),
        ({"goal": {"high": 1.05}}, "layer: goal is a bound"),
        ({"goal": {"low": None, "high": None}}, "layer: goal is a bound"),
        ({"goal": {"low": 2, "high": "3"}}, "layer: goal is a bound"),
        ({"more": 1}, "bench.json, layer needs"),
        ({"met": False}, "layer: met is False, but 0.84 is ≤ 1.05"),
        ({"note": "fused"}, "layer, note: expected text as"),
    ],
)
def test_a_benchmark_that_is_not_well_formed_is_refused(bench, changed, reason):
    with pytest.raises(BadEntry, match=reason):
        load_bench(bench(**changed))


def test_a_benchmark_without_a_date_is_refused(shelf, bench):
    path = bench()
    path.write_text(path.read_text(encoding="utf-8").replace('"date"', '"day"'), encoding="utf-8")
    with pytest.raises(BadEntry, match="needs date, machine and results; it has day"):
        load_bench(path)


# The pages, built.


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_module_has_a_page_with_all_its_names(site, language):
    for module in REAL.modules.values():
        folder = site if language == "en" else site / language
        html = (folder / module.path / "index.html").read_text(encoding="utf-8")
        article = html.split("<article", 1)[1].split("</article>")[0]
        anchors = set(re.findall(r'id="(qa_lab\.[\w.]+)"', article))
        assert {f"{module.dotted}.{name}" for name in module.public} <= anchors, module
        assert not [anchor for anchor in anchors if re.search(r"\._(?!_)", anchor)]
        assert "$$" not in article and "Paper:" not in article and "autoref " not in article
        if module.is_mechanism:
            shown = [
                name
                for room in REAL.rooms
                for name in room.face
                if room.face[name] == module.dotted
            ]
            assert article.count('class="qa-used"') > len(shown)  # each of them, and the file


def test_a_mechanism_is_shown_whole(site):
    page = site / "zh/reference/transformer/attention/dot_product/index.html"
    html = page.read_text(encoding="utf-8")
    shown = html.split(
        'id="qa_lab.transformer.attention.dot_product.scaled_dot_product_attention"'
    )[1]
    shown = shown.split("</details>")[0]
    assert "&quot;*batch query d_k&quot;" in shown or '"*batch query d_k"' in shown
    assert "<dt>论文</dt>" in shown and 'href="https://arxiv.org/abs/1706.03762"' in shown
    assert "qa-math" in shown and "参数：" in shown and "返回：" in shown and "引发：" in shown
    assert 'href="../../../../attention/why-scale/">为什么除以' in shown
    assert '<details class="qa-code qa-source" data-search-exclude>' in shown
    assert "以下文档字符串为英文原文。" in html


def test_search_has_the_mechanisms_and_not_their_code(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    path = "reference/transformer/attention/dot_product/#qa_lab.transformer.attention.dot_product"
    [entry] = [e for e in index["docs"] if e["location"] == f"{path}.attention_weights"]
    assert entry["boost"] < 1
    assert "Share each query's attention" in entry["text"]
    assert "dot_product_scores(" not in entry["text"] and "Float" not in entry["text"]
    assert "Dimensionless" not in entry["text"] and "Used by" not in entry["text"]
