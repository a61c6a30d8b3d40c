import pytest

from tracecore.perf.show.page import (
    Badge,
    Bullets,
    Card,
    Cards,
    Code,
    Fact,
    Facts,
    Figure,
    Section,
    Sentence,
    Table,
)
from tracecore.perf.show.terminal import write_text

LONG = "The machine was not quiet: 2.5% of CPU time went to other guests, which is " * 2


def lines_of(*blocks, name="label", width=60, has_colour=False):
    return write_text([Section(name, "", blocks)], width, has_colour=has_colour).splitlines()


def test_a_sentence_is_wrapped_behind_its_label_and_loses_no_word():
    lines = lines_of(Sentence(LONG))
    assert lines[0].startswith("  label       The machine")
    assert all(line.startswith(" " * 14) for line in lines[1:])
    assert all(len(line) <= 60 for line in lines)
    words = " ".join(lines).split()
    assert words == ["label", *LONG.split()]


def test_a_path_or_a_command_is_never_broken():
    path = "runs of today/" * 20
    assert lines_of(Facts((Fact("report", Code(path)),))) == [f"  report      {path}"]


def test_what_is_endless_is_cut():
    lines = lines_of(Sentence("word " * 100_000))
    assert len(lines) == 4
    assert lines[-1].endswith(" …")


def test_a_table_is_aligned_and_its_last_column_is_wrapped():
    table = Table(
        "", ("times", "reason"), ((Figure("count", 9), "no"), (Figure("count", 1000), LONG))
    )
    head, first, second, *others = lines_of(table, name="")
    assert (head, first) == ("    times  reason", "        9  no")
    assert second.startswith("    1,000  The machine")
    assert others
    assert all(line.startswith(" " * 11) and len(line) <= 60 for line in others)


def test_only_the_first_block_has_the_label():
    assert lines_of(Bullets(("a", "b")), Sentence("c")) == [
        "  label       a",
        "              b",
        "              c",
    ]


def test_a_card_has_its_command_below_it():
    card = Card(Badge("warn", "noisy_host"), "It was loud.", ("python again.py",))
    assert lines_of(Cards((card,))) == [
        "  label       noisy_host: It was loud.",
        "                python again.py",
    ]


@pytest.mark.parametrize(
    ("status", "start"), [("good", "\x1b[32m"), ("bad", "\x1b[31m"), ("warn", "\x1b[33m")]
)
def test_a_badge_has_a_colour_where_there_are_colours(status, start):
    sentence = Sentence((Badge(status, "WORD"), " and more"))
    assert lines_of(sentence, has_colour=True) == [f"  label       {start}WORD\x1b[0m and more"]
    assert lines_of(sentence) == ["  label       WORD and more"]


def test_nothing_that_is_shown_moves_the_cursor():
    lines = lines_of(Sentence("\x1b[2J\rforged\n"), Facts((Fact("\x1b[1A", Code("\x07")),)))
    assert all(line.isprintable() for line in lines)
