"""How an episode goes: every ending, the order of checks, what the agent sees, what is recorded."""

from typing import Any

import pytest
from helpers.episodes import (
    ACT,
    ACTIONS,
    FINISH,
    LOOK,
    Plan,
    Run,
    action_code,
    budgets,
    end_of,
    validator_code,
)
from helpers.tables import rows

from tracecore.records import Job
from tracecore.runtime.endings import FAILURE_TYPE_OF, AgentViolation, End, InvalidAction


def setup_code(body: str) -> dict[str, str]:
    return {"setup": f"def setup(seed, env):\n    {body}\n"}


READ_NOTHING = {"type": "read", "args": {"path": "/app/none"}}
READ_PASSWORDS = {"type": "read", "args": {"path": "/etc/passwd"}}
NO_ACTION = InvalidAction("action_must_be_dict", "act returned int", "7")
GIVES_UP = {"validate": validator_code("return {'ok': False, 'terminal': True}")}
INTERRUPTED = {"validate": validator_code("raise KeyboardInterrupt")}
LEAVES = {"actions": "def set_env(env):\n    raise SystemExit(3)\n"}
BROKEN_IMPORT = {"actions": "import nowhere_to_be_found\n"}
ENDINGS = [
    ("success", None, None, Plan(LOOK, FINISH), {}),
    ("steps_exhausted", "budget_exhausted", "all 2 steps were used",
     Plan(LOOK), {"edit": budgets(2, 4)}),
    ("tool_calls_exhausted", "budget_exhausted", "all 2 tool calls were used",
     Plan(LOOK), {"edit": budgets(5, 2)}),
    ("invalid_action", "invalid_action", "unknown_action: there is no action fly",
     Plan({"type": "fly"}), {}),
    ("invalid_action", "invalid_action", "action_must_be_dict: act returned int",
     Plan(NO_ACTION), {}),
    ("action_exception", "invalid_action", "action read raised FileNotFoundError",
     Plan(READ_NOTHING), {}),
    ("sandbox_violation", "sandbox_violation", "read_file /etc/passwd", Plan(READ_PASSWORDS), {}),
    ("sandbox_violation", "sandbox_violation", "agents may not", Plan(AgentViolation("kill")), {}),
    ("timeout", "timeout", "step 1 was late", Plan(End("timeout", "step 1 was late")), {}),
    ("agent_exception", "logic_failure", "act raised",
     Plan(End("agent_exception", "act raised")), {}),
    ("agent_crashed", "logic_failure", "it died", Plan(End("agent_crashed", "it died")), {}),
    ("agent_exception", "logic_failure", "no",
     Plan(LOOK, at_reset=End("agent_exception", "no")), {}),
    ("task_exception", "logic_failure", "setup raised KeyError: 9",
     Plan(LOOK), setup_code("raise KeyError(seed)")),
    ("task_exception", "logic_failure", "setup raised SandboxViolation",
     Plan(LOOK), setup_code("env.read_file('/etc/x')")),
    ("task_exception", "logic_failure", "set_env raised SystemExit: 3", Plan(LOOK), LEAVES),
    ("task_exception", "logic_failure", "loading the task raised ModuleNotFoundError",
     Plan(LOOK), BROKEN_IMPORT),
    ("validator_exception", "logic_failure", "validate raised KeyboardInterrupt",
     Plan(LOOK), INTERRUPTED),
    ("logic_failure", "logic_failure", "the validator ended the episode", Plan(LOOK), GIVES_UP),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "failure_type", "words", "agent", "how"),
    ENDINGS,
    ids=lambda value: value if isinstance(value, str) and value in FAILURE_TYPE_OF else "",
)
def test_every_ending_has_its_reason_and_failure_type(
    artifact_of: Run, reason, failure_type, words, agent, how
):
    artifact = artifact_of(agent, **how)
    assert end_of(artifact)[:2] == (reason, failure_type)
    assert artifact["success"] is (reason == "success")
    assert (words or "") in (artifact["failure_reason"] or "")
    assert (artifact["failure_reason"] is None) is (words is None)


@pytest.mark.parametrize(
    "files",
    [
        {"actions": "def act(:\n"},
        {"validate": "validat = 1\n"},
        {"actions": "def act(path, /): pass\n"},
        setup_code("open(__file__ + 'x')"),
        setup_code("raise ValueError('-' * 460 + __file__)"),
    ],
    ids=["no Python", "no function", "no action", "no such file", "cut"],
)
def test_where_a_task_lies_is_in_no_artifact(artifact_of: Run, files):
    here, there = (
        artifact_of(Plan(LOOK), under=under, **files) for under in ("here", "some/where/else")
    )
    assert here["termination_reason"] == "task_exception"
    assert "world@1/" in here["failure_reason"]
    assert here["artifact_hash"] == there["artifact_hash"]


@pytest.mark.parametrize("how", [setup_code("1 / 0"), {}])
def test_an_agent_that_was_started_is_closed_however_the_episode_ends(artifact_of: Run, how):
    agent = Plan(LOOK, End("agent_crashed", "it died"))
    artifact_of(agent, **how)
    assert agent.closed == 1


