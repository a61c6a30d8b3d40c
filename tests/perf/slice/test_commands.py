import os
import shlex
import shutil
import subprocess

import pytest

from tracecore.errors import one_line
from tracecore.perf.documents.rows import series_row
from tracecore.perf.slice.commands import repro_command
from tracecore.perf.slice.options import SliceOptions, episode_words


def test_a_row_is_repeated_by_agent_task_and_seed(make_row):
    command = (
        "python -m tracecore run --agent agents/toy_agent.py --task filesystem_hidden_config@1"
        " --seed 45"
    )
    assert repro_command(make_row(3)) == command
    assert repro_command(series_row(make_row(3))) == command


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
    allow = {
        "read": [str(tmp_path / "data"), "/elsewhere", str(tmp_path) + "-not-below"],
        "network": ["api.example.org"],
    }
    for row in (make_row(allow=allow), series_row(make_row(allow=allow))):
        words = shlex.split(repro_command(row))[10:]
        read = [
            "--allow-read",
            "data",
            "--allow-read",
            "/elsewhere",
            "--allow-read",
            f"{tmp_path}-not-below",
        ]
        assert words == [*read, "--allow-network", "api.example.org"]


def test_how_prompts_were_redacted_is_said_since_artifacts_show_it(make_row, monkeypatch):
    monkeypatch.setenv("TRACECORE_LLM_TRACE_REDACTION", "partial")
    assert repro_command(make_row(3)).startswith(
        "TRACECORE_LLM_TRACE_REDACTION=partial python -m tracecore run "
    )
    assert repro_command(make_row(3), redaction="full").startswith(
        "TRACECORE_LLM_TRACE_REDACTION=full python "
    )
    assert repro_command(make_row(3), redaction="off").startswith("python ")


def test_a_negative_seed_is_no_option(make_row):
    assert repro_command(make_row(seed=-7)).endswith(" --seed=-7")


def test_what_an_episode_can_tell_of_the_slices_options_is_said_again(make_row):
    told = SliceOptions(
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
    command = repro_command(make_row(3), options=episode_words(told))
    expected = (
        "--timeout 2.5 --strict-spec --start-method spawn --memory-limit 536870912 --message-limit"
        " 65536 --confinement off"
    )
    assert command.endswith(f" --seed 45 {expected} --tasks-dir 'my tasks'")
    assert episode_words(SliceOptions(episodes=7, workers=2)) == []
