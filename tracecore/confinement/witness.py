"""The audit hook: a witness that reports by name what an agent tried, and ends its process.

It is no wall. It sees what Python raises an event for, and nothing of what native code does; an
agent that takes it apart has gained nothing, since the kernel's layers hold without it. Where they
are not in force it is a guard rail, and native code is refused.
"""

import errno
import json
import os
import sys
from types import FrameType
from typing import Any, Final

from tracecore import frames
from tracecore.confinement import answers
from tracecore.confinement.readable import PACKAGE, Readable, is_below

VIOLATION_EXIT: Final = 87  # how the process leaves when it could not report what was tried
WORDS_MOST: Final = 300

# What is watched: the method that judges it, the argument of the event that it is about, the words
# for it, and the events.
_TABLE: Final = """
    opened    0 | open    | open
    looked_at 0 | open    | sqlite3.connect
    looked_at 0 | list    | os.listdir os.scandir
    looked_at 0 | enter   | os.chdir
    changed   0 | change  | os.chmod os.chown os.removexattr os.setxattr os.utime
    changed   0 | create  | os.mkdir
    changed   0 | link    | os.link os.symlink
    changed   0 | remove  | os.remove os.rmdir
    changed   0 | rename  | os.rename
    changed   0 | write   | os.truncate
    started   0 | exec    | os.exec os.posix_spawn os.startfile os.system pty.spawn
    started   1 | exec    | subprocess.Popen
    looked_up 0 | connect | socket.getaddrinfo socket.gethostbyname
    looked_up 0 | connect | socket.gethostbyaddr socket.getnameinfo
    reached   1 | connect | socket.connect socket.sendto socket.sendmsg
    bound     1 | listen  | socket.bind
    loaded    1 | import  | import
    loaded    0 | use ctypes.dlopen | ctypes.dlopen
    loaded    1 | use sqlite3.load_extension | sqlite3.load_extension
    loaded    9 | use cpython.PyInterpreterState_New | cpython.PyInterpreterState_New
    done      0 | signal another process | os.kill
    done      9 | signal another process | os.killpg
    done      9 | fork a process | os.fork os.forkpty
    done      9 | change resource limits | resource.setrlimit resource.prlimit
    done      9 | change the host name | socket.sethostname
    done      9 | write the system log | syslog.openlog syslog.syslog
    done      9 | lock a file | os.lockf fcntl.flock fcntl.lockf
"""
_WATCHED: Final = {
    event: ("_" + head.split()[0], int(head.split()[1]), words.strip())
    for head, words, events in (line.split("|") for line in _TABLE.strip().splitlines())
    for event in events.split()
}
PHRASES: Final = frozenset(words for judge, _, words in _WATCHED.values() if judge == "_done")
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OWN_LIBRARY: Final = (os.path.dirname(os.__file__),)


class Witness:
    """What the agents of one zygote may do; what else they try ends them, and is reported.

    Args:
        found: What may be read and loaded.
        refusal: Why native code is refused, if it is.
        peers: ``address:port`` that may be connected to; none, usually.
        hosts: Names and addresses that may be looked up for that.
    """

    def __init__(
        self, found: Readable, refusal: str, peers: frozenset[str], hosts: frozenset[str]
    ) -> None:
        self._found, self._refusal, self._peers, self._hosts = found, refusal, peers, hosts
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
            self._report("import " + (imported_name(sys._getframe()) or name))  # noqa: SLF001

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _WATCHED:
            judge, place, words = _WATCHED[event]
            getattr(self, judge)(args[place] if place < len(args) else None, words, args)
        elif event.startswith("ctypes."):
            self._loaded(None, f"use {event}", args)

    def _opened(self, path: Any, words: str, args: tuple[Any, ...]) -> None:
        name, flags = _text(path), args[2]
        if isinstance(path, int) or (name == os.devnull and isinstance(flags, int)):
            return
        if isinstance(flags, int) and flags & _WRITES:
            # A temporary file has another name each time; the words, and their hash, have not.
            self._report_path("write", name, hide_name=bool(flags & os.O_EXCL))
        self._looked_at(path, words, args)

    def _looked_at(self, path: Any, words: str, _args: tuple[Any, ...]) -> None:
        name = "." if path is None else _text(path) or "."
        if name in answers.FILES or is_below(name, (answers.HOME,)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        real, found = os.path.realpath(name), self._found
        is_open = is_below(real, found.folders) and not is_below(real, found.hidden)
        if not (is_open or real in found.files or isinstance(path, int) or name == ":memory:"):
            self._report_path(words, name)

    def _changed(self, path: Any, words: str, _args: tuple[Any, ...]) -> None:
        self._report_path(words, _text(path), hide_name=words == "create")

    def _started(self, argv: Any, words: str, _args: tuple[Any, ...]) -> None:
        program = _text(argv[0] if isinstance(argv, list | tuple) and argv else argv)
        if program.rpartition("/")[2] in answers.PROGRAMS:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
        self._report(f"{words} {program}")

    def _looked_up(self, address: Any, words: str, args: tuple[Any, ...]) -> None:
        host, port = self._host_and_port(address)
        port = port or (_text(args[1]) if len(args) > 1 and args[1] is not None else "")
        if host not in self._hosts:
            self._report(f"{words} {host}:{port}".rstrip(":"))

    def _reached(self, address: Any, words: str, _args: tuple[Any, ...]) -> None:
        host, port = self._host_and_port(address)
        if address is not None and f"{host}:{port}" not in self._peers:  # None: the peer it has
            self._report(f"{words} {host}:{port}".rstrip(":"))

    def _bound(self, address: Any, words: str, _args: tuple[Any, ...]) -> None:
        if isinstance(address, tuple) and address[:2] in answers.ADDRESSES:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self._report(f"{words} {_text(address[0] if isinstance(address, tuple) else address)}")

    def _loaded(self, path: Any, words: str, args: tuple[Any, ...]) -> None:
        name = _text(path) if isinstance(path, str | bytes) else ""
        is_file = os.sep in name
        if is_file and not is_below(os.path.realpath(name), self._found.native):
            self._report_path("load", name)
        if self._refusal and words != "import":
            self._report(f"{words}, {self._refusal}")
        if self._refusal and is_file and not is_below(name, _OWN_LIBRARY):
            self._report(f"{words} {_text(args[0])}, {self._refusal}")

    def _done(self, subject: Any, words: str, _args: tuple[Any, ...]) -> None:
        if subject != os.getpid():
            self._report(words)

    def _host_and_port(self, address: Any) -> tuple[str, str]:
        if isinstance(address, tuple):
            return _text(address[0]), _text(address[1]) if len(address) > 1 else ""
        return place_of("" if address is None else _text(address), self._found.folder), ""

    def _report_path(self, verb: str, path: str, *, hide_name: bool = False) -> None:
        if module := imported_name(sys._getframe()):  # noqa: SLF001 - the caller is the question
            self._report("import " + module)
        shown = place_of(path, self._found.folder)
        self._report(f"{verb} " + (shown.rpartition("/")[0] + "/…" if hide_name else shown))

    def _report(self, attempt: str) -> None:
        words = {"nonce": self._nonce, "seq": 0, "violation": {"attempt": attempt[:WORDS_MOST]}}
        body = json.dumps(words).encode()
        try:
            os.set_blocking(self._fd, False)  # in a full pipe, this would wait for ever
            os.write(self._fd, frames.pack(body))
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
    if isinstance(value, int):
        return int.__repr__(value)
    return str.__str__(value) if isinstance(value, str) else f"(a {type(value).__name__})"
