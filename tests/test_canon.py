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


def test_keys_are_sorted_and_no_space_is_written():
    assert (
        canon.encode({"b": [1, 2.5, None], "a": {"d": True, "c": ""}})
        == b'{"a":{"c":"","d":true},"b":[1,2.5,null]}'
    )


def test_text_is_utf_8_and_not_escaped():
    assert canon.encode("ä€😀") == '"ä€😀"'.encode()


def test_a_lone_surrogate_is_written_as_its_escape():
    assert canon.encode("a\ud800b") == rb'"a\ud800b"'
    assert json.loads(canon.encode("a\ud800b")) == "a\ud800b"


def test_text_that_looks_like_an_escape_stays_text():
    assert json.loads(canon.encode("\\ud800")) == "\\ud800"
    assert canon.encode("\\ud800") != canon.encode("\ud800")


@given(JSON)
def test_what_is_written_reads_back_as_the_same_value(value: object):
    assert json.loads(canon.encode(value)) == value


@given(JSON)
def test_a_value_read_back_has_the_same_bytes_again(value: object):
    assert canon.encode(json.loads(canon.encode(value))) == canon.encode(value)


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


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused(number: float):
    with pytest.raises(ValueError, match="Out of range"):
        canon.encode({"deep": [number]})


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular"):
        canon.encode(loop)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {"x": object()}, {("a", "b"): 1}])
def test_what_json_has_no_form_for_is_refused(value: object):
    with pytest.raises(TypeError):
        canon.encode(value)


def test_nesting_beyond_what_the_interpreter_follows_is_refused():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        canon.encode(deep)


def test_a_hash_names_its_kind_and_has_64_lower_hex_digits():
    assert (
        canon.sha256(b"abc")
        == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(JSON)
def test_a_digest_is_the_hash_of_the_canonical_bytes(value: object):
    assert canon.digest(value) == "sha256:" + hashlib.sha256(canon.encode(value)).hexdigest()


def test_foreign_keys_are_sorted_as_the_strings_they_become():
    assert canon.encode_foreign([{9: 1, 10: 2}]) == b'[{"10":2,"9":1}]'


@pytest.mark.parametrize(
    "value",
    [{1: "a", 2: "b", 10: "c"}, ["\ud83d\ude00"], {"\ud83d\ude00": 1, "\uffff": 2}, "\ude00\ud83d"],
)
def test_what_is_read_back_is_encoded_to_the_same_bytes(value):
    data = canon.encode_foreign(value)
    assert canon.encode(json.loads(data)) == data
