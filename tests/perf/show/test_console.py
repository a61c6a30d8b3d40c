import io
import os
import pty
import subprocess
import sys

import pytest

from tracecore.perf.documents.summary import Summary
from tracecore.perf.show.console import (
    Console,
    human_summary,
)

STAMP = "20260131T235959Z"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(Terminal):
    def write(self, _):
        raise BrokenPipeError(32, "Broken pipe")


def closed_stream():
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Broken(), closed_stream()], ids=["broken", "closed"])
def test_a_stream_that_is_gone_changes_nothing(stream):
    console = Console(stream, {})
    console.say("still here")
    console.write("and here")
    assert console.width() == 80


def test_no_stderr_at_all_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    Console().say("to nobody")


@pytest.mark.parametrize(
    ("environ", "cursor", "colour", "log"),
    [
        ({"TERM": "xterm"}, True, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False, False),
        ({"TERM": "dumb"}, False, False, False),
        ({"CI": "true"}, True, True, True),
        ({"CI": "false"}, True, True, False),
    ],
)
def test_the_environment_says_what_a_terminal_can_do(environ, cursor, colour, log):
    console = Console(Terminal(), environ)
    assert (console.has_cursor, console.has_colour, console.is_log) == (cursor, colour, log)


SCRIPT = """
from tracecore.perf.show.console import Console
console = Console()
for number in range(20):
    console.write(f"\\r{number}" if console.is_terminal else "")
console.say("done \\u00e9 \\ud800")
"""


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(exec 0<&-)"])
def test_a_real_stderr_that_takes_nothing_leaves_the_exit_code_alone(redirection):
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, SCRIPT]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_a_pipe_without_a_reader_leaves_the_exit_code_alone():
    reader, writer = os.pipe()
    os.close(reader)
    assert (
        subprocess.run([sys.executable, "-c", SCRIPT], check=False, stderr=writer).returncode == 0
    )
    os.close(writer)


def test_a_locale_without_the_letters_gets_them_escaped():
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, env=environ
    )
    assert run.stderr.endswith(b"done \\xe9 \\ud800\n")


def test_a_real_terminal_is_seen_as_one():
    main, side = pty.openpty()
    try:
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {
            "TERM": "xterm"
        }
        subprocess.run([sys.executable, "-c", SCRIPT], check=True, stderr=side, env=environ)
        text = os.read(main, 100_000)
    finally:
        os.close(main)
        os.close(side)
    assert text.startswith(b"\r0\r1\r2")
    assert b"done " in text


def document_of(rows, **changes):
    summary = Summary()
    for row in rows:
        summary.add(row)
    arguments = {
        "episodes_requested": len(rows),
        "workers": 2,
        "runs_root": "runs",
        "system_samples": {},
        "elapsed_s": 0.5,
    }
    return summary.document(**{**arguments, **changes})


def test_a_slice_is_told_in_a_few_lines(make_row):
    rows = [
        make_row(0),
        make_row(1, wall_clock_s=1.5, error="agent raised ValueError: no"),
        make_row(2),
    ]
    text = human_summary(
        document_of(rows), {"summary": "out/s.json"}, stamp=STAMP, next_command="python x --resume"
    )
    assert text.splitlines() == [
        f"slice {STAMP}: 2 passed, 1 failed",
        "  wall clock  p50 250 ms   p95 1.5 s   max 1.5 s",
        "  rate        6.0 episodes/s on 2 workers",
        "  artifacts   3 files, 3 kB in runs",
        "  failures",
        "           1  agent raised ValueError: no",
        "  summary     out/s.json",
        "  next        python x --resume",
    ]


def test_an_empty_slice_is_told_too():
    text = human_summary(document_of([], elapsed_s=None, episodes_requested=4), {}, stamp=STAMP)
    assert text == f"slice {STAMP}: 0 passed, 0 failed, incomplete: 0 of 4"


def test_an_interrupted_slice_says_how_far_it_came(make_row):
    text = human_summary(
        document_of([make_row(0)], episodes_requested=9, interrupted=True), {}, stamp=STAMP
    )
    assert text.startswith(f"slice {STAMP}: 1 passed, 0 failed, interrupted after 1 of 9\n")


def test_five_reasons_are_shown_the_most_frequent_first(make_row):
    rows = [make_row(index, error=f"reason {index % 8}") for index in range(20)]
    lines = human_summary(document_of(rows), {}, stamp=STAMP).splitlines()
    start = lines.index("  failures")
    assert [line.split(maxsplit=1)[1] for line in lines[start + 1 : start + 6]] == [
        f"reason {index}" for index in range(5)
    ]
    assert lines[start + 6].split() == [
        "and",
        "3",
        "more",
        "reasons,",
        "in",
        "the",
        "summary",
        "file",
    ]


def test_what_agents_say_moves_no_cursor(make_row):
    rows = [make_row(0, error="\x1b[2J\nforged line\r" + "x" * 500)]
    text = human_summary(
        document_of(rows, runs_root="runs\x1b[31m"),
        {"summary": "a\nb"},
        stamp=STAMP,
        next_command="c\rd",
    )
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(line) < 130 for line in text.split("\n"))
    assert "\\x1b[2J\\nforged line\\r" in text
