"""Agents that let the harness pay: what they send or are costs their host little, and does not take
their trace with it.
"""

import pathlib
import sys

import pytest
from arena import artifact_of, let_loose, open_arena
from hostile import Hostile

from tracecore.errors import AgentError
from tracecore.records import Limits
from tracecore.runtime.task.catalog import find_agent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
MANY = Hostile(
    "answers with a crowd of empty lists",
    """
    def act(self):
        return {"type": "answer", "args": {"text": [[]] * 340_000}}
    Agent.act = act
    """,
)


def test_a_crowd_of_values_is_an_invalid_action_and_the_trace_is_kept(
    tmp_path: pathlib.Path,
) -> None:
    with open_arena(tmp_path / "x", (MANY,)) as arena:
        row = let_loose(arena, (MANY,), limits=Limits())[MANY.name]
        artifact = artifact_of(arena, row)
        assert (
            row.error
            == "invalid_action: action_too_large: act returned more than 10000 values, which is the"
            " limit"
        )
        assert artifact["steps_used"] == len(artifact["action_trace"]) == 1


HOARDS = Hostile(
    "has the kernel keep what its memory limit would not",
    """
    import socket
    def attempt():
        kept, held = [], 0
        try:
            while True:
                pair = socket.socketpair()
                kept.append(pair)
                for one in pair:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
                    one.setblocking(False)
                    try:
                        while True:
                            held += one.send(bytes(1 << 16))
                    except BlockingIOError:
                        pass
        except OSError:
            return held
    """,
)
LATE = Hostile(
    "tries behind its answer",
    """
    import threading, time
    def late():
        time.sleep(0.01)
        open("/etc/passwd")
    def attempt():
        threading.Thread(target=late, daemon=True).start()
    """,
    "open /etc/passwd",
)
WAITS = Hostile(
    "keeps a thread",
    """
    import threading
    def attempt():
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return "kept"
    """,
)
SLOW = "x = [" + "1.5," * 1_000_000 + "]\n"  # 4 MB, the most that is taken: seconds to compile
SOME = (
    "class Agent:\n    def reset(self, s): pass\n    def observe(self, o): pass\n    def act(self):"
    " return {}\n"
)


def test_a_file_that_is_slow_to_compile_costs_its_own_episode_the_time_and_no_worker(
    tmp_path: pathlib.Path,
) -> None:
    table = tuple(Hostile(f"is slow to compile {number}", "") for number in range(4))
    with open_arena(tmp_path / "x", table) as arena:
        for place in range(4):
            (arena.agents / f"agent_{place}.py").write_text(SLOW + SOME)
        for number, limit_s in enumerate((0.2, 2.0, 20.0)):  # until it gets as far as the agent
            how = {"limits": Limits(), "timeout_s": limit_s, "round_number": number}
            rows = let_loose(arena, table, **how).values()
            assert {(row.termination_reason, row.attempt, row.steps_used) for row in rows} == {
                ("timeout", 1, 0)
            }
            words = f"reset had not finished within the time limit of {limit_s:g} s"
            if any(words in str(row.error) for row in rows):
                return
        raise AssertionError(rows)


def test_a_file_too_large_is_refused_before_anything_runs(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "huge.py"
    with path.open("wb") as file:
        file.truncate(1500 << 20)  # sparse: it costs its author nothing
    with pytest.raises(
        AgentError, match=r"huge.py: found '?1572864000 bytes'?, expected at most 4194304"
    ):
        find_agent(str(path))


def test_what_the_kernel_keeps_for_an_agent_is_bounded(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", (HOARDS,)) as arena:
        row = let_loose(arena, (HOARDS,), limits=Limits())[HOARDS.name]
        (entry,) = artifact_of(arena, row)["action_trace"]
        assert 0 < int(entry["action"]["args"]["text"]) < 100_000_000


def test_what_a_thread_tries_behind_an_answer_is_told_each_time(tmp_path: pathlib.Path) -> None:
    table = (LATE, WAITS)
    with open_arena(tmp_path / "x", table) as arena:
        hashes = set()
        for place in range(2):
            rows = let_loose(arena, table, limits=Limits(), round_number=place)
            assert rows[LATE.name].error == "sandbox_violation: open /etc/passwd: agents may not"
            hashes.add(rows[LATE.name].artifact_hash)
            (entry,) = artifact_of(arena, rows[WAITS.name])["action_trace"]
            assert entry["action"]["args"]["text"] == "kept"
        assert len(hashes) == 1
