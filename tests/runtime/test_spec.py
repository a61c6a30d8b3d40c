import copy
import importlib.resources
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tracecore.runtime import spec
from tracecore.runtime.endings import FAILURE_TYPE_OF, FAILURE_TYPES

SCHEMA = json.loads(
    importlib.resources.files("tracecore")
    .joinpath("schema/run-artifact.schema.json")
    .read_text("utf-8")
)
JUDGE = Draft202012Validator(SCHEMA)
PROBLEM = re.compile(r"\$(\.[a-z_]+|\[[0-9]+\]|\[.+\])*: found .+, expected .+")
Place = tuple[str | int, ...]


# --- artifacts ---


def trace_entry(step: int, **fields: Any) -> dict[str, Any]:
    entry = json.loads("""{
        "action_ts": "2026-01-31T12:00:01.250000Z",
        "observation": {"last_action": null, "visible_state": {"files_seen": ["/app/a.txt"]}},
        "action": {"type": "read_file", "args": {"path": "/app/a.txt"}},
        "result": {"ok": true, "content": "text"},
        "io_audit": [{"type": "fs", "op": "read_file", "path": "/app/a.txt"}],
        "budget_after_step": {"steps": 8, "tool_calls": 8},
        "budget_delta": {"steps": 1, "tool_calls": 1},
        "llm_trace": null,
        "telemetry": {"action_metrics": {"latency_ms": 0.125, "error": null}}
    }""")
    return entry | {"step": step} | fields


def solved() -> dict[str, Any]:
    artifact: dict[str, Any] = json.loads("""{
        "spec_version": "tracecore-spec-v1.0",
        "runtime_identity": {"name": "tracecore", "version": "0.1.0", "git_sha": null},
        "run_id": "0123456789abcdef0123456789abcdef",
        "trace_id": "01234567-89ab-cdef-0123-456789abcdef",
        "agent": "agents/toy_agent.py", "agent_ref": "agents/toy_agent.py",
        "task_id": "filesystem_hidden_config", "version": 1,
        "task_ref": "filesystem_hidden_config@1",
        "seed": 42, "budgets": {"steps": 10, "tool_calls": 10},
        "success": true, "termination_reason": "success",
        "failure_type": null, "failure_reason": null,
        "steps_used": 2, "tool_calls_used": 2,
        "metrics": {"steps_used": 2, "tool_calls_used": 2},
        "started_at": "2026-01-31T12:00:00.000000Z",
        "completed_at": "2026-01-31T12:00:03.000000Z", "wall_clock_elapsed_s": 3.0,
        "harness_version": "0.1.0",
        "sandbox": {"filesystem_roots": ["/app"], "network_hosts": ["*.example.org"]},
        "determinism": {"seed": 42, "tooling": {"models": [], "mocks": []}},
        "validator": {"ok": true, "message": "found it"},
        "evidence_links": {"bundle_dir": null, "bundle_manifest": null}
    }""")
    hashes = ("agent_hash", "task_hash", "artifact_hash", "trace_hash")
    artifact |= dict.fromkeys(hashes, "sha256:" + "0a" * 32)
    return artifact | {"action_trace": [trace_entry(1), trace_entry(2, io_audit=[], result="done")]}


def failed(termination_reason: str, failure_type: str, **fields: Any) -> dict[str, Any]:
    ending = {
        "success": False,
        "termination_reason": termination_reason,
        "failure_type": failure_type,
    }
    return solved() | ending | {"failure_reason": "it went wrong"} | fields


