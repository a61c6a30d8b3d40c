"""Work counts: one value for one code, however it is run."""

import json
import pathlib
import random
from typing import Any

import pytest
from helpers.batches import LIMITS, make_job, run_jobs
from helpers.faults import PLAIN_TASK

from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import replace
from tracecore.records import EpisodeResult, Job, Settings
from tracecore.runtime.task.catalog import find_agent, find_task
from tracecore.runtime.work.counter import WorkCounter

RUNS = 8


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[EpisodeResult]]:
    """Each row of the default scenario: once as it is, then several times counted, with others
    beside it.
    """
    runs = tmp_path_factory.mktemp("runs")
    jobs = [
        Job(
            index=len(DEFAULT_SCENARIO) * run + place,
            run_id=f"{len(DEFAULT_SCENARIO) * run + place:032x}",
            agent=find_agent(row.agent),
            task=find_task(row.task_ref),
            seed=row.seed,
            settings=Settings(runs_dir=str(runs), timeout_s=300.0, limits=LIMITS),
            count_work=run > 0,
        )
        for run in range(RUNS + 1)
        for place, row in enumerate(DEFAULT_SCENARIO)
    ]
    random.Random(3).shuffle(jobs)
    rows = run_jobs(jobs, workers=6)
    return {
        place: [rows[index] for index in sorted(rows) if index % len(DEFAULT_SCENARIO) == place]
        for place in range(len(DEFAULT_SCENARIO))
    }


def test_a_bundled_row_has_one_value_in_every_run(bundled: dict[int, list[EpisodeResult]]):
    for plain, *counted in bundled.values():
        assert plain.work is None
        found = {json.dumps(without_faults(row.work), sort_keys=True) for row in counted}
        assert len(found) == 1
        for side in ("episode", "agent"):
            work = counted[0].work
            assert work is not None
            functions = work["functions"][side]
            assert sum(lines for lines, _calls in functions.values()) == work[side]["lines"] > 200
            assert sum(calls for _lines, calls in functions.values()) == work[side]["calls"] > 50
            assert 0 < work[side]["page_faults"] < 20_000


def test_counting_changes_no_hash(bundled: dict[int, list[EpisodeResult]]):
    for rows in bundled.values():
        assert {(row.success, row.artifact_hash) for row in rows} == {(True, rows[0].artifact_hash)}


def test_functions_go_by_where_they_belong(bundled: dict[int, list[EpisodeResult]]):
    work = bundled[0][1].work
    assert work is not None
    assert "tracecore/runtime/episode.py:_Episode._step" in work["functions"]["episode"]
    assert "task/actions.py:read_file" in work["functions"]["episode"]
    assert "agent/toy_agent.py:ToyAgent.act" in work["functions"]["agent"]
    assert not any("/frames.py:" in name for name in work["functions"]["episode"])


def without_faults(work: Any) -> Any:
    return {
        **work,
        **{
            side: {key: work[side][key] for key in ("lines", "calls")}
            for side in ("episode", "agent")
        },
    }


AGENT = """
class Agent:
    def reset(self, spec): {reset}
    def observe(self, seen): pass
    def act(self):
        for _ in range({n}): pass
        {act}
        return {{"type": "none"}}
"""


def work_of(tmp_path: pathlib.Path, *, n: int = 1, reset: str = "pass", act: str = "pass") -> Any:
    agent = tmp_path / f"agent_{n}.py"
    agent.write_text(AGENT.format(n=n, reset=reset, act=act))
    runs = tmp_path / f"runs_{n}"
    runs.mkdir()
    job = replace(make_job(0, agent, PLAIN_TASK, runs), count_work=True)
    return run_jobs([job], workers=1)[0].work


def test_a_line_more_is_a_line_more(tmp_path: pathlib.Path):
    few, more = (work_of(tmp_path, n=n)["agent"]["lines"] for n in (10, 11))
    assert more - few in {1, 2}  # the loop's head and its body, on one line or told apart


@pytest.mark.parametrize(
    ("reset", "act"),
    [
        ("pass", "import os; os._exit(3)"),
        (
            "import sys; self.n = sys.modules.setdefault('seen', [])",
            "self.n.append(1); 1 / (len(self.n) - 2)",
        ),
    ],
    ids=["it died", "it remembers"],
)
def test_there_is_none_where_the_second_pass_is_another_episode(tmp_path, reset, act):
    assert work_of(tmp_path, reset=reset, act=act) is None


def test_what_is_waited_for_is_not_counted(tmp_path: pathlib.Path):
    slow = work_of(tmp_path, n=3, act="import time; time.sleep(0.4)")
    fast = work_of(tmp_path, n=4, act="import time; time.sleep(0.0)")
    assert slow["episode"]["lines"] == fast["episode"]["lines"]


def test_a_counter_leaves_no_trace_function_and_collection_on():
    import gc
    import sys

    counter = WorkCounter(())
    before = sys.gettrace()
    counter.start()
    sorted([3, 1, 2], key=lambda n: -n)
    counter.stop()
    sys.settrace(before)
    assert gc.isenabled()
    found = counter.as_json()
    assert found["functions"] == {
        name: counts
        for name, counts in found["functions"].items()
        if "<lambda>" in name or "stop" in name
    }
    assert [counts for name, counts in found["functions"].items() if "<lambda>" in name] == [[3, 3]]
