#!/usr/bin/env python3
"""Runs a slice of episodes in parallel and writes what it measured: the whole command line of the
harness.

stdout carries one JSON object and nothing else; progress, the summary for people and every
complaint go to stderr. Worker processes import this file again, so that importing it does nothing
and costs little.
"""

import argparse
import contextlib
import difflib
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

DESCRIPTION = """\
Runs episodes of a scenario in parallel, keeps one artifact of each, and writes what was measured.

perf_harness.py ab --base REF     compares the working tree with another commit instead
perf_harness.py compare --help    compares archived perf files instead
perf_harness.py report SLICE      draws a slice that has been run, as pictures and a page
perf_harness.py verify PATH       recomputes what perf files say, and checks every hash

Episode i (from 0) takes scenario row i modulo the number of rows, with the row's seed plus i. All relative paths start
at the working directory.
"""

EPILOG = """\
stdout is one JSON object: {ok, stamp, artifacts, summary}, or {ok, exit_code, error} when there is nothing to report.

exit codes:
  0    every episode succeeded
  1    some episode failed
  2    a wrong option, scenario, agent or task: nothing has run
  3    a threshold or regression gate was breached
  4    the results could not be written, or the harness itself failed
  5    the slice is incomplete: fewer results than episodes asked for
  130  interrupted; what had finished is written
Where several hold, the first of 4, 130, 5, 1, 3 is given.
"""

AB_DESCRIPTION = """\
Compares the working tree with another commit, on this host, now: a screen of two short runs of each, and if a time moved
there, so many rounds of both in turns. Each side runs from a worktree of its own in a temporary folder.
"""

COMPARE_DESCRIPTION = """\
Compares archived perf files, offline: behaviour exactly, by agent, task and seed; times by the medians of whole runs, of
which it takes several on each side to say anything.
"""

COMPARISON_EPILOG = """\
stdout is one JSON object: {ok, exit_code, verdict, reasons, ...}; docs/gates.md explains it.

exit codes:
  0    nothing got worse, as far as so many runs can tell
  2    a wrong option or file, or runs that cannot be compared
  3    something got worse (or, with --require-conclusive, nobody knows)
  4    a run could not be finished
  130  interrupted
"""

REPORT_DESCRIPTION = """\
Draws a slice that has been run: SVG charts, perf-report-<stamp>.html for a browser and perf-report-<stamp>.md for a code host.
Needs the report extra: pip install 'tracecore[report]'. Exit 0; 2 where the slice cannot be read.
"""

VERIFY_DESCRIPTION = """\
Recomputes summary, metrics and verdict of archived perf files from their series, checks every hash, and says what does not
agree.
Exit 0 where everything agrees, 1 where something does not, 2 where the files cannot be read.
"""

WORKERS = 4  # unless they are given; a cluster has as many as it has threads then
# somebody wanted to keep what stdout said, and has not got it
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class UsageError(Exception):
    """One line that names the option, what was found, and what was expected."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the process's exit code."""
    open_closed_streams()
    prefer_own_package()
    exit_code, line = answer(sys.argv[1:] if argv is None else argv)
    # all is done and written: what is said of it, and the exit code, shall agree with that
    ignore_interrupts()
    if (trouble := write(sys.stdout, line)) in NO_ROOM:
        exit_code, _ = complain(4, f"stdout: cannot be written: {os.strerror(trouble)}")
    # Whatever stderr still holds is tried now: a failure at interpreter exit would replace the exit
    # code by 120.
    write(sys.stderr, "")
    return exit_code


def ignore_interrupts() -> None:
    """Let no signal that asks for an end be heard any more; Python keeps this up until its process
    has ended.
    """
    with contextlib.suppress(ValueError):  # not in the main thread: signals are somebody else's
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []),
        ):
            signal.signal(number, signal.SIG_IGN)


