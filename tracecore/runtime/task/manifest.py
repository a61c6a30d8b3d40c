"""A task's ``task.toml``: read, and every field checked."""

import os
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from tracecore import strict
from tracecore.errors import MISSING, TaskError
from tracecore.record import record
from tracecore.records import Budgets
from tracecore.runtime.sandbox import is_host_pattern, is_root
from tracecore.runtime.task.folder import MANIFEST_NAME, read_source
from tracecore.strict import BOOL, Kind

T = TypeVar("T")

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
# of an entrypoint without one: table -> what its function is usually called
_FUNCTIONS = {"setup": ("setup",), "validator": ("validate", "validator")}
# field, what was found, what was expected
Problem = tuple[str, object, str]

TASK_ID: Final = "[a-z0-9_-]{1,80}"


def is_task_id(text: str) -> bool:
    """Whether ``text`` is made of lower-case letters, digits, ``_`` and ``-``, 1 to 80 of them."""
    return re.fullmatch(TASK_ID, text) is not None


_ID: Final[Kind] = (
    lambda value: isinstance(value, str) and is_task_id(value),
    "lower-case letters, digits, _ and -, at most 80",
)
_TEXT: Final[Kind] = (
    lambda value: isinstance(value, str) and value != "",
    "a string that is not empty",
)
_NUMBER: Final[Kind] = (
    lambda value: type(value) is int and 0 <= value <= NUMBER_LIMIT,  # True is none
    f"a whole number from 0 to {NUMBER_LIMIT}",
)
_SEED_BEHAVIOR: Final[Kind] = (SEED_BEHAVIORS.__contains__, f"one of {', '.join(SEED_BEHAVIORS)}")
_ROOTS: Final[Kind] = (
    lambda value: (
        isinstance(value, list) and all(isinstance(one, str) and is_root(one) for one in value)
    ),
    "a list of absolute POSIX paths without `..`",
)
_HOSTS: Final[Kind] = (
    lambda value: (
        isinstance(value, list)
        and all(isinstance(one, str) and is_host_pattern(one) for one in value)
    ),
    "a list of host names or *.suffix, without scheme or port",
)


@record
class Entrypoint:
    """A function of one of the task's files, written ``file.py:function``."""

    file: str
    function: str


@record
class Manifest:
    """What ``task.toml`` holds."""

    id: str
    suite: str
    version: int
    description: str
    deterministic: bool
    seed_behavior: str  # fixed, stochastic or ignored
    budgets: Budgets
    action_source: str  # the file whose public functions are the actions
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
        TaskError: ``task.toml`` is missing, unreadable or not TOML, or fields are missing, unknown
            or wrong: the file is named, and for each of them what was found and expected.
    """
    return parse_manifest(folder, read_source(os.path.join(folder, MANIFEST_NAME), TaskError))


def parse_manifest(folder: str, data: bytes) -> Manifest:
    """The manifest that ``data``, the bytes of ``folder``'s ``task.toml``, holds; raises as
    ``read_manifest``.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    manifest, problems = read_fields(folder, parse_toml(path, data))
    if problems:
        raise TaskError.of_all(path, problems)
    return manifest


def read_fields(folder: str, document: dict[str, Any]) -> tuple[Manifest, list[Problem]]:
    """The manifest that a document holds, and all that is wrong with it; in the place of a field
    that is wrong stands what is usual.
    """
    problems: list[Problem] = []
    top = _Table("", document, _FIELDS, problems)
    budgets = top.table("budgets", ("steps", "tool_calls"))
    actions = top.table("action_surface", ("source", "schema"))
    sandbox = top.table("sandbox", ("filesystem_roots", "network_hosts"))
    manifest = Manifest(
        id=_read_id(top, os.path.basename(os.path.abspath(folder))),
        suite=top.take("suite", _TEXT, ""),
        version=top.take("version", _NUMBER, 0),
        description=top.take("description", _TEXT, ""),
        deterministic=top.take("deterministic", BOOL, False),
        seed_behavior=top.take("seed_behavior", _SEED_BEHAVIOR, str(document.get("seed_behavior"))),
        budgets=Budgets(
            steps=budgets.take("steps", _NUMBER, 0),
            tool_calls=budgets.take("tool_calls", _NUMBER, 0),
        ),
        action_source=_read_file_name(actions, folder),
        validator=_read_entrypoint(top.table("validator", ("entrypoint",)), folder),
        setup=_read_entrypoint(top.table("setup", ("entrypoint",)), folder)
        if "setup" in top.data
        else None,
        filesystem_roots=tuple(sandbox.take("filesystem_roots", _ROOTS, ["/"])),
        network_hosts=tuple(sandbox.take("network_hosts", _HOSTS, [])),
    )
    if "schema" in actions.data:
        actions.take("schema", _TEXT, "")
    return manifest, problems


