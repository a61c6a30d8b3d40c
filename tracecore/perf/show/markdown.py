"""A page as Markdown, as GitHub shows it: a report in a repository, or the summary of a job."""

import re
from collections.abc import Iterator
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.show.page import (
    MARKS,
    Badge,
    Block,
    Bullets,
    Card,
    Cards,
    Code,
    Facts,
    Figure,
    Inline,
    Line,
    Page,
    Picture,
    Section,
    Sentence,
    Table,
    inlines,
    is_figure,
    with_detail,
)
from tracecore.record import replace

TEXT_CHARACTERS: Final = 500  # of one piece of text; a message of an agent may be a megabyte
ESCAPES: Final = str.maketrans(
    {
        **{character: f"\\{character}" for character in "\\`*_{}[]#!|~$"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "@": "&#64;",
    }
)


def write_markdown(page: Page, level: int = 1) -> str:
    """The whole page; its title is a heading of ``level``."""
    about = " · ".join(map(line_text, page.about))
    parts = [f"{'#' * level} {escape(page.title)}", about, *map(_block, page.lead)]
    for section in page.sections:
        parts += _section(section, level + 1)
    return "\n\n".join(filter(None, parts)) + "\n"


def write_markdown_within(page: Page, bytes_most: int, level: int) -> str:
    """The page in no more than ``bytes_most``: the tables of folded sections give up rows, from
    their ends, until it fits.
    """
    text = write_markdown(page, level)
    folded = [block for one in page.sections if one.is_folded for block in one.blocks]
    rows = max((len(block.rows) for block in folded if isinstance(block, Table)), default=0)
    while rows and len(text.encode("utf-8", "backslashreplace")) > bytes_most:
        rows //= 2
        sections = tuple(_shortened(one, rows) for one in page.sections)
        text = write_markdown(replace(page, sections=sections), level)
    return text


def _shortened(section: Section, rows: int) -> Section:
    blocks: list[Block] = []
    for block in section.blocks:
        hidden = len(block.rows) - rows if isinstance(block, Table) and section.is_folded else 0
        if isinstance(block, Table) and hidden > 0:
            rest = f" {block.where_rest}" if block.where_rest else ""
            blocks += [replace(block, rows=block.rows[:rows]), Sentence(f"and {hidden} more{rest}")]
        else:
            blocks.append(block)
    return replace(section, blocks=tuple(blocks))


# --- blocks


def _section(section: Section, level: int) -> Iterator[str]:
    if section.is_folded:
        yield f"<details><summary>{escape(section.title)}</summary>"
    elif section.title:
        yield f"{'#' * level} {escape(section.title)}"
    yield from map(_block, section.blocks)
    if section.is_folded:
        yield "</details>"


def _block(block: Block) -> str:
    match block:
        case Sentence(line):
            return line_text(line)
        case Bullets(lines):
            return "\n".join(f"- {line_text(line)}" for line in lines)
        case Facts(facts):
            rows = (_row((one.name, with_detail(one.line, ", ", one.detail))) for one in facts)
            return "\n".join([_row(("", "")), "| --- | --- |", *rows])
        case Table():
            return _table(block.head, block.rows)
        case Cards(cards):
            return "\n\n".join(map(_card, cards))
        case Picture():
            return f"**{escape(block.title)}**\n\n![{escape(block.title)}]({block.file})\n\n" + (
                escape(block.caption)
            )


def _card(card: Card) -> str:
    line = with_detail(card.line, ": ", card.detail)
    return "\n\n".join([line_text(line), *map(fence, card.commands)])


def _table(head: tuple[str, ...], rows: tuple[tuple[Line, ...], ...]) -> str:
    right = [bool(rows) and is_figure(cell) for cell in (rows[0] if rows else head)]
    rule = tuple("---:" if flush else "---" for flush in right)
    return "\n".join([_row(head), f"| {' | '.join(rule)} |", *map(_row, rows)])


def _row(cells: tuple[Line, ...]) -> str:
    return f"| {' | '.join(line_text(cell, in_table=True) for cell in cells)} |"


def line_text(line: Line, *, in_table: bool = False) -> str:
    """A line as Markdown."""
    return "".join(_inline(one, in_table=in_table) for one in inlines(line))


def _inline(one: Inline, *, in_table: bool) -> str:
    match one:
        case Code(text):
            return code(text, in_table=in_table)
        case Figure():
            return one.text
        case Badge(status, text):
            return f"**{MARKS[status]}{escape(text)}**"
        case str() as text:
            return escape(text)
        case _:
            return escape(one.text)


# --- escapes


def escape(text: str) -> str:
    """Text as itself: nothing in it is taken for Markdown, HTML, a table's border, a link or a
    mention.
    """
    text = one_line(text[: TEXT_CHARACTERS + 1])
    text = text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"
    text = text.translate(ESCAPES).replace("://", "&#58;//")
    text = re.sub(r"\b(www)\.", r"\1&#46;", text)
    # What would begin a list, a rule or a heading.
    text = re.sub(r"^([-+=]+)(?=\s|$)", r"\\\1", text)
    return re.sub(r"^(\d+)(?=[.)](?:\s|$))", r"\1\\", text)


def code(text: str, *, in_table: bool) -> str:
    """Text in a code span, which may itself hold backticks; a table's border is escaped in a table
    alone.
    """
    text = one_line(text)
    text = text.replace("|", "\\|") if in_table else text
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str) -> str:
    """A command as a block of code."""
    text = one_line(text)
    ticks = "`" * max(3, _longest_run(text) + 1)
    return f"{ticks}sh\n{text}\n{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)
