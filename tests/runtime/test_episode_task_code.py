"""What actions and validators of a task may give, and how an episode ends by what they do."""

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

MUTE = "type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})"
NO_REPR = "type('Mute', (), {'__repr__': lambda self: 1 / 0})()"
ODD_TEXT = "type('Text', (str,), {'__len__': lambda self: 1 / 0})('odd')"
NO_VERDICT = "not a dict with a bool ok"


@pytest.mark.parametrize(
    ("body", "words"),
    rows(rf"""
    raise ValueError('no')           | ValueError: no
    raise SystemExit                 | SystemExit
    raise BaseException('no')        | BaseException: no
    raise ValueError(object())       | ValueError: <object object at 0x…>
    raise {MUTE}                     | Mute: (its message cannot
    return {{1, 2}}                  | TypeError
    return float('nan')              | ValueError
    return object()                  | TypeError
    x = []; x.append(x); return x    | ValueError
    return 10 ** 5000                | ValueError
    return {{'a': 1, 2: 3}}          | TypeError
    sink = lambda: sink(); sink()    | RecursionError
    """),
)
def test_an_action_that_raises_or_gives_no_json_ends_the_episode_and_has_an_entry(
    artifact_of: Run, body, words
):
    artifact = artifact_of(Plan(LOOK, ACT), actions=action_code(body))
    assert end_of(artifact) == ("action_exception", "invalid_action", 2, 2)
    assert f"action act raised {words}" in artifact["failure_reason"]
    entry = artifact["action_trace"][1]
    assert (entry["action"], entry["result"]) == (ACT, None)
    assert entry["budget_delta"] == {"steps": 1, "tool_calls": 1}
    assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]


@pytest.mark.parametrize("is_debugged", [False, True])
def test_what_task_code_prints_is_kept_and_when_it_is_debugged_is_seen_at_once(
    artifact_of: Run, capsys, is_debugged
):
    actions = action_code("print('here'); raise ValueError('no')")
    artifact = artifact_of(Plan(ACT), actions=actions, is_debugged=is_debugged)
    seen = capsys.readouterr()
    assert artifact["output"] == (None if is_debugged else {"agent": None, "task": "here\n"})
    assert seen.out == ("here\n" if is_debugged else "")
    assert ("ValueError: no" in seen.err) is is_debugged
    assert "raise ValueError('no')" in artifact["error_traceback"]


def test_what_a_task_changes_later_does_not_change_the_trace(artifact_of: Run):
    code = """
KEPT = []
def keep(items):
    result = {'items': items, 'own': [1]}
    KEPT.append((items, result))
    return result
def spoil():
    for items, result in KEPT:
        items.clear()
        result.clear()
    return list(KEPT)
"""
    keep = {"type": "keep", "args": {"items": [1, 2]}}
    agent = Plan(keep, {"type": "spoil"}, FINISH)
    artifact = artifact_of(agent, actions=ACTIONS + code)
    first, second, _ = artifact["action_trace"]
    assert (first["action"], first["result"]) == (keep, {"items": [1, 2], "own": [1]})
    assert second["observation"]["last_action"] == agent.observations[1]["last_action"] == keep
    assert second["observation"]["last_action_result"] == {"items": [1, 2], "own": [1]}


# --- the validator ---


def test_the_validator_is_asked_after_each_action_and_its_last_verdict_is_kept(artifact_of: Run):
    verdict = "{'ok': len(N) == 3, 'message': f'call {len(N)}', 'x': N}"
    code = f"N = []\ndef validate(env):\n    N.append(1)\n    return {verdict}\n"
    artifact = artifact_of(Plan(LOOK), validate=code)
    assert end_of(artifact) == ("success", None, 3, 3)
    assert artifact["validator"] == {"ok": True, "message": "call 3"}


def test_a_validator_that_is_not_satisfied_lets_the_episode_go_on(artifact_of: Run):
    verdict = {"ok": False, "terminal": False, "termination_reason": "gave_up", "error": "not yet"}
    artifact = artifact_of(
        Plan(LOOK), validate=validator_code(f"return {verdict}"), edit=budgets(2, 4)
    )
    assert end_of(artifact) == ("steps_exhausted", "budget_exhausted", 2, 2)
    assert artifact["validator"] == verdict


