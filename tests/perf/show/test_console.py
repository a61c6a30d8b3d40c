import io
import os
import pty
import subprocess
import sys

import pytest

from tracecore.perf.show.terminal import Console


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
    console.write_line("still here")
    console.write("and here")
    assert console.width() == 80


def test_no_stderr_at_all_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    Console().write_line("to nobody")


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
from tracecore.perf.show.terminal import Console
console = Console()
for number in range(20):
    console.write(f"\\r{number}" if console.is_terminal else "")
console.write_line("done \\u00e9 \\ud800")
"""


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(exec 0<&-)"])
def test_a_real_stderr_that_takes_nothing_leaves_the_exit_code_alone(redirection):
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, SCRIPT]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


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