def test_an_agent_that_cannot_be_started_is_an_ending_too(artifact_of: Run):
    def start(_job: Job) -> Any:
        raise End("agent_crashed", "no process could be had")

    assert end_of(artifact_of(start=start)) == ("agent_crashed", "logic_failure", 0, 0)


# --- the order of checks, and what is spent ---


@pytest.mark.parametrize(
    ("answers", "steps", "tool_calls", "end"),
    [
        ((LOOK,), 1, 4, ("steps_exhausted", "budget_exhausted", 1, 1)),
        ((LOOK, FINISH), 5, 1, ("tool_calls_exhausted", "budget_exhausted", 2, 1)),
        ((FINISH,), 5, 0, ("tool_calls_exhausted", "budget_exhausted", 1, 0)),
        ((FINISH,), 0, 4, ("steps_exhausted", "budget_exhausted", 0, 0)),
        # an invalid action is told before the tool calls are
        ((LOOK, {"type": "fly"}), 5, 1, ("invalid_action", "invalid_action", 2, 1)),
        ((LOOK, End("agent_exception", "no")), 5, 4, ("agent_exception", "logic_failure", 1, 1)),
        # the last step may succeed with the last tool call
        ((LOOK, FINISH), 2, 2, ("success", None, 2, 2)),
    ],
)
def test_a_step_is_asked_for_and_an_action_runs_while_the_budget_lasts(
    artifact_of: Run, answers, steps, tool_calls, end
):
    agent = Plan(*answers)
    artifact = artifact_of(agent, edit=budgets(steps, tool_calls))
    assert end_of(artifact) == end
    assert len(artifact["action_trace"]) == end[2]
    assert len(agent.observations) == end[2] + (end[0] == "agent_exception")
    assert agent.task_spec is not None
    counts = artifact["metrics"]["steps_used"], artifact["metrics"]["tool_calls_used"]
    assert counts == end[2:]
    for entry in artifact["action_trace"][-1:]:
        left = {"steps": steps - end[2], "tool_calls": tool_calls - end[3]}
        assert entry["budget_after_step"] == left
    if end[0] == "tool_calls_exhausted":
        assert (entry["action"], entry["result"], entry["io_audit"]) == (FINISH, None, [])
        assert entry["budget_delta"] == {"steps": 1, "tool_calls": 0}


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ({"type": "fly", "args": {}}, {"type": "fly", "args": {}}),
        (NO_ACTION, {"repr": "7"}),
        (
            InvalidAction("action_not_json", "no", "<object object at 0x7f0011223344>"),
            {"repr": "<object object at 0x…>"},
        ),
    ],
)
def test_an_invalid_action_spends_a_step_and_no_tool_call_and_has_an_entry(
    artifact_of: Run, answer, action
):
    artifact = artifact_of(Plan(LOOK, answer))
    assert end_of(artifact) == ("invalid_action", "invalid_action", 2, 1)
    entry = artifact["action_trace"][1]
    assert (entry["action"], entry["result"]) == (action, None)
    assert entry["budget_delta"] == {"steps": 1, "tool_calls": 0}
    assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]


# --- what the agent is given ---


def test_the_task_is_given_exactly(artifact_of: Run):
    agent = Plan(FINISH)
    artifact_of(agent)
    assert agent.task_spec == {
        "id": "world",
        "description": "A task for tests.",
        "budgets": {"steps": 5, "tool_calls": 4},
        "actions": {"look": ["path"], "read": ["path"], "list_dir": ["path"], "finish": []},
        "sandbox": {
            "filesystem_roots": ["/app"],
            "network_hosts": ["api.example.org", "*.example.com"],
        },
    }


def test_an_observation_is_given_exactly(artifact_of: Run):
    listing, look = {"type": "list_dir", "args": None}, {"type": "look", "args": {"path": "/app/x"}}
    agent = Plan(listing, look, FINISH)
    artifact = artifact_of(agent)
    listed = {"ok": True, "files": ["/app/seed"]}
    steps = [(None, None, []), (listing, listed, ["/app/seed"])]
    steps.append((look, {"there": False}, ["/app/seed"]))
    assert agent.observations == [
        {
            "step": step,
            "task": {"id": "world", "description": "A task for tests."},
            "last_action": action,
            "last_action_result": result,
            "visible_state": {"files_seen": seen},
            "budget_remaining": {"steps": 6 - step, "tool_calls": 5 - step},
        }
        for step, (action, result, seen) in enumerate(steps, 1)
    ]
    assert [entry["observation"] for entry in artifact["action_trace"]] == agent.observations
    assert [entry["step"] for entry in artifact["action_trace"]] == [1, 2, 3]
    metrics = [entry["telemetry"]["action_metrics"] for entry in artifact["action_trace"]]
    assert 0 < sum(one["latency_ms"] for one in metrics) < artifact["wall_clock_elapsed_s"] * 1000


