import os
import pathlib
import signal
import time

import pytest
from helpers import starts

from tracecore import descendants, processes


def test_a_sweep_takes_whole_trees_detached_ones_and_stubborn_ones(tmp_path: pathlib.Path) -> None:
    descendants.become_subreaper()
    try:
        spared = processes.start(time.sleep, (600,), method="fork", keep_fds=())
        before = frozenset(descendants.children_of(os.getpid())) | {spared}
        processes.start(starts.grow_tree, (str(tmp_path), 3), method="fork", keep_fds=())
        deadline_s = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 15:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert len(descendants.sweep(before)) >= 15
        assert set(descendants.children_of(os.getpid())) == set(before)
        for path in tmp_path.iterdir():
            with pytest.raises(ProcessLookupError):
                os.kill(int(path.name), 0)
    finally:
        descendants.become_subreaper(yes=False)
        os.kill(spared, signal.SIGKILL)
        os.waitpid(spared, 0)


def test_signals_to_who_is_gone_are_nothing() -> None:
    pid = processes.start(os.getpid, (), method="fork", keep_fds=())
    os.waitpid(pid, 0)
    descendants.send_signal(pid, signal.SIGKILL)
    descendants.kill_group(pid)
    assert descendants.children_of(pid) == []


def test_a_child_that_has_ended_is_seen_before_it_is_reaped() -> None:
    pid = processes.start(os.getpid, (), method="fork", keep_fds=())
    while not descendants.has_ended(pid):
        time.sleep(0.01)
    assert pid in descendants.children_of(os.getpid())
    os.waitpid(pid, 0)