def open_closed_streams() -> None:
    """Point stdin, stdout and stderr at nothing where they are closed.

    Otherwise the next file to be opened takes their number, and is written into by whoever means
    stdout.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (it lives as long as we do)


def prefer_own_package() -> None:
    """Make ``import tracecore`` find the package of the clone that this file lies in, if it does,
    installed or not.
    """
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.isfile(os.path.join(root, "tracecore", "__init__.py")) and sys.path[:1] != [root]:
        sys.path.insert(0, root)


def answer(argv: Sequence[str]) -> tuple[int, str]:
    """The exit code and what stdout is to say.

    Every error becomes its exit code here, and nowhere else.
    """
    from tracecore.errors import (  # noqa: PLC0415
        EngineError,
        InputError,
        OutputError,
    )

    try:
        arguments = parse(argv)
        exit_code, document = arguments.do(arguments)
        return exit_code, as_line(document)
    except SystemExit as leaving:  # --help and --version have printed what they had to say
        return int(leaving.code or 0), ""
    except UsageError as error:
        return complain(2, f"{error}; try --help")
    except InputError as error:
        return complain(2, str(error))
    except (OutputError, EngineError) as error:
        return complain(4, str(error))
    except KeyboardInterrupt:
        return complain(130, "interrupted")
    # whatever it is, the caller gets one JSON object and a known exit code
    except Exception as error:
        write(sys.stderr, traceback.format_exc())
        return complain(4, f"unexpected {type(error).__name__}: {error}")


def measure(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the slice; the exit code and the document for stdout."""
    # Not before the options are known to be good: --help and complaints need none of it.
    from tracecore.perf.harness import run_slice  # noqa: PLC0415
    from tracecore.perf.slice.options import SliceOptions  # noqa: PLC0415

    end = run_slice(
        SliceOptions(
            episodes=arguments.episodes,
            workers=arguments.workers or WORKERS,
            workers_asked=arguments.workers,
            cluster=arguments.cluster,
            artifacts=arguments.artifacts,
            timeout_s=arguments.timeout,
            strict_spec=arguments.strict_spec,
            compress=arguments.compress,
            output_dir=arguments.output_dir,
            runs_dir=arguments.runs_dir,
            scenario=arguments.scenario,
            tasks_dirs=tuple(arguments.tasks_dir),
            start_method=arguments.start_method,
            progress=arguments.progress,
            memory_limit_bytes=arguments.memory_limit,
            message_limit_bytes=arguments.message_limit,
            confinement=arguments.confinement,
            keep_runs=arguments.keep_runs,
            fsync=arguments.fsync,
            resume=arguments.resume,
            sample_interval_s=arguments.sample_interval,
            gate=arguments.gate,
            no_gate=arguments.no_gate,
            thresholds=tuple(arguments.thresholds),
            threshold=tuple(arguments.threshold),
            verify_determinism=arguments.verify_determinism,
            baseline=tuple(arguments.baseline),
            gate_on=",".join(arguments.gate_on),
            compare_anyway=arguments.compare_anyway,
            require_conclusive=arguments.require_conclusive,
            accept_changes=arguments.accept_changes,
            emit=tuple(arguments.emit),
            step_summary=arguments.step_summary,
            report=arguments.report,
        )
    )
    return end.exit_code, end.document


