"""What goes over a worker's pair of pipes: assignments down, reports up."""

import pickle
from collections.abc import Callable
from typing import Any, Final

from tracecore.record import record
from tracecore.records import Ending, Returned

READY: Final = b"ready"
# and why: the machine refuses what the next job needs, which is no fault of the job's
TROUBLE: Final = b"trouble:"


@record
class WorkerSetup:
    """What a worker is born with."""

    number: int  # 0-based
    slots: tuple[int, ...]  # their numbers: so many jobs it runs at a time
    method: str  # how it starts the processes of its jobs
    epoch_s: float  # monotonic second that offsets count from
    prepare: Callable[[str, int], Any] | None  # of the method and the slots, gives a Companion
    # Pickled (function, make_ready). Not read, and so their modules not imported, before the
    # companion has been started: what it forks shall carry no more than it needs.
    work: bytes


@record
class Assignment:
    """A job as it is handed to a worker."""

    ticket: int  # names the assignment in the report
    job: Any
    limit_s: float  # when the worker kills its process
    handed_s: float  # monotonic
    attempt: int


# A report on an assignment: ticket; the ending, or the pickled value of one that returned; and, in
# the order of Usage's fields, what it cost. Tuples, since records cost several times as much to
# pickle.
Report = tuple[int, Ending | bytes, tuple[Any, ...]]


def read_report(message: bytes) -> Report:
    """A worker's message other than READY, as the harness reads it."""
    report: Report = pickle.loads(message)  # noqa: S301 - from our own worker
    return report


def ending_in(report: Report) -> Ending:
    """The ending that a report holds."""
    ending = report[1]
    return Returned(pickle.loads(ending)) if isinstance(ending, bytes) else ending  # noqa: S301 - from our own worker
