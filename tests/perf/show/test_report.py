import hashlib
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from helpers.reports import HOSTILE, STAMP, write_slice

from tracecore.errors import InputError, OptionError
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.judge.verdicts import answer_of
from tracecore.perf.show import report
from tracecore.perf.show.charts import draw_charts
from tracecore.perf.show.report import check_extra, find_set, write_report
from tracecore.perf.show.report_data import gather
from tracecore.perf.show.report_markdown import code, fence, md

CHARTS = ["latency", "distribution", "throughput", "machine", "artifacts"]


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_open(tmp_path_factory, make_row):
    """matplotlib opens its fonts at the first picture and keeps them, which the first test would be
    blamed for.
    """
    charts_of(write_slice(tmp_path_factory.mktemp("first") / "out", make_row, 3))


@pytest.fixture
def folder(tmp_path, make_row):
    return write_slice(tmp_path / "out", make_row)


def charts_of(folder, baseline=None):
    data = gather(read_sets(str(folder))[0])
    return {chart.name: chart for chart in draw_charts(data, baseline)}


DRAW = """
import hashlib, sys
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.show.charts import draw_charts
from tracecore.perf.show.report_data import gather
for chart in draw_charts(gather(read_sets(sys.argv[1])[0])):
    print(chart.name, hashlib.sha256(chart.svg.encode()).hexdigest())
"""


def test_the_same_data_gives_the_same_bytes_in_any_process(folder):
    here = [
        f"{name} {hashlib.sha256(chart.svg.encode()).hexdigest()}"
        for name, chart in charts_of(folder).items()
    ]
    for seed in ("1", "2"):
        environ = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C",
            "MPLBACKEND": "pdf",
        }
        done = subprocess.run(
            [sys.executable, "-c", DRAW, str(folder)],
            check=True,
            capture_output=True,
            text=True,
            env=environ,
        )
        assert done.stdout.splitlines() == here


def test_every_chart_is_a_picture_that_loads_nothing(folder):
    for chart in charts_of(folder).values():
        root = ET.fromstring(chart.svg)
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


def test_there_is_a_chart_for_whatever_there_is_data_for(tmp_path, make_row, folder):
    assert list(charts_of(folder)) == CHARTS
    baseline = gather(read_sets(str(folder))[0])
    assert list(charts_of(folder, baseline)) == [*CHARTS, "baseline"]
    bare = write_slice(tmp_path / "bare", make_row, full=False)
    assert list(charts_of(bare)) == [name for name in CHARTS if name != "machine"]


def test_a_series_without_times_has_no_chart_over_time(folder):
    path = folder / f"perf-series-{STAMP}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        del row["start_offset_s"], row["end_offset_s"]
    path.write_text(json.dumps(rows))
    assert list(charts_of(folder)) == ["distribution", "machine", "artifacts"]


@pytest.mark.parametrize("episodes", [1, 2, 3, 8])
def test_the_smallest_slices_are_drawn_too(tmp_path, make_row, episodes):
    paths = write_report(read_sets(str(write_slice(tmp_path / "small", make_row, episodes)))[0])
    assert all(os.path.getsize(path) for path in paths.values())


def test_a_slice_in_which_all_failed_at_once_is_drawn_too(tmp_path, make_row):
    def failed(index, **changes):
        return make_row(index, **{**changes, "error": "no"})

    assert charts_of(write_slice(tmp_path / "failed", failed, 12))["latency"].svg


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


def test_a_report_lies_beside_the_slice_it_shows(folder):
    paths = write_report(read_sets(str(folder))[0])
    assert {os.path.basename(path) for path in paths.values()} == {
        f"perf-report-{STAMP}.html",
        f"perf-report-{STAMP}.md",
        *(f"perf-report-{STAMP}-{name}.svg" for name in CHARTS),
    }
    assert {os.path.dirname(path) for path in paths.values()} == {str(folder)}


def test_a_report_goes_into_a_folder_that_is_made_for_it(folder, tmp_path):
    paths = write_report(read_sets(str(folder))[0], str(tmp_path / "pages" / "new"))
    assert {os.path.dirname(path) for path in paths.values()} == {str(tmp_path / "pages" / "new")}
    with pytest.raises(InputError, match="a folder in which files can be written"):
        write_report(
            read_sets(str(folder))[0], str(folder / f"perf-summary-{STAMP}.json" / "below")
        )


