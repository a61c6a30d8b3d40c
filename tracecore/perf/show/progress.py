"""How far a slice is, while it runs: one line on a terminal, a few in a log; and the first
failures, as they happen.
"""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

from tracecore import clock
from tracecore.errors import one_line
from tracecore.perf.documents.summary import reason_text
from tracecore.perf.host.samples import Samples
from tracecore.perf.show.terminal import COLOURS, RESET, Console
from tracecore.perf.slice.commands import repro_command
from tracecore.records import EpisodeResult, Running
from tracecore.units import duration_text, seconds_text

ProgressMode = Literal["auto", "always", "never"]

REDRAW_S: Final = 0.1  # between two drawings of the line on a terminal
PLAIN_S: Final = 30.0  # between two plain lines, at most
PLAIN_STEPS: Final = 10  # plain lines for a whole slice, if it is fast
FAILURES_NAMED: Final = 5
KINDS_SHOWN: Final = 3
TICK_S: Final = REDRAW_S  # between two looks at what runs

# Of the buckets in which wall clocks are counted: percentiles come within 1 percent.
GROWTH: Final = 1.02  # of a bucket's end over its start
LEAST: Final = 1e-6  # everything up to here shares the first bucket
BUCKETS: Final = 1400  # up to about 1e6


class Watch:
    """Shows the progress and takes the samples, if there are any, of what happens."""

    def __init__(self, progress: "Progress", samples: Samples | None) -> None:
        self._progress, self._samples = progress, samples

    def add(self, row: EpisodeResult) -> None:
        """Take one finished episode."""
        self._progress.add(row)
        if self._samples:
            self._samples.add(row)

    def look(self, running: Sequence[Running]) -> None:
        """Take what is running now."""
        self._progress.look(running)
        if self._samples:
            self._samples.look(len(running))

    def close(self) -> None:
        """End: no episode runs any more. Closing twice is fine."""
        self._progress.close()
        if self._samples:
            self._samples.finish()


