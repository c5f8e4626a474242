"""Which tests run which line, and how long each takes: one run of the tests under coverage.

Only tests that run a mutant's line can notice it, so only they are asked, the cheapest first.
"""

import ast
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pytest

SLOW = 2.0  # seconds; a slower test is asked only where no other runs the line
BUDGET = 30.0  # seconds of tests for one mutant; who survives them is counted as a survivor


@dataclass
class Covering:
    """What one run of the tests showed. Times are in seconds of processor time."""

    seconds: dict[str, float] = field(default_factory=dict)  # test → its own time
    needs: dict[str, list[str]] = field(default_factory=dict)  # test → the shared fixtures it uses
    shared: dict[str, float] = field(default_factory=dict)  # shared fixture → its time
    failed: list[str] = field(default_factory=list)  # tests that fail though nothing is broken
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)  # file → line → contexts
    modules: list[str] = field(default_factory=list)  # libraries that the tests import
    imports: dict[str, list[str]] = field(default_factory=dict)  # test file → modules it names

    def save(self, path: Path) -> None:
        """Write as JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        path.write_text(json.dumps(fields), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Covering":
        """Read what `save` wrote."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        for file, lines in fields["lines"].items():
            fields["lines"][file] = {int(line): contexts for line, contexts in lines.items()}
        return cls(**fields)

    @cached_property
    def judges(self) -> set[str]:
        """The tests that may judge: those that pass when nothing is broken."""
        return self.seconds.keys() - set(self.failed)

    @cached_property
    def _users(self) -> dict[str, set[str]]:
        """Context → the judges that depend on what ran in it."""
        users = defaultdict(set)
        for test in self.judges:
            for context in (test, collecting(test), *self.needs[test]):
                users[context].add(test)
        return users

    def running(self, file: str, lines: Iterable[int], *, imports: bool = True) -> set[str]:
        """The judges that run any of these lines; without `imports`, not just by importing."""
        of_file = self.lines.get(file, {})
        contexts = {context for line in lines for context in of_file.get(line, ())}
        if not imports:
            contexts = {context for context in contexts if not context.startswith("collect ")}
        return set().union(*(self._users[context] for context in contexts))

    def tests_for(self, file: str, text: bytes, line: int) -> list[str]:
        """Who judges an edit of this line: cheapest first, within the budget."""
        inside, regions = regions_of(text, line)
        tests = self.running(file, inside) if inside else set()
        for region in regions:
            tests = tests or self.running(file, region, imports=False)
        if not inside:
            name = file.removesuffix(".py").replace("/", ".")
            tests = tests | {t for t in self.judges if name in self.imports[t.split("::")[0]]}
        ordered = sorted(tests, key=lambda test: (self.cost([test]), test))
        chosen = [test for test in ordered if self.cost([test]) <= SLOW] or ordered[:1]
        while self.cost(chosen) > BUDGET and len(chosen) > 1:
            chosen.pop()
        return chosen

    def cost(self, tests: list[str]) -> float:
        """Seconds that these tests take together; a fixture that they share is made once."""
        fixtures = {fixture for test in tests for fixture in self.needs[test]}
        own = sum(self.seconds[test] for test in tests)
        return own + sum(self.shared.get(fixture, 0.0) for fixture in fixtures)


def collecting(test: str) -> str:
    """The context of whatever runs while this test's file is collected."""
    return f"collect {test.split('::')[0]}"


@cache
def _parsed(text: bytes) -> ast.Module:
    return ast.parse(text)


