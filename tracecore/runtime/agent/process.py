"""The agent's own process and its zygote.

::

    worker ──starts, once, before any task is read──▶ nursery ──starts, once per reach──▶ (keeper
    ──▶) zygote

    worker                                               zygote ──starts, per episode──▶ agent
    process
      │  begin: path and two pipe ends ─────────────────▶│                              ▲ │  end:
      kill it if it lives, how did it end? ─────▶│  reaps, kills, tells         │ questions and
      answers, └─forks──▶ episode process: how did it end? ──────▶│                              │
      JSON over two pipes
                       └────────────────────────────────────────────────────────────────┘

The zygote executes no agent, and compiles one only once its first process has shown that this ends,
    and soon: until then
each compiles for itself, within its episode's time limit. It was started before its worker had read
a task, and holds no task code, hidden state or result: what an agent must not see was never in its
memory. It has one agent at a time. When its worker and the episode are gone its socket ends, and it
kills its agent and leaves.

A zygote is confined to what its agents may reach, so that there is one for each folder of agents
and each allowance. They come from the nursery, which was started with the worker and knows no more
than they do: a worker that has read a task may start no zygote itself. Where process ids have a
namespace, the keeper stands outside of it and waits.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from types import CodeType
from typing import Any, Final

from tracecore import processes
from tracecore.clock import monotonic_s
from tracecore.confinement import layers
from tracecore.confinement.kernel import close_own_memory
from tracecore.confinement.layers import Confinement
from tracecore.confinement.readable import TASK_MARK, Reach, is_below, reach_from_json
from tracecore.errors import TracecoreError
from tracecore.record import record
from tracecore.records import Job, Limits
from tracecore.runtime.agent.agent import compile_agent, compiled_agent
from tracecore.runtime.agent.host import serve

# the zygote only kills and reaps: one that is silent for so long is gone
ANSWER_PATIENCE_S: Final = 5.0
EXIT_PATIENCE_S: Final = 0.25  # between an agent closing its pipe and its death, when it is dying
# of a spawned agent whose episode is over, so that the zygote can ask how much memory it has used
LINGER_S: Final = 0.5
MESSAGE_BYTES: Final = 1 << 16
# of a process that compiled its agent: where it used more, the zygote does not do it for the next
COMPILE_CPU_S: Final = 0.5
ZYGOTES_MOST: Final = 8  # that a worker keeps; one that is needed again later is started again


class ZygoteLost(TracecoreError):
    """The zygote is gone or silent; its worker must be replaced, since a new zygote may not be
    started from it.
    """


@record
class AgentLink:
    """What the episode process needs to talk to its agent, and to ask the zygote about it."""

    serial: int
    nonce: str
    read_fd: int
    write_fd: int
    control_fd: int

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that the episode process must have."""
        return self.read_fd, self.write_fd, self.control_fd


class Refused(OSError):
    """The machine had no process for an agent; no fault of the agent, nor of its episode."""


@record
class AgentEnd:
    """How an agent process ended and what it had used."""

    status: int  # wait status
    killed_by_us: bool  # it was alive when asked, and was killed then
    cpu_user_s: float
    cpu_sys_s: float
    peak_rss_bytes: int


@record
class Preparation:
    """What a worker starts once: the agent zygote. Picklable; see ``batch.worker.Companion``."""

    limits: Limits
    hidden: tuple[str, ...] = ()  # folders of tasks, runs and results, that no agent may read

    def __call__(self, method: str) -> "AgentZygote":
        return AgentZygote(method, self.limits, self.hidden)


