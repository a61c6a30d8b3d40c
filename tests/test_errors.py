import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import errors

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("field", "found", "text"),
    [
        ("budgets.steps", "ten", "a.toml: budgets.steps: found 'ten', expected a number"),
        ("", [], "a.toml: found [], expected a number"),
        ("id", errors.MISSING, "a.toml: id: found nothing, expected a number"),
    ],
)
def test_bad_input_has_file_field_finding_and_expectation(field: str, found: object, text: str):
    for kind in (errors.ScenarioError, errors.TaskError, errors.AgentError, errors.OptionError):
        assert issubclass(kind, errors.InputError)
        error = kind("a.toml", field, found, "a number")
        assert str(error) == text
        assert (error.path, error.field, error.found) == ("a.toml", field, found)
        assert error.expected == "a number"


def test_each_is_an_error_of_tracecore_and_those_of_output_and_engine_are_none_of_input():
    for kind in (errors.InputError, errors.OutputError, errors.EngineError):
        assert issubclass(kind, errors.TracecoreError)
        assert issubclass(kind, errors.InputError) is (kind is errors.InputError)


@pytest.mark.parametrize(
    "cause", [OSError(errno.ENOSPC, "No space left on device"), OSError("the cable was pulled")]
)
def test_a_failed_write_has_the_words_of_the_operating_system(cause: OSError):
    error = errors.OutputError("out/summary.json", cause)
    words = cause.strerror or str(cause)
    assert str(error) == f"out/summary.json: cannot be written: {words}"
    assert error.cause is cause


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_an_error_is_one_line_whatever_the_input_holds(path: str, field: str, found: str):
    for error in (
        errors.InputError(path, field, found, "x"),
        errors.OutputError(path, OSError(5, found)),
    ):
        assert str(error).isprintable()


@given(ANY_TEXT)
def test_one_line_is_printable_and_can_be_written_anywhere(text: str):
    line = errors.one_line(text)
    assert line.isprintable()
    assert line.encode("utf-8").decode("utf-8") == line
    assert (line == text) is text.isprintable()


def test_control_characters_are_shown_and_move_no_cursor():
    assert errors.one_line("a\nb\x1b[2Jc\u2028d") == r"a\nb\x1b[2Jc\u2028d"


@given(st.text() | st.lists(st.integers()) | st.integers(), st.integers(1, 100))
def test_a_description_is_never_longer_than_its_limit(found: object, limit: int):
    assert len(errors.describe(found, limit)) <= limit


def test_a_description_that_was_cut_ends_with_a_mark():
    assert errors.describe("x" * 100, 10) == "'xxxxxxxx…"
    assert errors.describe("x" * 8, 10) == "'xxxxxxxx'"


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "found",
    [16**5000, -(16**5000), {"seed": [16**5000]}, nested(100_000)],
    ids=["huge", "negative", "inside", "deep"],
)
def test_what_python_refuses_to_print_is_described_in_words(found: object) -> None:
    assert errors.describe(found) == "a value too large to show"
    assert errors.describe(found, 10) == "a value t…"
