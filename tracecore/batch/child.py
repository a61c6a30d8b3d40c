"""Inside the process of one job: run the function, say one thing, leave."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any, Final

from tracecore import descendants, frames, processes

WORDS_MOST: Final = 2_000
RETURNED: Final = b"r"
RAISED: Final = b"x"
# behind that letter: the peak of this process's own memory; 0: as wait4 tells it
PEAK_BYTES: Final = 8


def run_child(
    function: Callable[[Any, Any], object],
    job: Any,
    link: Any,
    answer_fd: int,
    leash_fd: int | None,
    method: str,
) -> None:
    """Run ``function(job, link)`` and write its answer, a single message, to ``answer_fd``.

    The message is ``r``, a number of 8 bytes, and the pickled value; or ``x``, the number, and the
    pickled ``(kind, message, traceback)`` of what it raised: an exception itself may fail to
    pickle, or to be rebuilt.
    """
    if leash_fd is not None:
        processes.tie_to_leash(leash_fd)
    # What it leaves behind stays below it, and so apart from what other jobs leave, while it lives.
    descendants.become_subreaper()
    try:
        kind, value = RETURNED, pickle.dumps(function(job, link))
    except BaseException as error:  # every path must give an answer
        kind, value = (
            RAISED,
            pickle.dumps((type(error).__name__, _words(error), traceback.format_exc(limit=-20))),
        )
    # Not of a fork, where wait4 says the same, and asking costs a hundredth of a small episode.
    peak = (processes.own_peak_rss_bytes() or 0) if method == processes.SPAWN else 0
    frames.write_message(answer_fd, kind + peak.to_bytes(PEAK_BYTES, "big") + value)


def _words(error: BaseException) -> str:
    try:
        return str(error)[:WORDS_MOST]
    except BaseException:  # it may be an exception class of whatever code the function ran
        return "(its message cannot be read)"
