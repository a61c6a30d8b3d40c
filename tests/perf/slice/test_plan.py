import itertools
import pickle
import tracemalloc

import pytest

from tracecore.errors import AgentError, ScenarioError, TaskError
from tracecore.perf.slice.plan import Finders, Plan, plan, resolve_allowance
from tracecore.perf.slice.scenario import ScenarioRow
from tracecore.records import AgentSource, Allowance, ModelLimits, Settings, TaskSource
from tracecore.runtime.task.catalog import AGENT_REFERENCE, TASK_REFERENCE

ROWS = (
    ScenarioRow("a.py", "one@1", 5),
    ScenarioRow("b.py", "two", 100),
    ScenarioRow("a.py", "two", 0),
)
SETTINGS = Settings(runs_dir="/runs")
JSON_ROW = '{"agent": "a.py", "task_ref": "one@1"}'


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
    assert [job.agent.ref for job in jobs] == [
        "a.py",
        "b.py",
        "a.py",
        "a.py",
        "b.py",
        "a.py",
        "a.py",
    ]
    assert [job.task.ref for job in jobs] == [
        "one@1",
        "two@3",
        "two@3",
        "one@1",
        "two@3",
        "two@3",
        "one@1",
    ]
    assert [job.seed for job in jobs] == [5, 101, 2, 8, 104, 5, 11]
    assert {job.settings for job in jobs} == {SETTINGS}


def test_a_run_id_belongs_to_its_slice_and_index() -> None:
    ids = [job.run_id for job in planned(1000).jobs()]
    assert ids == [job.run_id for job in planned(1000).jobs()]
    others = {job.run_id for job in planned(1000, slice_id="fedcba9876543210").jobs()}
    assert len(set(ids) | others) == 2000
    assert all(len(run_id) == 32 and set(run_id) <= set("0123456789abcdef") for run_id in ids)


def test_a_longer_slice_begins_with_the_shorter_one() -> None:
    assert list(planned(40).jobs(range(7))) == list(planned(7).jobs())


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
    with pytest.raises(ScenarioError) as caught:
        planned(6, rows)
    assert str(caught.value).startswith(
        f"s.toml: scenario[1].seed: found {2**63 - 4}, expected at most {2**63 - 6}: episode 5"
    )


def test_a_row_that_no_episode_reaches_may_have_any_seed() -> None:
    rows = (ScenarioRow("a.py", "one@1", 0), ScenarioRow("a.py", "one@1", 2**63 - 1))
    assert planned(1, rows).job(0).seed == 0


def test_the_manifest_tells_the_rows_with_the_hashes_of_what_was_found() -> None:
    assert planned(1).scenario_document()[1] == {
        "agent": "b.py",
        "task_ref": "two@3",
        "seed": 100,
        "agent_hash": "sha256:agent-b.py",
        "task_hash": "sha256:task-two",
    }
    assert len(planned(1).scenario_document()) == 3


def test_a_plan_survives_the_way_to_another_process() -> None:
    whole = planned(5)
    assert list(pickle.loads(pickle.dumps(whole)).jobs()) == list(whole.jobs())


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        (
            "b.py",
            "s.toml: scenario[1].agent: found 'b.py', expected one that exists; nearest: a.py",
        ),
        (
            "two",
            "s.toml: scenario[1].task_ref: found 'two', expected one that exists; nearest: one@1",
        ),
    ],
)
def test_a_reference_that_means_nothing_is_named_with_file_row_and_field(
    missing: str, complaint: str
) -> None:
    def agent(ref: str) -> AgentSource:
        if ref == missing:
            raise AgentError(AGENT_REFERENCE, "", ref, "one that exists; nearest: a.py")
        return find_agent(ref)

    def task(ref: str) -> TaskSource:
        if ref == missing:
            raise TaskError(TASK_REFERENCE, "", ref, "one that exists; nearest: one@1")
        return find_task(ref)

    with pytest.raises(ScenarioError) as caught:
        plan(
            ROWS, 3, SETTINGS, Finders(agent, task), slice_id="0123456789abcdef", scenario="s.toml"
        )
    assert str(caught.value) == complaint


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
    ("address", "is_one"),
    [
        ("api.example.org:443", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:65535", True),
        ("[::1]:80", True),
        ("api.example.org", False),
        ("api.example.org:", False),
        (":80", False),
        ("host:0", False),
        ("host:65536", False),
        ("http://host:80", False),
        ("a b:80", False),
        ("host:٣", False),
    ],
)
def test_an_agent_may_be_allowed_a_host_and_a_port(address: str, is_one: bool) -> None:
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