@pytest.mark.parametrize(
    ("verdict", "reason", "failure_type", "words"),
    rows(f"""
    'x': 0 | logic_failure | logic_failure | the validator ended the episode
    'termination_reason': 'gave_up', 'failure_type': 'non_termination', 'failure_reason': 'why', \
        'error': 'e' | gave_up | non_termination | why
    'termination_reason': 'gave_up', 'error': 'e', 'message': 'm' | gave_up | logic_failure | e
    'failure_type': 'sandbox_violation', 'message': 'm' | sandbox_violation | sandbox_violation | m
    'failure_type': 'budget_exhausted' | budget_exhausted | budget_exhausted | the validator ended
    'failure_type': 'nonsense' | logic_failure | logic_failure | the validator ended
    'termination_reason': 'gave_up', 'failure_type': 'nonsense' | gave_up | logic_failure | the
    'termination_reason': 'timeout', 'failure_type': 'logic_failure' | timeout | timeout | the
    'termination_reason': 'success', 'failure_type': 'timeout' | logic_failure | logic_failure | the
    'termination_reason': '', 'failure_reason': None | logic_failure | logic_failure | the validator
    'termination_reason': 7, 'failure_reason': ['a', 1] | 7 | logic_failure | ['a', 1]
    'failure_reason': object() | logic_failure | logic_failure | <object object at 0x…>
    'failure_reason': 'x' * 10**6 | logic_failure | logic_failure | xxx
    'failure_reason': {ODD_TEXT} | logic_failure | logic_failure | odd
    """),
)
def test_a_terminal_verdict_ends_the_episode_for_its_own_reasons(
    artifact_of: Run, verdict, reason, failure_type, words
):
    code = validator_code(f"return {{'ok': False, 'terminal': True, {verdict}}}")
    artifact = artifact_of(Plan(LOOK), validate=code)
    assert end_of(artifact) == (reason, failure_type, 1, 1)
    assert words in artifact["failure_reason"]
    assert artifact["validator"]["terminal"] is True
    assert not artifact["success"]


@pytest.mark.parametrize("terminal", ["1", "'yes'", "None", "[1]", "object()"])
def test_terminal_is_true_or_nothing(artifact_of: Run, terminal):
    code = validator_code(f"return {{'ok': False, 'terminal': {terminal}}}")
    artifact = artifact_of(Plan(LOOK), validate=code, edit=budgets(1, 4))
    assert artifact["termination_reason"] == "steps_exhausted"
    assert artifact["validator"] == {"ok": False}


def test_ok_wins_over_terminal(artifact_of: Run):
    verdict = {"ok": True, "terminal": True, "termination_reason": "x", "failure_type": "timeout"}
    artifact = artifact_of(Plan(LOOK), validate=validator_code(f"return {verdict}"))
    assert end_of(artifact) == ("success", None, 1, 1)
    assert artifact["failure_reason"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    rows(f"""
    return None                  | validate gave None, {NO_VERDICT}
    return {{}}                  | validate gave {{}}, {NO_VERDICT}
    return {{'ok': 1}}           | validate gave {{'ok': 1}}, {NO_VERDICT}
    return [('ok', True)]        | {NO_VERDICT}
    return 'x' * 10**6           | {NO_VERDICT}
    return object()              | validate gave <object object at 0x…>, not
    raise ValueError('no')       | validate raised ValueError: no
    env.read_file('/etc/passwd') | validate raised SandboxViolation
    raise SystemExit(0)          | validate raised SystemExit
    return {NO_REPR}             | validate raised ZeroDivisionError
    return {{'ok': False, 'error': {NO_REPR}}} | validate raised ZeroDivisionError
    return type('Liar', (dict,), {{'__getitem__': lambda *a: 1 / 0}})(ok=True) | ZeroDivisionError
    """),
)
def test_a_validator_that_raises_or_gives_no_verdict_ends_the_episode_with_its_trace(
    artifact_of: Run, body, words
):
    artifact = artifact_of(Plan(LOOK), validate=validator_code(body))
    assert end_of(artifact) == ("validator_exception", "logic_failure", 1, 1)
    assert words in artifact["failure_reason"]
    assert artifact["validator"] == {}
    assert artifact["action_trace"][0]["result"] == {"there": True}


@pytest.mark.parametrize("below", [0, 300])
def test_task_code_may_call_as_deep_whatever_stands_below_it(artifact_of: Run, below: int):
    dig = "def dig(n=0):\n    return 1 + dig(n - 1) if n else 1\n"

    def at(depth: int, dug: int):
        if depth:
            return at(depth - 1, dug)
        return artifact_of(Plan(ACT, FINISH), actions=action_code(f"return dig({dug})") + dig)

    assert at(below, 960)["success"]
    assert "RecursionError" in at(0, 1_010)["failure_reason"]
