"""Run tests against mutants, fast: import the libraries once, then fork for every run.

Each slot has a copy of the project of its own, so a mutant is simply written to the disk: import
hooks and processes that a test starts see it, and the project itself is never touched.
"""

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from tests.tools.mutation.covering import Covering
from tests.tools.mutation.source import Mutant

NOT_COPIED = (".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis")
MEMORY = 8 << 30  # bytes that a run may take beyond what the libraries do
NOT_COLLECTED, CRASH = "collection", "crash"  # what failed, where no test did


def copy_project(root: Path, to: Path, *, compiled: bool = False) -> Path:
    """A fresh copy of the project, without what is built; `compiled` takes the bytecode along."""
    shutil.rmtree(to, ignore_errors=True)
    left_out = [name for name in NOT_COPIED if not (compiled and name == "__pycache__")]
    return Path(shutil.copytree(root, to, ignore=shutil.ignore_patterns(*left_out)))


def warm_up(modules: Iterable[str] = ()) -> None:
    """Import pytest, its plugins and these libraries, which every fork then has for nothing."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        (test := Path(folder, "test_nothing.py")).write_text("def test_nothing(): pass\n")
        pytest.main(["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder, test])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Outcome:
    """How one run of pytest ended: which test failed first, if any, and whether it ended at all."""

    failed: str | None = None
    timeout: bool = False


class Run:
    """Pytest in a fork, in the project copied to `tree`."""

    def __init__(self, tree: Path, tests: list[str], plugin, seconds: float, *, record=None):
        # Processor time does not depend on who else is busy; the clock is for what sleeps.
        self.deadline = time.monotonic() + 10 * seconds
        self.pipe, writing = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self._limit(max(1, round(seconds)))
                result = self._pytest(tree, tests, plugin, writes_bytecode=record is not None)
                if record is not None:
                    plugin.finish(record)
                os.write(writing, json.dumps(result).encode())
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        os.close(writing)

    @staticmethod
    def _limit(seconds: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        with suppress(OSError):  # Linux only
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    @staticmethod
    def _pytest(tree: Path, tests: list[str], plugin, *, writes_bytecode: bool) -> dict:
        log = os.open(tree.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        root = Path.cwd()
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        # A mutant's bytecode must not be found by the next one, edited in the same second.
        sys.dont_write_bytecode = not writes_bytecode
        os.environ["PYTHONDONTWRITEBYTECODE"] = "" if writes_bytecode else "1"
        sys.path[:] = [str(tree), *(p for p in sys.path if Path(p or ".").resolve() != root)]
        for name in [n for n in sys.modules if n.split(".")[0] == "tests"]:
            del sys.modules[name]
        options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tree)]
        options += ["-c", str(tree / "pyproject.toml")]
        code = int(pytest.main([*options, *tests], plugins=[plugin]))
        return {"code": code, "failed": getattr(plugin, "failed", None)}

    def poll(self) -> Outcome | None:
        """How it ended, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() < self.deadline:
            return None
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it, or what it has left behind
        if pid == 0:
            os.waitpid(self.pid, 0)
        with os.fdopen(self.pipe, "rb") as pipe:
            said = pipe.read()
        self.pid = 0
        if said:
            result = json.loads(said)
            passed = result["code"] in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
            return Outcome() if passed else Outcome(result["failed"] or NOT_COLLECTED)
        if pid == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return Outcome(timeout=True)
        if os.WIFSIGNALED(status):
            return Outcome(CRASH)
        raise RuntimeError("pytest could not be run; its output is in build/mutation/*.log")

    def stop(self) -> None:
        """Kill what still runs."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class Judge:
    """The pytest plugin that runs exactly these tests, in this order, up to the first failure."""

    def __init__(self, tests: list[str], known: set[str]):
        self.rank = {test: i for i, test in enumerate(tests)}
        self.functions = {test.split("[")[0] for test in tests}
        self.known = known
        self.failed: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        """Keep the chosen tests, and those that a mutant has made anew by other parameters."""
        items[:] = [item for item in items if self._is_chosen(item.nodeid)]
        items.sort(key=lambda item: self.rank.get(item.nodeid, -1))

    def _is_chosen(self, test: str) -> bool:
        return test in self.rank or (
            test not in self.known and test.split("[")[0] in self.functions
        )

    def _note(self, report):
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    pytest_runtest_logreport = _note

    def pytest_collectreport(self, report):
        """A file that can no longer be collected has noticed."""
        if report.failed and self.failed is None:
            self.failed = NOT_COLLECTED


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: "killed", "timeout" or "survived", and through which test."""

    outcome: str
    by: str | None = None
    asked: int = 0  # how many tests were chosen


