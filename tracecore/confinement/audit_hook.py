"""The audit hook: it sees what an agent tries while Python does it, says what it was, and ends the
process.

The hook trusts nothing that the agent can change. It looks up no global and no built-in name, calls
no method of an object that is not exactly of a built-in type, and holds constants only: an agent
that gets hold of its frame finds nothing to alter. It is the layer that gives words; it is no wall
(see docs/security.md).
"""

import os
import sys
from _json import encode_basestring_ascii
from collections.abc import Callable
from typing import Any, Final

from tracecore.confinement.path_check import FORBIDDEN, ODD, UNSEEN, make_path_check, seal
from tracecore.confinement.readable import Readable
from tracecore.record import record

Hook = Callable[[str, tuple[Any, ...]], None]

VIOLATION_EXIT: Final = 87  # how the process leaves when it could not say what was tried
# The events that our own stand-ins raise: an attempt in words; a path that is looked at, and a
# descriptor that it starts from.
ATTEMPT: Final = "tracecore.attempt"
LOOK: Final = "tracecore.look"
WORDS_MOST: Final = 300
RESERVE_BYTES: Final = 4 << 20
NO_MEMORY: Final = "do something, and left no memory to see what"
WEB_PORTS: Final = frozenset((80, 443))

# Events of which the first argument is a path that is looked at, changed, or started.
LOOKS: Final = {
    "os.listdir": "list",
    "os.scandir": "list",
    "os.chdir": "enter",
    "os.getxattr": "read",
    "os.listxattr": "read",
}
CHANGES: Final = {
    "os.chflags": "change",
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
    "shutil.chown": "change",
}
STARTS: Final = {
    "os.exec": "exec",
    "os.posix_spawn": "exec",
    "os.startfile": "exec",
    "os.system": "exec",
    "pty.spawn": "exec",
    "webbrowser.open": "exec",
}
# Events that are an attempt whatever their arguments, and its words.
PLAIN: Final = {
    "os.fork": "fork a process",
    "os.forkpty": "fork a process",
    "os.killpg": "signal another process",
    "gc.get_objects": "inspect gc.get_objects",
    "gc.get_referents": "inspect gc.get_referents",
    "gc.get_referrers": "inspect gc.get_referrers",
    "sys._current_frames": "inspect sys._current_frames",
    "sys._current_exceptions": "inspect sys._current_exceptions",
    "sys.addaudithook": "add an audit hook",
    "resource.setrlimit": "change resource limits",
    "resource.prlimit": "change resource limits",
    "socket.sethostname": "change the host name",
    "syslog.openlog": "write the system log",
    "syslog.syslog": "write the system log",
    "os.lockf": "lock a file",
    "fcntl.flock": "lock a file",
    "fcntl.lockf": "lock a file",
    "sqlite3.enable_load_extension": "load compiled code",
    "sqlite3.load_extension": "load compiled code",
    "cpython.PyInterpreterState_New": "start an interpreter",  # which would have no hook
}
HOSTS: Final = frozenset(
    ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
)
PEERS: Final = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
SOCKET_FAMILIES: Final = frozenset((1, 2, 10))  # AF_UNIX (socket pairs), AF_INET, AF_INET6
# SETOWN SETSIG SETOWN_EX SETLEASE NOTIFY: each has a signal sent
FCNTL_SIGNALS: Final = frozenset((8, 10, 15, 1024, 1026))
FCNTL_LOCKS: Final = frozenset((5, 6, 7, 36, 37, 38))
FCNTL_HARMLESS: Final = frozenset((0, 1, 2, 3, 4, 9, 11, 16, 1030, 1032, 1034))  # as in seccomp.py
IOCTL_QUERIES: Final = frozenset((0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451))
# Compiled modules that open files without an event. Importing one fails; loading its file is an
# attempt.
ABSENT_MODULES: Final = ("readline", "_dbm", "_gdbm", "_posixshmem")
# Modules that reach behind Python; who needs them has them loaded already, and changed.
CLOSED_MODULES: Final = frozenset(
    (
        "_ctypes",
        "_ctypes_test",
        "_posixsubprocess",
        "_testcapi",
        "_testinternalcapi",
        "_testbuffer",
        "_cffi_backend",
        "cffi",
    )
)


@record
class Originals:
    """Functions that the hook itself calls, and agents may not.

    Whoever holds this can look at any path.
    """

    stat: Callable[..., os.stat_result]
    read_link: Callable[..., str]


def prepare(
    found: Readable, hosts: frozenset[str], addresses: frozenset[str], originals: Originals
) -> Callable[[int, str], None]:
    """Make the hook ready, as far as it is the same for all agents of a zygote.

    Args:
        found: What may be read.
        hosts: What may be connected to; none, usually.
        addresses: What those hosts resolve to.
        originals: What :func:`tracecore.confinement.unaudited.plant` gave.

    Returns:
        Called in an agent's process with the pipe to the episode and the nonce that goes into
        messages: from there on an attempt ends the process, once it has been told. There is no way
        back. Whoever holds the result can reach the hook: it must be let go before any of the
        agent's code runs.
    """
    tell, address_it, spared = _make_teller()
    hook = _make_hook(_make_judge(tell, found, hosts, addresses, originals), spared)

    def watch(write_fd: int, nonce: str) -> None:
        address_it(write_fd, nonce)
        sys.addaudithook(hook)

    return watch


