"""``tracecore run``, ``show``, ``replay``: an episode is run, shown, and run again to compare."""

import argparse
import contextlib
import os
import sys
import tempfile
from typing import Final

from tracecore.clock import new_id
from tracecore.command_line.options import fill
from tracecore.command_line.run import program_name, write_line
from tracecore.errors import InputError, OptionError, UsageError, one_line
from tracecore.perf.slice.run_options import TIMEOUT_MOST_S, RunOptions
from tracecore.record import as_dict, replace
from tracecore.records import (
    AgentSource,
    Allowance,
    EpisodeResult,
    Job,
    JsonObject,
    Settings,
    TaskSource,
)

DEFAULT_TIMEOUT_S: Final = 180.0


def run(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """Run one episode, and show what happened in it."""
    from tracecore.perf.prepare import find_sound_task
    from tracecore.perf.show.episode_text import episode_lines
    from tracecore.runtime.task.catalog import find_agent

    agent = find_agent(arguments.agent)
    task = find_sound_task(arguments.task, arguments.tasks_dirs)
    row, artifact, path = run_episode(arguments, agent, task, arguments.seed)
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
    from tracecore.perf.show.episode_text import comparison_lines
    from tracecore.runtime.replay import first_difference

    old = read_valid_artifact(arguments.file)
    agent, task = find_sources(old, arguments)
    if arguments.timeout_s is None:
        recorded = old["budgets"].get("wall_clock_seconds") or DEFAULT_TIMEOUT_S
        arguments.timeout_s = float(min(recorded, TIMEOUT_MOST_S))
    kept = arguments.runs_dir
    with (
        contextlib.nullcontext(kept)
        if kept
        else tempfile.TemporaryDirectory(prefix="tracecore-replay-")
    ) as arguments.runs_dir:
        _row, new, path = run_episode(arguments, agent, task, int(old["seed"]))
    difference = first_difference(old, new)
    agrees = difference is None or difference.is_runtime_alone
    lines = comparison_lines(arguments.file, old, new, difference)
    if kept:
        lines.append(f"  artifact    {one_line(path)}")
    return 0 if agrees else 1, "\n".join(lines)


def run_episode(
    arguments: argparse.Namespace, agent: AgentSource, task: TaskSource, seed: int
) -> tuple[EpisodeResult, JsonObject, str]:
    """Run an episode that is no part of a slice, as a slice would; its row, its artifact, and where
    that lies as the caller would write it.

    Raises:
        InputError: An option is wrong, or something may not be allowed that is.
    """
    from tracecore.canon import decode
    from tracecore.perf.documents.files import check_writable
    from tracecore.perf.host import provenance
    from tracecore.perf.local_engine import run_one
    from tracecore.perf.prepare import COMMIT_UNKNOWN, check_confinement, read_settings
    from tracecore.perf.slice.models import reach_models
    from tracecore.runtime.job import run_job_debug

    options = fill(RunOptions, arguments)
    settings = read_settings(options)
    check_confinement(options)
    allow = _read_allowance(arguments, task, settings)
    check_writable(options.runs_dir)
    if trouble := provenance.git_trouble():
        write_line(f"{program_name()}: {COMMIT_UNKNOWN}: {trouble}")
    with reach_models(options, reaches_hosts=bool(allow.network)) as gateway:
        job = Job(
            index=0,
            run_id=new_id(),
            agent=agent,
            task=task,
            seed=seed,
            settings=replace(settings, gateway=gateway),
            allow=allow,
            model_limits=arguments.model_limits,
        )
        if getattr(arguments, "debug", False):
            row = run_job_debug(job)
        else:
            row = run_one(job, options.start_method, options.tasks_dirs)
    path = os.path.join(options.runs_dir, f"{job.run_id}.json")
    with open(path, "rb") as file:
        return row, decode(file.read()), path


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
        raise UsageError(f"{arguments.file}: {error}; {option} names its place") from error
