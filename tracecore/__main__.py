"""``python -m tracecore``: one episode by hand, run, checked or run again.

Spawned processes may import this module again, so that its top level imports next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from tracecore.command_line.options import Option
    from tracecore.command_line.parser import Parser
    from tracecore.records import (
        AgentSource,
        Allowance,
        EpisodeResult,
        Job,
        JsonObject,
        Settings,
        TaskSource,
    )
    from tracecore.runtime.replay import Difference

PROG = "python -m tracecore"
DESCRIPTION = "Runs one episode; shows, checks or runs again the episodes of run artifacts."
EPILOG = """\
`COMMAND --help` explains a command; slices are run by perf_harness.py.
"""
RUN_TEXT = """\
Runs one episode in processes of its own, writes its run artifact, and shows what happened in it.
"""
CHECK_TEXT = """\
Checks run artifacts: whether each is JSON, keeps to the schema, and has the hashes of what it
holds. Prints a line for each file that is valid, and a line for each problem of one that is not.
"""
SHOW_TEXT = """\
Tells what happened in the episode of a run artifact: the task, each step with what it gave, model
calls, and how it ended.
"""
DOCTOR_TEXT = """\
Tries out, in processes confined as agents are, which layers of confinement are in force on this
machine, and what each of them stops.
"""
REPLAY_TEXT = """\
Runs the episode of a run artifact again, with the agent, task and seed that it names, and compares
both runs: by artifact_hash, or by trace_hash where only the version or commit of tracecore differs.
If they disagree, the first place in which they part is shown. TRACECORE_LLM_TRACE_REDACTION has to
be what it was then.
"""
FAILED_ITSELF = "the artifact could not be written, or tracecore itself failed"
EXITS = {
    "run": {
        0: "the episode succeeded",
        1: "it failed",
        2: "a wrong option, agent or task: nothing has run",
        4: FAILED_ITSELF,
        130: "interrupted",
    },
    "check": {
        0: "all are valid",
        1: "some are not",
        2: "a wrong option, or a file that cannot be read; the others have been checked",
    },
    "show": {0: "it was shown", 2: "a wrong option, or an artifact that is not valid"},
    "doctor": {0: "it was found out", 2: "a wrong option", 4: "tracecore itself failed"},
    "replay": {
        0: "the runs agree",
        1: "they differ",
        2: "a wrong option, an invalid artifact, or no such agent or task: nothing has run",
        4: FAILED_ITSELF,
        130: "interrupted",
    },
}

DEFAULT_TIMEOUT_S = 180.0
TIMEOUT_MOST_S = 86_400


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the process's exit code."""
    if __name__ == "__main__":
        make_importable()
    from tracecore.command_line.run import run_command_line

    if argv is None:
        # As at Ctrl-C: what was started and what is temporary is gone before this process is.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_command_line(PROG, build_parser, argv, errors_on_stdout=False)


def make_importable() -> None:
    """Have ``python <clone>/tracecore`` find the package, whose own folder is on the path then."""
    package = os.path.dirname(os.path.realpath(__file__))
    if os.path.realpath(sys.path[0]) == package:
        sys.path[0] = os.path.dirname(package)


# --- run --------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """``run``: one episode, and what happened in it."""
    from tracecore.command_line.options import fill
    from tracecore.errors import one_line
    from tracecore.perf.prepare import (
        check_confinement,
        find_sound_task,
        read_settings,
    )
    from tracecore.perf.show.episode_text import episode_lines
    from tracecore.perf.slice.options import RunOptions
    from tracecore.record import as_dict
    from tracecore.runtime.task.catalog import find_agent

    options = fill(RunOptions, arguments)
    agent, task = find_agent(arguments.agent), find_sound_task(arguments.task, options.tasks_dirs)
    settings = read_settings(options)
    check_confinement(options)
    allow = read_allowance(arguments, task, settings)
    row, artifact, path = run_episode(
        new_job(agent, task, arguments.seed, settings, allow), arguments
    )
    exit_code = 0 if row.success else 1
    if arguments.json:
        return exit_code, {"ok": row.success, "artifact": path, "episode": as_dict(row)}
    lines = [*episode_lines(artifact, row), f"  artifact    {one_line(path)}"]
    return exit_code, "\n".join(lines)


