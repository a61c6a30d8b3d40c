import os

import pytest
from helpers.rows import make_row

from tracecore.errors import InputError, ScenarioError
from tracecore.perf.documents.rows import series_row
from tracecore.strict import (
    AMOUNT,
    BOOL,
    COUNT,
    INTEGER,
    NUMBER,
    TEXT,
    check_fields,
    list_of,
    object_of,
    or_null,
    parse_json,
    parse_toml,
    read_file,
    read_row,
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1, "a": 2}', "a: found 'this key twice'"),
        (b'{"a": {"b": 1, "b": 2}}', "b: found 'this key twice'"),
        (b"NaN", "a number that JSON has"),
        (b"-Infinity", "a number that JSON has"),
        (b"1e999", "a number that a double can hold"),
        (b"1" * 5000, "thousands of digits"),
        (b"[" * 100_000, "very deep nesting"),
        (b"[1,", "line 1, column 4"),
        (b'"\xff"', "byte 1"),
        (b"\xef\xbb\xbf{}", "a byte order mark"),
    ],
)
def test_json_that_is_none_is_refused_in_words(data, words):
    with pytest.raises(InputError, match=r"x\.json") as caught:
        parse_json("x.json", data)
    assert words in str(caught.value)


def test_the_place_of_a_mistake_is_told():
    with pytest.raises(InputError, match=r"x: \[3\]\.a: found 'this key twice'"):
        parse_json("x", b'{"a": 1, "a": 2}', where="[3]")


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 50_000) + "=1",
        "[" + ".".join(["a"] * 50_000) + "]",
        "x = {" + ".".join(['"a b"'] * 50_000) + " = 1}",
        "[[" + " . ".join(["'a'"] * 50_000) + "]]",
        "a\n" * 100 + ".".join(["a"] * 33) + "=1",
    ],
)
def test_a_key_of_thousands_of_parts_is_refused_before_it_is_parsed(text):
    with pytest.raises(ScenarioError, match="a key of more than 32 dotted parts"):
        parse_toml("x.toml", text.encode(), error=ScenarioError)


@pytest.mark.parametrize(
    "text",
    [
        'text = "' + ".".join(["a"] * 1000) + '"',
        ".".join(["a"] * 32) + " = 1",
        "x = [" + "1.5, " * 1000 + "]",
        "a" * 1_000_000 + " = 1",
        '"' + "." * 1000 + '" = 1',
    ],
)
def test_other_toml_is_taken(text):
    assert parse_toml("x.toml", text.encode())


@pytest.mark.parametrize("data", [b"a = ", b"a = 1\na = 2", b"x = " + b"[" * 5000, b"\xff"])
def test_toml_that_is_none_is_refused(data):
    with pytest.raises(InputError, match=r"x\.toml"):
        parse_toml("x.toml", data)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(str(path), 5, "a file") == b"12345"
    with pytest.raises(InputError, match="more than 4 bytes"):
        read_file(str(path), 4, "a file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "/dev/zero", "none", "a\0b"):
        with pytest.raises(InputError):
            read_file(str(tmp_path / name), 5, "a file")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TEXT, ["", "a"], [None, 1, b"a"]),
        (BOOL, [True, False], [0, 1, None, "true"]),
        (INTEGER, [0, -1, 10**30], [True, 1.0, "1"]),
        (COUNT, [0, 10**30], [-1, True, 1.0]),
        (AMOUNT, [0, 1.5], [-0.1, 1e301, True, None]),
        (NUMBER, [-1, 1.5], [1e301, False, "1"]),
        (or_null(COUNT), [None, 1], ["", -1]),
        (list_of(TEXT), [[], ["a"]], [[1], "a", None]),
        (object_of(COUNT), [{}, {"a": 1}], [{"a": -1}, [], None]),
    ],
)
def test_a_field_is_of_its_type(kind, good, bad):
    for value in good:
        assert check_fields("x", "", {"a": value}, {"a": kind}) == {"a": value}
    for value in bad:
        with pytest.raises(InputError, match=r"x: here\.a: found"):
            check_fields("x", "here", {"a": value}, {}, {"a": kind})


def test_a_needed_field_may_not_lack_and_an_optional_one_may():
    with pytest.raises(InputError, match="x: a: found nothing, expected text"):
        check_fields("x", "", {}, {"a": TEXT})
    assert check_fields("x", "", {"b": object()}, {}, {"a": TEXT})


@pytest.mark.parametrize("field", sorted(series_row(make_row(0))))
def test_every_field_of_a_row_is_checked(field):
    document = {**series_row(make_row(0)), field: [object()]}
    with pytest.raises(InputError, match=rf"x: \[4\]\.{field}: found"):
        read_row("x", "[4]", document)
