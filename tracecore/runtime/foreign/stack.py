"""How deep code that is not ours may call: as deep as the interpreter lets a script, whatever
stands below it.
"""

import sys
from collections.abc import Callable
from typing import Final

# Where an agent stands: deeper than whatever frames lie below it, forked or spawned.
FLOOR: Final = 60


def at_fixed_depth(function: Callable[[], None]) -> None:
    """Call ``function`` at a depth that is the same however this process was started, with as much
    below it as the interpreter lets a script have: an agent can ask for the limit, too.
    """
    sys.setrecursionlimit(sys.getrecursionlimit() + FLOOR)
    _sink(FLOOR - _depth(), function)


def _sink(frames: int, function: Callable[[], None]) -> None:
    if frames > 0:
        _sink(frames - 1, function)
    else:
        function()


def give_full_depth() -> int:
    """Raise the recursion limit by the depth at which the caller stands; the limit before."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + _depth())
    return before


def _depth() -> int:
    """The depth of the caller's caller, as the interpreter counts it: some calls of C functions are
    among it, so that walking the frames would not do.
    """
    try:
        sys.setrecursionlimit(1)
    except (
        RecursionError
    ) as error:  # "cannot set the recursion limit to 1 at the recursion depth 7"
        words = str(error).replace(":", " ").split()
        depth = [int(word) for word in words if word.isdigit()][-1]
        return depth - 2
    raise AssertionError("a limit of 1 was taken")
