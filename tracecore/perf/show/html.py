"""A page as HTML: one file that loads nothing, and runs nothing but its own copy button."""

import base64
import hashlib
import html
import json
import pathlib
import re
import string
from collections.abc import Iterable
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.show.charts.drawing import FAILURE, GRID, INK, SERIES
from tracecore.perf.show.page import (
    MARKS,
    Badge,
    Block,
    Bullets,
    Card,
    Cards,
    Code,
    Fact,
    Facts,
    Figure,
    Inline,
    Line,
    Page,
    Picture,
    Section,
    Sentence,
    Soft,
    Swatch,
    Table,
    inlines,
    is_figure,
    with_detail,
)
from tracecore.units import NONE_TEXT

SHELL: Final = pathlib.Path(__file__).with_name("page.html")

# What a page may do: show itself, and run the script whose hash this is. Whatever slips through
# every escape can neither run nor load nor send anything.
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; script-src 'sha256-{digest}'"
)


# In the page's own dark and light, lines may be further from the ground than colours that must do
# for both.
COLOURS: Final = {
    INK: "ink",
    GRID: "grid",
    FAILURE: "bad",
    **{colour: f"s{place}" for place, colour in enumerate(SERIES, 1)},
}


def write_html(page: Page) -> str:
    """The whole page."""
    shell = SHELL.read_text("utf-8")
    script = shell.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return string.Template(shell).substitute(
        policy=escape(POLICY.format(digest=digest)),
        title=escape(f"{page.answer.text}: {page.title}"),
        status=page.answer.status,
        answer=_inline(page.answer),
        heading=escape(page.title),
        about=" · ".join(f"<span>{_line(line)}</span>" for line in page.about),
        lead="\n".join(map(_block, page.lead)),
        links="\n".join(f'<a href="#{one.name}">{escape(one.title)}</a>' for one in page.sections),
        sections="\n".join(map(_section, page.sections)),
    )


def _section(section: Section) -> str:
    pictures = [block for block in section.blocks if isinstance(block, Picture)]
    parts = [_block(block) for block in section.blocks if not isinstance(block, Picture)]
    if pictures:
        parts.append(f'<div class="charts">{_joined(map(_block, pictures))}</div>')
    return (
        f'<section id="{section.name}">\n<h2>{escape(section.title)}</h2>\n'
        f"{_joined(parts)}\n</section>"
    )


def _block(block: Block) -> str:
    match block:
        case Sentence(line):
            return f"<p>{_line(line)}</p>"
        case Bullets(lines):
            return f"<ul>{_joined(f'<li>{_line(line)}</li>' for line in lines)}</ul>"
        case Facts(facts, are_key=True):
            return f'<dl class="tiles">{_joined(map(_tile, facts))}</dl>'
        case Facts(facts):
            rows = _joined(map(_fact, facts))
            return f'<table class="facts"><tbody>{rows}</tbody></table>'
        case Table():
            return _table(block)
        case Cards(cards):
            return f'<ul class="cards">{_joined(map(_card, cards))}</ul>'
        case Picture():
            return (
                f'<figure><h3 id="title-{block.name}">{escape(block.title)}</h3>\n'
                f"{_inline_svg(block)}\n<figcaption>{escape(block.caption)}</figcaption></figure>"
            )


def _tile(fact: Fact) -> str:
    detail = f'<span class="small">{_line(fact.detail)}</span>' if fact.detail else ""
    return f"<div><dt>{escape(fact.name)}</dt><dd>{_line(fact.line)}{detail}</dd></div>"


def _fact(fact: Fact) -> str:
    line = _line(with_detail(fact.line, " ", fact.detail))
    return f'<tr><th scope="row">{escape(fact.name)}</th><td>{line}</td></tr>'


def _card(card: Card) -> str:
    detail = f"<p>{_line(card.detail)}</p>" if card.detail else ""
    commands = "".join(
        f'<pre tabindex="0"><code>{escape(command)}</code></pre>' for command in card.commands
    )
    return f"<li><p>{_line(card.line)}</p>{detail}{commands}</li>"


def _table(table: Table) -> str:
    flush = [is_figure(cell) for cell in table.rows[0]] if table.rows else [False] * len(table.head)
    styles = [' class="number"' if right else "" for right in flush]
    head = "".join(
        f"<th{style}>{escape(text)}</th>" for text, style in zip(table.head, styles, strict=True)
    )
    rows = _joined(
        "<tr>"
        + "".join(f"<td{style}>{_line(cell)}</td>" for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _line(line: Line) -> str:
    return "".join(map(_inline, inlines(line)))


def _inline(one: Inline) -> str:
    match one:
        case Figure(_, value, path):
            if one.text == NONE_TEXT:
                return f'<span class="soft" title="not known">{NONE_TEXT}</span>'
            place = f' data-path="{escape(json.dumps(path))}"' if path else ""
            return f'<data value="{escape(json.dumps(value))}"{place}>{escape(one.text)}</data>'
        case Code(text):
            return f"<code>{escape(text)}</code>"
        case Badge(status, text):
            return f'<span class="badge {status}">{MARKS[status]}{escape(text)}</span>'
        case Soft(text):
            return f'<span class="soft">{escape(text)}</span>'
        case Swatch(number):
            return f'<span class="swatch" style="background: var(--s{number})"></span>{number}'
        case str() as text:
            return escape(text)


def _joined(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def escape(text: str) -> str:
    """Text as itself, between tags and within quotes; without characters that move or reorder what
    stands around them.
    """
    return html.escape(one_line(text))


# --- pictures


def _inline_svg(picture: Picture) -> str:
    """The picture as part of a page: without what only a file of its own needs, ids of its own, the
    page's colours.
    """
    surplus = r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->"
    svg = picture.svg[picture.svg.index("<svg ") :]
    svg = re.sub(surplus, "", svg, flags=re.DOTALL)
    svg = re.sub(r"\bid=\"", f'id="{picture.name}-', svg)
    svg = re.sub(r"(xlink:href=\"#|url\(#)", rf"\g<1>{picture.name}-", svg)
    for colour, name in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    # The view box alone gives the proportions; the page gives the width.
    tag, _, rest = svg.removeprefix("<svg ").partition(">")
    tag = re.sub(r"\b(?:width|height)=\"[^\"]*\" ?", "", tag)
    return f'<svg role="img" aria-labelledby="title-{picture.name}" {tag}>{rest}'
