import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import canon

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too
PYTHON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=15,
)
# Two surrogates that stand side by side are one character once they have been through JSON.
JSON = PYTHON_VALUES.map(lambda value: json.loads(json.dumps(value)))


def reordered(value: object) -> object:
    """The same value, its objects filled from the last key to the first."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (
            {"b": [1, 2.5, None], "a": {"d": True, "c": ""}},
            '{"a":{"c":"","d":true},"b":[1,2.5,null]}',
        ),
        ("ä€😀", '"ä€😀"'),
        ("a\ud800b", r'"a\ud800b"'),
        ("\\ud800", r'"\\ud800"'),
    ],
)
def test_keys_are_sorted_and_only_what_has_no_bytes_is_escaped(value: object, data: str):
    assert canon.encode(value) == data.encode()
    assert json.loads(data) == value


@given(JSON)
def test_what_is_written_reads_back_as_the_same_value(value: object):
    data = canon.encode(value)
    read = json.loads(data)
    assert read == value == canon.decode(data + b" \n")
    assert canon.encode(read) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "no JSON value"), (b"{} 1", "more than one JSON value"), (b'"', "Unterminated string")],
)
def test_what_is_not_one_value_is_not_read(data: bytes, words: str):
    with pytest.raises(ValueError, match=words):
        canon.decode(data)


@given(JSON)
def test_the_order_in_which_keys_were_set_leaves_no_trace(value: object):
    assert canon.encode(reordered(value)) == canon.encode(value)


@given(JSON, JSON)
def test_different_values_have_different_bytes(one: object, other: object):
    assert (canon.encode(one) == canon.encode(other)) is (
        repr(reordered_fully(one)) == repr(reordered_fully(other))
    )


def reordered_fully(value: object) -> object:
    """The same value with its keys in order, so that its repr (which tells 1 from 1.0 and true) is
    one for one.
    """
    if isinstance(value, dict):
        return {key: reordered_fully(value[key]) for key in sorted(value)}
    return [reordered_fully(item) for item in value] if isinstance(value, list) else value


def deep_list() -> list[object]:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([float("nan"), float("inf"), float("-inf")], ValueError, "Out of range"),
        ([LOOP], ValueError, "Circular"),
        ([b"bytes", {1, 2}, object(), {("a", "b"): 1}], TypeError, "serializable|keys must be"),
        ([deep_list()], RecursionError, "recursion depth|Stack overflow"),
    ],
    ids=["no numbers", "a loop", "no form", "too deep"],
)
def test_what_json_does_not_have_is_refused(values: list[object], error: type[Exception], words):
    for value in values:
        with pytest.raises(error, match=words):
            canon.encode({"deep": value})


def test_a_hash_names_its_kind_and_has_64_lower_hex_digits():
    assert (
        canon.sha256(b"abc")
        == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(JSON)
def test_a_digest_is_the_hash_of_the_canonical_bytes(value: object):
    assert canon.digest(value) == "sha256:" + hashlib.sha256(canon.encode(value)).hexdigest()


@pytest.mark.parametrize(
    "value",
    [{1: "a", 2: "b", 10: "c"}, ["\ud83d\ude00"], {"\ud83d\ude00": 1, "\uffff": 2}, "\ude00\ud83d"],
)
def test_what_is_read_back_is_encoded_to_the_same_bytes(value):
    data = canon.encode_foreign(value)
    assert canon.encode(json.loads(data)) == data
    assert canon.encode_foreign([{9: 1, 10: 2}]) == b'[{"10":2,"9":1}]'  # sorted as strings
