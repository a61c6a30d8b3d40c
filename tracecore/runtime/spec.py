"""The strict check of a run artifact: what ``schema/run-artifact.schema.json`` asks, in words.

The schema is the one source, for the outside world and for this check. Its keywords become
functions, once per process: a schema interpreter takes some hundred times as long, and every strict
episode pays for it. A keyword that is not known here is refused, so that none is ever left out.

No check walks into what may be any JSON (an observation, an action, a result): depth and size there
cost nothing and break nothing.
"""

import functools
import json
import os
import re
from collections.abc import Callable
from typing import Any, Final

from tracecore.errors import MISSING, describe
from tracecore.records import JsonObject

Problem = tuple[str, str]  # where below the value that was checked, and what is wrong there
Check = Callable[[Any], list[Problem]]

SCHEMA_PATH: Final = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    "schema",
    "run-artifact.schema.json",
)
ANNOTATIONS: Final = frozenset({"$schema", "$defs", "title", "description"})
# Of each type its name for people, and what it is in Python.
TYPES: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "object": ("an object", (dict,)),
    "array": ("an array", (list,)),
    "string": ("a string", (str,)),
    "integer": ("an integer", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "null": ("null", (type(None),)),
}


def problems(artifact: object, most: int = 5) -> list[str]:
    """What keeps ``artifact`` from being a valid run artifact; empty if it is one.

    Each problem is one line: a JSONPath-like place, what was found there and what was expected. At
    most ``most`` of them (and at least one) are given. Nothing that ``json.loads`` can return makes
    this raise.
    """
    return [f"${where}: {what}" for where, what in load_check()(artifact)[: max(most, 1)]]


@functools.cache
def load_check(definition: str = "") -> Check:
    """The check of an artifact, or of one of the schema's ``$defs``; made once per process."""
    with open(SCHEMA_PATH, encoding="utf-8") as file:
        schema = json.load(file)
    definitions = schema["$defs"]
    return _Compiler(definitions).check_of(definitions[definition] if definition else schema)


class _Compiler:
    """Makes checks out of schemas.

    Args:
        definitions: The schema's ``$defs``.
    """

    def __init__(self, definitions: dict[str, JsonObject]) -> None:
        self._definitions = definitions

    def check_of(self, schema: JsonObject) -> Check:
        """A check of all that ``schema`` asks: of the value itself, then of what is in it, then
        what one member asks of another. What an earlier stage finds is all.
        """
        schema = self._resolve(schema)
        check_itself = _own_check(schema)
        if "properties" in schema:
            check_itself = self._members_check(check_itself, schema)
        check_item = self.check_of(schema.pop("items")) if "items" in schema else None
        rules = schema.pop("allOf", [])
        if "if" in schema:
            rules = [{key: schema.pop(key) for key in ("if", "then", "else")}, *rules]
        branches = [self._branch(rule) for rule in rules]
        if unknown := schema.keys() - ANNOTATIONS:
            raise ValueError(f"keywords without a check: {', '.join(sorted(unknown))}")
        if not (check_item or branches):
            return check_itself

        def check(value: Any) -> list[Problem]:
            if check_item and type(value) is list:
                found = [
                    (f"[{index}]{below}", what)
                    for index, item in enumerate(value)
                    for below, what in check_item(item)
                ]
            else:
                found = check_itself(value)
            for branch in branches:
                found = found or branch(value)
            return found

        return check

    def _resolve(self, schema: JsonObject) -> JsonObject:
        """``schema`` with what it refers to put in its place."""
        schema = dict(schema)
        while "$ref" in schema:
            schema = {**self._definitions[schema.pop("$ref").removeprefix("#/$defs/")], **schema}
        return schema

    def _members_check(self, check_itself: Check, schema: JsonObject) -> Check:
        """A check of an object's members; of what is none, of itself."""
        required = frozenset(schema.pop("required", ()))
        is_closed = not schema.pop("additionalProperties", True)
        checks = {name: self.check_of(member) for name, member in schema.pop("properties").items()}
        if unchecked := required - checks.keys():
            raise ValueError(f"required, but without properties: {', '.join(sorted(unchecked))}")

        def check(value: Any) -> list[Problem]:
            if type(value) is not dict:
                return check_itself(value)
            found: list[Problem] = []
            for name, check_member in checks.items():
                if name in value:
                    if wrong := check_member(value[name]):
                        found += [(f".{name}{below}", what) for below, what in wrong]
                elif name in required:
                    wrong = check_member(MISSING) or _wrong(MISSING, "any JSON")
                    found.append((f".{name}", wrong[0][1]))
            if is_closed and value.keys() - checks.keys():
                found += [
                    (
                        f"[{_in_words(name)}]",
                        f"found {_in_words(value[name])}, expected no such member",
                    )
                    for name in value
                    if name not in checks
                ]
            return found

        return check

    def _branch(self, rule: JsonObject) -> Check:
        """``if`` a member has a value, ``then`` (or ``else``) for the whole; the condition goes
        into the words.
        """
        ((name, condition),) = rule["if"]["properties"].items()
        values = condition["enum"] if "enum" in condition else [condition["const"]]
        check_then = self.check_of(rule["then"])
        check_else = self.check_of(rule.get("else", {}))

        def check(value: Any) -> list[Problem]:
            # Without the member it is invalid already: each of them is required.
            if not isinstance(value, dict) or name not in value:
                return []
            actual = value[name]
            holds = any(_is_same(actual, wanted) for wanted in values)
            why = f" as {name} is {_in_words(actual)}"
            return [
                (where, what + why) for where, what in (check_then if holds else check_else)(value)
            ]

        return check


