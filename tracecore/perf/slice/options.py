"""The options of a slice, each in one place: its flag, reader, default, words, and the field that
holds it.

The parser of ``scripts/perf_harness.py``, the records below and the printed commands
(:mod:`tracecore.perf.slice.commands`) are made from these. Imports next to nothing: ``--help``
needs no more than this.
"""

from typing import Final

from tracecore.command_line.options import (
    EXTEND,
    one_of,
    option,
    option_record,
    path,
    repeated,
    seconds,
    some_of,
    switch,
    whole_number,
    wrong,
)
from tracecore.perf.slice.run_options import (
    EPISODES_MOST,
    LATEST,
    UNFINISHED,
    WORKERS,
    ClusterOptions,
    RunOptions,
)
from tracecore.record import field, record

__all__ = [
    "LATEST",
    "UNFINISHED",
    "WORKERS",
    "ClusterOptions",
    "JudgeOptions",
    "OutputOptions",
    "RunOptions",
    "SliceOptions",
]

EMITTED: Final = ("github-benchmark", "bmf")


def expression(text: str) -> str:
    """Reads a threshold, whose grammar is checked later."""
    if not text.strip():
        raise wrong(text, "some text, such as 'failure_count == 0'")
    return text


@option_record
class JudgeOptions:
    """How it is judged."""

    gate: bool = switch(
        "--gate",
        "hold the slice against the built-in thresholds for its size, and run some episodes a"
        " second time; a breach is exit 3",
        is_everyday=True,
    )
    thresholds: tuple[str, ...] = repeated(
        "--thresholds",
        "FILE",
        path,
        "a TOML file of thresholds; may be repeated; docs/gates.md has the language",
    )
    threshold: tuple[str, ...] = repeated(
        "--threshold",
        "EXPR",
        expression,
        "a threshold, such as 'failure_count == 0' or"
        " 'wall_clock_s{task_ref=rate_limited_api@1}:p(95) <= 0.5'; may be repeated",
    )
    no_gate: bool = switch(
        "--no-gate", "let no threshold count, whatever else is given", shown="they count"
    )
    verify_determinism: int | None = option(
        "--verify-determinism",
        "N",
        whole_number(0, EPISODES_MOST),
        None,
        "run N of the episodes twice; if a hash differs, exit 3",
        shown="0; with --gate one per scenario row",
    )
    work: bool = switch(
        "--work",
        "run one episode per scenario row a second time and count how much Python it executes;"
        " --gate does so too",
    )
    baseline: tuple[str, ...] = repeated(
        "--baseline",
        "PATH",
        path,
        "compare the slice with archived ones when it ends: summaries, zips or folders; worse is"
        " exit 3",
        action=EXTEND,
        nargs="+",
        is_everyday=True,
    )
    gate_on: tuple[str, ...] = option(
        "--gate-on",
        "METRICS",
        some_of("cpu", "wall", "rss"),
        ("cpu",),
        "which of cpu, wall and rss can fail the comparison, with commas between; the others warn",
    )
    require_conclusive: bool = switch(
        "--require-conclusive", "an inconclusive answer is exit 3 as well"
    )
    accept_changes: bool = switch(
        "--accept-changes",
        "report changed behaviour without failing for it, unless an episode fails or fails"
        " otherwise",
    )
    compare_anyway: bool = switch(
        "--compare-anyway",
        "show the figures of runs that are not comparable; nothing can fail then",
    )


@option_record
class OutputOptions:
    """What is written."""

    output_dir: str = option(
        "--output-dir",
        "DIR",
        path,
        "deliverables/perf",
        "folder of the perf files",
        is_everyday=True,
    )
    report: bool = switch(
        "--report",
        "draw charts and write a page of the slice; needs matplotlib and Jinja2",
        is_everyday=True,
    )
    compress: bool = switch("--compress", "put the perf files into a zip as well", is_everyday=True)
    emit: tuple[str, ...] = repeated(
        "--emit",
        "FORMATS",
        some_of(*EMITTED),
        f"further formats, with commas between: {', '.join(EMITTED)}",
        action=EXTEND,
    )
    step_summary: str | None = option(
        "--step-summary",
        "PATH",
        path,
        None,
        "where a Markdown summary is appended, or off",
        shown="$GITHUB_STEP_SUMMARY if it is set, else off",
    )
    quiet: bool = switch(
        "--quiet",
        "nothing on stderr but complaints: no progress and no summary",
        short="-q",
        is_repeated=False,
    )
    quiet_json: bool = switch(
        "--quiet-json", "nothing on stdout: the files hold it all", is_repeated=False
    )
    progress: str = option(
        "--progress",
        "WHEN",
        one_of("auto", "always", "never"),
        "auto",
        "progress on stderr: auto (a live line on a terminal; in a log or CI a line per 10 percent"
        " or 30 s), always (live on a terminal in CI too) or never",
        is_repeated=False,
    )
    sample_interval_s: float = option(
        "--sample-interval",
        "S",
        seconds(3600, zero=True),
        0.5,
        "seconds between two samples of machine and slice, at most 3600; 0 takes none",
    )


@record
class SliceOptions:
    """All that a slice is asked for; each part belongs to one wing."""

    run: RunOptions = field(default_factory=RunOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
