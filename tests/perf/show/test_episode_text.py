import pytest

from tracecore.perf.show.episode_text import story


def step(number, action, result, *, error=None, llm_trace=None, task=None):
    return {
        "step": number,
        "observation": {"task": {"id": "t", "description": task or "Find the key."}},
        "action": action,
        "result": result,
        "llm_trace": llm_trace,
        "telemetry": {"action_metrics": {"latency_ms": 1.25, "error": error}},
    }


@pytest.fixture
def artifact():
    call = {
        "request": {"provider": "p", "model": "m", "prompt": "what?"},
        "response": {"completion": "that", "success": True},
    }
    return {
        "success": False,
        "termination_reason": "agent_exception",
        "failure_reason": "act (step 2) raised KeyError: 'a'",
        "validator": {},
        "task_ref": "hidden@1",
        "agent_ref": "agents/a.py",
        "seed": 7,
        "started_at": "2026-01-31T23:59:59.000000Z",
        "wall_clock_elapsed_s": 0.5,
        "steps_used": 1,
        "tool_calls_used": 1,
        "budgets": {"steps": 9, "tool_calls": 8},
        "artifact_hash": "sha256:ab",
        "action_trace": [
            step(1, {"type": "look", "args": {"at": "/x"}}, {"ok": True, "n": 3}, llm_trace=[call])
        ],
        "error_traceback": 'File "agent.py", line 3, in act\n    return self.a["a"]\n',
        "output": {"agent": "hello\x1b[2J\n", "task": None},
    }


def test_a_story_is_the_task_the_steps_and_the_end(artifact):
    assert story(artifact).splitlines() == [
        "  episode     hidden@1, seed 7",
        "  task        Find the key.",
        "  agent       agents/a.py",
        "  began       2026-01-31T23:59:59.000000Z, and took 500 ms",
        '  step 1      p/m: "what?" gave "that"',
        '              look at="/x"',
        '              ok     {"n":3}  (1.25 ms)',
        "  ended       agent_exception: act (step 2) raised KeyError: 'a'",
        "              after 1 of 9 steps, 1 of 8 tool calls",
        '  traceback   File "agent.py", line 3, in act',
        '                  return self.a["a"]',
        "  agent said  hello\\x1b[2J",
        "  hash        sha256:ab",
    ]


def test_an_episode_without_a_step_has_a_story_too(artifact):
    bare = {**artifact, "action_trace": [], "error_traceback": None, "output": None}
    assert [line.split()[0] for line in story(bare).splitlines()] == [
        *("episode", "agent", "began", "ended", "after", "hash")
    ]


def test_a_success_says_what_the_validator_said(artifact):
    good = {
        **artifact,
        "success": True,
        "termination_reason": "success",
        "failure_reason": None,
        "validator": {"ok": True, "message": "that is it"},
    }
    assert "  ended       success: that is it" in story(good).splitlines()
