"""Several slices in one invocation: as many runs of the same as a comparison of times needs."""

from collections.abc import Sequence
from typing import Final

from tracecore.exit_codes import EXIT_CODES, EXIT_GOOD, FINISHED
from tracecore.perf.harness import run_slice
from tracecore.perf.show.terminal import Console
from tracecore.perf.slice.options import SliceOptions
from tracecore.records import JsonObject
from tracecore.stats import median

FIGURES: Final = ("p50_wall_clock_s", "p95_wall_clock_s", "throughput_eps")  # of each summary


def run_slices(options: SliceOptions) -> JsonObject:
    """Run a slice as often as is asked, each time with fresh workers and a set of files of its own;
    one that could not be finished is the last. Gives what stdout holds.

    Raises:
        InputError: Something that was given is wrong.
        OutputError: Nothing could be written at all.
    """
    asked = options.run.repeat
    if asked == 1:
        return run_slice(options)
    slices: list[JsonObject] = []
    while len(slices) < asked:
        slices.append(run_slice(options))
        if slices[-1]["exit_code"] not in FINISHED:
            break
    document = document_of(slices, asked)
    if not options.output.quiet:
        Console().write_line("\n".join(as_lines(document)))
    return document


def document_of(slices: Sequence[JsonObject], asked: int) -> JsonObject:
    """What stdout holds of several slices: each by its stamp, and one summary over them."""
    exit_code = min((one["exit_code"] for one in slices), key=EXIT_CODES.index)
    names = ("stamp", "exit_code", "artifacts", "reasons", "error")
    return {
        "ok": exit_code == EXIT_GOOD and len(slices) == asked,
        "exit_code": exit_code,
        "stamps": [one["stamp"] for one in slices],
        "slices": [{name: one[name] for name in names if name in one} for one in slices],
        "summary": summary_of([one["summary"] for one in slices if "summary" in one], asked),
    }


def summary_of(summaries: Sequence[JsonObject], asked: int) -> JsonObject:
    """Counts over all slices, and of each figure its value in each, their median, and how far they
    spread as a share of that.
    """
    figures = {}
    for name in FIGURES:
        values = [one["summary"][name] for one in summaries if one["summary"][name] is not None]
        middle = median(values) if values else None
        spread = (max(values) - min(values)) / middle if middle else None
        figures[name] = {"values": values, "median": middle, "spread": spread}
    counts = ("episodes", "success_count", "failure_count")
    return {
        "slices": len(summaries),
        "slices_asked": asked,
        **{name: sum(one[name] for one in summaries) for name in counts},
        **figures,
    }


def as_lines(document: JsonObject) -> list[str]:
    """The same for a person."""
    summary = document["summary"]
    middle, spread = (summary["p50_wall_clock_s"][name] for name in ("median", "spread"))
    head = f"{summary['slices']} of {summary['slices_asked']} slices"
    counts = f"{summary['success_count']} of {summary['episodes']} episodes succeeded"
    lines = [f"{head}: {counts}", f"  stamps      {', '.join(document['stamps'])}"]
    if spread is not None:
        lines.append(f"  wall clock  p50 {middle * 1e3:.3g} ms, spread over slices {spread:.0%}")
    return lines
