"""A page as lines of a terminal or a log: labels on the left, sentences wrapped, columns aligned.

All text goes through ``one_line``: what agents and tasks wrote moves no cursor.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.show.console import LOG_WIDTH
from tracecore.perf.show.page import (
    Badge,
    Block,
    Bullets,
    Card,
    Cards,
    Code,
    Command,
    Facts,
    Inline,
    Line,
    Picture,
    Section,
    Sentence,
    Status,
    Table,
    inlines,
    is_figure,
)

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
        label = section.name
        for block in section.blocks:
            yield from self._block(block, label)
            label = ""

    def _block(self, block: Block, label: str) -> Iterator[str]:
        match block:
            case Sentence(line):
                yield from self._hang(label, line)
            case Bullets(lines):
                for place, line in enumerate(lines):
                    yield from self._hang(label if place == 0 else "", line)
            case Facts(facts):
                for fact in facts:
                    detail = (", ", *inlines(fact.detail)) if fact.detail else ()
                    yield from self._hang(fact.name, (*inlines(fact.line), *detail))
            case Table():
                if label:
                    yield f"  {label}"
                yield from self._table(block)
            case Command(text):
                yield f"{INDENT}{one_line(text)}"
            case Cards(cards):
                for place, card in enumerate(cards):
                    yield from self._card(card, label if place == 0 else "")
            case Picture():
                pass

    def _card(self, card: Card, label: str) -> Iterator[str]:
        detail = (": ", *inlines(card.detail)) if card.detail else ()
        yield from self._hang(label, (*inlines(card.line), *detail))
        yield from (f"{INDENT}  {one_line(command)}" for command in card.commands)

    def _hang(self, label: str, line: Line) -> Iterator[str]:
        """The line behind its label, wrapped; further lines begin where the first one does."""
        if _is_code(line):
            wrapped = [line_text(line)]
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


def _is_code(line: Line) -> bool:
    """Whether the line is to be copied, and so must not be broken."""
    return all(isinstance(one, Code) for one in inlines(line))


def line_text(line: Line, most: int = 1 << 20) -> str:
    """A line as plain text."""
    return "".join(one_line(_inline(one)[:most]) for one in inlines(line))


def _inline(one: Inline) -> str:
    return one if isinstance(one, str) else one.text
