"""The mutation tool kills what a good test kills and nothing else, and leaves prose alone."""

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest
import yaml

from qa_lab.claims.notebooks import ROOT
from tests.tools.mutation.covering import Covering, regions_of
from tests.tools.mutation.operators import mutants_of
from tests.tools.mutation.trial import NOT_COLLECTED, Outcome, Trials, Verdict

PROJECT = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        pythonpath = ["."]
        addopts = "--import-mode=importlib"
        """,
    "planted/good.py": '''
        """Not a mutant: 1 + 1."""

        STEP = 3


        def clip(value: float, low: float = 0.0) -> float:
            """Not a mutant either: 1 < 2."""
            if value < low - STEP:
                raise ValueError(f"{value} is below {low - STEP}")
            return max(value, low)
        ''',
    "planted/idle.py": """
        def double(x):
            return x * 2


        def nobody_asks(x):
            return x
        """,
    "planted/endless.py": """
        def drain(items):
            while items:
                items.pop()
        """,
    "tests/test_good.py": """
        import pytest
        from planted.good import clip

        def test_clip():
            assert [clip(x) for x in (-3.0, -1.0, 0.5)] == [0.0, 0.0, 0.5]
            assert clip(-2.5, -2) == -2
            with pytest.raises(ValueError):
                clip(-3.5)
        """,
    "tests/test_idle.py": """
        from planted.idle import double

        def test_without_an_assertion():
            double(2)
        """,
    "tests/test_endless.py": """
        from planted.endless import drain

        def test_drain():
            assert not drain([1])
            items = [1, 2]
            drain(items)
            assert items == []
        """,
    "tests/test_broken.py": """
        from planted.idle import double

        def test_that_fails_with_nothing_broken():
            assert double(1) == 1
        """,
}


def mutate(root, *options):
    """Run the tool as `make mutate` does, on another project."""
    command = ["-m", "tests.tools.mutation", "--root", str(root), "--packages", "planted", *options]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a good test, an idle one and an endless loop, and the first report on it."""
    root = tmp_path_factory.mktemp("project")
    for name, text in PROJECT.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(dedent(text))
    code, said = mutate(root, "--patience", "1")
    assert code == 1, said  # the idle test lets too many live
    return root, json.loads((root / "build" / "mutation.json").read_text()), said


def test_a_good_test_kills_all_and_an_idle_one_none(project):
    _, report, said = project
    good, idle = (report["by_file"][f"planted/{name}.py"] for name in ("good", "idle"))
    assert (good["survived"], good["score"]) == (0, 1.0)
    assert good["killed"] > 10
    assert (idle["killed"], idle["score"]) == (0, 0.0)
    dead, alive = report["killed"], report["survived"]
    assert report["score"] == round(dead / (dead + alive), 4)
    assert "test_that_fails_with_nothing_broken" in said.split("do not judge")[1]


def test_an_endless_loop_is_killed(project):
    _, report, _ = project
    assert report["by_file"]["planted/endless.py"] == {
        "killed": 3,
        "survived": 0,
        "timeout": 2,
        "score": 1.0,
    }


def test_a_survivor_is_shown_and_said_to_have_a_test_or_none(project):
    _, report, said = project
    shown = [(s["line"], s["before"], s["after"], s["tests"]) for s in report["survivors"]]
    assert shown == sorted(shown, key=lambda s: s[0])
    assert (3, "return x * 2", "return x / 2", 1) in shown
    assert (7, "return x", "return None", 0) in shown
    assert "NO TEST  planted/idle.py:7  return x  →  return None" in said


def test_a_second_run_remembers_and_needs_a_reason_that_still_fits(project):
    root, report, _ = project
    idle = report["survivors"][0]
    entry = {"file": idle["file"], "line": idle["before"], "mutants": [idle["after"]]}
    entry["because"] = "?"
    listed = root / "tests" / "mutation_survivors.yaml"
    listed.write_text(yaml.safe_dump([entry]))
    _, said = mutate(root)
    assert f"{report['killed'] + report['survived']} are known from an earlier run" in said
    again = json.loads((root / "build" / "mutation.json").read_text())
    assert [s["justified"] for s in again["survivors"]][:2] == ["?", None]
    assert again["by_file"] == report["by_file"]
    listed.write_text(yaml.safe_dump([entry | {"line": "return x * 7"}]))
    code, said = mutate(root)
    assert code == 1
    assert "out of date: planted/idle.py has no mutant “return x * 7”" in said


