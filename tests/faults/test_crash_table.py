"""Every row of the crash table, as a real episode in real processes."""

import json
import pathlib

import pytest
from helpers.batches import left_behind, make_job, run_jobs
from helpers.faults import (
    AGENT_FAULTS,
    PLAIN_TASK,
    TASK_FAULTS,
    Fault,
    write_agent,
    write_plain_task,
)

from tracecore.records import EpisodeResult
from tracecore.runtime import spec

# Time limits of the episodes that wait for it, tried in turn: on a busy machine one may not have
# got within the first as far as its fault.
SHORT_S = {"fork": (1.0, 10.0, 100.0), "spawn": (4.0, 20.0, 100.0)}
LONG_S = 300.0  # of the others, which must not: the end that they expect is another
SPAWNED = (
    "loops in its second act",
    "exits in its second act",
    "raises in act",
    "gives NaN",
    "closes its pipes and stays",
)
SPAWNED_TASKS = (
    "raises in setup",
    "is killed in setup",
    "loops in setup, and swallows what would end it",
)

Ends = dict[str, tuple[EpisodeResult, dict[str, object]]]


def run_table(folder: pathlib.Path, faults: tuple[Fault, ...], method: str) -> Ends:
    ends: Ends = {}
    for limit_s in SHORT_S[method]:
        todo = tuple(fault for fault in faults if not ends or is_early(fault, ends))
        if todo:
            ends |= run_once(folder / str(limit_s), todo, method, limit_s)
    return ends


def is_early(fault: Fault, ends: Ends) -> bool:
    return fault.waits and fault.words not in str(ends[fault.name][1]["failure_reason"])


def run_once(folder: pathlib.Path, faults: tuple[Fault, ...], method: str, limit_s: float) -> Ends:
    runs = folder / "runs"
    runs.mkdir(parents=True)
    good = write_agent(None, folder / "good.py")
    jobs = []
    for index, fault in enumerate(faults):
        if fault in AGENT_FAULTS:
            agent, task = write_agent(fault, folder / f"agent_{index}.py"), PLAIN_TASK
        else:
            agent, task = good, write_plain_task(fault, folder / "tasks" / f"task_{index}")
        timeout_s = limit_s if fault.waits else LONG_S
        jobs.append(make_job(index, agent, task, runs, timeout_s=timeout_s))
    rows = run_jobs(jobs, workers=8, method=method)
    assert left_behind(folder) == []
    assert sorted(path.name for path in runs.iterdir()) == sorted(
        f"{job.run_id}.json" for job in jobs
    )
    return {
        fault.name: (rows[i], json.loads((runs / f"{i:032x}.json").read_bytes()))
        for i, fault in enumerate(faults)
    }


def check(fault: Fault, ends: Ends) -> None:
    row, artifact = ends[fault.name]
    words = artifact["failure_reason"] or ""
    assert row.termination_reason in fault.reasons, words
    assert row.success is (row.termination_reason == "success")
    if row.termination_reason == fault.reasons[0]:
        assert fault.words in words
    assert spec.problems(artifact) == []
    assert (row.termination_reason, row.artifact_hash) == (
        artifact["termination_reason"],
        artifact["artifact_hash"],
    )


@pytest.fixture(scope="module")
def agents_by_fork(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return run_table(tmp_path_factory.mktemp("agents"), AGENT_FAULTS, "fork")


@pytest.fixture(scope="module")
def tasks_by_fork(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return run_table(tmp_path_factory.mktemp("tasks"), TASK_FAULTS, "fork")


@pytest.fixture(scope="module")
def some_by_spawn(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    faults = [fault for fault in AGENT_FAULTS if fault.name in SPAWNED]
    faults += [fault for fault in TASK_FAULTS if fault.name in SPAWNED_TASKS]
    return run_table(tmp_path_factory.mktemp("spawned"), tuple(faults), "spawn")


@pytest.mark.parametrize("fault", AGENT_FAULTS, ids=lambda fault: fault.name)
def test_an_agent_that(fault: Fault, agents_by_fork: Ends) -> None:
    check(fault, agents_by_fork)


@pytest.mark.parametrize("fault", TASK_FAULTS, ids=lambda fault: fault.name)
def test_a_task_that(fault: Fault, tasks_by_fork: Ends) -> None:
    check(fault, tasks_by_fork)


@pytest.mark.parametrize("name", [*SPAWNED, *SPAWNED_TASKS])
def test_spawned_as_forked(name: str, some_by_spawn: Ends) -> None:
    (fault,) = [fault for fault in (*AGENT_FAULTS, *TASK_FAULTS) if fault.name == name][:1]
    check(fault, some_by_spawn)
