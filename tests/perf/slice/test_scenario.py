import pathlib
import shutil

import pytest
from helpers.tables import rows

from tracecore.errors import ScenarioError
from tracecore.perf.slice.scenario import (
    DEFAULT_SCENARIO,
    MAX_FILE_BYTES,
    ScenarioRow,
    read_scenario,
)
from tracecore.records import ModelLimits

JSON_ROW = '{"agent": "a.py", "task_ref": "one@1"}'


def complaint_about(path: pathlib.Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        read_scenario(str(path))
    assert caught.value.path == str(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


TABLES = """
[[scenario]]
agent = "a.py"
task_ref = "one@1"
seed = 7
[[scenario]]
agent = "b.py"
task_ref = "two"
"""
LIST = '[{"agent": "a.py", "task_ref": "one@1", "seed": 7}, {"task_ref": "two", "agent": "b.py"}]'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.json", LIST),
        ("s.JSON", f'{{"scenario": {LIST}}}'),
        ("s.toml", TABLES),
        ("crlf.toml", TABLES.replace("\n", "\r\n")),
    ],
)
def test_every_form_gives_the_same_rows_and_the_seed_defaults_to_0(
    tmp_path: pathlib.Path, name: str, text: str
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_scenario(str(tmp_path / name)) == (
        ScenarioRow("a.py", "one@1", 7),
        ScenarioRow("b.py", "two", 0),
    )


# "@" is the usual agent and task, "~" where the row stands
WRONG_ROWS = r"""
    3 | ~: found 3, expected an object
    [] | ~: found [], expected an object
    {} | ~.agent: found nothing, expected the path of an agent file
    {"agent": "a.py"} | ~.task_ref: found nothing, expected <task id>@<version>
    {"agent": 3, "task_ref": "t"} | ~.agent: found 3
    {"agent": null, "task_ref": "t"} | ~.agent: found None
    {"agent": " ", "task_ref": "t"} | ~.agent: found ' '
    {"agent": "a\u0000b", "task_ref": "t"} | ~.agent: found 'a\x00b'
    {"agent": "\ud800", "task_ref": "t"} | ~.agent: found '\ud800'
    {"agent": "a", "task_ref": ["t"]} | ~.task_ref: found ['t']
    {@, "seed": true} | ~.seed: found True, expected an integer
    {@, "seed": null} | ~.seed: found None, expected an integer
    {@, "seed": "1"} | ~.seed: found '1', expected an integer
    {@, "seed": 1.0} | ~.seed: found 1.0, expected an integer
    {@, "seed": NaN} | ~.seed: found nan, expected an integer
    {@, "seed": 1e999} | ~.seed: found inf, expected an integer
    {@, "seed": 9223372036854775808} | ~.seed: found 9223372036854775808, expected an integer of 64
    {@, "seed": -9223372036854775809} | ~.seed: found -922
    {@, "sed": 1} | ~: found the key 'sed', expected only agent, task_ref, seed, allow
    {@, "budget": 1} | ~: found the key 'budget', expected only agent
    {@, "seed": 1, "seed": 2} | ~.seed: found the key twice, expected an integer
"""


@pytest.mark.parametrize(("row", "complaint"), rows(WRONG_ROWS))
def test_a_wrong_row_is_named_with_what_was_found_and_expected(
    tmp_path: pathlib.Path, row: str, complaint: str
) -> None:
    path = tmp_path / "s.json"
    row = row.replace("@", '"agent": "a", "task_ref": "t"')
    path.write_text(f"[{JSON_ROW}, {row}]")
    assert complaint_about(path).startswith(complaint.replace("~", "scenario[1]"))


def test_all_wrong_rows_are_named_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(f'[3, {JSON_ROW}, {{"agent": 1, "task_ref": "t", "models": {{"calls": -1}}}}]')
    assert [clause.partition(":")[0] for clause in complaint_about(path).split("; ")] == [
        "scenario[0]",
        "scenario[2].agent",
        "scenario[2].models.calls",
    ]


def test_a_row_may_limit_models_and_forbid_a_shared_load(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'[[scenario]]\nagent = "a.py"\ntask_ref = "t"\nseed = {2**63 - 1}\npreload = false\n'
        "models = {calls = 3, bytes = 1000, wait_s = 0.5}\n"
    )
    (row,) = read_scenario(str(path))
    limits = ModelLimits(3, 1000, 0.5)
    assert (row.seed, row.preload, row.models) == (2**63 - 1, False, limits)


GOOD_TABLE = '[[scenario]]\nagent = "a"\ntask_ref = "t"\n'


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        *rows("""
    s.json | []                | found [], expected a list of at least one row
    s.json | "rows"            | found 'rows', expected a list of at least one row
    s.json | {}                | scenario: found nothing, expected a list of at least one row
    s.json | {"scenario": {}}  | scenario: found {}, expected a list of at least one row
    s.json | {"scenarios": []} | found the key 'scenarios', expected only scenario (did you mean
    s.json | {"scenario": [1], "scenario": [2]} | scenario: found the key twice, expected a list
    s.json | [] []             | found 'Extra data at line 1, column 4', expected valid JSON
    s.toml | [scenario]        | scenario: found {}, expected a list of at least one row
    s.toml | [[scenarios]]     | found the key 'scenarios', expected only scenario (did you mean
        """),
        ("s.json", "", "found 'Expecting value at line 1, column 1', expected valid JSON"),
        ("s.json", '[\n  {"agent": "a" 1}\n]', "found \"Expecting ',' delimiter at line 2, column"),
        ("s.json", "[" * 100_000, "found 'very deep nesting', expected JSON that is nested less"),
        ("s.json", "[" * 600 + "]" * 600, "scenario[0]: found "),
        ("s.json", "[" + "9" * 5000 + "]", "found 'a number of thousands of digits', expected a"),
        ("s.json", "\ufeff[]", "byte 0: found 'a byte order mark', expected UTF-8 without one"),
        ("s.json", b'["\xff"]', "byte 2: found b'\\xff', expected UTF-8 text"),
        ("s.json", "[]".encode("utf-16"), "byte 0: found b'\\xff', expected UTF-8 text"),
        ("s.toml", "", "scenario: found nothing, expected a list of at least one row"),
        ("s.toml", '[[scenario]]\nagent = "a', "found 'Unterminated string (at end of document)'"),
        ("s.toml", f'{GOOD_TABLE}agent = "b"\n', "found 'Cannot overwrite a value (at line 4"),
        ("s.toml", f"{GOOD_TABLE}seed = 1979-05-27\n", "scenario[0].seed: found datetime.date"),
        ("s.toml", f"{GOOD_TABLE}seed = nan\n", "scenario[0].seed: found nan"),
        ("s.toml", f"{GOOD_TABLE}seed = 0x{'f' * 9000}\n", "scenario[0].seed: found a value too"),
        ("s.toml", "x = " + "[" * 50_000, "found 'very deep nesting'"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(
    tmp_path: pathlib.Path, name: str, data: str | bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    assert complaint_about(path).startswith(complaint)


def test_a_file_over_8_mib_is_refused_before_it_is_parsed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(b"[" + b" " * (MAX_FILE_BYTES - 1) + b"]")
    assert complaint_about(path).startswith("found 'more than 8388608 bytes'")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("folder.toml", "found 'no regular file'"),
        ("missing.json", "found 'No such file or directory'"),
        *(
            (name, "expected a file whose name ends in .json or .toml")
            for name in ("scenario", "scenario.yaml", ".json")
        ),
    ],
)
def test_what_is_no_file_of_a_scenario_is_refused(
    tmp_path: pathlib.Path, name: str, complaint: str
) -> None:
    (tmp_path / "folder.toml").mkdir()
    for other in ("scenario", "scenario.yaml", ".json"):
        (tmp_path / other).write_text(f"[{JSON_ROW}]")
    assert complaint in complaint_about(tmp_path / name)


def test_a_relative_path_starts_at_the_working_directory_and_then_in_the_package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = read_scenario("agents/scripted_llm_scenario.toml")
    assert bundled[0].agent.startswith("agents/")

    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "scripted_llm_scenario.toml").write_text(
        '[[scenario]]\nagent = "own.py"\ntask_ref = "t"\n'
    )
    assert read_scenario("agents/scripted_llm_scenario.toml") == (ScenarioRow("own.py", "t", 0),)
    shutil.rmtree(tmp_path / "agents")
    with pytest.raises(ScenarioError, match="No such file"):
        read_scenario("agents/../agents/scripted_llm_scenario.toml")


def test_the_default_scenario_is_the_promised_one() -> None:
    assert [(row.agent, row.task_ref, row.seed) for row in DEFAULT_SCENARIO] == [
        ("agents/toy_agent.py", "filesystem_hidden_config@1", 42),
        ("agents/rate_limit_agent.py", "rate_limited_api@1", 11),
        ("agents/chain_agent.py", "rate_limited_chain@1", 7),
        ("agents/ops_triage_agent.py", "log_alert_triage@1", 21),
    ]
