import re

import pytest

from tracecore.perf.show.markdown import code, escape, fence, write_markdown, write_markdown_within
from tracecore.perf.show.page import Badge, Figure, Page, Section, Sentence, Table


def page_of(*sections):
    return Page("A <title>", Badge("good", "PASS"), (), (Sentence("The *lead*."),), sections)


def table_of(rows):
    cells = tuple((f"row {number}", Figure("count", number)) for number in range(rows))
    return Table("", ("name", "count"), cells, "rows, elsewhere")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b <i> *c* [d](e) `f` #1 @g", r"a\|b &lt;i&gt; \*c\* \[d\](e) \`f\` \#1 &#64;g"),
        ("https://x www.y.z", "https&#58;//x www&#46;y.z"),
        ("- not a list", r"\- not a list"),
        ("1. not a list", r"1\. not a list"),
        ("-12.5 and 0.1.0", "-12.5 and 0.1.0"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_text_is_itself(text, escaped):
    assert escape(text) == escaped


def test_long_text_is_cut():
    assert len(escape("x" * 10_000)) == 500


def test_code_holds_backticks_and_ends_no_cell():
    assert code("a`b``c", in_table=True) == "```a`b``c```"
    assert code("`", in_table=True) == "`` ` ``"
    assert code("a|b", in_table=True) == r"`a\|b`"
    assert code("a|b", in_table=False) == "`a|b`"
    assert fence("x ``` y").startswith("````sh\n")


def test_a_page_is_headings_paragraphs_and_tables():
    text = write_markdown(page_of(Section("rows", "Rows", (table_of(2),))), 3)
    assert text == (
        "### A &lt;title&gt;\n\nThe \\*lead\\*.\n\n#### Rows\n\n"
        "| name | count |\n| --- | ---: |\n| row 0 | 0 |\n| row 1 | 1 |\n"
    )


def test_a_folded_section_opens_on_request():
    text = write_markdown(page_of(Section("rows", "Rows", (table_of(1),), is_folded=True)))
    assert re.search(
        r"<details><summary>Rows</summary>\n\n\|.*\|\n\n</details>\n$", text, re.DOTALL
    )


def test_a_page_that_would_be_too_large_loses_rows_of_folded_tables_alone():
    page = page_of(
        Section("kept", "Kept", (table_of(30),)),
        Section("rows", "Rows", (table_of(5000),), is_folded=True),
        Section("others", "Others", (table_of(3),), is_folded=True),
    )
    text = write_markdown_within(page, 20_000, 1)
    assert len(text.encode()) <= 20_000
    assert text.count("| row 29 |") >= 1
    shown = text.index("<details>")
    hidden = int(re.search(r"and (\d+) more rows, elsewhere", text)[1])
    assert text[shown:].count("\n| row ") == 5003 - hidden
    assert write_markdown_within(page, 10_000_000, 1) == write_markdown(page, 1)
