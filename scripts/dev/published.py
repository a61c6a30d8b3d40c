"""Baselines that are published with the project: per machine class a folder of slices, with an
index of every file.

An index holds what a visitor asks first (which commit, which machine, which verdict) and the sha256
of each file, which ``perf_harness.py verify`` checks.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Final

from tracecore import clock
from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.perf.compare.behaviour import ExactChange, compare_exactly
from tracecore.perf.compare.runs import RunRecord, read_run, row_names
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.judge.verdicts import answer_of
from tracecore.perf.show.markdown import code, escape
from tracecore.records import JsonObject
from tracecore.stats import median
from tracecore.units import bytes_text, seconds_text

INDEX: Final = "index.json"
CLASS_BYTES_MOST: Final = 3_000_000
# Changes that a baseline forgives: a few bytes more per artifact, and runs of the baseline that do
# not agree among themselves.
HARMLESS: Final = frozenset({"unchanged", "inconclusive"})

HOW_TO: Final = """\
## Adding a machine class, or making one anew

On a quiet machine, with nothing uncommitted, in an environment with the `report` extra (`pip
install -e '.[report]'`):

```sh
python scripts/dev/baseline.py make
```

It runs five slices of 1,000 episodes, verifies each against its run artifacts, draws the first,
and writes the folder of this machine's class with its index, and this page. Commit what it wrote.
An existing folder of the class is replaced.

