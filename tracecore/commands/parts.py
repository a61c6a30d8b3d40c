"""What several commands share."""

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracecore.clock import new_id
from tracecore.command_line.options import APPEND, Option, path, seconds, whole_number, wrong
from tracecore.command_line.parser import Parser
from tracecore.command_line.run import program_name, write_line
from tracecore.errors import OptionError
from tracecore.exit_codes import as_help
from tracecore.perf.slice.options import RunOptions
from tracecore.record import replace
from tracecore.records import (
    AgentSource,
    Allowance,
    EpisodeResult,
    Job,
    JsonObject,
    ModelLimits,
    Settings,
    TaskSource,
)

_LIMITS: Final[Mapping[str, Callable[[str], Any]]] = {
    "calls": whole_number(0, 1 << 40),
    "bytes": whole_number(0, 1 << 50),
    "wait_s": seconds(1 << 30, zero=True),
}


def run_episode(
    job: Job, options: RunOptions, *, is_debugged: bool = False
) -> tuple[EpisodeResult, JsonObject, str]:
    """Run it as a slice would; its row, its artifact, and where that lies as the caller would write
    it.
    """
    from tracecore.canon import decode
    from tracecore.perf.documents.files import check_writable
    from tracecore.perf.host import provenance
    from tracecore.perf.local_engine import run_one
    from tracecore.perf.prepare import COMMIT_UNKNOWN
    from tracecore.perf.slice.models import reach_models
    from tracecore.runtime.job import run_job_debug

    check_writable(options.runs_dir)
    if trouble := provenance.git_trouble():
        write_line(f"{program_name()}: {COMMIT_UNKNOWN}: {trouble}")
    with reach_models(options, reaches_hosts=bool(job.allow.network)) as gateway:
        job = replace(job, settings=replace(job.settings, gateway=gateway))
        if is_debugged:
            row = run_job_debug(job)
        else:
            row = run_one(job, options.start_method, options.tasks_dirs)
    path = os.path.join(options.runs_dir, f"{job.run_id}.json")
    with open(path, "rb") as file:
        return row, decode(file.read()), path


def new_job(
    arguments: argparse.Namespace,
    agent: AgentSource,
    task: TaskSource,
    seed: int,
    settings: Settings,
) -> Job:
    """An episode that is no part of a slice, with what ``arguments`` let its agent reach.

    Raises:
        OptionError: Something of that may not be allowed, or is not there.
    """
    return Job(
        index=0,
        run_id=new_id(),
        agent=agent,
        task=task,
        seed=seed,
        settings=settings,
        allow=_read_allowance(arguments, task, settings),
        model_limits=arguments.model_limits,
    )


def _read_allowance(
    arguments: argparse.Namespace, task: TaskSource, settings: Settings
) -> Allowance:
    from tracecore.confinement.readable import secret_folders
    from tracecore.perf.slice.plan import resolve_allowance

    asked = Allowance(tuple(arguments.allow_read), tuple(arguments.allow_network))
    secret = secret_folders(arguments.tasks_dirs, settings.runs_dir, task.folder)
    allowance, mistakes = resolve_allowance(asked, secret)
    for where, found, expected in mistakes:
        raise OptionError(f"--allow-{where.partition('[')[0]}", "", found, expected)
    return allowance


def allowances() -> Mapping[str, Option]:
    """What an agent may reach beside the usual."""
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
        "model_limits": Option(
            "--model-limits",
            "LIMITS",
            _model_limits,
            ModelLimits(),
            "what the agent may use of models: calls=20,bytes=2000000,wait_s=120, or some of these",
            shown="none",
        ),
    }


def _model_limits(text: str) -> ModelLimits:
    given = dict(word.partition("=")[::2] for word in text.split(","))
    if not given.keys() <= _LIMITS.keys():
        raise wrong(text, f"some of {', '.join(_LIMITS)}, each with = and a number")
    return ModelLimits(**{name: _LIMITS[name](most) for name, most in given.items()})


def add_command(
    parser: Parser,
    do: Any,
    summary: str,
    description: str,
    exits: Mapping[int, str],
    options: Mapping[str, Option],
) -> None:
    """Add a command with its exit codes and options."""
    name = do.__name__.rstrip("_").replace("_", "-")
    parser.add_command(name, do, summary, description, as_help(exits)).add_options(options)
