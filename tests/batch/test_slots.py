"""Many jobs at a time in one worker: they end apart, and what one of them does harms no other."""

import os
import pathlib
import signal
from typing import Any

import pytest
from helpers import jobs
from helpers.jobs import Errand

from tracecore.batch import crew, pool
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.records import Ended, Returned, TimedOut, WorkerLost

LONG_S = 300.0
METHODS = ("fork", "spawn")


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is one worker, which has all slots."""
    monkeypatch.setattr(pool, "usable_cores", lambda: [0])


def run(function: Any, errands: list[Errand], **changes: Any) -> list[Ended]:
    options: dict[str, Any] = {"slots": len(errands), "limit_s": lambda _job: LONG_S, **changes}
    ended = list(run_batch(function, errands, BatchOptions(adopt_orphans=True, **options)))
    return sorted(ended, key=lambda one: one.job.index)


@pytest.mark.parametrize("method", METHODS)
def test_as_many_jobs_run_at_a_time_as_there_are_slots(tmp_path: pathlib.Path, method: str) -> None:
    ended = run(jobs.meet, [Errand(i, str(tmp_path), 6) for i in range(6)], method=method)
    assert [one.ending for one in ended] == [Returned(6)] * 6
    assert {one.usage.worker for one in ended} == {0}
    assert sorted(one.usage.slot for one in ended) == list(range(6))


def test_no_more_run_at_a_time_than_there_are_slots(tmp_path: pathlib.Path) -> None:
    ended = run(jobs.count_beside, [Errand(i, str(tmp_path)) for i in range(12)], slots=3)
    counts = [one.ending.value for one in ended if isinstance(one.ending, Returned)]
    assert len(counts) == 12
    assert max(counts) <= 3
    assert {one.usage.slot for one in ended} == {0, 1, 2}


def test_what_one_job_leaves_behind_is_swept_at_its_end_and_what_another_has_is_not(
    tmp_path: pathlib.Path,
) -> None:
    leaver, keeper = run(jobs.leave_or_keep_a_daemon, [Errand(i, str(tmp_path)) for i in range(2)])
    assert (leaver.ending, leaver.usage.leaked_processes) == (Returned("left"), 1)
    # it waited for the end of the other's daemon, and looked for its own then
    assert (keeper.ending, keeper.usage.leaked_processes) == (Returned("alive"), 1)


def test_each_job_has_its_own_limit_and_the_others_go_on() -> None:
    errands = [Errand(i, count=7) for i in range(7)]
    *late, last = run(jobs.outlast, errands, limit_s=lambda job: LONG_S if job.index == 6 else 0.5)
    assert [one.ending for one in late] == [TimedOut(0.5)] * 6
    assert last.ending == Returned("last")


def test_a_worker_has_nothing_to_do_when_the_limit_of_a_job_that_has_ended_comes() -> None:
    _, last = run(
        jobs.measure_worker,
        [Errand(0), Errand(1, count=2)],
        limit_s=lambda job: LONG_S if job.index else 1.0,
    )
    assert isinstance(last.ending, Returned)
    assert last.ending.value < 0.2  # a second would be the worker's, if it looked all the time


def test_a_job_that_floods_its_line_delays_no_other() -> None:
    flood, *rest = run(
        jobs.flood_or_return,
        [Errand(i) for i in range(6)],
        slots=2,
        limit_s=lambda job: 0.5 if job.index == 0 else LONG_S,
    )
    assert not isinstance(flood.ending, Returned)
    assert [one.ending for one in rest] == [Returned(i) for i in range(1, 6)]


def test_a_worker_that_dies_costs_each_job_that_it_ran_one_attempt(tmp_path: pathlib.Path) -> None:
    errands = [Errand(i, str(tmp_path), 4) for i in range(10)]
    ended = run(jobs.meet_and_kill_first_worker, errands, slots=4)
    assert [one.ending for one in ended] == [Returned(i) for i in range(10)]
    assert sum(one.usage.attempt == 2 for one in ended) == 4


def test_a_job_that_kills_its_worker_twice_is_given_up(tmp_path: pathlib.Path) -> None:
    killer, *rest = run(jobs.kill_worker_once_alone, [Errand(i, str(tmp_path)) for i in range(4)])
    assert killer.ending == WorkerLost(2, "was killed by SIGKILL")
    assert all(isinstance(one.ending, Returned | WorkerLost) for one in rest)


def test_many_slots_need_no_more_open_files_than_a_plain_limit(tmp_path: pathlib.Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, hard))
    try:
        ended = run(jobs.meet, [Errand(i, str(tmp_path), 48) for i in range(48)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [one.ending for one in ended] == [Returned(48)] * 48


def test_a_parent_that_ignores_the_ends_of_its_children_changes_nothing() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ended = run(jobs.signal_state, [Errand(0)])
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ended[0].ending == Returned(jobs.PLAIN_SIGNALS)


@pytest.mark.parametrize("method", METHODS)
def test_jobs_have_the_same_signals_whatever_was_inherited(method: str) -> None:
    odd = (signal.SIGALRM, signal.SIGHUP, signal.SIGUSR1)
    handlers = [signal.signal(number, signal.SIG_IGN) for number in odd]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    try:
        ended = run(jobs.signal_state, [Errand(0)], method=method)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in zip(odd, handlers, strict=True):
            signal.signal(number, handler)
    assert ended[0].ending == Returned(jobs.PLAIN_SIGNALS)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_the_working_folder_or_of_pythonpath_is_imported_by_a_job(
    tmp_path: pathlib.Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("signal", "socket", "select", "struct", "selectors", "sitecustomize", "array"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = run(jobs.search_path, [Errand(0)], method=method)
    assert isinstance(ended[0].ending, Returned)
    assert str(tmp_path) not in ended[0].ending.value
    assert "" not in ended[0].ending.value


def test_workers_do_without_a_core_of_their_own_where_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_pid: int, _cores: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(pool, "usable_cores", lambda: [0, 1])
    # One that no harness beside this test has claimed.
    monkeypatch.setattr(crew, "usable_cores", lambda: [20_000 + os.getpid()])
    notes: list[str] = []
    ended = run(jobs.double, [Errand(i) for i in range(4)], on_note=notes.append)
    assert [one.ending for one in ended] == [Returned(2 * i) for i in range(4)]
    assert notes == ["workers keep to no core of their own: Operation not permitted"]
