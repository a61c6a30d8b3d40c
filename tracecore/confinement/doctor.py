"""Which layers of confinement are in force on this machine: tried out in child processes, not
guessed.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Final

from tracecore import processes
from tracecore.confinement import layers, trials
from tracecore.confinement.layers import LAYERS, State
from tracecore.records import JsonObject, Limits

_NAMESPACES_HELP: Final = (
    "unprivileged user namespaces must be permitted (sysctl kernel.unprivileged_userns_clone,"
    " user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; in a container, a"
    " seccomp profile that permits unshare)"
)
HELP: Final = {
    "seccomp": "it takes a kernel with seccomp filters, on x86_64 or aarch64",
    "landlock": "it takes Linux 5.13 or later with landlock among its security modules (lsm=)",
    **dict.fromkeys(layers.NAMESPACES, _NAMESPACES_HELP),
}

WALL: Final = """\
The kernel confines agents: this is a wall for what docs/security.md lists, and
agents may load native code (NumPy, pydantic, ctypes and their kin).
"""
GUARD_RAIL: Final = """\
Missing for the wall: {}.
Against code that means harm, this is a guard rail and no wall. Native code beyond
Python's own library is refused; --confinement off lets it run, with nothing confined.
"""
DOORS: Final = "Models and allowed hosts are reached by sockets in the agents' own network.\n"
LOOPBACK: Final = "Models are reached over the loopback, where a token alone tells agents apart.\n"


def probe(limits: Limits, method: str = "auto", *, thorough: bool = True) -> State:
    """Each layer: true when it is in force in a process confined like an agent, else why not.

    Args:
        limits: As for agents.
        method: How agents are started.
        thorough: Whether an attempt that the layer stops must have been stopped, too.
    """
    with begin_probe(limits, method, thorough=thorough) as found:
        return found()


@contextlib.contextmanager
def begin_probe(
    limits: Limits, method: str = "auto", *, thorough: bool = True
) -> Iterator[Callable[[], State]]:
    """The same, begun now: what is given waits for it, once. At the end of the block no process of
    it is left.
    """
    trial, why_none = None, layers.SWITCHED_OFF
    arguments = (limits, processes.method_of(method), thorough)
    with contextlib.ExitStack() as around:
        if limits.confinement != "off":
            try:
                trial = trials.LeanTrial(trials.probe_all, *arguments)
                around.enter_context(contextlib.closing(trial))
            # the caller has results to write, which are worth more than this
            except OSError as error:
                why_none = f"no process could be started to try it: {error}"
        yield functools.partial(_found, trial, why_none)


def _found(trial: trials.LeanTrial | None, why_none: str) -> State:
    if trial is None:
        return dict.fromkeys(LAYERS, why_none)
    found = trial.found(trials.PATIENCE_S) or dict.fromkeys(LAYERS, "the trial itself died")
    return {layer: found.get(layer, "not tried") for layer in LAYERS}


def missing(state: State) -> list[str]:
    """The layers that are not in force, each with the reason."""
    return [f"{layer}: {found}" for layer, found in state.items() if found is not True]


def as_json(state: State) -> JsonObject:
    """For ``--json``."""
    return {
        "platform": sys.platform,
        "is_wall": not layers.missing_for_wall(state),
        "layers": {
            layer: {
                "in_force": found is True,
                "why_not": None if found is True else found,
                "stops": LAYERS[layer],
            }
            for layer, found in state.items()
        },
    }


def as_text(state: State) -> str:
    """For people: each layer with what it stops and, where it is missing, why and what helps."""
    lines = ["Confinement of agents on this machine, each layer tried out:", ""]
    lines.append(f"       {'layer':18} what it stops")
    for layer, found in state.items():
        lines.append(f"  {'yes' if found is True else 'no ':3}  {layer:18} {LAYERS[layer]}")
        if found is not True:
            help_ = f"; {HELP[layer]}" if layer in HELP and found != layers.SWITCHED_OFF else ""
            lines.append(f"       {'':18} here: {found}{help_}")
    gaps = ", ".join(layers.missing_for_wall(state))
    verdict = GUARD_RAIL.format(gaps) if gaps else WALL
    gateway = DOORS if state.get("network_namespace") is True else LOOPBACK
    return "\n".join([*lines, "", verdict + gateway])
