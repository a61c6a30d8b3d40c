"""The agents' processes, as the worker and the episodes see them.

::

    worker ──starts, once, before any task is read──▶ nursery ──starts, once per reach──▶ zygote

    worker                                              zygote ──forks, per episode──▶ agent process
      │  begin: path, and the agent's ends ───────────────▶│  watches each, reaps       ▲
      │ ◀────────── how each agent ended, by its serial ───│                            │ questions,
      └─forks──▶ episode process ◀── the life line: it is ─┘                            │ answers
                        ▲            dead, and how                                      │
                        └───────────────────────────────────────────────────────────────┘

A zygote has many agents at a time, one for each episode that its worker has in flight. What holds
an agent to its episode are a pair of pipes (questions and answers, JSON), a pipe for what it
prints, and the *life line*, a socket between episode and zygote: it turns readable when the agent
is dead, and the zygote kills the agent when the episode's end of it closes.
"""

import contextlib
import json
import os
import select
import socket
import sys
from _socket import socketpair as _socketpair  # without an object of the other class for each
from collections.abc import Iterable
from typing import Final

from tracecore import descendants, frames, processes
from tracecore.clock import monotonic_s
from tracecore.confinement.kernel import close_own_memory
from tracecore.confinement.readable import Reach
from tracecore.errors import EngineError, TracecoreError
from tracecore.gateway.client import hand_over
from tracecore.record import as_dict, field, record, replace
from tracecore.records import GatewayAddress, Job, Limits, Usage
from tracecore.runtime.agent.nursery import reach_of, run_nursery
from tracecore.runtime.agent.zygote import EXPLAIN, MESSAGE_BYTES, NurserySetup

# it only starts, kills and reaps; but it may itself be just starting, on a busy machine
ANSWER_PATIENCE_S: Final = 30.0
DOORS_MOST: Final = 253  # hosts that a scenario row may allow, and the models
ZYGOTES_MOST: Final = 8  # that a worker keeps; one that is needed again later is started again


class ZygoteLost(TracecoreError):
    """The zygote is gone or silent; its worker must be replaced, since a new zygote may not be
    started from it.
    """


@record
class AgentLink:
    """What the episode process needs to talk to its agent, and to learn how it ended."""

    serial: int
    nonce: str
    read_fd: int  # the agent's answers
    write_fd: int  # questions to it
    output_fd: int  # what it prints
    life_fd: int  # readable when it is dead; see :func:`ask_how_it_ended`
    far_fds: tuple[int, ...]  # the agent's ends of all four, in the worker until it is asked for
    door: str = ""  # "host:port" at which it reaches the gateway to models

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that the episode process must have."""
        return self.read_fd, self.write_fd, self.output_fd, self.life_fd

    def drop(self) -> None:
        """Close the agent's ends: it has been given them, or there is to be none."""
        frames.close_all(self.far_fds)


@record
class Preparation:
    """What a worker starts once: the agent zygotes. Picklable; see ``batch.worker.Companion``."""

    limits: Limits
    hidden: tuple[str, ...] = ()  # folders of tasks, runs and results, that no agent may read
    gateway: GatewayAddress | None = None  # where models and allowed hosts are reached
    preload: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by the agent's path

    def __call__(self, method: str, slots: int) -> "AgentZygotes":
        return AgentZygotes(method, self, slots)


@record
class _Zygote:
    """A zygote, as its worker has it."""

    control: socket.socket
    door: str  # "host:port" at which its agents reach the gateway


