"""The commands that read what others wrote, each fed mutated files and folders; see ``fuzz.py``.

A few slices are run first; then one of their files, or a folder of them, is changed, and each
command that reads it is called in this process. Whatever the input, a command ends with a
documented exit code, without a traceback, within its time and memory; anything else is a finding,
and what led to it is kept.
"""

import contextlib
import importlib
import importlib.util
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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("", "scripts", "scripts/dev", "tests")]

import perf_harness  # noqa: E402 - the clone that this file lies in
from fuzz_changes import (  # noqa: E402
    change_file,
    change_folder,
    change_place,
    change_soon,
    change_zip,
)
from fuzz_readers import Hang, bounded_memory, memory_folder, watch_the_clock  # noqa: E402
from published import write_index  # noqa: E402

from tracecore import __main__ as by_hand  # noqa: E402
from tracecore.record import record  # noqa: E402

PATIENCE_S: Final = 60  # for one command
MEMORY_BYTES: Final = 3 << 30  # address space of one command
RESIDENT_BYTES: Final = 1 << 30
REPORTS_LEFT_OUT: Final = 0.8  # of inputs: drawing one takes as long as all else together
UNEXPECTED: Final = ("Traceback (most recent", ": unexpected ")
KEY: Final = "REAL_KEY"
CALLER: Final = """\
import json, os, urllib.request

class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): self.step = observation["step"]
    def act(self):
        body = {"model": "m", "messages": [{"role": "user", "content": f"step {self.step}"}]}
        headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            json.load(answer)["choices"][0]["message"]["content"]
        return {"type": "list_dir", "args": {"path": "/app"}}
"""


@record
class Target:
    """What is changed of a slice, and the commands that read it."""

    name: str
    pattern: str  # of a path below the slice's folder
    change: Callable[[random.Random, pathlib.Path], None]
    commands: tuple[tuple[str, ...], ...]  # {file} and {folder} stand for paths
    codes: frozenset[int]  # the documented ones


# --- targets -----------------------------------------------------------------------------------

