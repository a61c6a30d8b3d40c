"""The readers of what others wrote, each fed mutated inputs; see ``fuzz.py``.

Each input is a good one that was cut, repeated, spliced or sprinkled with what readers trip over. A
reader may take it or refuse it with its own error; anything else is a finding.
"""

import contextlib
import json
import math
import os
import pathlib
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from fuzz_changes import mutate

from tracecore.errors import InputError
from tracecore.frames import Channel, ChannelClosed, ChannelTimeout, MessageTooLarge
from tracecore.perf.judge.thresholds import parse_threshold
from tracecore.perf.slice.journal import create_journal, resume_journal
from tracecore.perf.slice.journal_file import journal_path
from tracecore.perf.slice.scenario import read_scenario
from tracecore.records import EpisodeResult, Limits
from tracecore.runtime.agent.message import NotJson, parse_message
from tracecore.runtime.task.manifest import parse_manifest

PATIENCE_S: Final = 5  # for one input
MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108 - a private folder inside it
MEMORY_BYTES: Final = 2 << 30
BUNDLED_TASK: Final = pathlib.Path(__file__).parents[2] / "tracecore" / "tasks" / "rate_limited_api"
SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "message": (
        b'{"did":{"action":{"args":{"path":"/app","n":[1,2.5,null,true]},"type":"read_file"},"llm_trace":[]},"nonce":"a1","seq":3}',
        b'{"nonce":"a1","raised":{"message":"x","type":"ValueError","where":"act"},"seq":3}',
        b'{"nonce":"a1","seq":0,"violation":{"attempt":"open /etc/passwd"}}',
    ),
    "frames": (b"\x00\x00\x00\x05hello", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xffx"),
    "scenario.json": (
        b'[{"agent":"agents/toy_agent.py","task_ref":"a@1","seed":4,"allow":{"read":["x"],"network":["a.example"]}}]',
        b'{"scenario":[{"agent":"a.py","task_ref":"t"}]}',
    ),
    "scenario.toml": (
        (
            b'[[scenario]]\nagent = "a.py"\ntask_ref = "t@1"\nseed = -3\nallow = {read = ["x"],'
            b" network = []}\n"
        ),
    ),
    "manifest": ((BUNDLED_TASK / "task.toml").read_bytes(),),
    "threshold": (
        b"summary.p95_wall_clock_s <= 1.5",
        b"success_rate >= 0.99",
        b"metrics[agent=agents/toy_agent.py].success_rate >= 1",
        b"p95(wall_clock_s) < 2",
    ),
}


class Hang(BaseException):
    """One input took too long."""


def names() -> list[str]:
    """Every target."""
    return [*SEEDS, "journal"]


