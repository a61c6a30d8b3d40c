"""Tables of a test as text: a row on each line, its cells between bars."""

import shlex


def rows(text: str) -> list[tuple[str, ...]]:
    """The cells of every line that is not empty."""
    lines = filter(None, map(str.strip, text.splitlines()))
    return [tuple(cell.strip() for cell in line.split(" | ")) for line in lines]


def commands(text: str) -> list[tuple[tuple[str, ...], str]]:
    r"""Rows of a command line and the complaint about it; ``\e`` and ``\n`` stand for those
    characters in the command line.
    """
    found = []
    for words, complaint in rows(text):
        given = shlex.split(words.replace("\\e", "\x1b").replace("\\n", "\n"))
        found.append((tuple(given), complaint))
    return found


def words(text: str) -> list[str]:
    """What stands between spaces and line ends: a table of one column."""
    return text.split()
