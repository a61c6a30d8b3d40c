"""What is handed out next."""

from collections.abc import Callable, Iterable
from typing import Any

from tracecore.batch.backlog import WINDOW_JOBS, Backlog
from tracecore.batch.run import Assignment


def backlog(jobs: Iterable[Any], key: Callable[[Any], Any] | None = lambda job: job[0]) -> Backlog:
    return Backlog(iter(jobs), lambda _job: 30.0, key)


def taken(found: Backlog, count: int) -> str:
    assignments = [found.take() for _ in range(count)]
    return "".join(one.job for one in assignments if one is not None)


def test_jobs_of_which_nothing_is_known_keep_their_order() -> None:
    assert taken(backlog("abcabc"), 7) == "abcabc"


def test_the_longest_are_handed_out_first_as_soon_as_they_are_known() -> None:
    found = backlog("abcabcabc")
    assert taken(found, 3) == "abc"
    for job, seconds in {"a": 0.5, "b": 10.0, "c": 2.0}.items():
        found.learn(job, seconds)
    assert taken(found, 6) == "bbccaa"


def test_what_is_not_known_yet_goes_before_what_is_so_that_it_becomes_known() -> None:
    found = backlog("aaab")
    assert taken(found, 1) == "a"
    found.learn("a", 10.0)
    assert taken(found, 3) == "baa"


def test_jobs_that_take_about_as_long_keep_their_order() -> None:
    found = backlog("abcabcabc")
    taken(found, 3)
    for job, seconds in {"a": 0.005, "b": 0.2, "c": 0.02}.items():
        found.learn(job, seconds)
    assert taken(found, 6) == "abcabc"


def test_what_a_dead_worker_held_goes_first() -> None:
    found = backlog("ab")
    first = found.take()
    assert first is not None
    found.put_back([first])
    assert taken(found, 3) == "ab"


def test_an_endless_row_of_jobs_is_taken_as_far_as_the_window() -> None:
    given = []

    def jobs() -> Iterable[str]:
        while True:
            given.append("a")
            yield "a"

    found = backlog(jobs())
    assert taken(found, 10) == "a" * 10
    assert len(given) <= WINDOW_JOBS + 10
    assert found.has_more


def test_without_a_key_jobs_are_taken_one_by_one() -> None:
    found = backlog("abc", key=None)
    assert taken(found, 3) == "abc"
    assert found.take() is None
    assert not found.has_more


def test_each_assignment_has_a_ticket_of_its_own() -> None:
    found = backlog("abcd")
    tickets = [one.ticket for one in iter(found.take, None) if isinstance(one, Assignment)]
    assert len(set(tickets)) == 4