def measure_both(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the working tree against another commit; the exit code and the document for stdout."""
    from tracecore.perf.compare.ab import AbOptions, run_ab  # noqa: PLC0415  (as in measure)

    options = AbOptions(
        base=arguments.base,
        rounds=arguments.rounds,
        episodes=arguments.episodes,
        workers=arguments.workers,
        timeout_s=arguments.timeout,
        scenario=arguments.scenario,
        tasks_dirs=tuple(arguments.tasks_dir),
        null_control=arguments.null_control,
        screen=not arguments.no_screen,
        output_dir=arguments.output_dir,
        compare=comparison_options(arguments),
    )
    end = run_ab(options, say)
    tell_github(end.document, arguments)
    return end.exit_code, end.document


def compare_sets(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Compare archived sets; the exit code and the document for stdout."""
    from tracecore.perf.compare.comparison import compare_paths, exit_code_of  # noqa: PLC0415
    from tracecore.perf.compare.wording import tell  # noqa: PLC0415

    options = comparison_options(arguments)
    document = compare_paths(arguments.sets, arguments.to, options)
    exit_code = exit_code_of(document, options)
    say(tell(document))
    document = {"ok": exit_code == 0, "exit_code": exit_code, **document}
    tell_github(document, arguments)
    return exit_code, document


def tell_github(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Show a comparison that came to a verdict in the GitHub job that it ran in, or where it was
    asked for.
    """
    from tracecore.perf.show.github import (  # noqa: PLC0415
        tell_github_of_comparison,
    )

    if "verdict" in document:
        tell_github_of_comparison(document, arguments.step_summary, say)


def say(line: str) -> None:
    write(sys.stderr, f"{line}\n")


def comparison_options(arguments: argparse.Namespace) -> Any:
    from tracecore.perf.compare.comparison import CompareOptions  # noqa: PLC0415  (as in measure)

    return CompareOptions(
        gate_on=arguments.gate_on,
        compare_anyway=getattr(arguments, "compare_anyway", False),
        require_conclusive=arguments.require_conclusive,
        accept_changes=arguments.accept_changes,
    )


def report(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Draw a slice that has been run; the exit code and the document for stdout."""
    from tracecore.perf.show.report import (  # noqa: PLC0415
        check_extra,
        find_set,
        write_report,
    )

    check_extra("report")
    archived = find_set(arguments.slice, arguments.output_dir or "deliverables/perf")
    baseline = (
        find_set(arguments.baseline, arguments.output_dir or "deliverables/perf")
        if arguments.baseline
        else None
    )
    paths = write_report(archived, arguments.output_dir, baseline)
    write(sys.stderr, f"perf_harness: open {paths['report']}\n")
    return 0, {"ok": True, "stamp": archived.stamp, "artifacts": paths}


def verify(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Recompute what perf files say; the exit code and the document for stdout."""
    from tracecore.perf.judge.verify import verify_path  # noqa: PLC0415  (as in measure)

    problems, document = verify_path(arguments.path, arguments.runs_dir)
    write(sys.stderr, "".join(f"perf_harness: {problem}\n" for problem in problems))
    return int(bool(problems)), {
        "ok": not problems,
        "exit_code": int(bool(problems)),
        **document,
        "problems": problems,
    }


def complain(exit_code: int, message: str) -> tuple[int, str]:
    """Say on stderr what is wrong; the exit code, and the same words for stdout."""
    write(sys.stderr, f"perf_harness: {message}\n")
    return exit_code, as_line({"ok": False, "exit_code": exit_code, "error": message})


def as_line(document: dict[str, Any]) -> str:
    """``document`` as one line of ASCII: any terminal, pipe and locale carries it."""
    return json.dumps(document, allow_nan=False) + "\n"


def write(stream: Any, text: str) -> int:
    """Write and flush; a stream that nobody reads is pointed at nothing, since the results are in
    their files.

    Gives the number of the error, or 0.
    """
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return getattr(error, "errno", None) or 0
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options, each checked by itself.

    Raises:
        UsageError: One of them is wrong, or unknown.
        SystemExit: ``--help`` or ``--version`` was asked for, and has been printed.
    """
    refuse_dashes(argv)
    build = COMMANDS.get(argv[0]) if argv else None
    parser = build() if build else build_parser()
    try:
        arguments, unknown = parser.parse_known_args(argv[1:] if build else argv)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {reword(error.message)}") from error
    if unknown:
        raise UsageError(describe_unknown(unknown[0], parser))
    # argparse would leave at once, with words of its own
    for attribute, name in getattr(arguments, "needed", ()):
        if not getattr(arguments, attribute):
            raise UsageError(f"{name}: found nothing, expected a value")
    return arguments


def refuse_dashes(argv: Sequence[str]) -> None:
    """Complain of an option whose value is ``--``: argparse would drop that, and hand on an empty
    list as the value.
    """
    for argument in argv:
        name, _, value = argument.partition("=")
        if value == "--" and name.startswith("--"):
            raise UsageError(f"{name}: found '--', expected a value")


def reword(message: str) -> str:
    """A complaint of argparse's own, in the form that all others have."""
    if message == "expected one argument":
        return "found no value, expected one"
    return message.replace("ignored explicit argument", "expected no value, found")


def describe_unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    """What is wrong with an argument that no option takes."""
    name = argument.partition("=")[0]
    # The usage line is where argparse lists its options in public.
    known = [word.strip("[]") for word in parser.format_usage().split() if word.startswith("[--")]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return (
        f"{quote(name)}: found an argument that no option takes, expected one of the options{hint}"
    )


def build_parser() -> argparse.ArgumentParser:
    """Every option, its default, its range and its words."""
    from tracecore import __version__  # noqa: PLC0415  (not on the path before main)

    parser = argparse.ArgumentParser(
        prog="perf_harness.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"tracecore {__version__}")
    parser.set_defaults(do=measure)
    add_run_options(parser.add_argument_group("what is run"))
    add_process_options(parser.add_argument_group("how it is run"))
    add_judgement_options(parser.add_argument_group("how it is judged"))
    add_output_options(parser.add_argument_group("what is written"))
    return parser


def build_ab_parser() -> argparse.ArgumentParser:
    """The options of ``perf_harness.py ab``."""
    parser = command_parser("ab", AB_DESCRIPTION, COMPARISON_EPILOG)
    parser.set_defaults(do=measure_both, needed=(("base", "--base"),))
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "--base",
        metavar="REF",
        type=some_text,
        help="the commit, branch or tag to compare with; needed",
    )
    group.add_argument(
        "--rounds",
        metavar="N",
        type=whole_number(1, 50),
        default=5,
        help="runs of each side once the screen has moved, 1 to 50 (default: %(default)s)",
    )
    group.add_argument(
        "--episodes",
        metavar="N",
        type=whole_number(1, 10_000_000),
        default=384,
        help="episodes of each run (default: %(default)s)",
    )
    group.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, 256),
        help="how many episodes at a time, 1 to 256 (default: as many as there are usable cores)",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds(86_400),
        default="180",
        help="wall clock of one episode, more than 0 and at most 86400 (default: %(default)s)",
    )
    group.add_argument(
        "--scenario",
        metavar="FILE",
        type=some_text,
        help=(
            "as for a run; each side reads its own file of a relative path (default: the four"
            " bundled agents and tasks)"
        ),
    )
    group.add_argument(
        "--tasks-dir",
        metavar="DIR",
        type=some_text,
        action="append",
        default=[],
        help=(
            "as for a run; each side has its own folder of a relative path; may be repeated"
            " (default: none)"
        ),
    )
    group.add_argument(
        "--null-control",
        action="store_true",
        help=(
            "run base against base among the rounds; if that differs, times get no verdict"
            " (default: off)"
        ),
    )
    group.add_argument(
        "--no-screen",
        action="store_true",
        help="go to the rounds at once, without the cheap first stage (default: off)",
    )
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=some_text,
        help=(
            "keep the perf files of all runs and the comparison there, in a folder ab-<stamp>"
            " (default: they are removed)"
        ),
    )
    add_step_summary(group)
    add_comparison_options(parser.add_argument_group("how it is judged"))
    return parser


