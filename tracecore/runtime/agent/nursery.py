"""Where zygotes come from: the nursery, the keeper of each, and what its agents may reach."""

import contextlib
import json
import os
import socket
from typing import Any

from tracecore import frames, processes
from tracecore.confinement import layers
from tracecore.confinement.door import open_doors
from tracecore.confinement.layers import Confinement
from tracecore.confinement.readable import TASK_MARK, Reach, is_below, reach_from_json
from tracecore.records import Job
from tracecore.runtime.agent.zygote import (
    ENDS,
    MESSAGE_BYTES,
    NurserySetup,
    report_refusal,
    run_zygote,
)


def run_nursery(control_fd: int, setup: NurserySetup) -> None:
    """Start a zygote for each request, until the worker's side of the socket is closed."""
    nursery = socket.socket(fileno=control_fd)
    while True:
        message, fds, _flags, _address = socket.recv_fds(nursery, MESSAGE_BYTES, 1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # zygotes that were closed
        if not message:
            return
        request = json.loads(message)
        arguments = (fds[0], setup, request["reach"], tuple(request["preload"]))
        try:
            processes.start(run_keeper, arguments, method=setup.method, keep_fds=fds)
        except OSError as error:
            refuse(fds[0], error)
            return
        os.close(fds[0])


def refuse(control_fd: int, error: OSError) -> None:
    """In place of a zygote that could not be started: report that for each agent."""
    control = socket.socket(fileno=control_fd)
    while True:
        message, fds, _flags, _address = socket.recv_fds(control, MESSAGE_BYTES, ENDS)
        frames.close_all(fds)
        if not message:
            return
        if fds:
            report_refusal(control, error)


def run_keeper(
    control_fd: int, setup: NurserySetup, reach: dict[str, Any], preload: tuple[str, ...]
) -> None:
    """Be the zygote, or, where process ids have a namespace, start it inside and wait for
    its end.
    """
    method = setup.method
    confinement = layers.begin(setup.shared_limits, reach_from_json(reach))
    has_doors = confinement.reach.has_doors
    names = layers.NAMESPACES if method == processes.FORK else layers.OF_KEEPER
    if has_doors and "network_namespace" not in names:
        names = (*names, "network_namespace")  # the doors have to be where the agents are
    layers.leave_namespaces(confinement, names)
    pid = None
    try:
        if has_doors:
            _hand_out_doors(control_fd, confinement)
        # which cannot be sent
        confinement.kernel = None if method == processes.SPAWN else confinement.kernel
        arguments = (control_fd, setup, confinement, preload)
        if confinement.state["pid_namespace"] is True:
            pid = processes.start(run_zygote, arguments, method=method, keep_fds=[control_fd])
    except OSError as error:
        refuse(control_fd, error)
        return
    if pid is None:
        run_zygote(*arguments)
    else:
        os.close(control_fd)
        os.waitpid(pid, 0)


def _hand_out_doors(control_fd: int, confinement: Confinement) -> None:
    """Give the worker what agents may connect to; neither zygote nor agents keep any of it."""
    in_namespace = confinement.has("network_namespace")
    opened = open_doors(confinement.reach, in_namespace=in_namespace)
    confinement.doors = tuple(one for one, _listener in opened)
    doors = [(one.place, one.relay_to) for one, _listener in opened]
    with socket.socket(fileno=os.dup(control_fd)) as control:
        fds = [listener.fileno() for _door, listener in opened]
        socket.send_fds(control, [json.dumps({"doors": doors}).encode()], fds)
    for _door, listener in opened:
        listener.close()


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
    with contextlib.suppress(OSError):  # a second name of a file may be a task's: see readable.py
        in_task = in_task or os.stat(job.agent.path).st_nlink > 1
    agents = (job.agent.path,) if in_task else ()
    gateway = job.settings.gateway
    return Reach(
        folder=folder,
        agents=agents,
        read=job.allow.read,
        network=job.allow.network,
        hidden=hidden + more,
        models=gateway is not None and bool(gateway.models),
    )
