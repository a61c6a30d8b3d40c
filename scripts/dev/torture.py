#!/usr/bin/env python3
"""Runs slices under random kills, signals, full disks and bad agents, and counts what was lost: it
must be nothing.

Round after round, a slice of random episodes runs while its harness, workers, episodes and agents
are killed; it is resumed until it is complete, and then every result is accounted for. stdout is
one JSON object; progress and a table go to stderr. Exit 1 if anything was lost, doubled, invalid or
left behind. Linux alone: it adopts and looks for processes through /proc.
"""

import argparse
import collections
import contextlib
import hashlib
import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tracecore import descendants  # noqa: E402 - the clone that this file lies in, installed or not
from tracecore.perf.slice.journal_file import FIELDS  # noqa: E402
from tracecore.record import field, mutable_record  # noqa: E402
from tracecore.runtime import spec  # noqa: E402

faults: Any = importlib.import_module("helpers.faults")

ORPHANS_S: Final = 2.0  # by then everything below a killed harness is to be gone
# more patience than was promised, since the machine is kept busy on purpose
BUSY_FACTOR: Final = 3.0
STUCK_S: Final = 180.0  # a harness that takes longer than this hangs
CHAOS_MOST: Final = 6  # disturbed runs of one slice; then it is left in peace to finish
GOOD_ROWS: Final = (
    ("agents/toy_agent.py", "filesystem_hidden_config@1", 42),
    ("agents/rate_limit_agent.py", "rate_limited_api@1", 11),
    ("agents/chain_agent.py", "rate_limited_chain@1", 7),
    ("agents/ops_triage_agent.py", "log_alert_triage@1", 21),
)
BELOW: Final = ("worker", "episode or zygote", "agent")
KINDS: Final = (
    "harness SIGKILL",
    "harness SIGINT",
    "harness SIGTERM",
    *(f"{who} SIGKILL" for who in BELOW),
)


@mutable_record
class Report:
    """What happened, and what must not have."""

    seed: int
    rounds: int = 0
    episodes_run: int = 0
    resumes: int = 0
    faults_injected: collections.Counter[str] = field(default_factory=collections.Counter)
    results_lost: int = 0
    results_duplicated: int = 0
    artifacts_invalid: int = 0
    outcomes_wrong: int = 0
    processes_left: int = 0
    files_left: int = 0
    harness_misbehaved: int = 0
    orphans_most_s: float = 0.0  # the longest that something outlived its killed harness
    notes: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, int]:
        """Everything that must be 0."""
        names = ("results_lost", "results_duplicated", "artifacts_invalid", "outcomes_wrong")
        return {
            name: getattr(self, name)
            for name in (*names, "processes_left", "files_left", "harness_misbehaved")
        }

    def document(self) -> dict[str, Any]:
        """For stdout."""
        return {
            "ok": not any(self.wrong.values()),
            "seed": self.seed,
            "rounds": self.rounds,
            "episodes_run": self.episodes_run,
            "resumes": self.resumes,
            "faults_injected": dict(sorted(self.faults_injected.items())),
            **self.wrong,
            "orphans_most_s": round(self.orphans_most_s, 3),
            "notes": self.notes[:20],
        }


