import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from helpers.reports import HOSTILE, STAMP, write_slice
from helpers.rows import as_series

from tracecore.errors import InputError
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.judge.verdicts import answer_of
from tracecore.perf.show.charts.drawing import is_long_tailed
from tracecore.perf.show.report import draw_charts, find_set, write_report
from tracecore.perf.show.report_data import gather
from tracecore.perf.show.sections import episode_cards, failed_episodes

CHARTS = ["latency", "distribution", "throughput", "in-flight", "machine", "artifacts"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory, make_row):
    """A slice with its report, which tests only look at: drawing takes seconds."""
    folder = write_slice(tmp_path_factory.mktemp("reported") / "out", make_row)
    return folder, write_report(read_sets(str(folder))[0])


@pytest.fixture
def folder(reported, tmp_path):
    """A copy of the slice to change, without its report."""
    skip = shutil.ignore_patterns("perf-report-*")
    return shutil.copytree(reported[0], tmp_path / "out", ignore=skip)


def charts_of(folder, baseline=None):
    data = gather(read_sets(str(folder))[0])
    return {chart.name: chart for chart in draw_charts(data, baseline)}


def chart_files(paths):
    return {kind: path for kind, path in paths.items() if kind.startswith("chart_")}


WRITE = """
import sys
from tracecore.perf.show.report import find_set, write_report
write_report(find_set(sys.argv[1], "."), sys.argv[2])
"""


def test_the_same_slice_gives_the_same_bytes_in_any_process(reported, tmp_path):
    folder, paths = reported
    odd = {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MPLBACKEND": "pdf"}
    subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), str(tmp_path)],
        check=True,
        env={**os.environ, **odd},
    )
    for path in paths.values():
        other = tmp_path / os.path.basename(path)
        assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(_read(path)).digest()


def test_every_chart_is_a_picture_that_loads_nothing(reported):
    for path in chart_files(reported[1]).values():
        root = ET.fromstring(_read(path))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not tags & {"script", "image", "foreignObject", "text", "a"}
        links = [
            value
            for element in root.iter()
            for name, value in element.attrib.items()
            if name.endswith("href")
        ]
        assert all(link.startswith("#") for link in links)


def test_there_is_a_chart_for_whatever_there_is_data_for(tmp_path, make_row):
    bare = write_slice(tmp_path / "bare", make_row, 9, full=False)
    names = list(charts_of(bare, gather(read_sets(str(bare))[0])))
    assert names == [*(name for name in CHARTS if name != "machine"), "baseline"]


def test_a_slice_in_which_all_failed_at_once_is_drawn_too(tmp_path, make_row):
    def failed(index, **changes):
        return make_row(index, **{**changes, "error": "no"})

    assert charts_of(write_slice(tmp_path / "failed", failed, 6))["latency"].svg


@pytest.mark.parametrize(
    ("walls_s", "is_long"),
    [([], False), ([0.0, 0.0], False), ([1.0] * 9 + [9.0], False), ([1.0] * 9 + [11.0], True)],
)
def test_an_axis_is_logarithmic_where_the_tail_would_hide_the_rest(walls_s, is_long):
    assert is_long_tailed(walls_s) is is_long


