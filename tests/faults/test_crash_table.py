"""Every row of the crash table, as a real episode in real processes."""

import json
import pathlib

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
SHORT_S = {"fork": (0.6, 6.0, 60.0), "spawn": (1.5, 15.0, 100.0)}
LONG_S = 300.0  # of the others, which must not: the end that they expect is another
SPAWNED = (
    "sleeps in act",
    "exits in its second act",
    "gives NaN",
    "closes its pipes and stays",
)
SPAWNED_TASKS = ("raises in setup",)

Ends = dict[str, tuple[EpisodeResult, dict[str, object]]]


def run_table(folder: pathlib.Path, faults: tuple[Fault, ...], method: str) -> Ends:
    ends = run_once(folder / "quick", [f for f in faults if not f.waits], method, LONG_S)
    waiting = [fault for fault in faults if fault.waits]
    for limit_s in SHORT_S[method]:
        if waiting:
            ends |= run_once(folder / str(limit_s), waiting, method, limit_s)
        waiting = [f for f in waiting if f.words not in str(ends[f.name][1]["failure_reason"])]
    return ends


def run_once(folder: pathlib.Path, faults: list[Fault], method: str, timeout_s: float) -> Ends:
    runs = folder / "runs"
    runs.mkdir(parents=True)
    good = write_agent(None, folder / "good.py")
    jobs = []
    for index, fault in enumerate(faults):
        if fault in AGENT_FAULTS:
            agent, task = write_agent(fault, folder / f"agent_{index}.py"), PLAIN_TASK
        else:
            agent, task = good, write_plain_task(fault, folder / "tasks" / f"task_{index}")
        jobs.append(make_job(index, agent, task, runs, timeout_s=timeout_s))
    # Those that wait are all in flight at once: they share the cores until one limit ends them all.
    rows = run_jobs(jobs, workers=8 if timeout_s == LONG_S else 16, method=method)
    assert left_behind(folder) == []
    assert sorted(path.name for path in runs.iterdir()) == sorted(
        f"{job.run_id}.json" for job in jobs
    )
    return {
        fault.name: (rows[i], json.loads((runs / f"{i:032x}.json").read_bytes()))
        for i, fault in enumerate(faults)
    }


def wrong(faults: tuple[Fault, ...], ends: Ends) -> dict[str, object]:
    """Rows that ended otherwise than the table has it."""
    return {fault.name: ends[fault.name] for fault in faults if not _is_right(fault, ends)}


def _is_right(fault: Fault, ends: Ends) -> bool:
    row, artifact = ends[fault.name]
    reason = row.termination_reason
    found = (artifact["termination_reason"], artifact["artifact_hash"])
    return (
        reason in fault.reasons
        and row.success is (reason == "success")
        and (reason != fault.reasons[0] or fault.words in str(artifact["failure_reason"] or ""))
        and spec.problems(artifact) == []
        and found == (reason, row.artifact_hash)
    )


def test_agents_end_as_the_table_has_it(tmp_path: pathlib.Path) -> None:
    assert wrong(AGENT_FAULTS, run_table(tmp_path, AGENT_FAULTS, "fork")) == {}


def test_tasks_end_as_the_table_has_it(tmp_path: pathlib.Path) -> None:
    assert wrong(TASK_FAULTS, run_table(tmp_path, TASK_FAULTS, "fork")) == {}


def test_spawned_they_end_as_forked(tmp_path: pathlib.Path) -> None:
    faults = tuple(fault for fault in AGENT_FAULTS if fault.name in SPAWNED)
    faults += tuple(fault for fault in TASK_FAULTS if fault.name in SPAWNED_TASKS)
    assert len(faults) == len(SPAWNED) + len(SPAWNED_TASKS)
    assert wrong(faults, run_table(tmp_path, faults, "spawn")) == {}