def _make_hook(judge: Hook, spared: Callable[[bool], None]) -> Hook:
    """A judge that does not run out of memory: an open that failed for the want of it would be
    known to nobody.
    """
    memory_error = MemoryError

    def hook(event: str, args: tuple[Any, ...]) -> None:
        try:
            judge(event, args)
        except memory_error:
            spared(False)
            try:
                judge(event, args)
            except memory_error:
                spared(True)

    return hook


def _make_judge(
    tell: Callable[[str], None],
    found: Readable,
    hosts: frozenset[str],
    addresses: frozenset[str],
    originals: Originals,
) -> Hook:
    refuses, answers, is_given = make_path_check(found, originals.read_link, originals.stat)
    str_, bytes_, bytearray_, int_, tuple_, list_, type_, os_error = (
        str,
        bytes,
        bytearray,
        int,
        tuple,
        list,
        type,
        OSError,
    )
    own_pid, stat, length, not_there = os.getpid, originals.stat, len, FileNotFoundError
    looks, changes, starts, plain = (frozenset(table) for table in (LOOKS, CHANGES, STARTS, PLAIN))
    watched = frozenset(
        (
            *looks,
            *changes,
            *starts,
            *plain,
            *HOSTS,
            *PEERS,
            "open",
            "import",
            "subprocess.Popen",
            "os.kill",
        )
    )
    watched |= {
        "socket.__new__",
        "socket.bind",
        "fcntl.fcntl",
        "fcntl.ioctl",
        "sqlite3.connect",
        ATTEMPT,
        LOOK,
    }
    # Tuples of pairs: a dict could be changed by whoever gets hold of it.
    words = (*LOOKS.items(), *CHANGES.items(), *STARTS.items(), *PLAIN.items())
    attempt_event, look_event, unseen, forbidden = ATTEMPT, LOOK, UNSEEN, FORBIDDEN
    closed, absent, ports = CLOSED_MODULES, frozenset(ABSENT_MODULES), WEB_PORTS
    hosts_events, peers, families = HOSTS, PEERS, SOCKET_FAMILIES
    signals, locks, fcntls, ioctls, odd = (
        FCNTL_SIGNALS,
        FCNTL_LOCKS,
        FCNTL_HARMLESS,
        IOCTL_QUERIES,
        ODD,
    )
    directory, regular, kind_bits = 0o040000, 0o100000, 0o170000
    write_bits = (
        os.O_WRONLY
        | os.O_RDWR
        | os.O_CREAT
        | os.O_TRUNC
        | os.O_APPEND
        | (os.O_TMPFILE & ~os.O_DIRECTORY)
    )
    secret_name = os.O_EXCL

    @seal
    def text(value: Any) -> str:
        kind = type_(value)
        if kind is str_:
            return value  # type: ignore[no-any-return]
        if kind is bytes_ or kind is bytearray_:
            return value.decode("utf-8", "surrogateescape")  # type: ignore[no-any-return]
        return odd

    @seal
    def first(argv: Any) -> str:
        return text(argv[0] if (type_(argv) is tuple_ or type_(argv) is list_) and argv else argv)

    @seal
    def word_for(event: str) -> str:
        for name, word in words:
            if name == event:
                return word
        return event

    @seal
    def peer(host: Any, port: Any) -> str:
        name = "" if host is None else text(host)
        return (
            name + ":" + (int_.__repr__(port) if type_(port) is int_ else text(port))
            if port is not None
            else name
        )

    @seal
    def judge(event: str, args: tuple[Any, ...]) -> None:
        if event not in watched:
            if event[:7] == "ctypes.":
                tell("use " + event)
            return
        if event == "open":
            path, mode, flags = args
            kind = type_(path)
            if kind is int_:
                return  # a descriptor, which is its own
            name = text(path)
            writes = type_(flags) is int_ and flags & write_bits
            if writes:
                if name != "/dev/null":
                    # A temporary file's name is another each time, and so would the artifact's hash
                    # be.
                    tell(
                        "write " + (name.rpartition("/")[0] + "/…" if flags & secret_name else name)
                    )
            elif refuses(name):
                tell("open " + name)
            else:
                try:
                    status = stat(path)
                except os_error:
                    return  # as the open itself will find
                kind_of_file = status.st_mode & kind_bits
                # A folder's descriptor would give other paths another meaning than they seem to
                # have.
                if mode is None and kind_of_file == directory:
                    tell("open " + name)
                # Under its other name it may be a file of a task, or of the runs.
                if kind_of_file == regular and status.st_nlink > 1 and is_given(name):
                    tell("open " + name)
        elif event == "import":
            module, path = text(args[0]), args[1]
            if (
                type_(args[0]) is not str_
                or module in closed
                or module.rpartition(".")[2] in closed
            ):
                tell("import " + module)
            if path is not None and module.rpartition(".")[2] in absent:
                tell("import " + module)
            # of compiled modules only, whatever the file's name ends in
            if path is not None and refuses(text(path), True):
                tell("load " + text(path))
        elif event in looks:
            path = args[0]
            if path is not None and type_(path) is not int_ and refuses(text(path)):
                tell(word_for(event) + " " + text(path))
            if path is None and refuses("."):
                tell(word_for(event) + " the working directory")
        elif event in changes:
            target = text(args[0]) if type_(args[0]) is not int_ else "a descriptor"
            if event == "os.mkdir":
                target = target.rpartition("/")[0] + "/…"
            tell(word_for(event) + " " + target)
        elif event in starts:
            tell("exec " + first(args[0]))
        elif event in plain:
            tell(word_for(event))
        elif event == "subprocess.Popen":
            tell("exec " + first(args[1]))
        elif event == "os.kill":
            if args[0] != own_pid() or type_(args[0]) is not int_:
                tell("signal another process")
        elif event in hosts_events:
            host = args[0]
            host = host[0] if type_(host) is tuple_ and host else host
            # No host at all means this machine.
            if text(host) not in hosts and text(host) not in addresses:
                tell(
                    "connect "
                    + peer(
                        host,
                        args[1] if length(args) > 1 and event == "socket.getaddrinfo" else None,
                    )
                )
        elif event in peers:
            address = args[1]
            if type_(address) is tuple_ and length(address) > 1:
                allowed = type_(address[0]) is str_ and (
                    address[0] in addresses or address[0] in hosts
                )
                if not allowed or type_(address[1]) is not int_ or address[1] not in ports:
                    tell("connect " + peer(address[0], address[1]))
            elif address is not None:
                tell("connect " + text(address))
        elif event == "socket.__new__":
            if args[1] not in families and args[1] != -1:
                tell("open a socket of family " + int_.__repr__(args[1]))
        elif event == "socket.bind":
            address = args[1]
            is_pair = type_(address) is tuple_ and length(address) > 1
            tell("listen " + (peer(address[0], None) if is_pair else text(address)))
        elif event == "fcntl.fcntl":
            if args[1] in signals:
                tell("signal another process")
            if args[1] in locks:
                tell("lock a file")
            if args[1] not in fcntls:
                tell("mark a file by fcntl " + int_.__repr__(args[1]))
        elif event == "fcntl.ioctl":
            if args[1] not in ioctls:
                tell("control a device")
        elif event == "sqlite3.connect":
            if text(args[0]) != ":memory:":
                tell("open " + text(args[0]))
        elif event == attempt_event:
            tell(text(args[0]))
        elif event == look_event:
            path, start = args
            found = answers(text(path)) if type_(path) is not int_ else 0
            if found == forbidden or start is not None:
                tell("look at " + text(path))
            if found == unseen:
                raise not_there(2, "No such file or directory", path)

    return judge


