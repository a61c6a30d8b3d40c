import pathlib

import pytest
from helpers.sets import TASKS, only, work_of

from tracecore.errors import InputError
from tracecore.perf.compare.history import history
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.show.charts.drawing import figure_with_axes, picture
from tracecore.perf.show.history import write_history


def release(sets, letter, day, count=5, **changes):
    """The runs of one commit, made on one day."""
    identity = {"name": "tracecore", "version": "0.1.0", "git_sha": letter * 40, "dirty": False}
    manifest = {"runtime_identity": identity, "generated_at": f"2026-11-{day:02d}T12:00:00Z"}
    return [
        sets.write(cpu_s=0.010 + number / 1e4, manifest=manifest, **changes)
        for number in range(count)
    ]


def test_releases_stand_in_the_order_they_were_made_with_what_the_legs_find_between_them(sets):
    third = release(sets, "c", 3, slower={TASKS[2]: 1.5}, work=work_of(lines={TASKS[1]: 2}))
    second = release(sets, "b", 2, work=work_of(), change=only(4, steps_used=9))
    first = release(sets, "a", 1, work=work_of())
    (found,) = history([*third, *second, *first])["classes"]
    releases = found["releases"]
    assert [one["name"] for one in releases] == ["a" * 12, "b" * 12, "c" * 12]
    assert [one["runs"] for one in releases] == [5, 5, 5]
    assert [one["verdict"] for one in releases] == [None, "regressed", "regressed"]
    assert releases[1]["changes"] == {TASKS[0]: ["behaviour"]}
    assert releases[2]["changes"][TASKS[1]] == ["work"]
    assert releases[2]["changes"][TASKS[2]] == ["shape"]


def test_a_point_has_the_work_and_the_times_of_one_row_in_one_release(sets):
    (found,) = history(release(sets, "a", 1, work=work_of()))["classes"]
    row = next(row for row in found["rows"] if row["row"] == TASKS[0])
    (point,) = row["points"]
    assert point["work_lines"] == 5800
    assert point["cpu_s"] == {
        name: pytest.approx(value * 1.01, rel=1e-6)
        for name, value in (("median", 0.0102), ("low", 0.010), ("high", 0.0104))
    }
    assert point["artifact_bytes"] == 1000
    assert row["agent"] == "agents/toy_agent.py"


def test_what_a_release_lacks_is_null_and_never_small(sets):
    runs = [*release(sets, "a", 1), *release(sets, "b", 2, work=work_of(), episodes=3)]
    (found,) = history(runs)["classes"]
    points = {row["row"]: row["points"] for row in found["rows"]}
    assert points[TASKS[3]][1] == {
        "work_lines": 5800,
        "cpu_s": None,
        "wall_s": None,
        "artifact_bytes": None,
    }
    assert points[TASKS[0]][0]["work_lines"] is None


def test_machine_classes_are_never_mixed(sets):
    other = {"machine_class": "arm64-8cpu"}
    identity = {"generated_at": "2026-11-01T12:00:00Z"}
    runs = [*release(sets, "a", 1), sets.write(manifest={**other, **identity})]
    names = sorted(found["machine_class"] for found in history(runs)["classes"])
    assert names == ["arm64-8cpu", "x86_64-2cpu-16gib-py3.11-0a1b2c3d"]


@pytest.fixture(scope="module")
def fonts():
    """Opened by matplotlib at its first picture, and kept open."""
    figure, _ = figure_with_axes()
    picture(figure, "nothing", "", "")


@pytest.mark.usefixtures("fonts")
def test_a_history_is_written_as_page_markdown_and_json(sets, tmp_path):
    grown = release(sets, "c", 3, work=work_of(lines={TASKS[1]: 2}))
    runs = [*release(sets, "a", 1, work=work_of()), *release(sets, "b", 2, work=work_of()), *grown]
    paths = write_history(history(runs), str(tmp_path / "page"))
    assert {"history", "markdown", "report"} <= paths.keys()
    for path in paths.values():
        assert pathlib.Path(path).stat().st_size > 100
    markdown = pathlib.Path(paths["markdown"]).read_text()
    assert f"| `{TASKS[0]}` | 5,800 | 5,800 |" in markdown
    assert "no gross change" not in markdown  # five against five show small ones
    assert "no change that matters" in markdown
    marked = [line for line in markdown.splitlines() if "changed" in line and TASKS[1] in line]
    assert "5,800" in marked[0]
    assert "10,800" in marked[0]


def test_folders_of_runs_are_found_below_a_folder_of_them(sets, tmp_path):
    sets.write()
    sets.write()
    (tmp_path / "empty").mkdir()
    assert len(read_runs([str(tmp_path)])) == 2
    with pytest.raises(InputError, match="no perf files"):
        read_runs([str(tmp_path / "empty")])
