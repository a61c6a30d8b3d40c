"""What agent and task print: its last characters, kept without ever making them wait."""

import io
import os
from typing import Final

CHARACTERS_MOST: Final = 4_000
BYTES_KEPT: Final = 4 * CHARACTERS_MOST  # a character has at most four
READ_BYTES: Final = 1 << 16
READS_MOST: Final = 64  # of what is left at the end: more than a pipe holds


class Tail(io.RawIOBase):
    """The end of what is written to it, as a raw stream."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, data: "bytes | memoryview[int]") -> int:  # type: ignore[override]
        """Keep the end of ``data``."""
        self._kept += data
        if len(self._kept) > 2 * BYTES_KEPT:  # seldom, since what is kept moves each time
            del self._kept[:-BYTES_KEPT]
        return len(data)

    def text(self) -> str | None:
        """Its last characters; ``None`` if nothing was written."""
        return self._kept.decode("utf-8", "replace")[-CHARACTERS_MOST:] or None


class PipeTail:
    """The end of what comes out of a pipe.

    Args:
        fd: Where it is read from.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd, self._tail = fd, Tail()
        self._pipe = io.FileIO(fd, closefd=False)

    def drain(self) -> bool:
        """Take some of what is there; whether more may come."""
        data = self._pipe.read(READ_BYTES)  # None: nothing is there yet
        self._tail.write(data or b"")
        return data != b""

    def text(self) -> str | None:
        """Take what is left, and give its last characters."""
        for _ in range(READS_MOST):
            if not (data := self._pipe.read(READ_BYTES)):
                break
            self._tail.write(data)
        return self._tail.text()


def as_text(tail: Tail) -> io.TextIOWrapper:
    """``tail`` as what stands in the place of ``sys.stdout``."""
    return io.TextIOWrapper(
        tail,  # type: ignore[arg-type]
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
