"""``tracecore run``: one episode, and what happened in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import FLAG, Option, fill, options_of, path, whole_number
from tracecore.commands.parts import (
    FAILED_ITSELF,
    add_command,
    allowances,
    new_job,
    run_episode,
)
from tracecore.errors import one_line
from tracecore.perf.slice.options import RunOptions
from tracecore.record import as_dict

if TYPE_CHECKING:
    import argparse

    from tracecore.command_line.parser import Parser
    from tracecore.records import (
        JsonObject,
    )

RUN_TEXT: Final = """\
Runs one episode in processes of its own, writes its run artifact, and shows what happened in it.
"""
EXITS: Final = {
    0: "the episode succeeded",
    1: "it failed",
    2: "a wrong option, agent or task: nothing has run",
    4: FAILED_ITSELF,
    130: "interrupted",
}


def add(parser: Parser) -> None:
    """Add the command."""
    of_run = options_of(RunOptions)
    command = add_command(parser, run, "run one episode and show what happened", RUN_TEXT, EXITS)
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
            "debug": Option(
                "--debug",
                action=FLAG,
                default=False,
                help="in this process, unconfined and unlimited: prints and breakpoint() work",
            ),
            "json": Option(
                "--json",
                action=FLAG,
                default=False,
                help="print one JSON object: {ok, artifact, episode}",
            ),
        }
    )


def run(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """``run``: one episode, and what happened in it."""
    from tracecore.perf.prepare import (
        check_confinement,
        find_sound_task,
        read_settings,
    )
    from tracecore.perf.show.episode_text import episode_lines
    from tracecore.runtime.task.catalog import find_agent

    options = fill(RunOptions, arguments)
    agent, task = find_agent(arguments.agent), find_sound_task(arguments.task, options.tasks_dirs)
    settings = read_settings(options)
    check_confinement(options)
    job = new_job(arguments, agent, task, arguments.seed, settings)
    row, artifact, path = run_episode(job, arguments)
    exit_code = 0 if row.success else 1
    if arguments.json:
        return exit_code, {"ok": row.success, "artifact": path, "episode": as_dict(row)}
    lines = [*episode_lines(artifact, row), f"  artifact    {one_line(path)}"]
    return exit_code, "\n".join(lines)
