"""The command line, by itself: behind it stands a harness that gives back what it was asked."""

import ast
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import slices, tables
from helpers.slices import ROOT

from tracecore import record

FAKE_HARNESS = """\
import sys
from tracecore.errors import EngineError, OutputError, ScenarioError

def run_slice(options):
    print("on stderr: the harness was reached", file=sys.stderr)
    match options.run.scenario:
        case "bad row": raise ScenarioError("s.toml", "scenario[3].seed", "x", "an integer")
        case "disk full": raise OutputError("summary.json", OSError(28, "No space left on device"))
        case "no worker": raise EngineError("no worker could be kept alive")
        case "bug": raise KeyError("who would have thought")
        case "ctrl-c": raise KeyboardInterrupt
        case "nan": return {"ok": float("nan"), "exit_code": 0}
        case "some failed": return {"ok": False, "exit_code": 1}
        case "big": return {"exit_code": 5, "text": "x" * 1_000_000}
    return {"ok": True, "path": "\\udcff\\u00e9", "exit_code": 0}
"""


RUN_SLICE = "tracecore.perf.repeat.run_slice"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness above in this process, in the place of the real one."""
    namespace: dict[str, Any] = {}
    exec(FAKE_HARNESS, namespace)
    monkeypatch.setattr(RUN_SLICE, namespace["run_slice"])


@pytest.fixture
def read_options(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a command line asks of the harness, by field."""
    asked: list[Any] = []

    def run_slice(options: object) -> dict[str, object]:
        asked.append(options)
        return {"ok": True, "exit_code": 0}

    def read(*words: str) -> dict[str, object]:
        done = slices.call(*words)
        assert done.exit_code == 0, done.stderr
        parts = record.as_dict(asked.pop()).values()
        return {name: value for part in parts for name, value in part.items()}

    monkeypatch.setattr(RUN_SLICE, run_slice)
    return read


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A clone whose harness is the one above, for what only a process shows."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "tracecore"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "tracecore" / "perf" / "harness.py").write_text(FAKE_HARNESS)
    return folder


