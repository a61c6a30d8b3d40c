"""What agents import at the top of their files from installed packages: imported once by their
zygote, before it forks them, rather than in each episode.

What may be imported that way is tried out once for a slice, in a process that is confined as an
agent is. A package that starts threads, opens descriptors, takes a signal over, tries what agents
may not, takes too long or fails is left to the episode. An agent's own code and its siblings are
never imported: they run fresh in each.
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import os
import re
import signal
import sys
from _thread import _count as thread_count
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tracecore import frames, processes
from tracecore.confinement import seccomp, trials
from tracecore.confinement.layers import Confinement
from tracecore.confinement.readable import Reach, is_below, library_folders, reach_from_json
from tracecore.errors import InputError
from tracecore.record import as_dict, record
from tracecore.records import JsonObject, Limits
from tracecore.runtime.task.folder import read_source

PASSES_MOST: Final = 6  # of one agent: each finds a package that is to be left to the episode
IMPORT_PATIENCE_S: Final = 60  # for one package, on a machine that is busy
TRIAL_PATIENCE_S: Final = 300.0  # for all of a slice
THREAD_IDS_SEARCHED: Final = 2048
DESCRIPTORS_SEARCHED: Final = 256
ENDINGS: Final = {  # by the wait status of the process that imports
    14: f"its import takes longer than {IMPORT_PATIENCE_S} s",  # SIGALRM
    31: "it makes a system call that is forbidden",  # SIGSYS
}
STATEMENTS_MOST: Final = 200
FEW_EPISODES: Final = 4  # up to so many, importing in each is as quick
_IMPORT: Final = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


@record
class Preload:
    """What the zygote of an agent imports."""

    statements: tuple[str, ...]  # "module" or "module:name,name", in the order of the file
    left: tuple[tuple[str, str], ...]  # package and why it is left to the episode

    def as_json(self) -> JsonObject:
        """For the summary."""
        packages = dict.fromkeys(_package(statement) for statement in self.statements)
        return {"packages": list(packages), "left_to_the_episode": dict(self.left)}


def find_preloads(reaches: dict[str, Reach], episodes: int, limits: Limits) -> dict[str, Preload]:
    """What pays to be imported before agents are forked; by the agent's path.

    Args:
        reaches: Paths of agent files, and what each may reach.
        episodes: Of each of them.
        limits: Of one agent.
    """
    wanted = [
        (path, as_dict(reach)) for path, reach in reaches.items() if _seems_to_import_packages(path)
    ]
    if not wanted or episodes <= FEW_EPISODES:
        return {}
    try:
        with contextlib.closing(trials.LeanTrial(_try_all, limits, wanted)) as trial:
            found = trial.found(TRIAL_PATIENCE_S) or {}
    except OSError:
        return {}
    return {
        path: Preload(tuple(statements), tuple(left.items()))
        for path, (statements, left) in found.items()
    }


def _seems_to_import_packages(path: str) -> bool:
    folder = os.path.dirname(path)
    try:
        names = {name.decode() for name in _IMPORT.findall(read_source(path, InputError))}
    except InputError:
        return False
    return any(
        name not in sys.stdlib_module_names
        and name != "tracecore"
        and not os.path.exists(os.path.join(folder, name))
        and not os.path.exists(os.path.join(folder, name + ".py"))
        for name in names
    )


def load(statements: Iterable[str]) -> None:
    """In a zygote: import what was tried out. What fails here is left to the episode."""
    for statement in statements:
        with contextlib.suppress(Exception):
            _execute(statement)
    if "numpy.random" in sys.modules:
        # Its generator would give the same numbers to every agent; Python's own is seeded anew.
        os.register_at_fork(after_in_child=sys.modules["numpy.random"].seed)


# --- in a lean process ---


def _try_all(write_fd: int, limits: Limits, agents: list[tuple[str, JsonObject]]) -> None:
    found = {path: _try_one(path, reach_from_json(reach), limits) for path, reach in agents}
    frames.write_message(write_fd, json.dumps(found).encode())


def _try_one(path: str, reach: Reach, limits: Limits) -> tuple[list[str], dict[str, str]]:
    left: dict[str, str] = {}
    for _ in range(PASSES_MOST):
        done, trouble = _one_pass(path, reach, limits, left)
        if trouble is None:
            return done, left
        package, why = trouble
        left[package] = why
    return [], left


def _one_pass(
    path: str, reach: Reach, limits: Limits, left: dict[str, str]
) -> tuple[list[str], tuple[str, str] | None]:
    """What was imported, and the package that spoiled it, with the reason."""
    read_fd, write_fd = os.pipe()

    libraries = [os.path.realpath(folder) for folder in library_folders()]

    def import_all(confinement: Confinement) -> int:
        for statement in _statements(path, libraries):
            if _package(statement) not in left and not _try(statement, write_fd, confinement):
                break
        return trials.HELD

    status = trials.run_confined(import_all, limits, reach, processes.FORK, write_fd)
    os.close(write_fd)
    done: list[str] = []
    package, ending = "", ENDINGS.get(status) or f"its process {processes.describe_status(status)}"
    with contextlib.suppress(frames.ChannelClosed, ValueError):
        while True:
            word = json.loads(frames.read_message(read_fd))
            if "violation" in word:
                ending = f"it would {word['violation']['attempt']}"
            elif "begin" in word:
                package = _package(word["begin"])
            elif word["why"]:
                ending = word["why"]
            else:
                done.append(word["done"])
                package = ""
    os.close(read_fd)
    return done, (package, ending) if package else None


def _try(statement: str, fd: int, confinement: Confinement) -> bool:
    """Whether it leaves the process as it was, but for what it has imported."""
    before = _what_is_held(confinement)
    frames.write_message(fd, json.dumps({"begin": statement}).encode())
    signal.alarm(IMPORT_PATIENCE_S)
    why = ""
    try:
        _execute(statement)
    except Exception as error:
        why = f"its import raised {type(error).__name__}"
    signal.alarm(0)
    now = _what_is_held(confinement)
    why = why or ", ".join(change for change, held in now.items() if held != before[change])
    frames.write_message(fd, json.dumps({"done": statement, "why": why}).encode())
    return not why


def _statements(path: str, libraries: Sequence[str]) -> list[str]:
    """The imports at the top of a file that lead into installed packages."""
    with open(path, "rb") as file:
        body = ast.parse(file.read()).body
    found: list[str] = []
    for node in body:
        for part in (node, *(node.body if isinstance(node, ast.Try) else ())):
            if isinstance(part, ast.Import):
                found += [alias.name for alias in part.names]
            elif isinstance(part, ast.ImportFrom) and part.level == 0 and part.module:
                found.append(f"{part.module}:{','.join(alias.name for alias in part.names)}")
    installed = [statement for statement in found if _is_installed(_package(statement), libraries)]
    return installed[:STATEMENTS_MOST]


def _is_installed(package: str, libraries: Sequence[str]) -> bool:
    if package in sys.stdlib_module_names or package == "tracecore":
        return False
    spec = importlib.util.find_spec(package)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return any(place and is_below(os.path.realpath(place), libraries) for place in places)


def _execute(statement: str) -> None:
    module, _, names = statement.partition(":")
    found = importlib.import_module(module)
    for name in filter(None, names.split(",")):
        if name != "*" and not hasattr(found, name):  # asking may import it
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{module}.{name}")
    call = FIRST_CALLS.get(module)
    if call is not None:
        with contextlib.suppress(Exception):  # of another version: it is built in the episode
            call(found)


def _package(statement: str) -> str:
    return statement.partition(":")[0].partition(".")[0]


def _what_is_held(confinement: Confinement) -> dict[str, Any]:
    """What an import should leave as it was, by what is said of one that does not."""
    return {
        "it starts threads": _threads(confinement),
        "it opens descriptors": [fd for fd in range(DESCRIPTORS_SEARCHED) if _is_open(fd)],
        "it changes signal handlers": [
            signal.getsignal(number) for number in signal.valid_signals()
        ],
    }


def _threads(confinement: Confinement) -> int:
    """How many run beside this one; those of native code too, where the kernel can be asked."""
    machine, kernel = seccomp.architecture(), confinement.kernel
    if machine is None or kernel is None:
        return thread_count()
    number = seccomp.numbers_of(seccomp.BY_ARGUMENT, machine)["tgkill"]
    pid, found = os.getpid(), 0
    # The ids of threads follow that of their process, or begin again below it.
    for tid in {*range(pid + 1, pid + THREAD_IDS_SEARCHED), *range(1, min(pid, 512))}:
        with contextlib.suppress(OSError):
            kernel.call("syscall", number, pid, tid, 0)
            found += 1
    return found


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- what packages build at their first call, and not when they are imported: built by a call that
# is answered in this process, before agents are forked ---

_OPENAI_ANSWER: Final = {
    "id": "-",
    "object": "chat.completion",
    "created": 1,
    "model": "-",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "-"},
        }
    ],
}
_ANTHROPIC_ANSWER: Final = {
    "id": "-",
    "type": "message",
    "role": "assistant",
    "model": "-",
    "content": [{"type": "text", "text": "-"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_NOWHERE: Final = "http://localhost"
_QUESTION: Final[dict[str, Any]] = {"model": "-", "messages": [{"role": "user", "content": "-"}]}


def _call_openai(openai: Any) -> None:
    client = _answering(openai.OpenAI(api_key="-", base_url=_NOWHERE), _OPENAI_ANSWER)
    client.chat.completions.create(**_QUESTION)
    client.responses  # noqa: B018 - asking imports it
    client.close()


def _call_anthropic(anthropic: Any) -> None:
    client = _answering(anthropic.Anthropic(api_key="-", base_url=_NOWHERE), _ANTHROPIC_ANSWER)
    client.messages.create(max_tokens=1, **_QUESTION)
    client.close()


def _answering(client: Any, answer: dict[str, Any]) -> Any:
    """``client``, whose first call is answered in this process, where the network would begin."""
    importlib.import_module("encodings.idna")  # which the first connection would
    pool = client._client._transport._pool  # noqa: SLF001 - httpcore's, or what the SDK has for it
    body = json.dumps(answer).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    network = sys.modules[type(pool).__module__.partition(".")[0]].MockBackend
    pool._network_backend = network([(head % len(body)).encode() + body])  # noqa: SLF001
    return client


FIRST_CALLS: Final[dict[str, Callable[[Any], None]]] = {
    "openai": _call_openai,
    "anthropic": _call_anthropic,
}