def real_artifacts() -> list[dict[str, Any]]:
    """Valid artifacts of every kind, as a reader of files has them: nothing in them is shared."""
    model_call = json.loads("""{
        "request": {"provider": "acme", "model": "m-1", "prompt": "?", "shim_used": false,
                    "metadata": {}},
        "response": {"completion": "!", "success": true, "error": null, "tokens_used": 7}
    }""")
    accesses = json.loads("""[
        {"type": "net", "host": "api.example.org"},
        {"type": "fs", "op": "list_dir", "path": "/app"},
        {"type": "process", "op": "exec", "target": "true"}
    ]""")
    models = [{"provider": "acme", "model": "m-1", "version": None}]
    nothing_done = {"action_trace": [], "validator": {}, "budgets": {"steps": 0, "tool_calls": 0}}
    varied = [
        solved(),
        failed("timeout", "timeout", **nothing_done),
        failed(
            "invalid_action",
            "invalid_action",
            action_trace=[trace_entry(1, action={"repr": "7"}, result=None, llm_trace=[])],
            runtime_identity={"name": "tracecore", "version": "0.1.0", "git_sha": "ab" * 20},
            budgets={"steps": 10, "tool_calls": 10, "wall_clock_seconds": 180},
        ),
        failed(
            "account_locked",  # a validator's own words
            "sandbox_violation",
            action_trace=[trace_entry(1, llm_trace=[model_call], io_audit=accesses)],
            determinism={"seed": -1, "tooling": {"models": models, "mocks": ["api"]}},
            started_at="2026-01-31T12:00:00+00:00",
            error_traceback="Traceback (most recent call last):",
            output={"agent": "words", "task": None},
            an_added_field={"is": "welcome"},
        ),
    ]
    return [json.loads(json.dumps(artifact)) for artifact in varied]


ARTIFACTS = real_artifacts()


# --- places and mutations ---


