import functools
import types
from typing import Any

import pytest
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


def reason(action: object) -> str | None:
    problem = SURFACE.why_invalid(action)
    return problem and problem[0]


def test_parameters_are_the_names_that_can_be_given() -> None:
    assert SURFACE.parameters == {
        "read": ["path", "limit"],
        "wait": [],
        "anything": ["first"],
        "by_name": ["needed", "spare"],
    }


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ({"type": "read", "args": {"path": "a"}}, ["a", 10]),
        ({"type": "read", "args": {"limit": 1, "path": "a"}}, ["a", 1]),
        ({"type": "wait"}, "waited"),
        ({"type": "wait", "args": None}, "waited"),
        (
            {"type": "wait", "args": {}, "thought": "extra keys are the agent's own business"},
            "waited",
        ),
        (
            {"type": "anything", "args": {"first": 1, "self": 2, "action": 3}},
            {"first": 1, "self": 2, "action": 3},
        ),
        ({"type": "by_name", "args": {"needed": 1}}, 3),
    ],
)
def test_a_valid_action_is_executed_with_its_args(action: dict[str, Any], result: object) -> None:
    assert SURFACE.why_invalid(action) is None
    assert canon.decode(SURFACE.call(action)) == result


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (None, ("action_must_be_dict", "the action is null, expected an object")),
        ([1], ("action_must_be_dict", "the action is a list, expected an object")),
        (object(), ("action_must_be_dict", "the action is a Python object, expected an object")),
        ({}, ("invalid_action_type", "the action's type is missing, expected a string")),
        (
            {"type": True},
            ("invalid_action_type", "the action's type is a boolean, expected a string"),
        ),
        (
            {"type": ["read"]},
            ("invalid_action_type", "the action's type is a list, expected a string"),
        ),
        (
            {"type": "fly\n"},
            (
                "unknown_action",
                "there is no action fly\\n, expected one of read, wait, anything, by_name",
            ),
        ),
        (
            {"type": "set_env"},
            (
                "unknown_action",
                "there is no action set_env, expected one of read, wait, anything, by_name",
            ),
        ),
        (
            {"type": "read", "args": []},
            ("args_must_be_dict", "the args of read are a list, expected an object"),
        ),
        (
            {"type": "read", "args": 0},
            ("args_must_be_dict", "the args of read are a number, expected an object"),
        ),
        (
            {"type": "read", "args": {"limit": 3}},
            ("missing_arg", "read lacks path, expected args path, limit"),
        ),
        ({"type": "read"}, ("missing_arg", "read lacks path, expected args path, limit")),
        (
            {"type": "by_name", "args": {"spare": 3}},
            ("missing_arg", "by_name lacks needed, expected args needed, spare"),
        ),
        (
            {"type": "read", "args": {"path": "", "pth": ""}},
            ("unexpected_arg", "read takes no pth, expected args path, limit"),
        ),
        (
            {"type": "wait", "args": {"s": 1}},
            ("unexpected_arg", "wait takes no s, expected no args"),
        ),
        (
            {"type": "wait", "args": {1: 1}},
            ("unexpected_arg", "wait takes no a number, expected no args"),
        ),
        (
            {"type": "anything", "args": {"first": 1, 2: 3}},
            ("unexpected_arg", "anything takes no a number, expected args first"),
        ),
    ],
)
def test_an_invalid_action_is_refused_for_its_reason_in_words(
    action: object, problem: tuple[str, str]
) -> None:
    assert SURFACE.why_invalid(action) == problem


def test_the_first_reason_is_the_one_that_counts() -> None:
    assert reason({"type": 1, "args": 1}) == "invalid_action_type"
    assert reason({"type": "none", "args": 1}) == "unknown_action"
    assert reason({"type": "read", "args": {"other": 1}}) == "missing_arg"


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


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (positional_only, "positional-only"),
        (asynchronous, "an async"),
        (generator, "an async function or a generator"),
    ],
)
def test_a_function_that_cannot_be_called_by_name_is_refused_at_once(
    function: Any, found: str
) -> None:
    with pytest.raises(TaskError, match=found) as caught:
        ActionSurface({"act": function})
    assert caught.value.field == "act"
    assert caught.value.path == __file__


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
