"""How long something takes. Clocks differ from machine to machine: say ratios, never seconds."""

import time
from collections.abc import Callable
from statistics import median


def seconds(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Time two computations in turn.

    Args:
        ours: The one.
        theirs: The other.
        rounds: How often each is timed.
        warm_up: Rounds before that, which do not count.
        clock: What reads the time. `time.thread_time` for work on one thread: on a busy machine
            pauses can fall in step with the turns, and it does not count them.

    Returns:
        The median of each, in seconds.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(warm_up + rounds):
        for run, taken in zip((ours, theirs), times, strict=True):
            started = clock()
            run()
            taken.append(clock() - started)
    return median(times[0][warm_up:]), median(times[1][warm_up:])