def read_allowance(
    arguments: argparse.Namespace, task: TaskSource, settings: Settings
) -> Allowance:
    """What the agent may reach beside the usual.

    Raises:
        OptionError: It may not be allowed, or is not there.
    """
    from tracecore.confinement.readable import secret_folders
    from tracecore.errors import OptionError
    from tracecore.perf.slice.plan import resolve_allowance
    from tracecore.records import Allowance

    asked = Allowance(tuple(arguments.allow_read), tuple(arguments.allow_network))
    secret = secret_folders(arguments.tasks_dirs, settings.runs_dir, task.folder)
    allowance, mistakes = resolve_allowance(asked, secret)
    for where, found, expected in mistakes:
        raise OptionError(f"--allow-{where.partition('[')[0]}", "", found, expected)
    return allowance


def new_job(
    agent: AgentSource, task: TaskSource, seed: int, settings: Settings, allow: Allowance
) -> Job:
    """An episode that is no part of a slice."""
    from tracecore.clock import new_id
    from tracecore.records import Job

    return Job(
        index=0, run_id=new_id(), agent=agent, task=task, seed=seed, settings=settings, allow=allow
    )


def run_episode(job: Job, arguments: argparse.Namespace) -> tuple[EpisodeResult, JsonObject, str]:
    """Run it as a slice would; its row, its artifact, and where that lies as the caller would write
    it.
    """
    from tracecore.canon import decode
    from tracecore.command_line.options import fill
    from tracecore.command_line.run import say
    from tracecore.perf.documents.files import check_writable
    from tracecore.perf.host import provenance
    from tracecore.perf.local_engine import run_one
    from tracecore.perf.prepare import COMMIT_UNKNOWN
    from tracecore.perf.slice.models import reach_models
    from tracecore.perf.slice.options import RunOptions
    from tracecore.record import replace

    check_writable(arguments.runs_dir)
    if trouble := provenance.git_trouble():
        say(f"{PROG}: {COMMIT_UNKNOWN}: {trouble}")
    options = fill(RunOptions, arguments)
    with reach_models(options, reaches_hosts=bool(job.allow.network)) as gateway:
        job = replace(job, settings=replace(job.settings, gateway=gateway))
        row = run_one(job, arguments.start_method, arguments.tasks_dirs)
    path = os.path.join(arguments.runs_dir, f"{job.run_id}.json")
    with open(path, "rb") as file:
        return row, decode(file.read()), path


# --- check ------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> tuple[int, None]:
    """``check``: each file by itself; the gravest exit code of all."""
    return max([check_file(path) for path in arguments.files]), None


def check_file(path: str) -> int:
    """Check one artifact, and say what was found."""
    from tracecore.command_line.run import say, write
    from tracecore.errors import InputError, one_line
    from tracecore.runtime.replay import read_artifact

    try:
        _artifact, problems = read_artifact(path)
    except InputError as error:
        say(f"{PROG}: {error}")
        return 2
    write(sys.stdout, "".join(f"{one_line(f'{path}: {what}')}\n" for what in problems or ["valid"]))
    return 1 if problems else 0


# --- show -------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace) -> tuple[int, str]:
    """``show``: the episode of an artifact, step by step."""
    from tracecore.perf.show.console import Console
    from tracecore.perf.show.episode_text import story

    artifact = read_valid_artifact(arguments.file)
    console = Console(sys.stdout)
    return 0, story(artifact, console.page_width(), has_colour=console.has_colour)


# --- doctor -----------------------------------------------------------------------------------


