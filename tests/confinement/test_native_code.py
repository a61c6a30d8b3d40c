"""Every attack again, from native code: system calls that no line of Python stands before, and no
audit hook sees.
"""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

import pytest
from arena import OFF_TOGETHER, Arena, artifact_of, let_loose, open_arena
from hostile import Hostile, does

from tracecore.records import Allowance, EpisodeResult, Limits

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler"),
    pytest.mark.timeout(240),
]
HERE = pathlib.Path(__file__).parent
PREFACE = """
import socket, struct
from direct_calls import address, call, call_32_bit

def path(text):
    return bytearray(os.fsencode(text) + b"\\0")

def at(host, port):
    return bytearray(struct.pack("=HH4s8x", 2, socket.htons(port), socket.inet_aton(host)))

def opened(number, *words):
    fd = call(number, *words)
    return os.read(fd, 999).decode("latin-1") if fd >= 0 else fd

def handle_of(text):
    handle = bytearray(struct.pack("=Ii", 128, 0) + bytes(128))
    return call(303, -100, path(text), handle, bytearray(4), 0), handle

def message_to(host, port):
    name, data = at(host, port), bytearray(b"x")
    pieces = bytearray(struct.pack("=QQ", address(data), 1))
    return bytearray(struct.pack("=QIIQQQQi4x", address(name), 16, 0, address(pieces), 1, 0, 0, 0))

def attempt():
    {code}
"""
KILLED, REFUSED = "killed", "refused"
SETUP_CODE = "path(T.TASK + '/setup.py')"
VICTIM = "path(T.VICTIM)"
MINE = "bytearray(struct.pack('=QQ', address(kept), 8))"

