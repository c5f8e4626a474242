"""Whether the lab refuses bad input: an error is an answer that can be counted."""

from collections.abc import Callable


def refused(call: Callable[[], object]) -> float:
    """Call, and say whether bad input was refused.

    Args:
        call: What should raise. Any error but a ValueError is passed on.

    Returns:
        1.0 if it raised ValueError, 0.0 if it answered; dimensionless.
    """
    try:
        call()
    except ValueError:
        return 1.0
    return 0.0
