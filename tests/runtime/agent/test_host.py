"""The agent's side of a question, without a process around it."""

import json
import os
import pathlib
import sys
import textwrap
from typing import Any

import pytest

from tracecore import canon
from tracecore.runtime.agent.agent import compile_agent, execute_agent
from tracecore.runtime.agent.host import AgentHost

LIMIT = 1 << 20
HEAD = "class Agent:\n    def reset(self, spec): pass\n    def observe(self, seen): pass\n"


def make_host(tmp_path: pathlib.Path, source: str, limit: int = LIMIT) -> AgentHost:

    path = tmp_path / "some" / "agent.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    code = compile_agent(str(path), canon.sha256(source.encode()))
    return AgentHost(lambda: execute_agent(code, str(path)), limit, str(path))


def answers(host: AgentHost, steps: int = 1) -> list[Any]:
    return [json.loads(host.reset({})), *(json.loads(host.step({"n": n})) for n in range(steps))]


def act(body: str) -> str:
    return HEAD + "    def act(self):\n" + textwrap.indent(body, " " * 8) + "\n"


def test_an_exception_leaves_its_own_frames_with_paths_relative_to_the_agents_folder(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "helping.py").write_text("def help():\n    return {}['key']\n")
    host = make_host(tmp_path, act("import helping, json\nreturn helping.help()"))
    raised = answers(host)[1]["raised"]
    assert (raised["where"], raised["type"], raised["message"]) == ("act", "KeyError", "'key'")
    assert raised["traceback"] == (
        "Traceback (most recent call last):\n"
        '  File "agent.py", line 6, in act\n'
        "    return helping.help()\n"
        '  File "helping.py", line 2, in help\n'
        "    return {}['key']\n"
        "KeyError: 'key'"
    )
    del sys.modules["helping"]


def test_a_traceback_has_at_most_twenty_frames_and_4000_characters(tmp_path):
    long = "x = '" + "y" * 500 + "'"
    host = make_host(
        tmp_path,
        act("return self.deep(50)\n").replace("deep(50)", "deep(50)")
        + f"    def deep(self, n): return 1 / n if n == 0 else self.deep(n - 1) # {long}\n",
    )
    text = answers(host)[1]["raised"]["traceback"]
    assert 10 < text.count("  File ") <= 20
    assert len(text) <= 4000
    assert text.endswith("ZeroDivisionError: division by zero")


def test_a_traceback_that_does_not_fit_into_an_answer_is_left_away(tmp_path):
    host = make_host(tmp_path, act("raise ValueError('é' * 400)"), limit=1300)
    (raised,) = [answer["raised"] for answer in answers(host)[1:]]
    assert raised["type"] == "ValueError"
    assert "traceback" not in raised


def test_where_an_agent_lies_shows_in_no_word(tmp_path):
    body = "open(__file__.replace('agent.py', 'missing.py'))"
    found = []
    for folder in ("here", "some/where/else"):
        (tmp_path / folder).mkdir(parents=True)
        found.append(answers(make_host(tmp_path / folder, act(body)))[1]["raised"])
    assert found[0] == found[1]
    assert found[0]["message"] == "[Errno 2] No such file or directory: 'missing.py'"


@pytest.mark.parametrize(
    "body",
    [
        "return {'type': 'x', 'args': {'list': list(range(10_000_000))}}",
        "return {'type': 'x' * (300 << 20)}",
        "return list(range(10_000_000))",
        "self.llm_trace = ['x' * (300 << 20)]\nreturn {'type': 'x'}",
        "x = ['y'] * 10\nfor _ in range(40): x = [x] * 10\nreturn {'type': x}",
        "return {'type': {str(n): n for n in range(20_000)}}",
    ],
)
def test_a_huge_action_is_refused_without_being_encoded(tmp_path, monkeypatch, body):

    sizes: list[int] = []

    def encode(value: Any, level: int, chunks: Any = canon._chunks) -> Any:
        text = "".join(chunks(value, level))
        sizes.append(len(text))
        return (text,)

    monkeypatch.setattr(canon, "_chunks", encode)
    invalid = answers(make_host(tmp_path, act(body)))[1]["invalid"]
    assert invalid["reason"] == "action_too_large"
    assert "which is the limit" in invalid["why"]
    assert len(invalid["repr"]) <= 200
    assert max(sizes) < 10_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("x = []\nx.append(x)\nreturn {'type': x}", "action_not_json"),
        ("return {'type': {1, 2}}", "action_not_json"),
        ("return {'type': float('nan')}", "action_not_json"),
        ("return 7", "action_must_be_dict"),
        ("return {'type': 'é' * 600_000}", "action_too_large"),
    ],
)
def test_what_is_no_action_is_told_from_what_is_too_large(tmp_path, body, reason):
    assert answers(make_host(tmp_path, act(body)))[1]["invalid"]["reason"] == reason


ASYNC = """
import asyncio

class Agent:
    def __init__(self):
        self.seen = []

    async def reset(self, spec):
        self.loop = asyncio.get_running_loop()
        self.behind = asyncio.create_task(self.watch())

    async def watch(self):
        while True:
            await asyncio.sleep(0)
            self.seen.append("tick")

    async def observe(self, seen):
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop

    async def act(self):
        first, second = await asyncio.gather(self.ask(1), self.ask(2))
        if self.seen.count("tick") > 1_000:
            raise ValueError("too long")
        return {"type": "sum", "args": {"n": first + second, "ticks": bool(self.seen)}}

    async def ask(self, n):
        await asyncio.sleep(0.001)
        return n
"""


def test_an_async_agent_runs_on_one_loop_of_its_own(tmp_path):
    host = make_host(tmp_path, ASYNC)
    reset, *steps = answers(host, steps=2)
    assert reset == {"did": {}}
    assert [step["did"]["action"] for step in steps] == [
        {"type": "sum", "args": {"n": 3, "ticks": True}}
    ] * 2
    host._loop.close()


def test_what_an_async_agent_raises_is_its_own_exception(tmp_path):
    source = HEAD + "    async def act(self):\n        raise KeyError('key')\n"
    host = make_host(tmp_path, source)
    raised = answers(host)[1]["raised"]
    assert (raised["where"], raised["type"]) == ("act", "KeyError")
    assert '  File "agent.py", line 5, in act' in raised["traceback"]
    host._loop.close()


def test_no_agent_pays_for_asyncio_that_does_not_use_it() -> None:
    command = "import sys, tracecore.runtime.agent.host; print('asyncio' in sys.modules)"
    with os.popen(f'{sys.executable} -c "{command}"') as pipe:
        assert pipe.read() == "False\n"
