import shlex
import sys

import pytest

from tracecore.errors import OptionError
from tracecore.perf.prepare import read_conditions
from tracecore.perf.slice.commands import REDACTION_VARIABLE
from tracecore.perf.slice.options import SliceOptions, resume_command, slice_command


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(REDACTION_VARIABLE, raising=False)


def test_an_answer_is_required_of_a_comparison_alone():
    with pytest.raises(OptionError, match="--require-conclusive: found 'no --baseline'"):
        read_conditions(SliceOptions(require_conclusive=True))
    assert (
        read_conditions(SliceOptions(require_conclusive=True, baseline=("old",))).thresholds == ()
    )


def called_as(monkeypatch, path):
    monkeypatch.setattr(sys, "argv", [str(path)])
    return slice_command(SliceOptions())


def test_a_command_names_the_script_as_one_would_type_it_from_here(tmp_path, monkeypatch):
    assert called_as(monkeypatch, "scripts/perf_harness.py") == "python scripts/perf_harness.py"
    assert (
        called_as(monkeypatch, "../clone/scripts/perf_harness.py")
        == "python ../clone/scripts/perf_harness.py"
    )
    assert (
        called_as(monkeypatch, tmp_path / "scripts" / "perf_harness.py")
        == "python scripts/perf_harness.py"
    )
    assert (
        called_as(monkeypatch, "/elsewhere/perf_harness.py") == "python /elsewhere/perf_harness.py"
    )
    assert called_as(monkeypatch, "/usr/bin/pytest") == "python scripts/perf_harness.py"


def test_a_command_names_the_script_also_where_the_working_directory_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert (
        called_as(monkeypatch, "/elsewhere/perf_harness.py") == "python /elsewhere/perf_harness.py"
    )


def test_a_command_carries_every_option_that_is_no_default(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/perf_harness.py"])
    options = SliceOptions(
        episodes=3, strict_spec=True, tasks_dirs=("my tasks",), threshold=("failure_count == 0",)
    )
    words = shlex.split(resume_command(options, "20260101T000000Z"))
    assert words[2:4] == ["--resume", "20260101T000000Z"]
    assert words[4:] == [
        "--episodes",
        "3",
        "--strict-spec",
        "--tasks-dir",
        "my tasks",
        "--threshold",
        "failure_count == 0",
    ]


def test_a_command_says_how_prompts_were_redacted(monkeypatch):
    monkeypatch.setenv(REDACTION_VARIABLE, "full")
    assert called_as(monkeypatch, "scripts/perf_harness.py").startswith(
        f"{REDACTION_VARIABLE}=full python "
    )