def build_compare_parser() -> argparse.ArgumentParser:
    """The options of ``perf_harness.py compare``."""
    parser = command_parser("compare", COMPARE_DESCRIPTION, COMPARISON_EPILOG)
    parser.set_defaults(do=compare_sets, needed=(("sets", "BASE"), ("to", "--to")))
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "sets",
        metavar="BASE",
        nargs="*",
        type=some_text,
        help="the one side: perf-summary-<stamp>.json files, zips or folders",
    )
    group.add_argument(
        "--to",
        metavar="NEW",
        nargs="+",
        type=some_text,
        action="extend",
        default=[],
        help="the other side, likewise; needed",
    )
    add_step_summary(group)
    judging = parser.add_argument_group("how it is judged")
    add_comparison_options(judging)
    add_compare_anyway(judging)
    return parser


def build_report_parser() -> argparse.ArgumentParser:
    """The options of ``perf_harness.py report``."""
    parser = command_parser("report", REPORT_DESCRIPTION)
    parser.set_defaults(do=report, needed=(("slice", "SLICE"),))
    group = parser.add_argument_group("what is drawn")
    group.add_argument(
        "slice",
        nargs="?",
        metavar="SLICE",
        type=some_text,
        help="its stamp, summary or zip, or a folder that holds it alone",
    )
    group.add_argument(
        "--baseline",
        metavar="SLICE",
        type=some_text,
        help="another slice to draw it against, named likewise (default: none)",
    )
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=some_text,
        help=(
            "folder of the report, and of slices named by their stamp (default: deliverables/perf"
            " for a stamp, else where the slice lies)"
        ),
    )
    return parser


