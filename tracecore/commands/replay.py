"""``tracecore replay``: an artifact's episode once more, and whether both runs agree."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import Option, fill, options_of, path
from tracecore.commands.parts import (
    FAILED_ITSELF,
    add_command,
    allowances,
    new_job,
    read_valid_artifact,
    run_episode,
)
from tracecore.errors import InputError, UsageError, one_line
from tracecore.perf.slice.options import RunOptions
from tracecore.record import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tracecore.command_line.parser import Parser
    from tracecore.records import (
        AgentSource,
        JsonObject,
        TaskSource,
    )
    from tracecore.runtime.replay import Difference

REPLAY_TEXT: Final = """\
Runs the episode of a run artifact again, with the agent, task and seed that it names, and compares
both runs: by artifact_hash, or by trace_hash where only the version or commit of tracecore differs.
If they disagree, the first place in which they part is shown. TRACECORE_LLM_TRACE_REDACTION has to
be what it was then.
"""
DEFAULT_TIMEOUT_S: Final = 180.0
TIMEOUT_MOST_S: Final = 86_400
MODEL_OPTIONS: Final = ("models", "model_calls", "recordings", "model_delay")
EXITS: Final = {
    0: "the runs agree",
    1: "they differ",
    2: "a wrong option, an invalid artifact, or no such agent or task: nothing has run",
    4: FAILED_ITSELF,
    130: "interrupted",
}


def add(parser: Parser) -> None:
    """Add the command."""
    of_run = options_of(RunOptions)
    summary = "run an artifact's episode again and compare"
    command = add_command(parser, replay, summary, REPLAY_TEXT, EXITS)
    command.set_defaults(start_method="auto")
    names = ("tasks_dirs", "memory_limit_bytes", "message_limit_bytes", *MODEL_OPTIONS)
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


def replay(arguments: argparse.Namespace) -> tuple[int, str]:
    """``replay``: the episode of an artifact once more, and whether both runs agree."""
    from tracecore.perf.prepare import read_settings
    from tracecore.runtime.replay import first_difference

    old = read_valid_artifact(arguments.file)
    agent, task = find_sources(old, arguments)
    if arguments.timeout_s is None:
        arguments.timeout_s = recorded_timeout_s(old)
    with runs_folder(arguments):
        settings = read_settings(fill(RunOptions, arguments))
        job = new_job(arguments, agent, task, int(old["seed"]), settings)
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


def find_sources(old: JsonObject, arguments: argparse.Namespace) -> tuple[AgentSource, TaskSource]:
    """The agent and the task of an artifact, where they lie now.

    Raises:
        UsageError: There is none, and which option tells where it is.
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


def recorded_timeout_s(old: JsonObject) -> float:
    """The time limit of then."""
    recorded = old["budgets"].get("wall_clock_seconds") or DEFAULT_TIMEOUT_S
    return float(min(recorded, TIMEOUT_MOST_S))


@contextlib.contextmanager
def runs_folder(arguments: argparse.Namespace) -> Iterator[None]:
    """Have ``arguments.runs_dir`` name a folder: a private one, until the end of the block, if none
    was given.
    """
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
