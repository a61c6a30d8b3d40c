"""What a person sees on stderr. It never fails, and changes nothing else."""

import os
import select
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from tracecore.errors import one_line
from tracecore.records import JsonObject
from tracecore.units import bytes_text, counted, seconds_text

# at most 4000 bytes: a pipe that has room at all has room for so many
PIECE_CHARACTERS: Final = 400
LAST_PATIENCE_S: Final = 0.5  # for a stream that takes nothing, once somebody has asked for the end
REASONS_SHOWN: Final = 5
REASON_WIDTH: Final = 100
RED: Final = "\x1b[31m"
RESET: Final = "\x1b[0m"


class Console:
    """A stream that takes text if it can: closed, broken and absent ones are silent.

    One that takes nothing for now, such as a full pipe, is waited for; but not any longer once
    ``hurry_fd`` is readable.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        hurry_fd: int | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._hurry_fd = hurry_fd
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self.is_terminal = self._is_terminal()
        self.has_cursor = self.is_terminal and environ.get("TERM") != "dumb"
        self.has_colour = self.has_cursor and not environ.get("NO_COLOR")
        # a terminal there is read afterwards, as a file
        self.is_log = environ.get("CI", "").lower() not in {"", "0", "false"}

    def say(self, line: str) -> None:
        """Write a line, or several."""
        self.write(line + "\n")

    def write(self, text: str) -> None:
        """Write ``text`` as it is, at once."""
        for at in range(0, len(text), PIECE_CHARACTERS):
            if self._stream is None:
                return
            try:
                self._wait_for_room(self._stream)
                self._stream.write(text[at : at + PIECE_CHARACTERS])
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: it is closed
                self._stream = None

    def width(self) -> int:
        """Columns of the terminal; 80 where nobody knows."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80 if self._stream else 80
        except (OSError, ValueError):
            return 80

    def _wait_for_room(self, stream: TextIO) -> None:
        """Wait until the stream takes more; raises BlockingIOError where it does not and somebody
        is in a hurry.
        """
        if self._hurry_fd is None:
            return
        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLOUT)
        waiting.register(self._hurry_fd, select.POLLIN)
        if any(fd != self._hurry_fd for fd, _ in waiting.poll()):
            return
        waiting.unregister(self._hurry_fd)
        if not waiting.poll(LAST_PATIENCE_S * 1000):
            raise BlockingIOError

    def _is_terminal(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False


def human_summary(
    document: JsonObject,
    artifacts: Mapping[str, str],
    *,
    stamp: str,
    next_command: str | None = None,
) -> str:
    """The slice in a few lines for a person; no line ends the text.

    Args:
        document: The summary document.
        artifacts: The paths of the perf files, by what they are.
        stamp: Of the slice.
        next_command: What the person may want to type now.
    """
    lines = [
        _headline(document, stamp),
        *_figures(document),
        *_failures(document),
        *_judgement(document),
        *_files(artifacts),
        *([f"  next        {one_line(next_command)}"] if next_command else []),
    ]
    return "\n".join(lines)


def _headline(document: JsonObject, stamp: str) -> str:
    totals = document["summary"]
    words = f"slice {stamp}: {totals['passed']} passed, {totals['failed']} failed"
    finished, requested = document["episodes"], document["episodes_requested"]
    if document["interrupted"]:
        return f"{words}, interrupted after {finished} of {requested}"
    return words if finished == requested else f"{words}, incomplete: {finished} of {requested}"


def _figures(document: JsonObject) -> list[str]:
    totals, kept = document["summary"], document["run_artifacts"]
    lines = []
    if totals["p50_wall_clock_s"] is not None:
        wall = [(name, totals[f"{name}_wall_clock_s"]) for name in ("p50", "p95")]
        wall.append(("max", document["max_wall_clock_s"]))
        lines.append(
            "  wall clock  " + "   ".join(f"{name} {seconds_text(value)}" for name, value in wall)
        )
    if totals["throughput_eps"] is not None:
        lines.append(
            f"  rate        {totals['throughput_eps']:.1f} episodes/s on"
            f" {counted(totals['workers'], 'worker')}"
        )
    if kept["file_count"]:
        files, size = counted(kept["file_count"], "file"), bytes_text(kept["total_bytes"])
        lines.append(f"  artifacts   {files}, {size} in {one_line(kept['root'])}")
    return lines


def _failures(document: JsonObject) -> list[str]:
    reasons = sorted(document["failure_reasons"].items(), key=lambda item: -item[1])
    shown = [f"  {count:>10}  {_cut(one_line(text))}" for text, count in reasons[:REASONS_SHOWN]]
    hidden = len(reasons) - REASONS_SHOWN
    more = (
        [f"  {'':>10}  and {counted(hidden, 'more reason')}, in the summary file"]
        if hidden > 0
        else []
    )
    return ["  failures", *shown, *more] if reasons else []


def _judgement(document: JsonObject) -> list[str]:
    """What stands out, and the verdict where something was judged."""
    lines = [
        f"  finding     {_cut(one_line(finding['text']))}"
        for finding in document.get("findings", [])
    ]
    verdict = document.get("verdict")
    if verdict and (verdict["thresholds"] or verdict["breaches"]):
        word = "passed" if verdict["exit_code"] == 0 else f"failed (exit {verdict['exit_code']})"
        lines.append(f"  verdict     {word}")
        lines += [f"  {'':>10}  {one_line(reason)}" for reason in verdict["reasons"]]
        lines += [f"  {'':>10}  warning: {one_line(warning)}" for warning in verdict["warnings"]]
    return lines


def _files(artifacts: Mapping[str, str]) -> list[str]:
    # they lie beside the report
    shown = {kind: path for kind, path in artifacts.items() if not kind.startswith("chart_")}
    return [f"  {one_line(kind):<10}  {one_line(path)}" for kind, path in shown.items()]


def _cut(text: str) -> str:
    return text if len(text) <= REASON_WIDTH else text[: REASON_WIDTH - 1] + "…"