def build_verify_parser() -> argparse.ArgumentParser:
    """The options of ``perf_harness.py verify``."""
    parser = command_parser("verify", VERIFY_DESCRIPTION)
    parser.set_defaults(do=verify, needed=(("path", "PATH"),))
    group = parser.add_argument_group("what is verified")
    group.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        type=some_text,
        help="a summary, a zip, or a folder of any number of them",
    )
    group.add_argument(
        "--runs-dir",
        metavar="DIR",
        type=folder,
        help=(
            "folder of the run artifacts, to compute their hashes again (default: where the summary"
            " says, if they are there)"
        ),
    )
    return parser


def command_parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"perf_harness.py {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )


def add_compare_anyway(group: Any) -> None:
    group.add_argument(
        "--compare-anyway",
        action="store_true",
        help=(
            "show the figures of runs that are not comparable; nothing can fail then (default: off)"
        ),
    )


def add_comparison_options(group: Any) -> None:
    group.add_argument(
        "--gate-on",
        metavar="METRICS",
        type=some_of("cpu", "wall", "rss"),
        default="cpu",
        help=(
            "which of cpu, wall and rss can fail the comparison, with commas between; the others"
            " warn (default: %(default)s)"
        ),
    )
    group.add_argument(
        "--require-conclusive",
        action="store_true",
        help="an inconclusive answer is exit 3 as well (default: off)",
    )
    group.add_argument(
        "--accept-changes",
        action="store_true",
        help=(
            "report changed behaviour without failing for it, unless an episode fails or fails"
            " otherwise (default: off)"
        ),
    )


def add_step_summary(group: Any) -> None:
    group.add_argument(
        "--step-summary",
        metavar="PATH",
        type=some_text,
        help=(
            "where a Markdown summary is appended, or off (default: $GITHUB_STEP_SUMMARY if it is"
            " set, else off)"
        ),
    )


def add_run_options(group: Any) -> None:
    group.add_argument(
        "--episodes",
        metavar="N",
        type=whole_number(1, 10_000_000),
        default=24,
        help="how many episodes, 1 to 10000000 (default: %(default)s)",
    )
    group.add_argument(
        "--scenario",
        metavar="FILE",
        type=some_text,
        help=(
            "rows of {agent, task_ref, seed}: a JSON list, or TOML [[scenario]] tables; tried as"
            " given, then inside the package (default: the four bundled agents and tasks)"
        ),
    )
    group.add_argument(
        "--tasks-dir",
        metavar="DIR",
        type=folder,
        action="append",
        default=[],
        help=(
            "a folder of more tasks, DIR/<task_id>/task.toml; they win over bundled ones; may be"
            " repeated (default: none)"
        ),
    )
    group.add_argument(
        "--resume",
        metavar="STAMP",
        type=stamp,
        help=(
            "finish the slice of this stamp, with the same options: only what is missing is run"
            " (default: a new slice)"
        ),
    )