def _own_check(schema: JsonObject) -> Check:
    """A check of the value itself, not of what is in it. Takes its keywords out of ``schema``."""
    names = schema.pop("type", [])
    names = [names] if isinstance(names, str) else names
    accepted = frozenset(kind for name in names for kind in TYPES[name][1])
    expected = _expected(schema, names)
    tests = [make(schema.pop(keyword)) for keyword, make in _TESTS.items() if keyword in schema]

    def check(value: Any) -> list[Problem]:
        kind = type(value)
        if kind in accepted or not names:
            if value is None and names:
                return _NONE
            for test in tests:
                if not test(value):
                    return _wrong(value, expected)
            return _NONE
        # JSON has one kind of number, and to JSON Schema 1.0 is an integer.
        if kind is float and "integer" in names and value.is_integer():
            return check(int(value))
        return _wrong(value, expected)

    return check


def _expected(schema: JsonObject, types: list[str]) -> str:
    """What a value should be, in words."""
    if "pattern" in schema:
        words = str(schema["title"])
    elif "enum" in schema:
        named = [_in_words(value)[1:-1] for value in schema["enum"] if value is not None]
        words = f"one of {', '.join(sorted(named))}" + " or null" * (None in schema["enum"])
    elif "const" in schema:
        words = _in_words(schema["const"])
    elif "const" in schema.get("not", {}):
        words = f"anything but {_in_words(schema['not']['const'])}"
    else:
        words = " or ".join(TYPES[name][0] for name in types if name != "null")
        words += f" of at least {schema['minimum']}" if "minimum" in schema else ""
        words += " that is not empty" if "minLength" in schema else ""
        words += (" or null" if words else "null") if "null" in types else ""
    return words


def _not(schema: JsonObject) -> Callable[[Any], bool]:
    if "const" in schema:
        return lambda value: not _is_same(value, schema["const"])
    search = re.compile(schema["pattern"]).search
    return lambda value: not search(value)


# Of a value of the type that the schema gives; a number that is a whole one comes as an integer.
_TESTS: Final[dict[str, Callable[[Any], Callable[[Any], Any]]]] = {
    "enum": lambda values: lambda value: any(_is_same(value, one) for one in values),
    "const": lambda wanted: lambda value: _is_same(value, wanted),
    "not": _not,
    "pattern": lambda pattern: re.compile(pattern).search,
    "minLength": lambda least: lambda value: len(value) >= least,
    # "not below" and "at least" differ for NaN, which is not JSON: canonical JSON refuses it, and a
    # schema cannot.
    "minimum": lambda least: lambda value: not value < least,
}
_NONE: Final[list[Problem]] = []


def _is_same(value: Any, wanted: Any) -> bool:
    return type(value) is type(wanted) and value == wanted


def _wrong(value: object, expected: str) -> list[Problem]:
    return [("", f"found {_in_words(value)}, expected {expected}")]


def _in_words(value: object) -> str:
    """A value in JSON's terms, one short line however large, deep or strange it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return describe(value[:100])
        # Python refuses to print integers of some thousand digits
        case int() if value.bit_length() > 256:
            return "an integer of more than 256 bits"
        case int() | float():
            return repr(value)
    return "nothing" if value is MISSING else f"a Python {type(value).__name__}"