def test_the_same_slice_gives_the_same_pages(folder, monkeypatch):
    first = list(map(_read, write_report(read_sets(str(folder))[0]).values()))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert list(map(_read, write_report(read_sets(str(folder))[0]).values())) == first


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def test_the_page_has_everything_in_it_in_the_order_in_which_it_is_asked(folder):
    page = _read(write_report(read_sets(str(folder))[0])["report"]).decode()
    places = [
        page.index(f'id="{name}"')
        for name in ("gate", "findings", "scenario", "charts", "failures", "host")
    ]
    assert places == sorted(places)
    assert page.index("Episodes failed") < page.index("episodes passed") < places[0]
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page.replace(
        "&#39;", "'"
    )
    assert not re.search(r"(?:src|href)=\"(?!data:,\"|#)", page)


def test_what_agents_wrote_is_text_in_the_markdown_too(folder):
    text = _read(write_report(read_sets(str(folder))[0])["markdown"]).decode()
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", re.sub(r"(?ms)^```.*?^```", "", text))
    assert "<script" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert re.findall(r"!\[.*?\]\((.*?)\)", outside) == [
        f"perf-report-{STAMP}-{name}.svg" for name in CHARTS
    ]
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_markdown_is_escaped_for_where_it_stands():
    assert md("a|b <i> *c* [d](e) `f` #1 @g") == r"a\|b &lt;i&gt; \*c\* \[d\]\(e\) \`f\` \#1 &#64;g"
    assert code("a`b``c") == "```a`b``c```"
    assert code("`") == "`` ` ``"
    assert code("a|b") == r"`a\|b`"
    assert code("a|b", in_table=False) == "`a|b`"
    assert fence("x ``` y").startswith("````sh\n")


def summary_of(**changes):
    return {
        "episodes": 24,
        "episodes_requested": 24,
        "failure_count": 0,
        "interrupted": False,
        **changes,
    }


@pytest.mark.parametrize(
    ("summary", "exit_code", "headline"),
    [
        (summary_of(), 0, "Good"),
        (summary_of(failure_count=2), 1, "Episodes failed"),
        (summary_of(episodes=20), 5, "Incomplete"),
        (summary_of(episodes=0, episodes_requested=0), 5, "Incomplete"),
        (summary_of(interrupted=True, episodes=20, failure_count=1), 130, "Interrupted"),
        (
            summary_of(
                verdict={"exit_code": 3, "reasons": ["No."], "thresholds": [{"text": "a < 1"}]}
            ),
            3,
            "A gate is breached",
        ),
        (
            summary_of(
                verdict={"exit_code": 0, "thresholds": [{"text": "a < 1"}], "profile": "small"}
            ),
            0,
            "Good",
        ),
        (summary_of(verdict={"exit_code": 77}), 77, "Exit code 77"),
        (summary_of(verdict="fine"), 0, "Good"),
    ],
)
def test_the_answer_is_the_verdict_or_what_the_counts_say(summary, exit_code, headline):
    answer = answer_of(summary)
    assert (answer.exit_code, answer.headline, answer.is_good) == (
        exit_code,
        headline,
        exit_code == 0,
    )


def test_shipping_is_advised_only_where_a_gate_held():
    assert "Ship it." not in answer_of(summary_of()).advice
    assert (
        answer_of(summary_of(verdict={"exit_code": 0, "thresholds": [{"text": "a < 1"}]})).advice
        == "Ship it."
    )


def test_a_slice_is_found_by_its_stamp_and_by_its_path(folder):
    assert find_set(STAMP, str(folder)).stamp == STAMP
    assert find_set(str(folder / f"perf-artifacts-{STAMP}.zip"), "elsewhere").stamp == STAMP
    (folder / f"perf-summary-{STAMP}.json").unlink()
    assert find_set(STAMP, str(folder)).path.endswith(".zip")
    with pytest.raises(InputError):
        find_set("20200101T000000Z", str(folder))


def test_without_the_extra_the_complaint_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(report, "EXTRAS", ("matplotlib", "no_such_module"))
    with pytest.raises(OptionError, match=r"no no_such_module.*tracecore\[report\]"):
        check_extra("--report")


def test_failures_come_with_the_command_that_repeats_them(folder):
    failures = gather(read_sets(str(folder))[0]).failures
    assert failures[0]["episode"] == 4
    assert (
        failures[0]["repro"]
        == "python -m tracecore run --agent agents/toy_agent.py --task filesystem_hidden_config@1"
        " --seed 45"
    )
    assert "\x1b" not in failures[0]["error"]
    assert HOSTILE.startswith("<script>")


def test_what_a_scenario_row_allows_its_agent_is_shown(folder):
    write_report(read_sets(str(folder))[0], str(folder))
    page = (folder / f"perf-report-{STAMP}.html").read_text("utf-8")
    assert "may read /data/&lt;i&gt;notes, reach api.example.test." in page
    assert "may read /data/&lt;i&gt;notes, reach api.example.test" in (
        folder / f"perf-report-{STAMP}.md"
    ).read_text("utf-8")
