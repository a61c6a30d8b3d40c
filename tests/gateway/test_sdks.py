"""Agents on the SDKs themselves, confined, against a stand-in for the models: every form of their
APIs and every way in which a call fails, live, recorded and replayed.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.models import KEY, StandIn, stand_in
from helpers.packages import python_with_packages
from helpers.slices import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SDKS = ("openai", "anthropic")
PAGE = ROOT / "docs" / "real-agents.md"
AGENT = """\
import os, {sdk}

class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): self.step = observation["step"]
    async def act(self):
        try:
            text = getattr(self, f"ask_{{self.step}}")()
            text = text if isinstance(text, str) else await text
        except {sdk}.APIError as error:
            text = type(error).__name__
        return {{"type": "read_file", "args": {{"path": "/app/" + text.strip()}}}}
"""
ASK = """
    {begin} ask_{step}(self):
        {code}
"""
OPENAI = "client = openai.OpenAI(max_retries={retries})\n        "
ASKED = "model='m-1', messages=[{{'role': 'user', 'content': {prompt!r}}}]"
CHAT = OPENAI + "return client.chat.completions.create(" + ASKED + ").choices[0].message.content"
STREAM = (
    OPENAI
    + "chunks = client.chat.completions.create(timeout={timeout}, stream=True, "
    + ASKED
    + ")"
    "\n        return ''.join(c.choices[0].delta.content for c in chunks if c.choices)"
)
RESPONSES = (
    OPENAI + "found = client.responses.create(model='m-1', input={prompt!r}, stream={stream})"
)
MESSAGES = "return anthropic.Anthropic(max_retries=0).messages.create(max_tokens=9, " + ASKED + ")"
TWO = (
    "import asyncio"
    "\n        client = openai.AsyncOpenAI()"
    "\n        asked = [client.responses.create(model='m-1', input=text) for text in 'ab']"
    "\n        return ' '.join([found.output_text for found in await asyncio.gather(*asked)])"
)
# What an agent does in a step, with which prompt; its answer, and how many calls that takes.
STEPS = {
    "chat": (CHAT, "hello", "echo hello", 1),
    "chat_stream": (STREAM, "hello", "echo hello", 1),
    "responses": (RESPONSES + "\n        return found.output_text", "hello", "echo hello", 1),
    "responses_stream": (
        RESPONSES + "\n        texts = [e for e in found if e.type == 'response.output_text.delta']"
        "\n        return ''.join(e.delta for e in texts)",
        "hello", "echo hello", 1,
    ),
    "messages": (MESSAGES + ".content[0].text", "hello", "echo hello", 1),
    "messages_stream": (
        "client = anthropic.Anthropic()"
        "\n        with client.messages.stream(max_tokens=9, " + ASKED + ") as stream:"
        "\n            return ''.join(stream.text_stream)",
        "hello", "echo hello", 1,
    ),
    "two_at_a_time": (TWO, "", "echo a echo b", 2,
    ),
    "left_early": (
        OPENAI + "stream = client.chat.completions.create(stream=True, " + ASKED + ")"
        "\n        return next(iter(stream)).choices[0].delta.content",
        "hello", "echo", 1,
    ),
    "busy": (CHAT, "busy", "echo busy", 2),
    "limited": (CHAT, "status 429", "RateLimitError", 1),
    "broken_model": (CHAT, "status 500", "InternalServerError", 1),
    "broken_messages": (MESSAGES, "status 500", "InternalServerError", 1),
    "broken_line": (CHAT, "break", "APIConnectionError", 1),
    "stalled": (STREAM, "stall", "APITimeoutError", 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def python(pytestconfig: pytest.Config) -> str:
    return python_with_packages(pytestconfig)


@pytest.fixture(scope="module")
def model() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: StandIn) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("sdks")
    rows = []
    for sdk in SDKS:
        text = AGENT.format(sdk=sdk)
        for step, name in enumerate(steps_of(sdk), 1):
            code, prompt, *_ = STEPS[name]
            code = code.format(
                prompt=prompt,
                retries=int(prompt == "busy"),
                timeout=1 if prompt == "stall" else 60,
                stream=name == "responses_stream",
            )
            text += ASK.format(
                begin="async def" if "await" in code else "def", step=step, code=code
            )
        (folder / f"{sdk}_agent.py").write_text(text)
        rows.append({"agent": f"{sdk}_agent.py", "task_ref": "filesystem_hidden_config@1"})
    (folder / "scenario.json").write_text(json.dumps(rows))
    write_models(folder, model)
    return folder


def steps_of(sdk: str) -> list[str]:
    return [name for name, (code, *_) in STEPS.items() if f"{sdk}." in code]


def write_models(folder: pathlib.Path, model: StandIn) -> None:
    table = '[[model]]\nname = "{name}"\nupstream = "{url}"\nkey_env = "REAL_KEY"\n'
    both = (("openai", model.url), ("anthropic", model.url.removesuffix("/v1")))
    (folder / "models.toml").write_text("".join(table.format(name=n, url=u) for n, u in both))


def run(
    python: str, folder: pathlib.Path, how: str, episodes: int, *options: str
) -> tuple[dict[str, dict[str, Any]], subprocess.CompletedProcess[str]]:
    """A slice; its artifacts by agent and seed."""
    words = ["--scenario=scenario.json", "--models=models.toml", f"--model-calls={how}"]
    runs = pathlib.Path(tempfile.mkdtemp(prefix=f"{how}-", dir=folder))
    words += [f"--episodes={episodes}", "--workers=4", f"--runs-dir={runs}", "--strict-spec"]
    command = [python, str(ROOT / "scripts" / "perf_harness.py"), *words, *options]
    environment = {**os.environ, **({} if how == "replay" else {"REAL_KEY": KEY})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found = [json.loads(path.read_text()) for path in runs.glob("*.json")]
    return {f"{one['agent'].removesuffix('.py')} {one['seed']}": one for one in found}, done


Slices = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def slices(python: str, folder: pathlib.Path) -> Slices:
    """The artifacts of a recorded slice, and of its replay, by the agent's SDK."""
    recorded, done = run(python, folder, "record", len(SDKS))
    assert len(recorded) == len(SDKS), done.stderr
    replayed, done = run(python, folder, "replay", len(SDKS))
    assert len(replayed) == len(SDKS), done.stderr
    return recorded, replayed


