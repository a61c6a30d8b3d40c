"""The zygote: it forks an agent process for each episode, and watches and buries it.

::

    nursery ──starts, once per reach──▶ (keeper ──▶) zygote ──forks, per episode──▶ agent process

A zygote executes no agent, and compiles one only once its first process has shown that this ends,
and soon: until then each compiles for itself, within its episode's time limit. It was started
before its worker had read a task, and holds no task code, hidden state or result: what an agent
must not see was never in its memory.

A zygote is confined to what its agents may reach, so that there is one for each folder of agents
and each allowance. They come from the nursery, which was started with the worker and knows no more
than they do: a worker that has read a task may start no zygote itself. Where process ids have a
namespace, the keeper stands outside of it and waits.

A zygote waits for everything at once: requests of its worker, the death of each agent, and each
agent's life line, over which an episode asks why its agent is silent, and which ends with the
episode. When its worker is gone its socket ends, and it kills its agents and leaves.
"""

import contextlib
import json
import math
import os
import select
import signal
import socket
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.clock import monotonic_s
from tracecore.confinement import layers, namespaces
from tracecore.confinement.layers import Confinement
from tracecore.record import as_dict, mutable_record, record, replace
from tracecore.records import Limits
from tracecore.runtime.agent.preload import load
from tracecore.runtime.agent.start import compiled, serve_forked, serve_spawned

MESSAGE_BYTES: Final = 1 << 16
ENDS: Final = 4  # descriptors that come with the request for an agent
EXPLAIN: Final = b"explain"  # over the life line: how did it end?
EXIT_PATIENCE_S: Final = 0.25  # between an agent closing its pipe and its death, when it is dying
LOOK_INTERVAL_S: Final = 0.02  # at whether an agent has ended, on a platform without pidfds
# of a process that compiled its agent: where it used more, the zygote does not do it for the next
COMPILE_CPU_S: Final = 0.5
# Of every agent beyond the first, in the bound that all agents of a zygote share.
THREADS_EACH: Final = 128
ORPHANS_UP_TO: Final = 1 << 15  # process ids looked at in a table without /proc


@record
class NurserySetup:
    """What a nursery is born with."""

    method: str
    limits: Limits  # of one agent
    agents: int  # of one zygote at a time, at most

    @property
    def shared_limits(self) -> Limits:
        """What a zygote and all its agents may use together, where that is counted in common."""
        bound = self.limits.processes
        more = THREADS_EACH * (self.agents - 1)
        return replace(
            self.limits, open_files=None, processes=None if bound is None else bound + more
        )


def run_zygote(
    control_fd: int, setup: NurserySetup, confinement: Confinement, preload: tuple[str, ...]
) -> None:
    """Serve one worker until its side of the socket is closed."""
    layers.bound_process_table(confinement)
    descendants.prepare_prctl()  # while there is a way to find it
    if setup.method == processes.FORK:
        layers.confine(confinement)
        load(preload)
    zygote = _Zygote(socket.socket(fileno=control_fd), setup, confinement)
    descendants.prepare_to_fork()
    zygote.serve()


def report_refusal(control: socket.socket, error: OSError) -> None:
    """Report to the worker that the machine had no process for an agent."""
    with contextlib.suppress(BrokenPipeError):
        control.send(json.dumps({"refused": str(error)}).encode())


@mutable_record
class _Agent:
    serial: int
    pid: int
    life_fd: int
    died_fd: int | None
    source: tuple[str, str]  # path and digest
    proof_fd: int  # has a byte once it is compiled, where its own process does that; else -1
    leaves_by_s: float = math.inf  # then it is killed
    killed: bool = False