`python scripts/perf_harness.py verify deliverables/perf/baselines/<machine_class>` recomputes
every summary from its series and checks every hash. `python scripts/dev/baseline.py check` runs
the default slice and holds what must not change from run to run against these slices; times are
shown beside each other, and decide nothing.
"""


# --- make ------------------------------------------------------------------------------------


def write_index(folder: str, command: str) -> JsonObject:
    """Write the index of one class's folder, of what lies there; gives it.

    Args:
        folder: Holds the summary and the zip of each slice, and the report of one.
        command: That made them.

    Raises:
        InputError: They are of several classes or commits, or larger than a class may be.
        OutputError: It could not be written.
    """
    sets = [
        read_sets(os.path.join(folder, name))[0]
        for name in sorted(os.listdir(folder))
        if name.endswith(".zip")
    ]
    names = sorted(
        name for name in os.listdir(folder) if name != INDEX and not name.startswith(".")
    )
    files = {name: _file_facts(os.path.join(folder, name)) for name in names}
    total_bytes = sum(facts["bytes"] for facts in files.values())
    if total_bytes > CLASS_BYTES_MOST:
        raise InputError(
            folder,
            "",
            bytes_text(total_bytes),
            f"at most {bytes_text(CLASS_BYTES_MOST)} a machine class",
        )
    index = {
        "machine_class": _the_same(
            folder, "machine_class", [one.manifest.get("machine_class") for one in sets]
        ),
        "runtime_identity": _the_same(
            folder, "runtime_identity", [one.manifest.get("runtime_identity") for one in sets]
        ),
        "made_at": clock.utc_text(),
        "command": command,
        "total_bytes": total_bytes,
        "slices": [_slice_facts(one) for one in sets],
        "files": files,
    }
    write_atomic(os.path.join(folder, INDEX), (json.dumps(index, indent=2) + "\n").encode("ascii"))
    return index


def _file_facts(path: str) -> JsonObject:
    with open(path, "rb") as file:
        return {
            "bytes": os.path.getsize(path),
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _the_same(folder: str, field: str, values: Sequence[Any]) -> Any:
    if not values or any(value != values[0] for value in values):
        raise InputError(
            folder, field, values, "one and the same in all slices, of which there must be one"
        )
    return values[0]


def _slice_facts(archived: ArchivedSet) -> JsonObject:
    summary, answer = archived.summary, answer_of(archived.summary)
    return {
        "stamp": archived.stamp,
        "episodes": summary["episodes"],
        "failure_count": summary["failure_count"],
        "exit_code": answer.exit_code,
        "reasons": list(answer.reasons),
        "p50_wall_clock_s": summary["summary"]["p50_wall_clock_s"],
        "p95_wall_clock_s": summary["summary"]["p95_wall_clock_s"],
        "throughput_eps": summary["summary"]["throughput_eps"],
    }


def write_overview(folder: str) -> None:
    """Write the page over all classes in ``folder``.

    Raises:
        InputError: An index cannot be read.
        OutputError: It could not be written.
    """
    parts = [
        "# Published baselines",
        "Slices of the default scenario, one folder per machine class.",
    ]
    for name in class_names(folder):
        parts += _class_part(name, read_index(os.path.join(folder, name)))
    write_atomic(
        os.path.join(folder, "README.md"), ("\n\n".join([*parts, HOW_TO.rstrip()]) + "\n").encode()
    )


def _class_part(name: str, index: JsonObject) -> list[str]:
    identity, slices = index["runtime_identity"], index["slices"]
    changed = " with uncommitted changes" if identity["dirty"] else ""
    about = (
        f"tracecore {escape(identity['version'])},"
        f" commit {code(str(identity['git_sha']), in_table=False)}{changed},"
        f" made at {escape(index['made_at'])};"
        f" {len(index['files'])} files, {bytes_text(index['total_bytes'])},"
        f" their sha256 in [{INDEX}]({name}/{INDEX})."
    )
    head = (
        "| slice | episodes | failed | verdict | p50 | p95 | episodes/s |\n| --- | --- | --- | ---"
        " | --- | --- | --- |"
    )
    lines = [
        f"| {one['stamp']} | {one['episodes']} | {one['failure_count']} |"
        f" {'✔' if one['exit_code'] == 0 else '✘'} exit {one['exit_code']} |"
        f" {seconds_text(one['p50_wall_clock_s'])} | {seconds_text(one['p95_wall_clock_s'])} |"
        f" {one['throughput_eps']:.1f} |"
        for one in slices
    ]
    reports = [
        file for file in index["files"] if file.startswith("perf-report-") and file.endswith(".md")
    ]
    links = " ".join(f"[Charts and report]({name}/{file})." for file in reports)
    return [f"## {escape(name)}", about, "\n".join([head, *lines]), *([links] if links else [])]


# --- check -----------------------------------------------------------------------------------


def class_names(folder: str) -> list[str]:
    """The machine classes in a folder of baselines."""
    if not os.path.isdir(folder):
        return []
    return sorted(
        name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, INDEX))
    )


def read_index(folder: str) -> JsonObject:
    """The index of one class.

    Raises:
        InputError: It cannot be read, or is none.
    """
    path = os.path.join(folder, INDEX)
    try:
        with open(path, "rb") as file:
            index = json.loads(file.read(1 << 24))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, "", str(error), "the index of published slices") from error
    if (
        not isinstance(index, dict)
        or not {"machine_class", "runtime_identity", "slices", "files"} <= index.keys()
    ):
        raise InputError(
            path, "", index, "an object with machine_class, runtime_identity, slices and files"
        )
    return index


def pick_class(folder: str, machine_class: str | None) -> str:
    """The folder to hold a slice against: of its own class, or else any: behaviour is the same on
    every machine.

    Raises:
        InputError: There is none.
    """
    names = class_names(folder)
    if not names:
        raise InputError(
            folder,
            "",
            "no published baselines",
            f"folders of a machine class, each with an {INDEX}",
        )
    return os.path.join(folder, machine_class if machine_class in names else names[0])


def behaviour_changes(
    baseline: Sequence[RunRecord], new: RunRecord
) -> tuple[list[ExactChange], int]:
    """What must not change from run to run and did, and how many episodes both sides have.

    Artifact hashes are left out: they depend on the commit as well. The trace hash covers
    all that an episode did.
    """
    runs = [run.columns for run in baseline]
    names = row_names([*runs, new.columns])
    same = dict.fromkeys(names, True)
    changes = compare_exactly(names, runs, [new.columns], same_sources=same, same_runtime=False)
    known = {(row, seed) for run in runs for row in run.rows for seed in run.by_seed(row)}
    mine = {(row, seed) for row in new.columns.rows for seed in new.columns.by_seed(row)}
    return [change for change in changes if change.verdict not in HARMLESS], len(known & mine)


def read_class(folder: str) -> list[RunRecord]:
    """The slices of one class, from their zips.

    Raises:
        InputError: One cannot be trusted, or there is none.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".zip"))
    if not names:
        raise InputError(folder, "", "no slices", "perf-artifacts-<stamp>.zip")
    return [read_run(read_sets(os.path.join(folder, name))[0]) for name in names]


def times_lines(index: JsonObject, summary: JsonObject) -> list[str]:
    """The times of a slice beside the median of the baseline's, as lines to read."""
    totals = summary["summary"]
    lines = []
    for name, words in (
        ("p50_wall_clock_s", "wall clock, p50"),
        ("p95_wall_clock_s", "wall clock, p95"),
    ):
        before = median([one[name] for one in index["slices"]])
        lines.append(
            f"  {words:<16} {seconds_text(totals[name]):>9}   baseline {seconds_text(before)}"
        )
    before = median([one["throughput_eps"] for one in index["slices"]])
    lines.append(
        f"  {'throughput':<16} {totals['throughput_eps']:>7.1f}/s   baseline {before:.1f}/s"
    )
    return lines
