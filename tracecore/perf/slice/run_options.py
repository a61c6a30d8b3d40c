"""The options of what is run and where; see :mod:`tracecore.perf.slice.options`."""

import re
from typing import Final

from tracecore import processes
from tracecore.command_line.options import (
    folder,
    one_of,
    option,
    option_record,
    path,
    repeated,
    seconds,
    size,
    size_text,
    switch,
    whole_number,
    wrong,
)
from tracecore.records import Limits

WORKERS: Final = 4  # unless they are given; a cluster has as many as it has threads then
EPISODES_MOST: Final = 10_000_000
WORKERS_MOST: Final = 1024
LATEST: Final = "latest"  # of the unfinished slices
UNFINISHED: Final = "unfinished"  # the one that there is
TIMEOUT_MOST_S: Final = 86_400


def stamp(text: str) -> str:
    """Reads the stamp of a slice, or a word that means one."""
    # It becomes part of file names: no separators, no dots to climb with.
    plain = text.replace("-", "").replace("_", "")
    if not (0 < len(text) <= 80 and text.isascii() and plain.isalnum()):
        raise wrong(text, "the stamp of a slice, such as 20260131T120000Z")
    return text


def cluster_address(text: str) -> str:
    """Reads where the scheduler of a cluster is."""
    if not re.fullmatch(r"local:(?!0+$)[0-9]{1,3}|[^\W_]+://(?s:.+)", text):
        expected = "such as tcp://host:8786, or local:N with N from 1 to 999"
        raise wrong(text, f"the address of a scheduler, {expected}")
    return text


@option_record
class RunOptions:
    """What is run, and how."""

    episodes: int = option(
        "--episodes",
        "N",
        whole_number(1, EPISODES_MOST),
        24,
        f"how many episodes, 1 to {EPISODES_MOST}",
        is_everyday=True,
    )
    scenario: str | None = option(
        "--scenario",
        "FILE",
        path,
        None,
        "rows of {agent, task_ref, seed}: a JSON list, or TOML [[scenario]] tables; tried as given,"
        " then inside the package",
        shown="the four bundled agents and tasks",
        is_everyday=True,
    )
    task: str | None = option(
        "--task",
        "REF",
        path,
        None,
        "a task, <id>@<version> or <id>: with --agent a scenario of one row",
        shown="",
        is_everyday=True,
    )
    agent: str | None = option(
        "--agent",
        "PATH",
        path,
        None,
        "an agent's file, as given, else inside the package; goes with --task",
        shown="",
        is_everyday=True,
    )
    seed: int | None = option(
        "--seed",
        "N",
        whole_number(-(1 << 63), (1 << 63) - 1),
        None,
        "of the first episode of that row; each further one adds one",
        shown="0",
    )
    tasks_dirs: tuple[str, ...] = repeated(
        "--tasks-dir",
        "DIR",
        folder,
        "a folder of more tasks, DIR/<task_id>/task.toml; they win over bundled ones; may be"
        " repeated",
        is_everyday=True,
        is_of_episode=True,
    )
    resume: str | None = option(
        "--resume",
        "STAMP",
        stamp,
        None,
        "finish the slice of this stamp, with the same options: only what is missing is run;"
        " without a stamp the one unfinished slice, latest the newest of several",
        shown="a new slice",
        nargs="?",
        bare=UNFINISHED,
        is_everyday=True,
        is_repeated=False,
    )
    repeat: int = option(
        "--repeat",
        "K",
        whole_number(1, 100),
        1,
        "run the slice K times, each with fresh workers and a set of files of its own: to compare"
        " times it takes three and more on each side",
        is_repeated=False,
    )
    workers: int | None = option(
        "--workers",
        "N",
        whole_number(1, WORKERS_MOST),
        None,
        f"how many episodes at a time, 1 to {WORKERS_MOST}; on a cluster at most, else as many as"
        " it has threads",
        shown=str(WORKERS),
        is_everyday=True,
    )
    timeout_s: float = option(
        "--timeout",
        "SECONDS",
        seconds(TIMEOUT_MOST_S),
        180.0,
        f"wall clock of one episode, more than 0 and at most {TIMEOUT_MOST_S}",
        is_everyday=True,
        is_of_episode=True,
    )
    strict_spec: bool = switch(
        "--strict-spec",
        "check every run artifact against its schema before its episode counts as a success",
        is_everyday=True,
        is_of_episode=True,
    )
    start_method: str = option(
        "--start-method",
        "HOW",
        one_of("auto", "fork", "spawn"),
        "auto",
        "how the processes of an episode start: auto (fork), fork or spawn",
        is_of_episode=True,
    )
    memory_limit_bytes: int = option(
        "--memory-limit",
        "SIZE",
        size(64 << 20, 1 << 40, "512MiB or 2GiB"),
        2 << 30,
        "address space of one agent process: bytes, or with KiB, MiB or GiB; 64MiB to 1024GiB",
        write=size_text,
        is_of_episode=True,
    )
    message_limit_bytes: int = option(
        "--message-limit",
        "SIZE",
        size(4 << 10, 64 << 20, "64KiB or 2MiB"),
        1 << 20,
        "one answer of an agent, what it appended to its llm_trace included: bytes, or with KiB or"
        " MiB; 4KiB to 64MiB",
        write=size_text,
        is_of_episode=True,
    )
    confinement: str = option(
        "--confinement",
        "HOW",
        one_of("auto", "require", "off"),
        "auto",
        "of agents: auto (every layer that the machine has), require (refuse to run if one is"
        " missing) or off",
        is_of_episode=True,
    )
    models: str | None = option(
        "--models",
        "FILE",
        path,
        None,
        "a TOML file of [[model]] tables: agents may call these through the gateway, which needs"
        " aiohttp",
        shown="none",
        is_of_episode=True,
    )
    model_calls: str = option(
        "--model-calls",
        "HOW",
        one_of("live", "record", "replay"),
        "live",
        "live, record (live, and every call is kept) or replay (what was recorded, without a"
        " network)",
        is_of_episode=True,
    )
    recordings: str = option(
        "--recordings",
        "DIR",
        path,
        ".agent_bench/recordings",
        "folder of recorded model calls",
        is_of_episode=True,
    )
    model_delay: str = option(
        "--model-delay",
        "WHEN",
        one_of("recorded", "none"),
        "none",
        "how long a replayed call takes: as long as it was recorded, or no time",
        is_of_episode=True,
    )
    runs_dir: str = option(
        "--runs-dir",
        "DIR",
        path,
        ".agent_bench/runs",
        "folder of the run artifacts",
        is_everyday=True,
    )
    keep_runs: str = option(
        "--keep-runs",
        "WHICH",
        one_of("all", "failed", "none"),
        "all",
        "which run artifacts stay on disk: all, failed or none",
    )
    fsync: str = option(
        "--fsync",
        "POLICY",
        one_of("none", "batch", "full"),
        "none",
        "what a power cut may cost: none (the run), batch (the last episodes) or full (nothing,"
        " slowly)",
    )

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


@option_record
class ClusterOptions:
    """On which cluster, if on one."""

    address: str | None = option(
        "--cluster",
        "ADDRESS",
        cluster_address,
        None,
        "run on a Dask cluster: its scheduler's address, such as tcp://host:8786, or local:N",
        shown="on this machine",
    )
    artifacts: str | None = option(
        "--artifacts",
        "WHERE",
        one_of("return", "node", "shared"),
        None,
        "run artifacts on a cluster: return (they come back), node (each node keeps its own) or"
        " shared (one folder for all)",
        shown="return",
    )
