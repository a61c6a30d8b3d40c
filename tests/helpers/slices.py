"""Slices run as a user runs them: the script in a process of its own, in a clone that nobody else
changes; and its ``main`` in this process, where neither signals nor streams matter.
"""

import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import IO, Any

from helpers.faults import AGENT_FAULTS, Fault, write_agent, write_plain_task

from tracecore.descendants import children_of, send_signal
from tracecore.runtime import spec

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "perf_harness.py"
PATIENCE_S = 300.0  # a safety net: what does not come within it never will
# Time limits of an episode that is to run into one, tried in turn: on a busy machine it may not
# have got within the first one as far as it has to.
LIMITS_S = (0.3, 3.0, 30.0)
SERIES_KEYS = (
    *("episode", "episode_index", "agent", "task_ref", "seed", "success", "error"),
    *("llm_trace_entries", "prompt_bytes", "completion_bytes", "tokens_used"),
)
METRICS_KEYS = (
    *("task_ref", "agent", "run_count", "success_rate", "reproducibility_rate"),
    *("steps_p50", "steps_p95", "steps_ceiling"),
    *("tool_calls_p50", "tool_calls_p95", "tool_calls_ceiling"),
    *("failure_taxonomy", "termination_taxonomy", "llm_trace_entries_total"),
    *("prompt_bytes_total", "completion_bytes_total", "tokens_used_total"),
)
BAD_AGENTS = (
    "exits in its second act",
    "raises in reset",
    "gives NaN",
    "leaves a detached process",
)


@dataclass
class Slice:
    """A harness that has been started in ``folder``."""

    process: subprocess.Popen[bytes]
    folder: pathlib.Path

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> "Done":
        out, err = self.process.communicate(timeout=timeout_s)
        return Done(
            self.process.returncode, (out or b"").decode(), (err or b"").decode(errors="replace")
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def artifacts(self) -> list[pathlib.Path]:
        return sorted((self.folder / "runs").glob("[0-9a-f]*.json"))

    def wait_for_artifacts(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while len(self.artifacts()) < count and self.process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def wait_for_rows(self, count: int) -> None:
        """Until its journal has them: an artifact is on disk a moment before."""
        self.wait_for_artifacts(count)
        (journal,) = journals(self.folder)
        wait_until(lambda: journal.read_bytes().count(b"\n") > count)


@dataclass(frozen=True)
class Done:
    """How a harness ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        (line,) = self.stdout.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    @property
    def resume_words(self) -> list[str]:
        """The options of the command that it printed for finishing the slice."""
        (line,) = [line for line in self.stderr.splitlines() if "--resume" in line]
        words = shlex.split(line)
        return words[words.index("--resume") :]


def start(clone: pathlib.Path, folder: pathlib.Path, *options: str, **more: Any) -> Slice:
    """Start a slice whose files lie below ``folder``, which is also where it is started."""
    folders = () if "--runs-dir" in options else ("--runs-dir", "runs", "--output-dir", "out")
    command = [sys.executable, str(clone / "scripts" / "perf_harness.py"), *folders, *options]
    more.setdefault("cwd", folder)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Slice(subprocess.Popen(command, start_new_session=True, **{**streams, **more}), folder)


def run(clone: pathlib.Path, folder: pathlib.Path, *options: str, **more: Any) -> Done:
    return start(clone, folder, *options, **more).wait()


def call(*words: str) -> Done:
    """The script's ``main`` in this process, where it stands."""
    asks_for_end = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in asks_for_end]
    path = list(sys.path)
    with stream_into_file("stdout") as stdout, stream_into_file("stderr") as stderr:
        try:
            exit_code = script().main(words)
        finally:  # main ends its process's life, and is deaf from then on
            sys.path[:] = path
            for number, handler in zip(asks_for_end, handlers, strict=True):
                signal.signal(number, handler)
        return Done(exit_code, *(pathlib.Path(f.name).read_text() for f in (stdout, stderr)))


@contextlib.contextmanager
def stream_into_file(name: str) -> Iterator[IO[str]]:
    """Let all that goes to a standard stream go into a file, what its descriptor is given too."""
    before, number = getattr(sys, name), {"stdout": 1, "stderr": 2}[name]
    kept = os.dup(number)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="backslashreplace") as file:
        os.dup2(file.fileno(), number)
        stream = open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        try:
            yield file
        finally:
            stream.flush()
            setattr(sys, name, before)
            os.dup2(kept, number)
            os.close(kept)


