"""What a slice is asked for, and the commands that ask for it again."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from tracecore import processes
from tracecore.perf.slice.commands import REDACTION_VARIABLE, as_command, as_typed, repro_command
from tracecore.perf.slice.journal import Fsync
from tracecore.record import record, replace
from tracecore.records import EpisodeResult, Job, JsonObject, Limits

# Behind the time limit of an episode, for its own process to write down that the agent was too
# slow; then its worker kills it. A spawned process counts its time from when it is up, and needs a
# while for that on a busy machine.
GRACE_S: Final = {processes.FORK: 1.0, processes.SPAWN: 5.0}


def limit_behind_timeout(method: str) -> Callable[[Job], float]:
    """How many seconds the process of a job has before it is killed."""
    return lambda job: job.settings.timeout_s + GRACE_S[method]


@record
class SliceOptions:
    """What the command line says; see ``--help`` of ``scripts/perf_harness.py``."""

    episodes: int = 24
    workers: int = 4
    timeout_s: float = 180.0
    strict_spec: bool = False
    compress: bool = False
    output_dir: str = "deliverables/perf"
    runs_dir: str = ".agent_bench/runs"
    scenario: str | None = None
    tasks_dirs: tuple[str, ...] = ()
    start_method: str = "auto"
    progress: str = "auto"
    memory_limit_bytes: int = 2 << 30
    message_limit_bytes: int = 1 << 20
    confinement: str = "auto"
    keep_runs: str = "all"
    fsync: Fsync = "none"
    resume: str | None = None
    sample_interval_s: float = 0.5  # 0: no samples
    gate: bool = False
    no_gate: bool = False
    thresholds: tuple[str, ...] = ()  # files
    threshold: tuple[str, ...] = ()  # expressions
    verify_determinism: int | None = None
    emit: tuple[str, ...] = ()
    step_summary: str | None = None
    report: bool = False  # charts and a page; needs the report extra
    baseline: tuple[str, ...] = ()  # archived sets to compare with
    gate_on: str = "cpu"  # metrics that can fail the comparison, with commas between
    compare_anyway: bool = False
    require_conclusive: bool = False
    accept_changes: bool = False
    cluster: str | None = None  # tcp://host:port or local:N; needs the cluster extra
    artifacts: str | None = None  # on a cluster: return, node or shared
    # on a cluster, which has as many as it has threads unless fewer are asked for
    workers_asked: int | None = None

    @property
    def limits(self) -> Limits:
        """What one agent process may use."""
        return Limits(
            memory_bytes=self.memory_limit_bytes,
            message_bytes=self.message_limit_bytes,
            confinement=self.confinement,
        )

    @property
    def method(self) -> str:
        """How the processes of an episode start: ``fork`` or ``spawn``."""
        return processes.method_of(self.start_method)


def without_cluster(options: SliceOptions) -> SliceOptions:
    """The same slice on this machine."""
    workers = options.workers_asked or SliceOptions().workers
    return replace(options, cluster=None, artifacts=None, workers=workers)


def resume_command(options: SliceOptions, stamp: str) -> str:
    """The command that finishes this slice."""
    return _command(options, ["--resume", stamp])


def slice_command(options: SliceOptions) -> str:
    """The command that runs such a slice again."""
    return _command(options, [])


def episode_words(options: SliceOptions) -> list[str]:
    """Of what this slice is told, what ``python -m tracecore run`` must be told as well for an
    episode of it to be the same.
    """
    return _words(options, _EPISODE_FLAGS, {"tasks_dirs": _REPEATED_FLAGS["tasks_dirs"]})


def repro_of(options: SliceOptions) -> Callable[[EpisodeResult | JsonObject], str]:
    """What makes the command that repeats an episode of this slice alone."""
    return functools.partial(repro_command, options=episode_words(options))


def _command(options: SliceOptions, first: list[str]) -> str:
    redaction = os.environ.get(REDACTION_VARIABLE)
    words = [f"{REDACTION_VARIABLE}={redaction}"] if redaction else []
    script = (
        sys.argv[0]
        if os.path.basename(sys.argv[0]) == "perf_harness.py"
        else "scripts/perf_harness.py"
    )
    words += ["python", as_typed(script), *first]
    if options.cluster:
        # those of the cluster are its own affair
        options = replace(options, workers=without_cluster(options).workers)
    words += _words(options, _FLAGS, _REPEATED_FLAGS)
    return as_command(words)


def _words(
    options: SliceOptions, flags: Mapping[str, str], repeated_flags: Mapping[str, str]
) -> list[str]:
    """What differs from the defaults, as one types it."""
    defaults, words = SliceOptions(), []
    for name, flag in flags.items():
        value = getattr(options, name)
        if value != getattr(defaults, name):
            words += [flag] if value is True else [flag, str(value)]
    for name, flag in repeated_flags.items():
        for value in getattr(options, name):
            words += [flag, value]
    return words


_FLAGS: Final = {
    "episodes": "--episodes",
    "workers": "--workers",
    "timeout_s": "--timeout",
    "strict_spec": "--strict-spec",
    "compress": "--compress",
    "output_dir": "--output-dir",
    "runs_dir": "--runs-dir",
    "scenario": "--scenario",
    "start_method": "--start-method",
    "memory_limit_bytes": "--memory-limit",
    "message_limit_bytes": "--message-limit",
    "confinement": "--confinement",
    "keep_runs": "--keep-runs",
    "fsync": "--fsync",
    "sample_interval_s": "--sample-interval",
    "gate": "--gate",
    "no_gate": "--no-gate",
    "verify_determinism": "--verify-determinism",
    "step_summary": "--step-summary",
    "report": "--report",
    "gate_on": "--gate-on",
    "compare_anyway": "--compare-anyway",
    "require_conclusive": "--require-conclusive",
    "accept_changes": "--accept-changes",
    "cluster": "--cluster",
    "artifacts": "--artifacts",
}
_EPISODE_FLAGS: Final = {
    name: _FLAGS[name]
    for name in (
        "timeout_s",
        "strict_spec",
        "start_method",
        "memory_limit_bytes",
        "message_limit_bytes",
        "confinement",
    )
}
_REPEATED_FLAGS: Final = {
    "tasks_dirs": "--tasks-dir",
    "thresholds": "--thresholds",
    "threshold": "--threshold",
    "emit": "--emit",
    "baseline": "--baseline",
}