class Progress:
    """One line, redrawn in place, on a terminal; a plain line per tenth of the slice, or per 30 s,
    in a log.

    ``auto`` takes a terminal in CI, or one without a cursor, for a log; ``always`` redraws on every
    terminal; ``never`` writes nothing anywhere.
    """

    def __init__(
        self,
        total: int,
        console: Console,
        *,
        mode: ProgressMode = "auto",
        already_done: int = 0,
        repro: Callable[[EpisodeResult], str] = repro_command,
        monotonic_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        self._total, self._already_done, self._done = total, already_done, already_done
        self._kinds: Counter[str] = Counter()  # of failures
        self._walls_s = Sketch()
        self._running: Sequence[Running] = ()
        self._console, self._repro, self._monotonic_s = console, repro, monotonic_s
        is_live = (
            console.is_terminal if mode == "always" else console.has_cursor and not console.is_log
        )
        self._show: Callable[[], None] | None = self._redraw if is_live else self._write_plain
        if mode == "never":
            self._show = None
        self._began_s = monotonic_s()
        self._drawn_at_s = float("-inf")
        self._drawn_columns = 0
        self._next_plain_s, self._next_plain_done = self._began_s + PLAIN_S, self._next_step()

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode; one of the first failures is named, with the command that
        repeats it.
        """
        self._done += 1
        self._walls_s.add(row.wall_clock_s)
        if not row.success:
            self._kinds[row.failure_type or row.termination_reason] += 1
            if self._kinds.total() <= FAILURES_NAMED and self._show:
                self._name(row)
        if self._show:
            self._show()

    def look(self, running: Sequence[Running]) -> None:
        """Take notice of what is running, and of the time that has gone by."""
        self._running = running
        if self._show:
            self._show()

    def close(self) -> None:
        """Clear the line. Closing twice is fine."""
        self._clear()
        self._show = None

    def _name(self, row: EpisodeResult) -> None:
        self._clear()
        where = f"episode {row.episode_index + 1}: {row.agent} on {row.task_ref}, seed {row.seed}"
        self._console.write_line(
            one_line(f"failed {where}: {reason_text(row.error or row.termination_reason)}")
        )
        self._console.write_line(one_line(f"  again: {self._repro(row)}"))
        if self._kinds.total() == FAILURES_NAMED:
            self._console.write_line("further failures are counted, and not named")
        self._drawn_at_s = float("-inf")

    def _redraw(self) -> None:
        now_s = self._monotonic_s()
        if now_s - self._drawn_at_s < REDRAW_S:
            return
        # One column is left free: a full line makes some terminals wrap, and the next drawing would
        # start below.
        line = _fit(self._parts(now_s), self._console.width() - 1)
        blank = " " * (self._drawn_columns - len(line))
        self._drawn_at_s, self._drawn_columns = now_s, len(line)
        self._console.write("\r" + self._coloured(line) + blank)

    def _clear(self) -> None:
        if self._drawn_columns:
            self._console.write("\r" + " " * self._drawn_columns + "\r")
            self._drawn_columns = 0

    def _coloured(self, line: str) -> str:
        count = f"{self._kinds.total()} failed"
        is_coloured = self._kinds and self._console.has_colour
        return line.replace(count, COLOURS["bad"] + count + RESET, 1) if is_coloured else line

    def _write_plain(self) -> None:
        if self._done < self._next_plain_done and self._monotonic_s() < self._next_plain_s:
            return
        now_s = self._monotonic_s()
        self._console.write_line("  ".join(self._parts(now_s)))
        self._next_plain_s, self._next_plain_done = now_s + PLAIN_S, self._next_step()

    def _next_step(self) -> int:
        """The number of finished episodes at which the next tenth is full."""
        tenths = self._done * PLAIN_STEPS // max(self._total, 1) + 1
        return -(-tenths * self._total // PLAIN_STEPS)

    def _parts(self, now_s: float) -> list[str]:
        """The line in pieces, those at the end are left out first."""
        ran, elapsed_s = self._done - self._already_done, now_s - self._began_s
        percent = self._done * 100 // max(self._total, 1)
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._kinds.most_common(KINDS_SHOWN))
        parts = [
            f"{self._done}/{self._total} ({percent}%)",
            f"{self._kinds.total()} failed{f' ({kinds})' if kinds else ''}",
        ]
        if ran > 0 and elapsed_s > 0:
            rate = ran / elapsed_s
            parts += [f"{rate:.1f}/s", f"{duration_text((self._total - self._done) / rate)} left"]
        if ran > 0:
            p50_s, p95_s = (self._walls_s.percentile(percent) for percent in (50, 95))
            parts.append(f"p50 {seconds_text(p50_s)}  p95 {seconds_text(p95_s)}")
        if self._running:
            oldest = min(self._running, key=lambda running: running.since_s)
            age_s = max(0.0, now_s - oldest.since_s)
            what = f"episode {oldest.job.index + 1} {one_line(oldest.job.task.ref)}"
            parts += [f"{len(self._running)} in flight", f"oldest {age_s:.1f}s: {what}"]
        return parts


def _fit(parts: Sequence[str], columns: int) -> str:
    """As many of the parts as there is room for, and of the first as much as there is."""
    lines = list(itertools.accumulate(parts, "{}  {}".format))
    fitting = [line for line in lines if len(line) <= columns]
    return fitting[-1] if fitting else lines[0][: max(columns, 0)]


class Sketch:
    """Counts positive numbers in buckets that grow by 2 percent: every percentile is within 1
    percent of the true one.

    Takes 11 kB however many numbers come. For what is shown while a slice runs; the summary has the
    exact values.
    """

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS

    def add(self, value: float) -> None:
        """Take one more number."""
        place = int(math.log(value / LEAST) / _LOG_GROWTH) if value > LEAST else 0
        self._counts[min(place, BUCKETS - 1)] += 1

    def percentile(self, percent: float) -> float:
        """The nearest-rank percentile, to 1 percent, of one number or more."""
        passed = list(itertools.accumulate(self._counts))
        place = bisect.bisect_left(passed, max(percent * passed[-1] / 100, 1))
        return float(LEAST * GROWTH ** (place + 0.5))


_LOG_GROWTH: Final = math.log(GROWTH)