class AgentZygotes:
    """A worker's companion: gives each of its jobs an agent process, and ends it. See
    ``batch.worker.Companion``.

    Args:
        method: How processes are started below it.
        preparation: What agents may use, and may not read.
        slots: How many agents there are at a time, at most.
    """

    def __init__(self, method: str, preparation: Preparation, slots: int) -> None:
        self._nursery, theirs = _socket_pair()
        self._preparation = preparation
        self._serial = 0
        self._zygotes: dict[tuple[Reach, tuple[str, ...]], _Zygote] = {}
        self._kinds: dict[tuple[object, ...], tuple[Reach, tuple[str, ...]]] = {}
        self._zygote_of: dict[int, _Zygote] = {}  # by serial, until it reports the agent's end
        self._spent: dict[int, Usage] = {}  # by serial
        setup = NurserySetup(method, preparation.limits, slots)
        self.pid = processes.start(
            run_nursery, (theirs.fileno(), setup), method=method, keep_fds=[theirs.fileno()]
        )
        theirs.close()
        self.pids = frozenset((self.pid,))  # what stays between jobs
        # After the nursery, below which users' namespaces are made by writing what then would be
        # root's.
        if preparation.limits.confinement != "off" and sys.platform == "linux":
            close_own_memory()

    @property
    def fds(self) -> Iterable[int]:
        """Descriptors to :meth:`hear` when they are readable."""
        return [zygote.control.fileno() for zygote in self._zygotes.values()]

    def open_link(self) -> AgentLink:
        """Both ends of a link to an agent that is not there yet; the caller owns them."""
        self._serial += 1
        fds: list[int] = []
        try:
            for _ in range(3):
                fds += os.pipe()
            fds += [end.detach() for end in _socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        except BaseException:
            frames.close_all(fds)
            raise
        question_r, question_w, answer_r, answer_w, output_r, output_w, life, their_life = fds
        return AgentLink(
            serial=self._serial,
            nonce=os.urandom(8).hex(),
            read_fd=answer_r,
            write_fd=question_w,
            output_fd=output_r,
            life_fd=life,
            far_fds=(question_r, answer_w, output_w, their_life),
        )

    def begin(self, link: AgentLink, job: Job) -> AgentLink:
        """Have an agent process started at the far end of ``link``; the link as its job needs it.

        Raises:
            ZygoteLost: There is no zygote to do it.
        """
        zygote = self._zygote_for(job)
        words = "\0".join((str(link.serial), link.nonce, job.agent.sha256, job.agent.path))
        _send(zygote, os.fsencode(words), link.far_fds)
        link.drop()
        self._zygote_of[link.serial] = zygote
        return replace(link, door=zygote.door) if zygote.door else link

    def hear(self, fd: int) -> None:
        """Take the reports of agents that have ended.

        Raises:
            ZygoteLost: The zygote is gone.
            OSError: The machine had no process for an agent; no fault of it, nor of its episode.
        """
        for zygote in self._zygotes.values():
            if zygote.control.fileno() == fd:
                self._take_report(zygote)

    def end(self, link: AgentLink) -> None:
        """Have the agent of this link killed, if its end has not been reported.

        Raises:
            ZygoteLost: The zygote is gone.
        """
        if zygote := self._zygote_of.get(link.serial):
            _send(zygote, b"%d" % link.serial)

    def spent(self, link: AgentLink) -> Usage | None:
        """What the agent had used; ``None`` until its end has been reported. Given once."""
        return self._spent.pop(link.serial, None)

    def close(self) -> None:
        """End the zygotes, and whatever agents they have."""
        for zygote in self._zygotes.values():
            zygote.control.close()
        self._nursery.close()
        descendants.kill_group(self.pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _take_report(self, zygote: _Zygote) -> None:
        report = b""
        with contextlib.suppress(OSError):
            report = zygote.control.recv(MESSAGE_BYTES)
        if not report:
            raise ZygoteLost("the agent zygote is gone")
        if report.startswith(b"{"):
            raise OSError(json.loads(report)["refused"])
        serial, user_s, sys_s, peak, faults = report.split()
        self._zygote_of.pop(int(serial), None)
        self._spent[int(serial)] = Usage(
            0.0,
            cpu_user_s=float(user_s),
            cpu_sys_s=float(sys_s),
            peak_rss_bytes=int(peak),
            page_faults=int(faults),
        )

    def _zygote_for(self, job: Job) -> _Zygote:
        kind = self._kind_of(job)
        zygote = self._zygotes.pop(kind, None)
        if zygote is None:
            self._let_one_go()
            control = self._start_zygote(*kind)
            zygote = _Zygote(control, self._take_doors(control, kind[0]))
        # at the end: the first is the one that was not needed for longest
        self._zygotes[kind] = zygote
        return zygote

    def _kind_of(self, job: Job) -> tuple[Reach, tuple[str, ...]]:
        """What its agent may reach, and what its zygote has imported beforehand."""
        # Found once: how it is found is thirty pages for a parent of forks to copy.
        settings, allow = job.settings, job.allow
        alike = (job.agent.path, job.task.folder, settings.runs_dir, allow.read, allow.network)
        key = (*alike, settings.gateway is None, job.preload)
        kind = self._kinds.get(key)
        if kind is None:
            preload = self._preparation.preload.get(job.agent.path, ()) if job.preload else ()
            kind = self._kinds[key] = reach_of(job, self._preparation.hidden), preload
        return kind

    def _take_doors(self, control: socket.socket, reach: Reach) -> str:
        """Hand what listens in the network of a new zygote's agents to the gateway; the place of
        that to models, as agents find it.

        Raises:
            ZygoteLost: The zygote could not make it, or the gateway is gone.
        """
        if not reach.has_doors:
            return ""
        gateway = self._preparation.gateway
        assert gateway is not None, "a slice whose agents reach anything has a gateway"
        message, fds, _flags, _address = socket.recv_fds(control, MESSAGE_BYTES, DOORS_MOST)
        try:
            report = json.loads(message or b"{}")
            if "doors" not in report:
                raise ZygoteLost(f"no door to the gateway: {report.get('refused', 'zygote gone')}")
            for fd, (_place, relay_to) in zip(fds, report["doors"], strict=True):
                hand_over(gateway, fd, relay_to)
        except EngineError as error:
            raise ZygoteLost(str(error)) from error
        finally:
            frames.close_all(fds)
        return report["doors"][0][0] if reach.models else ""

    def _let_one_go(self) -> None:
        busy = self._zygote_of.values()
        idle = [kind for kind, zygote in self._zygotes.items() if zygote not in busy]
        if len(self._zygotes) >= ZYGOTES_MOST and idle:
            self._zygotes.pop(idle[0]).control.close()

    def _start_zygote(self, reach: Reach, preload: tuple[str, ...]) -> socket.socket:
        control, theirs = _socket_pair()
        try:
            message = json.dumps({"reach": as_dict(reach), "preload": preload}).encode()
            socket.send_fds(self._nursery, [message], [theirs.fileno()])
        except OSError as error:
            control.close()
            raise ZygoteLost(f"the nursery of agent zygotes is gone: {error}") from error
        finally:
            theirs.close()
        return control


def ask_how_it_ended(link: AgentLink) -> int | None:
    """From the episode process, when its agent went silent: have it killed unless it leaves within
    a moment, and give its wait status; ``None`` if it was killed for that.

    Raises:
        ZygoteLost: No answer comes.
    """
    deadline_s = monotonic_s() + ANSWER_PATIENCE_S
    answered = select.poll()
    answered.register(link.life_fd, select.POLLIN)
    if not answered.poll(0):
        with contextlib.suppress(OSError):  # it is closing, and reads no more
            os.write(link.life_fd, EXPLAIN)
    while answered.poll(max(0.0, deadline_s - monotonic_s()) * 1000):
        with contextlib.suppress(ConnectionResetError):  # once, for what it had not read
            end = json.loads(os.read(link.life_fd, MESSAGE_BYTES) or b"null")
            if end is None:
                raise ZygoteLost("the agent zygote is gone")
            status, was_killed = end
            return None if was_killed else int(status)
    raise ZygoteLost("the agent zygote does not say how the agent ended")


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    # SEQPACKET keeps messages whole: an episode that is killed while it asks cannot leave half a
    # message behind.
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _send(zygote: _Zygote, message: bytes, fds: Iterable[int] = ()) -> None:
    try:
        socket.send_fds(zygote.control, [message], list(fds))
    except OSError as error:
        raise ZygoteLost(f"the agent zygote is gone: {error}") from error
