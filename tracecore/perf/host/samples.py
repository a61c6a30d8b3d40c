"""The samples of a slice: the machine and the state of the slice, every half second, in a file of
their own.

Taken in the harness's own loop: a thread in a process that starts others is how locks are
inherited. A tick that comes late is taken once, and those it has missed are skipped and counted.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Final

from tracecore import clock
from tracecore.errors import as_output_error
from tracecore.files import write_atomic_stream
from tracecore.perf.host.machine import Machine
from tracecore.records import EpisodeResult, JsonObject

BLOCK_BYTES: Final = 1 << 16

_encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def samples_name(stamp: str) -> str:
    """The file's name."""
    return f"perf-samples-{stamp}.json"


class Samples:
    """Takes samples, and keeps them on disk: a day of them takes no more memory than a minute.

    Args:
        folder: Where they wait, in a file without a name, until they are written.
        interval_s: Seconds between two of them.
        already_done: Episodes that had finished before, of a resumed slice.
    """

    def __init__(
        self,
        folder: str,
        interval_s: float,
        *,
        already_done: int = 0,
        monotonic_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        self._interval_s, self._monotonic_s = interval_s, monotonic_s
        self._machine = Machine()
        self._began_at, self._began_s = clock.utc_text(), monotonic_s()
        self._taken_s = self._began_s
        self._next_s = self._began_s + interval_s
        self._finished, self._failed, self._artifact_bytes = already_done, 0, 0
        self._finished_before = already_done
        self._count = self._skipped = 0
        self._trouble: str | None = None
        self._spool: IO[bytes] | None = None
        self._write(lambda: setattr(self, "_spool", tempfile.TemporaryFile(dir=folder)))  # noqa: SIM115 - lives as long as we

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode."""
        self._finished += 1
        self._failed += not row.success
        if row.artifact is not None:
            self._artifact_bytes += row.artifact_bytes

    def look(self, in_flight: int) -> None:
        """Take a sample if it is time to."""
        now_s = self._monotonic_s()
        if now_s < self._next_s:
            return
        late = int((now_s - self._next_s) / self._interval_s)
        self._skipped += late
        self._next_s += (late + 1) * self._interval_s
        self._take(now_s, in_flight)

    def finish(self) -> None:
        """Take the last sample, unless the one before is hardly over: percentages of a moment mean
        nothing.
        """
        now_s = self._monotonic_s()
        if not self._count or now_s - self._taken_s >= self._interval_s / 2:
            self._take(now_s, in_flight=0)

    def write(self, path: str) -> None:
        """Put all samples into the file at ``path``.

        Raises:
            OutputError: They could not be written.
        """
        write_atomic_stream(path, self._chunks())

    def close(self) -> None:
        """Let go of what waits on disk. Closing twice is fine."""
        spool, self._spool = self._spool, None
        if spool is not None:
            # It writes what it still held, and a full disk refuses that: it is not needed now.
            with contextlib.suppress(OSError):
                spool.close()

    def _take(self, now_s: float, in_flight: int) -> None:
        figures = self._machine.read()
        elapsed_s, self._taken_s = now_s - self._taken_s, now_s
        finished, self._finished_before = self._finished - self._finished_before, self._finished
        sample: JsonObject = {
            "offset_s": now_s - self._began_s,
            **figures,
            "episodes_in_flight": in_flight,
            "episodes_finished": self._finished,
            "episodes_failed": self._failed,
            "rate_eps": finished / elapsed_s if elapsed_s > 0 else None,
            "run_artifact_bytes": self._artifact_bytes,
        }
        between = b",\n" if self._count else b"\n"
        self._count += 1
        self._write(
            lambda: (
                self._spool.write(between + _encode(sample).encode("ascii"))
                if self._spool
                else None
            )
        )

    def _write(self, write: Callable[[], object]) -> None:
        """A full disk ends the samples, and never the slice."""
        try:
            write()
        except OSError as error:
            self._trouble = f"samples could not be kept: {error.strerror or error}"
            self.close()

    def _chunks(self) -> Iterator[bytes]:
        head = {
            "available": self._machine.trouble is None and self._trouble is None,
            "provider": None if self._machine.trouble else "psutil",
            "trouble": self._trouble or self._machine.trouble,
            "began_at": self._began_at,
            "interval_s": self._interval_s,
            "cpus": os.cpu_count(),
            "skipped_ticks": self._skipped,
        }
        yield json.dumps(head, indent=2).encode()[:-2] + b',\n  "samples": ['
        if self._spool is not None:
            with as_output_error("the samples"):
                self._spool.seek(0)
                while block := self._spool.read(BLOCK_BYTES):
                    yield block
        yield b"\n  ]\n}\n"
