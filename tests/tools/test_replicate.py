"""The pilot counts what misses, claim and control apart, and leaves nothing out in silence."""

import json
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from tests.tools import replicate
from tests.tools.replicate import Run, in_spreads, misses_too_often, pilot, runs_of, summary

SEEDS = range(1000, 1010)

HEAD = """
    # %%
    from qa_lab.claims import at_least, broken, prove, within
    from qa_lab.claims.figures import figure
    """
CLAIM = """
    # %%
    prove(
        "{id}",
        en="A sentence.",
        zh="一句话。",
        of=("a number", "一个数"),
        measure=lambda {arguments}: {value},
        bound={bound},
        control=broken("size 0", "大小为零", size=0.0),
    )
    """
FIGURE = """
    # %%
    figure("never-drawn", lambda ax: 1 / 0)
    """


def claim(id, value, *, arguments="seed, size=1.0", bound="at_least(0.5)"):
    """A cell that proves `value` to meet the bound."""
    return CLAIM.format(id=id, value=value, arguments=arguments, bound=bound)


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook of these cells."""

    def write(*cells, name="planted"):
        path = tmp_path / f"{name}.py"
        path.write_text("\n".join(map(dedent, (HEAD, *cells))), encoding="utf-8")
        return path

    return write


def piloted(notebook):
    """The entries and the claims that draw nothing, without processes of their own."""
    with ThreadPoolExecutor(1) as pool:
        return pilot(notebook, SEEDS, pool)


def test_every_claim_is_tried_or_counted_and_no_figure_is_drawn(notebook):
    entries, still = piloted(
        notebook(
            claim("tried", "size"),
            FIGURE,
            claim("counted", "size", arguments="size=1.0"),
        )
    )
    assert list(entries) == ["tried"]
    assert still == ["counted"]
    assert entries["tried"] == {
        "notebook": "planted",
        "first": 1000,
        "runs": 10,
        "misses": 0,
        "margin": None,
        "control": {"misses": 0, "margin": None},
    }


def test_misses_of_the_claim_and_of_its_control_are_counted_apart(notebook):
    entries, _ = piloted(
        notebook(
            claim("falls-short", "size * (seed not in (1003, 1007, 1009))"),
            claim("control-meets", "1.0 if seed in (1004, 1005) else size"),
            claim("breaks-down", "size / (seed - 1006)", bound="within(-9, 9)"),
        )
    )
    misses = {id: (entry["misses"], entry["control"]["misses"]) for id, entry in entries.items()}
    # 0 / (seed - 1006) lies within the bound always, but at 1006, where there is no number at all.
    assert misses == {"falls-short": (3, 0), "control-meets": (0, 2), "breaks-down": (1, 10)}


def test_a_run_is_judged_by_its_worst_value_as_prove_would_judge_it(notebook):
    source = notebook(
        claim("worst", "[0.75 * size, [0.875, 2 * size]]"),
        claim("both-ends", "[1.0 - size, 3.25 - 2 * size]", bound="within(0, 2)"),
        claim("on-the-end", "[0.5, size]"),
    )
    assert runs_of(source, 7) == {
        "worst": Run(measured=0.25, control=-0.375),
        "both-ends": Run(measured=0.0, control=-1.0),
        "on-the-end": Run(measured=0.0, control=0.0),
    }
    assert not Run(0.0, 1.0).claim_misses  # the ends belong to the bound:
    assert Run(1.0, 0.0).control_misses  # to lie on one is to meet it


def test_a_run_has_the_seed_and_torchs_own_generator_set_as_prove_does(notebook):
    source = notebook(
        claim("drawn", "torch.rand(()) * 0 + seed * size", bound="at_least(0)"),
        claim("from-the-global-one", "torch.rand(()).item()", bound="at_least(0)"),
    )
    source.write_text("# %%\nimport torch\n" + source.read_text(encoding="utf-8"))
    first, again, other = (runs_of(source, seed) for seed in (3, 3, 4))
    assert (first["drawn"].measured, other["drawn"].measured) == (3.0, 4.0)
    name = "from-the-global-one"
    assert first[name] == again[name] != other[name]


def test_a_claim_that_cannot_be_tried_is_an_error(notebook):
    together = claim("hidden", "size").replace("# %%", "# %%\n    from qa_lab.claims import prove")
    with pytest.raises(ValueError, match="in English and in Chinese"):
        runs_of(notebook(together.replace("一句话。", "")), 0)  # the real `prove` looked at it
    with pytest.raises(RuntimeError, match="has 1 claims, and 0 could be tried"):
        runs_of(notebook(together), 0)


def test_margins_are_in_standard_deviations_over_the_runs():
    assert in_spreads([3.0, 1.0, None, 2.0]) == 1.0  # the spread of 1, 2 and 3 is 1
    assert in_spreads([3.0, -2.0, 2.0]) == pytest.approx(-2 / 7**0.5, abs=0.005)
    assert in_spreads([2.0, 2.0]) is None
    assert in_spreads([2.0]) is None
    runs = [Run(1.0, 8.0), Run(2.0, -4.0), Run(3.0, 2.0), Run(None, None)]
    assert summary(runs) == {
        "runs": 4,
        "misses": 1,
        "margin": 1.0,
        "control": {"misses": 2, "margin": pytest.approx(-4 / 6, abs=0.005)},
    }


@pytest.mark.parametrize(
    ("runs", "misses", "too_often"),
    [
        (100, 0, False),
        (100, 1, False),
        (100, 2, True),
        (250, 2, False),
        (250, 3, True),
        (99, 1, True),
    ],
)
def test_one_run_in_a_hundred_may_miss(runs, misses, too_often):
    def entry(claim, control):
        return {"runs": runs, "misses": claim, "control": {"misses": control}}

    assert misses_too_often(entry(misses, 0)) == too_often
    assert misses_too_often(entry(0, misses)) == too_often


@pytest.fixture
def command(notebook, tmp_path, monkeypatch):
    """Run the program over two notebooks; a claim of the second is `doubtful` for seed 1001."""

    def run(*arguments, doubtful="size"):
        files = [
            notebook(claim("firm", "size"), name="first"),
            notebook(claim("wavers", f"{doubtful} if seed == 1001 else size"), name="second"),
        ]
        monkeypatch.setattr(replicate, "sources", lambda: files)
        monkeypatch.setattr(replicate, "REPORT", tmp_path / "build" / "replicate.json")
        monkeypatch.setattr(
            replicate, "ProcessPoolExecutor", lambda jobs, context: ThreadPoolExecutor(jobs)
        )
        monkeypatch.setattr("sys.argv", ["replicate", *arguments])
        code = replicate.main()
        return code, json.loads(replicate.REPORT.read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize(
    ("doubtful", "code", "misses"),
    [("size", 0, (0, 0)), ("0", 1, (1, 0)), ("1", 1, (0, 1))],
    ids=["neither misses", "the claim misses", "the control meets"],
)
def test_the_exit_code_and_the_table_say_what_misses(command, capsys, doubtful, code, misses):
    done, report = command("--runs", "3", doubtful=doubtful)
    assert done == code
    entry = report["claims"]["wavers"]
    assert (entry["runs"], entry["misses"], entry["control"]["misses"]) == (3, *misses)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line[0] == "!"] == ["wavers"] * code
    assert f"second: 1 claims tried, {code} miss too often; 0 draw nothing" in lines


def test_one_notebook_can_be_asked_for_and_the_report_keeps_the_others(command, capsys):
    command("--runs", "3")
    code, report = command("second", "--first", "1001", "--runs", "2")
    assert code == 0
    seeds = {id: (entry["first"], entry["runs"]) for id, entry in report["claims"].items()}
    assert seeds == {"firm": (1000, 3), "wavers": (1001, 2)}
    assert report["draw_nothing"] == {"first": [], "second": []}
    assert command("nothing-such")[0] == 1
    assert "No notebook is called “nothing-such”." in capsys.readouterr().err