def main() -> int:
    """Torture for as long as was asked; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=600.0,
        help="how long to begin new rounds (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="of everything that is random (default: a new one, which is printed)",
    )
    parser.add_argument("--quick", action="store_true", help="60 seconds")
    arguments = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed
    report = Report(seed)
    write_line(f"torture: --seed {seed}")
    descendants.become_subreaper()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        torture(pathlib.Path(folder), report, 60.0 if arguments.quick else arguments.seconds)
    document = report.document()
    say_table(document)
    print(json.dumps(document))
    return 0 if document["ok"] else 1


def torture(folder: pathlib.Path, report: Report, seconds: float) -> None:
    """Round after round until the time is over."""
    clone = folder / "clone"
    # a copy has no history and no other user: nothing changes between two resumes
    for name in ("tracecore", "scripts"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    draw = random.Random(report.seed)  # noqa: S311 - to be repeated, not to be secret
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        place = folder / f"round-{report.rounds}"
        with maybe_small_disk(place, draw) as small:
            Round(clone, place, random.Random(draw.getrandbits(64)), report, small=small).run()  # noqa: S311 - as above
        shutil.rmtree(place)
        report.rounds += 1
        if report.rounds % 5 == 0:
            write_line(
                f"torture: {report.rounds} rounds, {report.episodes_run} episodes,"
                f" {report.faults_injected.total()} faults"
            )


@contextlib.contextmanager
def maybe_small_disk(place: pathlib.Path, draw: random.Random) -> Iterator[bool]:
    """Now and then, put the folder of a round onto a file system that is too small for it; whether
    it was.
    """
    place.mkdir()
    options = draw.choice(("size=96k", "size=256k", "nr_inodes=30"))
    if (
        draw.random() > 0.25
        or os.geteuid() != 0
        or not mount("-t", "tmpfs", "-o", options, "torture", str(place))
    ):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(place)], check=True)


def mount(*arguments: str) -> bool:
    """Whether the mount was done."""
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


class Round:
    """One slice, disturbed until it is complete."""

    def __init__(
        self,
        clone: pathlib.Path,
        place: pathlib.Path,
        draw: random.Random,
        report: Report,
        *,
        small: bool,
    ) -> None:
        self._clone, self._place, self._draw, self._report, self._small = (
            clone,
            place,
            draw,
            report,
            small,
        )
        self._inputs = place.parent / f"{place.name}-inputs"
        self._episodes = draw.randint(10, 60)
        # artifact of every result that a journal holds: its hash
        self._seen: dict[str, str] = {}
        self._killed_below = False

    def run(self) -> None:
        """Run it, resume it until it is complete, and count."""
        options = self._write_inputs()
        try:
            for turn in range(CHAOS_MOST + 3):
                exit_code, errors = self._run_once(
                    [*options, *self._resume_options()], calm=turn >= CHAOS_MOST
                )
                self._wait_for_orphans()
                self._look_at_journal()
                # whatever the exit code: it may have been killed when all was done
                if self._is_published():
                    self._count(complete=True, words=errors)
                    return
                self._report.resumes += 1
                self._make_room(exit_code, errors)
            self._wrong(
                "harness_misbehaved", f"not complete after {CHAOS_MOST + 3} runs: {errors[-300:]}"
            )
            self._count(complete=False, words=errors)
        finally:
            shutil.rmtree(self._inputs)

    def _is_published(self) -> bool:
        # Not by the exit code: an interpreter that is interrupted before it has come to the script
        # leaves with 1 as well.
        return any((self._place / "out").glob("perf-summary-*.json")) and not any(
            (self._place / "out").glob(".perf-journal-*")
        )

    # --- the slice ---

    def _write_inputs(self) -> list[str]:
        draw, folder = self._draw, self._inputs
        (folder / "tasks").mkdir(parents=True)
        faults.write_plain_task(None, folder / "tasks" / "plain")
        rows = [
            {"agent": a, "task_ref": t, "seed": s}
            for a, t, s in draw.sample(GOOD_ROWS, draw.randint(1, 4))
        ]
        for fault in draw.sample(faults.AGENT_FAULTS, draw.randint(0, 4)):
            agent = faults.write_agent(fault, folder / f"agent_{len(rows)}.py")
            rows.append({"agent": str(agent), "task_ref": "plain@1", "seed": 1})
        good = faults.write_agent(None, folder / "good.py")
        for fault in draw.sample(faults.TASK_FAULTS, draw.randint(0, 2)):
            task = faults.write_plain_task(fault, folder / "tasks" / f"task_{len(rows)}")
            rows.append({"agent": str(good), "task_ref": f"{task.name}@1", "seed": 1})
        (folder / "scenario.json").write_text(json.dumps(rows))
        options = [
            "--episodes",
            str(self._episodes),
            "--workers",
            str(draw.choice((1, 2, 4, 8, 32))),  # up to 16 and more at a time in one worker
            "--timeout",
            "2",
        ]
        options += [
            "--scenario",
            str(folder / "scenario.json"),
            "--tasks-dir",
            str(folder / "tasks"),
        ]
        options += [
            "--runs-dir",
            str(self._place / "runs"),
            "--output-dir",
            str(self._place / "out"),
        ]
        options += ["--fsync", draw.choice(("none", "none", "batch", "full"))]
        options += draw.choice(([], ["--strict-spec"], ["--compress"]))
        return options + draw.choice(([], [], [], ["--start-method", "spawn"]))

    def _resume_options(self) -> list[str]:
        for path in (self._place / "out").glob(".perf-journal-*.jsonl"):
            if path.stat().st_size:
                return ["--resume", path.name[len(".perf-journal-") : -len(".jsonl")]]
            # it was killed between taking its stamp and beginning: there is nothing to resume
            path.unlink()
        return []

    def _run_once(self, options: list[str], *, calm: bool) -> tuple[int, str]:
        command = [sys.executable, str(self._clone / "scripts" / "perf_harness.py"), *options]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        with tempfile.TemporaryFile() as errors:
            harness = subprocess.Popen(
                command, stderr=errors, cwd=self._inputs, start_new_session=True, **streams
            )
            began_s = time.monotonic()
            next_s = began_s + self._draw.expovariate(1.5)
            disturbed = not calm and self._draw.random() < 0.85
            only_harness = self._draw.random() < 0.4
            while harness.poll() is None:
                if time.monotonic() - began_s > STUCK_S:
                    self._wrong("harness_misbehaved", f"hung: {options}")
                    harness.kill()
                if disturbed and time.monotonic() > next_s:
                    self._disturb(harness, KINDS[:3] if only_harness else KINDS)
                    next_s = time.monotonic() + self._draw.expovariate(2.0)
                time.sleep(0.01)
            errors.seek(0)
            return harness.returncode, errors.read().decode(errors="replace")

    # --- faults ---

    def _disturb(self, harness: subprocess.Popen[bytes], kinds: tuple[str, ...]) -> None:
        kind = self._draw.choice(kinds)
        who, _, how = kind.rpartition(" ")
        number = signal.Signals[how]
        if who == "harness":
            harness.send_signal(number)
        else:
            victims = self._find(harness.pid, BELOW.index(who) + 1)
            if not victims:
                return
            self._killed_below = True
            for pid in self._draw.sample(victims, self._draw.randint(1, len(victims))):
                descendants.send_signal(pid, number)
        self._report.faults_injected[kind] += 1

    def _find(self, root: int, depth: int) -> list[int]:
        """The processes ``depth`` levels below ``root``; for the agents' level, all further ones
        too.
        """
        level, found = [root], list[int]()
        for at in range(1, 8):
            level = [child for pid in level for child in descendants.children_of(pid)]
            if at == depth or (depth == len(BELOW) and at > depth):
                found += level
        return found

    def _make_room(self, exit_code: int, errors: str) -> None:
        if exit_code == 4 and self._small and ("No space" in errors or "no space" in errors):
            self._report.faults_injected["disk full"] += 1
            mount("-o", "remount,size=256m,nr_inodes=100000", str(self._place))
        elif exit_code == 2 and self._small and "No space" in errors:
            mount("-o", "remount,size=256m,nr_inodes=100000", str(self._place))
        elif exit_code == 1 and "KeyboardInterrupt" in errors:
            return  # before it has come to the script
        elif exit_code not in {4, 130, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM} or (
            exit_code > 0 and "Traceback" in errors
        ):
            at = max(0, errors.find("Traceback"))
            self._wrong("harness_misbehaved", f"exit {exit_code}: {errors[at : at + 1500]}")

    # --- accounts ---

    def _wait_for_orphans(self) -> None:
        began_s = time.monotonic()
        while left := [pid for pid in descendants.children_of(os.getpid()) if not reaped(pid)]:
            if time.monotonic() - began_s > ORPHANS_S * BUSY_FACTOR:
                self._wrong(
                    "processes_left",
                    f"processes left: {[command_of(pid) for pid in left]}",
                    len(left),
                )
                descendants.sweep()
                break
            time.sleep(0.005)
        self._report.orphans_most_s = max(self._report.orphans_most_s, time.monotonic() - began_s)

    def _look_at_journal(self) -> None:
        """Note every result that has been journalled: it must be there to the end, unchanged."""
        for path in (self._place / "out").glob(".perf-journal-*.jsonl"):
            for line in path.read_bytes().split(b"\n")[1:-1]:
                values = json.loads(line)
                if isinstance(values, dict):  # where a resumed part begins
                    continue
                run_id = values[FIELDS.index("run_id")]
                artifact = self._place / "runs" / f"{run_id}.json"
                found = (
                    hashlib.sha256(artifact.read_bytes()).hexdigest()
                    if artifact.exists()
                    else "missing"
                )
                if found == "missing" or self._seen.setdefault(run_id, found) != found:
                    self._wrong("results_lost", f"{run_id}: {found}")

    def _count(self, *, complete: bool, words: str) -> None:
        report = self._report
        artifacts = {
            path.stem: path.read_bytes() for path in (self._place / "runs").glob("[0-9a-f]*.json")
        }
        for run_id, digest in self._seen.items():
            if run_id not in artifacts or hashlib.sha256(artifacts[run_id]).hexdigest() != digest:
                self._wrong("results_lost", f"{run_id}: gone or changed")
        self._check_artifacts(artifacts)
        strays = [p for p in self._place.rglob(".*") if p.is_file()]
        if strays and complete:
            self._wrong(
                "files_left", f"files left: {[path.name for path in strays][:5]}", len(strays)
            )
        report.episodes_run += len(artifacts)
        series_paths = list((self._place / "out").glob("perf-series-*.json"))
        if not complete or len(series_paths) != 1:
            self._wrong(
                "results_lost", f"{len(series_paths)} series: {words[-600:]}", self._episodes
            )
            return
        series = json.loads(series_paths[0].read_bytes())
        indices = [row["episode_index"] for row in series]
        lost, doubled = set(range(self._episodes)) - set(indices), len(indices) - len(set(indices))
        if lost or len(artifacts) < self._episodes:
            self._wrong(
                "results_lost",
                f"missing {sorted(lost)}, {len(artifacts)} artifacts",
                max(1, len(lost)),
            )
        if doubled or len(artifacts) > self._episodes:
            self._wrong(
                "results_duplicated",
                f"{doubled} doubled, {len(artifacts)} artifacts",
                max(1, doubled),
            )
        self._check_outcomes(series)

    def _check_artifacts(self, artifacts: dict[str, bytes]) -> None:
        for run_id, data in artifacts.items():
            try:
                problems = spec.problems(json.loads(data))
            except ValueError as error:
                problems = [str(error)]
            if problems:
                self._wrong("artifacts_invalid", f"{run_id}: {problems[:2]}")

    def _check_outcomes(self, series: list[dict[str, Any]]) -> None:
        """Bundled agents solve their tasks unless something below the harness was killed."""
        for row in series:
            if row["agent"].startswith("agents/") and not row["success"] and not self._killed_below:
                # two seconds may be little on a machine that is kept busy
                late = "time limit" in str(row["error"])
                if not late:
                    self._wrong("outcomes_wrong", f"{row['agent']}: {row['error']}")

    def _wrong(self, what: str, words: str, count: int = 1) -> None:
        setattr(self._report, what, getattr(self._report, what) + count)
        note = f"round {self._report.rounds}: {what}: {words}"
        self._report.notes.append(note)
        write_line(f"torture: {note}")


def reaped(pid: int) -> bool:
    """Whether a child is gone, and its id taken back."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def command_of(pid: int) -> str:
    """What a process is, for a note."""
    try:
        return (
            pathlib.Path(f"/proc/{pid}/cmdline")
            .read_text(errors="replace")
            .replace("\0", " ")[-120:]
        )
    except OSError:
        return f"{pid}"


def write_line(line: str) -> None:
    """Tell the person who watches."""
    print(line, file=sys.stderr, flush=True)


def say_table(document: dict[str, Any]) -> None:
    """The figures for people."""
    for name, value in document.items():
        if isinstance(value, dict):
            for kind, count in value.items():
                write_line(f"  {kind:<28}{count:>10}")
        elif not isinstance(value, list):
            write_line(f"{name:<30}{value!s:>10}")


if __name__ == "__main__":
    sys.exit(main())
