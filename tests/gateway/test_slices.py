"""Slices of agents that call a model, through the gateway and out of recordings."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import slices
from helpers.models import KEY, StandIn, stand_in

from tracecore import descendants

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="needs aiohttp")
LIMITS = {"calls": 2, "wait_s": 60}
AGENT = """\
import json, os, urllib.request


class Agent:
    def reset(self, task_spec): pass

    def observe(self, observation): self.step = observation["step"]

    def act(self):
        prompt = os.path.basename(__file__) + f" in step {self.step}"
        body = {"model": "m-1", "messages": [{"role": "user", "content": prompt}]}
        headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            text = json.load(answer)["choices"][0]["message"]["content"]
        return {"type": "list_dir", "args": {"path": "/app"}} if self.step < 3 else {"type": text}
"""


@pytest.fixture(scope="module")
def model() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


Run = tuple[slices.Done, list[dict[str, Any]]]  # one slice, and its artifacts in order of seeds


@pytest.fixture(scope="module")
def recorded(
    harness_clone: pathlib.Path, model: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, Run]:
    """A folder in which a slice of two rows was recorded, and how that was: of the second row no
    episode may call twice.
    """
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "llm.py").write_text(AGENT)
    row = {"agent": "llm.py", "task_ref": "filesystem_hidden_config@1", "seed": 1}
    (folder / "scenario.json").write_text(json.dumps([row, {**row, "models": LIMITS}]))
    text = f'[[model]]\nname = "openai"\nupstream = "{model.url}"\nkey_env = "REAL_KEY"\n'
    (folder / "models.toml").write_text(text)
    return folder, run(harness_clone, folder, "record")


@pytest.fixture(scope="module")
def replayed(harness_clone: pathlib.Path, recorded: tuple[pathlib.Path, Run]) -> Run:
    """The same, out of its recordings."""
    return run(harness_clone, recorded[0], "replay")


@pytest.fixture
def folder(recorded: tuple[pathlib.Path, Run], tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the folder for one test alone, without the artifacts."""
    skip = shutil.ignore_patterns("record", "replay")
    return shutil.copytree(recorded[0], tmp_path / "copy", ignore=skip)


def run(clone: pathlib.Path, folder: pathlib.Path, how: str, *options: str) -> Run:
    words = ("--scenario", "scenario.json", "--models", "models.toml", "--model-calls", how)
    more = ("--episodes", "4", "--strict-spec", "--runs-dir", how, *options)
    done = slices.run(clone, folder, *words, *more, env={**os.environ, "REAL_KEY": KEY})
    found = [json.loads(path.read_text()) for path in (folder / how).glob("*.json")]
    return done, sorted(found, key=lambda artifact: artifact["seed"])


def test_a_recorded_slice_has_the_same_hashes_replayed_and_the_key_is_nowhere(
    recorded: tuple[pathlib.Path, Run], replayed: Run, model: StandIn
) -> None:
    folder, (done, first) = recorded
    again, second = replayed
    assert (done.exit_code, again.exit_code) == (1, 1), done.stderr
    calls = [body["messages"][-1]["content"] for _, _, body in model.seen]
    assert sorted(calls)[:8] == sorted(f"llm.py in step {step}" for step in (1, 2) for _ in "abcd")
    assert [one["artifact_hash"] for one in second] == [one["artifact_hash"] for one in first]
    step = first[0]["action_trace"][0]["llm_trace"][0]
    assert step["response"]["completion"] == "echo llm.py in step 1"
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stderr + json.dumps(done.document)


def test_what_models_cost_is_counted_apart_and_limited(
    recorded: tuple[pathlib.Path, Run],
) -> None:
    folder, (done, found) = recorded
    ends = [(one["termination_reason"], one["steps_used"]) for one in found]
    assert ends == [("invalid_action", 3), ("agent_exception", 2)] * 2
    series, metrics = (
        json.loads(pathlib.Path(folder, done.document["artifacts"][name]).read_text())
        for name in ("series", "metrics")
    )
    assert [row["model_calls"] for row in series] == [3] * 4
    assert all(row["model_wait_s"] > 0 for row in series)
    assert [row.get("model_limits") for row in series] == [None, LIMITS] * 2
    figures = done.document["summary"]["models"]
    assert figures["model_calls_total"] == 12
    assert figures["model_bytes_total"] == sum(one["model_bytes"] for one in series) > 100
    assert 0 < figures["p50_computing_s"] < max(row["wall_clock_s"] for row in series)
    assert figures.items() <= metrics[0].items()