def test_a_resumed_slice_with_a_long_tail_is_drawn_in_parts_on_logarithmic_axes(folder):
    path = folder / f"perf-manifest-{STAMP}.json"
    manifest = json.loads(path.read_text())
    part = {"began_at": "2026-01-31T23:59:59.000000Z", "episodes": 45}
    manifest["parts"] = [{**part, "elapsed_s": 100.0}, {**part, "elapsed_s": 9.0}]
    path.write_text(json.dumps(manifest))
    series = folder / f"perf-series-{STAMP}.json"
    rows = [{**row, "part": row["episode_index"] // 45} for row in json.loads(series.read_text())]
    rows[0]["wall_clock_s"] = 30.0
    series.write_bytes(as_series(rows))
    data = gather(read_sets(str(folder))[0])
    assert data.resumed_s == [100.0]
    starts_s = sorted(start_s for group in data.groups for start_s in group.start_s)
    assert starts_s[44:46] == [pytest.approx(4.4), pytest.approx(104.5)]
    assert data.samples["samples"][0]["offset_s"] == 100.5
    charts = charts_of(folder)
    assert all(chart.svg for chart in charts.values())
    assert "logarithmic" in charts["latency"].caption
    assert "logarithmic" in charts["distribution"].caption


def test_the_samples_are_left_out_when_they_cannot_be_drawn(folder):
    path = folder / f"perf-samples-{STAMP}.json"
    for text in (
        "",
        "[]",
        '{"samples": []}',
        '{"samples": [{"offset_s": "x"}]}',
        '{"samples": [{"offset_s": 1, "cpu_percent": "<"}]}',
    ):
        path.write_text(text)
        assert gather(read_sets(str(folder))[0]).samples is None


def test_a_report_lies_beside_the_slice_it_shows(reported):
    folder, paths = reported
    assert {os.path.basename(path) for path in paths.values()} == {
        f"perf-report-{STAMP}.html",
        f"perf-report-{STAMP}.md",
        *(f"perf-report-{STAMP}-{name}.svg" for name in CHARTS),
    }
    assert {os.path.dirname(path) for path in paths.values()} == {str(folder)}


def test_a_report_of_one_episode_goes_into_a_folder_that_is_made_for_it(tmp_path, make_row):
    archived = read_sets(str(write_slice(tmp_path / "out", make_row, 1)))[0]
    paths = write_report(archived, str(tmp_path / "pages" / "new"))
    assert {os.path.dirname(path) for path in paths.values()} == {str(tmp_path / "pages" / "new")}
    assert all(os.path.getsize(path) for path in paths.values())
    with pytest.raises(InputError, match="a folder in which files can be written"):
        write_report(archived, paths["report"] + "/below")


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def test_the_page_has_everything_in_it_in_the_order_in_which_it_is_asked(reported):
    page = _read(reported[1]["report"]).decode()
    places = [
        page.index(f'id="{name}"')
        for name in (
            *("figures", "gate", "findings", "scenario", "charts", "failures", "slowest", "host"),
        )
    ]
    assert places == sorted(places)
    assert page.index("Episodes failed") < places[0]
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page.replace(
        "&#x27;", "'"
    )
    assert not re.search(r"(?:src|href)=\"(?!data:,\"|#)", page)


def test_what_agents_wrote_is_text_in_the_markdown_too(reported):
    text = _read(reported[1]["markdown"]).decode()
    outside = re.sub(r"(?ms)^```.*?^```", "", text.replace(r"\`", ""))
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", outside)
    assert "<script" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert re.findall(r"!\[.*?\]\((.*?)\)", outside) == [
        f"perf-report-{STAMP}-{name}.svg" for name in CHARTS
    ]
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def summary_of(**changes):
    counts = {"episodes": 24, "episodes_requested": 24, "failure_count": 0, "interrupted": False}
    return {**counts, "failure_reasons": {"no": changes.get("failure_count", 0)}, **changes}


THRESHOLDS = {"thresholds": [{"text": "a < 1"}]}


@pytest.mark.parametrize(
    ("summary", "exit_code", "headline"),
    [
        (summary_of(), 0, "Good"),
        (summary_of(failure_count=2), 1, "Episodes failed"),
        (summary_of(episodes=20), 5, "Incomplete"),
        (summary_of(interrupted=True, episodes=20, failure_count=1), 130, "Interrupted"),
        (
            summary_of(verdict={"exit_code": 3, "reasons": ["No."], **THRESHOLDS}),
            *(3, "A gate is breached"),
        ),
        (summary_of(verdict={"exit_code": 0, "profile": "small", **THRESHOLDS}), 0, "Good"),
        (summary_of(verdict={"exit_code": 77}), 77, "Exit code 77"),
        (summary_of(verdict="fine"), 0, "Good"),
    ],
)
def test_the_answer_is_the_verdict_or_what_the_counts_say(summary, exit_code, headline):
    answer = answer_of(summary)
    assert (answer.exit_code, answer.headline) == (exit_code, headline)
    assert answer.is_good is (exit_code == 0)


def test_a_slice_is_found_by_its_stamp_and_by_its_path(folder):
    assert find_set(STAMP, str(folder)).stamp == STAMP
    assert find_set(str(folder / f"perf-artifacts-{STAMP}.zip"), "elsewhere").stamp == STAMP
    (folder / f"perf-summary-{STAMP}.json").unlink()
    assert find_set(STAMP, str(folder)).path.endswith(".zip")
    with pytest.raises(InputError):
        find_set("20200101T000000Z", str(folder))


def test_failed_and_slow_episodes_come_with_their_artifact_and_the_command_that_repeats_them(
    folder,
):
    summary = read_sets(str(folder))[0].summary
    *_, failed = failed_episodes(summary)
    assert [card.line[0] for card in failed.cards] == [
        f"Episode {4 + 7 * place}" for place in range(10)
    ]
    show, repeat = failed.cards[0].commands
    assert " show runs/" in show
    assert repeat == summary["failures"][0]["repro"]
    assert repeat.endswith("--task filesystem_hidden_config@1 --seed 45")
    (slowest,) = episode_cards(summary, "slowest")
    walls_s = [card.line[2].value for card in slowest.cards]
    assert len(walls_s) == 5
    assert walls_s == sorted(walls_s, reverse=True)
    assert not any(card.detail for card in slowest.cards)
    assert HOSTILE.startswith("<script>")


def test_what_a_scenario_row_allows_its_agent_is_shown(reported):
    page, text = (_read(reported[1][kind]).decode() for kind in ("report", "markdown"))
    assert "may read /data/&lt;i&gt;notes, reach api.example.test." in page
    assert "may read /data/&lt;i&gt;notes, reach api.example.test" in text
