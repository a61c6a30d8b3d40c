import functools
import json
import types
from typing import Any

import pytest
from helpers.tables import rows
from hypothesis import given
from hypothesis import strategies as st

from tracecore import canon
from tracecore.errors import TaskError
from tracecore.runtime.task.actions import ActionSurface, public_functions


def read(path: str, limit: int = 10) -> tuple[str, int]:
    return path, limit


def wait() -> str:
    return "waited"


def anything(first: str, **more: object) -> dict[str, object]:
    return {"first": first, **more}


def by_name(*, needed: int, spare: int = 2) -> int:
    return needed + spare


SURFACE = ActionSurface({"read": read, "wait": wait, "anything": anything, "by_name": by_name})


def test_parameters_are_the_names_that_can_be_given() -> None:
    assert SURFACE.parameters == {
        "read": ["path", "limit"],
        "wait": [],
        "anything": ["first"],
        "by_name": ["needed", "spare"],
    }


def call(name: str, args: object) -> dict[str, object]:
    return {"type": name, "args": args}


ANYTHING = {"first": 1, "self": 2, "action": 3}


@pytest.mark.parametrize(
    ("action", "result"),
    [
        (call("read", {"path": "a"}), ["a", 10]),
        (call("read", {"limit": 1, "path": "a"}), ["a", 1]),
        ({"type": "wait"}, "waited"),
        (call("wait", None), "waited"),
        (call("wait", {}) | {"thought": "extra keys are the agent's own business"}, "waited"),
        (call("anything", ANYTHING), ANYTHING),
        (call("by_name", {"needed": 1}), 3),
    ],
)
def test_a_valid_action_is_executed_with_its_args(action: dict[str, Any], result: object) -> None:
    assert SURFACE.why_invalid(action) is None
    assert canon.decode(SURFACE.call(action)) == result


SHORT = {
    "ALL": "read, wait, anything, by_name",
    "AN OBJECT": "expected an object",
    "A STRING": "expected a string",
}


@pytest.mark.parametrize(
    ("action", "reason", "words"),
    rows("""
    null                       | action_must_be_dict | the action is null, AN OBJECT
    [1]                        | action_must_be_dict | the action is a list, AN OBJECT
    {}                         | invalid_action_type | the action's type is missing, A STRING
    {"type": true, "args": 1}  | invalid_action_type | the action's type is a boolean, A STRING
    {"type": ["read"]}         | invalid_action_type | the action's type is a list, A STRING
    {"type": "fly\\n", "args": 1} | unknown_action | there is no action fly\\n, expected one of ALL
    {"type": "set_env"}        | unknown_action | there is no action set_env, expected one of ALL
    {"type": "read", "args": []} | args_must_be_dict | the args of read are a list, AN OBJECT
    {"type": "read", "args": 0} | args_must_be_dict | the args of read are a number, AN OBJECT
    {"type": "read", "args": {"x": 3}} | missing_arg | read lacks path, expected args path, limit
    {"type": "read"}           | missing_arg | read lacks path, expected args path, limit
    {"type": "by_name", "args": {"spare": 3}} | missing_arg \
        | by_name lacks needed, expected args needed, spare
    {"type": "read", "args": {"path": "", "pth": ""}} | unexpected_arg \
        | read takes no pth, expected args path, limit
    {"type": "wait", "args": {"s": 1}} | unexpected_arg | wait takes no s, expected no args
    """),
)
def test_an_invalid_action_is_refused_for_its_first_reason_in_words(
    action: str, reason: str, words: str
) -> None:
    for short, long in SHORT.items():
        words = words.replace(short, long)
    assert SURFACE.why_invalid(json.loads(action)) == (reason, words)


@pytest.mark.parametrize(
    ("action", "reason", "words"),
    [
        (object(), "action_must_be_dict", "the action is a Python object, expected an object"),
        (call("wait", {1: 1}), "unexpected_arg", "wait takes no a number, expected no args"),
        (
            call("anything", {"first": 1, 2: 3}),
            "unexpected_arg",
            "anything takes no a number, expected args first",
        ),
    ],
)
def test_an_action_that_is_no_json_is_refused_too(action: object, reason: str, words: str) -> None:
    assert SURFACE.why_invalid(action) == (reason, words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    JSON
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["read", "wait", "anything"])}, optional={"args": JSON}
    )
)
def test_whatever_is_called_valid_can_be_called_and_words_are_one_short_line(action: Any) -> None:
    problem = SURFACE.why_invalid(action)
    if problem is None:
        SURFACE.call(action)
    else:
        assert problem[1].isprintable()
        assert len(problem[1]) < 2000
        assert SURFACE.why_invalid(action) == problem


@pytest.mark.parametrize(
    "action",
    [
        {"type": "x" * 1_000_000},
        {"type": "wait", "args": {"x" * 1_000_000: 1}},
        {"type": "wait", "args": dict.fromkeys(map(str, range(10_000)))},
        {"type": 10**5000},
    ],
)
def test_a_huge_action_is_refused_in_few_words(action: object) -> None:
    problem = SURFACE.why_invalid(action)
    assert problem is not None
    assert len(problem[1]) < 400


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def test_a_decorated_function_has_the_parameters_of_what_it_wraps() -> None:
    surface = ActionSurface({"read": decorated(decorated(read))})
    assert surface.parameters == {"read": ["path", "limit"]}
    assert surface.why_invalid({"type": "read", "args": {}}) is not None
    assert canon.decode(surface.call({"type": "read", "args": {"path": "p"}})) == ["p", 10]


def positional_only(path: str, /) -> None: ...
async def asynchronous() -> None: ...
def generator() -> Any:
    yield


@pytest.mark.parametrize("function", [positional_only, asynchronous, generator])
def test_a_function_that_cannot_be_called_by_name_is_refused_at_once(function: Any) -> None:
    words = "positional-only" if function is positional_only else "an async function or a generator"
    with pytest.raises(TaskError, match=words) as caught:
        ActionSurface({"act": function})
    assert (caught.value.path, caught.value.field) == (__file__, "act")


def test_the_actions_are_the_public_functions_of_the_module_itself() -> None:
    module = types.ModuleType("tasks.some.actions")
    code = """
from functools import wraps
from os.path import join
import json
LIMIT = 3
class Helper: pass
def second(): pass
def first(): pass
def _private(): pass
def set_env(env): pass
alias = first
short = lambda: 1
"""
    exec(code, module.__dict__)
    assert list(public_functions(module)) == ["second", "first", "alias", "short"]
