"""``python -m tracecore``: one episode by hand, run, checked or run again.

Spawned processes may import this module again, so that its top level imports next to nothing.
"""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tracecore.records import EpisodeResult, Job, JsonObject
    from tracecore.runtime.replay import Difference

PROG: Final = "python -m tracecore"
DESCRIPTION: Final = (
    "Runs one episode, checks run artifacts, or runs the episode of an artifact again."
)
EPILOG: Final = (
    "`python -m tracecore COMMAND --help` explains a command; slices are run by"
    " scripts/perf_harness.py."
)

RUN_TEXT: Final = (
    "Runs one episode in processes of its own, writes its run artifact, and tells what happened"
    " in it."
)
RUN_EPILOG: Final = """\
exit codes:
  0    the episode succeeded
  1    it failed
  2    a wrong option, agent or task: nothing has run
  4    the artifact could not be written, or tracecore itself failed
  130  interrupted
"""

CHECK_TEXT: Final = """\
Checks run artifacts: whether each is JSON, keeps to the schema, and has the hashes of what it holds. Prints a line for
each file that is valid, and a line for each problem of one that is not.
"""
CHECK_EPILOG: Final = """\
exit codes:
  0    all are valid
  1    some are not
  2    a wrong option, or a file that cannot be read; the others have been checked all the same
"""

DOCTOR_TEXT: Final = """\
Tries out, in processes confined as agents are, which layers of confinement are in force on this machine, and tells what
each of them stops.
"""
DOCTOR_EPILOG: Final = """\
exit codes:
  0    it was found out
  2    a wrong option
  4    tracecore itself failed
"""

REPLAY_TEXT: Final = """\
Runs the episode of a run artifact again, with the agent, task and seed that it names, and tells whether both runs agree:
by artifact_hash, or by trace_hash where only the version or commit of tracecore differs. If they do not, the first place
in which they part is shown. TRACECORE_LLM_TRACE_REDACTION has to be what it was then.
"""
REPLAY_EPILOG: Final = """\
exit codes:
  0    the runs agree
  1    they differ
  2    a wrong option, an invalid artifact, or no such agent or task: nothing has run
  4    the artifact of the second run could not be written, or tracecore itself failed
  130  interrupted
"""

