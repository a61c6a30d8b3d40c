import pathlib

import pytest
from helpers.tables import rows
from hypothesis import given
from hypothesis import strategies as st

from tracecore.errors import InputError, ThresholdError
from tracecore.perf.judge.thresholds import Threshold, leaf_paths, parse_threshold, read_thresholds

PATHS = (
    *("episodes", "failure_count", "elapsed_s"),
    *("summary.p95_wall_clock_s", "summary.success_rate"),
)
FIELDS = ("wall_clock_s", "success", "task_ref", "agent", "seed", "error", "tokens_used")


def parse(text: str) -> Threshold:
    return parse_threshold(text, "--threshold", paths=PATHS, fields=FIELDS)


def read(tmp_path: pathlib.Path, text: str) -> tuple[Threshold, ...]:
    path = tmp_path / "gate.toml"
    path.write_text(text, "utf-8")
    return read_thresholds(str(path), paths=PATHS, fields=FIELDS)


# --- expressions


@pytest.mark.parametrize("op", [">", ">=", "<", "<=", "==", "!="])
def test_a_number_of_the_summary_is_held_against_a_limit(op: str):
    assert parse(f"summary.p95_wall_clock_s {op} 2.5") == Threshold(
        text=f"summary.p95_wall_clock_s {op} 2.5",
        source="--threshold",
        path="summary.p95_wall_clock_s",
        metric=None,
        selector=(),
        aggregate=None,
        percent=None,
        op=op,  # type: ignore[arg-type]
        limit=2.5,
        severity="fail",
        abort=False,
        delay_episodes=0,
    )


@pytest.mark.parametrize(
    ("aggregate", "name", "percent"),
    [
        *((name, name, None) for name in ("avg", "min", "max", "sum", "count", "rate")),
        ("med", "med", 50), ("p(95)", "p", 95), ("p( 99.9 )", "p", 99.9),
        ("p(0)", "p", 0), ("p(100)", "p", 100),
    ],
)  # fmt: skip
def test_an_aggregate_of_the_series_is_held_against_a_limit(
    aggregate: str, name: str, percent: float | None
):
    threshold = parse(f"wall_clock_s:{aggregate} < 30")
    assert (threshold.path, threshold.metric, threshold.selector) == (None, "wall_clock_s", ())
    assert (threshold.aggregate, threshold.percent) == (name, percent)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("{task_ref=a@1, success=true,seed = -3}", "task_ref a@1 success true seed -3"),
        ('{agent="my, {odd} agent.py"}', "agent my, {odd} agent.py"),
        ("  { task_ref = a@1 } ", "task_ref a@1"),
    ],
)
def test_a_selector_takes_rows_by_the_values_of_their_fields(text: str, selector: str):
    threshold = parse(f"  success{text}: rate  >=  0.9\n")
    assert " ".join(word for pair in threshold.selector for word in pair) == selector
    assert (threshold.metric, threshold.aggregate) == ("success", "rate")
    assert (threshold.op, threshold.limit) == (">=", 0.9)
    assert threshold.text == f"success{text}: rate  >=  0.9"


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        ("0", 0), ("-1", -1), ("+2.50", 2.5), ("2_000_000", 2e6), ("1_0.2_5", 10.25),
        ("1e-3", 0.001), ("5E+2", 500),
    ],
)  # fmt: skip
def test_a_limit_is_a_plain_number(number: str, limit: float):
    assert parse(f"failure_count <= {number}").limit == limit


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", "1", "found nothing, expected a name"),
        ("   ", "4", "found nothing, expected a name"),
        *rows(r"""
    3 < failure_count               | 1  | expected a name
    failure_count                   | 14 | found nothing, expected one of >
    failure_count = 0               | 15 | expected one of >
    failure_count === 0             | 17 | expected a number
    failure_count <                 | 16 | found nothing, expected a number
    failure_count < none            | 17 | expected a number
    failure_count < inf             | 17 | expected a number
    failure_count < 1__0            | 18 | plain number
    failure_count < 0x10            | 18 | plain number
    failure_count < ٣               | 17 | expected a number
    failure_count < 1e999           | 17 | a double can hold
    elapsed_s < 2s                  | 14 | found 's', expected nothing: a limit is a plain number
    summary.success_rate >= 95%     | 27 | found '%'
    failure_count < 1 and episodes  | 19 | plain number
    failure_count < __import__('o') | 17 | expected a number
    failure_cuont < 1               | 1  | did you mean failure_count?
    p95_wall_clock_s < 1            | 1  | did you mean summary.p95_wall_clock_s?
    summary.p95_wall_clock < 1      | 1  | did you mean summary.p95_wall_clock_s?
    summary < 1                     | 1  | expected a path of the summary
    zzz < 1                         | 1  | found 'zzz', expected a path of the summary
    wall_clock_s < 1                | 1  | an aggregate over the series, such as wall_clock_s:max
    wal_clock_s:max < 1             | 1  | did you mean wall_clock_s?
    elapsed_s:max < 1               | 1  | takes no selector and no aggregate
    wall_clock_s: < 1               | 15 | expected one of avg
    seed:mean < 1    | 6  | found 'mean', expected one of avg, min, max, med, sum, count, rate, p(N)
    wall_clock_s:p95 < 1            | 14 | found 'p95', expected one of
    wall_clock_s:p(101) < 1         | 14 | found 'p(101)', expected a percentile from p(0) to p(100)
    wall_clock_s:p(-1) < 1          | 14 | expected one of
    wall_clock_s{} : max < 1        | 14 | expected field=value
    wall_clock_s{task=a}:max < 1    | 14 | a field of the series (did you mean task_ref?)
    wall_clock_s{task_ref}:max < 1  | 22 | expected = and a value
    wall_clock_s{task_ref=}:max < 1 | 23 | expected a value
    wall_clock_s{seed=1,}:max < 1   | 21 | expected field=value
    wall_clock_s{seed=1:max < 1     | 28 | found nothing, expected a comma and field=value, or }
    wall_clock_s{agent="a:max < 1   | 20 | a closing "
    seed{seed=1,seed=2}:max < 1     | 13 | found 'seed', expected each field once
    wall_clock_s{seed=1} < 1        | 22 | expected : and an aggregate
        """),
    ],
)
def test_what_cannot_be_read_is_named_with_its_column(text: str, column: str, words: str):
    with pytest.raises(ThresholdError) as caught:
        parse(text)
    assert isinstance(caught.value, InputError)
    assert str(caught.value).startswith(f"--threshold: column {column}: found ")
    assert words in str(caught.value)
    assert (caught.value.path, caught.value.field) == ("--threshold", f"column {column}")


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([*PATHS, *FIELDS, *'{}=,:<>!" ()p1._-']), max_size=12).map("".join)
)
def test_any_text_is_read_or_refused_in_one_line(text: str):
    try:
        threshold = parse(text)
    except ThresholdError as error:
        refusal = str(error)
    else:
        refusal = ""
        is_of_rows = threshold.metric is not None
        assert (threshold.path is None) is (threshold.aggregate is not None) is is_of_rows
    assert "\n" not in refusal