def test_one_episode_is_repeated_out_of_its_recordings_with_its_limits(
    recorded: tuple[pathlib.Path, Run], replayed: Run
) -> None:
    folder, (_, found) = recorded
    hashes = {artifact["seed"]: artifact["artifact_hash"] for artifact in found}
    lines = [line.partition("again: ")[2] for line in replayed[0].stderr.splitlines()]
    words = shlex.split(next(line for line in lines if "--model-limits" in line))
    assert words[-2:] == ["--model-limits", "calls=2,wait_s=60"]
    done = subprocess.run(
        [*words, "--json"], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 1, done.stderr
    episode = json.loads(done.stdout)["episode"]
    assert episode["artifact_hash"] == hashes[episode["seed"]]
    artifact = folder / "replay" / f"{replayed[1][1]['run_id']}.json"
    options = ("--models", "models.toml", "--model-calls", "replay")
    command_words = words[: words.index("run")]
    done = subprocess.run(
        [*command_words, "replay", str(artifact), *options, *words[-2:]],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_prompt_ends_a_replayed_episode_with_the_difference(
    harness_clone: pathlib.Path, folder: pathlib.Path
) -> None:
    (folder / "llm.py").write_text(AGENT.replace(" in step", " at step"))
    options = ("--start-method", "spawn", "--episodes", "1")
    done, (artifact,) = run(harness_clone, folder, "replay", *options)

    assert done.exit_code == 1
    assert artifact["termination_reason"] == "model_call_unrecorded"
    assert artifact["failure_reason"] == (
        'model call 1: body.messages[0].content: found "llm.py at step 1",'
        ' recorded "llm.py in step 1"'
    )


def test_no_process_but_the_harness_and_its_gateway_holds_the_key_and_nothing_stays_of_them(
    harness_clone: pathlib.Path, folder: pathlib.Path, model: StandIn
) -> None:
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="gateway-"))
    model.go_on.clear()  # the agents wait meanwhile
    seen = len(model.seen)
    words = ("--scenario", "scenario.json", "--models", "models.toml", "--episodes", "2")
    env = {**os.environ, "REAL_KEY": KEY, "TMPDIR": str(scratch)}
    running = slices.start(harness_clone, folder, *words, env=env)
    try:
        slices.wait_until(lambda: len(model.seen) >= seen + 2)
        below = descendants.tree_below(descendants.children_of(running.process.pid))
        held = {pid: memory_of(pid) for pid in below}
        assert list(scratch.glob("tracecore-gateway-*"))
    finally:
        running.kill()
        model.go_on.set()
    slices.wait_until(lambda: not list(scratch.iterdir()))
    scratch.rmdir()
    read = [pid for pid, memory in held.items() if len(memory) > 1 << 20]
    if os.geteuid():
        pytest.skip("the memory of agents can be read by root alone")
    assert len(read) >= 6  # workers, nurseries, zygotes, episodes, agents
    assert sum(KEY.encode() in memory for memory in held.values()) == 1


def memory_of(pid: int) -> bytes:
    """All that a process can write to, with its command line and its environment."""
    parts: list[bytes] = []
    folder = pathlib.Path("/proc", str(pid))
    with contextlib.suppress(OSError):  # it has ended
        parts += [(folder / name).read_bytes() for name in ("cmdline", "environ")]
        with (folder / "mem").open("rb", 0) as memory:
            for line in (folder / "maps").read_text().splitlines():
                span, rights, *_ = line.split()
                begin, end = (int(place, 16) for place in span.split("-"))
                if rights.startswith("rw"):
                    memory.seek(begin)
                    parts.append(memory.read(end - begin))
    return b"".join(parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model-calls", "replay"), "--model-calls: found 'replay', expected --models with it"),
        (("--models", "models.toml"), "openai: key_env: found 'REAL_KEY', expected a variable"),
        (("--models", "none.toml"), "none.toml: found"),
        (
            ("--models", "models.toml", "--cluster", "local:1"),
            "--models: found 'models.toml', expected no",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    folder: pathlib.Path, options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = slices.call(*options)
    assert done.exit_code == 2
    assert words in done.document["error"]