class AgentZygote:
    """A worker's companion: gives each of its jobs an agent process, and ends it. See
    ``batch.worker.Companion``.
    """

    def __init__(self, method: str, limits: Limits, hidden: tuple[str, ...] = ()) -> None:
        self._nursery, theirs = _socket_pair()
        self._serial = 0
        self._hidden = hidden
        self._zygotes: dict[Reach, socket.socket] = {}
        arguments = (theirs.fileno(), method, limits)
        self.pid = processes.start(
            run_nursery, arguments, method=method, keep_fds=[theirs.fileno()]
        )
        theirs.close()
        # After the nursery, below which users' namespaces are made by writing what then would be
        # root's.
        if limits.confinement != "off" and sys.platform == "linux":
            close_own_memory()

    @property
    def pids(self) -> frozenset[int]:
        """The process that stays between jobs."""
        return frozenset((self.pid,))

    def begin(self, job: Job) -> AgentLink:
        """Have an agent process started for ``job``; the caller owns the descriptors of the link.

        Raises:
            ZygoteLost: There is no zygote to do it.
        """
        self._control = self._zygote_for(job)
        self._serial += 1
        nonce = os.urandom(8).hex()
        question_r, question_w = os.pipe()
        answer_r, answer_w = os.pipe()
        request = {
            "do": "begin",
            "serial": self._serial,
            "path": job.agent.path,
            "sha256": job.agent.sha256,
            "nonce": nonce,
        }
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [question_r, answer_w])
        except OSError as error:
            raise ZygoteLost(f"the agent zygote is gone: {error}") from error
        finally:
            os.close(question_r)
            os.close(answer_w)
        return AgentLink(self._serial, nonce, answer_r, question_w, self._control.fileno())

    def end(self) -> AgentEnd:
        """Kill the agent process of the last ``begin`` if it still lives, and tell how it ended.

        Raises:
            ZygoteLost: Nobody answers.
        """
        end = _ask(self._control, "end", self._serial)
        if end is None:
            raise ZygoteLost("the agent zygote does not tell how the agent ended")
        return end

    def _zygote_for(self, job: Job) -> socket.socket:
        reach = reach_of(job, self._hidden)
        control = self._zygotes.pop(reach, None)
        if control is None:
            control, theirs = _socket_pair()
            try:
                socket.send_fds(
                    self._nursery, [json.dumps(reach.as_json()).encode()], [theirs.fileno()]
                )
            except OSError as error:
                control.close()
                raise ZygoteLost(f"the nursery of agent zygotes is gone: {error}") from error
            finally:
                theirs.close()
            if len(self._zygotes) >= ZYGOTES_MOST:
                self._zygotes.pop(next(iter(self._zygotes))).close()
        # at the end: the first is the one that was not needed for longest
        self._zygotes[reach] = control
        return control

    def close(self) -> None:
        """End the zygotes, and whatever agent one of them has."""
        for control in (*self._zygotes.values(), self._nursery):
            control.close()
        processes.kill_group(self.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def reach_of(job: Job, hidden: tuple[str, ...]) -> Reach:
    """What the agent of ``job`` may reach.

    Args:
        job: The episode.
        hidden: Folders of tasks, runs and results that the whole slice knows of.
    """
    own = (job.task.folder, job.settings.runs_dir)
    more = tuple(folder for folder in own if not is_below(folder, hidden))
    folder = os.path.dirname(job.agent.path)
    in_task = is_below(folder, hidden + more) or os.path.lexists(os.path.join(folder, TASK_MARK))
    agents = (job.agent.path,) if in_task else ()
    return Reach(folder, agents, job.allow.read, job.allow.network, hidden + more)


def ask_how_it_ended(link: AgentLink) -> AgentEnd:
    """From the episode process, when its agent went silent: kill it if it lives, and tell how it
    ended.

    Raises:
        ZygoteLost: Nobody answers.
    """
    end = _ask_over(link, "explain")
    if end is None:
        raise ZygoteLost("the agent zygote does not tell how the agent ended")
    return end


def agent_is_gone(link: AgentLink) -> bool:
    """From the episode process, while its agent is silent: whether it is dead.

    Raises:
        ZygoteLost: Nobody answers.
    """
    return _ask_over(link, "look") is not None


def _ask_over(link: AgentLink, what: str) -> AgentEnd | None:
    control = socket.socket(fileno=os.dup(link.control_fd))
    try:
        return _ask(control, what, link.serial)
    finally:
        control.close()


def _ask(control: socket.socket, what: str, serial: int) -> AgentEnd | None:
    deadline_s = monotonic_s() + ANSWER_PATIENCE_S
    try:
        control.send(json.dumps({"do": what, "serial": serial}).encode())
        readable = select.poll()
        readable.register(control.fileno(), select.POLLIN)
        while readable.poll(max(0.0, deadline_s - monotonic_s()) * 1000):
            answer = json.loads(control.recv(MESSAGE_BYTES) or b"null")
            if answer is None:
                break
            # An episode that was killed may have left an answer unread: it is told apart by what it
            # answers.
            if answer["to"] == what and answer["serial"] == serial:
                if "refused" in answer:
                    raise Refused(answer["refused"])  # noqa: TRY301 - told apart from what the socket itself refuses
                return None if answer["end"] is None else AgentEnd(*answer["end"])
    except Refused:
        raise
    except OSError as error:
        raise ZygoteLost(f"the agent zygote is gone: {error}") from error
    raise ZygoteLost("the agent zygote does not answer")


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    # SEQPACKET keeps messages whole: an episode that is killed while it asks cannot leave half a
    # message behind.
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


# --- inside the nursery ----------------------------------------------------------------------------------------------


def run_nursery(control_fd: int, method: str, limits: Limits) -> None:
    """Start a zygote for each request, until the worker's side of the socket is closed."""
    nursery = socket.socket(fileno=control_fd)
    sys.dont_write_bytecode = True
    while True:
        message, fds, _flags, _address = socket.recv_fds(nursery, MESSAGE_BYTES, 1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # zygotes that were closed
        if not message:
            return
        try:
            processes.start(
                run_keeper,
                (fds[0], method, limits, json.loads(message)),
                method=method,
                keep_fds=fds,
            )
        except OSError as error:
            refuse(fds[0], error)
            return
        os.close(fds[0])


def refuse(control_fd: int, error: OSError) -> None:
    """In place of a zygote that could not be started: tell so whoever asks for an agent."""
    control = socket.socket(fileno=control_fd)
    while True:
        message, fds, _flags, _address = socket.recv_fds(control, MESSAGE_BYTES, 2)
        for fd in fds:
            os.close(fd)
        if not message:
            return
        request = json.loads(message)
        if request["do"] != "begin":
            _reply(control, request, refused=str(error))


def run_keeper(control_fd: int, method: str, limits: Limits, reach: dict[str, Any]) -> None:
    """Be the zygote, or, where process ids have a namespace, start it inside and wait for its end."""
    confinement = layers.begin(limits, reach_from_json(reach))
    layers.leave_namespaces(
        confinement, layers.NAMESPACES if method == processes.FORK else layers.OF_KEEPER
    )
    # which cannot be sent
    confinement.kernel = None if method == processes.SPAWN else confinement.kernel
    if confinement.state["pid_namespace"] is True:
        try:
            pid = processes.start(
                run_zygote, (control_fd, method, confinement), method=method, keep_fds=[control_fd]
            )
        except OSError as error:
            refuse(control_fd, error)
            return
        os.close(control_fd)
        os.waitpid(pid, 0)
        return
    run_zygote(control_fd, method, confinement)


# --- inside the zygote -----------------------------------------------------------------------------------------------


def run_zygote(control_fd: int, method: str, confinement: Confinement) -> None:
    """Serve one worker until its side of the socket is closed."""
    control = socket.socket(fileno=control_fd)
    sys.dont_write_bytecode = True
    layers.bound_process_table(confinement)
    if method == processes.FORK:
        layers.confine(confinement)
    gc.collect()
    # a collection in an agent would write into, and so copy, every page that holds an object
    gc.freeze()
    agent = _Agent(method, confinement)
    while True:
        message, fds, _flags, _address = socket.recv_fds(control, MESSAGE_BYTES, 2)
        if not message:
            agent.end(at_once=True)
            return
        request = json.loads(message)
        if request["do"] == "begin":
            agent.begin(request, fds)
        elif agent.refused:
            _reply(control, request, refused=agent.refused)
        else:
            end = (
                agent.look()
                if request["do"] == "look"
                else agent.end(at_once=request["do"] == "end")
            )
            _reply(control, request, end=end)


def _reply(control: socket.socket, request: dict[str, Any], **what: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        control.send(
            json.dumps({"to": request["do"], "serial": request["serial"], **what}).encode()
        )


class _Agent:
    """The one agent process that the zygote has at a time."""

    def __init__(self, method: str, confinement: Confinement) -> None:
        self._method, self._confinement, self._limits = method, confinement, confinement.limits
        self._pid = 0
        self._end: tuple[int, bool, float, float, int] = (0, False, 0.0, 0.0, 0)
        self._source = ("", "")  # path and hash of the agent
        self._proof_fd = -1  # has a byte once it is compiled, if its own process does that
        self._proven: set[tuple[str, str]] = set()  # what the zygote may compile
        self.refused = ""  # why the last one could not be started

    def begin(self, request: dict[str, Any], fds: list[int]) -> None:
        self.end(at_once=True)
        self.refused = ""
        try:
            self._start(request, fds)
        except OSError as error:
            self.refused = str(error)
        for fd in fds:
            os.close(fd)

    def _start(self, request: dict[str, Any], fds: list[int]) -> None:
        path, sha256 = self._source = request["path"], request["sha256"]
        limit = self._limits.message_bytes
        arguments: tuple[Any, ...]
        if self._method == processes.FORK:
            code = compiled_agent(path, sha256)
            if code is None and self._source in self._proven:
                code, _problem = _compile(path, sha256)
            proof_w = -1 if code else self._expect_proof()
            arguments = (code, path, sha256, request["nonce"], (fds[0], fds[1]), limit, proof_w)
            kept = [*fds, proof_w] if proof_w >= 0 else fds
            layers.before_fork(self._confinement)
            try:
                self._pid = processes.start(
                    serve_forked, (self._confinement, arguments), method=self._method, keep_fds=kept
                )
            finally:
                if proof_w >= 0:
                    os.close(proof_w)
        else:
            reach = self._confinement.reach.as_json()
            arguments = (path, sha256, request["nonce"], (fds[0], fds[1]), self._limits, reach)
            self._pid = processes.start(serve_spawned, arguments, method=self._method, keep_fds=fds)

    def _expect_proof(self) -> int:
        self._drop_proof()
        self._proof_fd, proof_w = os.pipe()
        return proof_w

    def _take_proof(self, cpu_s: float) -> None:
        """It has ended: whether it came as far as to run the agent, and without much work."""
        if self._proof_fd >= 0 and os.read(self._proof_fd, 1) and cpu_s < COMPILE_CPU_S:
            self._proven.add(self._source)
        self._drop_proof()

    def _drop_proof(self) -> None:
        if self._proof_fd >= 0:
            os.close(self._proof_fd)
            self._proof_fd = -1

    def look(self) -> tuple[int, bool, float, float, int] | None:
        """How it ended; ``None`` while it lives."""
        return None if self._pid and not _has_exited(self._pid) else self.end(at_once=True)

    def end(self, *, at_once: bool) -> tuple[int, bool, float, float, int]:
        """Reap it, killing it first if it lives (or, unless ``at_once``, does not leave within a
        moment).
        """
        if not self._pid:
            return self._end
        killed_by_us = not _has_exited(self._pid)
        if killed_by_us and not at_once:
            # Its pipes close a moment before it can be reaped: waiting for that tells its own end
            # from our kill.
            _wait_for_exit(self._pid, EXIT_PATIENCE_S)
            killed_by_us = not _has_exited(self._pid)
        own_peak = (
            processes.own_peak_rss_bytes(self._pid) if self._method == processes.SPAWN else None
        )
        # Before it is reaped: until then its id cannot have become somebody else's.
        processes.kill_group(self._pid)
        _pid, status, usage = os.wait4(self._pid, 0)
        self._pid = 0
        self._end_orphans()
        self._take_proof(usage.ru_utime + usage.ru_stime)
        peak = own_peak or processes.peak_rss_bytes(usage)
        self._end = (status, killed_by_us, usage.ru_utime, usage.ru_stime, peak)
        return self._end

    def _end_orphans(self) -> None:
        # The first process of a process table inherits its orphans, which the worker cannot see,
        # and is spared by its own kill. A filter that forbids to fork leaves none.
        if (
            self._confinement.state.get("pid_namespace") is True
            and self._confinement.last_filter is None
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)


def serve_forked(confinement: Confinement, arguments: tuple[Any, ...]) -> None:
    """The start of an agent process that was forked from its zygote: what is confined in each, then
    the agent.
    """
    code, path, sha256, nonce, fds, limit, proof_fd = arguments
    problem = None
    if code is None:
        code, problem = _compile(path, sha256)
        if code is not None:
            os.write(proof_fd, b"c")
        os.close(proof_fd)  # the agent shall not have it
    layers.confine_agent(confinement, fds[1], nonce)
    serve(code, problem, path, nonce, fds, limit)


def serve_spawned(
    path: str, sha256: str, nonce: str, fds: tuple[int, int], limits: Limits, reach: dict[str, Any]
) -> None:
    """The start of an agent process that was not forked from its zygote, and so has inherited
    nothing.
    """
    sys.dont_write_bytecode = True
    confinement = layers.begin(limits, reach_from_json(reach))
    code, problem = _compile(path, sha256)
    layers.leave_namespaces(confinement, layers.OF_SPAWNED)
    layers.confine(confinement)
    layers.confine_agent(confinement, fds[1], nonce)
    serve(code, problem, path, nonce, fds, limits.message_bytes)
    time.sleep(LINGER_S)


def _compile(path: str, sha256: str) -> tuple[CodeType | None, Exception | None]:
    try:
        return compile_agent(path, sha256), None
    except (TracecoreError, OSError, ValueError, RecursionError, MemoryError) as error:
        return None, error


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait_for_exit(pid: int, patience_s: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    exited = select.poll()
    exited.register(fd, select.POLLIN)
    exited.poll(patience_s * 1000)
    os.close(fd)
