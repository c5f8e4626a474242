"""Break every line in every small way and see which edits no test notices: `make mutate`.

python -m tests.tools.mutation                    every mutant; writes build/mutation.json
python -m tests.tools.mutation --sample 300       300 of them, drawn over all files
python -m tests.tools.mutation --file masks.py    one file (--line 31: one line); no report

A run that was stopped goes on where it stood. After an edit, only what the edit may have changed
runs again: every mutant of an edited file, those that an edited test killed, and all survivors.
"""

import argparse
import fcntl
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.tools.mutation.covering import Covering, Watcher
from tests.tools.mutation.operators import mutants_of
from tests.tools.mutation.report import GOAL, Journal, Survivors, digest, killed, summary, write
from tests.tools.mutation.source import Mutant
from tests.tools.mutation.trial import Run, Trials, Verdict, copy_project, warm_up

PACKAGES = ["qa_lab/transformer", "qa_lab/claims"]
# These tests look at the built site, at the commands and at the tools: slow, and not about a line.
NOT_UNIT = ("tests/guide/", "tests/test_commands.py", "tests/tools/")


def main() -> int:
    """Exit code 1 if too many survive, or if the survivors' list is out of date."""
    options = _options()
    os.chdir(options.root)
    files = _python(*options.packages)
    mutants = [mutant for file, text in files.items() for mutant in mutants_of(file, text)]
    survivors = Survivors.load(Path("tests/mutation_survivors.yaml"))
    if stale := survivors.stale(mutants, files):
        print("\n".join(stale), file=sys.stderr)
        return 1
    chosen = _choose(mutants, options)
    print(f"{len(chosen)} of {len(mutants)} mutants", flush=True)
    if not chosen:
        return 1
    verdicts = _judge(chosen, files, survivors, options)
    report = summary(verdicts, survivors, sampled=options.sample)
    for name, counts in {**report["by_file"], "all": report}.items():
        print(f"{name:45} {counts['killed']:5} killed {counts['survived']:4} survived ", end="")
        print(f"{counts['score']:7.1%}")
    if options.file or options.line:
        return 0
    write(report, Path("build/mutation.json"))
    for sentence in (needless := survivors.needless(verdicts)):
        print(sentence, file=sys.stderr)
    return 1 if needless or report["score"] < GOAL else 0


def _options() -> argparse.Namespace:
    first, *more = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        "tests.tools.mutation",
        description=first,
        epilog="".join(more),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--file", help="only files whose path ends so")
    parser.add_argument("--line", type=int, help="only edits of this line")
    parser.add_argument("--sample", type=int, help="only so many, drawn over all files")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="only these tests judge")
    parser.add_argument("--fresh", action="store_true", help="believe no earlier run")
    parser.add_argument("--patience", type=float, default=8, help="seconds that a loop may last")
    parser.add_argument("--root", default=".", help="the project")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="what is mutated")
    return parser.parse_args()


def _python(*folders: str) -> dict[str, bytes]:
    """Every Python file under the folders, by its path."""
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    return {str(path): path.read_bytes() for path in paths}


def _choose(mutants: list[Mutant], options: argparse.Namespace) -> list[Mutant]:
    """The mutants that are asked for; a sample takes of every file in proportion."""
    if options.file:
        mutants = [m for m in mutants if f"/{m.file}".endswith(f"/{options.file}")]
    if options.line:
        mutants = [m for m in mutants if m.line == options.line]
    if options.sample and options.sample < len(mutants):
        step = len(mutants) / options.sample
        start = random.Random(0).random()
        mutants = [mutants[int((i + start) * step)] for i in range(options.sample)]
    return mutants


def _judge(chosen, files, survivors, options) -> dict[Mutant, Verdict]:
    """The verdict on every chosen mutant, from the journal or from a trial."""
    work = Path("build/mutation").absolute()
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another run is at work in {work}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped; the next run goes on from here."))
    tests, everything = _state(options)
    journal = Journal(work / "journal.jsonl", everything, files | tests, fresh=options.fresh)
    verdicts = {mutant: verdict for mutant in chosen if (verdict := journal.verdict(mutant))}
    waiting = [mutant for mutant in chosen if mutant not in verdicts]
    if verdicts:
        print(f"{len(verdicts)} are known from an earlier run", flush=True)
    if not waiting:
        return verdicts
    covering, trees = _prepare(work, everything, options)
    trials = Trials(trees, covering, files, options.patience)
    started = said = time.monotonic()
    for done, (mutant, verdict) in enumerate(trials.verdicts(waiting), start=1):
        journal.add(mutant, verdict)
        verdicts[mutant] = verdict
        if not killed(verdict) and not survivors.reason(mutant):
            why = "SURVIVED" if verdict.asked else "NO TEST "
            print(f"{why} {mutant.file}:{mutant.line}  {mutant.before}  →  {mutant.after}")
        if (now := time.monotonic()) - said > 15 or done == len(waiting):
            said, rate = now, done / (now - started)
            dead = sum(map(killed, verdicts.values())) / len(verdicts)
            left = (len(waiting) - done) / rate / 60
            print(f"{done} of {len(waiting)}, {rate:.1f}/s, {dead:.1%} killed, {left:.0f} min left")
        sys.stdout.flush()
    if trials.distrusted:
        print(f"Fail by themselves, so not believed: {', '.join(sorted(trials.distrusted))}")
    return verdicts


def _state(options) -> tuple[dict[str, bytes], str]:
    """The tests, and a digest of all that a verdict may depend on."""
    tests = {f: text for f, text in _python("tests").items() if not f.startswith(NOT_UNIT)}
    lab = _python(*{Path(package).parts[0] for package in options.packages})
    return tests, digest(*lab.values(), *tests.values(), *map(str.encode, options.tests))


def _prepare(work: Path, everything: str, options) -> tuple[Covering, list[Path]]:
    """Find out which test runs which line, and copy the project once for each slot."""
    first = copy_project(Path.cwd(), work / "slot-0")
    if _state(options)[1] != everything:
        sys.exit("The project was edited while it was copied. Run again.")
    known = work / f"covering-{everything}.json"
    ignored = [f"--ignore={path.rstrip('/')}" for path in NOT_UNIT]
    fresh = not known.exists()
    warm_up()
    watcher = Watcher(first, options.packages)
    print("Which test runs which line?" if fresh else "Compiling", flush=True)
    arguments = [*options.tests, *ignored, *([] if fresh else ["--collect-only"])]
    for old in work.glob("covering-*.json") if fresh else ():
        old.unlink()
    written = known if fresh else work / "collected.json"
    run = Run(first, arguments, watcher, seconds=1800, record=written)
    while (outcome := run.poll()) is None:
        time.sleep(0.05)
    if outcome.timeout or not written.exists():
        raise RuntimeError(f"The tests could not be run; see {first}.log")
    covering = Covering.load(known)
    if covering.failed:
        print(f"Fail or are skipped with nothing broken, so do not judge: {covering.failed}")
    warm_up(covering.modules)
    trees = [first]
    for number in range(1, options.jobs):
        trees.append(copy_project(first, work / f"slot-{number}", compiled=True))
    return covering, trees


if __name__ == "__main__":
    sys.exit(main())
