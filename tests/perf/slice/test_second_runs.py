import json
import os
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracecore.errors import OutputError
from tracecore.perf.slice import second_runs
from tracecore.perf.slice.second_runs import (
    Determinism,
    choose_episodes,
    compare_runs,
    second_runs_folder,
)
from tracecore.record import replace
from tracecore.runtime.replay import Difference


def choose(make_row, count, *, episodes=24, scenario_rows=4, cut_off=()):
    reasons = {index: {"termination_reason": "timeout", "error": "slow"} for index in cut_off}
    rows = (make_row(index, **reasons.get(index, {})) for index in range(episodes))
    return [
        row.episode_index
        for row in choose_episodes(rows, count, episodes=episodes, scenario_rows=scenario_rows)
    ]


def test_each_scenario_row_has_its_share_spread_over_the_slice(make_row):
    assert choose(make_row, 8) == [0, 1, 2, 3, 12, 13, 14, 15]
    assert len({index % 4 for index in choose(make_row, 3)}) == 3
    assert choose(make_row, 4, cut_off=[0]) == [1, 2, 3, 4]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 60))
# the fixture only gives a function
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_many_as_wanted_are_chosen_and_none_twice(make_row, episodes, scenario_rows, count):
    count = min(count, episodes)
    chosen = choose(make_row, count, episodes=episodes, scenario_rows=scenario_rows)
    assert len(chosen) == len(set(chosen)) == count


def compare(first_rows, second_rows, *, runs_dir="", second_runs_dir="", requested=None):
    return compare_runs(
        first_rows,
        second_rows,
        requested=len(first_rows) if requested is None else requested,
        runs_dir=str(runs_dir),
        second_runs_dir=str(second_runs_dir),
    ).document()


def test_equal_hashes_are_no_difference_and_an_unfinished_check_is_no_data(make_row):
    rows = [make_row(0), make_row(5)]
    same = {"requested": 2, "checked": 2, "differing": 0, "differences": []}
    assert compare(rows, reversed(rows)) == same
    assert compare(rows, rows[:1])["differing"] is None
    assert compare([], [], requested=3)["differing"] is None
    assert Determinism().document()["differing"] is None


def test_a_difference_names_its_first_step_and_field_where_both_artifacts_are_there(
    make_row, tmp_path, monkeypatch
):
    def differ(old, new):
        return Difference(7, "result.value", old["value"], new["value"])

    monkeypatch.setattr(second_runs, "first_difference", differ)
    first, other = make_row(3), {"artifact_hash": "sha256:other"}
    for folder, value in (("first", 1), ("second", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / first.artifact).write_text(json.dumps({"value": value}))
    folders = {"runs_dir": tmp_path / "first", "second_runs_dir": tmp_path / "second"}
    document = compare([first], [make_row(3, **other, trace_hash="sha256:other")], **folders)
    assert (document["differing"], len(document["differences"])) == (1, 1)
    found = {"first": "1", "second": "2", "same_behaviour": False}
    where = {"episode": 4, "episode_index": 3, "step": 7, "field": "result.value"}
    expected = {**where, **found, "task_ref": first.task_ref}
    assert expected.items() <= document["differences"][0].items()

    gone = compare([make_row(3, artifact=None)], [make_row(3, **other)], **folders)
    (difference,) = gone["differences"]
    assert difference["step"] is difference["field"] is None
    assert difference["same_behaviour"] is True


def test_what_differs_is_told_even_if_the_check_is_unfinished(make_row):
    rows = [make_row(0), make_row(1)]
    assert compare(rows, [make_row(0, artifact_hash="sha256:other")])["differing"] == 1


def test_the_folder_of_the_second_runs_is_gone_afterwards_whatever_happens(tmp_path: pathlib.Path):
    left_behind = tmp_path / ".perf-second-runs-S"
    left_behind.mkdir()
    (left_behind / "old.json").touch()

    def use_and_fail():
        with second_runs_folder(str(tmp_path), "S") as folder:
            assert os.listdir(folder) == []
            pathlib.Path(folder, "new.json").touch()
            raise KeyError

    with pytest.raises(KeyError):
        use_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), second_runs_folder(str(tmp_path / "file"), "S"):
        pass


def test_what_was_counted_in_second_runs_is_kept_by_scenario_row(make_row, tmp_path):
    first = [make_row(index) for index in (0, 5)]
    second = [replace(row, work={"messages": row.episode_index}) for row in reversed(first)]
    found = compare_runs(
        first, second, requested=2, runs_dir=str(tmp_path), second_runs_dir=str(tmp_path)
    )
    assert [(one["seed"], one["episode_index"], one["counts"]) for one in found.work] == [
        (42, 0, {"messages": 0}),
        (42, 5, {"messages": 5}),
    ]
    assert found.document()["checked"] == 2
