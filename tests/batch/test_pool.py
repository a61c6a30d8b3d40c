"""The pool by itself: jobs that end in every way, and workers that are killed under them."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import jobs
from helpers.jobs import Errand
from helpers.slices import LIMITS_S, is_alive, wait_until

from tracecore.batch import crew
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.descendants import children_of
from tracecore.errors import EngineError
from tracecore.records import (
    Ended,
    Exited,
    FellSilent,
    Raised,
    Returned,
    TimedOut,
    WorkerLost,
)

LONG_S = 300.0


def options(**changes: Any) -> BatchOptions:
    return BatchOptions(
        **{"slots": 2, "limit_s": lambda _job: LONG_S, "adopt_orphans": True, **changes}
    )


def run(function: Callable[..., object], errands: list[Errand], **changes: Any) -> dict[int, Ended]:
    ended = list(run_batch(function, errands, options(**changes)))
    assert len(ended) == len({one.job.index for one in ended}), "a job has ended twice"
    return {one.job.index: one for one in ended}


def worker_pids() -> list[int]:
    return [
        pid
        for pid in children_of(os.getpid())
        if b"run_call" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@contextlib.contextmanager
def beside(action: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``action`` in a thread of this process, which does not fork while the batch runs."""
    over = threading.Event()
    thread = threading.Thread(target=action, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_peak_memory_of_a_job_is_its_own_and_not_that_of_the_worker_that_started_it(
    method: str,
) -> None:
    (ended,) = run(
        jobs.answer, [Errand(0, "fine")], method=method, make_ready=jobs.use_much_memory
    ).values()
    assert 1 << 20 < ended.usage.peak_rss_bytes < 100 << 20


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_job_ends_once_and_in_its_own_way(method: str) -> None:
    words = ["large", "raise", "exit", "signal", "cannot pickle", "fine"]
    ended = run(jobs.answer, [Errand(i, word) for i, word in enumerate(words)], method=method)
    endings = [ended[i].ending for i in range(len(words))]
    assert endings[0] == Returned(b"x" * (8 << 20))
    assert isinstance(endings[1], Raised)
    assert (endings[1].kind, endings[1].message) == ("ValueError", "no")
    assert endings[2:4] == [Exited(3), Exited(-signal.SIGSEGV)]
    assert isinstance(endings[4], Raised)
    assert endings[5] == Returned("fine")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_job_that_hangs_is_killed_at_its_limit(method: str) -> None:
    ended = run(jobs.sleep_forever, [Errand(0)], method=method, limit_s=lambda _job: 0.3)
    assert ended[0].ending == TimedOut(0.3)


def test_a_job_that_closes_its_line_and_runs_on_is_told_from_one_that_was_killed_from_outside() -> (
    None
):
    ended = run(jobs.close_all_and_sleep, [Errand(0)])
    assert ended[0].ending == FellSilent(1.0)


def test_a_job_that_loses_its_worker_once_is_tried_again(tmp_path: pathlib.Path) -> None:
    ended = run(jobs.kill_first_worker, [Errand(i, str(tmp_path)) for i in range(3)])
    assert [ended[i].ending for i in range(3)] == [Returned(i) for i in range(3)]
    assert {one.usage.attempt for one in ended.values()} == {2}


def test_a_job_that_kills_two_workers_is_given_up_and_named_and_the_rest_never_notice() -> None:
    ended = run(jobs.kill_worker, [Errand(i) for i in range(3)])
    assert {one.ending for one in ended.values()} == {WorkerLost(2, "was killed by SIGKILL")}


def test_the_last_job_is_not_lost_with_the_only_worker(tmp_path: pathlib.Path) -> None:
    ended = run(jobs.kill_first_worker, [Errand(0, str(tmp_path))], slots=1)
    assert ended[0].ending == Returned(0)


def test_a_worker_that_is_stopped_is_replaced(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "STUCK_PATIENCE_S", 0.5)
    for limit_s in LIMITS_S:  # the second attempt has to come to its end within it
        errand = Errand(0, str(tmp_path / str(limit_s)))
        (ended,) = run(
            jobs.stop_first_worker, [errand], slots=1, limit_s=lambda _job, s=limit_s: s
        ).values()
        if ended.ending == Returned(0):
            break
    assert (ended.ending, ended.usage.attempt) == (Returned(0), 2)


@pytest.mark.slow
def test_workers_that_are_killed_over_and_over_leave_no_job_without_an_end() -> None:
    def kill_now_and_then(over: threading.Event) -> None:
        # and no more: on a busy machine a worker may need longer than that to be born
        for _ in range(25):
            if over.wait(0.2):
                return
            for pid in worker_pids()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    ended: dict[int, Ended] = {}
    with beside(kill_now_and_then):
        missing = 120
        while missing:  # workers may die at birth three times in a row: then the batch says so
            try:
                for one in run_batch(
                    jobs.double, [Errand(i) for i in range(120) if i not in ended], options()
                ):
                    assert one.job.index not in ended
                    ended[one.job.index] = one
            except EngineError as error:
                assert "died before they were ready" in str(error)  # noqa: PT017
            missing = 120 - len(ended)
    for i, one in ended.items():
        assert one.ending == Returned(2 * i) or isinstance(one.ending, WorkerLost)
    assert sum(isinstance(one.ending, Returned) for one in ended.values()) > 100


def test_what_a_killed_worker_leaves_behind_is_swept(tmp_path: pathlib.Path) -> None:
    ended = run(jobs.kill_worker_behind_a_daemon, [Errand(0, str(tmp_path))])
    assert ended[0].ending == Returned(0)
    assert not is_alive(int((tmp_path / "daemon").read_text()))


def test_children_that_were_there_before_are_not_swept(tmp_path: pathlib.Path) -> None:
    stranger = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
    try:
        run(jobs.kill_first_worker, [Errand(0, str(tmp_path))])
        assert is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_three_stillborn_workers_end_the_batch() -> None:
    with pytest.raises(
        EngineError,
        match=r"3 workers in a row died before they were ready; the last exited with code 9",
    ):
        run(jobs.double, [Errand(0)], prepare=jobs.Stillborn)


def test_a_machine_that_refuses_processes_is_told_and_no_job_is_blamed() -> None:
    with pytest.raises(
        EngineError, match=r"could not be started: .*Resource temporarily unavailable"
    ):
        run(jobs.double, [Errand(0)], prepare=jobs.Refused)


def test_a_machine_that_refuses_for_a_moment_is_asked_again() -> None:
    ended = run(jobs.double, [Errand(i) for i in range(3)], prepare=jobs.RefusedAtFirst)
    assert [ended[i].ending for i in range(3)] == [Returned(0), Returned(2), Returned(4)]


def test_what_a_companion_spends_on_a_job_is_part_of_what_the_job_cost() -> None:
    ended = run(jobs.double, [Errand(i) for i in range(4)], prepare=jobs.Beside)
    assert [ended[i].ending for i in range(4)] == [Returned(2 * i) for i in range(4)]
    beside = jobs.Beside.SPENT
    for usage in (one.usage for one in ended.values()):
        assert 0 <= usage.cpu_user_s - beside.cpu_user_s < LONG_S
        assert 0 <= usage.cpu_sys_s - beside.cpu_sys_s < LONG_S
        assert usage.peak_rss_bytes == beside.peak_rss_bytes
        assert 0 < usage.page_faults - beside.page_faults < 1 << 40


def test_a_worker_whose_companion_does_not_report_is_replaced() -> None:
    (ended,) = run(jobs.double, [Errand(0)], prepare=jobs.Silent).values()
    assert ended.ending == WorkerLost(2, "exited with code 1")


def test_without_descriptors_of_processes_a_job_that_hangs_is_killed_at_its_limit_too(
    tmp_path: pathlib.Path,
) -> None:
    ended = run(
        jobs.hang_behind_a_daemon,
        [Errand(i, str(tmp_path)) for i in range(3)],
        prepare=jobs.have_no_pidfd,
        limit_s=lambda job: LONG_S if job.index else 1.0,
    )
    assert [ended[i].ending for i in range(3)] == [TimedOut(1.0), *[Returned("ended")] * 2]


@pytest.fixture
def stop() -> Iterator[tuple[int, Callable[[], object]]]:
    """The descriptor on which a batch is stopped, and what stops it."""
    stop_r, stop_w = os.pipe()
    yield stop_r, lambda: os.write(stop_w, b"!")
    os.close(stop_r)
    os.close(stop_w)


def test_the_batch_ends_when_it_is_stopped_and_kills_what_runs(
    tmp_path: pathlib.Path, stop: tuple[int, Callable[[], object]]
) -> None:
    stop_fd, stop_now = stop

    def stop_soon(_over: threading.Event) -> None:
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 2)
        stop_now()

    errands = [Errand(i, str(tmp_path)) for i in range(5)]
    with beside(stop_soon):
        assert run(jobs.sleep_forever, errands, stop_fd=stop_fd) == {}
    assert [path.name for path in tmp_path.iterdir() if is_alive(int(path.name))] == []


def test_workers_are_processes_of_multiprocessing_and_an_abandoned_batch_leaves_none() -> None:
    batch = run_batch(
        jobs.answer, [Errand(0), *(Errand(i, "sleep") for i in range(1, 9))], options()
    )
    next(batch)
    workers = {process.pid for process in multiprocessing.active_children()}
    assert workers == set(worker_pids()) != set()
    batch.close()
    assert multiprocessing.active_children() == []
    assert children_of(os.getpid()) == [] or worker_pids() == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_does_not_outlive_its_worker(
    tmp_path: pathlib.Path, stop: tuple[int, Callable[[], object]], method: str
) -> None:
    stop_fd, stop_now = stop
    outlived = []

    def kill_workers(_over: threading.Event) -> None:
        wait_until(lambda: list(tmp_path.iterdir()))
        child = int(next(tmp_path.iterdir()).name)
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not is_alive(child))
        outlived.append(is_alive(child))
        stop_now()

    how = {"slots": 1, "method": method, "adopt_orphans": False, "stop_fd": stop_fd}
    with beside(kill_workers):
        run(jobs.sleep_forever, [Errand(0, str(tmp_path))], **how)
    assert outlived == [False]
