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
FD = "os.open(os.__file__, 0)"
TABLE = (
    does("hints at a file", f"fcntl.fcntl({FD}, 1038, bytes(8))", imports="fcntl"),
    does("asks for a hint", f"fcntl.fcntl({FD}, 1035, bytes(8))", imports="fcntl"),
    does("seals a file", f"fcntl.fcntl({FD}, 1033, 1)", imports="fcntl"),
    does("asks for locks", f"fcntl.fcntl({FD}, 5, bytes(32))", imports="fcntl"),
    does("hints at an inode", f"fcntl.fcntl({FD}, 1036, bytes(8))", imports="fcntl"),
    does("puts pages out", f"os.posix_fadvise({FD}, 0, 0, 4)"),
    does("asks what is cached", f"os.preadv({FD}, [bytearray(1)], 0, os.RWF_NOWAIT)"),
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


@pytest.mark.parametrize("layers_off", ["", "audit_hook"])
def test_the_filter_ends_an_agent_that_would_leave_a_mark(
    layers_off: str, tmp_path: pathlib.Path
) -> None:
    with open_arena(tmp_path / "x", TABLE) as arena:
        rows = let_loose(arena, TABLE, limits=Limits(layers_off=layers_off))
        assert {row.error for row in rows.values()} == {
            "sandbox_violation: make a system call that is forbidden: agents may not"
        }


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
