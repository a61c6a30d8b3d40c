"""Reads what a GitHub job is told, by the rules of its runner."""

import re


def read_tables(page):
    """Every table of a page: header cells, and rows of cells; each row must have as many cells as
    its header.
    """
    tables, lines = [], page.splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|( ---:? \|)+", line):
            header = split_row(lines[number - 1])
            body = []
            for row in lines[number + 1 :]:
                if not row.startswith("|"):
                    break
                body.append(split_row(row))
            assert all(len(row) == len(header) for row in body)
            if any(header):  # facts have none
                tables.append((header, body))
    return tables


def split_row(line):
    assert line.startswith("|")
    assert line.endswith("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def read_outputs(text):
    """``name=value`` lines; anything else makes the runner fail the step."""
    pairs = [line.partition("=") for line in text.splitlines()]
    assert all(separator and re.fullmatch(r"[A-Za-z_][\w-]*", name) for name, separator, _ in pairs)
    return {name: value for name, _, value in pairs}


def read_command(line):
    """A workflow command: kind, properties, message, unescaped as the runner does it."""
    match = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
    assert match, line
    message = match[3].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    return match[1], dict(pair.split("=") for pair in match[2].split(",")), message
