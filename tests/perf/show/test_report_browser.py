"""The page in a real browser. Needs Chromium and its driver, and fails without: a page that nobody
opened is not tested.

Where there can be none, TRACECORE_NO_BROWSER=1 says so out loud.
"""

import json
import os
import re
import shutil

import pytest
from helpers.reports import AGENTS, HOSTILE, STAMP, write_slice
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tracecore.errors import one_line
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.show.report import write_report
from tracecore.stats import nearest_rank

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --disable-dev-shm-usage"
)
DESKTOP, PHONE = (1280, 900), (390, 844)
REQUIRED = {
    ("summary", "summary", "passed"),
    ("summary", "summary", "total"),
    ("summary", "summary", "failed"),
    ("summary", "summary", "p50_wall_clock_s"),
    ("summary", "summary", "p95_wall_clock_s"),
    ("summary", "max_wall_clock_s"),
    ("summary", "summary", "throughput_eps"),
    ("summary", "summary", "workers"),
    ("summary", "elapsed_s"),
    ("summary", "run_artifacts", "file_count"),
    ("summary", "run_artifacts", "total_bytes"),
    ("summary", "failure_count"),
    ("summary", "verdict", "thresholds", 0, "observed"),
    *(("metrics", place, "run_count") for place in range(3)),
    *(("metrics", place, "p95_wall_clock_s") for place in range(3)),
}
UNITS = {"ms": 1e-3, "s": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "%": 1e-2, "/s": 1, "": 1}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        if os.environ.get("TRACECORE_NO_BROWSER") == "1":
            pytest.skip("TRACECORE_NO_BROWSER=1")
        pytest.fail(
            "no Chromium or no chromedriver: apt-get install chromium chromium-driver, or set"
            " TRACECORE_NO_BROWSER=1"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_row):
    folder = write_slice(tmp_path_factory.mktemp("slice") / "out", make_row)
    write_report(read_sets(str(folder))[0])
    return folder


@pytest.fixture
def open_page(browser, folder):
    def load(size=DESKTOP, scheme="light"):
        metrics = {
            "width": size[0],
            "height": size[1],
            "deviceScaleFactor": 1,
            "mobile": size == PHONE,
        }
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(f"file://{folder}/perf-report-{STAMP}.html")
        return browser

    return load


def test_it_loads_without_a_word_on_the_console_and_asks_nobody_for_anything(open_page):
    page = open_page()
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.title == f"FAIL: Slice {STAMP}"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_but_what_scrolls_within_itself(open_page, size, scheme):
    page = open_page(size, scheme)
    width, overflow = page.execute_script(
        """
        const root = document.documentElement;
        return [innerWidth, root.scrollWidth - root.clientWidth]"""
    )
    assert (width, overflow) == (size[0], 0)
    too_wide = page.execute_script(
        """
        return [...document.querySelectorAll('body *')]
            .filter(one => !one.closest('.scroll, pre, nav'))
            .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
            .map(one => one.outerHTML.slice(0, 200))"""
    )
    assert too_wide == []
    cut = page.execute_script(
        """
        const boxes = '.verdict, .tiles div, figure, .cards > li, h1, h2, h3';
        return [...document.querySelectorAll(boxes)]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => one.outerHTML.slice(0, 200))"""
    )
    assert cut == []


def documents_of(folder):
    documents = {
        kind: json.loads((folder / f"perf-{kind}-{STAMP}.json").read_text())
        for kind in ("summary", "metrics", "series")
    }
    groups = {}
    for row in documents["series"]:
        groups.setdefault((row["task_ref"], row["agent"]), []).append(row["wall_clock_s"])
    for row, walls in zip(documents["metrics"], groups.values(), strict=True):
        row["p50_wall_clock_s"] = nearest_rank(sorted(walls), 50)
        row["p95_wall_clock_s"] = nearest_rank(sorted(walls), 95)
        row["max_wall_clock_s"] = max(walls)
    return documents


def number_shown(text):
    found = re.fullmatch(r"(-?[\d,.]+(?:e[+-]?\d+)?)\s*(ms|s|B|kB|MB|GB|%|/s|)", text)
    assert found, f"{text!r} is no figure"
    return float(found[1].replace(",", "")) * UNITS[found[2]]