COMPARE: Final = ("perf", "compare", "{folder}/perf", "--to", "{folder}/other")
SETS: Final = (
    ("perf", "verify", "{folder}/perf", "--runs-dir", "{folder}/runs"),
    COMPARE,
    ("perf", "compare", "{folder}/other", "--to", "{folder}/perf"),
    ("perf", "history", "{folder}/perf", "{folder}/other", "--output-dir", "{folder}/drawn"),
    ("perf", "report", "{folder}/perf", "--output-dir", "{folder}/drawn"),
)
QUIET: Final = ("--progress", "never", "--sample-interval", "0")
SLICE: Final = (
    "perf", "--episodes", "2", "--workers", "1", *QUIET,
    "--output-dir", "{folder}/out", "--runs-dir", "{folder}/runs2",
)  # fmt: skip
REPLAYED: Final = (
    *SLICE, "--scenario", "{folder}/calls.json", "--models", "{folder}/models.toml",
    "--model-calls", "replay", "--recordings", "{folder}/recordings",
)  # fmt: skip
PLAIN: Final = ("--tasks-dir", "{folder}/tasks")
CUT: Final = (
    "perf", "--resume", "latest", "--episodes", "4", "--workers", "1", *QUIET,
    "--output-dir", "{folder}/cut", "--runs-dir", "{folder}/runs3",
)  # fmt: skip
LIVE: Final = (
    "perf", "--episodes", "12", "--workers", "2", *QUIET,
    "--output-dir", "{folder}/live", "--runs-dir", "{folder}/runs4",
)  # fmt: skip
READ: Final = frozenset({0, 1, 2, 3})
RUN: Final = frozenset({0, 1, 2, 3, 4, 5})
RAN: Final = RUN - {2}  # an error of input is none once episodes have run
TARGETS: Final = (
    *(
        Target(f"{kind} file", f"perf/perf-{kind}-*.json", change_file, SETS, READ)
        for kind in ("manifest", "summary", "metrics", "series", "samples")
    ),
    Target(
        "zip",
        "zip/perf-artifacts-*.zip",
        change_zip,
        (
            ("perf", "verify", "{folder}/zip"),
            ("perf", "compare", "{file}", "--to", "{folder}/other"),
            ("perf", "report", "{file}", "--output-dir", "{folder}/drawn"),
        ),
        READ,
    ),
    Target("index", "zip/index.json", change_file, (("perf", "verify", "{folder}/zip"),), READ),
    Target(
        "baseline folder",
        "base",
        change_folder,
        (
            (*SLICE, "--baseline", "{file}"),
            ("perf", "compare", "{file}", "--to", "{folder}/other"),
            ("perf", "history", "{file}", "--output-dir", "{folder}/drawn"),
            ("perf", "verify", "{file}"),
            ("hand", "list", "--output-dir", "{file}"),
        ),
        RUN,
    ),
    Target(
        "job summary",
        "job/summary.md",
        change_place,
        ((*SLICE, "--step-summary", "{file}"), (*COMPARE, "--step-summary", "{file}")),
        READ,
    ),
    Target("job folder", "job", change_place, ((*SLICE, "--step-summary", "{file}/x"),), READ),
    Target(
        "run artifact",
        "runs/*.json",
        change_file,
        (
            ("hand", "check", "{file}"),
            ("hand", "show", "{file}"),
            ("hand", "replay", "{file}"),
            ("perf", "verify", "{folder}/perf", "--runs-dir", "{folder}/runs"),
        ),
        READ,
    ),
    *(
        Target(name, name, change_file, ((*SLICE, option, "{file}"),), RUN)
        for option, name in (
            ("--thresholds", "thresholds.toml"),
            ("--scenario", "scenario.json"),
            ("--scenario", "scenario.toml"),
        )
    ),
    Target(
        "task manifest",
        "tasks/plain/task.toml",
        change_file,
        (
            (*SLICE, "--scenario", "{folder}/plain.json", *PLAIN),
            ("hand", "check-task", "{folder}/tasks/plain"),
            ("hand", "list", *PLAIN),
            ("hand", "run", "--agent", "agents/toy_agent.py", "--task", "plain@1", *PLAIN),
        ),
        RUN,
    ),
    Target("task folder", "tasks/plain", change_folder, (("hand", "check-task", "{file}"),), RUN),
    Target("journal", "cut/.perf-journal-*.jsonl", change_file, (CUT,), RUN),
    Target("journal of a slice that runs", "live", change_soon, (LIVE,), RAN),
    Target("models", "models.toml", change_file, (REPLAYED,), RUN),
    Target("recording", "recordings/*.json", change_file, (REPLAYED,), RUN),
)


def names() -> list[str]:
    """Every target that can be tried here: models need aiohttp."""
    has_models = importlib.util.find_spec("aiohttp") is not None
    return [one.name for one in TARGETS if has_models or REPLAYED not in one.commands]


# --- one round after another -------------------------------------------------------------------


def fuzz(chosen: Iterable[str], seed: int, *, seconds: float) -> list[dict[str, Any]]:
    """Feed these targets in turns for so many seconds; gives the counts, and prints findings."""
    os.environ[KEY] = "sk-none"
    targets = [one for one in TARGETS if one.name in chosen]
    counts: list[dict[str, Any]] = [
        {"target": one.name, "inputs": 0, "calls": 0, "findings": 0, "slowest_s": 0.0}
        for one in targets
    ]
    chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder, watch_the_clock():
        good = make_good(pathlib.Path(folder) / "good")
        end_s = time.monotonic() + seconds
        spent_s = dict.fromkeys(range(len(targets)), 0.0)
        while (begun_s := time.monotonic()) < end_s:
            number = min(spent_s, key=lambda one: spent_s[one])  # as much time for each
            place = pathlib.Path(folder) / "place"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(good, place)
            feed(targets[number], chance, place, counts[number])
            spent_s[number] += time.monotonic() - begun_s
    for count in counts:
        print(", ".join(f"{name} {value}" for name, value in count.items()), flush=True)
    return counts


