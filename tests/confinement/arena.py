"""The place where hostile agents are let loose: a task with a secret, a victim of each kind, and a
look at the damage.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hostile import Hostile

from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.confinement.layers import NAMESPACES, WALL
from tracecore.confinement.readable import secret_folders
from tracecore.confinement.witness import place_of
from tracecore.perf.slice.engine import limit_behind_timeout
from tracecore.record import replace
from tracecore.records import Allowance, EpisodeResult, Job, Limits, Settings
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import run_job, settle
from tracecore.runtime.task.catalog import find_agent, find_task

# Layers that are taken off at once, which leaves an agent more than any of them alone: first the
# wall and the hook stand, then namespaces and the hook, then all but what names an attempt.
OFF_TOGETHER = {
    "namespaces": (*NAMESPACES, "capabilities"),
    "wall": WALL,
    "hook": ("audit_hook", "resource_limits"),
}
BUNDLED = (
    pathlib.Path(__file__).parent.parent.parent / "tracecore" / "tasks" / "filesystem_hidden_config"
)
MANIFEST = """\
id = "secret"
suite = "security"
version = 1
description = "Say what nobody told you."
deterministic = true
seed_behavior = "stochastic"
budgets = {steps = 3, tool_calls = 3}
action_surface = {source = "actions.py", schema = "functions"}
validator = {entrypoint = "validate.py:validate"}
setup = {entrypoint = "setup.py:setup"}
sandbox = {filesystem_roots = ["/app"], network_hosts = []}
"""
ACTIONS = """\
def set_env(env):
    global ENV
    ENV = env

def answer(text):
    ENV.set_agent_output("text", text)
    return {"ok": True}
"""
SETUP = """\
import hashlib
SALT = "canary-{salt}"

def setup(seed, env):
    secret = hashlib.sha256((SALT + str(seed)).encode()).hexdigest()[:16]
    env.set_hidden_state("secret", "canary-" + secret)
"""
VALIDATE = """\
def validate(env):
    right = env.get_hidden_state("secret") in str(env.get_agent_output("text"))
    return {"ok": right, "terminal": not right, "message": "wrong"}
"""


@dataclass(frozen=True)
class Arena:
    """Folders, and what an attacker would know of them."""

    root: pathlib.Path
    port: int
    victim_pid: int
    listener: socket.socket

    @property
    def agents(self) -> pathlib.Path:
        return self.root / "agents"

    @property
    def task(self) -> pathlib.Path:
        return self.root / "tasks" / "secret"

    @property
    def runs(self) -> pathlib.Path:
        return self.root / "runs"

    @property
    def victim(self) -> pathlib.Path:
        return self.root / "victim"

    def words(self, text: str) -> str:
        """``text`` with the arena's paths in it, as they stand in the words of an attempt."""
        paths = {"runs": self.runs, "victim": self.victim, "bundled": BUNDLED}
        shown = {name: place_of(str(path), str(self.agents)) for name, path in paths.items()}
        return text.format(port=self.port, task="secret@1", **shown)

    def damage(self) -> list[str]:
        """What is not as it was."""
        found = []
        if (
            self.victim.read_text() != "whole"
            or self.victim.stat().st_mode & 0o777 != 0o644
            or self.victim.stat().st_mtime < 9
        ):
            found.append("the victim file was changed")
        found += [
            str(path)
            for path in self.root.iterdir()
            if path.name not in {"agents", "tasks", "runs", "victim"}
        ]
        found += [str(path) for path in self.agents.iterdir() if path.name in {"new", "etc"}]
        try:
            os.kill(self.victim_pid, 0)
            status = pathlib.Path(f"/proc/{self.victim_pid}/stat").read_text()
            found += ["the victim process was killed"] if ") Z" in status else []
        except OSError:
            found.append("the victim process is gone")
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            found.append("somebody connected")
        return found


def write_secret(folder: pathlib.Path, salt: str) -> None:
    """The task's files into its folder."""
    setup = SETUP.format(salt=salt)
    files = {"task.toml": MANIFEST, "actions.py": ACTIONS, "validate.py": VALIDATE}
    for name, text in {**files, "setup.py": setup}.items():
        (folder / name).write_text(text)


@contextlib.contextmanager
def open_arena(root: pathlib.Path, table: tuple[Hostile, ...]):
    """Build it for a table of agents, and take it down."""
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        arena = Arena(root, listener.getsockname()[1], victim.pid, listener)
        for folder in (arena.agents, arena.task, arena.runs):
            folder.mkdir(parents=True)
        write_secret(arena.task, os.urandom(8).hex())
        (arena.runs / "x.json").write_text("{}")
        arena.victim.write_text("whole")
        arena.victim.chmod(0o644)
        (arena.agents / "link.py").symlink_to(arena.task / "setup.py")
        (arena.agents / "second.py").hardlink_to(arena.task / "setup.py")
        (arena.agents / "linked").symlink_to(arena.task)
        (arena.agents / f"native.{sys.implementation.cache_tag}-x86_64-linux-gnu.so").write_bytes(
            b"\x7fELF"
        )
        (arena.agents / "targets.py").write_text(
            f"TASK = {str(arena.task)!r}\nRUNS = {str(arena.runs)!r}\nVICTIM ="
            f" {str(arena.victim)!r}\nAGENTS = {str(arena.agents)!r}\nBUNDLED ="
            f" {str(BUNDLED)!r}\nMODULE = 'tracecore.tasks.{BUNDLED.name}.setup'\nPORT ="
            f" {arena.port}\nVICTIM_PID = {victim.pid}\nHARNESS_PID = {os.getpid()}\n"
        )
        for place, agent in enumerate(table):
            (arena.agents / f"agent_{place}.py").write_text(agent.source)
        try:
            yield arena
        finally:
            with contextlib.suppress(ProcessLookupError):
                victim.send_signal(signal.SIGKILL)
            victim.wait()


def let_loose(
    arena: Arena,
    table: tuple[Hostile, ...],
    *,
    limits: Limits,
    method: str = "fork",
    round_number: int = 0,
    timeout_s: float = 60.0,
    allow: Allowance = Allowance(),  # noqa: B008  (frozen)
    places: Sequence[int] | None = None,
) -> dict[str, EpisodeResult]:
    """Run every agent, or those in some places of the table, once and on the real path; the rows by
    the agent's name.
    """
    places = range(len(table)) if places is None else places
    tasks = (str(arena.task.parent),)
    task = find_task("secret@1", tasks_dirs=tasks)
    limits = replace(limits, memory_bytes=512 << 20)
    settings = Settings(str(arena.runs), timeout_s=timeout_s, strict_spec=True, limits=limits)
    jobs = []
    for place in places:
        agent = find_agent(str(arena.agents / f"agent_{place}.py"))
        run_id = f"{round_number:04x}{place:028x}"
        jobs.append(Job(place, run_id, agent, task, 7, settings, allow))
    options = BatchOptions(
        slots=2,
        limit_s=limit_behind_timeout(method),
        prepare=Preparation(limits, secret_folders(tasks, str(arena.runs))),
        method=method,
        adopt_orphans=True,
    )
    ended = list(run_batch(run_job, jobs, options))
    assert len(ended) == len(places)
    return {table[one.job.index].name: settle(one) for one in ended}


def artifact_of(arena: Arena, row: EpisodeResult) -> dict:
    """The run artifact of a row."""
    return json.loads((arena.runs / str(row.artifact)).read_text())