def consult_doctor(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """``doctor``: the layers of confinement, each tried out."""
    from tracecore.confinement import doctor
    from tracecore.records import Limits

    found = doctor.probe(Limits())
    return 0, doctor.as_json(found) if arguments.json else doctor.as_text(found).rstrip()


# --- replay -----------------------------------------------------------------------------------


def replay(arguments: argparse.Namespace) -> tuple[int, str]:
    """``replay``: the episode of an artifact once more, and whether both runs agree."""
    from tracecore.command_line.options import fill
    from tracecore.errors import one_line
    from tracecore.perf.prepare import read_settings
    from tracecore.perf.slice.options import RunOptions
    from tracecore.runtime.replay import first_difference

    old = read_valid_artifact(arguments.file)
    agent, task = find_sources(old, arguments)
    if arguments.timeout_s is None:
        arguments.timeout_s = recorded_timeout_s(old)
    with runs_folder(arguments):
        settings = read_settings(fill(RunOptions, arguments))
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
    return 0 if agrees else 1, "\n".join(lines)


def read_valid_artifact(path: str) -> JsonObject:
    """The artifact in a file.

    Raises:
        InputError: It cannot be read.
        UsageError: It is not valid.
    """
    from tracecore.errors import UsageError
    from tracecore.runtime.replay import read_artifact

    artifact, problems = read_artifact(path)
    if problems:
        raise UsageError(f"{path}: {problems[0]}; `check` tells all that is wrong with it")
    return artifact


def find_sources(old: JsonObject, arguments: argparse.Namespace) -> tuple[AgentSource, TaskSource]:
    """The agent and the task of an artifact, where they lie now.

    Raises:
        UsageError: There is none, and which option tells where it is.
    """
    from tracecore.errors import InputError, UsageError
    from tracecore.record import replace
    from tracecore.runtime.task.catalog import find_agent, find_task

    option = "--agent"
    try:
        # Under the name of then: it is part of the artifact, and what is asked is whether the run
        # was the same.
        agent = replace(find_agent(arguments.agent or old["agent_ref"]), ref=old["agent_ref"])
        option = "--tasks-dir"
        return agent, find_task(old["task_ref"], arguments.tasks_dirs)
    except InputError as error:
        raise UsageError(f"{arguments.file}: {error}; {option} tells where it is") from error


def recorded_timeout_s(old: JsonObject) -> float:
    """The time limit of then."""
    recorded = old["budgets"].get("wall_clock_seconds") or DEFAULT_TIMEOUT_S
    return float(min(recorded, TIMEOUT_MOST_S))


@contextlib.contextmanager
def runs_folder(arguments: argparse.Namespace) -> Iterator[None]:
    """Have ``arguments.runs_dir`` name a folder: a private one, until the end of the block, if none
    was given.
    """
    import tempfile

    arguments.is_private = arguments.runs_dir is None
    if not arguments.is_private:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="tracecore-replay-") as folder:
        arguments.runs_dir = folder
        yield


def verdict_lines(
    path: str, old: JsonObject, new: JsonObject, difference: Difference | None
) -> list[str]:
    """Whether the runs agree, and if not where they part."""
    from tracecore.errors import one_line
    from tracecore.perf.show.episode_text import difference_lines

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


def cause_lines(old: JsonObject, new: JsonObject, *, agrees: bool) -> list[str]:
    """What may be behind a difference: all that went into the runs and is not the same."""
    from tracecore.errors import one_line

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


def runtime_text(artifact: JsonObject) -> str:
    """Which tracecore ran an episode."""
    identity = artifact["runtime_identity"]
    return (
        f"{identity['name']} {identity['version']} at {(identity['git_sha'] or 'no commit')[:12]}"
    )


# --- the command line -------------------------------------------------------------------------


def build_parser() -> Parser:
    """Every command and option."""
    from tracecore import __version__
    from tracecore.command_line.parser import Parser

    parser = Parser(PROG, DESCRIPTION, EPILOG)
    parser.add_version(f"tracecore {__version__}")
    add_run(parser)
    add_show(parser)
    add_check(parser)
    add_replay(parser)
    add_doctor(parser)
    return parser


