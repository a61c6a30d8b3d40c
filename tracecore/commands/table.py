"""Every command of ``tracecore``: what it is for, its exit codes and its options."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tracecore.command_line.options import (
    APPEND,
    Option,
    options_of,
    path,
    seconds,
    switch,
    whole_number,
    wrong,
)
from tracecore.commands.checks import check, check_task, doctor
from tracecore.commands.episodes import DEFAULT_TIMEOUT_S, replay, run, show
from tracecore.commands.listing import list_
from tracecore.perf.slice.options import OutputOptions, RunOptions
from tracecore.record import replace
from tracecore.records import ModelLimits

RUN_TEXT: Final = """\
Runs one episode in processes of its own, writes its run artifact, and shows what happened in it.
"""
SHOW_TEXT: Final = """\
Prints what happened in the episode of a run artifact: the task, each step with what it gave, model
calls, and how it ended.
"""
CHECK_TEXT: Final = """\
Checks run artifacts: whether each is JSON, keeps to the schema, and has the hashes of what it
holds. Prints a line for each named file that is valid, a line for each problem of one that is
not, and a total; of a folder only the problems.
"""
CHECK_TASK_TEXT: Final = """\
Checks task folders, for their authors: manifest, functions and parameters, then the task's own
code, which is run in this process. Prints a line for each thing that is wrong.
"""
REPLAY_TEXT: Final = """\
Runs the episode of a run artifact again, with the agent, task and seed that it names, and compares
both runs: by artifact_hash, or by trace_hash where only the version or commit of tracecore differs.
If they disagree, the first place in which they part is shown. TRACECORE_LLM_TRACE_REDACTION has to
be what it was then.
"""
LIST_TEXT: Final = """\
Lists the tasks and agents that a reference can name, bundled scenarios, the slices in the output
folder (finished, or to be finished with --resume) and published baselines.
"""
DOCTOR_TEXT: Final = """\
Tries out, in processes confined as agents are, which layers of confinement are in force on this
machine, and what each of them stops.
"""
FAILED_ITSELF: Final = "the artifact could not be written, or tracecore itself failed"
_LIMITS: Final[Mapping[str, Callable[[str], Any]]] = {
    "calls": whole_number(0, 1 << 40),
    "bytes": whole_number(0, 1 << 50),
    "wait_s": seconds(1 << 30, zero=True),
}


def _model_limits(text: str) -> ModelLimits:
    given = dict(word.partition("=")[::2] for word in text.split(","))
    if not given.keys() <= _LIMITS.keys():
        raise wrong(text, f"some of {', '.join(_LIMITS)}, each with = and a number")
    return ModelLimits(**{name: _LIMITS[name](most) for name, most in given.items()})


_OF_RUN: Final = options_of(RunOptions)
ARTIFACT: Final = Option(
    "file", "FILE", path, help="a valid run artifact of at most 64 MiB", is_required=True
)
# What an agent may reach beside the usual.
ALLOWANCES: Final = {
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

# By name, in the order of --help: the function, what it does in few words and in many, its exit
# codes, and its options.
COMMANDS: Final[
    Mapping[str, tuple[Callable[..., Any], str, str, Mapping[int, str], Mapping[str, Option]]]
] = {
    "run": (
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
            "runs_dir": _OF_RUN["runs_dir"],
            **{name: one for name, one in _OF_RUN.items() if one.is_of_episode},
            **ALLOWANCES,
            "debug": switch(
                "--debug", "in this process, unconfined and unlimited: prints and breakpoint() work"
            ),
            "json": switch("--json", "print one JSON object: {ok, artifact, episode}"),
        },
    ),
    "show": (
        show,
        "tell an artifact's episode",
        SHOW_TEXT,
        {0: "it was shown", 2: "a wrong option, or an artifact that is not valid"},
        {"file": ARTIFACT},
    ),
    "check": (
        check,
        "check run artifacts",
        CHECK_TEXT,
        {
            0: "all are valid",
            1: "some are not",
            2: "a wrong option, or a file that cannot be read; the others have been checked",
        },
        {
            "files": Option(
                "files",
                "FILE",
                path,
                help="a run artifact of at most 64 MiB, or a folder of them",
                nargs="+",
                is_required=True,
            )
        },
    ),
    "check-task": (
        check_task,
        "check a task's folder for its author",
        CHECK_TASK_TEXT,
        {
            0: "nothing wrong was found",
            1: "something was",
            2: "a wrong option, or a folder that cannot be read; the others have been checked",
        },
        {
            "folders": Option(
                "folders",
                "DIR",
                path,
                help="a task's folder, with its task.toml",
                nargs="+",
                is_required=True,
            )
        },
    ),
    "replay": (
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
            "file": ARTIFACT,
            "agent": Option(
                "--agent",
                "PATH",
                path,
                help="the agent's file, if it does not lie where the artifact names it",
                shown="",
            ),
            "timeout_s": replace(
                _OF_RUN["timeout_s"],
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
            **{
                name: _OF_RUN[name]
                for name in (
                    *("tasks_dirs", "memory_limit_bytes", "message_limit_bytes"),
                    *("models", "model_calls", "recordings", "model_delay"),
                )
            },
            **ALLOWANCES,
        },
    ),
    "list": (
        list_,
        "list tasks, agents, scenarios and slices",
        LIST_TEXT,
        {0: "it was listed", 2: "a wrong option"},
        {
            "tasks_dirs": _OF_RUN["tasks_dirs"],
            "output_dir": options_of(OutputOptions)["output_dir"],
            "json": switch("--json", "one JSON object"),
        },
    ),
    "doctor": (
        doctor,
        "try which layers confine agents here",
        DOCTOR_TEXT,
        {0: "it was found out", 2: "a wrong option", 4: "tracecore itself failed"},
        {"json": switch("--json", "one JSON object instead of text")},
    ),
}
