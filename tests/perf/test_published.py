import json
import pathlib
import re
import sys

import pytest
from helpers.reports import STAMP, write_slice

from tracecore.errors import InputError
from tracecore.perf.compare.runs import read_run
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.judge.verify import verify_sets

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts" / "dev"))

import published


@pytest.fixture
def folder(tmp_path, make_row):
    """A class of one published slice: its summary and its zip."""
    (tmp_path / "all").mkdir()
    written = write_slice(tmp_path / "all" / "a-class", make_row)
    for kind in ("manifest", "metrics", "series"):
        (written / f"perf-{kind}-{STAMP}.json").unlink()
    published.write_index(str(written), "python make.py")
    return written


def test_the_index_names_the_slice_and_holds_every_file_to_its_hash(folder):
    index = published.read_index(str(folder))
    assert index["machine_class"] == "x86_64-2cpu-16gib-py3.11-0a1b2c3d"
    assert [one["episodes"] for one in index["slices"]] == [90]
    assert index["slices"][0]["exit_code"] == 1
    assert set(index["files"]) == {path.name for path in folder.iterdir()} - {"index.json"}
    problems, verified = verify_sets(str(folder))
    assert (problems, verified["indexed_files"]) == ([], 3)
    for name in ("", f"perf-summary-{STAMP}.json", f"perf-artifacts-{STAMP}.zip"):
        assert [one.stamp for one in read_sets(str(folder / name))] == [STAMP]
    (folder / f"perf-summary-{STAMP}.json").write_text("{}")
    # not what is in the zip, nor in the index
    assert len(verify_sets(str(folder))[0]) == 2
    (folder / "large.svg").write_bytes(b"x" * published.CLASS_BYTES_MOST)
    with pytest.raises(InputError, match="at most 3 MB"):
        published.write_index(str(folder), "")


def test_the_overview_leads_to_every_file_that_it_names(folder):
    (folder / f"perf-report-{STAMP}.md").write_text("x")
    published.write_index(str(folder), "")
    published.write_overview(str(folder.parent))
    text = (folder.parent / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links == ["a-class/index.json", f"a-class/perf-report-{STAMP}.md"]
    assert all((folder.parent / link).exists() for link in links)
    assert "python scripts/dev/baseline.py make" in text


@pytest.mark.parametrize(
    "changed",
    [{}, {"run_id": "f" * 32}, {"steps_used": 6}, {"tokens_used": 9}, {"trace_hash": "sha256:0"}],
)
def test_other_behaviour_is_named_even_of_changed_agents(tmp_path, folder, make_row, changed):
    def other(index, **changes):
        return make_row(index, **{**changes, **(changed if index == 5 else {})})

    new = read_run(read_sets(str(write_slice(tmp_path / "new", other, 30)))[0])
    changes, compared = published.behaviour_changes(published.read_class(str(folder)), new)
    named = [(quantity, 1) for quantity in changed if quantity != "run_id"]
    assert [(change.quantity, change.changed) for change in changes] == named
    assert compared == 30


def test_without_baselines_a_check_is_bad_input_and_no_pass(tmp_path):
    with pytest.raises(InputError, match="no published baselines"):
        published.pick_class(str(tmp_path / "none"), None)


def test_the_own_class_is_picked_and_else_the_first(folder):
    other = folder.parent / "another"
    other.mkdir()
    (other / "index.json").write_text("{}")
    assert published.pick_class(str(folder.parent), "a-class").endswith("a-class")
    assert published.pick_class(str(folder.parent), "unknown").endswith("a-class")
    with pytest.raises(InputError, match="an object with machine_class"):
        published.read_index(str(other))


def test_times_stand_beside_those_of_the_baseline(folder):
    summary = json.loads((folder / f"perf-summary-{STAMP}.json").read_text())
    lines = published.times_lines(published.read_index(str(folder)), summary)
    assert len(lines) == 3
    assert all("baseline" in line for line in lines)
