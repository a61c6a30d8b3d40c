import itertools
import pickle
import tracemalloc

import pytest

from tracecore.errors import AgentError, ScenarioError, TaskError
from tracecore.perf.slice.plan import Finders, Plan, plan, resolve_allowance
from tracecore.perf.slice.scenario import ScenarioRow
from tracecore.records import AgentSource, Allowance, ModelLimits, Settings, TaskSource
from tracecore.runtime.task.catalog import AGENT_REFERENCE

ROWS = (
    ScenarioRow("a.py", "one@1", 5),
    ScenarioRow("b.py", "two", 100),
    ScenarioRow("a.py", "two", 0),
)
SETTINGS = Settings(runs_dir="/runs")


def find_agent(ref: str) -> AgentSource:
    return AgentSource(ref, f"/agents/{ref}", f"sha256:agent-{ref}")


def find_task(ref: str) -> TaskSource:
    return TaskSource(ref if "@" in ref else f"{ref}@3", f"/tasks/{ref}", f"sha256:task-{ref}")


def planned(
    episodes: int, rows: tuple[ScenarioRow, ...] = ROWS, slice_id: str = "0123456789abcdef"
) -> Plan:
    return plan(
        rows,
        episodes,
        SETTINGS,
        Finders(find_agent, find_task),
        slice_id=slice_id,
        scenario="s.toml",
    )


def test_an_episode_takes_the_row_of_its_index_and_adds_its_index_to_the_seed() -> None:
    jobs = list(planned(7).jobs())
    assert [job.index for job in jobs] == [0, 1, 2, 3, 4, 5, 6]
    agents, tasks = ["a.py", "b.py", "a.py"], ["one@1", "two@3", "two@3"]
    assert [job.agent.ref for job in jobs] == [*agents, *agents, "a.py"]
    assert [job.task.ref for job in jobs] == [*tasks, *tasks, "one@1"]
    assert [job.seed for job in jobs] == [5, 101, 2, 8, 104, 5, 11]
    assert {job.settings for job in jobs} == {SETTINGS}
    assert list(planned(40).jobs(range(7))) == jobs
    moved = pickle.loads(pickle.dumps(planned(7)))  # the way to another process
    assert list(moved.jobs()) == jobs


def test_a_run_id_belongs_to_its_slice_and_index() -> None:
    ids = [job.run_id for job in planned(1000).jobs()]
    assert ids == [job.run_id for job in planned(1000).jobs()]
    others = {job.run_id for job in planned(1000, slice_id="fedcba9876543210").jobs()}
    assert len(set(ids) | others) == 2000
    assert all(len(run_id) == 32 and set(run_id) <= set("0123456789abcdef") for run_id in ids)


def test_chosen_episodes_come_in_the_order_asked_for() -> None:
    whole = planned(9)
    assert list(whole.jobs([8, 0, 3])) == [whole.job(8), whole.job(0), whole.job(3)]
    assert list(whole.jobs([])) == []


@pytest.mark.parametrize("index", [-1, 9])
def test_an_episode_outside_the_slice_does_not_exist(index: int) -> None:
    with pytest.raises(IndexError, match="of a slice of 9"):
        planned(9).job(index)


def test_each_agent_and_task_is_looked_for_once_and_before_any_job_is_made() -> None:
    asked: list[str] = []

    def note_agent(ref: str) -> AgentSource:
        asked.append(ref)
        return find_agent(ref)

    def note_task(ref: str) -> TaskSource:
        asked.append(ref)
        return find_task(ref)

    plan(ROWS, 1, SETTINGS, Finders(note_agent, note_task), slice_id="0" * 16)
    assert asked == ["a.py", "b.py", "one@1", "two"]


def test_ten_million_episodes_take_no_memory() -> None:
    tracemalloc.start()
    try:
        jobs = planned(10_000_000).jobs()
        for _ in itertools.islice(jobs, 2000):
            pass
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_seed_that_would_leave_64_bits_is_refused_before_anything_runs() -> None:
    rows = (ScenarioRow("a.py", "one@1", 0), ScenarioRow("a.py", "one@1", 2**63 - 4))
    assert planned(4, rows).job(3).seed == 2**63 - 1
    assert planned(5, rows).job(3).seed == 2**63 - 1  # episode 4 is another row's
    assert planned(1, (rows[0], ScenarioRow("a.py", "one@1", 2**63 - 1))).job(0).seed == 0
    with pytest.raises(ScenarioError) as caught:
        planned(6, rows)
    assert str(caught.value).startswith(
        f"s.toml: scenario[1].seed: found {2**63 - 4}, expected at most {2**63 - 6}: episode 5"
    )


def test_the_manifest_tells_the_rows_with_the_hashes_of_what_was_found() -> None:
    assert planned(1).scenario_document()[1] == {
        "agent": "b.py",
        "task_ref": "two@3",
        "seed": 100,
        "agent_hash": "sha256:agent-b.py",
        "task_hash": "sha256:task-two",
    }
    assert len(planned(1).scenario_document()) == 3


def test_all_rows_that_are_wrong_are_named_at_once_and_a_file_of_their_own_with_them() -> None:
    def agent(ref: str) -> AgentSource:
        if ref == "b.py":
            raise AgentError(AGENT_REFERENCE, "", ref, "one that exists")
        return find_agent(ref)

    def task(ref: str) -> TaskSource:
        if ref == "two":
            raise TaskError("/tasks/two/task.toml", "suite", 3, "text")
        return find_task(ref)

    rows = (*ROWS[:2], ScenarioRow("a.py", "one@1", 2**63 - 1, Allowance(network=("host",))))
    with pytest.raises(ScenarioError) as caught:
        plan(
            rows, 9, SETTINGS, Finders(agent, task), slice_id="0123456789abcdef", scenario="s.toml"
        )
    assert str(caught.value).split("; ") == [
        (
            f"s.toml: scenario[2].seed: found {2**63 - 1}, expected at most {2**63 - 9}: episode 8"
            " adds its index, and seeds have 64 bits"
        ),
        "scenario[1].agent: found 'b.py', expected one that exists",
        "scenario[1].task_ref: /tasks/two/task.toml: suite: found 3, expected text",
        (
            "scenario[2].allow.network[0]: found 'host', expected a host and a port, such as"
            " api.example.org:443"
        ),
    ]


@pytest.mark.parametrize(
    ("addresses", "is_one"),
    [
        (("api.example.org:443", "LOCALHOST:1", "127.0.0.1:65535", "[::1]:80"), True),
        (("api.example.org", "api.example.org:", ":80", "host:0", "host:65536"), False),
        (("http://host:80", "a b:80", "host:٣"), False),
    ],
)
def test_an_agent_may_be_allowed_a_host_and_a_port(
    addresses: tuple[str, ...], *, is_one: bool
) -> None:
    for address in addresses:
        allowance, mistakes = resolve_allowance(Allowance(network=(address,)), ())
        assert (mistakes == []) == is_one
        assert not is_one or allowance.network == (address.lower(),)


def test_what_else_a_row_asks_for_reaches_its_episodes_and_the_manifest() -> None:
    models = ModelLimits(calls=3, wait_s=1.5)
    rows = (ScenarioRow("a.py", "one@1", preload=False, models=models), ROWS[0])
    first, second = planned(2, rows).jobs()
    assert (first.preload, first.model_limits) == (False, models)
    assert (second.preload, second.model_limits) == (True, ModelLimits())
    shown, plain = planned(2, rows).scenario_document()
    assert shown["preload"] is False
    assert shown["models"] == {"calls": 3, "wait_s": 1.5}
    assert {"preload", "models"} & set(plain) == set()
