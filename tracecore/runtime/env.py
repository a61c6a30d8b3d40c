"""The world of one episode: files and state in memory, every file and network call on record."""

import errno
from collections.abc import Iterable
from typing import Any

from tracecore.records import JsonObject
from tracecore.runtime.sandbox import HOST_LIMIT, PATH_LIMIT, Sandbox, SandboxViolation


class Environment:
    """What a task's ``setup``, actions and ``validate`` are given as ``env``.

    Paths are POSIX and made absolute. A folder is there as soon as a file lies below it. Each file
    or network call is put on record before it is allowed or refused; all of them raise
    :class:`~tracecore.runtime.sandbox.SandboxViolation` for what the task does not allow, and
    ``TypeError`` for a path or host that is not a string.

    Attributes:
        audit: The file and network calls since the episode last took them, oldest first. Each is
            ``{"type": "fs", "op": ..., "path": ...}`` or ``{"type": "net", "host": ...}``; an
            allowed one holds the path or host in its normal form, a refused one as it was given.
        violation: The first call that was refused, even where task code has caught it.
    """

    __slots__ = (
        "_agent_output",
        "_children",
        "_files",
        "_hidden_state",
        "_seen",
        "audit",
        "sandbox",
        "violation",
    )

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.violation: SandboxViolation | None = None
        self._files: dict[str, str] = {}  # path -> content
        # folder -> full paths of what lies directly in it
        self._children: dict[str, set[str]] = {"/": set()}
        self._seen: set[str] = set()
        self._hidden_state: dict[str, Any] = {}
        self._agent_output: dict[str, Any] = {}
        self.audit: list[JsonObject] = []

    def read_file(self, path: str) -> str:
        """The content of a file.

        Raises:
            FileNotFoundError: There is none; ``filename`` holds the path.
            IsADirectoryError: It is a folder.
        """
        path = self._allowed_path("read_file", path)
        if path in self._files:
            return self._files[path]
        if path in self._children:
            raise IsADirectoryError(errno.EISDIR, "this is a folder", path)
        raise FileNotFoundError(errno.ENOENT, "no such file", path)

    def write_file(self, path: str, content: str) -> None:
        """Create a file, or replace its content; the folders above it need not be there.

        Raises:
            IsADirectoryError: A folder of that name is there.
            NotADirectoryError: One of the folders above it is a file.
            TypeError: ``content`` is not a string.
        """
        path = self._allowed_path("write_file", path)
        if not isinstance(content, str):
            raise TypeError(f"the content of {path} is a string, not {type(content).__name__}")
        if path not in self._files:
            self._put_into_folders(path)
        self._files[path] = content

    def list_dir(self, path: str) -> list[str]:
        """The full paths of the files and folders directly in ``path``, sorted; empty if nothing is
        there.
        """
        return sorted(self._children.get(self._allowed_path("list_dir", path), ()))

    def exists(self, path: str) -> bool:
        """Whether a file is there, so that ``read_file`` finds it. A folder that only files below
        imply is listed, but is none.
        """
        return self._allowed_path("exists", path) in self._files

    def require_network(self, host: str) -> None:
        """Ask for leave to reach ``host``: a host, ``host:port`` or a URL. No connection is ever
        made.
        """
        if not isinstance(host, str):
            raise TypeError(f"a host is a string, not {type(host).__name__}")
        entry = {"type": "net", "host": host[:HOST_LIMIT]}
        self.audit.append(entry)
        try:
            entry["host"] = self.sandbox.check_host(host)
        except SandboxViolation as violation:
            self.violation = self.violation or violation
            raise

    def mark_seen(self, paths: Iterable[str]) -> None:
        """Show ``paths`` to the agent from now on, as ``visible_state()["files_seen"]``.

        Raises:
            TypeError: ``paths`` is one string, or holds something that is none; nothing has been
                marked.
        """
        marked = set(paths)
        if isinstance(paths, str) or not set(map(type, marked)) <= {str}:
            raise TypeError("mark_seen takes a list of paths, each a string")
        self._seen.update(marked)

    def visible_state(self) -> JsonObject:
        """What every observation shows of this world: ``{"files_seen": [sorted paths]}``."""
        return {"files_seen": sorted(self._seen)}

    def set_hidden_state(self, key: str, value: Any) -> None:
        """Keep ``value`` where only the task's own code sees it."""
        self._hidden_state[key] = value

    def get_hidden_state(self, key: str, default: Any = None) -> Any:
        """What was kept under ``key``, else ``default``."""
        return self._hidden_state.get(key, default)

    def set_agent_output(self, key: str, value: Any) -> None:
        """Keep what the agent handed in, for the validator."""
        self._agent_output[key] = value

    def get_agent_output(self, key: str, default: Any = None) -> Any:
        """What was handed in under ``key``, else ``default``."""
        return self._agent_output.get(key, default)

    def _allowed_path(self, op: str, path: str) -> str:
        if not isinstance(path, str):
            raise TypeError(f"a path is a string, not {type(path).__name__}")
        entry = {"type": "fs", "op": op, "path": path[:PATH_LIMIT]}
        self.audit.append(entry)
        try:
            entry["path"] = allowed = self.sandbox.check_path(path, op)
        except SandboxViolation as violation:
            self.violation = self.violation or violation
            raise
        return allowed

    def _put_into_folders(self, path: str) -> None:
        if path in self._children:
            raise IsADirectoryError(errno.EISDIR, "this is a folder", path)
        folders = _folders_above(path)
        for folder in folders:
            if folder in self._files:
                raise NotADirectoryError(errno.ENOTDIR, "this is a file, not a folder", folder)
        for folder in folders:
            self._children.setdefault(folder, set()).add(path)
            path = folder


def snapshot(env: Environment) -> JsonObject:
    """All that a world holds, for comparing two of them."""
    return {
        "files": dict(env._files),  # noqa: SLF001 - a friend, so that tasks are offered no more
        "hidden state": dict(env._hidden_state),  # noqa: SLF001
        "visible files": sorted(env._seen),  # noqa: SLF001
    }


def _folders_above(path: str) -> list[str]:
    """The folders that hold ``path``, from the nearest up to ``/``."""
    folders = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        folders.append(path)
    return folders