@pytest.mark.parametrize("name", STEPS)
def test_a_call_by_an_sdk(name: str, slices: Slices) -> None:
    code, _prompt, said, calls = STEPS[name]
    sdk = next(sdk for sdk in SDKS if f"{sdk}." in code)
    place = steps_of(sdk).index(name)
    key = f"{sdk}_agent {SDKS.index(sdk)}"
    recorded, replayed = (one[key]["action_trace"][place] for one in slices)
    assert recorded["action"]["args"] == {"path": f"/app/{said}"}
    assert len(recorded["llm_trace"]) == calls
    assert replayed["llm_trace"] == recorded["llm_trace"]
    if said.startswith("echo ") and calls == 1:
        response = recorded["llm_trace"][0]["response"]
        assert (response["model"], response["tokens_used"]) == ("m-1", 7)
        assert response["completion"].strip() == said


def test_a_replayed_slice_has_the_hashes_of_its_recording(slices: Slices) -> None:
    recorded, replayed = ({key: a["artifact_hash"] for key, a in one.items()} for one in slices)
    assert replayed == recorded


def test_the_key_is_in_no_file_of_a_slice(slices: Slices, folder: pathlib.Path) -> None:
    assert slices
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum("recordings" in path.parts for path in files) == len(SDKS)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_the_page_leads_from_its_agent_to_a_gated_replay(
    python: str, model: StandIn, tmp_path: pathlib.Path
) -> None:
    blocks = re.findall(
        r"```(?:python|toml)\n# (my_agent.py|mine.toml)\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    assert len(blocks) == 2
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    write_models(tmp_path, model)
    more = ("--scenario=mine.toml",)
    before = len(model.seen)
    recorded, first = run(python, tmp_path, "record", 6, *more)
    calls = len(model.seen) - before
    replayed, second = run(python, tmp_path, "replay", 6, "--gate", *more)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert len(recorded) == 6
    assert len(model.seen) == before + calls
    hashes = {name: one["artifact_hash"] for name, one in recorded.items()}
    assert {name: one["artifact_hash"] for name, one in replayed.items()} == hashes
    end = json.loads(first.stdout)
    assert "openai" in end["summary"]["preload"]["my_agent.py"]["packages"]
    assert end["summary"]["models"]["model_calls_total"] == calls
    # Without what was imported beforehand, and spawned, they are the same again.
    for options in (("--start-method=spawn",), ("--confinement=off",)):
        again, _done = run(python, tmp_path, "replay", 2, *options, *more)
        assert {name: one["artifact_hash"] for name, one in again.items()} == {
            name: hashes[name] for name in again
        }
        assert len(again) == 2
