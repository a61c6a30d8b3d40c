import functools
import io
import itertools
import shlex
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.perf.show.progress import Progress, Sketch
from tracecore.perf.show.terminal import Console
from tracecore.perf.slice.commands import repro_command
from tracecore.records import Running
from tracecore.stats import nearest_rank

COUNTS = "p50 249 ms  p95 249 ms"  # of walls of 0.25 s, to 1 percent


class Terminal(io.StringIO):
    columns = 200

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


@pytest.fixture
def start(clock, monkeypatch):
    monkeypatch.setattr(Console, "width", lambda console: getattr(console._stream, "columns", 80))

    def make(total, stream, environ=None, **options):
        return Progress(total, Console(stream, environ or {}), monotonic_s=clock, **options)

    return make


@pytest.fixture
def run(clock, make_row):
    def advance(progress, episodes, seconds_each, **row):
        for index in range(episodes):
            clock.now_s += seconds_each
            progress.add(make_row(index, **row))

    return advance


def running(index, since_s, task_ref="rate_limited_api@1"):
    return Running(SimpleNamespace(index=index, task=SimpleNamespace(ref=task_ref)), since_s)


def test_a_terminal_has_one_line_that_is_redrawn_and_cleared(start, run):
    terminal = Terminal()
    progress = start(4, terminal)
    run(progress, 2, 0.5)
    line = f"2/4 (50%)  0 failed  2.0/s  1s left  {COUNTS}"
    assert terminal.getvalue() == f"\r1/4 (25%)  0 failed  2.0/s  2s left  {COUNTS}\r{line}"
    progress.close()
    assert terminal.getvalue().endswith("\r" + " " * len(line) + "\r")
    assert "\n" not in terminal.getvalue()


def test_closing_twice_clears_once_and_nothing_follows(start, run):
    terminal = Terminal()
    progress = start(4, terminal)
    run(progress, 1, 0.5)
    progress.close()
    written = terminal.getvalue()
    progress.close()
    run(progress, 1, 0.5, error="no")
    progress.look([running(3, 0.0)])
    assert terminal.getvalue() == written


def test_a_shorter_line_leaves_nothing_of_a_longer_one(start, run):
    terminal = Terminal()
    progress = start(9, terminal)
    run(progress, 1, 10_000.0)
    run(progress, 8, 0.2)
    drawn = terminal.getvalue().split("\r")[1:]
    assert drawn[0].startswith("1/9 (11%)  0 failed  0.0/s  22h13m left")
    assert drawn[-1].startswith("9/9 (100%)  0 failed  0.0/s  0s left")
    assert all(len(later) >= len(earlier.rstrip()) for earlier, later in itertools.pairwise(drawn))
    assert any(line.endswith("  ") for line in drawn)


def test_there_are_ten_drawings_a_second_at_most(start, run):
    terminal = Terminal()
    progress = start(1000, terminal)
    for _ in range(1000):
        run(progress, 1, 0.0005)
        progress.look([])
    assert 4 <= terminal.getvalue().count("\r") <= 6


def test_the_oldest_episode_in_flight_is_told_even_when_none_finishes(start, clock):
    terminal = Terminal()
    progress = start(9, terminal)
    clock.now_s += 7
    progress.look([running(4, 106.0), running(2, 101.5), running(5, 106.9)])
    assert terminal.getvalue() == (
        "\r0/9 (0%)  0 failed  3 in flight  oldest 5.5s: episode 3 rate_limited_api@1"
    )


def test_a_narrow_terminal_gets_the_first_parts_whole(start, run):
    terminal = Terminal()
    terminal.columns = 40
    progress = start(4, terminal)
    run(progress, 1, 0.5)
    assert terminal.getvalue() == "\r1/4 (25%)  0 failed  2.0/s  2s left"


def test_failures_are_counted_by_kind_and_red_where_colour_is_welcome(start, run):
    terminal = Terminal()
    progress = start(40, terminal)
    run(progress, 3, 0.5, error="late", failure_type="timeout")
    run(progress, 1, 0.5, error="no")
    assert "4/40 (10%)  \x1b[31m4 failed\x1b[0m (timeout 3, logic_failure 1)" in terminal.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_the_first_failures_are_named_with_the_command_that_repeats_each(start, run, stream):
    written = stream()
    progress = start(
        100, written, repro=functools.partial(repro_command, options=["--tasks-dir", "my tasks"])
    )
    run(progress, 9, 0.01, error="agent raised ValueError: \x1b[2J no")
    progress.close()
    lines = [line.rpartition("\r")[2] for line in written.getvalue().splitlines()]
    named = [line for line in lines if line.startswith("failed ")]
    assert len(named) == 5
    assert (
        named[2]
        == "failed episode 3: agents/toy_agent.py on filesystem_hidden_config@1, seed 44: agent"
        " raised ValueError: \\x1b[2J no"
    )
    commands = [line.removeprefix("  again: ") for line in lines if line.startswith("  again: ")]
    assert shlex.split(commands[2])[-2:] == ["--tasks-dir", "my tasks"]
    assert len(commands) == 5
    assert lines.count("further failures are counted, and not named") == 1


