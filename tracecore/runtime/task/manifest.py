"""A task's ``task.toml``: read, and every field checked."""

import os
import tomllib
from collections.abc import Sequence
from typing import Any

from tracecore.errors import MISSING, TaskError
from tracecore.record import record
from tracecore.records import Budgets
from tracecore.runtime.sandbox import is_host_pattern, is_root
from tracecore.runtime.task.folder import MANIFEST_NAME
from tracecore.runtime.task.sources import read_source

SIZE_LIMIT_BYTES = 1 << 20
# of versions and budgets: far beyond use, and small enough to be shown and added
NUMBER_LIMIT = 10**9
SEED_BEHAVIORS = ("fixed", "stochastic", "ignored")

_FIELDS = (
    "id",
    "suite",
    "version",
    "description",
    "deterministic",
    "seed_behavior",
    "budgets",
    "action_surface",
    "validator",
    "setup",
    "sandbox",
)
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


@record
class Entrypoint:
    """A function of one of the task's files, written ``file.py:function``."""

    file: str
    function: str


@record
class Manifest:
    """What ``task.toml`` says."""

    id: str
    suite: str
    version: int
    description: str
    deterministic: bool
    seed_behavior: str  # fixed, stochastic or ignored
    budgets: Budgets
    action_source: str  # the file whose public functions are the actions
    action_schema: str  # "signature": argument names, and which are needed, come from the functions
    validator: Entrypoint
    setup: Entrypoint | None
    filesystem_roots: tuple[str, ...]
    network_hosts: tuple[str, ...]

    @property
    def ref(self) -> str:
        """``<id>@<version>``."""
        return f"{self.id}@{self.version}"


def read_manifest(folder: str) -> Manifest:
    """The manifest of the task in ``folder``.

    Raises:
        TaskError: ``task.toml`` is missing, unreadable or not TOML, or one of its fields is
            missing, unknown or wrong; path, field, what was found and what was expected are named.
    """
    return parse_manifest(folder, read_source(os.path.join(folder, MANIFEST_NAME), TaskError))


def parse_manifest(folder: str, data: bytes) -> Manifest:
    """The manifest that ``data``, the bytes of ``folder``'s ``task.toml``, holds; raises as
    ``read_manifest``.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    top = _Table(path, "", _parse_toml(path, data), _FIELDS)
    budgets = top.table("budgets", ("steps", "tool_calls"))
    actions = top.table("action_surface", ("source", "schema"))
    sandbox = top.table("sandbox", ("filesystem_roots", "network_hosts"))
    return Manifest(
        id=_read_id(top, os.path.basename(os.path.abspath(folder))),
        suite=top.text("suite"),
        version=top.number("version"),
        description=top.text("description"),
        deterministic=top.boolean("deterministic"),
        seed_behavior=top.choice("seed_behavior", SEED_BEHAVIORS),
        budgets=Budgets(steps=budgets.number("steps"), tool_calls=budgets.number("tool_calls")),
        action_source=_read_file_name(actions, folder),
        action_schema=actions.text("schema"),
        validator=_read_entrypoint(top.table("validator", ("entrypoint",)), folder),
        setup=_read_entrypoint(top.table("setup", ("entrypoint",)), folder)
        if "setup" in top.data
        else None,
        filesystem_roots=_read_roots(sandbox),
        network_hosts=_read_hosts(sandbox),
    )


def is_task_id(text: str) -> bool:
    """Whether ``text`` is made of lower-case letters, digits, ``_`` and ``-``, 1 to 80 of them."""
    return 0 < len(text) <= 80 and _ID_CHARACTERS.issuperset(text)


def _parse_toml(path: str, data: bytes) -> dict[str, Any]:
    if len(data) > SIZE_LIMIT_BYTES:
        raise TaskError(path, "", f"{len(data)} bytes", f"at most {SIZE_LIMIT_BYTES} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise TaskError(path, "", "a byte order mark", "UTF-8 without one")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise TaskError(
            path, "", f"byte {data[problem.start]:#04x} at offset {problem.start}", "UTF-8"
        ) from None
    # ValueError: also for numbers of more digits than int() reads
    except (ValueError, RecursionError) as problem:
        raise TaskError(path, "", str(problem), "TOML") from None


class _Table:
    """One table of the manifest, which hands out its fields checked."""

    def __init__(self, path: str, name: str, data: dict[str, Any], known: Sequence[str]) -> None:
        self.path, self.name, self.data = path, name, data
        # Before anything is missed: most unknown keys are misspelt known ones.
        for key in data:
            if key not in known:
                raise self.wrong(key, f"no such field, only {', '.join(known)}")

    def wrong(self, key: str, expected: str) -> TaskError:
        field = f"{self.name}.{key}" if self.name else key
        return TaskError(self.path, field, self.data.get(key, MISSING), expected)

    def table(self, key: str, known: Sequence[str]) -> "_Table":
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table with {', '.join(known)}")
        return _Table(self.path, key, value, known)

    def text(self, key: str, expected: str = "a string that is not empty") -> str:
        value = self.data.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, expected)
        return value

    def texts(self, key: str, expected: str) -> tuple[str, ...]:
        value = self.data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, expected)
        return tuple(value)

    def number(self, key: str) -> int:
        value = self.data.get(key)
        # `type`: True is an int to isinstance
        if type(value) is not int or not 0 <= value <= NUMBER_LIMIT:
            raise self.wrong(key, f"a whole number from 0 to {NUMBER_LIMIT}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.data.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.data.get(key)
        if value not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return str(value)


def _read_id(top: _Table, folder_name: str) -> str:
    expected = "lower-case letters, digits, _ and -, at most 80"
    value = top.text("id", expected)
    if not is_task_id(value):
        raise top.wrong("id", expected)
    if value != folder_name:
        raise top.wrong("id", f"the name of its folder, {folder_name!r}")
    return value


def _read_entrypoint(table: _Table, folder: str) -> Entrypoint:
    expected = "file.py:function"
    file, _, function = table.text("entrypoint", expected).partition(":")
    if not _is_python_file_name(file) or not function.isidentifier():
        raise table.wrong("entrypoint", expected)
    if not os.path.isfile(os.path.join(folder, file)):
        raise table.wrong("entrypoint", f"{expected}, of a file that is in the folder")
    return Entrypoint(file, function)


def _read_file_name(table: _Table, folder: str) -> str:
    expected = "the name of a .py file in the folder"
    file = table.text("source", expected)
    if not _is_python_file_name(file) or not os.path.isfile(os.path.join(folder, file)):
        raise table.wrong("source", expected)
    return file


def _is_python_file_name(text: str) -> bool:
    return text.endswith(".py") and text.removesuffix(".py").isidentifier()


def _read_roots(table: _Table) -> tuple[str, ...]:
    expected = "a list of absolute POSIX paths without `..`"
    roots = table.texts("filesystem_roots", expected)
    if not all(is_root(root) for root in roots):
        raise table.wrong("filesystem_roots", expected)
    return roots


def _read_hosts(table: _Table) -> tuple[str, ...]:
    expected = "a list of host names or *.suffix, without scheme or port"
    hosts = table.texts("network_hosts", expected)
    if not all(is_host_pattern(host) for host in hosts):
        raise table.wrong("network_hosts", expected)
    return hosts
