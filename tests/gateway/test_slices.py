"""Slices of agents that call a model, through the gateway and out of recordings."""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import slices
from helpers.models import KEY, StandIn, stand_in

pytest.importorskip("aiohttp")
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
    """A folder in which a slice was recorded, and how that was."""
    folder = write_folder(tmp_path_factory.mktemp("recorded"), model)
    return folder, run(harness_clone, folder, "record")


@pytest.fixture
def folder(recorded: tuple[pathlib.Path, Run], tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it for one test alone."""
    return shutil.copytree(recorded[0], tmp_path / "copy")


def write_folder(folder: pathlib.Path, model: StandIn) -> pathlib.Path:
    (folder / "llm.py").write_text(AGENT)
    row = {"agent": "llm.py", "task_ref": "filesystem_hidden_config@1", "seed": 1}
    (folder / "scenario.json").write_text(json.dumps([row]))
    text = f'[[model]]\nname = "openai"\nupstream = "{model.url}"\nkey_env = "REAL_KEY"\n'
    (folder / "models.toml").write_text(text)
    return folder


def run(clone: pathlib.Path, folder: pathlib.Path, how: str, *options: str) -> Run:
    words = ("--scenario", "scenario.json", "--models", "models.toml", "--model-calls", how)
    more = ("--episodes", "3", "--strict-spec", "--runs-dir", how, *options)
    done = slices.run(clone, folder, *words, *more, env={**os.environ, "REAL_KEY": KEY})
    found = [json.loads(path.read_text()) for path in (folder / how).glob("*.json")]
    return done, sorted(found, key=lambda artifact: artifact["seed"])


def test_a_recorded_slice_has_the_same_hashes_replayed_and_the_key_is_nowhere(
    harness_clone: pathlib.Path,
    folder: pathlib.Path,
    recorded: tuple[pathlib.Path, Run],
    model: StandIn,
) -> None:
    done, first = recorded[1]
    calls = len(model.seen)
    replayed, again = run(harness_clone, folder, "replay")

    assert (done.exit_code, replayed.exit_code) == (1, 1), done.stderr
    assert len(model.seen) == calls
    assert calls >= 9
    assert [one["artifact_hash"] for one in again] == [one["artifact_hash"] for one in first]
    step = first[0]["action_trace"][0]["llm_trace"][0]
    assert step["response"]["completion"] == "echo llm.py in step 1"
    assert {one["termination_reason"] for one in first} == {"invalid_action"}
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.stderr + json.dumps(done.document)
    series = json.loads(pathlib.Path(folder, done.document["artifacts"]["series"]).read_text())
    assert [row["model_calls"] for row in series] == [3, 3, 3]
    assert all(row["model_wait_s"] > 0 for row in series)


def test_a_changed_prompt_ends_a_replayed_episode_with_the_difference(
    harness_clone: pathlib.Path, folder: pathlib.Path
) -> None:
    (folder / "llm.py").write_text(AGENT.replace(" in step", " at step"))
    replayed, found = run(harness_clone, folder, "replay", "--start-method", "spawn")

    assert replayed.exit_code == 1
    assert {one["termination_reason"] for one in found} == {"model_call_unrecorded"}
    assert found[0]["failure_reason"] == (
        'model call 1: body.messages[0].content: found "llm.py at step 1",'
        ' recorded "llm.py in step 1"'
    )


def test_the_command_of_a_failure_replays_its_episode_alone(
    harness_clone: pathlib.Path, folder: pathlib.Path
) -> None:
    replayed, found = run(harness_clone, folder, "replay")
    command = next(line for line in replayed.stderr.splitlines() if "again: " in line)
    words = shlex.split(command.partition("again: ")[2])
    done = subprocess.run(
        [*words, "--json"], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 1, done.stderr
    hashes = {artifact["seed"]: artifact["artifact_hash"] for artifact in found}
    episode = json.loads(done.stdout)["episode"]
    assert episode["artifact_hash"] == hashes[episode["seed"]]


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
