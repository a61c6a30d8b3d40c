"""Whether a path leads to what an agent may read, or only ask for.

For the audit hook, and made as it is: of constants only.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tracecore.confinement.readable import TASK_MARK, Readable

_Any = TypeVar("_Any")
_Cache: Any = type(functools.lru_cache(print))
ODD: Final = "(a path that is no plain string)"
SEEN, UNSEEN, FORBIDDEN = 0, 1, 2  # answered truly; answered as if it were not there; an attempt


def seal(function: _Any) -> _Any:
    """``function`` as an object of C's, which keeps no results: a plain one, seen in a frame, has
    cells that can be changed.
    """
    sealed: _Any = _Cache(function, 0, False, tuple)
    return sealed


def make_path_check(
    found: Readable, read_link: Callable[..., str], stat: Callable[..., os.stat_result]
) -> tuple[Callable[..., bool], Callable[[str], int], Callable[[str], bool]]:
    """Whether a path may not be read; what becomes of asking whether it is there; whether it came
    with the agent.

    A relative name that leads nowhere is answered as if it were not there, whether it is or not:
        tracebacks ask for
    the sources of generated code, by names that were never files. So are places where Python's
    library looks by itself.

    Args:
        found: What may be read.
        read_link: ``posix.readlink`` itself.
        stat: ``posix.stat`` itself.
    """
    cwd, os_error, range_, length, mark = os.getcwd, OSError, range, len, "/" + TASK_MARK
    slashed = tuple(folder.rstrip("/") + "/" for folder in found.folders)
    hidden = tuple(folder.rstrip("/") + "/" for folder in found.hidden)
    own = tuple(folder.rstrip("/") + "/" for folder in found.own)
    own_exactly, files, odd = frozenset(found.own), found.files, ODD
    given = tuple(folder.rstrip("/") + "/" for folder in found.given)
    trusted = tuple(folder.rstrip("/") + "/" for folder in found.trusted)
    ways, unanswered = found.ways, tuple(folder + "/" for folder in found.unanswered)
    seen, unseen, forbidden = SEEN, UNSEEN, FORBIDDEN

    @seal
    def normal(path: str) -> str:
        parts: tuple[str, ...] = ()
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part and part != ".":
                parts = (*parts, part)
        return "/" + "/".join(parts)

    @seal
    def resolve(path: str) -> str | None:
        """With every link followed; None for a loop."""
        left, done = path.split("/")[1:], ""
        for _ in range_(200):
            if not left:
                return done or "/"
            part, left = left[0], left[1:]
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            try:
                target = read_link(done + "/" + part)
            except os_error:
                done = done + "/" + part
                continue
            left = target.split("/") + left
            if target[:1] == "/":
                done = ""
        return None

    @seal
    def outside(path: str) -> bool:
        if path in files:
            return False
        inside = path + "/"
        return not inside.startswith(slashed) or inside.startswith(hidden)

    @seal
    def is_own(path: str) -> bool:
        return (path + "/").startswith(own) or path in own_exactly

    @seal
    def is_of_task(path: str) -> bool:
        """Whether a path with no link in it leads, inside of the agent's own folders, to or into a
        folder of a task.
        """
        for folder in own:
            if (path + "/").startswith(folder):
                place = folder[:-1]
                for part in ("", *path[length(folder) :].split("/")):
                    place = place + "/" + part if part else place
                    try:
                        stat(place + mark)
                    except os_error:
                        continue
                    return True
        return False

    @seal
    def refuses(path: str, native: bool = False) -> bool:
        if "\0" in path:
            return False  # no call takes it
        if path == odd:
            # also where the working directory would make it a name in an allowed folder
            return True
        whole = path if path[:1] == "/" else cwd() + "/" + path
        lexical = normal(whole)
        if lexical in files:
            return False
        owned = is_own(lexical)
        if native and owned:
            return True
        if not owned and ".." not in whole:
            return outside(lexical)
        real = resolve(whole)
        return real is None or outside(real) or (real not in files and is_of_task(real))

    def answers(path: str) -> int:
        if path == odd:
            return forbidden
        whole = path if path[:1] == "/" else cwd() + "/" + path
        place: Any = resolve(whole) if ".." in whole else normal(whole)
        if place in ways or not refuses(path):
            return seen
        if path[:1] != "/" and ".." not in path:
            return unseen
        return unseen if place is not None and (place + "/").startswith(unanswered) else forbidden

    def is_given(path: str) -> bool:
        place = resolve(path if path[:1] == "/" else cwd() + "/" + path)
        return (
            place is not None and place.startswith(given) and not (place + "/").startswith(trusted)
        )

    return refuses, seal(answers), seal(is_given)
