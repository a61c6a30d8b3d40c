"""A small world, and agents that follow a plan in it: what tests of one episode are made of."""

import json
from collections.abc import Callable
from typing import Any

from tracecore import canon
from tracecore.records import JsonObject

ACTIONS = """\
def set_env(env):
    global ENV
    ENV = env
    env.exists('/app/from_set_env')

def look(path='/app/seed'):
    return {'there': ENV.exists(path)}

def read(path):
    return ENV.read_file(path)

def list_dir(path='/app'):
    return {'ok': True, 'files': ENV.list_dir(path)}

def finish():
    ENV.set_agent_output('done', True)
    return {'ok': True}
"""
VALIDATE = """\
def validate(env):
    env.exists('/app/from_validate')
    return {'ok': env.get_agent_output('done') is True}
"""
LOOK: JsonObject = {"type": "look"}
FINISH: JsonObject = {"type": "finish", "args": {}}
ACT: JsonObject = {"type": "act"}  # what action_code() defines
Run = Callable[..., JsonObject]


class Plan:
    """An agent that gives the listed answers, the last one for ever; an answer that is an exception
    is raised.
    """

    def __init__(
        self, *answers: Any, llm_trace: Any = None, at_reset: Exception | None = None
    ) -> None:
        self.answers, self.llm_trace, self.at_reset = answers, llm_trace, at_reset
        self.task_spec: JsonObject | None = None
        self.observations: list[JsonObject] = []
        self.closed = 0

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        del deadline_s
        self.task_spec = json.loads(canon.encode(task_spec))
        if self.at_reset:
            raise self.at_reset

    def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
        del deadline_s
        self.observations.append(canon.decode(observation))
        answer = self.answers[min(len(self.observations), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return canon.decode(canon.encode(answer)), self.llm_trace

    def close(self) -> str | None:
        self.closed += 1
        return None


def budgets(steps: int, tool_calls: int) -> Callable[[str], str]:
    """An edit of the manifest."""
    return lambda text: text.replace("steps = 5", f"steps = {steps}").replace(
        "tool_calls = 4", f"tool_calls = {tool_calls}"
    )


def end_of(artifact: JsonObject) -> tuple[str, str | None, int, int]:
    """Reason, failure type, steps and tool calls used."""
    names = ("termination_reason", "failure_type", "steps_used", "tool_calls_used")
    return tuple(artifact[name] for name in names)  # type: ignore[return-value]


def action_code(body: str) -> str:
    """The world's actions, and one that does ``body``."""
    return ACTIONS + f"\ndef act(*, n=0):\n    {body}\n"


def validator_code(body: str) -> str:
    return f"def validate(env):\n    {body}\n"
