"""Ctrl-C, SIGTERM and a terminal that goes away during a slice: the first asks it to end well, the
second ends it at once.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from typing import Any, Final

from tracecore.exit_codes import EXIT_INTERRUPTED
from tracecore.frames import close_all
from tracecore.record import mutable_record

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@mutable_record
class Interruption:
    """Whether a signal has asked the slice to end, and a descriptor that turns readable then."""

    wake_fd: int
    is_set: bool = False
    last_words: str = ""  # for stderr, when a second signal ends the process at once


@contextlib.contextmanager
def watch_for_interruption() -> Iterator[Interruption]:
    """Take these signals over until the end of the ``with`` block; what stood before is put back.

    A handler only notes the signal: an exception out of it could tear apart what was being written.
    At the second signal the process leaves at once; what had finished is in the journal, and
    everything below it ends with it.
    """
    wake_fd, write_fd = os.pipe()
    interruption = Interruption(wake_fd)

    def note(number: int, _frame: Any) -> None:
        if interruption.is_set:
            # the kernel sends this one when a terminal goes away, and often the shell as well
            if number == signal.SIGHUP:
                return
            _write_if_heard(interruption.last_words)
            os._exit(EXIT_INTERRUPTED)
        interruption.is_set = True
        os.write(write_fd, b"!")

    with contextlib.ExitStack() as undoing:
        undoing.callback(close_all, (wake_fd, write_fd))
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: it shall outlive its terminal
            # not in the main thread: signals are the caller's
            with contextlib.suppress(ValueError):
                undoing.callback(signal.signal, number, signal.signal(number, note))
        yield interruption


def _write_if_heard(words: str) -> None:
    """Write to stderr what it takes at once: a full pipe without a reader would keep the process
    for ever.
    """
    with contextlib.suppress(OSError, ValueError):
        heard = select.poll()
        heard.register(2, select.POLLOUT)
        if heard.poll(0):
            os.write(2, words.encode("utf-8", "backslashreplace")[: select.PIPE_BUF])
