"""How a job's process ended: from its wait status and what it said, to an Ending, to words."""

import os

from tracecore.processes import describe_code, describe_past
from tracecore.records import (
    Ending,
    Exited,
    FellSilent,
    Killed,
    Raised,
    Returned,
    TimedOut,
    WorkerLost,
)


def ending_of_status(status: int) -> Ending:
    """The ending of a process that gave no answer, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    return Killed(-code) if code < 0 else Exited(code)


def describe_ending(ending: Ending) -> str:
    """An ending in words that fit behind "the process"."""
    match ending:
        case Returned():
            return "returned"
        case Raised(kind=kind, message=message):
            return f"raised {kind}: {message}" if message else f"raised {kind}"
        case Exited(code=code):
            return describe_code(code)
        case Killed(signal=number):
            return describe_past(-number)
        case TimedOut(limit_s=limit_s):
            return f"was still running after {limit_s:g} s"
        case FellSilent() as silent:
            return silent.words
        case WorkerLost(attempts=attempts, reason=reason):
            return f"lost its worker {attempts} times; the last one {reason}"