def add_process_options(group: Any) -> None:
    group.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, 256),
        help=(
            "how many episodes at a time, 1 to 256; on a cluster at most, else as many as it has"
            f" threads (default: {WORKERS})"
        ),
    )
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        type=cluster_address,
        help=(
            "run on a Dask cluster: its scheduler's address, such as tcp://host:8786, or local:N;"
            " needs the cluster extra (default: on this machine)"
        ),
    )
    group.add_argument(
        "--artifacts",
        metavar="WHERE",
        type=one_of("return", "node", "shared"),
        help=(
            "run artifacts on a cluster: return (they come back), node (each node keeps its own) or"
            " shared (one folder for all) (default: return)"
        ),
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds(86_400),
        default="180",
        help="wall clock of one episode, more than 0 and at most 86400 (default: %(default)s)",
    )
    group.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=memory_size(64 << 20, 1 << 40, "512MiB or 2GiB"),
        default="2GiB",
        help=(
            "address space of one agent process: bytes, or with KiB, MiB or GiB; 64MiB to 1024GiB"
            " (default: %(default)s)"
        ),
    )
    group.add_argument(
        "--message-limit",
        metavar="SIZE",
        type=memory_size(4 << 10, 64 << 20, "64KiB or 2MiB"),
        default="1MiB",
        help=(
            "one answer of an agent, what it appended to its llm_trace included: bytes, or with KiB"
            " or MiB; 4KiB to 64MiB (default: %(default)s)"
        ),
    )
    group.add_argument(
        "--start-method",
        metavar="HOW",
        type=one_of("auto", "fork", "spawn"),
        default="auto",
        help=(
            "how the processes of an episode start: auto (fork where there is one), fork or spawn"
            " (default: %(default)s)"
        ),
    )
    group.add_argument(
        "--confinement",
        metavar="HOW",
        type=one_of("auto", "require", "off"),
        default="auto",
        help=(
            "of agents: auto (every layer that the machine has), require (refuse to run if one is"
            " missing) or off (default: %(default)s)"
        ),
    )
    group.add_argument(
        "--progress",
        metavar="WHEN",
        type=one_of("auto", "always", "never"),
        default="auto",
        help=(
            "progress on stderr: auto (a live line on a terminal; in a log or CI a line per 10"
            " percent or 30 s), always (live on a terminal in CI too) or never (default:"
            " %(default)s)"
        ),
    )
    group.add_argument(
        "--sample-interval",
        metavar="S",
        type=seconds(3600, zero=True),
        default="0.5",
        help=(
            "seconds between two samples of machine and slice, at most 3600; 0 takes none (default:"
            " %(default)s)"
        ),
    )


def add_judgement_options(group: Any) -> None:
    group.add_argument(
        "--gate",
        action="store_true",
        help=(
            "hold the slice against the built-in thresholds for its size, and run some episodes a"
            " second time; a breach is exit 3 (default: off)"
        ),
    )
    group.add_argument(
        "--thresholds",
        metavar="FILE",
        type=some_text,
        action="append",
        default=[],
        help=(
            "a TOML file of thresholds; may be repeated; docs/gates.md has the language (default:"
            " none)"
        ),
    )
    group.add_argument(
        "--threshold",
        metavar="EXPR",
        type=expression,
        action="append",
        default=[],
        help=(
            "a threshold, such as 'failure_count == 0' or"
            " 'wall_clock_s{task_ref=rate_limited_api@1}:p(95) <= 0.5'; may be repeated (default:"
            " none)"
        ),
    )
    group.add_argument(
        "--no-gate",
        action="store_true",
        help="let no threshold count, whatever else is given (default: they count)",
    )
    group.add_argument(
        "--verify-determinism",
        metavar="N",
        type=whole_number(0, 10_000_000),
        help=(
            "run N of the episodes twice; if a hash differs, exit 3 (default: 0; with --gate one"
            " per scenario row)"
        ),
    )
    group.add_argument(
        "--baseline",
        metavar="PATH",
        nargs="+",
        type=some_text,
        action="extend",
        default=[],
        help=(
            "compare the slice with archived ones when it ends: summaries, zips or folders; worse"
            " is exit 3 (default: none)"
        ),
    )
    add_comparison_options(group)
    add_compare_anyway(group)