DEFAULT_TIMEOUT_S: Final = 180.0
TIMEOUT_MOST_S: Final = 86_400
SIZES: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class UsageError(Exception):
    """One line that names the option, what was found, and what was expected."""


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving, also for its commands."""

    def error(self, message: str) -> Any:
        """Called by argparse with its complaint.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message.removeprefix('argument ')}; try --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the process's exit code. Every error becomes its exit code
    here.
    """
    from tracecore.errors import EngineError, InputError, OutputError  # noqa: PLC0415

    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        command: Callable[[argparse.Namespace], int] = arguments.function
        return command(arguments)
    except SystemExit as leaving:  # --help and --version have printed what they had to say
        return int(leaving.code or 0)
    except (UsageError, InputError) as error:
        return complain(2, str(error))
    except (OutputError, EngineError) as error:
        return complain(4, str(error))
    except KeyboardInterrupt:
        return complain(130, "interrupted")
    # 1 means that an episode failed: a mistake of our own must not be taken for that
    except Exception as error:
        write(sys.stderr, traceback.format_exc())
        return complain(4, f"unexpected {type(error).__name__}: {error}")


# --- run -------------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """``run``: one episode, and what happened in it."""
    from tracecore.perf.prepare import (  # noqa: PLC0415
        check_confinement,
        find_sound_task,
        read_settings,
    )
    from tracecore.perf.show.episode_text import episode_lines  # noqa: PLC0415
    from tracecore.perf.slice.options import SliceOptions  # noqa: PLC0415
    from tracecore.runtime.task.catalog import find_agent  # noqa: PLC0415

    options = SliceOptions(
        runs_dir=arguments.runs_dir,
        timeout_s=arguments.timeout,
        strict_spec=arguments.strict_spec,
        start_method=arguments.start_method,
        memory_limit_bytes=arguments.memory_limit,
        message_limit_bytes=arguments.message_limit,
        confinement=arguments.confinement,
    )
    agent, task = find_agent(arguments.agent), find_sound_task(arguments.task, arguments.tasks_dir)
    settings = read_settings(options)
    check_confinement(options)
    allow = read_allowance(arguments, task, settings)
    row, artifact, path = run_episode(
        new_job(agent, task, arguments.seed, settings, allow), arguments
    )
    if arguments.json:
        say_json({"ok": row.success, "artifact": path, "episode": as_json(row)})
    else:
        say("\n".join([*episode_lines(artifact, row), f"  artifact    {one_line(path)}"]))
    return 0 if row.success else 1


def read_allowance(arguments: argparse.Namespace, task: Any, settings: Any) -> Any:
    """What the agent may reach beside the usual.

    Raises:
        OptionError: It may not be allowed, or is not there.
    """
    from tracecore.confinement.readable import secret_folders  # noqa: PLC0415
    from tracecore.errors import OptionError  # noqa: PLC0415
    from tracecore.perf.slice.scenario import resolve_allowance  # noqa: PLC0415
    from tracecore.records import Allowance  # noqa: PLC0415

    def refuse(part: str, _place: int, found: str, expected: str) -> OptionError:
        return OptionError(f"--allow-{part}", "", found, expected)

    asked = Allowance(tuple(arguments.allow_read), tuple(arguments.allow_network))
    return resolve_allowance(
        asked, task, secret_folders(arguments.tasks_dir, settings.runs_dir, task.folder), refuse
    )


def new_job(agent: Any, task: Any, seed: int, settings: Any, allow: Any) -> "Job":
    """An episode that is no part of a slice."""
    from tracecore.clock import new_id  # noqa: PLC0415
    from tracecore.records import Job  # noqa: PLC0415

    return Job(
        index=0, run_id=new_id(), agent=agent, task=task, seed=seed, settings=settings, allow=allow
    )


def run_episode(
    job: "Job", arguments: argparse.Namespace
) -> "tuple[EpisodeResult, JsonObject, str]":
    """Run it as a slice would; its row, its artifact, and where that lies as the caller would write
    it.
    """
    from tracecore.canon import decode  # noqa: PLC0415
    from tracecore.perf.documents.files import check_writable  # noqa: PLC0415
    from tracecore.perf.harness import run_one  # noqa: PLC0415

    check_writable(arguments.runs_dir)
    row = run_one(job, arguments.start_method, arguments.tasks_dir)
    path = os.path.join(arguments.runs_dir, f"{job.run_id}.json")
    with open(path, "rb") as file:
        return row, decode(file.read()), path


# --- check -----------------------------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> int:
    """``check``: each file by itself; the gravest exit code of all."""
    return max([check_file(path) for path in arguments.files])


def check_file(path: str) -> int:
    """Check one artifact, and say what was found."""
    from tracecore.errors import InputError  # noqa: PLC0415
    from tracecore.runtime.replay import read_artifact  # noqa: PLC0415

    try:
        _artifact, problems = read_artifact(path)
    except InputError as error:
        return complain(2, str(error))
    say("\n".join(one_line(f"{path}: {what}") for what in problems or ["valid"]))
    return 1 if problems else 0


# --- doctor ----------------------------------------------------------------------------------------------------------


def consult_doctor(arguments: argparse.Namespace) -> int:
    """``doctor``: the layers of confinement, each tried out."""
    from tracecore.confinement import doctor  # noqa: PLC0415
    from tracecore.records import Limits  # noqa: PLC0415

    found = doctor.probe(Limits())
    if arguments.json:
        say_json(doctor.as_json(found))
    else:
        say(doctor.as_text(found).rstrip())
    return 0


# --- replay ----------------------------------------------------------------------------------------------------------


def replay(arguments: argparse.Namespace) -> int:
    """``replay``: the episode of an artifact once more, and whether both runs agree."""
    from tracecore.perf.prepare import read_settings  # noqa: PLC0415
    from tracecore.perf.slice.options import SliceOptions  # noqa: PLC0415
    from tracecore.runtime.replay import first_difference  # noqa: PLC0415

    old = read_valid_artifact(arguments.file)
    agent, task = find_sources(old, arguments)
    timeout_s = recorded_timeout_s(old) if arguments.timeout is None else arguments.timeout
    with runs_folder(arguments):
        options = SliceOptions(
            runs_dir=arguments.runs_dir,
            timeout_s=timeout_s,
            memory_limit_bytes=arguments.memory_limit,
            message_limit_bytes=arguments.message_limit,
        )
        settings = read_settings(options)
        job = new_job(
            agent, task, int(old["seed"]), settings, read_allowance(arguments, task, settings)
        )
        _row, new, path = run_episode(job, arguments)
    difference = first_difference(old, new)
    agrees = difference is None or difference.is_runtime_alone
    lines = [
        *verdict_lines(arguments.file, old, new, difference),
        *cause_lines(old, new, agrees=agrees),
    ]
    if not arguments.is_private:
        lines.append(f"  artifact    {one_line(path)}")
    say("\n".join(lines))
    return 0 if agrees else 1


def read_valid_artifact(path: str) -> "JsonObject":
    """The artifact in a file.

    Raises:
        InputError: It cannot be read.
        UsageError: It is not valid.
    """
    from tracecore.runtime.replay import read_artifact  # noqa: PLC0415

    artifact, problems = read_artifact(path)
    if problems:
        raise UsageError(f"{path}: {problems[0]}; `check` tells all that is wrong with it")
    return artifact


def find_sources(old: "JsonObject", arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The agent and the task of an artifact, where they lie now.

    Raises:
        UsageError: There is none, and which option tells where it is.
    """
    from tracecore.errors import InputError  # noqa: PLC0415
    from tracecore.record import replace  # noqa: PLC0415
    from tracecore.runtime.task.catalog import find_agent, find_task  # noqa: PLC0415

    option = "--agent"
    try:
        # Under the name of then: it is part of the artifact, and what is asked is whether the run
        # was the same.
        agent = replace(find_agent(arguments.agent or old["agent_ref"]), ref=old["agent_ref"])
        option = "--tasks-dir"
        return agent, find_task(old["task_ref"], arguments.tasks_dir)
    except InputError as error:
        raise UsageError(f"{arguments.file}: {error}; {option} tells where it is") from error


