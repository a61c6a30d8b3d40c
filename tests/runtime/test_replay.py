import copy
import json
import os
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import canon
from tracecore.errors import MISSING, InputError
from tracecore.records import Job, JsonObject, Settings
from tracecore.runtime import replay
from tracecore.runtime.artifact import artifact_hash, trace_hash
from tracecore.runtime.job import run_job_in_process
from tracecore.runtime.replay import Difference, first_difference, read_artifact
from tracecore.runtime.task.catalog import find_agent, find_task

Place = tuple[str | int, ...]


def run(folder: pathlib.Path) -> pathlib.Path:
    """An episode with model calls, listings and files; gives its artifact's file."""
    job = Job(
        index=0,
        run_id=os.urandom(16).hex(),
        agent=find_agent("agents/scripted_llm_agent.py"),
        task=find_task("filesystem_hidden_config@1"),
        seed=42,
        settings=Settings(runs_dir=str(folder)),
    )
    return folder / str(run_job_in_process(job).artifact)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def artifact(file: pathlib.Path) -> JsonObject:
    return json.loads(file.read_bytes())


def changed(artifact: JsonObject, place: Place, value: Any) -> JsonObject:
    """A copy that holds ``value`` at ``place``, or lacks it for MISSING, with the hashes that
    belong to it.
    """
    copied = copy.deepcopy(artifact)
    target = copied
    for key in place[:-1]:
        target = target[key]
    if value is MISSING:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return sealed(copied)


def sealed(artifact: JsonObject) -> JsonObject:
    return artifact | {"trace_hash": trace_hash(artifact), "artifact_hash": artifact_hash(artifact)}


def leaves(value: Any, place: Place = ()) -> list[Place]:
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [found for key, child in children for found in leaves(child, (*place, key))] or [place]


# --- comparing ---


def test_two_runs_of_one_episode_do_not_differ(
    artifact: JsonObject, tmp_path: pathlib.Path
) -> None:
    again = json.loads(run(tmp_path).read_bytes())
    assert again["run_id"] != artifact["run_id"]
    assert first_difference(artifact, again) is None


def test_the_first_step_that_differs_is_given_with_the_path_in_it(artifact: JsonObject) -> None:
    place = ("action_trace", 2, "result", "files")
    files = artifact["action_trace"][2]["result"]["files"]
    new = changed(artifact, place, ["/app/x", *files])
    new["action_trace"][3]["observation"] = {}
    assert first_difference(artifact, new) == Difference(3, "result.files[0]", files[0], "/app/x")


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (["result", "observation", "budget_after_step"], "observation"),
        (["io_audit", "result", "action"], "action"),
        (["telemetry", "result"], "result"),
        (["action", "llm_trace"], "llm_trace"),
    ],
)
def test_within_a_step_the_cause_is_told_before_what_follows_from_it(
    artifact: JsonObject, parts, field
) -> None:
    new = copy.deepcopy(artifact)
    for part in parts:
        new["action_trace"][0][part] = (
            {"x": 1} if part != "telemetry" else {"action_metrics": {"error": "x"}}
        )
        if part == "llm_trace":
            new["action_trace"][0][part] = []
    found = first_difference(artifact, new)
    assert found is not None
    assert found.step == 1
    assert found.field.partition(".")[0].partition("[")[0] == field


def test_a_run_that_goes_on_longer_has_a_step_where_the_other_has_nothing(
    artifact: JsonObject,
) -> None:
    short = changed(artifact, ("action_trace", -1), MISSING)
    count, last = len(artifact["action_trace"]), artifact["action_trace"][-1]
    assert first_difference(short, artifact) == Difference(count, "", MISSING, last)
    assert first_difference(artifact, short) == Difference(count, "", last, MISSING)


def test_the_trace_comes_before_what_stands_outside_it(artifact: JsonObject) -> None:
    new = changed(artifact, ("agent_hash",), "sha256:" + "0" * 64)
    found = first_difference(artifact, new)
    assert (found.step, found.field) == (None, "agent_hash")
    new["action_trace"][1]["action"]["type"] = "x"
    found = first_difference(artifact, new)
    assert (found.step, found.field, found.new) == (2, "action.type", "x")


