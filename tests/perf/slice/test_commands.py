import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from tracecore.command_line.options import words_of
from tracecore.errors import one_line
from tracecore.perf.documents.rows import series_row
from tracecore.perf.slice.commands import (
    PACKAGE,
    REDACTION_VARIABLE,
    repro_command,
    repro_of,
    resume_command,
    slice_command,
)
from tracecore.perf.slice.options import ClusterOptions, JudgeOptions, RunOptions, SliceOptions

ROOT = pathlib.Path(PACKAGE).parent


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """In the clone's own folder, started by an interpreter and a script with short names."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(REDACTION_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv" / "bin" / "python"))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "perf_harness.py")])


def test_a_row_is_repeated_by_agent_task_and_seed(make_row):
    command = (
        ".venv/bin/python tracecore run --agent agents/toy_agent.py"
        " --task filesystem_hidden_config@1"
        " --seed 45"
    )
    assert repro_command(make_row(3)) == command
    assert repro_command(series_row(make_row(3))) == command
    assert repro_command(make_row(seed=-7)).endswith(" --seed=-7")  # no option


NAMES = [
    "my agents/a b.py",
    "a';rm -rf ~.py",
    "$(x)\n.py",
    "tab\there's\\.py",
    "\udcff\udcfe9.py",
    "no\u200bwidth é.py",
]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("path", NAMES)
def test_whatever_the_agent_is_called_the_shell_reads_it_as_one_word(make_row, path):
    command = repro_command(make_row(agent=path), options=["--tasks-dir", "my tasks"])
    assert one_line(command) == command, "a console would show something else, which does not work"
    script = b"printf '%s\\0' " + os.fsencode(command)
    words = os.fsdecode(
        subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True).stdout
    ).split("\0")[:-1]
    assert words[words.index("--agent") + 1] == path
    assert words[-2:] == ["--tasks-dir", "my tasks"]


def test_what_a_row_allowed_is_allowed_again_under_the_name_that_it_has_from_here(
    make_row, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    read = [str(tmp_path / "data"), "/elsewhere", f"{tmp_path}-not-below"]
    allow = {"read": read, "network": ["api.example.org"]}
    for row in (make_row(allow=allow), series_row(make_row(allow=allow))):
        words = shlex.split(repro_command(row))[9:]
        assert words == [
            *("--allow-read", "data", "--allow-read", "/elsewhere"),
            *("--allow-read", f"{tmp_path}-not-below", "--allow-network", "api.example.org"),
        ]


def test_how_prompts_were_redacted_is_said_since_artifacts_show_it(make_row, monkeypatch):
    monkeypatch.setenv("TRACECORE_LLM_TRACE_REDACTION", "partial")
    assert repro_command(make_row(3)).startswith(
        "TRACECORE_LLM_TRACE_REDACTION=partial .venv/bin/python tracecore run "
    )
    assert repro_command(make_row(3), redaction="full").startswith(
        "TRACECORE_LLM_TRACE_REDACTION=full .venv/bin/python "
    )
    assert repro_command(make_row(3), redaction="off").startswith(".venv/bin/python ")
    command = slice_command(SliceOptions())
    assert command.startswith(f"{REDACTION_VARIABLE}=partial .venv/bin/python ")


def test_the_options_that_decide_what_an_episode_does_are_repeated(make_row):
    options = RunOptions(
        episodes=7,
        workers=2,
        timeout_s=2.5,
        strict_spec=True,
        tasks_dirs=("my tasks",),
        start_method="spawn",
        memory_limit_bytes=1 << 29,
        message_limit_bytes=1 << 16,
        confinement="off",
    )
    command = repro_of(options)(make_row(3))
    assert sorted(shlex.split(command)[shlex.split(command).index("45") + 1 :]) == sorted(
        shlex.split(
            "--timeout 2.5 --strict-spec --start-method spawn --memory-limit 512MiB"
            " --message-limit 64KiB --confinement off --tasks-dir 'my tasks'"
        )
    )
    assert words_of(RunOptions(episodes=7, workers=2), of_episode=True) == []


def called_as(monkeypatch, path):
    monkeypatch.setattr(sys, "argv", [str(path)])
    return slice_command(SliceOptions())


def test_a_command_names_the_interpreter_and_the_script_as_one_would_type_them_from_here(
    tmp_path, monkeypatch
):
    python = ".venv/bin/python"
    for typed in ("scripts/perf_harness.py", "../clone/scripts/perf_harness.py"):
        assert called_as(monkeypatch, typed) == f"{python} {typed}"
    below = called_as(monkeypatch, ROOT / "scripts" / "perf_harness.py")
    assert below == f"{python} scripts/perf_harness.py"
    far = called_as(monkeypatch, "/elsewhere/perf_harness.py")
    assert far == f"{python} /elsewhere/perf_harness.py"
    assert called_as(monkeypatch, "/usr/bin/pytest") == f"{python} scripts/perf_harness.py"
    monkeypatch.chdir(tmp_path)
    assert called_as(monkeypatch, "/usr/bin/pytest") == (
        f"{ROOT}/.venv/bin/python {ROOT}/scripts/perf_harness.py"
    )


def test_a_command_names_the_script_also_where_the_working_directory_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert called_as(monkeypatch, "/elsewhere/perf_harness.py").endswith(
        "/.venv/bin/python /elsewhere/perf_harness.py"
    )


def test_where_the_package_is_installed_a_module_is_named(make_row, monkeypatch):
    installed = "/usr/lib/python3/site-packages/tracecore"
    monkeypatch.setattr("tracecore.perf.slice.commands.PACKAGE", installed)
    assert repro_command(make_row(3)).startswith(".venv/bin/python -m tracecore run --agent ")


def test_a_command_carries_every_option_that_is_no_default():
    options = SliceOptions(
        run=RunOptions(episodes=3, strict_spec=True, tasks_dirs=("my tasks",), resume="x"),
        judge=JudgeOptions(threshold=("failure_count == 0",)),
        cluster=ClusterOptions(address="local:2"),
    )
    words = shlex.split(resume_command(options, "20260101T000000Z"))
    assert words[2:4] == ["--resume", "20260101T000000Z"]
    assert sorted(words[4:]) == sorted(
        [
            *("--episodes", "3", "--strict-spec", "--tasks-dir", "my tasks"),
            *("--threshold", "failure_count == 0", "--cluster", "local:2"),
        ]
    )