@pytest.mark.parametrize(
    ("action", "result", "seen"),
    rows("""
    list_dir | {'ok': True, 'files': ['/app/b', '/app/a']} | ['/app/a', '/app/b']
    list_dir | {'files': ('/app/a', 7, None, '/app/a')}    | ['/app/a']
    list_dir | {'ok': False, 'files': ['/app/a']}          | []
    list_dir | {'ok': True, 'files': '/app/a'}             | []
    list_dir | ['/app/a']                                  | []
    list_dir | type('Liar', (dict,), {'get': lambda *a: 1 / 0})(files=['/app/a']) | ['/app/a']
    act      | {'ok': True, 'files': ['/app/a']}           | []
    look     | {'ok': True, 'files': ['/app/a']}           | []
    act      | ENV.mark_seen(['/app/z', '/app/é'])         | ['/app/z', '/app/é']
    """),
)
def test_what_a_successful_listing_or_the_task_names_counts_as_seen(
    artifact_of: Run, action, result, seen
):
    agent = Plan({"type": action}, FINISH)
    code = ACTIONS + f"\ndef {action}():\n    return {result}\n"
    assert artifact_of(agent, actions=code)["success"]
    assert str(agent.observations[1]["visible_state"]["files_seen"]) == seen


# --- the world ---


def test_setup_has_the_seed_and_the_actions_have_their_world_before_the_first_step(
    artifact_of: Run,
):
    artifact = artifact_of(Plan({"type": "read", "args": {"path": "/app/seed"}}, FINISH))
    assert artifact["action_trace"][0]["result"] == "9"


def test_a_task_may_do_without_setup_and_set_env(artifact_of: Run):
    artifact = artifact_of(
        Plan(FINISH),
        actions="def finish():\n    return 1\n",
        validate=validator_code("return {'ok': True}"),
        edit=lambda text: text.replace('[setup]\nentrypoint = "setup.py:setup"\n', ""),
    )
    assert end_of(artifact) == ("success", None, 1, 1)


@pytest.mark.parametrize(
    ("answer", "entry"),
    [
        ({"type": "fly"}, None),
        (
            {"type": "read", "args": {"path": "/app/../etc"}},
            {"type": "fs", "op": "read_file", "path": "/app/../etc"},
        ),
        (AgentViolation("open /etc/passwd"), {"type": "fs", "op": "open", "path": "/etc/passwd"}),
        (AgentViolation("connect example.org"), {"type": "net", "host": "example.org"}),
        (AgentViolation("exec /bin/sh"), {"type": "process", "op": "exec", "target": "/bin/sh"}),
        (AgentViolation("kill"), {"type": "process", "op": "kill", "target": ""}),
    ],
)
def test_a_step_has_the_calls_of_its_action_or_the_attempt_of_its_agent_alone(
    artifact_of: Run, answer, entry
):
    artifact = artifact_of(Plan(LOOK, answer))
    look = {"type": "fs", "op": "exists", "path": "/app/seed"}
    expected = [[look], [entry] if entry else []]
    assert [step["io_audit"] for step in artifact["action_trace"]] == expected
    assert artifact["termination_reason"] == ("sandbox_violation" if entry else "invalid_action")


def test_a_violation_that_the_task_caught_is_one_all_the_same(artifact_of: Run):
    attempt = "try: ENV.require_network('evil.example.net')\n    except Exception: pass\n    "
    actions = action_code(f"{attempt}return 'all is well'")
    artifact = artifact_of(Plan(ACT, FINISH), actions=actions)
    assert end_of(artifact) == ("sandbox_violation", "sandbox_violation", 1, 1)
    (entry,) = artifact["action_trace"]
    assert entry["result"] == "all is well"
    assert entry["io_audit"] == [{"type": "net", "host": "evil.example.net"}]
    assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]


def test_what_setup_and_the_validator_tried_and_caught_is_no_violation_of_an_action(
    artifact_of: Run,
):
    trying = "try: env.read_file('/etc/x')\n    except Exception: pass\n    "
    validate = validator_code(f"{trying}return {{'ok': env.get_agent_output('done') is True}}")
    artifact = artifact_of(Plan(LOOK, FINISH), **setup_code(trying), validate=validate)
    assert end_of(artifact) == ("success", None, 2, 2)


def test_model_calls_are_in_the_entry_of_their_step_and_in_the_sums(artifact_of: Run):
    request = {"provider": "acme", "model": "m-1", "prompt": "?", "shim_used": True}
    request["metadata"] = {"version": "3"}
    call = {"request": request, "response": {"completion": "!!", "tokens_used": 5}}
    artifact = artifact_of(Plan(LOOK, FINISH, llm_trace=[call]))
    assert [entry["llm_trace"] for entry in artifact["action_trace"]] == [[call], [call]]
    assert artifact["determinism"]["tooling"] == {
        "models": [{"provider": "acme", "model": "m-1", "version": "3"}],
        "mocks": ["acme"],
    }
    names = ("llm_trace_entries", "prompt_bytes", "completion_bytes", "tokens_used")
    assert [artifact["metrics"][name] for name in names] == [2, 2, 4, 10]