def run(clone: pathlib.Path, *options: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(clone / "scripts" / "perf_harness.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


# Each field of the options, what it is without its option, the option, and what it is with that.
FIELDS: list[tuple[str, object, str, object]] = [
    ("episodes", 24, "--episodes=3", 3),
    ("workers", None, "--workers 2", 2),
    ("timeout_s", 180.0, "--timeout 0.5", 0.5),
    ("strict_spec", False, "--strict-spec", True),
    ("compress", False, "--compress", True),
    ("output_dir", "deliverables/perf", "--output-dir out", "out"),
    ("runs_dir", ".agent_bench/runs", "--runs-dir runs", "runs"),
    ("scenario", None, "--scenario s.toml", "s.toml"),
    ("tasks_dirs", (), "--tasks-dir first --tasks-dir second", ("first", "second")),
    ("start_method", "auto", "--start-method spawn", "spawn"),
    ("progress", "auto", "--progress never", "never"),
    ("quiet", False, "-q", True),
    ("quiet_json", False, "", False),
    ("task", None, "--task t@1", "t@1"),
    ("agent", None, "--agent a.py", "a.py"),
    ("seed", None, "--seed=-3", -3),
    ("repeat", 1, "--repeat 1", 1),
    ("memory_limit_bytes", 2 << 30, "--memory-limit 512MiB", 512 << 20),
    ("message_limit_bytes", 1 << 20, "--message-limit 4KiB", 4 << 10),
    ("confinement", "auto", "--confinement off", "off"),
    ("models", None, "--models m.toml", "m.toml"),
    ("model_calls", "live", "--model-calls replay", "replay"),
    ("recordings", ".agent_bench/recordings", "--recordings kept", "kept"),
    ("model_delay", "none", "--model-delay recorded", "recorded"),
    ("keep_runs", "all", "--keep-runs failed", "failed"),
    ("fsync", "none", "--fsync full", "full"),
    ("resume", None, "--resume 20260131T120000Z", "20260131T120000Z"),
    ("sample_interval_s", 0.5, "--sample-interval 0", 0.0),
    ("gate", False, "--gate", True),
    ("no_gate", False, "--no-gate", True),
    ("thresholds", (), "--thresholds a.toml --thresholds b.toml", ("a.toml", "b.toml")),
    (
        "threshold",
        (),
        "--threshold 'failure_count == 0' --threshold='episodes > 3'",
        ("failure_count == 0", "episodes > 3"),
    ),
    ("verify_determinism", None, "--verify-determinism 0", 0),
    ("work", False, "--work", True),
    ("baseline", (), "--baseline a b", ("a", "b")),
    ("gate_on", ("cpu",), "--gate-on cpu,rss", ("cpu", "rss")),
    ("compare_anyway", False, "--compare-anyway", True),
    ("require_conclusive", False, "--require-conclusive", True),
    ("accept_changes", False, "--accept-changes", True),
    ("emit", (), "--emit bmf,github-benchmark", ("bmf", "github-benchmark")),
    ("step_summary", None, "--step-summary off", "off"),
    ("report", False, "--report", True),
    ("address", None, "--cluster tcp://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
    ("artifacts", None, "--artifacts node", "node"),
]


def test_without_options_the_promised_defaults_hold(read_options: Any) -> None:
    assert read_options() == {name: default for name, default, _, _ in FIELDS}


def test_every_option_reaches_the_harness(
    read_options: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    words = shlex.split(" ".join(words for _, _, words, _ in FIELDS))
    assert read_options(*words) == {name: value for name, _, _, value in FIELDS}


def test_a_range_includes_its_ends(read_options: Any) -> None:
    for words, field, value in (
        ("--episodes 1", "episodes", 1),
        ("--episodes 10000000", "episodes", 10_000_000),
        ("--workers 1024", "workers", 1024),
        ("--timeout 86400", "timeout_s", 86400.0),
        ("--timeout 1e-3", "timeout_s", 0.001),
        ("--memory-limit 64MiB", "memory_limit_bytes", 64 << 20),
        ("--memory-limit 1024GiB", "memory_limit_bytes", 1 << 40),
        ("--memory-limit 131072KiB", "memory_limit_bytes", 128 << 20),
        ("--memory-limit 2G", "memory_limit_bytes", 2 << 30),
        ("--memory-limit 2GB", "memory_limit_bytes", 2 << 30),
        ("--memory-limit 512m", "memory_limit_bytes", 512 << 20),
        ("--memory-limit 1000000000", "memory_limit_bytes", 1_000_000_000),
        ("--message-limit 4KiB", "message_limit_bytes", 4 << 10),
        ("--message-limit 64MiB", "message_limit_bytes", 64 << 20),
    ):
        assert read_options(*words.split())[field] == value, words


WHOLE = "expected a whole number from 1 to 10000000"
# Options, values that each refuses, and what it expects.
REFUSED = """
--episodes | 0 -1 abc 1e3 1_000 2.0 ' 5' 10000001 ٣ '' | a whole number from 1 to 10000000
--workers | 0 -3 1025 four | a whole number from 1 to 1024
--timeout | 0 -1 nan inf 1e999 86400.5 1_0 soon | a number of seconds, more than 0 and at most 86400
--memory-limit | 0 63MiB 2TB MiB 1.5GiB 1025GiB -1 '2 GiB' 2GiBGiB '' | bytes, or a size such as \
512MiB or 2GiB, from 64MiB to 1024GiB
--message-limit | 0 4095 65MiB 1XB '' | bytes, or a size such as 64KiB or 2MiB, from 4KiB to 64MiB
--sample-interval | -1 nan 3600.5 often | a number of seconds, 0 or more and at most 3600
--start-method | thread | auto, fork or spawn
--progress | yes | auto, always or never
--keep-runs | some | all, failed or none
--emit | csv bmf, | some of github-benchmark, bmf, with commas between them
--verify-determinism | -1 | a whole number from 0 to 10000000
--threshold | '' | some text, such as 'failure_count == 0'
--fsync | often | none, batch or full
--output-dir | '' | a path
--runs-dir | '' | a path
--scenario | '' | a path
--tasks-dir | no/such/folder | a folder that exists
--resume | ../x '' | the stamp of a slice, such as 20260131T120000Z
"""
WRONG = r"""
--workers | --workers: found no value, expected one
--workers=-- | --workers: found '--', expected a value
--episodes=-- | --episodes: found '--', expected a value
--strict-spec=yes | --strict-spec: expected no value, found 'yes'
--epsiodes 3 | '--epsiodes': found no such option (did you mean --episodes?)
--epsiodes=3 | '--epsiodes': found no such option (did you mean --episodes?)
--epi 3 | '--epi': found no such option (did you mean --episodes?)
measure | 'measure': found no such command; try --help
verfy x | 'verfy': found no such command (did you mean verify?)
--jobs 3 | '--jobs': found no such option (did you mean --workers?)
--probe | '--probe': found no such option; try --help
verify | the following arguments are required: PATH; try --help
verify a b | 'b': found a word too many; try --help
ab --rounds 1 | the following arguments are required: --base; try --help
ab --base x --round=3 | '--round': found no such option (did you mean --rounds?)
--episodes 3 verify x | verify: found a command behind options, expected it before them; try --help
'a\nb\e[31m' | 'a\nb\x1b[31m': found no such command
"""


def wrong_options() -> Iterator[tuple[tuple[str, ...], str]]:
    for option, texts, expected in tables.rows(REFUSED):
        for text in shlex.split(texts):
            yield (option, text), f"{option}: found '{text}', expected {expected}"
    yield ("--episodes", "9" * 5000), f"--episodes: found '{'9' * 57}...', {WHOLE}"
    yield from tables.commands(WRONG)


@pytest.mark.usefixtures("harness")
def test_a_wrong_option_is_one_clear_line_and_exit_2() -> None:
    for arguments, complaint in wrong_options():
        done = slices.call(*arguments)
        assert done.exit_code == 2, arguments
        answer = done.document
        assert (answer["ok"], answer["exit_code"]) == (False, 2)
        assert complaint in answer["error"]
        assert answer["error"].endswith("; try --help")
        assert done.stderr == f"perf_harness: {answer['error']}\n"


@pytest.mark.parametrize(
    ("scenario", "exit_code", "message"),
    [
        ("bad row", 2, "s.toml: scenario[3].seed: found 'x', expected an integer"),
        ("disk full", 4, "summary.json: cannot be written: No space left on device"),
        ("no worker", 4, "no worker could be kept alive"),
        ("bug", 4, "unexpected KeyError: 'who would have thought'"),
        ("nan", 4, "unexpected ValueError: Out of range float values are not JSON compliant"),
        ("ctrl-c", 130, "interrupted"),
    ],
)
@pytest.mark.usefixtures("harness")
def test_every_error_has_its_exit_code_and_leaves_one_json_object(
    scenario: str, exit_code: int, message: str
) -> None:
    done = slices.call("--scenario", scenario)
    assert done.exit_code == exit_code
    answer = done.document
    assert (answer["ok"], answer["exit_code"]) == (False, exit_code)
    assert answer["error"].startswith(message)
    assert f"perf_harness: {message}" in done.stderr
    assert ("Traceback" in done.stderr) == message.startswith("unexpected")


@pytest.mark.usefixtures("harness")
def test_the_exit_code_is_the_one_that_the_slice_ended_with() -> None:
    done = slices.call("--scenario", "some failed")
    assert (done.exit_code, done.stdout) == (1, '{"ok": false, "exit_code": 1}\n')


def test_stdout_is_one_ascii_line_in_any_locale(clone: pathlib.Path) -> None:
    done = run(clone, env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["path"] == "\udcff\u00e9"


@pytest.mark.parametrize("scenario", ["some failed", "big"])
def test_a_reader_that_has_left_changes_neither_exit_code_nor_stderr(
    clone: pathlib.Path, scenario: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(clone / "scripts" / "perf_harness.py"), "--scenario", scenario]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == {"some failed": 1, "big": 5}[scenario]
    assert done.stderr == "on stderr: the harness was reached\n"


def test_a_stderr_that_nobody_reads_changes_neither_exit_code_nor_stdout(
    clone: pathlib.Path,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(clone / "scripts" / "perf_harness.py"), "--episodes", "0"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, check=False)
    os.close(writer)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_change_nothing(clone: pathlib.Path, closed: str) -> None:
    script = f'exec "$0" "$1" --scenario "some failed" {closed}'
    command = ["sh", "-c", script, sys.executable, str(clone / "scripts" / "perf_harness.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout in ("", '{"ok": false, "exit_code": 1}\n')
    assert done.stderr in ("", "on stderr: the harness was reached\n")


def test_help_and_version_survive_a_reader_that_has_left(clone: pathlib.Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(clone / "scripts" / "perf_harness.py")]
    for option in ("--help", "--version"):
        done = subprocess.run(
            [*command, option], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    os.close(writer)


def test_help_explains_every_option_its_default_and_every_exit_code(clone: pathlib.Path) -> None:
    done = run(clone, "--help", env={**os.environ, "COLUMNS": "400"})
    assert (done.returncode, done.stderr) == (0, "")
    sections, _, exit_codes = done.stdout.partition("exit codes:")
    lines = sections.splitlines()
    described = [
        line + (following if line.count("  ") < 2 else "")
        for line, following in itertools.pairwise(lines)
    ]
    for option, default in {
        "--episodes": "24",
        "--workers": "4",
        "--timeout": "180",
        "--strict-spec": "off",
        "--compress": "off",
        "--output-dir": "deliverables/perf",
        "--runs-dir": ".agent_bench/runs",
        "--scenario": "the four bundled agents and tasks",
        "--tasks-dir": "none",
        "--start-method": "auto",
        "--progress": "auto",
        "--memory-limit": "2GiB",
        "--message-limit": "1MiB",
        "--confinement": "auto",
        "--keep-runs": "all",
        "--fsync": "none",
        "--resume": "a new slice",
        "--sample-interval": "0.5",
        "--gate": "off",
        "--no-gate": "they count",
        "--thresholds": "none",
        "--threshold": "none",
        "--verify-determinism": "0; with --gate one per scenario row",
        "--emit": "none",
        "--step-summary": "$GITHUB_STEP_SUMMARY if it is set, else off",
        "--report": "off",
        "--cluster": "on this machine",
        "--artifacts": "return",
    }.items():
        explained = [
            words
            for words in described
            if words.strip().startswith(option) and f"(default: {default})" in words
        ]
        assert explained, option
    explained = [line.split()[0] for line in exit_codes.splitlines() if line.startswith("  ")]
    assert explained == ["0", "1", "2", "3", "4", "5", "130"]


@pytest.mark.usefixtures("harness")
def test_stdout_is_left_empty_where_that_is_asked() -> None:
    done = slices.call("--quiet-json", "--scenario", "some failed")
    assert (done.exit_code, done.stdout) == (1, "")


def test_short_help_shows_the_options_of_every_day_and_where_the_rest_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert slices.script().main(["-h"]) == 0
    text = capsys.readouterr().out
    assert "--episodes N" in text
    assert "perf_harness.py ab --base REF [option ...]" in text
    assert "--fsync" not in text
    assert re.search(r"^\d\d further options, and the exit codes: --help$", text, re.MULTILINE)


def test_help_loads_nothing_of_the_package_but_its_names(clone: pathlib.Path) -> None:
    script = str(clone / "scripts" / "perf_harness.py")
    command = [sys.executable, "-X", "importtime", script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {name for name in loaded if name.startswith(("tracecore.perf.harness", "tracecore.r"))}
    assert ours <= {"tracecore.record", "tracecore.records"}
    heavy = {"multiprocessing", "subprocess", "psutil", "asyncio", "logging"}
    if sys.version_info < (3, 14):  # whose help has colours, which bring dataclasses
        heavy |= {"dataclasses", "inspect"}
    assert loaded.isdisjoint(heavy)


def test_version_names_the_package(clone: pathlib.Path) -> None:
    from tracecore import __version__

    done = run(clone, "--version")
    assert (done.returncode, done.stdout) == (0, f"tracecore {__version__}\n")


def test_the_clone_beside_the_script_wins_from_any_folder_and_through_a_link(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "elsewhere" / "tracecore"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('the wrong package')")
    (tmp_path / "link.py").symlink_to(clone / "scripts" / "perf_harness.py")
    environment = {**os.environ, "PYTHONPATH": str(other.parent)}
    for script in (clone / "scripts" / "perf_harness.py", tmp_path / "link.py"):
        command = [sys.executable, "-S", str(script)]  # -S: nothing that is installed
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=other.parent, env=environment
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("version_info", (3, 10, 4, "final", 0), "found Python 3.10 ("),
        ("version_info", (3, 9, 0, "final", 0), "found Python 3.9 ("),
        ("platform", "darwin", "found the operating system 'darwin', expected 'linux'"),
    ],
)
@pytest.mark.parametrize("start", ["scripts/perf_harness.py", "tracecore/__main__.py"])
def test_another_python_or_system_is_refused_in_one_line(
    name: str, value: object, complaint: str, start: str
) -> None:
    code = f"import runpy, sys; sys.{name} = {value!r}; sys.path[0] = {str(ROOT)!r}; "
    code += f"runpy.run_path({str(ROOT / start)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert complaint in done.stderr
    if "scripts" in start:
        assert json.loads(done.stdout)["exit_code"] == 2


def test_what_refuses_another_python_can_be_read_by_it() -> None:
    places = ["scripts/perf_harness.py", "tracecore/__init__.py", "tracecore/__main__.py"]
    places += [f"tracecore/command_line/{name}.py" for name in ("__init__", "run")]
    for place in [*places, "tracecore/errors.py"]:
        tree = ast.parse((ROOT / place).read_text(), feature_version=(3, 9))
        if tree.body[1:] and "errors" not in place and "__init__" not in place:
            # annotations such as `str | None` are no expressions then
            assert ast.unparse(tree.body[1]) == "from __future__ import annotations", place


def test_importing_the_script_does_nothing(clone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code = (
        "import runpy, sys; before = list(sys.path), set(sys.modules);"
        f"runpy.run_path({str(clone / 'scripts' / 'perf_harness.py')!r}, run_name='__mp_main__');"
        "assert sys.path == before[0];"
        "assert not [name for name in sys.modules if name.startswith('tracecore.')]"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
