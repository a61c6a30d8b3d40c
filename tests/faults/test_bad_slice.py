"""A long row of bad episodes leaves the machine as it was; their neighbours never notice."""

import os
import pathlib
import threading

import pytest
from helpers.batches import left_behind, make_job, run_jobs
from helpers.faults import AGENT_FAULTS, PLAIN_TASK, write_agent
from helpers.slices import held_pid, let_go, wait_until, write_held_task

from tracecore import descendants

EPISODES = int(os.environ.get("TRACECORE_TEST_BAD_EPISODES", "30"))


def test_bad_episodes_leave_nothing_and_good_ones_between_them_are_what_they_were(
    tmp_path: pathlib.Path,
) -> None:
    quick = [fault for fault in AGENT_FAULTS if not fault.waits and "grows" not in fault.name]
    agents = [write_agent(fault, tmp_path / f"bad_{i}.py") for i, fault in enumerate(quick)]
    good = write_agent(None, tmp_path / "good.py")
    runs = tmp_path / "runs"
    runs.mkdir()
    chosen = [good if i % 5 == 0 else agents[i * 7 % len(agents)] for i in range(EPISODES)]
    before = len(os.listdir("/proc/self/fd")), threading.active_count()

    rows = run_jobs(make_job(i, agent, PLAIN_TASK, runs) for i, agent in enumerate(chosen))

    assert sorted(rows) == list(range(EPISODES))
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert left_behind(tmp_path) == []
    assert len(list(runs.iterdir())) == EPISODES
    hashes = {rows[i].artifact_hash for i in range(0, EPISODES, 5)}
    assert len(hashes) == 1
    assert rows[0].success


@pytest.mark.parametrize("victim", ["zygote", "episode"])
def test_a_process_of_one_episode_that_is_killed_from_outside_costs_that_episode_alone(
    tmp_path: pathlib.Path, victim: str
) -> None:
    """Or not even that: an episode whose worker loses its zygote is tried again."""
    runs = tmp_path / "runs"
    runs.mkdir()
    agent = write_agent(None, tmp_path / "agent.py")
    write_held_task(tmp_path, free=0)
    tasks = [tmp_path / "tasks" / "plain" if i == 1 else PLAIN_TASK for i in range(4)]
    killed: list[int] = []

    def kill_one() -> None:
        wait_until(lambda: held_pid(tmp_path))  # the second episode waits to be let go
        episode = held_pid(tmp_path)
        (below,) = (
            children
            for worker in descendants.children_of(os.getpid())
            if episode in (children := descendants.children_of(worker))
        )
        killed.append(below[0] if victim == "zygote" else episode)  # the zygote was there first
        descendants.send_signal(killed[0], 9)
        let_go(tmp_path)

    thread = threading.Thread(target=kill_one)
    thread.start()
    jobs = [make_job(i, agent, task, runs, timeout_s=300.0) for i, task in enumerate(tasks)]
    rows = run_jobs(jobs, workers=1)
    thread.join()
    assert [rows[i].success for i in (0, 2, 3)] == [True] * 3
    if victim == "episode":
        assert (rows[1].termination_reason, rows[1].error) == (
            "episode_crashed",
            "episode_crashed: the episode process was killed by SIGKILL",
        )
    else:
        assert rows[1].termination_reason in {"success", "agent_crashed", "episode_crashed"}
