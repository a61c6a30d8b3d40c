"""How deep code that is not ours may call: as deep as the interpreter lets a script, whatever
stands below it.
"""

import sys


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