@pytest.mark.parametrize(
    "place",
    [("runtime_identity", "git_sha"), ("runtime_identity", "version"), ("harness_version",)],
)
def test_the_runtime_is_named_only_where_nothing_else_differs(
    artifact: JsonObject, place: Place
) -> None:
    new = changed(artifact, place, "another")
    assert first_difference(artifact, new).is_runtime_alone
    assert artifact["trace_hash"] == new["trace_hash"]
    found = first_difference(artifact, changed(new, ("validator", "message"), "another"))
    assert (found.is_runtime_alone, found.field) == (False, "validator.message")
    of_a_step = changed(artifact, ("action_trace", 0, *place[:1]), "another")
    assert not first_difference(artifact, of_a_step).is_runtime_alone


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), ({}, []), (None, "null"), ("1", 1)],
)
def test_what_is_equal_to_python_and_not_to_json_differs(
    artifact: JsonObject, old: Any, new: Any
) -> None:
    place = ("action_trace", 0, "result", "x")
    found = first_difference(changed(artifact, place, old), changed(artifact, place, new))
    assert (found.field, found.old, found.new) == ("result.x", old, new)


def test_values_nested_as_deeply_as_json_is_read_are_compared(artifact: JsonObject) -> None:
    deep, other = (json.loads("[" * 900 + text + "]" * 900) for text in ("1", "2"))
    place = ("action_trace", 0, "result", "x")
    found = first_difference(changed(artifact, place, deep), changed(artifact, place, other))
    assert found == Difference(1, "result.x" + "[0]" * 900, 1, 2)


@given(data=st.data())
def test_there_is_a_difference_exactly_when_the_artifact_hashes_differ(
    artifact: JsonObject, data: st.DataObject
) -> None:
    places = [
        place for place in leaves(artifact) if place[0] not in {"artifact_hash", "trace_hash"}
    ]
    place = data.draw(st.sampled_from(places))
    value = data.draw(st.sampled_from([None, True, -1, 0, 1, 0.0, -0.0, 1.0, "", "x"]))
    new = changed(artifact, place, value)
    found = first_difference(artifact, new)
    assert (found is None) == (artifact["artifact_hash"] == new["artifact_hash"])
    if found is not None:
        assert canon.encode(found.old) != canon.encode(found.new)


# --- reading ---


def read(folder: pathlib.Path, data: bytes | str) -> tuple[JsonObject, list[str]]:
    path = folder / "a.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_artifact(str(path))


def test_it_is_its_values_that_count_and_not_how_they_are_laid_out(
    file: pathlib.Path, artifact: JsonObject, tmp_path: pathlib.Path
) -> None:
    assert read_artifact(str(file)) == (artifact, [])
    assert read(tmp_path, json.dumps(artifact, indent=3)) == (artifact, [])


def test_both_hashes_are_computed_again_and_each_field_held_against_the_schema(
    artifact: JsonObject, tmp_path: pathlib.Path
) -> None:
    nothing, problems = read(tmp_path, json.dumps({**artifact, "steps_used": 0}))
    assert nothing == {}
    assert [line.partition(":")[0] for line in problems] == ["$.artifact_hash", "$.trace_hash"]
    assert artifact["artifact_hash"] in problems[0]
    assert problems[0].endswith("the hash of what it holds")
    assert read(tmp_path, json.dumps({**artifact, "seed": "x", "success": 1})) == (
        {},
        ["$.seed: found 'x', expected an integer", "$.success: found 1, expected true or false"],
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON (Expecting value"),
        (b'{"a":1', "no JSON (Expecting ',' delimiter"),
        (b"{} {}", "no JSON (Extra data"),
        (b"\xef\xbb\xbf{}", "no JSON (byte 0: a byte order mark"),
        (b'{"a":"\xff"}', "no JSON (byte 6: b'\\xff')"),
        (b'{"a":{"b":1,"c":2,"b":3}}', "no JSON (b: this key twice)"),
        (b'{"a":NaN}', "no JSON (NaN)"),
        (b'{"a":1e999}', "no JSON (1e999)"),
        (b"9" * 5000, "no JSON (a number of thousands of digits"),
        (b"[" * 100_000, "no JSON (very deep nesting"),
        (b"[]", "an array, expected an object"),
    ],
)
def test_what_is_no_artifact_at_all_is_one_problem(
    data: bytes, words: str, tmp_path: pathlib.Path
) -> None:
    nothing, (problem,) = read(tmp_path, data)
    assert nothing == {}
    assert problem.removeprefix("$: ").startswith(f"found {words}")


@pytest.mark.parametrize("name", ["nowhere", "", "pipe", "huge", "a\0b"])
def test_a_file_that_cannot_be_read_is_an_input_error(name: str, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(replay.FILE_BYTES_MOST + 1)
    with pytest.raises(InputError, match=r"at most (64 MiB that can be read|67108864 bytes)"):
        read_artifact(f"{tmp_path}/{name}")
