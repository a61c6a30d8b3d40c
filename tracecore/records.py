"""The data that travels between floors and processes: frozen, small, and without behaviour.

Units are in the names: ``_s`` seconds, ``_ms`` milliseconds, ``_bytes`` bytes. Every record pickles
and compares by value.
"""

from typing import Any, Final

from tracecore.record import as_dict, field, record

JsonObject = dict[str, Any]

SPEC_VERSION: Final = "tracecore-spec-v1.0"


@record
class Budgets:
    """How much an episode may spend."""

    steps: int  # observations answered
    tool_calls: int  # actions executed


@record
class AgentSource:
    """An agent as it was referenced and found, before any of its code has run."""

    ref: str  # as the scenario or the command line wrote it
    path: str  # absolute path of the Python file
    sha256: str  # "sha256:<hex>" of the file's bytes


@record
class TaskSource:
    """A task as it was referenced and found, before any of its code has run."""

    ref: str  # "<id>@<version>", whatever was written
    folder: str  # absolute path of the folder that holds task.toml
    sha256: str  # "sha256:<hex>" over every file of the folder, names included


@record
class Limits:
    """What one agent process may use; ``None`` means no limit."""

    memory_bytes: int | None = 2 << 30  # address space
    file_bytes: int | None = 0  # the largest file it may write
    open_files: int | None = 256  # descriptors
    processes: int | None = 512  # and threads, in all; where they can be counted for agents alone
    message_bytes: int = 1 << 20  # one message from the agent
    message_depth: int = 32  # nesting of one message
    confinement: str = "auto"  # of agents: auto, require or off
    # names of layers left out, comma-separated: for tests of what the others hold
    layers_off: str = ""


@record
class GatewayAddress:
    """Where the gateway to models is asked; never in an agent's process."""

    control: str  # path of a Unix socket
    secret: str  # that goes with each request
    # Name of each model, and the variables in which agents find its address and their token.
    models: tuple[tuple[str, str, str], ...] = ()


@record
class ModelLimits:
    """What one episode may use of models; ``None`` means no limit."""

    calls: int | None = None
    bytes: int | None = None  # of requests and answers
    wait_s: float | None = None  # seconds that it may wait for them

    def as_json(self) -> JsonObject | None:
        """As documents show it; ``None`` when it limits nothing."""
        return {name: most for name, most in as_dict(self).items() if most is not None} or None


@record
class Settings:
    """What all jobs of a slice share."""

    runs_dir: str  # absolute folder of the run artifacts
    timeout_s: float = 180.0  # wall clock of one episode
    strict_spec: bool = False  # check every artifact against the schema before it counts
    redaction: str = "off"  # of prompts and completions: off, partial or full
    keep_runs: str = "all"  # which artifacts stay on disk: all, failed or none
    fsync: bool = False  # each artifact survives a power cut before its row is reported
    git_sha: str | None = None  # of the runtime, for runtime_identity
    limits: Limits = field(default_factory=Limits)
    gateway: GatewayAddress | None = None  # where models can be called


@record
class Allowance:
    """What a scenario row lets its agent reach beside what every agent may."""

    read: tuple[str, ...] = ()  # absolute paths of files, and of folders with all below
    network: tuple[str, ...] = ()  # "host:port"

    def as_json(self) -> JsonObject | None:
        """As documents show it; ``None`` when it allows nothing."""
        return (
            {"read": list(self.read), "network": list(self.network)}
            if self.read or self.network
            else None
        )


@record
class Job:
    """One episode to be run."""

    index: int  # 0-based place in the slice
    run_id: str  # 32 hex digits; also the artifact's file name
    agent: AgentSource
    task: TaskSource
    seed: int
    settings: Settings
    allow: Allowance = Allowance()
    model_limits: ModelLimits = ModelLimits()
    preload: bool = True  # whether what the agent imports may be loaded once for many episodes
    count_work: bool = False  # run it once more afterwards, under counting


@record
class Returned:
    """The job's function returned a value."""

    value: Any


@record
class Raised:
    """The job's function raised; the exception itself never crosses the process boundary."""

    kind: str  # the exception's type
    message: str


@record
class Exited:
    """The job's process ended without an answer."""

    code: int  # the negative of a signal where one that was not ours killed it


@record
class TimedOut:
    """The job's process was killed by its worker when its time was over."""

    limit_s: float


@record
class FellSilent:
    """The job's process closed its line to the worker without an answer, ran on, and was killed for
    that.
    """

    patience_s: float  # how long it was waited for