def fuzz(
    name: str, seed: int, *, inputs: int | None = None, seconds: float = math.inf
) -> dict[str, Any]:
    """Feed one target so many inputs, or for so long; gives the counts, and prints findings."""
    chance = random.Random(f"{name}:{seed}")  # noqa: S311 - repeatable, and no secret
    fed = findings = 0
    slowest_s, begun_s = 0.0, time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        watch_the_clock(),
        bounded_memory(MEMORY_BYTES),
    ):
        read, seeds = open_target(name, folder)
        while fed != inputs and time.monotonic() < begun_s + seconds:
            fed += 1
            data = mutate(chance, seeds)
            input_s = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            try:
                read(data)
            except (Exception, Hang) as error:  # whatever it is, it is a finding
                findings += 1
                print(f"{name}: {type(error).__name__}: {str(error)[:200]!a} from {data[:300]!r}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest_s = max(slowest_s, time.monotonic() - input_s)
    print(f"{name}: {fed} inputs, {findings} findings, slowest {slowest_s:.3f} s", flush=True)
    return {"target": name, "inputs": fed, "findings": findings, "slowest_s": round(slowest_s, 3)}


def memory_folder() -> str | None:
    """A folder in memory to make temporary ones in, where there is one."""
    return MEMORY_FOLDER if os.path.isdir(MEMORY_FOLDER) else None


@contextlib.contextmanager
def bounded_memory(most_bytes: int) -> Iterator[None]:
    """Have what needs more address space fail by a MemoryError, which is a finding."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def watch_the_clock() -> Iterator[None]:
    """Have :class:`Hang` raised when the alarm rings."""

    def ring(_number: int, _frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


# --- the targets: each takes an input, refuses it by its own error, or raises what is a finding --


def open_target(name: str, folder: str) -> tuple[Callable[[bytes], Any], tuple[bytes, ...]]:
    """The reader of a target, and the good inputs that mutations begin with."""
    if name == "journal":
        return journal_target(folder)
    readers: dict[str, Callable[[bytes], Any]] = {
        "message": read_message,
        "frames": read_frames,
        "scenario.json": file_target(os.path.join(folder, "x.json"), read_scenario),
        "scenario.toml": file_target(os.path.join(folder, "x.toml"), read_scenario),
        "manifest": refusing(lambda data: parse_manifest(str(BUNDLED_TASK), data)),
        "threshold": refusing(read_threshold),
    }
    return readers[name], SEEDS[name]


def refusing(function: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """``function``, whose own errors are one line of printable words."""

    def read(data: bytes) -> None:
        try:
            function(data)
        except InputError as error:
            if not str(error).isprintable():
                raise AssertionError(f"unprintable words: {str(error)!a}") from error

    return read


def file_target(path: str, function: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of files."""

    def read(data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
        function(path)

    return refusing(read)


def read_message(data: bytes) -> None:
    """The decoder of what agents send; what it takes can be written as JSON again."""
    with contextlib.suppress(NotJson):
        json.dumps(parse_message(data, Limits()), allow_nan=False)


def read_frames(data: bytes) -> None:
    """The channel, with a sender that has left."""
    down_r, down_w = os.pipe()
    up_r, up_w = os.pipe()
    os.write(down_w, data[:60_000])
    os.close(down_w)
    channel = Channel(down_r, up_w, 1 << 20)
    try:
        with contextlib.suppress(ChannelClosed, ChannelTimeout, MessageTooLarge):
            while True:
                channel.receive(time.monotonic() + 1)
                channel.spoke_unasked()
    finally:
        channel.close()
        os.close(up_r)


def read_threshold(data: bytes) -> None:
    """The parser of one threshold."""
    paths = ("summary.p95_wall_clock_s", "summary.failed", "success_rate")
    parse_threshold(
        data.decode("utf-8", "surrogateescape"),
        "fuzz",
        paths=paths,
        fields=("wall_clock_s", "agent", "success"),
    )


def journal_target(folder: str) -> tuple[Callable[[bytes], Any], tuple[bytes, ...]]:
    """The reader of journals, over one that three episodes have filled."""
    path = journal_path(folder, "fuzz")
    with create_journal(path, {"slice_id": "x", "n": 1}, 4, fsync="none") as journal:
        for index in range(3):
            journal.add(some_row(index))
    with open(path, "rb") as file:
        good = file.read()

    def read(data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
        journal = resume_journal(path, fsync="none")
        with journal:
            list(journal.rows_in_order())

    return refusing(read), (good,)


def some_row(index: int) -> EpisodeResult:
    """A row as an episode leaves it."""
    return EpisodeResult(
        episode=index + 1,
        episode_index=index,
        agent="agents/a.py",
        task_ref="t@1",
        seed=4,
        success=False,
        wall_clock_s=0.5,
        error="timeout: x",
        artifact_bytes=9,
        llm_trace_entries=0,
        prompt_bytes=0,
        completion_bytes=0,
        tokens_used=0,
        termination_reason="timeout",
        failure_type="timeout",
        steps_used=1,
        steps_budget=9,
        tool_calls_used=1,
        tool_calls_budget=9,
        run_id="id",
        artifact="x.json",
        artifact_hash="sha256:a",
        trace_hash="sha256:b",
        episode_s=0.5,
    )
