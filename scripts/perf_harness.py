#!/usr/bin/env python3
"""Runs a slice of episodes in parallel and writes what it measured: the whole command line of the
harness.

stdout carries one JSON object and nothing else; progress, the summary for people and every
complaint go to stderr. Worker processes may import this file again, so that importing it does
nothing and costs little. The options of a slice are in ``tracecore/perf/slice/options.py``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tracecore.command_line.parser import Parser

DESCRIPTION = """\
Runs episodes of a scenario in parallel, keeps one artifact of each, and writes what was measured.

Episode i (from 0) takes scenario row i modulo the number of rows, with the row's seed plus i. All
relative paths start at the working directory.
"""
EPILOG = """\
stdout is one JSON object: {ok, stamp, artifacts, summary}, or {ok, exit_code, error} when there is
nothing to report.

"""
EPILOG_RANK = "Where several hold, the first of 4, 130, 5, 1, 3 is given.\n"
AB_DESCRIPTION = """\
Compares the working tree with another commit, on this host, now: a screen of two short runs of
each, and if a time moved there, so many rounds of both in turns. Each side runs from a worktree of
its own in a temporary folder.
"""
COMPARE_DESCRIPTION = """\
Compares archived perf files, offline: behaviour exactly, by agent, task and seed; times by the
medians of whole runs, of which it takes several on each side to say anything.
"""
COMPARISON_EPILOG = """\
stdout is one JSON object: {ok, exit_code, verdict, reasons, ...}; docs/comparing.md explains it.

"""
HISTORY_DESCRIPTION = """\
Reads archived slices of any number of releases and gives, per machine class and scenario row, work
counts, CPU and wall medians with their spread between runs, and artifact bytes, release by release:
perf-history.html, .md and .json.
A release is compared with the one before it, and what its legs find is marked.
"""

REPORT_DESCRIPTION = """\
Draws a slice that has been run: SVG charts, perf-report-<stamp>.html for a browser and
perf-report-<stamp>.md for a code host. Needs matplotlib. Exit 0; 2 where the slice cannot be
read.
"""
VERIFY_DESCRIPTION = """\
Recomputes summary, metrics and verdict of archived perf files from their series, checks every hash,
and says what does not agree. Exit 0 where everything agrees, 1 where something does not, 2 where
the files cannot be read.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the process's exit code."""
    prefer_own_package()
    from tracecore.command_line.run import run_command_line

    return run_command_line("perf_harness", build_parser, argv, errors_on_stdout=True)


def prefer_own_package() -> None:
    """Make ``import tracecore`` find the package of the clone that this file lies in, if it does,
    installed or not.
    """
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.isfile(os.path.join(root, "tracecore", "__init__.py")) and sys.path[:1] != [root]:
        sys.path.insert(0, root)


# --- the commands -----------------------------------------------------------------------------
# What a command needs is imported when its options are known to be good: --help and complaints need
# none of it.


def run(arguments: argparse.Namespace) -> tuple[int, dict[str, Any] | None]:
    """Run a slice."""
    from tracecore.command_line.options import fill
    from tracecore.perf.repeat import run_slices
    from tracecore.perf.slice.options import (
        ClusterOptions,
        JudgeOptions,
        OutputOptions,
        RunOptions,
        SliceOptions,
    )

    options = SliceOptions(
        run=fill(RunOptions, arguments),
        judge=fill(JudgeOptions, arguments),
        output=fill(OutputOptions, arguments),
        cluster=fill(ClusterOptions, arguments),
    )
    document = run_slices(options)
    return document["exit_code"], None if options.output.quiet_json else document


