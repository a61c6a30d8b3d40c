"""What a person sees on a terminal, or in its log: a stream that never fails, and a page as lines,
with labels on the left, sentences wrapped and columns aligned.

All text of a page goes through ``one_line``: what agents and tasks wrote moves no cursor.
"""

import itertools
import os
import select
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TextIO

from tracecore.errors import one_line
from tracecore.perf.show.page import (
    Badge,
    Block,
    Bullets,
    Cards,
    Code,
    Facts,
    Line,
    Picture,
    Section,
    Sentence,
    Status,
    Table,
    inlines,
    is_figure,
    with_detail,
)

LOG_WIDTH: Final = 100
# at most 4000 bytes: a pipe that has room at all has room for so many
PIECE_CHARACTERS: Final = 400
LAST_PATIENCE_S: Final = 0.5  # for a stream that takes nothing, once the end was asked for
WIDTH_LEAST, WIDTH_MOST = 60, 120
LABEL: Final = 14  # columns of the labels, their indent and their gap included
LINES_MOST: Final = 4  # of one sentence; a message of an agent may be a megabyte
INDENT: Final = " " * LABEL
TABLE_INDENT: Final = " " * 4
RESET: Final = "\x1b[0m"
COLOURS: Final[dict[Status, str]] = {
    "good": "\x1b[32m",
    "bad": "\x1b[31m",
    "warn": "\x1b[33m",
    "plain": "",
}


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

    def write_line(self, line: str) -> None:
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
        """Columns of the terminal; 80 where that is not known."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80 if self._stream else 80
        except (OSError, ValueError):
            return 80

    def page_width(self) -> int:
        """Columns in which sentences are wrapped: the terminal's, or those of a log."""
        return self.width() if self.is_terminal else LOG_WIDTH

    def _wait_for_room(self, stream: TextIO) -> None:
        """Wait until the stream takes more; raises BlockingIOError where it does not and the end
        was asked for.
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


# --- a page ---


def write_text(
    sections: Iterable[Section], width: int = LOG_WIDTH, *, has_colour: bool = False
) -> str:
    """Sections as lines; no line ends the text."""
    width = max(WIDTH_LEAST, min(width, WIDTH_MOST))
    writer = _Writer(width, has_colour=has_colour)
    return "\n".join(line for section in sections for line in writer.section(section))


class _Writer:
    def __init__(self, width: int, *, has_colour: bool) -> None:
        self._width, self._has_colour = width, has_colour

    def section(self, section: Section) -> Iterator[str]:
        # the first line alone has it
        labels = itertools.chain([section.name], itertools.repeat(""))
        for block in section.blocks:
            yield from self._block(block, labels)

    def _block(self, block: Block, labels: Iterator[str]) -> Iterator[str]:
        match block:
            case Sentence(line):
                yield from self._hang(next(labels), line)
            case Bullets(lines):
                for line in lines:
                    yield from self._hang(next(labels), line)
            case Facts(facts):
                for fact in facts:
                    yield from self._hang(fact.name, with_detail(fact.line, ", ", fact.detail))
            case Table():
                if label := next(labels):
                    yield f"  {label}"
                yield from self._table(block)
            case Cards(cards):
                for card in cards:
                    line = with_detail(card.line, ": ", card.detail)
                    yield from self._hang(next(labels), line)
                    yield from (f"{INDENT}  {one_line(command)}" for command in card.commands)
            case Picture():
                pass

    def _hang(self, label: str, line: Line) -> Iterator[str]:
        """The line behind its label, wrapped; further lines begin where the first one does."""
        if all(isinstance(one, Code) for one in inlines(line)):
            wrapped = [line_text(line)]  # it is to be copied, and so must not be broken
        else:
            wrapped = _wrapped(line_text(line, most=self._width * LINES_MOST), self._width - LABEL)
        start = f"  {one_line(label)}"
        yield f"{start:<{LABEL - 1}} {self._coloured(wrapped[0], line)}"
        yield from (INDENT + one for one in wrapped[1:])

    def _coloured(self, text: str, line: Line) -> str:
        if self._has_colour:
            for one in inlines(line):
                if isinstance(one, Badge) and COLOURS[one.status]:
                    word = one_line(one.text)
                    text = text.replace(word, f"{COLOURS[one.status]}{word}{RESET}", 1)
        return text

    def _table(self, table: Table) -> Iterator[str]:
        cells = [
            [line_text(cell, most=self._width * LINES_MOST) for cell in row] for row in table.rows
        ]
        flush = [bool(table.rows) and is_figure(cell) for cell in (table.rows or [table.head])[0]]
        widths = [max(map(len, column)) for column in zip(table.head, *cells, strict=True)]
        # The last column is wrapped where it is text, and so may be long.
        before = len(TABLE_INDENT) + sum(widths[:-1]) + 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(self._width - before, WIDTH_LEAST - LABEL))
        yield _aligned(table.head, widths, flush)
        for row, texts in zip(table.rows, cells, strict=True):
            first, *others = _wrapped(texts[-1], widths[-1])
            line = _aligned([*texts[:-1], first], widths, flush)
            yield self._coloured(line, tuple(one for cell in row for one in inlines(cell)))
            yield from (" " * before + other for other in others)


def _aligned(cells: Sequence[str], widths: Sequence[int], flush: Sequence[bool]) -> str:
    padded = [
        f"{cell:>{width}}" if right else f"{cell:<{width}}"
        for cell, width, right in zip(cells, widths, flush, strict=True)
    ]
    return f"{TABLE_INDENT}{'  '.join(padded)}".rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, max_lines=LINES_MOST, placeholder=" …", break_on_hyphens=False
    ) or [""]


def line_text(line: Line, most: int = 1 << 20) -> str:
    """A line as plain text."""
    texts = (one if isinstance(one, str) else one.text for one in inlines(line))
    return "".join(one_line(text[:most]) for text in texts)
