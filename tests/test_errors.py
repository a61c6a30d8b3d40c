import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import errors

INPUT_ERRORS = [
    errors.InputError,
    errors.ScenarioError,
    errors.TaskError,
    errors.AgentError,
    errors.OptionError,
]
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_bad_input_is_told_with_file_field_finding_and_expectation(kind: type[errors.InputError]):
    error = kind("task.toml", "budgets.steps", "ten", "an integer of at least 0")
    assert str(error) == "task.toml: budgets.steps: found 'ten', expected an integer of at least 0"
    assert (error.path, error.field, error.found) == ("task.toml", "budgets.steps", "ten")
    assert error.expected == "an integer of at least 0"


def test_without_a_field_the_whole_file_is_meant():
    assert str(errors.ScenarioError("rows.json", "", [], "at least one row")) == (
        "rows.json: found [], expected at least one row"
    )


def test_what_is_missing_is_told_as_nothing():
    assert "found nothing, expected a string" in str(
        errors.TaskError("task.toml", "id", errors.MISSING, "a string")
    )


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_every_input_error_can_be_caught_as_one(kind: type[errors.InputError]):
    assert issubclass(kind, errors.InputError)
    assert issubclass(kind, errors.TracecoreError)


def test_output_and_engine_errors_are_no_input_errors():
    for kind in (errors.OutputError, errors.EngineError):
        assert issubclass(kind, errors.TracecoreError)
        assert not issubclass(kind, errors.InputError)


def test_a_failed_write_is_told_in_the_operating_systems_words():
    cause = OSError(errno.ENOSPC, "No space left on device")
    error = errors.OutputError("out/summary.json", cause)
    assert str(error) == "out/summary.json: cannot be written: No space left on device"
    assert error.cause is cause


def test_a_cause_without_a_number_is_told_all_the_same():
    assert (
        str(errors.OutputError("out", OSError("the cable was pulled")))
        == "out: cannot be written: the cable was pulled"
    )


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


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_text_that_is_printable_stays_as_it_is(text: str):
    assert errors.one_line(text) == text


def test_control_characters_are_shown_and_move_no_cursor():
    assert errors.one_line("a\nb\x1b[2Jc\u2028d") == r"a\nb\x1b[2Jc\u2028d"


@given(st.text() | st.lists(st.integers()) | st.integers(), st.integers(1, 100))
def test_a_description_is_never_longer_than_its_limit(found: object, limit: int):
    assert len(errors.describe(found, limit)) <= limit


def test_a_description_that_was_cut_says_so():
    assert errors.describe("x" * 100, 10) == "'xxxxxxxx…"
    assert errors.describe("x" * 8, 10) == "'xxxxxxxx'"