# What is called, how it ends with every layer in force, and by which code.
ATTACKS: tuple[tuple[str, str, str], ...] = (
    ("open the setup code", REFUSED, f"return opened(2, {SETUP_CODE}, 0)"),
    ("openat the setup code", REFUSED, f"return opened(257, -100, {SETUP_CODE}, 0)"),
    (
        "openat2 the setup code",
        REFUSED,
        f"return opened(437, -100, {SETUP_CODE}, bytearray(24), 24)",
    ),
    ("open the users", REFUSED, "return opened(2, path('/etc/passwd'), 0)"),
    ("open a second name", REFUSED, "return opened(2, path(T.AGENTS + '/second.py'), 0) or -2"),
    ("open the disk", REFUSED, "return call(2, path('/dev/vda'), 0)"),
    ("open memory", REFUSED, "return call(2, path('/proc/self/mem'), 0)"),
    ("open a folder as a path, and climb", REFUSED,
     "return opened(257, call(2, path(T.AGENTS), 0o10200000), path('../tasks/secret/setup.py'))"),
    ("open by handle", KILLED, "return call(304, -100, handle_of(T.AGENTS)[1], 0)"),
    ("name by handle", KILLED, "return handle_of(T.TASK)"),
    ("list the runs", REFUSED, "return call(2, path(T.RUNS), 0o200000)"),
    ("write a file", REFUSED, f"return call(2, {VICTIM}, 1)"),
    ("empty a file by opening it", REFUSED, f"return call(2, {VICTIM}, 0o1000)"),
    ("make a file without a name", REFUSED, "return call(2, path(T.AGENTS), 0o20200002, 0o600)"),
    ("create a file", KILLED, f"return call(85, {VICTIM}, 0o600)"),
    ("remove a file", KILLED, f"return call(87, {VICTIM})"),
    ("removeat a file", KILLED, f"return call(263, -100, {VICTIM}, 0)"),
    ("rename a file", KILLED, f"return call(82, {VICTIM}, path(T.VICTIM + '.new'))"),
    ("rename a file by the newer call", KILLED,
     f"return call(316, -100, {VICTIM}, -100, path(T.VICTIM + '.new'), 0)"),
    ("link a file", KILLED, f"return call(86, {VICTIM}, path(T.AGENTS + '/new'))"),
    ("link to a file", KILLED, f"return call(88, {VICTIM}, path(T.AGENTS + '/new'))"),
    ("make a folder", KILLED, "return call(83, path(T.VICTIM + '.new'), 0o700)"),
    ("make a device", KILLED, "return call(133, path(T.VICTIM + '.new'), 0o20600, 0x103)"),
    ("truncate a file", KILLED, f"return call(76, {VICTIM}, 0)"),
    ("change rights", KILLED, f"return call(90, {VICTIM}, 0o777)"),
    ("change rights by the newest call", KILLED, f"return call(452, -100, {VICTIM}, 0o777, 0)"),
    ("change the owner", KILLED, f"return call(92, {VICTIM}, 1, 1)"),
    ("change times", KILLED, f"return call(280, -100, {VICTIM}, bytearray(32), 0)"),
    ("mark a file", KILLED, f"return call(188, {VICTIM}, path('user.x'), path('x'), 1, 0)"),
    ("lock a file", KILLED, "return call(73, call(2, path(os.__file__), 0), 2)"),
    ("lease a file", KILLED, "return call(72, call(2, path(os.__file__), 0), 1024, 1)"),
    ("put pages out", KILLED, "return call(221, call(2, path(os.__file__), 0), 0, 0, 4)"),
    ("ask what is cached", KILLED,
     "return call(451, call(2, path(os.__file__), 0), bytearray(16), bytearray(40), 0)"),
    ("enter another root", KILLED, "return call(161, path('/tmp'))"),
    # networks
    ("connect", KILLED, "return call(42, call(41, 2, 1, 0), at('127.0.0.1', T.PORT), 16)"),
    ("send a datagram", KILLED,
     "return call(44, call(41, 2, 2, 0), bytearray(b'x'), 1, 0, at('127.0.0.1', T.PORT), 16)"),
    ("send a message", KILLED,
     "return call(46, call(41, 2, 2, 0), message_to('127.0.0.1', T.PORT), 0)"),
    ("send many messages", KILLED,
     "return call(307, call(41, 2, 2, 0), message_to('127.0.0.1', T.PORT) + bytearray(8), 1, 0)"),
    ("bind", KILLED, "return call(49, call(41, 2, 1, 0), at('127.0.0.1', 0), 16)"),
    ("listen", KILLED, "return call(50, call(41, 2, 1, 0), 1)"),
    ("accept", KILLED, "return call(43, call(41, 2, 1, 0), 0, 0)"),
    ("connect to a local socket", KILLED,
     "return call(42, call(41, 1, 1, 0), bytearray(struct.pack('=H108s', 1, b'/run/x')), 110)"),
    ("talk to the kernel by netlink", KILLED, "return call(41, 16, 3, 0)"),
    ("listen to the wire", KILLED, "return call(41, 17, 3, 0x300)"),
    ("talk to the host", KILLED, "return call(41, 40, 1, 0)"),
    ("use the kernel's ciphers", KILLED, "return call(41, 38, 5, 0)"),
    # processes
    ("fork", KILLED, "return call(57)"),
    ("vfork", KILLED, "return call(58)"),
    ("clone", KILLED, "return call(56, 17, 0, 0, 0, 0)"),
    ("clone into namespaces", KILLED, "return call(56, 0x10000011 | 0x20000000, 0, 0, 0, 0)"),
    ("clone by the newer call", REFUSED, "return call(435, bytearray(64), 64)"),
    ("run a program", KILLED, "return call(59, path('/bin/true'), 0, 0)"),
    ("run the interpreter", KILLED, "return call(59, path(sys.executable), 0, 0)"),
    ("run a program by descriptor", KILLED,
     "return call(322, call(2, path(os.__file__), 0), path(''), 0, 0, 0x1000)"),
    ("run from memory", REFUSED, "return call(319, path('x'), 0)"),
    ("signal a stranger", KILLED, "return call(62, T.VICTIM_PID, 9)"),
    ("signal everybody", KILLED, "return call(62, -1, 9)"),
    ("signal its group", KILLED, "return call(62, 0, 9)"),
    ("signal its parent", KILLED, "return call(62, 1, 9)"),
    ("signal a thread", KILLED, "return call(200, T.VICTIM_PID, 9)"),
    ("signal a thread by its process", KILLED, "return call(234, T.VICTIM_PID, T.VICTIM_PID, 9)"),
    ("queue a signal", KILLED, "return call(129, T.VICTIM_PID, 9, bytearray(128))"),
    ("signal by descriptor", KILLED, "return call(424, call(434, 1, 0), 9, 0, 0)"),
    ("take a descriptor", KILLED, "return call(438, call(434, 1, 0), 3, 0)"),
    ("have the kernel signal", KILLED, "return call(72, 0, 8, T.VICTIM_PID)"),
    ("trace a stranger", KILLED, "return call(101, 16, T.VICTIM_PID, 0, 0)"),
    ("have its parent trace it", KILLED, "return call(101, 0, 0, 0, 0)"),
    ("read another's memory", KILLED,
     f"kept = bytearray(8); return call(310, T.VICTIM_PID, {MINE}, 1, {MINE}, 1, 0)"),
    ("read its zygote's memory", KILLED,
     f"kept = bytearray(8); return call(310, 1, {MINE}, 1, {MINE}, 1, 0)"),
    ("write another's memory", KILLED,
     f"kept = bytearray(8); return call(311, T.VICTIM_PID, {MINE}, 1, {MINE}, 1, 0)"),
    ("put another's pages out", KILLED, "return call(440, 9, bytearray(16), 1, 21, 0)"),
    ("compare with another", KILLED, "return call(312, 1, 2, 0, 0, 0)"),
    ("limit another", KILLED, "return call(302, T.VICTIM_PID, 0, bytearray(16), 0)"),
    ("raise its limits", KILLED, "return call(160, 9, bytearray(b'\\xff' * 16))"),
    ("move another to a core", REFUSED, "return call(203, T.VICTIM_PID, 8, bytearray(b'\\1' * 8))"),
    ("change another's priority", REFUSED, "return call(141, 0, T.VICTIM_PID, 19)"),
    ("move another's pages", REFUSED, "return call(279, T.VICTIM_PID, 0, 0, 0, 0, 0)"),
    # rarer doors of the kernel
    ("use the ring", KILLED, "return call(425, 1, bytearray(120))"),
    ("load a filter program", KILLED, "return call(321, 5, bytearray(128), 128)"),
    ("put a filter over its own", KILLED, "return call(317, 1, 0, bytearray(16))"),
    ("put a filter on by prctl", KILLED, "return call(157, 22, 2, bytearray(16), 0, 0)"),
    ("ask for a signal at its parent's death", KILLED, "return call(157, 1, 9, 0, 0, 0)"),
    ("handle page faults", KILLED, "return call(323, 1)"),
    ("add a key", KILLED, "return call(248, path('user'), path('x'), path('x'), 1, -3)"),
    ("read keys", KILLED, "return call(250, 0, -3, 1, 0, 0)"),
    ("ask for a key", KILLED, "return call(249, path('user'), path('x'), 0, -3)"),
    ("count events", KILLED, "return call(298, bytearray(128), 0, -1, -1, 0)"),
    ("mount", KILLED, "return call(165, path('x'), path('/tmp'), path('tmpfs'), 0, 0)"),
    ("unmount", KILLED, "return call(166, path(T.AGENTS), 2)"),
    ("copy a mount", KILLED, "return call(428, -100, path('/'), 1)"),
    ("move a mount", KILLED, "return call(429, -100, path('/'), -100, path('/tmp'), 0)"),
    ("change a mount", KILLED, "return call(442, -100, path('/'), 0, bytearray(32), 32)"),
    ("open a file system", KILLED, "return call(430, path('tmpfs'), 0)"),
    ("turn the root", KILLED, "return call(155, path('.'), path('.'))"),
    ("leave namespaces", KILLED, "return call(272, 0x10000000)"),
    ("enter namespaces", KILLED, "return call(308, 0, 0)"),
    ("load a module", KILLED, "return call(175, bytearray(8), 8, path(''))"),
    ("load a kernel", KILLED, "return call(246, 0, 0, 0, 0)"),
    ("reboot", KILLED, "return call(169, 0xfee1dead, 672274793, 0x1234567, 0)"),
    ("read the kernel's log", KILLED, "return call(103, 3, bytearray(99), 99)"),
    ("set the clock", KILLED, "return call(227, 0, bytearray(16))"),
    ("name the host", KILLED, "return call(170, path('x'), 1)"),
    ("become another user", KILLED, "return call(105, 1)"),
    ("take capabilities", KILLED,
     "return call(126, bytearray(b'\\x22\\x05\\x08\\x20' + bytes(4)), bytearray(24))"),
    ("use ports", KILLED, "return call(172, 3)"),
    ("change segments", KILLED, "return call(154, 1, bytearray(16), 16)"),
    ("become a program of another kind", KILLED, "return call(135, 0x40000)"),
    ("type into the terminal", KILLED, "return call(16, 0, 0x5412, path('x'))"),
    ("watch files", REFUSED, "return call(294, 0)"),
    ("share memory", REFUSED, "return call(29, 1, 4096, 0o1666)"),
    ("share a queue", REFUSED, "return call(68, 1, 0o1666)"),
    ("share a named queue", REFUSED, "return call(240, path('x'), 0o102, 0o666, 0)"),
    ("restrict itself anew", REFUSED, "return call(444, 0, 0, 1)"),
    ("call by the numbers of x32", KILLED, f"return call(0x40000000 | 2, {SETUP_CODE}, 0)"),
    ("call a number that is none", REFUSED, "return call(9999)"),
    ("fork as a 32-bit program", KILLED, "return call_32_bit(2)"),
)  # fmt: skip
TABLE = tuple(Hostile(name, PREFACE.replace("{code}", code)) for name, _end, code in ATTACKS)
REFUSALS = {
    -getattr(errno, name)
    for name in ("EPERM", "ENOENT", "EACCES", "ENOSYS", "ESRCH", "EROFS", "ENOTDIR", "EBADF")
}


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with open_arena(tmp_path_factory.mktemp("native") / "x", TABLE) as arena:
        compile_calls(arena.agents)
        yield arena