def feed(target: Target, chance: random.Random, place: pathlib.Path, count: dict[str, Any]) -> None:
    """Change one input, and call all that read it."""
    path = min(place.glob(target.pattern))
    with contextlib.suppress(OSError):  # a name that there cannot be
        target.change(chance, path)
    count["inputs"] += 1
    for command in target.commands:
        if "report" in command and chance.random() < REPORTS_LEFT_OUT:
            continue
        words = [word.format(file=path, folder=place) for word in command]
        begun_s = time.monotonic()
        problem = call(words, target.codes)
        count["slowest_s"] = max(count["slowest_s"], round(time.monotonic() - begun_s, 3))
        count["calls"] += 1
        if problem:
            count["findings"] += 1
            kept = tempfile.mkdtemp(prefix="fuzz-")
            shutil.copytree(place, kept, dirs_exist_ok=True, symlinks=True, ignore=special)
            print(f"{target.name}: {' '.join(command)}: {problem} (in {kept})", flush=True)
    while target.change is change_soon:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break


def special(folder: str, inside: list[str]) -> list[str]:
    """What cannot be copied: pipes."""
    return [name for name in inside if pathlib.Path(folder, name).is_fifo()]


def call(words: Sequence[str], codes: frozenset[int]) -> str | None:
    """What is wrong with how a command ends; None where nothing is."""
    front: Callable[[list[str]], int] = perf_harness.main if words[0] == "perf" else by_hand.main
    stdout, stderr = io.StringIO(), io.StringIO()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        with (
            bounded_memory(MEMORY_BYTES),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            code = front(list(words[1:]))
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
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > RESIDENT_BYTES:
        return f"exit {code}, more than {RESIDENT_BYTES} bytes of memory"
    return None if code in codes else f"exit {code}, {text[:200]!a}"


# --- good inputs -------------------------------------------------------------------------------


def make_good(folder: pathlib.Path) -> pathlib.Path:
    """A folder with one good file of every kind."""
    folder.mkdir()
    words = ("--workers", "2", "--progress", "never", "--compress", "--gate")
    for name, runs in (("perf", "runs"), ("other", "runs1")):
        run_script(folder, "--episodes", "4", "--output-dir", name, "--runs-dir", runs, *words)
    shutil.copytree(folder / "perf", folder / "base")
    (folder / "zip").mkdir()
    for bundle in (folder / "perf").glob("*.zip"):
        shutil.move(bundle, folder / "zip")
    write_index(str(folder / "zip"), "perf_harness.py")
    for name in ("job", "live"):
        (folder / name).mkdir()
    (folder / "job" / "summary.md").write_text("# before\n")
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
    make_recordings(folder, row)
    return folder


def make_recordings(folder: pathlib.Path, row: dict[str, Any]) -> None:
    """Recorded calls of an agent, where the gateway can run."""
    (folder / "caller.py").write_text(CALLER)
    (folder / "calls.json").write_text(
        json.dumps([{**row, "agent": str(folder.with_name("place") / "caller.py")}])
    )
    (folder / "recordings").mkdir()
    if importlib.util.find_spec("aiohttp") is None:
        return
    models: Any = importlib.import_module("helpers.models")  # the tests' own
    place = folder.with_name("place")  # recordings go by where the agent is referenced
    with models.stand_in() as server:
        (folder / "models.toml").write_text(
            f'[[model]]\nname = "openai"\nupstream = "{server.url}"\nkey_env = "{KEY}"\n'
        )
        shutil.copytree(folder, place)
        words = (word.format(folder=place) for word in REPLAYED[1:])
        run_script(place, *("record" if word == "replay" else word for word in words))
    shutil.copytree(place / "recordings", folder / "recordings", dirs_exist_ok=True)


def run_script(folder: pathlib.Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A slice, in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "perf_harness.py"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