def test_every_figure_on_the_page_is_the_summarys(open_page, folder):
    shown = open_page().execute_script(
        """
        return [...document.querySelectorAll('data')]
            .map(one => [one.dataset.path, one.value, one.innerText])"""
    )
    documents = documents_of(folder)
    for path, exact, text in shown:
        value = documents
        for step in json.loads(path):
            value = value[step]
        assert json.loads(exact) == value, path
        assert number_shown(text) == pytest.approx(value, rel=6e-3), path
    assert {tuple(json.loads(path)) for path, _, _ in shown} >= REQUIRED


def test_what_agents_wrote_is_shown_and_does_nothing(open_page):
    page = open_page()
    assert page.execute_script("return window.broken") is None
    counts = page.execute_script(
        """return ['img', 'iframe', 'a:not([href^="#"])', 'form', 'object', 'link[href^=http]']
        .map(tag => document.querySelectorAll(tag).length)"""
    )
    assert counts == [0] * 6
    assert page.execute_script("return document.querySelectorAll('script').length") == 1
    assert page.execute_script("""return [...document.querySelectorAll('*')]
        .flatMap(one => [...one.attributes])
        .filter(one => one.name.startsWith('on')).length""") == 0  # fmt: skip
    text = page.execute_script("return document.body.textContent")
    assert one_line(HOSTILE) in text
    assert AGENTS[1] in text
    assert "\u202e" not in text


def test_no_other_script_than_the_pages_own_runs(open_page):
    page = open_page()
    page.execute_script("""const one = document.createElement('script');
        one.textContent = 'window.broken = 3'; document.body.append(one);""")
    assert page.execute_script("return window.broken") is None
    assert any("script-src" in entry["message"] for entry in page.get_log("browser"))


def test_a_click_copies_a_command(open_page, browser):
    page = open_page()
    origin = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", origin)
    text = page.execute_script("return document.querySelector('pre code').innerText")
    page.execute_script("document.querySelector('pre button').click()")
    said = page.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(document.querySelector('pre button')"
        ".innerText), 200)"
    )
    assert said in {"copied", "press Ctrl+C"}
    if said == "press Ctrl+C":  # no clipboard here: the command is selected instead
        assert page.execute_script("return getSelection().toString()") == text


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_verdict_stays_in_sight(open_page, size):
    page = open_page(size)
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    top, bottom, text = page.execute_script("""
        const one = document.querySelector('nav .badge'), box = one.getBoundingClientRect();
        return [box.top, box.bottom, one.innerText]""")
    assert 0 <= top < bottom < size[1]
    assert "FAIL" in text


def test_charts_fit_a_phone_and_leave_no_hole_on_a_desktop(open_page):
    fits = (
        "return [...document.querySelectorAll('figure svg')].every(one => one.clientWidth <= 390)"
    )
    assert open_page(PHONE).execute_script(fits)
    rows = open_page(DESKTOP).execute_script("""
        const tops = {};
        for (const one of document.querySelectorAll('figure')) {
          const box = one.getBoundingClientRect();
          tops[box.top] = (tops[box.top] || 0) + box.width;
        }
        return Object.values(tops)""")
    assert max(rows) - min(rows) < 30


def test_every_id_is_there_once_and_every_picture_has_its_name(open_page):
    ids = open_page().execute_script(
        "return [...document.querySelectorAll('[id]')].map(one => one.id)"
    )
    assert len(ids) == len(set(ids))
    page = open_page()
    names = page.execute_script("""return [...document.querySelectorAll('svg')]
        .map(one => document.getElementById(one.getAttribute('aria-labelledby')).innerText)""")
    assert names == [
        "Latency over start time",
        "Distribution of latency",
        "Throughput",
        "Episodes in flight",
        "Processors and memory",
        "Growth of run artifacts",
    ]


CONTRAST = """
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = one => {
  for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (!colour.endsWith(', 0)')) return colour;
  }
};
const texts = 'p, dt, dd, th, td, h1, h2, h3, li, code, figcaption, nav a, .badge, .soft';
return [...document.querySelectorAll(texts)]
    .map(one => {
      const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 120)];
    }).filter(([ratio]) => ratio < 4.5);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(open_page, scheme):
    assert open_page(DESKTOP, scheme).execute_script(CONTRAST) == []


def test_the_colours_follow_the_scheme_in_the_pictures_too(open_page):
    stroke = (
        "return getComputedStyle(document.querySelector('#throughput-figure_1"
        ' [style*="--s1"]\')).stroke'
    )
    assert open_page(DESKTOP, "light").execute_script(stroke) != open_page(
        DESKTOP, "dark"
    ).execute_script(stroke)
