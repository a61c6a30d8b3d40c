"""A page: what there is to know of a slice or a comparison, as sections of sentences, tables and
pictures. It is made once from the documents; ``terminal``, ``markdown`` and ``html`` write it.

Text of agents and tasks may stand anywhere in a page as it is: each writer escapes for its format.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from tracecore.record import record
from tracecore.units import Unit, figure_text

Status = Literal["good", "bad", "warn", "plain"]

MARKS: Final[dict[Status, str]] = {"good": "✔ ", "bad": "✘ ", "warn": "! ", "plain": ""}
ROWS_SHOWN: Final = 20  # of a table that a failing slice may make as long as itself


# --- what stands in a line


@record
class Figure:
    """A number, with its exact value and the place in the documents that it was read from."""

    unit: Unit
    value: object  # a number, or what stands in its place
    path: tuple[str | int, ...] = ()  # document, then keys

    @property
    def text(self) -> str:
        """The number as people read it."""
        return figure_text(self.unit, self.value)


@record
class Code:
    """Text as it is typed or stored: a command, a path, a reference."""

    text: str


@record
class Badge:
    """A word with a status."""

    status: Status
    text: str


@record
class Soft:
    """Text of less weight."""

    text: str


@record
class Swatch:
    """The number of a scenario row, in the colour that charts give it."""

    number: int  # from 1

    @property
    def text(self) -> str:
        """The number alone."""
        return str(self.number)


Inline = str | Figure | Code | Badge | Soft | Swatch
Line = Inline | tuple[Inline, ...]


def inlines(line: Line) -> tuple[Inline, ...]:
    """The parts of a line."""
    return line if isinstance(line, tuple) else (line,)


def with_detail(line: Line, between: str, detail: Line) -> Line:
    """A line and, where there is any, its detail behind it."""
    return (*inlines(line), between, *inlines(detail)) if detail else line


def is_figure(line: Line) -> bool:
    """Whether a cell is a number, so that its column is set flush right."""
    return isinstance(inlines(line)[0], Figure)


# --- what stands in a section


@record
class Sentence:
    """A line by itself."""

    line: Line


@record
class Bullets:
    """Lines of one list."""

    lines: tuple[Line, ...]


@record
class Fact:
    """A named line: a key figure, a host fact, a file."""

    name: str
    line: Line
    detail: Line = ""


@record
class Facts:
    """Named lines of one list; ``are_key`` sets them large."""

    facts: tuple[Fact, ...]
    are_key: bool = False


@record
class Table:
    """Rows under their headings."""

    title: str  # for readers that cannot see it
    head: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    where_rest: str = ""  # what further rows are, and where: ``scenarios, in the metrics file``


@record
class Card:
    """One of several findings or episodes, with the commands that lead on from it."""

    line: Line
    detail: Line = ""
    commands: tuple[str, ...] = ()


@record
class Cards:
    """A list of cards."""

    cards: tuple[Card, ...]


@record
class Picture:
    """A chart."""

    name: str  # part of its file's name
    title: str
    caption: str  # what is drawn, and how to read it
    svg: str
    file: str = ""  # its name beside a page that cannot hold it


Block = Sentence | Bullets | Facts | Table | Cards | Picture


@record
class Section:
    """The answer to one question."""

    name: str  # an identifier; also the label on a terminal
    title: str
    blocks: tuple[Block, ...]
    is_folded: bool = False  # shown on request, and shortened first where there is no room


@record
class Page:
    """Everything that is shown of one thing."""

    title: str
    answer: Badge  # the verdict in a word
    about: tuple[Line, ...]  # what was measured: commit, date, machine
    lead: tuple[Block, ...]  # the verdict in sentences
    sections: tuple[Section, ...]


def sections_of(*sections: Section | None) -> tuple[Section, ...]:
    """Those that there are and that have something in them."""
    return tuple(one for one in sections if one and one.blocks)


def first_rows(
    rows: Iterable[tuple[Line, ...]],
    title: str,
    head: Sequence[str],
    where_rest: str = "",
    most: int = ROWS_SHOWN,
) -> tuple[Block, ...]:
    """A table of the first rows, and how many more there are and where; nothing where there is no
    row.
    """
    found = tuple(rows)
    if not found:
        return ()
    table = Table(title, tuple(head), found[:most])
    hidden = len(found) - most
    more = f"and {hidden:,} more {where_rest}".rstrip()
    return (table, Sentence(more)) if hidden > 0 else (table,)