@pytest.mark.parametrize(
    "text",
    [
        '"""A docstring: 1 + 1."""',
        'def f(x: "1 + 1", y: Float[Tensor, " 3"]) -> Float[Tensor, " 4"]: ...',
        "class A:\n    x: int",
        'Scores = Float[Tensor, " key"]',
        '__all__ = ["a"]',
        'if __name__ == "__main__":\n    main(1)',
        "import a.b as c",
    ],
)
def test_prose_and_types_have_no_mutants(text):
    assert mutants_of("file.py", text.encode()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a is not b", ["a is b"]),
        ("(a + b) * c", ["(a - b) * c", "(a + b) / c"]),
        ("x.sum(-1)", ["x.sum(1)", "x.sum(-0)", "x.sum(-2)", "x.mean(-1)"]),
        ("f(a, b)", ["f(b, a)", "f(a)"]),
        ("f(a, bias=True)", ["f(a)", "f(a, bias=False)"]),
        ("zip(a, strict=True)", []),
        ("max(a, b)", ["min(a, b)", "max(a)"]),
        ("a or b", ["((a) and (b))", "((b))", "((a))"]),
        ("x[1:]", ["x[:]", "x[2:]", "x[0:]"]),
        ("not x", ["x"]),
        ("a if b else c", ["a if not (b) else c"]),
        ("y.strip()", ["y"]),
        ("'é', 'a sentence.'", ["'éXX', 'a sentence.'"]),
        ("f'{x + 1}'", []),
        ("1e-5", ["1.00001", "2e-05"]),
    ],
)
def test_an_expression_is_broken_one_edit_at_a_time(text, expected):
    mutants = [m.after for m in mutants_of("file.py", f"assert ({text})".encode())]
    assert sorted(mutants) == sorted(f"assert ({new})" for new in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if a:\n    raise E('no ' + str(1 + 1))", ["if not (a):", "pass"]),
        ("x = a", ["x = None"]),
        ("x = g(x)", ["pass"]),
        ("x += a", ["pass", "x -= a"]),
        ("@cache\ndef f(): ...", ["(removed)"]),
        ("def f(a=1, *, b=g): return a", ["2", "0", "b=None", "return None"]),
        ("for x in y:\n    continue", ["break"]),
    ],
)
def test_a_statement_is_broken_one_edit_at_a_time(text, expected):
    mutants = [m.after for m in mutants_of("file.py", text.encode())]
    assert len(mutants) == len(expected)
    for new in expected:
        assert any(new in mutant for mutant in mutants)


def test_a_default_or_a_constant_is_judged_by_whoever_runs_what_it_belongs_to():
    text = b"A = 1\nclass B:\n    c = 2\n    def d(self, e=3):\n        return (\n            e)\n"
    assert regions_of(text, 1) == (range(0), [range(1, 8)])
    assert regions_of(text, 3) == (range(0), [range(3, 7), range(1, 8)])
    assert regions_of(text, 4) == (range(0), [range(5, 7), range(3, 7), range(1, 8)])
    assert regions_of(text, 6) == (range(5, 7), [])


TEXT = b"def f(x):\n    return x\n"
A, B = "tests/test_a.py::test_a", "tests/test_b.py::test_b"


@pytest.fixture
def trials():
    """The one mutant of TEXT, and two tests in two files that run its line."""
    covering = Covering(
        seconds={A: 0.1, B: 0.2},
        needs={A: [], B: []},
        lines={"f.py": {2: [A, B]}},
        imports={"tests/test_a.py": [], "tests/test_b.py": []},
    )
    return Trials([], covering, {"f.py": TEXT}, patience=1), mutants_of("f.py", TEXT)[0]


def play(trials, *outcomes):
    """Let runs end so; say what was run (whether broken, which tests), and the verdict."""
    judging, mutant = trials
    steps, runs = judging.judge(mutant), []
    try:
        request = next(steps)
        for outcome in outcomes:
            runs.append((request[0] != TEXT, request[1]))
            request = steps.send(outcome)
    except StopIteration as end:
        return runs, end.value
    raise AssertionError(f"one more run was asked for: {request}")


def test_who_survives_one_file_of_tests_meets_the_next(trials):
    runs, verdict = play(trials, Outcome(), Outcome())
    assert runs == [(True, [A]), (True, [B])]
    assert verdict == Verdict("survived", asked=2)
    assert play(trials, Outcome(timeout=True))[1] == Verdict("timeout", asked=2)


def test_a_test_is_believed_once_it_has_passed_with_nothing_broken(trials):
    killed = Verdict("killed", A, 2)
    assert play(trials, Outcome(A), Outcome()) == ([(True, [A]), (False, [A])], killed)
    assert play(trials, Outcome(A)) == ([(True, [A])], killed)


def test_a_test_that_fails_by_itself_is_not_believed(trials):
    runs, verdict = play(trials, Outcome(A), Outcome(A), Outcome())
    assert runs == [(True, [A]), (False, [A]), (True, [B])]
    assert verdict.outcome == "survived" and trials[0].distrusted == {A}


def test_a_file_that_cannot_be_collected_has_noticed_only_if_it_could_be_before(trials):
    runs, verdict = play(trials, Outcome(NOT_COLLECTED), Outcome())
    assert (runs[1], verdict.outcome) == ((False, [A]), "killed")
    with pytest.raises(RuntimeError, match="can no longer be run"):
        play(trials, Outcome(NOT_COLLECTED), Outcome(NOT_COLLECTED))
