import io
import itertools
import os
import pty
import subprocess
import sys

import pytest

from tracecore.perf.console import Console, Progress, bytes_text, duration_text, human_summary, seconds_text
from tracecore.perf.summary import Summary

STAMP = "20260131T235959Z"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def run(progress, clock, episodes, seconds_each, *, success=True):
    for _ in range(episodes):
        clock.now_s += seconds_each
        progress.add(success=success)


def test_a_terminal_has_one_line_that_is_redrawn_and_cleared(clock):
    terminal = Terminal()
    progress = Progress(4, Console(terminal, {}), monotonic_s=clock)
    run(progress, clock, 2, 0.5)
    assert terminal.getvalue() == "\r1/4 (25%)  0 failed  2.0/s  2s left\r2/4 (50%)  0 failed  2.0/s  1s left"
    progress.close()
    assert terminal.getvalue().endswith("\r" + " " * len("2/4 (50%)  0 failed  2.0/s  1s left") + "\r")
    assert "\n" not in terminal.getvalue()


def test_closing_twice_clears_once_and_nothing_follows(clock):
    terminal = Terminal()
    progress = Progress(4, Console(terminal, {}), monotonic_s=clock)
    run(progress, clock, 1, 0.5)
    progress.close()
    written = terminal.getvalue()
    progress.close()
    run(progress, clock, 1, 0.5)
    assert terminal.getvalue() == written


def test_a_shorter_line_leaves_nothing_of_a_longer_one(clock):
    terminal = Terminal()
    progress = Progress(9, Console(terminal, {}), monotonic_s=clock)
    run(progress, clock, 1, 10_000.0)
    run(progress, clock, 8, 0.2)
    first, *_, last = terminal.getvalue().split("\r")[1:]
    assert first == "1/9 (11%)  0 failed  0.0/s  22h13m left"
    assert last.rstrip() == "9/9 (100%)  0 failed  0.0/s  0s left"
    drawn = terminal.getvalue().split("\r")[1:]
    assert all(len(later) >= len(earlier.rstrip()) for earlier, later in itertools.pairwise(drawn))
    assert any(line.endswith("  ") for line in drawn)


def test_there_are_ten_drawings_a_second_at_most(clock):
    terminal = Terminal()
    run(Progress(1000, Console(terminal, {}), monotonic_s=clock), clock, 1000, 0.001)
    assert 9 <= terminal.getvalue().count("\r") <= 11


def test_failures_are_red_where_colour_is_welcome(clock):
    terminal = Terminal()
    run(Progress(4, Console(terminal, {}), monotonic_s=clock), clock, 1, 0.5, success=False)
    assert "\x1b[31m1 failed\x1b[0m" in terminal.getvalue()


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_left_out_where_it_is_not(clock, environ):
    terminal = Terminal()
    run(Progress(4, Console(terminal, environ), monotonic_s=clock), clock, 1, 0.5, success=False)
    assert "1 failed" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_a_log_holds_no_progress(clock, mode):
    log = io.StringIO()
    progress = Progress(10, Console(log, {}), mode=mode, monotonic_s=clock)
    run(progress, clock, 10, 60.0)
    progress.close()
    assert log.getvalue() == ""


def test_never_is_silent_on_a_terminal_too(clock):
    terminal = Terminal()
    progress = Progress(10, Console(terminal, {}), mode="never", monotonic_s=clock)
    run(progress, clock, 10, 60.0)
    progress.close()
    assert terminal.getvalue() == ""


def test_always_gives_a_log_one_line_per_tenth(clock):
    log = io.StringIO()
    run(Progress(1000, Console(log, {}), mode="always", monotonic_s=clock), clock, 1000, 0.01)
    lines = log.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [f"{hundred}00/1000" for hundred in range(1, 11)]
    assert lines[4] == "500/1000 (50%)  0 failed  100.0/s  5s left"


def test_always_gives_a_slow_log_a_line_every_thirty_seconds(clock):
    log = io.StringIO()
    run(Progress(1000, Console(log, {}), mode="always", monotonic_s=clock), clock, 9, 10.0)
    assert [line.split()[0] for line in log.getvalue().splitlines()] == ["3/1000", "6/1000", "9/1000"]


@pytest.mark.parametrize("total", [1, 3, 7, 24])
def test_the_last_episode_of_a_small_slice_has_its_line(clock, total):
    log = io.StringIO()
    run(Progress(total, Console(log, {}), mode="always", monotonic_s=clock), clock, total, 0.01)
    assert log.getvalue().splitlines()[-1].startswith(f"{total}/{total} (100%)")
    assert len(log.getvalue().splitlines()) <= 10


