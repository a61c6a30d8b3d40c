"""An agent's file: compiled, then executed in the agent's own process. Kept lean: every such
process holds it.
"""

import functools
import os
import sys
from types import CodeType, ModuleType

from tracecore import canon
from tracecore.errors import MISSING, AgentError
from tracecore.runtime.task.folder import compile_source, read_source

MODULE_NAME = "tracecore_agent"
METHODS = ("reset", "observe", "act")


@functools.cache
def compile_agent(path: str, sha256: str) -> CodeType:
    """The code object of the agent's file, which is read once per process. Executes nothing.

    Args:
        path: Absolute path of the file.
        sha256: ``sha256:<hex>`` of its bytes, as it was found.

    Raises:
        AgentError: It cannot be read, has changed since, or is not Python (the line is named).
    """
    data = read_source(path, AgentError)
    found = canon.sha256(data)
    if found != sha256:
        raise AgentError(path, "sha256", found, f"{sha256}, as it was when it was found")
    return compile_source(path, data, AgentError)


def execute_agent(code: CodeType, path: str) -> object:
    """Run the agent's module and construct its agent, without arguments.

    The class is ``Agent`` if there is one, else the first class defined in the file that has all of
    ``reset``, ``observe`` and ``act``. Classes imported from elsewhere come last, and only under
    the name ``Agent``.

    This changes the process for good (``sys.path``, ``sys.modules``, no bytecode is written): it is
    meant for a process that serves one agent. Whatever the agent's own code raises is passed on.

    Raises:
        AgentError: There is no such class, or ``Agent`` lacks a method.
    """
    _make_siblings_importable(path)
    module = ModuleType(MODULE_NAME)
    module.__file__ = path
    sys.modules[MODULE_NAME] = module  # dataclasses and pickle look a class's module up
    exec(code, module.__dict__)  # noqa: S102 - running the agent is the point
    return _pick_class(module, path)()


def _make_siblings_importable(path: str) -> None:
    # At the end: an agent's own json.py must not replace the runtime's. And an agent's folder is
    # left as it was found.
    sys.dont_write_bytecode = True
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)


def _pick_class(module: ModuleType, path: str) -> type:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [value for value in classes if value.__module__ == MODULE_NAME]
    named = getattr(module, "Agent", None)
    if not isinstance(named, type) or named not in own:
        for candidate in own:
            if not _lacks(candidate):
                return candidate
    if not isinstance(named, type):
        raise AgentError(path, "", MISSING, "a class Agent, or a class with reset, observe and act")
    if missing := _lacks(named):
        raise AgentError(path, "Agent", f"no method {', '.join(missing)}", "reset, observe and act")
    return named


def _lacks(candidate: type) -> list[str]:
    return [name for name in METHODS if not callable(getattr(candidate, name, None))]