def test_the_paths_of_a_document_lead_to_its_numbers_and_nulls():
    inner = {"c": None, "d": "text", "e": {"f": 0.5}, "g": {}}
    document = {"a": 1, "b": inner, "h": [1], "i": False}
    assert leaf_paths(document) == ("a", "b.c", "b.e.f", "i")


# --- files


def test_a_file_holds_bare_expressions_and_tables_in_its_order(tmp_path: pathlib.Path):
    bare, failing, warning = read(
        tmp_path,
        """
        thresholds = ["failure_count == 0"]
        [[threshold]]
        expr = "wall_clock_s:p(99) < 30"
        abort = true
        delay_episodes = 50
        [[threshold]]
        expr = "elapsed_s < 600"
        severity = "warn"
        """,
    )
    path = str(tmp_path / "gate.toml")
    assert (bare.text, bare.source) == ("failure_count == 0", f"{path}: thresholds[0]")
    assert (bare.severity, bare.abort) == ("fail", False)
    assert failing.source == f"{path}: threshold[0].expr"
    assert (failing.abort, failing.delay_episodes) == (True, 50)
    assert (warning.path, warning.severity) == ("elapsed_s", "warn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found nothing, expected at least one threshold"),
        *rows(r"""
    thresholds = []                           | expected at least one threshold
    thresholds = 'failure_count == 0'         | found 'failure_count == 0', expected a list
    thresholds = [3]                          | thresholds[0]: found 3, expected an expression as
    thresholds = ['episodes == 0', 'x < 1']   | thresholds[1]: column 1: found 'x'
    threshold = ['failure_count']             | threshold[0]: found 'failure_count', expected a tab
    [threshold]\nexpr = 'failure_count == 0'  | expected [[threshold]] tables
    treshold = 1 | 'treshold', expected only threshold, thresholds (did you mean threshold?)
    [[threshold]]\nexp = 'x'                  | threshold[0]: found 'exp', expected only expr
    [[threshold]]\nseverity = 'warn'          | threshold[0].expr: found nothing
    [[threshold]]\nexpr = 'failure_count =! 0' | threshold[0].expr: column 15: found '=! 0'
    GOOD; severity = 'error'                  | threshold[0].severity: found 'error', expected fail
    GOOD; abort = 1                           | threshold[0].abort: found 1, expected true or false
    GOOD; abort = true; delay_episodes = -1   | delay_episodes: found -1
    GOOD; abort = true; delay_episodes = true | delay_episodes: found True
    GOOD; delay_episodes = 5                  | expected abort = true with it
    GOOD; abort = true; severity = 'warn'     | a warning ends nothing
    thresholds = [                            | valid TOML
        """),
        ("x = " + "[" * 5000, "very deep nesting"),
    ],
)
def test_a_bad_file_is_refused_with_its_field(tmp_path: pathlib.Path, text: str, words: str):
    text = text.replace("GOOD", r"[[threshold]]\nexpr = 'episodes > 1'").replace("; ", r"\n")
    with pytest.raises(ThresholdError) as caught:
        read(tmp_path, text.replace(r"\n", "\n"))
    assert caught.value.path.startswith(str(tmp_path / "gate.toml"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.toml", r"none\.toml: found 'No such file or directory', expected a readable TOML"),
        ("latin.toml", r"byte 15: .* expected UTF-8 text"),
        ("/dev/zero", "no regular file"),
    ],
)
def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: pathlib.Path, name, words):
    (tmp_path / "latin.toml").write_bytes(b"thresholds = ['\xff']")
    with pytest.raises(ThresholdError, match=words):
        read_thresholds(str(tmp_path / name), paths=PATHS, fields=FIELDS)
