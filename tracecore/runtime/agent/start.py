"""The first moments of an agent process: it is confined, and then serves its episode."""

import contextlib
import os
import resource
from types import CodeType
from typing import Any

from tracecore import descendants
from tracecore.confinement import layers
from tracecore.confinement.layers import Confinement
from tracecore.confinement.readable import reach_from_json
from tracecore.errors import TracecoreError
from tracecore.records import Limits
from tracecore.runtime.agent.agent import compile_agent
from tracecore.runtime.agent.host import serve


def serve_forked(
    confinement: Confinement,
    may_fork: bool,
    work: tuple[Any, ...],
) -> None:
    """The start of an agent process that was forked from its zygote: what is confined in each, then
    the agent.
    """
    code, path, sha256, nonce, fds, limits, proof_fd = work
    if code is None:
        code = compiled(path, sha256)
        if not isinstance(code, Exception):
            os.write(proof_fd, b"c")
        os.close(proof_fd)  # the agent shall not have it
    if may_fork:
        descendants.become_subreaper()
    question_fd, answer_fd = _take_ends(fds)
    if confinement.state.get("resource_limits") is True:
        _bound_open_files(limits)
    layers.confine_agent(confinement, answer_fd, nonce)
    serve(code, path, nonce, (question_fd, answer_fd), limits.message_bytes)


def serve_spawned(
    path: str, sha256: str, nonce: str, fds: list[int], limits: Limits, where: tuple[Any, ...]
) -> None:
    """The start of an agent process that was not forked from its zygote, and so has inherited
    nothing but the network that its doors are in.
    """
    descendants.become_subreaper()
    question_fd, answer_fd = _take_ends(fds)
    reach, (doors, network) = where
    confinement = layers.begin(limits, reach_from_json(reach))
    code = compiled(path, sha256)
    names = layers.OF_SPAWNED
    if confinement.reach.has_doors:
        confinement.doors, confinement.state["network_namespace"] = doors, network
        names = tuple(name for name in names if name != "network_namespace")
    layers.leave_namespaces(confinement, names)
    layers.confine(confinement)
    layers.confine_agent(confinement, answer_fd, nonce)
    serve(code, path, nonce, (question_fd, answer_fd), limits.message_bytes)


def _take_ends(fds: list[int]) -> tuple[int, int]:
    """The descriptors of questions and answers; the third is for what the agent prints."""
    question_fd, answer_fd, output_fd = fds
    for stream in (1, 2):
        os.dup2(output_fd, stream)
    os.close(output_fd)
    return question_fd, answer_fd


def _bound_open_files(limits: Limits) -> None:
    if limits.open_files is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))


def compiled(path: str, sha256: str) -> CodeType | Exception:
    """The agent's code, or why there is none."""
    try:
        return compile_agent(path, sha256)
    except (TracecoreError, OSError, ValueError, RecursionError, MemoryError) as error:
        return error
