import pathlib
import shutil

import pytest
from helpers.sets import DEFAULTS, TASKS

from tracecore.errors import InputError
from tracecore.perf.compare.comparison import compare_paths
from tracecore.perf.compare.runs import read_runs


def test_slices_of_different_length_share_their_first_episodes(sets):
    document = compare_paths(sets.five(episodes=24), sets.five(episodes=40), DEFAULTS)
    assert document["exact"] == {"compared_episodes": 24, "reasons": [], "changes": []}
    assert [(row["compared_episodes"], row["only_in_new"]) for row in document["rows"]] == [
        (6, 4)
    ] * 4
    assert document["verdict"] == "unchanged"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"summary": {"interrupted": True}}, "interrupted"),
        ({"summary": {"episodes_requested": 48}}, "episodes: found 24"),
        ({"episodes": 0}, "episodes: found 0"),
    ],
)
def test_an_unfinished_or_empty_slice_is_no_run_to_compare(sets, changes, field):
    with pytest.raises(InputError, match=field):
        read_runs([sets.write(**changes)])


def test_copies_of_one_run_are_one_run(sets, tmp_path):
    copies = [sets.write(compress=True)]
    copies += [shutil.copytree(copies[0], tmp_path / f"copy{number}") for number in range(4)]
    bundles = [str(bundle) for copy in copies for bundle in pathlib.Path(copy).glob("*.zip")]
    slow = sets.five(slower=dict.fromkeys(TASKS, 1.5))
    document = compare_paths([*map(str, copies), *bundles], slow, DEFAULTS)
    assert len(document["base"]) == 1
    assert document["verdict"] == "inconclusive"
    assert compare_paths(sets.five(), slow, DEFAULTS)["verdict"] == "regressed"


def test_a_run_that_stands_on_both_sides_is_told(sets):
    runs = sets.five()
    assert (
        "2 runs stand on both sides"
        in compare_paths(runs, [*sets.five(), *runs[:2]], DEFAULTS)["reasons"][-1]
    )
    assert "both sides" not in compare_paths(runs, sets.five(), DEFAULTS)["reasons"]


def test_logarithms_of_a_run_are_taken_once_whatever_number_of_rows_asks_for_them(sets):
    (run,) = read_runs([sets.write()])
    assert run.columns.logs("cpu") is run.columns.logs("cpu")
