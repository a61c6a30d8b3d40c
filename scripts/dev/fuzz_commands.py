#!/usr/bin/env python3
"""Feeds mutated files to every command that reads some: perf files, zips, run artifacts,
thresholds, scenarios, manifests of tasks, journals of slices that are to be resumed, baselines.

One slice is run first; then one of its files is changed, and each command that reads it is called
in this process. Whatever the input, a command ends with a documented exit code, without a
traceback, within its time and memory; anything else is a finding, is printed, and makes the exit
code 1.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "scripts" / "dev")]

import perf_harness  # noqa: E402 - the clone that this file lies in
from fuzz import MEMORY_FOLDER, PIECES, Hang, mutate, watch_the_clock  # noqa: E402

from tracecore import __main__ as by_hand  # noqa: E402
from tracecore.record import record  # noqa: E402

PATIENCE_S: Final = 60  # for one command
MEMORY_BYTES: Final = 3 << 30
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1.5, 10**30, 1e300, "", "x", "\u202e\n", [], {}, [None], {"a": {}},
)  # fmt: skip
UNEXPECTED: Final = ("Traceback", "unexpected ")


@record
class Target:
    """A file of a slice, and the commands that read it."""

    name: str  # pattern below the slice's folder
    commands: tuple[tuple[str, ...], ...]  # {file} and {folder} stand for what they say
    codes: frozenset[int]  # the documented ones


SETS: Final = (
    ("perf", "verify", "{folder}/perf", "--runs-dir", "{folder}/runs"),
    ("perf", "compare", "{folder}/perf", "--to", "{folder}/other"),
    ("perf", "compare", "{folder}/other", "--to", "{folder}/perf"),
    ("perf", "history", "{folder}/perf", "{folder}/other", "--output-dir", "{folder}/drawn"),
    ("perf", "report", "{folder}/perf", "--output-dir", "{folder}/drawn"),
)
SLICE: Final = (
    "perf", "--episodes", "2", "--workers", "1", "--progress", "never",
    "--output-dir", "{folder}/out", "--runs-dir", "{folder}/runs2", "--sample-interval", "0",
)  # fmt: skip
READ: Final = frozenset({0, 1, 2, 3})
RUN: Final = frozenset({0, 1, 2, 3, 4, 5})
TARGETS: Final = (
    *(
        Target(f"perf/perf-{kind}-*.json", SETS, READ)
        for kind in ("manifest", "summary", "metrics", "series", "samples")
    ),
    Target("zip/perf-artifacts-*.zip", (("perf", "verify", "{folder}/zip"),), READ),
    Target("perf/perf-summary-*.json", ((*SLICE, "--baseline", "{folder}/perf"),), RUN),
    Target(
        "runs/*.json",
        (
            ("hand", "check", "{file}"),
            ("hand", "show", "{file}"),
            ("hand", "replay", "{file}"),
            ("perf", "verify", "{folder}/perf", "--runs-dir", "{folder}/runs"),
        ),
        READ,
    ),
    Target("thresholds.toml", ((*SLICE, "--thresholds", "{file}"),), RUN),
    Target("scenario.json", ((*SLICE, "--scenario", "{file}"),), RUN),
    Target("scenario.toml", ((*SLICE, "--scenario", "{file}"),), RUN),
    Target(
        "tasks/plain/task.toml",
        (
            (*SLICE, "--scenario", "{folder}/plain.json", "--tasks-dir", "{folder}/tasks"),
            ("hand", "check-task", "{folder}/tasks/plain"),
        ),
        RUN,
    ),
    Target(
        "cut/.perf-journal-*.jsonl",
        (
            (
                "perf", "--resume", "{stamp}", "--episodes", "4", "--workers", "1",
                "--progress", "never", "--output-dir", "{folder}/cut",
                "--runs-dir", "{folder}/runs3",
            ),
        ),
        RUN,
    ),
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Fuzz every command for so many seconds; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    chance = random.Random(options.seed)  # noqa: S311 - repeatable, and nobody's secret
    end_s = time.monotonic() + options.seconds
    parent = MEMORY_FOLDER if os.path.isdir(MEMORY_FOLDER) else None
    inputs = calls = findings = 0
    slowest_s = 0.0
    with tempfile.TemporaryDirectory(dir=parent) as folder, watch_the_clock():
        good = make_good(pathlib.Path(folder) / "good")
        while time.monotonic() < end_s:
            inputs += 1
            target = TARGETS[inputs % len(TARGETS)]
            place = pathlib.Path(folder) / "place"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(good, place)
            (path,) = list(place.glob(target.name))[:1]
            path.write_bytes(changed(chance, path.read_bytes()))
            for command in target.commands:
                calls += 1
                begun_s = time.monotonic()
                problem = call(filled(command, path, place), target.codes)
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
                if problem:
                    findings += 1
                    kept = pathlib.Path(tempfile.gettempdir()) / f"fuzz-{options.seed}-{inputs}"
                    shutil.copytree(place, kept, dirs_exist_ok=True)
                    print(f"{target.name}: {' '.join(command)}: {problem} (in {kept})", flush=True)
    print(f"{inputs} inputs, {calls} calls, {findings} findings, slowest {slowest_s:.1f} s")
    return 1 if findings else 0


def make_good(folder: pathlib.Path) -> pathlib.Path:
    """A folder with one good file of every kind."""
    folder.mkdir()
    words = ("--workers", "2", "--progress", "never", "--compress", "--gate")
    for name, runs in (("perf", "runs"), ("other", "runs1")):
        run_script(folder, "--episodes", "4", "--output-dir", name, "--runs-dir", runs, *words)
    (folder / "zip").mkdir()
    for bundle in (folder / "perf").glob("*.zip"):
        shutil.move(bundle, folder / "zip")
    # a slice that ends after two of four episodes, and keeps its journal
    (folder / "abort.toml").write_text('[[threshold]]\nexpr = "success_count < 2"\nabort = true\n')
    cut = ("--thresholds", "abort.toml", "--output-dir", "cut", "--runs-dir", "runs3")
    run_script(folder, "--episodes", "4", "--workers", "1", "--progress", "never", *cut)
    (folder / "thresholds.toml").write_text(
        'thresholds = ["failure_count == 0"]\n\n[[threshold]]\n'
        'expr = "wall_clock_s:p(95) < 9"\nseverity = "warn"\n'
    )
    row = {"agent": "agents/toy_agent.py", "task_ref": "filesystem_hidden_config@1", "seed": 4}
    (folder / "scenario.json").write_text(json.dumps([row]))
    (folder / "plain.json").write_text(json.dumps([{**row, "task_ref": "plain@1"}]))
    (folder / "scenario.toml").write_text(
        '[[scenario]]\nagent = "agents/toy_agent.py"\n'
        'task_ref = "filesystem_hidden_config@1"\nseed = 4\nallow = {read = [], network = []}\n'
    )
    shutil.copytree(ROOT / "tracecore" / "tasks" / "rate_limited_api", folder / "tasks" / "plain")
    manifest = folder / "tasks" / "plain" / "task.toml"
    manifest.write_text(manifest.read_text().replace('"rate_limited_api"', '"plain"', 1))
    return folder


def run_script(folder: pathlib.Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "perf_harness.py"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def changed(chance: random.Random, data: bytes) -> bytes:
    """The bytes of a file, changed: as bytes, or a value of its JSON."""
    if chance.random() < 0.5:
        return mutate(chance, (data,))
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    try:
        document = json.loads(data)
    except ValueError:
        with contextlib.suppress(ValueError):
            line = json.loads(lines[place].rstrip(b","))
            lines[place] = json.dumps(odd(chance, line)).encode()
        return b"\n".join(lines)
    if lines[1:2] and lines[1].startswith(b'{"episode"'):  # a series: its rows stay on their lines
        place = chance.randrange(1, len(lines) - 2)
        row = odd(chance, json.loads(lines[place].rstrip(b",")))
        lines[place] = json.dumps(row).encode() + lines[place][len(lines[place].rstrip(b",")) :]
        return b"\n".join(lines)
    return json.dumps(odd(chance, document)).encode()


def odd(chance: random.Random, value: Any) -> Any:
    """The same JSON value with one odd part."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: odd(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], odd(chance, value[place]), *value[place + 1 :]]
    return chance.choice([*ODD, chance.choice(PIECES).decode("latin-1")])


def filled(command: Sequence[str], path: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """The words of a command for this input."""
    stamp = path.name.removeprefix(".perf-journal-").removesuffix(".jsonl")
    return [word.format(file=path, folder=folder, stamp=stamp) for word in command]


def call(words: list[str], codes: frozenset[int]) -> str | None:
    """What is wrong with how a command ends; None where nothing is."""
    front: Callable[[list[str]], int] = perf_harness.main if words[0] == "perf" else by_hand.main
    stdout, stderr = io.StringIO(), io.StringIO()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = front(words[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except (Exception, Hang) as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {str(error)[:200]!a}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    text = stdout.getvalue() + stderr.getvalue()
    for word in UNEXPECTED:
        if word in text:
            return f"exit {code}, {text[text.index(word) :][:300]!a}"
    return None if code in codes else f"exit {code}, {text[:200]!a}"


if __name__ == "__main__":
    sys.exit(main())