def _make_teller() -> tuple[
    Callable[[str], None], Callable[[int, str], None], Callable[[bool], None]
]:
    """What writes the message and ends the process; what sets where it goes, and the nonce; what
    helps when memory is short.
    """
    write, leave, quoted, join = os.write, os._exit, encode_basestring_ascii, b"".join
    set_blocking, memory_error = os.set_blocking, MemoryError
    code, most = VIOLATION_EXIT, WORDS_MOST
    length, to_bytes = len, int.to_bytes
    target, head, last_words = -1, b"", b""
    # never written: it takes room among addresses, and no memory
    reserve: bytes | None = bytes(RESERVE_BYTES)

    @seal
    def frame(attempt: str) -> bytes:
        body = join((head, quoted(attempt[:most]).encode("ascii"), b"}}"))
        return join((to_bytes(length(body), 4, "big"), body))

    def address_it(write_fd: int, nonce: str) -> None:
        nonlocal target, head, last_words
        target, head = (
            write_fd,
            b'{"nonce":' + quoted(nonce).encode() + b',"seq":0,"violation":{"attempt":',
        )
        last_words = frame(NO_MEMORY)

    @seal
    def spared(again: bool) -> None:
        """The first time, free the reserve; with nothing left, say what was made ready for that."""
        nonlocal reserve
        if again:
            try:
                set_blocking(target, False)
                write(target, last_words)
            finally:
                leave(code)
        reserve = None

    @seal
    def tell(attempt: str) -> None:
        try:
            # into a full pipe, one thread would wait here for ever while the others went on
            set_blocking(target, False)
            try:
                message = frame(attempt)
            except memory_error:
                spared(False)
                message = frame(attempt)
            write(target, message)
        finally:
            leave(code)

    return tell, address_it, spared
