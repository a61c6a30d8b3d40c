"""``tracecore run``, ``show``, ``replay``: an episode is run, shown, and run again to compare."""

import argparse
import contextlib
import sys
import tempfile
from typing import Final

from tracecore.command_line.options import Option, fill, flag, options_of, path, whole_number
from tracecore.command_line.parser import Parser
from tracecore.commands.parts import add_command, allowances, new_job, run_episode
from tracecore.errors import InputError, UsageError, one_line
from tracecore.perf.slice.options import RunOptions
from tracecore.record import as_dict, replace
from tracecore.records import AgentSource, JsonObject, TaskSource

RUN_TEXT: Final = """\
Runs one episode in processes of its own, writes its run artifact, and shows what happened in it.
"""
SHOW_TEXT: Final = """\
Prints what happened in the episode of a run artifact: the task, each step with what it gave, model
calls, and how it ended.
"""
REPLAY_TEXT: Final = """\
Runs the episode of a run artifact again, with the agent, task and seed that it names, and compares
both runs: by artifact_hash, or by trace_hash where only the version or commit of tracecore differs.
If they disagree, the first place in which they part is shown. TRACECORE_LLM_TRACE_REDACTION has to
be what it was then.
"""
FAILED_ITSELF: Final = "the artifact could not be written, or tracecore itself failed"
FILE: Final = Option(
    "file", "FILE", path, help="a valid run artifact of at most 64 MiB", is_required=True
)
DEFAULT_TIMEOUT_S: Final = 180.0
TIMEOUT_MOST_S: Final = 86_400


def add_run(parser: Parser) -> None:
    """Add ``run``."""
    of_run = options_of(RunOptions)
    add_command(
        parser,
        run,
        "run one episode and show what happened",
        RUN_TEXT,
        {
            0: "the episode succeeded",
            1: "it failed",
            2: "a wrong option, agent or task: nothing has run",
            4: FAILED_ITSELF,
            130: "interrupted",
        },
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
            "debug": flag(
                "--debug", "in this process, unconfined and unlimited: prints and breakpoint() work"
            ),
            "json": flag("--json", "print one JSON object: {ok, artifact, episode}"),
        },
    )


def add_show(parser: Parser) -> None:
    """Add ``show``."""
    exits = {0: "it was shown", 2: "a wrong option, or an artifact that is not valid"}
    add_command(parser, show, "tell an artifact's episode", SHOW_TEXT, exits, {"file": FILE})


def add_replay(parser: Parser) -> None:
    """Add ``replay``."""
    of_run = options_of(RunOptions)
    names = (
        *("tasks_dirs", "memory_limit_bytes", "message_limit_bytes"),
        *("models", "model_calls", "recordings", "model_delay"),
    )
    add_command(
        parser,
        replay,
        "run an artifact's episode again and compare",
        REPLAY_TEXT,
        {
            0: "the runs agree",
            1: "they differ",
            2: "a wrong option, an invalid artifact, or no such agent or task: nothing has run",
            4: FAILED_ITSELF,
            130: "interrupted",
        },
        {
            "file": FILE,
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
        },
    )


def run(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """Run one episode, and show what happened in it."""
    from tracecore.perf.prepare import check_confinement, find_sound_task, read_settings
    from tracecore.perf.show.episode_text import episode_lines
    from tracecore.runtime.task.catalog import find_agent

    options = fill(RunOptions, arguments)
    agent, task = find_agent(arguments.agent), find_sound_task(arguments.task, options.tasks_dirs)
    settings = read_settings(options)
    check_confinement(options)
    job = new_job(arguments, agent, task, arguments.seed, settings)
    row, artifact, path = run_episode(job, options, is_debugged=arguments.debug)
    exit_code = 0 if row.success else 1
    if arguments.json:
        return exit_code, {"ok": row.success, "artifact": path, "episode": as_dict(row)}
    lines = [*episode_lines(artifact, row), f"  artifact    {one_line(path)}"]
    return exit_code, "\n".join(lines)


def show(arguments: argparse.Namespace) -> tuple[int, str]:
    """The episode of an artifact, step by step."""
    from tracecore.perf.show.episode_text import story
    from tracecore.perf.show.terminal import Console

    artifact = read_valid_artifact(arguments.file)
    console = Console(sys.stdout)
    return 0, story(artifact, console.page_width(), has_colour=console.has_colour)


def replay(arguments: argparse.Namespace) -> tuple[int, str]:
    """Run the episode of an artifact once more, and show whether both runs agree."""
    from tracecore.perf.prepare import read_settings
    from tracecore.perf.show.episode_text import comparison_lines
    from tracecore.runtime.replay import first_difference

    old = read_valid_artifact(arguments.file)
    agent, task = find_sources(old, arguments)
    if arguments.timeout_s is None:
        recorded = old["budgets"].get("wall_clock_seconds") or DEFAULT_TIMEOUT_S
        arguments.timeout_s = float(min(recorded, TIMEOUT_MOST_S))
    with contextlib.ExitStack() as stack:
        is_kept = arguments.runs_dir is not None
        if not is_kept:
            private = tempfile.TemporaryDirectory(prefix="tracecore-replay-")
            arguments.runs_dir = stack.enter_context(private)
        options = fill(RunOptions, arguments)
        job = new_job(arguments, agent, task, int(old["seed"]), read_settings(options))
        _row, new, path = run_episode(job, options)
    difference = first_difference(old, new)
    agrees = difference is None or difference.is_runtime_alone
    lines = comparison_lines(arguments.file, old, new, difference)
    if is_kept:
        lines.append(f"  artifact    {one_line(path)}")
    return 0 if agrees else 1, "\n".join(lines)


def read_valid_artifact(path: str) -> JsonObject:
    """The artifact in a file.

    Raises:
        InputError: It cannot be read.
        UsageError: It is not valid.
    """
    from tracecore.runtime.replay import read_artifact

    artifact, problems = read_artifact(path)
    if problems:
        raise UsageError(f"{path}: {problems[0]}; `check` shows all that is wrong with it")
    return artifact


def find_sources(old: JsonObject, arguments: argparse.Namespace) -> tuple[AgentSource, TaskSource]:
    """The agent and the task of an artifact, where they lie now.

    Raises:
        UsageError: There is none, and which option names its place.
    """
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