def compile_calls(folder: pathlib.Path) -> None:
    """Build the extension into a folder."""
    target = folder / f"direct_calls{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    command = ["gcc", "-shared", "-fPIC", f"-I{include}", "-o", str(target)]
    done = subprocess.run(
        [*command, str(HERE / "direct_calls.c")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the extension does not compile here: {done.stderr[-200:]}")


def attack(arena: Arena, limits: Limits, round_number: int) -> dict[str, EpisodeResult]:
    allow = Allowance(read=(str(arena.agents),))
    return let_loose(arena, TABLE, limits=limits, round_number=round_number, allow=allow)


@pytest.fixture(scope="module")
def rows(arena: Arena) -> dict[str, EpisodeResult]:
    return attack(arena, Limits(), 0)


@pytest.mark.parametrize(("name", "end"), [(name, end) for name, end, _code in ATTACKS])
def test_native_code_cannot(
    name: str, end: str, arena: Arena, rows: dict[str, EpisodeResult]
) -> None:
    row = rows[name]
    if end == KILLED:
        assert str(row.error).startswith("sandbox_violation: make a system call that is forbidden")
    else:
        (entry,) = artifact_of(arena, row)["action_trace"]
        assert int(entry["action"]["args"]["text"]) in REFUSALS


def test_nothing_outside_was_touched(arena: Arena, rows: dict[str, EpisodeResult]) -> None:
    assert rows
    assert arena.damage() == []


@pytest.mark.slow
@pytest.mark.parametrize("off", OFF_TOGETHER)
def test_without_some_layers_the_others_hold(off: str, arena: Arena) -> None:
    layers = {*OFF_TOGETHER[off], "audit_hook"}  # which would not let it load
    limits = Limits(layers_off=",".join(sorted(layers)))
    rows = attack(arena, limits, [*OFF_TOGETHER].index(off) + 1)
    assert [name for name, row in rows.items() if row.success] == []
    assert arena.damage() == []


def test_an_extension_of_its_own_folder_loads_only_where_its_row_allows(arena: Arena) -> None:
    rows = let_loose(arena, TABLE[:1], limits=Limits(), round_number=30)
    assert rows[TABLE[0].name].error == "sandbox_violation: import direct_calls: agents may not"


LIBC = "ctypes; libc = ctypes.CDLL(None)"
CTYPES = (
    does("reads by ctypes", "libc.open(b'/etc/passwd', 0)", imports=LIBC),
    does("signals by ctypes", "libc.kill(T.VICTIM_PID, 9)", imports=LIBC),
    does("forks by ctypes", "libc.fork()", imports=LIBC),
    does(
        "calls back by ctypes",
        "list(map(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1), [1, 2]))",
        imports="ctypes",
    ),
)  # fmt: skip


def test_ctypes_works_and_reaches_no_further(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", CTYPES) as arena:
        rows = let_loose(arena, CTYPES, limits=Limits())
        ends = {name: str(row.error) for name, row in rows.items()}
        assert arena.damage() == []
        for name in ("signals by ctypes", "forks by ctypes"):
            assert "make a system call that is forbidden" in ends[name]
        for name, text in (("reads by ctypes", "-1"), ("calls back by ctypes", "[2, 3]")):
            (entry,) = artifact_of(arena, rows[name])["action_trace"]
            assert entry["action"]["args"]["text"] == text


def test_without_the_wall_native_code_is_refused_and_told_what_is_missing(
    tmp_path: pathlib.Path,
) -> None:
    table = (
        does("uses ctypes", "ctypes.CDLL(None)", imports="ctypes"),
        does("uses NumPy", "numpy.ones(3)", imports="numpy"),
    )
    with open_arena(tmp_path / "x", table) as arena:
        rows = let_loose(arena, table, limits=Limits(layers_off="landlock"))
        assert str(rows["uses NumPy"].error) == (
            "sandbox_violation: import numpy._core._multiarray_umath, native code, without landlock"
            " (see doctor, or --confinement off): agents may not"
        )
        assert str(rows["uses ctypes"].error) == (
            "agent_exception: load raised ImportError: ctypes is native code, without landlock"
            " (see doctor, or --confinement off)"
        )