def add_run(parser: Parser) -> None:
    """``run``."""
    from tracecore.command_line.options import FLAG, Option, options_of, path, whole_number
    from tracecore.perf.slice.options import RunOptions

    of_run = options_of(RunOptions)
    command = add_command(parser, "run", run, "run one episode and show what happened", RUN_TEXT)
    command.add_options(
        {
            "agent": Option(
                "--agent",
                "PATH",
                path,
                help="an agent's file: as given, else inside the package",
                is_required=True,
            ),
            "task": Option(
                "--task",
                "REF",
                path,
                help="<id>@<version>, or <id> if there is one version only",
                is_required=True,
            ),
            "seed": Option(
                "--seed", "N", whole_number(-(1 << 63), (1 << 63) - 1), 0, "an integer of 64 bits"
            ),
            "runs_dir": of_run["runs_dir"],
            **{name: one for name, one in of_run.items() if one.is_of_episode},
            **allowances(),
            "json": Option(
                "--json",
                action=FLAG,
                default=False,
                help="print one JSON object: {ok, artifact, episode}",
            ),
        }
    )


def add_show(parser: Parser) -> None:
    """``show``."""
    from tracecore.command_line.options import Option, path

    command = add_command(parser, "show", show, "tell an artifact's episode", SHOW_TEXT)
    what = "a valid run artifact of at most 64 MiB"
    command.add_options({"file": Option("file", "FILE", path, help=what, is_required=True)})


def add_check(parser: Parser) -> None:
    """``check``."""
    from tracecore.command_line.options import Option, path

    command = add_command(parser, "check", check, "check run artifacts", CHECK_TEXT)
    command.add_options(
        {
            "files": Option(
                "files",
                "FILE",
                path,
                help="a run artifact of at most 64 MiB",
                nargs="+",
                is_required=True,
            )
        }
    )


def add_replay(parser: Parser) -> None:
    """``replay``."""
    from tracecore.command_line.options import Option, options_of, path
    from tracecore.perf.slice.options import RunOptions
    from tracecore.record import replace

    of_run = options_of(RunOptions)
    summary = "run an artifact's episode again and compare"
    command = add_command(parser, "replay", replay, summary, REPLAY_TEXT)
    command.set_defaults(start_method="auto")
    names = ("tasks_dirs", "memory_limit_bytes", "message_limit_bytes")
    command.add_options(
        {
            "file": Option(
                "file",
                "FILE",
                path,
                help="a valid run artifact of at most 64 MiB",
                is_required=True,
            ),
            "agent": Option(
                "--agent",
                "PATH",
                path,
                help="the agent's file, if it does not lie where the artifact names it",
                shown="",
            ),
            "timeout_s": replace(
                of_run["timeout_s"],
                default=None,
                help="wall clock of the episode",
                shown=f"what it was then, {DEFAULT_TIMEOUT_S:g} if the artifact has none",
            ),
            "runs_dir": Option(
                "--runs-dir",
                "DIR",
                path,
                help="folder in which the second run's artifact stays",
                shown="it is removed",
            ),
            **{name: of_run[name] for name in names},
            **allowances(),
        }
    )


def add_doctor(parser: Parser) -> None:
    """``doctor``."""
    from tracecore.command_line.options import FLAG, Option

    summary = "try which layers confine agents here"
    command = add_command(parser, "doctor", consult_doctor, summary, DOCTOR_TEXT)
    command.add_options(
        {
            "json": Option(
                "--json", action=FLAG, default=False, help="one JSON object instead of text"
            )
        }
    )


def allowances() -> Mapping[str, Option]:
    """What an agent may reach beside the usual."""
    from tracecore.command_line.options import APPEND, Option, path

    return {
        "allow_read": Option(
            "--allow-read",
            "PATH",
            path,
            (),
            "a file, or a folder with all below, that the agent may read beside the usual; may be"
            " repeated",
            action=APPEND,
        ),
        "allow_network": Option(
            "--allow-network",
            "HOST:PORT",
            path,
            (),
            "a host and port that the agent may connect to; may be repeated",
            action=APPEND,
        ),
    }


def add_command(parser: Parser, name: str, do: Any, summary: str, description: str) -> Parser:
    """A command with its exit codes."""
    from tracecore.exit_codes import as_help

    return parser.add_command(name, do, summary, description, as_help(EXITS[name]))


if __name__ == "__main__":
    sys.exit(main())