Request = tuple[bytes, list[str]]  # the text of the mutated file, the tests to run


class Trials:
    """Judges mutants in parallel, each slot in its own copy of the project."""

    def __init__(
        self, trees: list[Path], covering: Covering, texts: dict[str, bytes], patience: float
    ):
        self.trees, self.covering, self.texts = trees, covering, texts
        self.patience = patience  # seconds over and above what the tests should take
        self.trusted: set[str] = set()
        self.distrusted: set[str] = set()

    def verdicts(self, mutants: Iterable[Mutant]) -> Iterator[tuple[Mutant, Verdict]]:
        """Every mutant with its verdict, as they come."""
        waiting, free = deque(mutants), list(self.trees)
        busy: dict[Path, tuple[Mutant, Generator, Run]] = {}
        try:
            while waiting or busy:
                while waiting and free:
                    mutant = waiting.popleft()
                    steps = self.judge(mutant)
                    if verdict := self._step(free[-1], mutant, steps, None, busy):
                        yield mutant, verdict
                    else:
                        free.pop()
                for tree, (mutant, steps, run) in list(busy.items()):
                    if outcome := run.poll():
                        del busy[tree]
                        if verdict := self._step(tree, mutant, steps, outcome, busy):
                            free.append(tree)
                            yield mutant, verdict
                time.sleep(0.005)
        finally:
            for _, _, run in busy.values():
                run.stop()

    def _step(self, tree, mutant, steps, outcome, busy) -> Verdict | None:
        """Hand `judge` an outcome; start the run it asks for next, or return its verdict."""
        path = tree / mutant.file
        try:
            text, tests = steps.send(outcome)
        except StopIteration as end:
            path.write_bytes(self.texts[mutant.file])
            return end.value
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        path.write_bytes(text)
        files = sorted({test.split("::")[0] for test in tests})
        run = Run(
            tree,
            ["-x", *files],
            Judge(tests, self.covering.seconds.keys()),
            self.patience + 5 * self.covering.cost(tests),
        )
        busy[tree] = (mutant, steps, run)
        return None

    def judge(self, mutant: Mutant) -> Generator[Request, Outcome, Verdict]:
        """The runs that one mutant needs.

        A test is believed once it has passed alone with nothing broken, since a test that cannot
        do that would seem to kill everything.
        """
        text = self.texts[mutant.file]
        broken = text[: mutant.start] + mutant.new + text[mutant.end :]
        tests = self.covering.tests_for(mutant.file, text, mutant.line)
        tests = [test for test in tests if test not in self.distrusted]
        left = self.batches(mutant.file, tests)
        while left:
            outcome = yield broken, left[0]
            if outcome.timeout:
                return Verdict("timeout", asked=len(tests))
            by = outcome.failed
            if by is None:
                left.pop(0)
            elif by in (NOT_COLLECTED, CRASH):
                if (yield text, left[0][:1]) != Outcome():
                    raise RuntimeError(f"{left[0][0]} can no longer be run with nothing broken.")
                return Verdict("killed", by, len(tests))
            elif by in self.trusted or by not in self.covering.seconds:
                return Verdict("killed", by, len(tests))
            elif (yield text, [by]) == Outcome():
                self.trusted.add(by)
                return Verdict("killed", by, len(tests))
            else:
                self.distrusted.add(by)
                left = [rest for batch in left if (rest := [t for t in batch if t != by])]
        return Verdict("survived", asked=len(tests))

    def batches(self, file: str, tests: list[str]) -> list[list[str]]:
        """The tests in two parts, since to collect them all takes a while.

        First the file named after the mutated one, if it is quick, or a quick one with many tests.
        """
        home = f"test_{Path(file).stem.strip('_')}.py"
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(test.split("::")[0], []).append(test)

        def order(name: str):
            slow = self.covering.cost(by_file[name]) > 1.0
            return slow, not name.endswith(f"/{home}"), -len(by_file[name])

        first = min(by_file, key=order, default=None)
        rest = [test for test in tests if test.split("::")[0] != first]
        return [batch for batch in (by_file.get(first, []), rest) if batch]
