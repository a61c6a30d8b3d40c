"""The audit hook: a witness that says by name what an agent tried, and ends its process.

It is no wall. It sees what Python raises an event for, and what native code does not tell it; an
agent that takes it apart has gained nothing, since the kernel's layers hold without it. Where they
are not in force it is a guard rail, and native code is refused.
"""

import errno
import json
import os
import sys
from types import FrameType
from typing import Any, Final

from tracecore.confinement import answers
from tracecore.confinement.library import PACKAGE
from tracecore.confinement.readable import Readable, is_below

VIOLATION_EXIT: Final = 87  # how the process leaves when it could not say what was tried
WORDS_MOST: Final = 300
MISSING_ADVICE: Final = "(see doctor, or --confinement off)"

READS: Final = {"os.listdir": "list", "os.scandir": "list", "os.chdir": "enter"}
CHANGES: Final = {
    "os.chmod": "change",
    "os.chown": "change",
    "os.link": "link",
    "os.mkdir": "create",
    "os.remove": "remove",
    "os.removexattr": "change",
    "os.rename": "rename",
    "os.rmdir": "remove",
    "os.setxattr": "change",
    "os.symlink": "link",
    "os.truncate": "write",
    "os.utime": "change",
}
PROGRAMS: Final = {  # with the place of the program among the event's arguments
    "os.exec": 0,
    "os.posix_spawn": 0,
    "os.startfile": 0,
    "os.system": 0,
    "pty.spawn": 0,
    "subprocess.Popen": 1,
}
PLAIN: Final = {
    "os.fork": "fork a process",
    "os.forkpty": "fork a process",
    "os.killpg": "signal another process",
    "resource.setrlimit": "change resource limits",
    "resource.prlimit": "change resource limits",
    "socket.sethostname": "change the host name",
    "syslog.openlog": "write the system log",
    "syslog.syslog": "write the system log",
    "os.lockf": "lock a file",
    "fcntl.flock": "lock a file",
    "fcntl.lockf": "lock a file",
}
NAMES: Final = frozenset(
    ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
)
PEERS: Final = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
NATIVE: Final = frozenset(
    ("import", "ctypes.dlopen", "sqlite3.load_extension", "cpython.PyInterpreterState_New")
)
_WATCHED: Final = frozenset(
    ("open", "os.kill", "socket.bind", "sqlite3.connect", *NATIVE, *READS, *CHANGES, *PROGRAMS)
) | frozenset((*PLAIN, *NAMES, *PEERS))
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Witness:
    """What the agents of one zygote may, and who is told what else they try.

    Args:
        found: What may be read and loaded.
        missing: The kernel's layers that are not in force; with any, native code is refused.
        peers: ``address:port`` that may be connected to; none, usually.
        hosts: Names and addresses that may be looked up for that.
    """

    def __init__(
        self, found: Readable, missing: str, peers: frozenset[str], hosts: frozenset[str]
    ) -> None:
        self._found, self._missing, self._peers, self._hosts = found, missing, peers, hosts
        self._lacks = f"native code, without {missing} {MISSING_ADVICE}"
        self._fd, self._nonce = -1, ""

    def watch(self, write_fd: int, nonce: str) -> None:
        """In an agent's process, from here on: an attempt ends it, once it was written to the pipe
        to the episode. There is no way back.
        """
        self._fd, self._nonce = write_fd, nonce
        sys.meta_path.append(self)
        sys.addaudithook(self._see)

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """For ``sys.meta_path``, at whose end only that arrives which is nowhere to be found."""
        if name == "tasks":
            self._tell("import " + (imported_name(sys._getframe()) or name))  # noqa: SLF001

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _WATCHED and not event.startswith("ctypes."):
            return
        if event == "open":
            self._see_open(*args)
        elif event in NATIVE or event.startswith("ctypes."):
            self._see_native(event, args)
        elif event in READS:
            if not isinstance(args[0], int) and not self._may_read(_text(args[0] or ".")):
                self._tell_path(READS[event], _text(args[0] or "."))
        elif event in CHANGES:
            self._tell_path(CHANGES[event], _text(args[0]), hide_name=event == "os.mkdir")
        elif event in PROGRAMS:
            self._see_program(args[PROGRAMS[event]])
        elif event in PLAIN:
            self._tell(PLAIN[event])
        elif event == "os.kill":
            if args[0] != os.getpid():
                self._tell("signal another process")
        elif event in NAMES or event in PEERS:
            self._see_peer(event, args)
        elif event == "socket.bind":
            address = args[1]
            if isinstance(address, tuple) and address[:2] in answers.ADDRESSES:
                raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            self._tell("listen " + _text(address[0] if isinstance(address, tuple) else address))
        elif event == "sqlite3.connect":
            path = _text(args[0])
            if path and path != ":memory:" and not self._may_read(path):
                self._tell_path("open", path)

    def _see_open(self, path: Any, _mode: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        name = _text(path)
        if isinstance(flags, int) and flags & _WRITES:
            if name != os.devnull:
                # A temporary file has another name each time; the words, and their hash, have not.
                self._tell_path("write", name, hide_name=bool(flags & os.O_EXCL))
        elif name in answers.FILES:
            raise FileNotFoundError(2, os.strerror(2), path)
        elif not self._may_read(name):
            self._tell_path("open", name)

    def _see_native(self, event: str, args: tuple[Any, ...]) -> None:
        path = args[0] if event == "ctypes.dlopen" else args[1] if len(args) > 1 else None
        is_file = event in NATIVE and isinstance(path, str | bytes) and os.sep in _text(path)
        if is_file and not is_below(os.path.realpath(_text(path)), self._found.native):
            self._tell_path("load", _text(path))
        if not self._missing or (event == "import" and not is_file):
            return
        if event != "import":
            self._tell(f"use {event}, {self._lacks}")
        elif not is_below(_text(path), (os.path.dirname(os.__file__),)):
            self._tell(f"import {_text(args[0])}, {self._lacks}")

    def _see_program(self, argv: Any) -> None:
        program = _text(argv[0] if isinstance(argv, list | tuple) and argv else argv)
        if program.rpartition("/")[2] in answers.PROGRAMS:
            raise FileNotFoundError(2, os.strerror(2), program)
        self._tell("exec " + program)

    def _see_peer(self, event: str, args: tuple[Any, ...]) -> None:
        address = args[1] if event in PEERS else args[0]
        if isinstance(address, tuple):
            host, port = _text(address[0]), str(address[1]) if len(address) > 1 else ""
        else:
            host, port = place_of(_text(address or ""), self._found.folder), ""
            port = str(args[1]) if event == "socket.getaddrinfo" and args[1] is not None else port
        if event in PEERS and address is None:
            return  # to the peer that it has
        if f"{host}:{port}" not in self._peers if event in PEERS else host not in self._hosts:
            self._tell(f"connect {host}:{port}" if port else "connect " + host)

    def _may_read(self, path: str) -> bool:
        found = self._found
        real = os.path.realpath(path)
        return real in found.files or (
            is_below(real, found.folders) and not is_below(real, found.hidden)
        )

    def _tell_path(self, verb: str, path: str, *, hide_name: bool = False) -> None:
        if module := imported_name(sys._getframe()):  # noqa: SLF001 - the caller is the question
            self._tell("import " + module)
        shown = place_of(path, self._found.folder)
        self._tell(f"{verb} " + (shown.rpartition("/")[0] + "/…" if hide_name else shown))

    def _tell(self, attempt: str) -> None:
        words = {"nonce": self._nonce, "seq": 0, "violation": {"attempt": attempt[:WORDS_MOST]}}
        body = json.dumps(words).encode()
        try:
            os.set_blocking(self._fd, False)  # in a full pipe, this would wait for ever
            os.write(self._fd, len(body).to_bytes(4, "big") + body)
        finally:
            os._exit(VIOLATION_EXIT)


def place_of(path: str, folder: str) -> str:
    """A path in words that do not depend on where this package and an agent's folder lie: relative
    to the one, or to the other where they have more in common than the root.
    """
    if is_below(path, (PACKAGE,)):
        return os.path.relpath(path, os.path.dirname(PACKAGE))
    if not path.startswith("/") or os.path.commonpath((path, folder)) == "/":
        return path
    return os.path.relpath(path, folder)


def imported_name(frame: FrameType | None) -> str:
    """The module that was asked for by the import in which this module was called; empty where it
    was called by something else.
    """
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    name = ""
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        if frame.f_code.co_name == "_find_and_load":
            name = frame.f_locals["name"]
        frame = frame.f_back
    return name


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "surrogateescape")
    return str.__str__(value) if isinstance(value, str) else f"(a {type(value).__name__})"
