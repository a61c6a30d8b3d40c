import os
import signal
import threading
from collections.abc import Callable

import pytest
from helpers import starts

from tracecore import processes

METHODS = ["fork", "spawn"]


def ask(
    function: Callable[..., object], method: str, *more: object, keep: tuple[int, ...] = ()
) -> str:
    """What a function writes to the pipe that it is given, in a process of its own that
    ends well.
    """
    read_fd, write_fd = os.pipe()
    pid = processes.start(function, (write_fd, *more), method=method, keep_fds=(write_fd, *keep))
    os.close(write_fd)
    with open(read_fd) as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


@pytest.mark.parametrize("method", METHODS)
def test_a_new_process_has_the_descriptors_it_is_given_and_no_streams(method: str) -> None:
    stray_r, stray_w = os.pipe()
    try:
        assert (
            ask(starts.tell_descriptors, method)
            == "0 /dev/null, 1 /dev/null, 2 /dev/null, and the one that was given"
        )
    finally:
        os.close(stray_r)
        os.close(stray_w)


@pytest.mark.parametrize("method", METHODS)
def test_a_new_process_leads_a_session_of_its_own(method: str) -> None:
    pid, session, group = ask(starts.tell_session, method).split()
    assert pid == session == group
    assert int(session) != os.getsid(0)


def test_a_spawned_process_has_a_lean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    assert ask(starts.tell_environment, "spawn") == " ".join(sorted(processes.lean_environment()))


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_raises_leaves_with_1_and_never_returns_here(method: str) -> None:
    me = os.getpid()
    pid = processes.start(starts.fail, (), method=method, keep_fds=())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert os.getpid() == me


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with code 0"),
        (3 << 8, "exited with code 3"),
        (255 << 8, "exited with code 255"),
        (9, "killed by SIGKILL"),
        (11 | 0x80, "killed by SIGSEGV"),
        (40, "killed by signal 40"),
    ],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert processes.describe_status(status) == words


def test_interrupts_wait_for_the_end_of_the_block() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGINT, lambda _number, _frame: told.append("interrupt"))
    try:
        with processes.interrupts_held():
            # not to the process: any thread of it would do
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            told.append("inside")
        told.append("after")
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == ["inside", "interrupt", "after"]


def test_a_method_that_is_asked_for_is_taken_and_auto_is_fork() -> None:
    assert [processes.method_of(asked) for asked in METHODS] == METHODS
    assert processes.method_of("auto") == "fork"


def test_a_refused_process_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, refusals = os.fork, [1, 2]

    def refuse_twice() -> int:
        if refusals:
            refusals.pop()
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse_twice)
    pid = processes.start(os.getpid, (), method="fork", keep_fds=())
    assert os.waitpid(pid, 0)[1] == 0