@functools.cache
def script() -> ModuleType:
    """The harness's script, as a module."""
    spec = importlib.util.spec_from_file_location("perf_harness", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(folder: pathlib.Path, *words: str) -> str:
    """What git answers in ``folder``, under a name of the tests' own."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", "-C", str(folder), *who, *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


def commit_all(folder: pathlib.Path, message: str = "Begin") -> None:
    """Commit all that lies in ``folder``, which becomes a clone if it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def write_scenario(folder: pathlib.Path, *agents: str, bundled: bool = True) -> str:
    """A scenario of the bundled rows and of agents with these faults on the plain task; gives its
    options.
    """
    rows: list[dict[str, Any]] = []
    if bundled:
        rows += [
            {"agent": "agents/toy_agent.py", "task_ref": "filesystem_hidden_config@1", "seed": 42},
            {"agent": "agents/chain_agent.py", "task_ref": "rate_limited_chain@1", "seed": 7},
        ]
    for name in agents:
        (fault,) = [fault for fault in AGENT_FAULTS if fault.name == name]
        path = write_agent(fault, folder / (name.replace(" ", "_") + ".py"))
        rows.append({"agent": str(path), "task_ref": "plain@1", "seed": 0})
    (folder / "scenario.json").write_text(json.dumps(rows))
    return str(folder / "scenario.json")


HELD_SETUP = """\
import os, time

def setup(seed, env):
    if seed >= {free}:
        with open({gate!r} + ".pid", "w") as file:
            file.write(str(os.getpid()))
    while seed >= {free} and not os.path.exists({gate!r}):
        time.sleep(0.01)
    env.write_file("/app/seed", str(seed))
"""


def write_held_task(folder: pathlib.Path, free: int) -> list[str]:
    """The plain task, in which episodes of seeds from ``free`` on wait for :func:`let_go`: so that
    a test meets a slice where it wants to, on a busy machine as well. Gives the options for it.
    """
    setup = HELD_SETUP.format(free=free, gate=str(folder / "go"))
    write_plain_task(Fault("waits", "setup.py", setup, ()), folder / "tasks" / "plain")
    return ["--tasks-dir", str(folder / "tasks")]


def held_pid(folder: pathlib.Path) -> int:
    """The process of an episode that waits; 0 where none does yet."""
    path = folder / "go.pid"
    return int(path.read_text() or 0) if path.exists() else 0


def let_go(folder: pathlib.Path) -> None:
    (folder / "go").touch()


def write_held_slice(folder: pathlib.Path, free: int, episodes: int) -> list[str]:
    """Options of a slice whose episodes succeed, those from ``free`` on once they are let go."""
    agent = write_agent(None, folder / "good.py")
    (folder / "held.json").write_text(json.dumps([{"agent": str(agent), "task_ref": "plain@1"}]))
    shape = ["--episodes", str(episodes), "--workers", "2", "--scenario", str(folder / "held.json")]
    return [*shape, *write_held_task(folder, free)]


def read_files(folder: pathlib.Path, stamp: str) -> dict[str, Any]:
    return {
        kind: json.loads((folder / f"perf-{kind}-{stamp}.json").read_bytes())
        for kind in ("manifest", "summary", "metrics", "series")
    }


def substance(files: dict[str, Any], runs: pathlib.Path) -> dict[str, Any]:
    """What must be the same however often a slice was interrupted: everything but times, ids and
    bytes that hold them.
    """
    artifacts = [json.loads(path.read_bytes()) for path in runs.glob("[0-9a-f]*.json")]
    assert [problem for artifact in artifacts for problem in spec.problems(artifact)] == []
    return {
        "artifacts": sorted(
            (a["agent"], a["task_ref"], a["seed"], a["artifact_hash"]) for a in artifacts
        ),
        "series": [{key: row[key] for key in SERIES_KEYS} for row in files["series"]],
        "metrics": [{key: row[key] for key in METRICS_KEYS} for row in files["metrics"]],
        "counts": [
            files["summary"][key]
            for key in ("episodes", "success_count", "failure_count", "failure_reasons")
        ],
        "file_count": files["summary"]["run_artifacts"]["file_count"],
    }


def strays(folder: pathlib.Path) -> list[str]:
    """Files below that are neither final nor a journal."""
    found = [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and (path.name.endswith(".tmp") or ".probe" in path.name)
    ]
    return sorted(found)


def journals(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob(".perf-journal-*.jsonl"))


def wait_for_no_orphans() -> None:
    """Wait until everything below a killed harness is gone, which this process has adopted."""
    deadline_s = time.monotonic() + PATIENCE_S
    while left := [
        pid for pid in children_of(os.getpid()) if not _is_tracker(pid) and not _reaped(pid)
    ]:
        assert time.monotonic() < deadline_s, [(pid, _command(pid)) for pid in left]
        time.sleep(0.005)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _is_tracker(pid: int) -> bool:
    from multiprocessing import resource_tracker

    return pid == resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]


def _command(pid: int) -> str:
    try:
        return (
            pathlib.Path(f"/proc/{pid}/cmdline")
            .read_text(errors="replace")
            .replace("\0", " ")[:200]
        )
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Everything below ``pid``, in any order."""
    found: list[int] = []
    todo = [pid]
    while todo:
        children = children_of(todo.pop())
        found += children
        todo += children
    return found


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(holds: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        send_signal(pid, signal.SIGKILL)
