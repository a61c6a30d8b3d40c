import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.records import Limits
from tracecore.runtime.agent.message import NotJson, parse_message

LIMITS = Limits(message_depth=4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_it_was_meant(value: object) -> None:
    assert parse_message(json.dumps(value).encode(), Limits(message_depth=100)) == value


@given(st.binary(max_size=200))
def test_anything_else_is_refused_and_nothing_but_that(data: bytes) -> None:
    with contextlib.suppress(NotJson):
        parse_message(data, LIMITS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Expecting value"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1e999", "out of range"),
        (b"9223372036854775808", "out of range"),
        (b"1" * 5000, "out of range"),
        (b'{"a":1,"a":1}', "a key stands twice"),
        (b"[[[[[]]]]]", "nested too deeply"),
        (b"[" * 9_000 + b"]" * 9_000, "nested too deeply"),
        (b"[" * 100_000, "more than 10000 values"),
        (b"[" + b"[]," * 340_000 + b"1]", "more than 10000 values"),
        (b'{"a":[' + b"1.5," * 10_000 + b"1]}", "more than 10000 values"),
        (b'["' + b"\\ud800" * 10_001 + b'"]', "more than 10000 escaped surrogates"),
        (b"{} {}", "Extra data"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        ("{}".encode("utf-16"), "decode"),
        (b'"\xff"', "decode"),
    ],
)
def test_what_json_lacks_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(NotJson, match=words):
        parse_message(data, LIMITS)


def test_text_may_hold_as_many_commas_and_brackets_as_it_likes() -> None:
    value = {"a": 'x,[{"\\' * 20_000, "b": ['\\"', ","] * 100}
    assert parse_message(json.dumps(value).encode(), LIMITS) == value