def ab(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the working tree against another commit."""
    from tracecore.command_line.options import fill
    from tracecore.command_line.run import write_line
    from tracecore.perf.compare.ab import AbOptions, run_ab
    from tracecore.perf.slice.options import JudgeOptions

    options = AbOptions(
        base=arguments.base,
        rounds=arguments.rounds,
        episodes=arguments.episodes,
        workers=arguments.workers,
        timeout_s=arguments.timeout_s,
        scenario=arguments.scenario,
        tasks_dirs=tuple(arguments.tasks_dirs),
        null_control=arguments.null_control,
        screen=not arguments.no_screen,
        output_dir=arguments.output_dir,
        judge=fill(JudgeOptions, arguments),
    )
    document = run_ab(options, write_line)
    show_comparison(document, arguments)
    return document["exit_code"], document


def compare(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Compare archived slices."""
    from tracecore.command_line.options import fill
    from tracecore.perf.compare.comparison import compare_paths, exit_code_of
    from tracecore.perf.slice.options import JudgeOptions

    options = fill(JudgeOptions, arguments)
    document = compare_paths(arguments.sets, arguments.to, options)
    exit_code = exit_code_of(document, options)
    document = {"ok": exit_code == 0, "exit_code": exit_code, **document}
    show_comparison(document, arguments)
    return exit_code, document


def show_comparison(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Show a comparison that came to a verdict on the terminal, and in the GitHub job that it ran
    in or where it was asked for.
    """
    from tracecore.command_line.run import write_line
    from tracecore.perf.show import comparison_page
    from tracecore.perf.show.github import show_in_job, view_of_comparison

    if "verdict" in document:
        write_line(comparison_page.show_comparison(document))
        show_in_job(view_of_comparison(document), arguments.step_summary, write_line)


def report(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Draw a slice that has been run."""
    from tracecore.command_line.options import require_packages
    from tracecore.command_line.run import write_line
    from tracecore.perf.show.report import find_set, write_report

    require_packages("report", "matplotlib")
    folder = arguments.output_dir or "deliverables/perf"
    archived = find_set(arguments.slice, folder)
    baseline = find_set(arguments.against, folder) if arguments.against else None
    paths = write_report(archived, arguments.output_dir, baseline)
    write_line(f"perf_harness: open {paths['report']}")
    return 0, {"ok": True, "stamp": archived.stamp, "artifacts": paths}


def history(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Show archived slices of any number of releases in the order they were made."""
    from tracecore.command_line.run import write_line
    from tracecore.perf.compare import history as archived
    from tracecore.perf.show.history import write_history

    document = archived.history(arguments.sets)
    paths = write_history(document, arguments.output_dir)
    write_line(f"perf_harness: open {paths['report']}")
    return 0, {"ok": True, "exit_code": 0, "artifacts": paths, "history": document}


def verify(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Recompute what perf files hold."""
    from tracecore.command_line.run import write_line
    from tracecore.perf.judge.verify import agreement, verify_sets

    problems, document = verify_sets(arguments.path, runs_dir=arguments.runs_dir)
    for line in problems or [agreement(document)]:
        write_line(f"perf_harness: {line}")
    exit_code = int(bool(problems))
    about = {"ok": not problems, "exit_code": exit_code}
    return exit_code, {**about, **document, "problems": problems}


# --- the options ------------------------------------------------------------------------------


def build_parser() -> Parser:
    """Every command and option."""
    from tracecore import __version__, exit_codes
    from tracecore.command_line.options import options_of
    from tracecore.command_line.parser import Parser
    from tracecore.perf.slice.options import (
        ClusterOptions,
        JudgeOptions,
        OutputOptions,
        RunOptions,
    )

    epilog = EPILOG + exit_codes.as_help(exit_codes.OF_A_SLICE) + EPILOG_RANK
    version = f"tracecore {__version__}"
    parser = Parser("perf_harness.py", DESCRIPTION, epilog, version=version, short_help=True)
    parser.set_defaults(do=run)
    add_ab(parser)
    add_compare(parser)
    add_history(parser)
    add_report(parser)
    add_verify(parser)
    parser.add_options(options_of(RunOptions), "what is run, and how")
    parser.add_options(options_of(JudgeOptions), "how it is judged")
    parser.add_options(options_of(OutputOptions), "what is written")
    parser.add_options(options_of(ClusterOptions), "on which machines")
    return parser


def add_ab(parser: Parser) -> None:
    """``ab``."""
    from tracecore import exit_codes
    from tracecore.command_line.options import Option, options_of, path, switch, whole_number
    from tracecore.perf.slice.options import JudgeOptions, OutputOptions, RunOptions
    from tracecore.record import replace

    of_comparison = exit_codes.as_help(exit_codes.OF_A_COMPARISON)
    command = parser.add_command(
        "ab", ab, "compare with another commit", AB_DESCRIPTION, COMPARISON_EPILOG + of_comparison
    )
    of_run, of_judge = options_of(RunOptions), options_of(JudgeOptions)
    command.add_options(
        {
            "base": Option(
                "--base",
                "REF",
                path,
                help="the commit, branch or tag to compare with",
                is_required=True,
            ),
            "rounds": Option(
                "--rounds",
                "N",
                whole_number(1, 50),
                5,
                "runs of each side once the screen has moved, 1 to 50",
            ),
            "episodes": replace(of_run["episodes"], default=384, help="episodes of each run"),
            "workers": replace(of_run["workers"], shown="as many as there are usable cores"),
            "timeout_s": of_run["timeout_s"],
            "scenario": replace(
                of_run["scenario"],
                help="as for a run; each side reads its own file of a relative path",
            ),
            "tasks_dirs": replace(
                of_run["tasks_dirs"],
                read=path,
                help=(
                    "as for a run; each side has its own folder of a relative path; may be repeated"
                ),
            ),
            "null_control": switch(
                "--null-control",
                "run base against base among the rounds; if that differs, times get no verdict",
            ),
            "no_screen": switch(
                "--no-screen", "go to the rounds at once, without the cheap first stage"
            ),
            "output_dir": Option(
                "--output-dir",
                "DIR",
                path,
                help="keep the perf files of all runs and the comparison there, in a folder"
                " ab-<stamp>",
                shown="they are removed",
            ),
            "step_summary": options_of(OutputOptions)["step_summary"],
        },
        "what is compared",
    )
    names = ("gate_on", "require_conclusive", "accept_changes")
    command.add_options({name: of_judge[name] for name in names}, "how it is judged")


def add_compare(parser: Parser) -> None:
    """``compare``."""
    from tracecore import exit_codes
    from tracecore.command_line.options import EXTEND, Option, options_of, path
    from tracecore.perf.slice.options import JudgeOptions, OutputOptions

    command = parser.add_command(
        "compare",
        compare,
        "compare archived slices",
        COMPARE_DESCRIPTION,
        COMPARISON_EPILOG + exit_codes.as_help(exit_codes.OF_A_COMPARISON),
    )
    command.add_options(
        {
            "sets": Option(
                "sets",
                "BASE",
                path,
                help="the one side: perf-summary-<stamp>.json files, zips or folders",
                nargs="+",
                is_required=True,
            ),
            "to": Option(
                "--to",
                "NEW",
                path,
                (),
                "the other side, likewise",
                action=EXTEND,
                nargs="+",
                is_required=True,
            ),
            "step_summary": options_of(OutputOptions)["step_summary"],
        },
        "what is compared",
    )
    names = ("gate_on", "require_conclusive", "accept_changes", "compare_anyway")
    of_judge = options_of(JudgeOptions)
    command.add_options({name: of_judge[name] for name in names}, "how it is judged")


def add_history(parser: Parser) -> None:
    """``history``."""
    from tracecore.command_line.options import Option, path

    command = parser.add_command(
        "history", history, "show archived slices over releases", HISTORY_DESCRIPTION
    )
    command.add_options(
        {
            "sets": Option(
                "sets",
                "PATH",
                path,
                help="summaries, zips, or folders of any number of them",
                nargs="+",
                is_required=True,
            ),
            "output_dir": Option(
                "--output-dir", "DIR", path, "deliverables/perf", "folder of the page"
            ),
        }
    )


def add_report(parser: Parser) -> None:
    """``report``."""
    from tracecore.command_line.options import Option, path

    command = parser.add_command(
        "report", report, "draw a slice as charts and a page", REPORT_DESCRIPTION
    )
    command.add_options(
        {
            "slice": Option(
                "slice",
                "SLICE",
                path,
                help="its stamp, summary or zip, or a folder that holds it alone",
                is_required=True,
            ),
            "against": Option(
                "--baseline", "SLICE", path, help="another slice to draw it against, named likewise"
            ),
            "output_dir": Option(
                "--output-dir",
                "DIR",
                path,
                help="folder of the report, and of slices named by their stamp",
                shown="deliverables/perf for a stamp, else where the slice lies",
            ),
        }
    )


def add_verify(parser: Parser) -> None:
    """``verify``."""
    from tracecore.command_line.options import Option, folder, path

    command = parser.add_command(
        "verify", verify, "recompute perf files and check every hash", VERIFY_DESCRIPTION
    )
    command.add_options(
        {
            "path": Option(
                "path",
                "PATH",
                path,
                help="a summary, a zip, or a folder of any number of them",
                is_required=True,
            ),
            "runs_dir": Option(
                "--runs-dir",
                "DIR",
                folder,
                help="folder of the run artifacts, to compute their hashes again",
                shown="where the summary says, if they are there",
            ),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
