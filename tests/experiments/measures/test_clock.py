"""Two computations are timed in turn, by the median, once they are warm."""

import itertools

from qa_lab.experiments.measures import seconds


def test_runs_alternate_and_what_warms_up_does_not_count():
    now, ran = 0.0, []

    def run(name, durations):
        durations = iter(durations)

        def work():
            nonlocal now
            ran.append(name)
            now += next(durations)

        return work

    ours = run("ours", [100, 90, 1, 2, 30])  # the first two warm up
    theirs = run("theirs", itertools.repeat(7))
    assert seconds(ours, theirs, rounds=3, clock=lambda: now) == (2, 7)
    assert ran == ["ours", "theirs"] * 5


def test_how_long_to_warm_up_can_be_said():
    ticks = iter([0.0, 5.0, 5.0, 6.0])  # one round, begin and end of each
    none = lambda: None  # noqa: E731
    assert seconds(none, none, rounds=1, warm_up=0, clock=lambda: next(ticks)) == (5, 1)