@record
class WorkerLost:
    """The worker died while it held the job, and a second one did too."""

    attempts: int
    reason: str  # how the last worker ended, in words


Ending = Returned | Raised | Exited | TimedOut | FellSilent | WorkerLost


@record
class Usage:
    """What one job cost, as its worker saw it.

    Offsets are monotonic seconds since the batch began.
    """

    wall_clock_s: float  # from taking the job to having swept everything it started
    start_offset_s: float = 0.0
    end_offset_s: float = 0.0
    queue_wait_s: float = 0.0  # from handing out to taking
    cpu_user_s: float = 0.0  # of every process of the job that was waited for
    cpu_sys_s: float = 0.0
    peak_rss_bytes: int = 0  # the largest single process
    worker: int = 0  # 0-based number of the worker
    attempt: int = 1  # 1, or 2 when a worker was lost
    # processes that were still there when the job had ended, and were killed
    leaked_processes: int = 0
    slot: int = 0  # 0-based number of the slot, below the number of episodes in flight
    # of every process of the job that was waited for; major ones, which read a disk, not counted
    page_faults: int = 0


@record
class Ended:
    """A job, how it ended, and what it cost."""

    job: Job
    ending: Ending
    usage: Usage


@record
class Running:
    """A job that a worker is running now."""

    job: Job
    since_s: float  # monotonic: when it became the one that its worker runs


@record
class Outcome:
    """How one episode ended, on whatever path."""

    termination_reason: str
    failure_type: str | None  # null on success
    failure_reason: str | None  # in words; null on success
    steps_used: int
    tool_calls_used: int
    head: JsonObject  # the run artifact without its action_trace
    artifact: bytes  # the whole run artifact as it will lie on disk
    stable_bytes: int = 0  # of what the artifact's hash covers


@record
class EpisodeResult:
    """The row that an episode leaves: it travels to the harness, into the journal, into every perf
    file. Its fields are those of the series, in their order.

    The figures behind ``episode_s`` are the episode's :class:`Usage`, under the same names.
    """

    episode: int  # 1-based number in the slice
    episode_index: int  # the same from 0
    agent: str  # as referenced
    task_ref: str
    seed: int
    success: bool  # counts as a success: solved, and (under strict spec) a valid artifact
    wall_clock_s: float  # the whole cost, as the harness pays it, isolation included
    error: str | None  # null on success, else the failure in words
    artifact_bytes: int
    llm_trace_entries: int
    prompt_bytes: int
    completion_bytes: int
    tokens_used: int
    termination_reason: str
    failure_type: str | None
    steps_used: int
    steps_budget: int
    tool_calls_used: int
    tool_calls_budget: int
    run_id: str
    artifact: str | None  # file name inside the runs folder; null when not kept
    artifact_hash: str
    trace_hash: str
    episode_s: float  # inside the isolation: the artifact's wall_clock_elapsed_s
    start_offset_s: float = 0.0
    end_offset_s: float = 0.0
    queue_wait_s: float = 0.0
    cpu_user_s: float = 0.0
    cpu_sys_s: float = 0.0
    peak_rss_bytes: int = 0
    worker: int = 0
    attempt: int = 1
    leaked_processes: int = 0
    slot: int = 0
    page_faults: int = 0
    part: int = 0  # of a slice that was resumed: how often before this episode; offsets are its own
    model_calls: int = 0  # to models, through the gateway
    model_bytes: int = 0  # of their requests and answers
    model_wait_s: float = 0.0  # how long the agent waited for at least one
    # what its scenario row allowed beside the usual: {"read": [...], "network": [...]}
    allow: JsonObject | None = None
    model_limits: JsonObject | None = None  # and what it bounded: {"calls", "bytes", "wait_s"}
    host: str | None = None  # on a cluster: the name of the machine that ran it
    # What the episode executes, of one that was counted: {"episode": {"lines", "calls",
    # "page_faults"}, "agent": {the same}, "messages", "bytes_written", "functions": {"episode":
    # {"module:function": [lines, calls]}, "agent": {…}}}.
    work: JsonObject | None = None


@record
class Verdict:
    """What a slice is judged to be."""

    exit_code: int  # the gravest of those that hold
    exit_codes: tuple[int, ...]  # all that hold, gravest first; 0 alone where everything is well
    reasons: tuple[str, ...]  # why, as sentences; of a good slice too
    breaches: tuple[str, ...]  # those of them that are about a gate
    warnings: tuple[str, ...]  # what does not hold, and gates nothing
    thresholds: tuple[JsonObject, ...]  # text, observed, limit, margin, status and severity of each