def places(value: object, here: Place = ()) -> list[Place]:
    """The place of every value inside, outermost first."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [here, *(place for key, item in items for place in places(item, (*here, key)))]


def at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def replaced(artifact: object, place: Place, value: object) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(artifact)
    at(changed, place[:-1])[place[-1]] = value
    return changed


def without(artifact: object, place: Place) -> Any:
    changed = copy.deepcopy(artifact)
    del at(changed, place[:-1])[place[-1]]
    return changed


def assert_agreement(artifact: object) -> None:
    found = spec.problems(artifact)
    assert (found == []) is JUDGE.is_valid(artifact), found
    for line in found:
        assert PROBLEM.fullmatch(line), line
        assert line.isprintable()
        assert len(line) < 400


# surrogates and newlines too
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**63, -(2**63), 10**4000, 0.0, -0.0, 1.0, 1.5, -1.0, 1e308])
    | st.floats(allow_nan=False)
    | ANY_TEXT
    | st.sampled_from([*FAILURE_TYPE_OF, *sorted(FAILURE_TYPES), "fs", "net", "process", "", "\n"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    artifact: Any = copy.deepcopy(draw(st.sampled_from(ARTIFACTS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(artifact)))
        value = at(artifact, place)
        kinds = ["replace"]
        kinds += ["delete"] if place else []
        kinds += ["add"] if isinstance(value, dict | list) else []
        kinds += ["bend"] if isinstance(value, str | int | float) else []
        match draw(st.sampled_from(kinds)):
            case "replace":
                artifact = replaced(artifact, place, draw(JSON))
            case "delete":
                artifact = without(artifact, place)
            case "add":
                grown = (
                    [*value, draw(JSON)]
                    if isinstance(value, list)
                    else value | {draw(ANY_TEXT): draw(JSON)}
                )
                artifact = replaced(artifact, place, grown)
            case "bend":
                artifact = replaced(artifact, place, draw(st.sampled_from(bent(value))))
    return artifact


def bent(value: str | float) -> list[Any]:
    """Neighbours of a value: nearly right, or right in another form."""
    if isinstance(value, str):
        return [
            *(value + "\n", "\n" + value, value + " ", value + "\u0660", value + "\ud800"),
            *(value[1:], value[:-1], value.upper(), value.swapcase(), value * 2),
            *(value.replace("Z", "+00:00"), value.replace("0", "\u0660")),
        ]
    if abs(value) > 1e300:
        return [str(value), [value]]
    numbers = [float(value), value + 0.5, -value, -value - 1]
    return [bool(value), not value, *numbers, str(value), [value]]


# --- the schema ---


def test_the_schema_is_itself_valid():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_says_for_every_pattern_that_no_newline_may_follow():
    text = json.dumps(SCHEMA)
    places_of_patterns = [
        place for place in places(SCHEMA) if place[-1:] == ("pattern",) and place[-2] != "not"
    ]
    assert len(places_of_patterns) == text.count('"pattern": "^') > 0
    assert all(at(SCHEMA, place[:-1])["$ref"] == "#/$defs/one_line" for place in places_of_patterns)


# --- agreement with a schema interpreter ---


def test_a_real_artifact_is_valid_to_both():
    for artifact in ARTIFACTS:
        assert spec.problems(artifact) == []
        assert list(JUDGE.iter_errors(artifact)) == []


def test_a_keyword_without_a_check_is_refused():
    for schema in ({"maxItems": 3}, {"properties": {"x": {"type": "string", "format": "date"}}}):
        with pytest.raises(ValueError, match="keywords without a check"):
            spec._Compiler({}).check_of(schema)


@given(mutated())
def test_both_agree_on_a_mutated_artifact(artifact: Any):
    assert_agreement(artifact)


@given(JSON)
@example(float("nan"))
@example(float("inf"))
def test_both_agree_on_any_json(junk: Any):
    assert_agreement(junk)


def test_both_agree_wherever_one_value_is_bent_absent_or_of_another_type():
    whole = ARTIFACTS[3]
    short = whole | {"action_trace": []}  # the interpreter takes its time over a trace
    for place in places(whole):
        artifact = whole if place[:1] == ("action_trace",) else short
        value = at(artifact, place)
        strangers = bent(value) if isinstance(value, str | int | float) else []
        for stranger in (*strangers, None, True, -1, 0.5, "", [None], {}):
            assert_agreement(replaced(artifact, place, stranger))
        if place:
            assert_agreement(without(artifact, place))


@pytest.mark.parametrize(
    ("name", "value", "is_valid"),
    [
        *(("run_id", "a" * length, 32 <= length <= 36) for length in (0, 31, 32, 36, 37, 72)),
        *(("wall_clock_elapsed_s", number, False) for number in (-1e300, -0.5, float("-inf"))),
        *(("wall_clock_elapsed_s", number, True) for number in (-0.0, float("inf"))),
        ("started_at", "2026-01-31T12:00:00Z", True),
        ("started_at", "2026-12-01T23:59:59.5+00:00", True),
        ("started_at", "2026-01-31T12:00:00.Z", False),
        ("started_at", "2026-01-31T12:00:00", False),
        ("started_at", "2026-01-31T12:00:00+01:00", False),
        ("started_at", "2026-01-31 12:00:00Z", False),
        ("started_at", "2026-13-31T12:00:00Z", False),
        ("started_at", "2026-01-00T12:00:00Z", False),
        ("started_at", "2026-01-31T24:00:00Z", False),
        ("started_at", "2026-01-31T12:00:60Z", False),
    ],
)
def test_ids_numbers_and_times_are_valid_to_both_or_to_none(name: str, value: Any, is_valid: bool):
    artifact = solved() | {name: value}
    assert_agreement(artifact)
    assert (spec.problems(artifact) == []) is is_valid


def test_both_agree_on_every_way_to_give_an_ending():
    short = solved() | {"action_trace": []}
    names = ("termination_reason", "success", "failure_type", "failure_reason")
    reasons = (*FAILURE_TYPE_OF, "a reason of the validator's own", "")
    failure_types = (*FAILURE_TYPES, None, ["timeout"])
    for values in itertools.product(reasons, (True, False), failure_types, ("words", None)):
        assert_agreement(short | dict(zip(names, values, strict=True)))


# --- the ending ---


def test_the_schema_has_the_endings_of_the_runtime():
    for reason, failure_type in FAILURE_TYPE_OF.items():
        valid = [kind for kind in FAILURE_TYPES if spec.problems(failed(reason, kind)) == []]
        assert valid == ([failure_type] if failure_type else [])
    kinds = [kind for kind in FAILURE_TYPES if spec.problems(failed("account_locked", kind)) == []]
    assert set(kinds) == FAILURE_TYPES


# --- what a problem says ---


def test_each_field_that_the_schema_requires_is_named_where_it_is_absent():
    tried = set()
    for artifact in ARTIFACTS:
        for place in places(artifact):
            if not place or isinstance(place[-1], int):
                continue
            bare = without(artifact, place)
            if not JUDGE.is_valid(bare):
                named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
                assert spec.problems(bare)[0].startswith(f"${named}: found nothing, expected ")
                tried.add(place[-1])
    lists = [place for place in places(SCHEMA) if place[-1:] == ("required",)]
    assert tried == {name for place in lists for name in at(SCHEMA, place)}


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("seed", True, "$.seed: found true, expected an integer"),
        ("budgets.steps", -1, "$.budgets.steps: found -1, expected an integer of at least 0"),
        ("budgets.wall_clock_seconds", "1", "$.budgets.wall_clock_seconds: found '1', expected an"),
        ("runtime_identity.a\nb", 1, r"$.runtime_identity['a\nb']: found 1, expected no such"),
        ("action_trace.1.step", 0, "$.action_trace[1].step: found 0, expected an integer of at"),
        (
            "action_trace.0.io_audit.0.type",
            "tty",
            "$.action_trace[0].io_audit[0].type: found 'tty'",
        ),
        ("run_id", "x\ny", r"$.run_id: found 'x\ny', expected 32 to 36 hex digits or dashes"),
        ("validator", [], "$.validator: found an array, expected an object"),
        ("failure_type", "timeout", "$.failure_type: found 'timeout', expected null as success is"),
        ("failure_reason", "no", "$.failure_reason: found 'no', expected null as success is true"),
        ("termination_reason", "timeout", "$.termination_reason: found 'timeout', expected 'succ"),
    ],
)
def test_a_problem_names_place_finding_and_expectation(place: str, value: object, complaint: str):
    keys = tuple(int(key) if key.isdigit() else key for key in place.split("."))
    (found,) = spec.problems(replaced(solved(), keys, value))
    assert found.startswith(complaint)


def test_an_ending_that_failed_has_another_reason_than_success():
    complaint = "$.termination_reason: found 'success', expected anything but 'success' as success"
    problems = spec.problems(solved() | {"success": False})
    assert [line for line in problems if line.startswith(complaint)]


def test_the_first_problems_are_given_and_no_more_than_asked_for():
    assert len(spec.problems({})) == 5
    assert len(spec.problems({}, most=100)) == len(SCHEMA["required"])
    assert spec.problems({}, most=2) == spec.problems({})[:2]
    assert spec.problems({}, most=0) != []


def test_the_checker_changes_nothing():
    artifact = failed("timeout", "logic_failure", seed="x")
    before = copy.deepcopy(artifact)
    assert spec.problems(artifact) == spec.problems(artifact) != []
    assert artifact == before


# --- junk ---


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = {"x": [value]}
    return value


DEEP = nested(20_000)  # far beyond what Python's own recursion follows


def test_junk_is_a_problem_and_no_exception():
    for junk in (None, True, 7, 1.5, "text", [], [solved()], b"bytes", object(), DEEP, [DEEP]):
        assert spec.problems(junk) != []


def test_deep_nesting_is_fine_where_any_json_may_stand_and_nowhere_else():
    entry = trace_entry(1, result=DEEP, observation={"x": DEEP}, action={"x": DEEP})
    assert spec.problems(solved() | {"action_trace": [entry], "validator": {"x": DEEP}}) == []
    for name in set(SCHEMA["required"]) - {"validator"}:
        for deep in (DEEP, [DEEP]):
            assert spec.problems(solved() | {name: deep})[0].startswith(f"$.{name}")


def test_integers_too_long_for_python_to_print_are_no_exception():
    for huge in (10**5000, -(10**5000)):
        assert spec.problems(solved() | {"seed": huge}) == []
        assert spec.problems(solved() | {"version": -abs(huge), "run_id": huge}) != []


def test_a_huge_value_makes_a_short_problem():
    for huge in ("x" * 1_000_000, 10**100_000, -(10**100_000), ["x"] * 100_000):
        (found,) = spec.problems(solved() | {"run_id": huge})
        assert len(found) < 200
