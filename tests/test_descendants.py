import ast
import os
import pathlib
import signal
import sys
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


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_is_bound_to_its_maker_dies_with_it(tmp_path: pathlib.Path, method: str) -> None:
    descendants.become_subreaper()
    try:
        arguments = (str(tmp_path), method)
        maker = processes.start(starts.make_bound, arguments, method="fork", keep_fds=())
        deadline_s = time.monotonic() + 120
        while not (tmp_path / "bound").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        bound = int((tmp_path / "bound").read_text())
        os.kill(maker, signal.SIGKILL)
        os.waitpid(maker, 0)
        assert os.waitstatus_to_exitcode(os.waitpid(bound, 0)[1]) == -signal.SIGKILL
    finally:
        descendants.become_subreaper(yes=False)


def test_what_is_bound_too_late_leaves_by_itself() -> None:
    another = os.getpid() + 1
    pid = processes.start(starts.bind_and_sleep, (another,), method="fork", keep_fds=())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_what_is_there_before_the_forks_is_not_counted_where_none_is_not() -> None:
    read_fd, write_fd = os.pipe()
    pid = processes.start(
        starts.count_references, (write_fd,), method="spawn", keep_fds=(write_fd,)
    )
    os.close(write_fd)
    with open(read_fd) as file:
        is_none_counted, *of_before, is_after_counted = ast.literal_eval(file.read())
    assert os.waitpid(pid, 0)[1] == 0
    assert is_none_counted is (sys.version_info < (3, 12))
    assert of_before == [is_none_counted] * 2
    assert is_after_counted