def recorded_timeout_s(old: "JsonObject") -> float:
    """The time limit of then."""
    recorded = old["budgets"].get("wall_clock_seconds") or DEFAULT_TIMEOUT_S
    return float(min(recorded, TIMEOUT_MOST_S))


@contextlib.contextmanager
def runs_folder(arguments: argparse.Namespace) -> Iterator[None]:
    """Have ``arguments.runs_dir`` name a folder: a private one, until the end of the block, if none
    was given.
    """
    import tempfile  # noqa: PLC0415

    arguments.is_private = arguments.runs_dir is None
    if not arguments.is_private:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="tracecore-replay-") as folder:
        arguments.runs_dir = folder
        yield


def verdict_lines(
    path: str, old: "JsonObject", new: "JsonObject", difference: "Difference | None"
) -> list[str]:
    """Whether the runs agree, and if not where they part."""
    from tracecore.perf.show.episode_text import difference_lines  # noqa: PLC0415

    path = one_line(path)
    if difference is None:
        return [f"{path}: agrees", f"  hash        {old['artifact_hash']}"]
    if difference.is_runtime_alone:
        return [
            f"{path}: same behaviour under another runtime",
            f"  trace hash  {old['trace_hash']}",
        ]
    same = " (trace_hash agrees)" if old["trace_hash"] == new["trace_hash"] else ""
    return [f"{path}: differs{same}", *difference_lines(difference)]


def cause_lines(old: "JsonObject", new: "JsonObject", *, agrees: bool) -> list[str]:
    """What may be behind a difference: all that went into the runs and is not the same."""
    lines = []
    if old["agent_hash"] != new["agent_hash"]:
        lines.append("  note        the agent's file has changed since")
    if old["task_hash"] != new["task_hash"]:
        lines.append("  note        the task's folder has changed since")
    if (then := runtime_text(old)) != (now := runtime_text(new)):
        lines.append(
            one_line(
                f"  note        the runtime was {then}, and is {now}: artifact_hash cannot agree"
            )
        )
    if not agrees and "timeout" in {old["termination_reason"], new["termination_reason"]}:
        lines.append(
            "  note        how far an episode gets until its time is over depends on the machine"
        )
    return lines


