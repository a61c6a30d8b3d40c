"""Inside the process of one job: wait for it, run the function, say one thing, leave."""

import os
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
    function: Callable[[Any, Any], object], worker: int, job_fd: int, answer_fd: int, method: str
) -> None:
    """Run ``function(job, link)`` and write its answer, a single message, to ``answer_fd``.

    Two messages come over ``job_fd``: the pickled assignment, and the pickled link. Without them,
    at the end of that line, there is nothing to do.

    The answer is ``r``, a number of 8 bytes, and the pickled value; or ``x``, the number, and the
    pickled ``(kind, message, traceback)`` of what it raised: an exception itself may fail to
    pickle, or to be rebuilt.
    """
    descendants.die_with(worker)
    # What it leaves behind stays below it, and so apart from what other jobs leave, while it lives.
    descendants.become_subreaper()
    try:
        assignment, link = frames.read_message(job_fd), frames.read_message(job_fd)
    except frames.ChannelClosed:
        return
    os.close(job_fd)
    try:
        job = pickle.loads(assignment).job  # noqa: S301 - from our own harness
        value = function(job, pickle.loads(link))  # noqa: S301 - from our own worker
        kind, answer = RETURNED, pickle.dumps(value)
    except BaseException as error:  # every path must give an answer
        said = (type(error).__name__, _words(error), traceback.format_exc(limit=-20))
        kind, answer = RAISED, pickle.dumps(said)
    # Not of a fork, where wait4 says the same, and asking costs a hundredth of a small episode.
    peak = (processes.own_peak_rss_bytes() or 0) if method == processes.SPAWN else 0
    frames.write_message(answer_fd, kind + peak.to_bytes(PEAK_BYTES, "big") + answer)


def _words(error: BaseException) -> str:
    try:
        return str(error)[:WORDS_MOST]
    except BaseException:  # it may be an exception class of whatever code the function ran
        return "(its message cannot be read)"