def parse_toml(path: str, data: bytes) -> dict[str, Any]:
    """The document in the bytes of the file ``path``; raises :class:`TaskError`."""
    if len(data) > SIZE_LIMIT_BYTES:
        raise TaskError(path, "", f"{len(data)} bytes", f"at most {SIZE_LIMIT_BYTES} bytes")
    return strict.parse_toml(path, data, error=TaskError)


class _Table:
    """One table of the manifest, which hands out its fields and notes what is wrong with them.

    In the place of a field that is wrong it hands out what is usual: the manifest is refused at
    the end.
    """

    def __init__(
        self, name: str, data: dict[str, Any], known: Sequence[str], problems: list[Problem]
    ) -> None:
        self.name, self.data, self._problems = name, data, problems
        for key in data:
            if key not in known:
                self.note(key, f"no such field, only {', '.join(known)}")

    def note(self, key: str, expected: str) -> None:
        """Note that ``key`` does not hold what is expected; once for each."""
        field = f"{self.name}.{key}" if self.name else key
        if all(field != noted for noted, _found, _expected in self._problems):
            self._problems.append((field, self.data.get(key, MISSING), expected))

    def table(self, key: str, known: Sequence[str]) -> "_Table":
        value = self.data.get(key)
        if isinstance(value, dict):
            return _Table(key, value, known, self._problems)
        self.note(key, f"a table with {', '.join(known)}")
        return _Table(key, {}, known, [])  # what it lacks is noted by the line above

    def take(self, key: str, kind: Kind, usual: T) -> T:
        value: T = self.data.get(key)  # type: ignore[assignment]
        is_of_kind, expected = kind
        if is_of_kind(value):
            return value
        self.note(key, expected)
        return usual


def _read_id(top: _Table, folder_name: str) -> str:
    if top.take("id", _ID, "") != folder_name:
        top.note("id", f"the name of its folder, {folder_name!r}")
    return folder_name if is_task_id(folder_name) else "task"


def _read_entrypoint(table: _Table, folder: str) -> Entrypoint:
    """``file.py:function``; a file alone means the function that the table is named after."""
    names = _FUNCTIONS[table.name]
    expected = f"file.py:function, or file.py for its function {names[0]}"
    text = table.take("entrypoint", (_is_entrypoint, expected), f"{names[0]}.py")
    file, colon, function = text.partition(":")
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        table.note("entrypoint", f"{expected}, of a file that is in the folder")
    elif not colon:
        source = read_source(path, TaskError)
        function = next((name for name in names if b"def %b(" % name.encode() in source), "")
    return Entrypoint(file, function or names[0])


def _is_entrypoint(value: object) -> bool:
    file, colon, function = str(value).partition(":")
    is_well_formed = _is_python_file_name(file) and (not colon or function.isidentifier())
    return isinstance(value, str) and is_well_formed


def _read_file_name(table: _Table, folder: str) -> str:
    def is_there(value: object) -> bool:
        is_file_name = isinstance(value, str) and _is_python_file_name(value)
        return is_file_name and os.path.isfile(os.path.join(folder, str(value)))

    kind = (is_there, "the name of a .py file in the folder")
    return table.take("source", kind, "actions.py")


def _is_python_file_name(text: str) -> bool:
    return text.endswith(".py") and text.removesuffix(".py").isidentifier()