def test_a_resumed_slice_counts_what_was_there_but_not_as_speed(clock):
    terminal = Terminal()
    run(Progress(100, Console(terminal, {}), already_done=90, monotonic_s=clock), clock, 1, 1.0)
    assert terminal.getvalue() == "\r91/100 (91%)  0 failed  1.0/s  9s left"


def test_a_clock_that_stands_still_divides_by_nothing(clock):
    terminal = Terminal()
    run(Progress(2, Console(terminal, {}), monotonic_s=clock), clock, 2, 0.0)
    assert terminal.getvalue() == "\r1/2 (50%)  0 failed"


class Broken(Terminal):
    def write(self, _):
        raise BrokenPipeError(32, "Broken pipe")


def closed_stream():
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Broken(), closed_stream()], ids=["broken", "closed"])
def test_a_stream_that_is_gone_changes_nothing(clock, stream):
    console = Console(stream, {})
    progress = Progress(3, console, mode="always", monotonic_s=clock)
    run(progress, clock, 3, 60.0)
    progress.close()
    console.say("still here")
    assert console.width() == 80


def test_no_stderr_at_all_changes_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    run(Progress(3, Console(), mode="always", monotonic_s=clock), clock, 3, 60.0)


SCRIPT = """
from tracecore.perf.console import Console, Progress
console = Console()
progress = Progress(20, console, mode="always")
for _ in range(20):
    progress.add(success=False)
progress.close()
console.say("done \\u00e9 \\ud800")
"""


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(exec 0<&-)"])
def test_a_real_stderr_that_takes_nothing_leaves_the_exit_code_alone(redirection):
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, SCRIPT]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_a_pipe_without_a_reader_leaves_the_exit_code_alone():
    reader, writer = os.pipe()
    os.close(reader)
    assert subprocess.run([sys.executable, "-c", SCRIPT], check=False, stderr=writer).returncode == 0
    os.close(writer)


def test_a_locale_without_the_letters_gets_them_escaped():
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, env=environ)
    assert run.stderr.endswith(b"done \\xe9 \\ud800\n")


def test_a_real_terminal_is_seen_as_one():
    main, side = pty.openpty()
    try:
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
        subprocess.run([sys.executable, "-c", SCRIPT], check=True, stderr=side, env=environ)
        text = os.read(main, 100_000)
    finally:
        os.close(main)
        os.close(side)
    assert text.startswith(b"\r1/20 (5%)  ")
    assert b"\x1b[31m1 failed\x1b[0m" in text
    cleared, said = text.rsplit(b"\r", 2)[0], text.rsplit(b"\r", 2)[1]
    assert cleared.endswith(b"    ")
    assert said.startswith(b"done ")


def document_of(rows, **changes):
    summary = Summary()
    for row in rows:
        summary.add(row)
    arguments = {"episodes_requested": len(rows), "workers": 2, "runs_root": "runs", "system_samples": {}, "elapsed_s": 0.5}
    return summary.document(**{**arguments, **changes})


def test_a_slice_is_told_in_a_few_lines(make_row):
    rows = [make_row(0), make_row(1, wall_clock_s=1.5, error="agent raised ValueError: no"), make_row(2)]
    text = human_summary(document_of(rows), {"summary": "out/s.json"}, stamp=STAMP, next_command="python x --resume")
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
    text = human_summary(document_of([make_row(0)], episodes_requested=9, interrupted=True), {}, stamp=STAMP)
    assert text.startswith(f"slice {STAMP}: 1 passed, 0 failed, interrupted after 1 of 9\n")


def test_five_reasons_are_shown_the_most_frequent_first(make_row):
    rows = [make_row(index, error=f"reason {index % 8}") for index in range(20)]
    lines = human_summary(document_of(rows), {}, stamp=STAMP).splitlines()
    start = lines.index("  failures")
    assert [line.split(maxsplit=1)[1] for line in lines[start + 1 : start + 6]] == [f"reason {index}" for index in range(5)]
    assert lines[start + 6].split() == ["and", "3", "more", "reasons,", "in", "the", "summary", "file"]


def test_what_agents_say_moves_no_cursor(make_row):
    rows = [make_row(0, error="\x1b[2J\nforged line\r" + "x" * 500)]
    text = human_summary(document_of(rows, runs_root="runs\x1b[31m"), {"summary": "a\nb"}, stamp=STAMP, next_command="c\rd")
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(line) < 130 for line in text.split("\n"))
    assert "\\x1b[2J\\nforged line\\r" in text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (7620, "2h07m")])
def test_durations_are_short(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (831, "831 B"), (10_240, "10.2 kB"), (1.5e6, "1.5 MB"), (2e13, "20 TB")]
)
def test_sizes_are_short(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123456, "12.3 ms"), (0.0000042, "0.0042 ms"), (1.23456, "1.235 s"), (180.04, "180 s")]
)
def test_measured_times_keep_three_digits_or_more(seconds, text):
    assert seconds_text(seconds) == text