def runtime_text(artifact: "JsonObject") -> str:
    """Which tracecore ran an episode."""
    identity = artifact["runtime_identity"]
    return (
        f"{identity['name']} {identity['version']} at {(identity['git_sha'] or 'no commit')[:12]}"
    )


# --- the command line ------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command and its options, each checked by itself.

    Raises:
        UsageError: One of them is wrong, or unknown.
        SystemExit: ``--help`` or ``--version`` was asked for, and has been printed.
    """
    for argument in argv:
        name, _, value = argument.partition("=")
        # argparse would drop it, and hand on an empty list as the value
        if value == "--" and name.startswith("--"):
            raise UsageError(f"{name}: found '--', expected a value; try --help")
    return build_parser().parse_args(argv)


def build_parser() -> Parser:
    """Every command and option."""
    from tracecore import __version__  # noqa: PLC0415

    parser = Parser(prog=PROG, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tracecore {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_run(
        add_command(commands, "run", "run one episode and tell what happened", RUN_TEXT, RUN_EPILOG)
    )
    add_check(add_command(commands, "check", "check run artifacts", CHECK_TEXT, CHECK_EPILOG))
    add_replay(
        add_command(
            commands,
            "replay",
            "run an artifact's episode again and compare",
            REPLAY_TEXT,
            REPLAY_EPILOG,
        )
    )
    add_doctor(
        add_command(
            commands, "doctor", "tell which layers confine agents here", DOCTOR_TEXT, DOCTOR_EPILOG
        )
    )
    return parser


def add_command(commands: Any, name: str, words: str, description: str, epilog: str) -> Any:
    return commands.add_parser(
        name,
        help=words,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_doctor(parser: Any) -> None:
    parser.set_defaults(function=consult_doctor)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_run(parser: Any) -> None:
    parser.set_defaults(function=run)
    parser.add_argument(
        "--agent",
        metavar="PATH",
        required=True,
        help="an agent's file: as given, else inside the package",
    )
    parser.add_argument(
        "--task",
        metavar="REF",
        required=True,
        help="<id>@<version>, or <id> if there is one version only",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=seed,
        default=0,
        help="an integer of 64 bits (default: %(default)s)",
    )
    add_tasks_dir(parser)
    add_allowance(parser)
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        type=some_text,
        default=".agent_bench/runs",
        help="folder of the run artifact (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        help=(
            f"wall clock of the episode, more than 0 and at most {TIMEOUT_MOST_S} (default:"
            f" {DEFAULT_TIMEOUT_S:g})"
        ),
    )
    parser.add_argument(
        "--strict-spec", action="store_true", help="an invalid artifact makes the episode a failure"
    )
    parser.add_argument(
        "--start-method",
        choices=("auto", "fork", "spawn"),
        default="auto",
        help=(
            "how the processes of the episode start: auto is fork where there is one (default:"
            " %(default)s)"
        ),
    )
    add_limits(parser)
    parser.add_argument(
        "--confinement",
        choices=("auto", "require", "off"),
        default="auto",
        help=(
            "of the agent: every layer that the machine has, refuse to run if one is missing, or"
            " none (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object: {ok, artifact, episode}"
    )


def add_check(parser: Any) -> None:
    parser.set_defaults(function=check)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a run artifact of at most 64 MiB")


def add_replay(parser: Any) -> None:
    parser.set_defaults(function=replay, start_method="auto")
    parser.add_argument("file", metavar="FILE", help="a valid run artifact of at most 64 MiB")
    add_tasks_dir(parser)
    add_allowance(parser)
    add_limits(parser)
    parser.add_argument(
        "--agent",
        metavar="PATH",
        help="the agent's file, if it does not lie where the artifact says",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help=(
            f"wall clock of the episode (default: what it was then, {DEFAULT_TIMEOUT_S:g} if the"
            " artifact does not say)"
        ),
    )
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        type=some_text,
        help="folder in which the second run's artifact stays (default: it is removed)",
    )


def add_tasks_dir(parser: Any) -> None:
    parser.add_argument(
        "--tasks-dir",
        metavar="DIR",
        action="append",
        default=[],
        help=(
            "a folder of more tasks, DIR/<task_id>/task.toml; they win over bundled ones; may be"
            " repeated (default: none)"
        ),
    )


def add_allowance(parser: Any) -> None:
    parser.add_argument(
        "--allow-read",
        metavar="PATH",
        type=some_text,
        action="append",
        default=[],
        help=(
            "a file, or a folder with all below, that the agent may read beside the usual; may be"
            " repeated (default: none)"
        ),
    )
    parser.add_argument(
        "--allow-network",
        metavar="HOST",
        type=some_text,
        action="append",
        default=[],
        help=(
            "a host of the task's own network_hosts that the agent may connect to; may be repeated"
            " (default: none)"
        ),
    )


def add_limits(parser: Any) -> None:
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=memory_limit,
        default="2GiB",
        help=(
            "address space of the agent's process: bytes, or with KiB, MiB or GiB (default:"
            " %(default)s)"
        ),
    )
    parser.add_argument(
        "--message-limit",
        metavar="SIZE",
        type=message_limit,
        default="1MiB",
        help="one answer of the agent: bytes, or with KiB or MiB (default: %(default)s)",
    )


def seed(text: str) -> int:
    digits = text.removeprefix("-")
    # Not int() alone: it takes "1_000" and other scripts' digits, and refuses 5000 digits with
    # words of its own.
    if (
        digits.isascii()
        and digits.isdigit()
        and len(digits) <= 19
        and -(1 << 63) <= int(text) < 1 << 63
    ):
        return int(text)
    raise wrong(text, "an integer of 64 bits: -2**63 to 2**63 - 1")


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if text.isascii() and "_" not in text and 0 < value <= TIMEOUT_MOST_S:
            return value
    raise wrong(text, f"a number of seconds, more than 0 and at most {TIMEOUT_MOST_S}")


def memory_limit(text: str) -> int:
    return size(text, 64 << 20, 1 << 40, "a size such as 512MiB or 2GiB, from 64MiB to 1024GiB")


def message_limit(text: str) -> int:
    return size(text, 4 << 10, 64 << 20, "a size such as 64KiB or 2MiB, from 4KiB to 64MiB")


def size(text: str, low: int, high: int, expected: str) -> int:
    """Bytes, plain or with a unit."""
    digits = text.rstrip("KMGiB")
    unit = text[len(digits) :]
    if unit in SIZES and digits.isascii() and digits.isdigit() and len(digits) <= 20:
        value = int(digits) * SIZES[unit]
        if low <= value <= high:
            return value
    raise wrong(text, expected)


def some_text(text: str) -> str:
    if not text:
        raise wrong(text, "a path")
    return text


def wrong(found: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        f"found {found if len(found) <= 60 else found[:57] + '...'!r}, expected {expected}"
    )


# --- the process and its streams -------------------------------------------------------------------------------------


def prepare_process() -> None:
    """What holds for the whole process, and is not done to one that merely calls ``main``."""
    open_closed_streams()
    # As at Ctrl-C: what was started and what is temporary is gone before this process is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def open_closed_streams() -> None:
    """Point stdin, stdout and stderr at nothing where they are closed, and let none of them fail on
    a character.

    Otherwise the next file to be opened takes a closed one's number, and is written into by whoever
    means stdout.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (it lives as long as we do)
        getattr(sys, name).reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    write(sys.stdout, text + "\n")


def say_json(document: dict[str, Any]) -> None:
    import json  # noqa: PLC0415

    say(json.dumps(document, allow_nan=False))


def as_json(row: "EpisodeResult") -> "JsonObject":
    from tracecore.record import as_dict  # noqa: PLC0415

    return as_dict(row)


def complain(exit_code: int, message: str) -> int:
    write(sys.stderr, f"{PROG}: {one_line(message)}\n")
    return exit_code


def one_line(text: str) -> str:
    from tracecore import errors  # noqa: PLC0415

    return errors.one_line(text)


def write(stream: Any, text: str) -> None:
    """Write and flush; a stream that nobody reads any more is pointed at nothing, and takes no exit
    code with it.
    """
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    prepare_process()
    sys.exit(main())