def regions_of(text: bytes, line: int) -> tuple[range, list[range]]:
    """The lines that run with this one, and those to look at where that cannot be said.

    A statement in a function runs when its first line does. A signature, a class attribute or a
    constant runs at import, once: whoever runs the function, the class or the file depends on it,
    and so may a test that only imports the file.
    """
    owners: list[ast.AST] = [_parsed(text)]
    while True:
        inner = [n for n in ast.iter_child_nodes(owners[-1]) if line in _lines(n)]
        inner = [n for n in inner if isinstance(n, (ast.stmt, ast.excepthandler, ast.match_case))]
        if not inner:
            break
        owners.append(inner[0])
    functions = [n for n in owners if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if any(line >= function.body[0].lineno for function in functions):
        statement = owners[-1]
        body = getattr(statement, "body", None)
        end = body[0].lineno if isinstance(body, list) else statement.end_lineno + 1
        return range(_lines(statement).start, max(end, line + 1)), []
    around = [n for n in owners if isinstance(n, ast.ClassDef) or n in functions]
    regions = [range(n.body[0].lineno, n.end_lineno + 1) for n in reversed(around)]
    return range(0), [*regions, range(1, text.count(b"\n") + 2)]


def _lines(node: ast.AST) -> range:
    if not hasattr(node, "lineno"):
        return range(0)
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    return range(first, node.end_lineno + 1)


class Watcher:
    """The pytest plugin that notes what each test runs and how long it takes."""

    def __init__(self, root: Path, packages: Iterable[str]):
        import coverage  # only here: the runs of mutants do without

        self.root = root
        self.covering = Covering()
        self.context = ["import"]
        self.in_fixtures = 0.0
        self.coverage = coverage.Coverage(
            data_file=None,
            config_file=False,
            include=[f"{root / package}/*" for package in packages],
            messages=False,
        )

    def _enter(self, context: str) -> None:
        self.context.append(context)
        self.coverage.switch_context(context)

    def _leave(self) -> None:
        self.context.pop()
        self.coverage.switch_context(self.context[-1])

    def pytest_sessionstart(self):
        """Start before anything is collected."""
        self.coverage.start()
        self.coverage.switch_context("import")

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        """What a test file runs while it is imported, `parametrize` for instance, is its own."""
        self._enter(f"collect {collector.nodeid}")
        try:
            return (yield)
        finally:
            self._leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        """Time one test, the shared fixtures apart."""
        self._enter(item.nodeid)
        started, self.in_fixtures = _processor_time(), 0.0
        try:
            return (yield)
        finally:
            elapsed = _processor_time() - started - self.in_fixtures
            self.covering.seconds[item.nodeid] = round(elapsed, 4)
            self.covering.needs[item.nodeid] = sorted(
                _fixture(definition)
                for definitions in item._fixtureinfo.name2fixturedefs.values()
                for definition in definitions[-1:]
                if definition.scope != "function"
            )
            self._leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """A shared fixture is made for the first test that asks, and counts for all that use it."""
        if fixturedef.scope == "function":
            return (yield)
        self._enter(_fixture(fixturedef))
        started, before = _processor_time(), self.in_fixtures
        try:
            return (yield)
        finally:
            elapsed = _processor_time() - started
            self.covering.shared[_fixture(fixturedef)] = round(elapsed, 4)
            self.in_fixtures = before + elapsed
            self._leave()

    def pytest_runtest_logreport(self, report):
        """A test that fails or is skipped by itself judges nothing."""
        if not report.passed and report.nodeid not in self.covering.failed:
            self.covering.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        """A file that cannot be collected has no tests to judge with."""
        if report.failed:
            self.covering.failed.append(report.nodeid)

    def finish(self, path: Path) -> None:
        """Store what was seen."""
        self.coverage.stop()
        data = self.coverage.get_data()
        for file in sorted(data.measured_files()):
            by_line = data.contexts_by_lineno(file)
            self.covering.lines[str(Path(file).relative_to(self.root))] = dict(by_line)
        for file in {test.split("::")[0] for test in self.covering.seconds}:
            self.covering.imports[file] = sorted(_imports(self.root / file))
        self.covering.modules = [
            name
            for name, module in list(sys.modules.items())
            if (file := getattr(module, "__file__", None)) and self.root not in Path(file).parents
        ]
        self.covering.save(path)


def _imports(file: Path) -> set[str]:
    """The modules that a file imports by name."""
    names = set()
    for node in ast.walk(_parsed(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _processor_time() -> float:
    """Seconds of this process and of those it has waited for, however busy the machine is."""
    return sum(os.times()[:4])


def _fixture(definition) -> str:
    return f"fixture {definition.baseid}::{definition.argname}"
