"""Agents that leave a mark for a later episode, or look for one: on an inode, in the page cache, in
what is shared.
"""

import os
import pathlib
import sys

import pytest
from arena import artifact_of, let_loose, open_arena
from hostile import Hostile, does

from tracecore.confinement import doctor
from tracecore.records import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
CACHE = "ask for what the machine keeps in memory"
FD = "os.open(os.__file__, 0)"
TABLE = (
    does(
        "hints at an inode",
        f"fcntl.fcntl({FD}, 1036, bytes(8))",
        "mark a file by fcntl 1036",
        imports="fcntl",
    ),
    does(
        "hints at a file",
        f"fcntl.fcntl({FD}, 1038, bytes(8))",
        "mark a file by fcntl 1038",
        imports="fcntl",
    ),
    does(
        "asks for a hint",
        f"fcntl.fcntl({FD}, 1035, bytes(8))",
        "mark a file by fcntl 1035",
        imports="fcntl",
    ),
    does(
        "seals a file", f"fcntl.fcntl({FD}, 1033, 1)", "mark a file by fcntl 1033", imports="fcntl"
    ),
    does("asks for locks", f"fcntl.fcntl({FD}, 5, bytes(32))", "lock a file", imports="fcntl"),
    does("puts pages out", f"os.posix_fadvise({FD}, 0, 0, 4)", CACHE),
    does("asks what is cached", f"os.preadv({FD}, [bytearray(1)], 0, os.RWF_NOWAIT)", CACHE),
    does(
        "asks by another name",
        f"__import__('posix').preadv({FD}, [bytearray(1)], 0, flags=8)",
        CACHE,
    ),
    does("writes all disks", "os.sync()", "have the machine's disks written"),
    does("opens a terminal", "os.openpty()", "open a terminal"),
)
NATIVE = (
    does(
        "hints at an inode",
        f"fcntl.fcntl({FD}, 1036, bytes(8))",
        "make a system call",
        imports="fcntl",
    ),
    does("puts pages out", f"os.posix_fadvise({FD}, 0, 0, 4)", "make a system call"),
    does(
        "asks what is cached",
        f"os.preadv({FD}, [bytearray(1)], 0, os.RWF_NOWAIT)",
        "make a system call",
    ),
)
ORDINARY = (
    does(
        "counts with NumPy",
        "int((numpy.ones((3, 3)) @ numpy.ones((3, 3))).sum()) // 3",
        imports="numpy",
    ),
    does("reads a vector", f"os.preadv({FD}, [bytearray(9)], 0)"),
    does(
        "turns a descriptor around",
        "(fcntl.fcntl(0, 3), fcntl.fcntl(0, 1030, 9), fcntl.fcntl(0, 4, 2048))[1]",
        imports="fcntl",
    ),
    Hostile(
        "advises on its own pages",
        """
        import mmap
        def attempt():
            pages = mmap.mmap(-1, 1 << 22)
            pages.madvise(14)
            try:
                pages.madvise(21)
            except OSError as error:
                return 9 if error.errno == 22 else error
        """,
    ),
)

COUNTS = tuple(
    Hostile(
        f"counts those before it, {number}",
        """
        import threading
        def attempt():
            pids = [os.getpid()]
            for _ in range(20):
                one = threading.Thread(target=lambda: pids.append(threading.get_native_id()))
                one.start()
                one.join()
            return (pids[0], pids[-1] - pids[0])
        """,
    )
    for number in range(6)
)


def test_an_attempt_to_leave_a_mark_is_told(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", TABLE) as arena:
        rows = let_loose(arena, TABLE, limits=Limits())
        for agent in TABLE:
            assert str(rows[agent.name].error).startswith(f"sandbox_violation: {agent.attempt}"), (
                agent.name
            )


def test_with_the_hook_off_the_filter_stops_it(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", NATIVE) as arena:
        rows = let_loose(arena, NATIVE, limits=Limits(layers_off="audit_hook"))
        for agent in NATIVE:
            assert str(rows[agent.name].error).startswith(f"sandbox_violation: {agent.attempt}"), (
                agent.name
            )


def test_what_an_agent_does_with_its_own_is_no_attempt(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", ORDINARY) as arena:
        rows = let_loose(arena, ORDINARY, limits=Limits())
        for agent in ORDINARY:
            (entry,) = artifact_of(arena, rows[agent.name])["action_trace"]
            assert entry["action"]["args"]["text"] == "9", agent.name


def test_no_agent_can_tell_from_its_number_how_many_were_before_it(tmp_path: pathlib.Path) -> None:
    if doctor.probe(Limits(), thorough=False)["pid_namespace"] is not True or not os.access(
        "/proc/sys/kernel/ns_last_pid", os.W_OK
    ):
        pytest.skip("this machine permits no process table of one's own, or none that begins again")
    with open_arena(tmp_path / "x", COUNTS) as arena:
        rows = let_loose(arena, COUNTS, limits=Limits())
        told = [
            artifact_of(arena, row)["action_trace"][0]["action"]["args"]["text"]
            for row in rows.values()
        ]
        assert set(told) == {"(2, 20)"}