def add_output_options(group: Any) -> None:
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=some_text,
        default="deliverables/perf",
        help="folder of the perf files (default: %(default)s)",
    )
    group.add_argument(
        "--runs-dir",
        metavar="DIR",
        type=some_text,
        default=".agent_bench/runs",
        help="folder of the run artifacts (default: %(default)s)",
    )
    group.add_argument(
        "--strict-spec",
        action="store_true",
        help=(
            "check every run artifact against its schema before its episode counts as a success"
            " (default: off)"
        ),
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="draw charts and write a page of the slice; needs the report extra (default: off)",
    )
    group.add_argument(
        "--compress",
        action="store_true",
        help="put the perf files into a zip as well (default: off)",
    )
    group.add_argument(
        "--keep-runs",
        metavar="WHICH",
        type=one_of("all", "failed", "none"),
        default="all",
        help="which run artifacts stay on disk: all, failed or none (default: %(default)s)",
    )
    group.add_argument(
        "--emit",
        metavar="FORMATS",
        type=some_of("github-benchmark", "bmf"),
        action="extend",
        default=[],
        help="further formats, with commas between: github-benchmark, bmf (default: none)",
    )
    add_step_summary(group)
    group.add_argument(
        "--fsync",
        metavar="POLICY",
        type=one_of("none", "batch", "full"),
        default="none",
        help=(
            "what a power cut may cost: none (the run), batch (the last episodes) or full (nothing,"
            " slowly) (default: %(default)s)"
        ),
    )


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from ``low`` to ``high``, written in plain digits."""

    def read(text: str) -> int:
        # Not int() alone: it takes "1_000" and other scripts' digits, and refuses 5000 digits with
        # words of its own.
        digits = text.removeprefix("+")
        if (
            digits.isascii()
            and digits.isdigit()
            and len(digits) <= 20
            and low <= int(digits) <= high
        ):
            return int(digits)
        raise wrong(text, f"a whole number from {low} to {high}")

    return read


def seconds(high: int, *, zero: bool = False) -> Callable[[str], float]:
    """Reads a finite number of seconds, more than 0 (or 0 itself, with ``zero``) and at most
    ``high``.
    """

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if text.isascii() and "_" not in text and (0 < value <= high or (zero and value == 0)):
                return value
        raise wrong(
            text,
            f"a number of seconds, {'0 or more' if zero else 'more than 0'} and at most {high}",
        )

    return read


def memory_size(low: int, high: int, example: str) -> Callable[[str], int]:
    """Reads bytes, plain or with a unit, from ``low`` to ``high`` bytes."""

    def read(text: str) -> int:
        digits = text.rstrip("KMGiB")
        unit = text[len(digits) :]
        if unit in SIZES and digits.isascii() and digits.isdigit() and len(digits) <= 20:
            value = int(digits) * SIZES[unit]
            if low <= value <= high:
                return value
        raise wrong(
            text, f"bytes, or a size such as {example}, from {size_text(low)} to {size_text(high)}"
        )

    return read


def size_text(size: int) -> str:
    """Bytes in the largest unit of which they are a whole number."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "") if size % SIZES[unit] == 0)
    return f"{size // SIZES[unit]}{unit}"


def one_of(*words: str) -> Callable[[str], str]:
    """Reads one of ``words``."""

    def read(text: str) -> str:
        if text in words:
            return text
        raise wrong(text, f"{', '.join(words[:-1])} or {words[-1]}")

    return read


def some_of(*words: str) -> Callable[[str], tuple[str, ...]]:
    """Reads some of ``words``, with commas between them."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        if all(word in words for word in chosen):
            return chosen
        raise wrong(text, f"some of {', '.join(words)}, with commas between them")

    return read


def some_text(text: str) -> str:
    if not text:
        raise wrong(text, "a path")
    return text


def cluster_address(text: str) -> str:
    protocol, separator, rest = text.partition("://")
    count = text.removeprefix("local:")
    is_local = (
        count != text and count.isascii() and count.isdigit() and len(count) <= 3 and int(count) > 0
    )
    if is_local or (separator and protocol.isalnum() and rest):
        return text
    raise wrong(
        text, "the address of a scheduler, such as tcp://host:8786, or local:N with N from 1 to 999"
    )


def expression(text: str) -> str:
    if not text.strip():
        raise wrong(text, "some text, such as 'failure_count == 0'")
    return text


def folder(text: str) -> str:
    if not os.path.isdir(text):
        raise wrong(text, "a folder that exists")
    return text


def stamp(text: str) -> str:
    # It becomes part of file names: no separators, no dots to climb with.
    if not (
        0 < len(text) <= 80 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    ):
        raise wrong(text, "the stamp of a slice, such as 20260131T120000Z")
    return text


def wrong(found: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"found {quote(found)}, expected {expected}")


def quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# What the first word may be; without one of these, a slice is run.
COMMANDS = {
    "ab": build_ab_parser,
    "compare": build_compare_parser,
    "report": build_report_parser,
    "verify": build_verify_parser,
}


if __name__ == "__main__":
    sys.exit(main())
