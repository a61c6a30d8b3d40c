"""README and the pages under docs: code that runs, commands that are accepted, links that
lead on.
"""

import json
import re
import shlex

import pytest
from helpers.pages import PAGES, lines_of
from helpers.slices import ROOT, script

from tracecore.__main__ import build_parser as episode_parser
from tracecore.__main__ import main
from tracecore.command_line.options import options_of
from tracecore.perf.slice.options import ClusterOptions, JudgeOptions, OutputOptions, RunOptions

CODE = re.compile(r"^# (\w+\.py)\n(.*?)(?=^# \w+\.py|\Z)", re.MULTILINE | re.DOTALL)
MANIFEST = """\
id = "sum"
suite = "examples"
version = 1
description = "Submit the sum."
deterministic = true
seed_behavior = "stochastic"
budgets = {steps = 5, tool_calls = 5}
action_surface = {source = "actions.py"}
setup = {entrypoint = "setup.py:setup"}
validator = {entrypoint = "validate.py:validate"}
sandbox = {filesystem_roots = ["/books"], network_hosts = []}
"""


def test_the_code_of_the_readme_is_an_episode_that_succeeds(tmp_path, monkeypatch, capsys):
    task = tmp_path / "tasks" / "sum"
    task.mkdir(parents=True)
    (task / "task.toml").write_text(MANIFEST)
    for block in re.findall(
        r"^```python\n(.*?)^```$", PAGES["README.md"], re.MULTILINE | re.DOTALL
    ):
        for name, code in CODE.findall(block):
            (tmp_path / name if name == "agent.py" else task / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    words = "run --agent agent.py --task sum@1 --seed 4 --tasks-dir tasks"
    assert main(words.split()) == 0
    assert capsys.readouterr().out.startswith("success\n")
    (file,) = (tmp_path / ".agent_bench" / "runs").iterdir()
    trace = json.loads(file.read_text())["action_trace"]
    assert [entry["action"]["type"] for entry in trace] == ["read_file", "submit"]
    assert main(["show", str(file)]) == 0
    assert "submit total=16" in capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_command_of_a_page_is_accepted_by_its_command_line(page, monkeypatch):
    monkeypatch.chdir(ROOT / "tracecore")  # where the folders are that commands name
    parts = [part for line in lines_of(page) for part in re.split(r"&&|\|\|?|;", line)]
    for words in (shlex.split(part, comments=True) for part in parts):
        harness = next((word for word in words if word.endswith("/perf_harness.py")), None)
        if harness:
            script().build_parser().parse(words[words.index(harness) + 1 :])
        elif words[1:3] == ["-m", "tracecore"]:
            episode_parser().parse(words[3:])
        for file in (word for word in words if word.startswith("scripts/")):
            assert (ROOT / file).is_file(), words
    assert parts or "```sh" not in PAGES[page]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        file = folder / path if path else folder / page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert heading in {_anchor(title) for title in titles}, target


def _anchor(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_page_is_opened_by_a_question():
    first = {name: page.partition("\n")[0] for name, page in PAGES.items() if name != "README.md"}
    assert [name for name, title in first.items() if not re.fullmatch(r"# .*\?", title)] == []


def test_no_cell_of_a_table_is_a_paragraph():
    cells = [
        (name, cell)
        for name, page in PAGES.items()
        for line in page.splitlines()
        if line.startswith("|")
        for cell in re.split(r"(?<!\\)\|", line)
    ]
    assert [cell for cell in cells if len(cell[1].split()) >= 50] == []


def test_every_place_that_contributors_are_sent_to_is_there():
    places = re.findall(r"\| `([\w/]+/)` \|", PAGES["contributing.md"])
    assert len(places) > 10
    assert [place for place in places if not (ROOT / place).is_dir()] == []


def test_the_page_of_commands_has_every_option_with_its_words_and_none_besides():
    page = PAGES["commands.md"]
    parts = (RunOptions, JudgeOptions, OutputOptions, ClusterOptions)
    options = [one for part in parts for one in options_of(part).values()]
    rows = [
        f"| `{', '.join(filter(None, (one.short, one.flag)))}"
        f"{f' {one.metavar}' if one.metavar else ''}` |"
        f" {one.explained().replace('|', chr(92) + '|')} |"
        for one in options
    ]
    assert [row for row in rows if row not in page] == []
    assert len(re.findall(r"^\| `-", page, re.MULTILINE)) == len(options)