@pytest.mark.parametrize(
    ("stream", "environ"), [(Terminal(), {}), (io.StringIO(), {}), (Terminal(), {"CI": "true"})]
)
def test_never_is_silent_everywhere(start, run, stream, environ):
    progress = start(10, stream, environ, mode="never")
    run(progress, 10, 60.0, error="no")
    progress.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("stream", "environ"),
    [(io.StringIO(), {}), (Terminal(), {"CI": "1"}), (Terminal(), {"TERM": "dumb"})],
)
def test_a_log_has_one_line_per_tenth(start, run, stream, environ):
    run(start(1000, stream, environ), 1000, 0.01)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [f"{hundred}00/1000" for hundred in range(1, 11)]
    assert lines[4] == f"500/1000 (50%)  0 failed  100.0/s  5s left  {COUNTS}"


def test_a_slow_log_has_a_line_every_thirty_seconds(start, run):
    log = io.StringIO()
    run(start(1000, log), 9, 10.0)
    assert [line.split()[0] for line in log.getvalue().splitlines()] == [
        "3/1000",
        "6/1000",
        "9/1000",
    ]


def test_a_log_that_waits_for_one_episode_has_its_lines_too(start, clock):
    log = io.StringIO()
    progress = start(10, log)
    for _ in range(90):
        clock.now_s += 1
        progress.look([running(0, 100.0)])
    assert [line.split("  ")[-1] for line in log.getvalue().splitlines()] == [
        f"oldest {age}.0s: episode 1 rate_limited_api@1" for age in (30, 60, 90)
    ]


@pytest.mark.parametrize("total", [1, 3, 7, 24])
def test_the_last_episode_of_a_small_slice_has_its_line(start, run, total):
    log = io.StringIO()
    run(start(total, log, mode="always"), total, 0.01)
    assert log.getvalue().splitlines()[-1].startswith(f"{total}/{total} (100%)")
    assert len(log.getvalue().splitlines()) <= 10


@pytest.mark.parametrize(
    ("total", "environ", "options", "seconds_each", "line"),
    [
        (100, {}, {"already_done": 90}, 1.0, "91/100 (91%)  0 failed  1.0/s  9s left"),
        (2, {}, {}, 0.0, f"1/2 (50%)  0 failed  {COUNTS}"),  # divides by nothing
        (4, {"CI": "1"}, {"mode": "always"}, 0.5, "1/4 (25%)  0 failed  2.0/s"),
        (4, {"NO_COLOR": "1"}, {"colour": None}, 0.5, "1/4 (25%)  1 failed (logic_failure 1)  2"),
    ],
)
def test_a_terminal_has_its_line_whatever_else_is_asked(
    start, run, total, environ, options, seconds_each, line
):
    terminal = Terminal()
    row = {"error": "no"} if "colour" in options else {}
    options = {name: value for name, value in options.items() if name != "colour"}
    run(start(total, terminal, environ, **options), 1, seconds_each, **row)
    assert terminal.getvalue().rpartition("\r")[2].startswith(line)


# --- percentiles of what is still coming


@given(st.lists(st.floats(2e-6, 1e5), min_size=1, max_size=300))
def test_every_percentile_is_within_one_percent_of_the_true_one(values):
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    percents = (1, 50, 95, 100)
    exact = [nearest_rank(sorted(values), percent) for percent in percents]
    assert list(map(sketch.percentile, percents)) == pytest.approx(exact, rel=0.0101)


@pytest.mark.parametrize(("value", "end"), [(0.0, 1e-6), (-1.0, 1e-6), (1e300, 1.0901e6)])
def test_values_off_the_scale_count_at_its_ends(value, end):
    sketch = Sketch()
    sketch.add(value)
    assert sketch.percentile(50) == pytest.approx(end, rel=0.0101)
