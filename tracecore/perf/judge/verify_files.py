"""Everything in which two accounts of one slice differ; whether its files agree byte for byte, and
run artifacts with their hashes and rows.
"""

import contextlib
import hashlib
import json
import math
import os
from typing import IO, Any, Final

from tracecore.errors import InputError, describe, one_line
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.files import DOCUMENTS
from tracecore.record import field, mutable_record
from tracecore.records import EpisodeResult
from tracecore.runtime.artifact import artifact_hash, trace_hash
from tracecore.strict import open_regular, read_file

INDEX: Final = "index.json"
INDEX_BYTES_MOST: Final = 1 << 24
LARGEST_ARTIFACT_BYTES: Final = 1 << 28

_ARTIFACT_FIELDS: Final = (
    "run_id",
    "agent",
    "task_ref",
    "seed",
    "termination_reason",
    "steps_used",
    "tool_calls_used",
)
PROBLEMS_SHOWN: Final = 50
# of sums of doubles, which may have been added up in another order
RELATIVE_TOLERANCE: Final = 1e-9


@mutable_record
class Problems:
    """What verifying a set has come to."""

    sentences: list[str] = field(default_factory=list)
    hidden: int = 0  # further problems, beyond those that are shown
    episodes: int = 0  # rows of the series
    artifacts: int = 0  # run artifacts whose hashes were computed again
    files: int = 0  # files compared byte for byte, or by their hash in an index
    notes: list[str] = field(default_factory=list)  # what could not be checked, and why

    def complain(self, text: str) -> None:
        """Take down something that does not agree."""
        if len(self.sentences) < PROBLEMS_SHOWN:
            self.sentences.append(one_line(text))
        else:
            self.hidden += 1

    def compare(self, name: str, recorded: Any, recomputed: Any) -> None:
        """Take down every leaf in which the two differ."""
        if isinstance(recorded, dict) and isinstance(recomputed, dict):
            for key in {**recomputed, **recorded}:
                if key not in recorded or key not in recomputed:
                    lacks = "the file lacks it", "the series does not give it"
                    self.complain(f"{name}.{key}: {lacks[key in recorded]}")
                else:
                    self.compare(f"{name}.{key}", recorded[key], recomputed[key])
        elif (
            isinstance(recorded, list)
            and isinstance(recomputed, list)
            and len(recorded) == len(recomputed)
        ):
            for place, (one, other) in enumerate(zip(recorded, recomputed, strict=True)):
                self.compare(f"{name}[{place}]", one, other)
        elif not _agree(recorded, recomputed):
            self.complain(f"{name}: says {describe(recorded)}, should be {describe(recomputed)}")


def _agree(recorded: Any, recomputed: Any) -> bool:
    if isinstance(recorded, float) and isinstance(recomputed, float):
        return math.isclose(recorded, recomputed, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return type(recorded) is type(recomputed) and bool(recorded == recomputed)


def check_zip(archived: ArchivedSet, found: Problems) -> None:
    """The documents in a zip and those beside it are the same bytes, wherever both are there."""
    folder = archived.folder
    zipped = os.path.join(folder, f"perf-artifacts-{archived.stamp}.zip")
    beside = {
        kind: os.path.join(folder, f"perf-{kind}-{archived.stamp}.json") for kind in DOCUMENTS
    }
    beside = {kind: path for kind, path in beside.items() if os.path.exists(path)}
    if not (os.path.exists(zipped) and beside):
        return
    (inside,) = read_sets(zipped)
    for kind, path in beside.items():
        found.files += 1
        if _sha256(inside.open(kind)) != _sha256(open_regular(path, "a perf file")):
            found.complain(f"{kind}: {inside.names[kind]} and {path} differ")


def _sha256(file: IO[bytes]) -> str:
    with contextlib.closing(file):
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def check_index(folder: str, found: Problems) -> None:
    """The files that an index of published slices names are there, with the hashes in it."""
    path = os.path.join(folder, INDEX)
    if not os.path.exists(path):
        return
    try:
        data = read_file(path, INDEX_BYTES_MOST, "an index of perf files")
        files = {name: recorded["sha256"] for name, recorded in json.loads(data)["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            path, "files", str(error), "an object from file names to {sha256, bytes}"
        ) from error
    for name, recorded_sha256 in files.items():
        found.files += 1
        if os.path.basename(name) != name:
            found.complain(f"{path}: {describe(name)} is no name of a file beside it")
            continue
        try:
            sha256 = _sha256(open_regular(os.path.join(folder, name), "a file of the index"))
        except InputError as error:
            found.complain(f"{path}: {name} cannot be read: {error.found}")
            continue
        if sha256 != recorded_sha256:
            found.complain(
                f"{path}: {name} has sha256 {sha256}, the index says {describe(recorded_sha256)}"
            )


def check_artifacts(archived: ArchivedSet, runs_dir: str | None, found: Problems) -> None:
    """The run artifacts of a set that are still there hash, and hold, as its series has it."""
    folder = runs_dir
    if folder is None:
        folder = archived.summary.get("run_artifacts", {}).get("root", "")
    missing: list[str] = []
    for row in archived.series():
        name = row.artifact
        if name is None:
            continue
        path = os.path.join(folder, os.path.basename(name))
        if not os.path.isfile(path):
            missing.append(name)
            continue
        found.artifacts += 1
        _check_artifact(path, row, found)
    if missing and (found.artifacts or runs_dir is not None):
        found.complain(f"{len(missing)} run artifacts are not in {folder}, among them {missing[0]}")
    elif missing:
        found.notes.append(
            f"the run artifacts are not in {folder} any more: their hashes were not checked"
        )


def _check_artifact(path: str, row: EpisodeResult, found: Problems) -> None:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_ARTIFACT_BYTES)
        artifact = json.loads(data)
        hashes = artifact_hash(artifact), trace_hash(artifact)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        found.complain(f"{path}: cannot be read as a run artifact: {type(error).__name__}: {error}")
        return
    found.compare(
        path,
        {name: artifact.get(name) for name in _ARTIFACT_FIELDS},
        {name: getattr(row, name) for name in _ARTIFACT_FIELDS},
    )
    found.compare(f"{path}: its size", len(data), row.artifact_bytes)
    for name, computed in zip(("artifact_hash", "trace_hash"), hashes, strict=True):
        found.compare(f"{path}: {name} in the series", getattr(row, name), computed)
        found.compare(f"{path}: {name} in the artifact", artifact.get(name), computed)
