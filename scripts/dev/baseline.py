#!/usr/bin/env python3
"""Makes the published baseline of this machine's class, and holds a fresh slice against the
published ones.

``baseline.py make`` writes deliverables/perf/baselines/<machine_class>/; ``baseline.py check`` is a
step for CI: other behaviour than the published one is exit 3, other times are shown.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final

ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, ROOT)  # a clone runs its own package, installed or not

import published  # noqa: E402  (needs the line above)

from tracecore.command_line.options import require_packages  # noqa: E402  (needs the line above)
from tracecore.errors import InputError, OutputError, one_line  # noqa: E402  (needs the line above)
from tracecore.perf.compare.runs import read_run  # noqa: E402
from tracecore.perf.documents.archive import read_sets  # noqa: E402
from tracecore.perf.show.report import find_set, write_report  # noqa: E402

FOLDER: Final = "deliverables/perf/baselines"
HARNESS: Final = os.path.join(ROOT, "scripts", "perf_harness.py")
RUNS: Final = os.path.join(".agent_bench", "runs")
EXIT_DIFFERENT: Final = 3


class SliceError(Exception):
    """A slice did not end well."""

    def __init__(self, exit_code: int, words: str) -> None:
        super().__init__(words)
        self.exit_code = exit_code


def main() -> int:
    arguments = parse()
    try:
        return int(arguments.do(arguments))
    except (InputError, OutputError) as error:
        write_line(str(error))
        return 2 if isinstance(error, InputError) else 4
    except SliceError as error:
        write_line(str(error))
        return error.exit_code


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default=FOLDER, help="of all classes (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=4, help="of each slice (default: %(default)s)"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    make_parser = commands.add_parser("make", help="make the baseline of this machine's class")
    make_parser.add_argument("--slices", type=int, default=5, help="(default: %(default)s)")
    make_parser.add_argument(
        "--episodes", type=int, default=1000, help="of each slice (default: %(default)s)"
    )
    make_parser.set_defaults(do=make)
    check_parser = commands.add_parser(
        "check", help="hold the default slice against the published baselines"
    )
    check_parser.add_argument("--episodes", type=int, default=24, help="(default: %(default)s)")
    check_parser.set_defaults(do=check)
    return parser.parse_args()


def make(arguments: argparse.Namespace) -> int:
    """Run the slices, verify them while their run artifacts are there, and publish summary and zip
    of each.
    """
    require_packages("baseline.py make", "matplotlib")
    with tempfile.TemporaryDirectory(prefix="tracecore-baseline-") as scratch:
        fresh = os.path.join(scratch, "class")
        os.mkdir(fresh)
        with commit_of_clone(os.path.join(scratch, "clone")) as clone:
            codes = [
                publish_slice(arguments, clone, fresh, first=number == 0)
                for number in range(arguments.slices)
            ]
        index = published.write_index(fresh, "python scripts/dev/baseline.py make")
        target = os.path.join(arguments.folder, index["machine_class"])
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(arguments.folder, exist_ok=True)
        shutil.copytree(fresh, target)
    published.write_overview(arguments.folder)
    verify(target)
    write_line(f"{target}: {len(codes)} slices, {index['total_bytes']} bytes")
    if any(codes):
        write_line(
            f"the slices ended with exit codes {codes}: publish them only if you can say why"
        )
    return max(codes)


@contextlib.contextmanager
def commit_of_clone(folder: str) -> Iterator[str]:
    """The commit that this clone stands on, checked out there: what runs in it is what anyone who
    has the commit can run, and the commands that its documents hold are those of the clone's top
    folder.
    """
    git = ["git", "-C", ROOT, "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", folder, "HEAD"], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", folder], check=True)


def publish_slice(arguments: argparse.Namespace, clone: str, fresh: str, *, first: bool) -> int:
    """One slice from run to published files; its exit code."""
    exit_code, answer = run_slice(arguments, clone, os.path.relpath(HARNESS, ROOT), "--compress")
    paths = answer["artifacts"]
    verify(paths["summary"], "--runs-dir", os.path.join(clone, RUNS))
    for kind in ("summary", "bundle"):
        shutil.copy(paths[kind], fresh)
    if first:
        shutil.copy(paths["samples"], fresh)
        write_report(find_set(answer["stamp"], os.path.dirname(paths["summary"])), fresh)
    shutil.rmtree(os.path.join(clone, RUNS))
    return exit_code


def check(arguments: argparse.Namespace) -> int:
    """Run the default slice under the gate, and compare with the published slices all that is no
    time.
    """
    with tempfile.TemporaryDirectory(prefix="tracecore-check-") as scratch:
        exit_code, answer = run_slice(arguments, scratch, HARNESS)
        new = read_run(read_sets(answer["artifacts"]["summary"])[0])
        with open(answer["artifacts"]["summary"], encoding="utf-8") as file:
            summary = json.load(file)
    folder = published.pick_class(arguments.folder, new.manifest.get("machine_class"))
    verify(folder)
    changes, compared = published.behaviour_changes(published.read_class(folder), new)
    for change in changes:
        examples = json.dumps(change.examples[:2])
        where = f"{change.row}: {change.quantity} of {change.changed} of {change.compared} episodes"
        write_line(one_line(f"changed: {where}: {change.why} {examples}"))
    write_line(
        f"{compared} episodes compared with {folder}: {len(changes)} changes of behaviour. Times,"
        " which decide nothing here:"
    )
    print("\n".join(published.times_lines(published.read_index(folder), summary)), file=sys.stderr)
    if not compared:
        write_line("the published slices have none of these episodes")
        return EXIT_DIFFERENT
    return exit_code or (EXIT_DIFFERENT if changes else 0)


def run_slice(
    arguments: argparse.Namespace, folder: str, script: str, *more: str
) -> tuple[int, dict[str, Any]]:
    """Run the harness in ``folder``; its exit code, and what it wrote to stdout."""
    size = ["--episodes", str(arguments.episodes), "--workers", str(arguments.workers)]
    # This interpreter by the name that a reader types: documents hold the commands of their slice.
    search = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["python", script, *size, "--strict-spec", "--gate", *more],
        executable=sys.executable,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": search},
    )
    answer = json.loads(done.stdout)
    if done.returncode not in {0, 1, 3}:
        raise SliceError(
            done.returncode,
            f"the slice ended with exit code {done.returncode}: {answer.get('error', '')}",
        )
    answer["artifacts"] = {
        kind: os.path.join(folder, path) for kind, path in answer["artifacts"].items()
    }
    return done.returncode, answer


def verify(folder: str, *options: str) -> None:
    """Have every figure and hash in ``folder`` checked."""
    done = subprocess.run(
        [sys.executable, HARNESS, "verify", folder, *options],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise SliceError(done.returncode, f"{folder} does not verify")


def write_line(text: str) -> None:
    print(f"baseline: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