class _Zygote:
    def __init__(
        self, control: socket.socket, setup: NurserySetup, confinement: Confinement
    ) -> None:
        self._control, self._setup, self._confinement = control, setup, confinement
        self._agents: dict[int, _Agent] = {}  # by serial
        self._by_fd: dict[int, _Agent] = {}  # by life line, and by what watches for the death
        # Few at a time: a look at each agent would write into, and so copy, the pages they lie on.
        self._leaving: dict[int, _Agent] = {}  # whose episodes have asked why they are silent
        self._unwatched: dict[int, _Agent] = {}  # whose death nothing reports
        self._proven: set[tuple[str, str]] = set()  # what the zygote may compile
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        # A filter that forbids to fork leaves no orphans.
        self._may_fork = confinement.last_filter is None

    def serve(self) -> None:
        """Until the worker's side of the socket is closed."""
        control_fd = self._control.fileno()
        while True:
            for fd, _event in self._poll.poll(self._patience_ms()):
                if fd == control_fd:
                    if not self._hear():
                        for agent in self._agents.values():
                            descendants.kill_group(agent.pid)
                        return
                elif fd in self._by_fd:
                    self._look_at(self._by_fd[fd], fd)
            self._kill_overdue()

    # --- requests ---

    def _hear(self) -> bool:
        """Take one request; whether there was one."""
        message, fds, _flags, _address = socket.recv_fds(self._control, MESSAGE_BYTES, ENDS)
        if not message:
            return False
        if fds:
            self._begin(os.fsdecode(message).split("\0"), fds)
        elif int(message) in self._agents:
            self._kill(self._agents[int(message)])
        return True

    def _begin(self, request: list[str], fds: list[int]) -> None:
        *ends, life_fd = fds
        try:
            agent = self._start(request, ends, life_fd)
        except OSError as error:
            os.close(life_fd)
            report_refusal(self._control, error)
        else:
            self._agents[agent.serial] = self._by_fd[life_fd] = agent
            self._poll.register(life_fd, select.POLLIN)
            if agent.died_fd is None:
                self._unwatched[agent.serial] = agent
            else:
                self._by_fd[agent.died_fd] = agent
                self._poll.register(agent.died_fd, select.POLLIN)
        finally:
            frames.close_all(ends)

    def _start(self, request: list[str], fds: list[int], life_fd: int) -> _Agent:
        serial, nonce, sha256, path = request
        source, method, limits = (path, sha256), self._setup.method, self._setup.limits
        proof: list[int] = []  # the pipe over which the agent shows that it could be compiled
        arguments: tuple[Any, ...]
        if method == processes.FORK:
            code = compiled(path, sha256) if source in self._proven else None
            if code is None:
                proof += os.pipe()
            work = (code, path, sha256, nonce, fds, limits, proof[-1] if proof else -1)
            arguments = (self._confinement, self._may_fork, work)
            namespaces.begin_pids_again(self._confinement.last_pid_fd)
        else:
            confinement = self._confinement
            network = (confinement.doors, confinement.state.get("network_namespace"))
            arguments = (path, sha256, nonce, fds, limits, (as_dict(confinement.reach), network))
        start = serve_forked if method == processes.FORK else serve_spawned
        try:
            kept = [*fds, *proof[1:]]
            pid = processes.start(start, arguments, method=method, keep_fds=kept)
        except OSError:
            frames.close_all(proof[:1])
            raise
        finally:
            frames.close_all(proof[1:])
        died_fd = descendants.open_pidfd(pid)
        return _Agent(int(serial), pid, life_fd, died_fd, source, proof[0] if proof else -1)

    # --- ends ---

    def _patience_ms(self) -> float | None:
        if self._unwatched:
            return LOOK_INTERVAL_S * 1000
        if not self._leaving:
            return None
        first_s = min(agent.leaves_by_s for agent in self._leaving.values())
        return max(0.0, first_s - monotonic_s()) * 1000

    def _look_at(self, agent: _Agent, fd: int) -> None:
        if fd == agent.died_fd:
            self._bury(agent)
            return
        try:
            word = os.read(agent.life_fd, MESSAGE_BYTES)
        except OSError:
            word = b""
        if word == EXPLAIN:
            # Its pipes close a moment before it can be reaped: waiting for that keeps its own
            # end apart from our kill.
            agent.leaves_by_s = monotonic_s() + EXIT_PATIENCE_S
            self._leaving[agent.serial] = agent
        else:  # the episode is over: the agent leaves by itself, or its worker asks for its end
            self._poll.unregister(agent.life_fd)
            del self._by_fd[agent.life_fd]

    def _kill_overdue(self) -> None:
        for agent in list(self._unwatched.values()):
            if descendants.has_ended(agent.pid):
                self._bury(agent)
        for agent in list(self._leaving.values()):
            if agent.leaves_by_s <= monotonic_s():
                self._kill(agent)

    def _kill(self, agent: _Agent) -> None:
        self._leaving.pop(agent.serial, None)
        if not descendants.has_ended(agent.pid):
            agent.killed = True
            descendants.kill_group(agent.pid)
            if agent.died_fd is not None:
                return  # its end is seen like any other
        self._bury(agent)

    def _bury(self, agent: _Agent) -> None:
        """Reap an agent that has ended, with all that it has left, and report it."""
        # Before it is reaped: until then its id cannot have become another's.
        descendants.kill_group(agent.pid)
        _pid, status, usage = os.wait4(agent.pid, 0)
        for known in (self._agents, self._unwatched, self._leaving):
            known.pop(agent.serial, None)
        for fd in (agent.life_fd, agent.died_fd):
            if fd in self._by_fd:
                del self._by_fd[fd]
                self._poll.unregister(fd)
        self._take_proof(agent, usage.ru_utime + usage.ru_stime)
        if self._may_fork and self._confinement.has("pid_namespace"):
            _sweep_table({one.pid for one in self._agents.values()})
        try:  # noqa: SIM105 - eight more objects for a parent of forks to copy
            os.write(agent.life_fd, b"[%d,%d]" % (status, agent.killed))
        except OSError:
            pass  # its episode is gone
        os.close(agent.life_fd)
        if agent.died_fd is not None:
            os.close(agent.died_fd)
        # Of a spawned one what the zygote has counts too, which is no more than its own begin.
        peak = processes.peak_rss_bytes(usage)
        words = (agent.serial, usage.ru_utime, usage.ru_stime, peak, usage.ru_minflt)
        try:  # noqa: SIM105 - as above
            self._control.send(" ".join(map(str, words)).encode())
        except BrokenPipeError:
            pass  # its worker is gone, which is seen next

    def _take_proof(self, agent: _Agent, cpu_s: float) -> None:
        """It has ended: whether it came as far as to run the agent, and without much work."""
        if agent.proof_fd < 0:
            return
        if os.read(agent.proof_fd, 1) and cpu_s < COMPILE_CPU_S:
            self._proven.add(agent.source)
        os.close(agent.proof_fd)


def _sweep_table(living: set[int]) -> None:
    """In the first process of a process table: kill and reap what dead agents have left in it.

    Orphans come to it, but those of a living agent to that agent. There is no /proc here: whose
    child a process is shows by who may wait for it.
    """
    if not living and _is_alone():
        return
    while orphans := [pid for pid in range(2, ORPHANS_UP_TO) if _is_orphan(pid, living)]:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in orphans:
                descendants.send_signal(pid, number)
        for pid in orphans:
            os.waitpid(pid, 0)


def _is_alone() -> bool:
    """Whether its process table holds no other process: one call, where it mostly suffices."""
    try:
        os.kill(-1, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _is_orphan(pid: int, living: set[int]) -> bool:
    if pid in living:
        return False
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
