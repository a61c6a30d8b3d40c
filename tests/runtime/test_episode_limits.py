"""What ends an episode that takes too long or leaves too much; its artifact can be read again."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.episodes import ACT, FINISH, LOOK, Plan, Run, action_code, end_of, validator_code
from helpers.slices import LIMITS_S, wait_until

from tracecore import canon
from tracecore.records import JsonObject
from tracecore.runtime import episode, replay
from tracecore.runtime.replay import read_artifact

FOREVER = "while True: pass"
SWALLOWS = "try:\n        while True: pass\n    except Exception: pass"


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """A handler and a timer that were there before; gives the rings that the handler had."""
    rings: list[int] = []
    handler_before = signal.signal(signal.SIGALRM, lambda number, _frame: rings.append(number))
    timer_before = signal.setitimer(signal.ITIMER_REAL, 5000.0, 7.0)
    handler = signal.getsignal(signal.SIGALRM)
    yield rings
    assert signal.getsignal(signal.SIGALRM) is handler
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, *timer_before)
    signal.signal(signal.SIGALRM, handler_before)
    assert 0 < left_s <= 5000
    assert interval_s == 7.0


def late(artifact_of: Run, agent: type[Plan], answers: Any, words: str, **how: Any) -> JsonObject:
    """The artifact of an episode with the first limit within which it comes as far as ``words``."""
    for limit_s in LIMITS_S:
        artifact = artifact_of(agent(*answers), timeout_s=limit_s, **how)
        assert end_of(artifact)[:2] == ("timeout", "timeout")
        if words in artifact["failure_reason"]:
            assert f"the time limit of {limit_s:g} s" in artifact["failure_reason"]
            assert artifact["wall_clock_elapsed_s"] >= limit_s
            return artifact
    raise AssertionError(artifact["failure_reason"])


@pytest.mark.parametrize(
    ("what", "steps", "how"),
    [
        ("action act", 2, {"actions": action_code(FOREVER)}),
        ("action act", 2, {"actions": action_code(SWALLOWS)}),
        ("validate", 1, {"validate": validator_code(FOREVER)}),
        ("setup", 0, {"setup": f"def setup(seed, env):\n    {FOREVER}\n"}),
        ("loading the task", 0, {"actions": FOREVER}),
    ],
)
def test_task_code_that_loops_past_the_time_limit_leaves_the_trace_so_far(
    artifact_of: Run, alarm, what, steps, how
):
    artifact = late(artifact_of, Plan, (LOOK, ACT), f"{what} had not finished within", **how)
    assert [entry["step"] for entry in artifact["action_trace"]] == list(range(1, steps + 1))
    assert artifact["steps_used"] == steps
    assert artifact["budgets"]["steps"] == (0 if "loading" in what else 5)
    assert alarm == []


def test_task_code_that_swallows_the_interruption_and_returns_is_late_all_the_same(
    artifact_of: Run, alarm
):
    body = "import time\n    try: time.sleep(600)\n    except BaseException: return 'late'"
    artifact = late(artifact_of, Plan, (ACT,), "validate had not", actions=action_code(body))
    assert artifact["action_trace"][0]["result"] == "late"
    assert alarm == []


def test_an_agent_that_is_late_is_stopped_by_what_comes_next(artifact_of: Run, alarm):
    class LateInReset(Plan):
        def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
            super().reset(task_spec, deadline_s)
            wait_until(lambda: time.monotonic() >= deadline_s)

    class LateInStep(Plan):
        def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
            wait_until(lambda: time.monotonic() >= deadline_s)
            return super().step(observation, deadline_s)

    artifact = late(artifact_of, LateInReset, (LOOK,), "was over before the next step")
    assert artifact["action_trace"] == []
    artifact = late(artifact_of, LateInStep, (LOOK,), "action look")
    assert len(artifact["action_trace"]) == 1
    assert alarm == []


def test_without_a_timer_before_there_is_none_afterwards(artifact_of: Run):
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    assert artifact_of(Plan(FINISH))["success"]
    assert signal.setitimer(signal.ITIMER_REAL, *before) == (0.0, 0.0)


def test_an_alarm_that_was_due_in_the_meantime_rings_afterwards(artifact_of: Run, alarm):
    before = signal.setitimer(signal.ITIMER_REAL, 0.1)
    artifact_of(Plan(ACT), actions=action_code(FOREVER), timeout_s=0.3)
    wait_until(lambda: bool(alarm))
    assert alarm == [signal.SIGALRM]
    signal.setitimer(signal.ITIMER_REAL, *before)


# --- what is written can be read again ---


def test_an_artifact_whose_trace_was_let_grow_to_the_end_is_one_that_can_be_read():
    trace_most = episode.TRACE_BYTES_MOST + episode.ENTRY_BYTES_MOST
    assert episode.OBSERVATION_BYTES_MOST + (2 << 20) < episode.ENTRY_BYTES_MOST
    assert trace_most <= replay.FILE_BYTES_MOST - (4 << 20)


@pytest.mark.parametrize(("limit", "most"), [("TRACE_BYTES_MOST", 800), ("TRACE_COMMAS_MOST", 30)])
def test_a_trace_that_grows_too_large_ends_the_episode_and_is_kept(
    limit: str, most: int, artifact_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode, limit, most)
    artifact = artifact_of(Plan(LOOK))
    steps = artifact["steps_used"]
    assert artifact["termination_reason"] == "logic_failure"
    assert artifact["failure_reason"] == (
        f"the trace has grown to more than {episode.TRACE_BYTES_MOST >> 20} MiB or"
        f" {episode.TRACE_COMMAS_MOST} values after {steps} steps"
    )
    assert len(artifact["action_trace"]) == steps == 2


@pytest.mark.parametrize("commas", [150, 500])
def test_commas_in_text_are_no_values(
    artifact_of: Run, monkeypatch: pytest.MonkeyPatch, commas: int
):
    monkeypatch.setattr(episode, "TRACE_COMMAS_MOST", 200)
    look = {"type": "look", "args": {"path": "/app/" + "," * commas}}
    actions = action_code(f"return ',' * {commas}")
    assert artifact_of(Plan(look, LOOK, ACT, FINISH), actions=actions)["success"]


STEP_1 = "step 1 left more than"
EXISTS = "[ENV.exists('/app/' + 'd' * 4000) for _ in range(300)]"
NEXT = "the next observation would have more than"


@pytest.mark.parametrize(
    ("body", "limit", "words"),
    [
        ("return 'x' * (17 << 20)", None, f"{STEP_1} 16 MiB or 2000000 values: its result and"),
        ("return [1] * 2_100_000", None, f"{STEP_1} 16 MiB"),
        ("return 'x' * (13 << 20)", None, f"{NEXT} 12 MiB"),
        (EXISTS, "ENTRY_BYTES_MOST", f"{STEP_1} 1 MiB"),
        ("ENV.mark_seen(['/app/' + 'd' * (1 << 20)])", "OBSERVATION_BYTES_MOST", f"{NEXT} 1 MiB"),
    ],
)
def test_what_a_step_leaves_can_be_read_again(
    artifact_of: Run, tmp_path, monkeypatch: pytest.MonkeyPatch, body: str, limit, words: str
):
    if limit:
        monkeypatch.setattr(episode, limit, 1 << 20)
    artifact = artifact_of(Plan(ACT), actions=action_code(body))
    assert end_of(artifact) == ("logic_failure", "logic_failure", 1, 1)
    assert words in artifact["failure_reason"]
    (entry,) = artifact["action_trace"]
    if words.startswith(STEP_1):
        assert (entry["action"], entry["result"], entry["io_audit"]) == (ACT, None, [])
        assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]
    path = tmp_path / "artifact.json"
    path.write_bytes(canon.encode(artifact))
    assert read_artifact(str(path)) == (artifact, [])


@pytest.mark.parametrize(("most", "action"), [(14, ACT), (13, {"bytes": 14})])
def test_of_an_entry_that_is_cut_down_the_action_stays_while_it_is_small(
    artifact_of: Run, monkeypatch: pytest.MonkeyPatch, most: int, action: JsonObject
):
    monkeypatch.setattr(episode, "TRACE_COMMAS_MOST", 200)
    monkeypatch.setattr(episode, "CUT_ACTION_BYTES", most)
    artifact = artifact_of(Plan(ACT), actions=action_code("return [1] * 300"))
    assert artifact["action_trace"][0]["action"] == action
