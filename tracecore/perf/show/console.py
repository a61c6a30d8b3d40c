"""What a person sees on stderr. It never fails, and changes nothing else."""

import os
import select
import sys
from collections.abc import Mapping
from typing import Final, TextIO

LOG_WIDTH: Final = 100
# at most 4000 bytes: a pipe that has room at all has room for so many
PIECE_CHARACTERS: Final = 400
LAST_PATIENCE_S: Final = 0.5  # for a stream that takes nothing, once somebody has asked for the end


class Console:
    """A stream that takes text if it can: closed, broken and absent ones are silent.

    One that takes nothing for now, such as a full pipe, is waited for; but not any longer once
    ``hurry_fd`` is readable.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        hurry_fd: int | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._hurry_fd = hurry_fd
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self.is_terminal = self._is_terminal()
        self.has_cursor = self.is_terminal and environ.get("TERM") != "dumb"
        self.has_colour = self.has_cursor and not environ.get("NO_COLOR")
        # a terminal there is read afterwards, as a file
        self.is_log = environ.get("CI", "").lower() not in {"", "0", "false"}

    def say(self, line: str) -> None:
        """Write a line, or several."""
        self.write(line + "\n")

    def write(self, text: str) -> None:
        """Write ``text`` as it is, at once."""
        for at in range(0, len(text), PIECE_CHARACTERS):
            if self._stream is None:
                return
            try:
                self._wait_for_room(self._stream)
                self._stream.write(text[at : at + PIECE_CHARACTERS])
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: it is closed
                self._stream = None

    def width(self) -> int:
        """Columns of the terminal; 80 where nobody knows."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80 if self._stream else 80
        except (OSError, ValueError):
            return 80

    def page_width(self) -> int:
        """Columns in which sentences are wrapped: the terminal's, or those of a log."""
        return self.width() if self.is_terminal else LOG_WIDTH

    def _wait_for_room(self, stream: TextIO) -> None:
        """Wait until the stream takes more; raises BlockingIOError where it does not and somebody
        is in a hurry.
        """
        if self._hurry_fd is None:
            return
        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLOUT)
        waiting.register(self._hurry_fd, select.POLLIN)
        if any(fd != self._hurry_fd for fd, _ in waiting.poll()):
            return
        waiting.unregister(self._hurry_fd)
        if not waiting.poll(LAST_PATIENCE_S * 1000):
            raise BlockingIOError

    def _is_terminal(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False
