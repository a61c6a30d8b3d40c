"""Whether files agree byte for byte, and run artifacts with their hashes and rows."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from typing import IO, Final

from tracecore.errors import InputError, describe
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.files import DOCUMENTS
from tracecore.perf.judge.problems import Problems
from tracecore.records import EpisodeResult, JsonObject
from tracecore.strict import open_regular, read_file

INDEX: Final = "index.json"
INDEX_BYTES_MOST: Final = 1 << 24
READ_BYTES: Final = 1 << 16
LARGEST_ARTIFACT_BYTES: Final = 1 << 28

# From a whole run artifact to its artifact hash and its trace hash.
HashArtifact = Callable[[JsonObject], tuple[str, str]]

_ARTIFACT_FIELDS: Final = (
    "run_id",
    "agent",
    "task_ref",
    "seed",
    "termination_reason",
    "steps_used",
    "tool_calls_used",
)


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
    digest = hashlib.sha256()
    with contextlib.closing(file):
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def check_index(folder: str, found: Problems) -> None:
    """The files that an index of published slices names are there, with the hashes in it."""
    path = os.path.join(folder, INDEX)
    if not os.path.exists(path):
        return
    try:
        data = read_file(path, INDEX_BYTES_MOST, "an index of perf files")
        files = {name: said["sha256"] for name, said in json.loads(data)["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            path, "files", str(error), "an object from file names to {sha256, bytes}"
        ) from error
    for name, said_sha256 in files.items():
        found.files += 1
        if os.path.basename(name) != name:
            found.complain(f"{path}: {describe(name)} is no name of a file beside it")
            continue
        try:
            sha256 = _sha256(open_regular(os.path.join(folder, name), "a file of the index"))
        except InputError as error:
            found.complain(f"{path}: {name} cannot be read: {error.found}")
            continue
        if sha256 != said_sha256:
            found.complain(
                f"{path}: {name} has sha256 {sha256}, the index says {describe(said_sha256)}"
            )


def check_artifacts(
    archived: ArchivedSet, hash_artifact: HashArtifact, runs_dir: str | None, found: Problems
) -> None:
    folder = (
        (archived.summary.get("run_artifacts") or {}).get("root", "")
        if runs_dir is None
        else runs_dir
    )
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
        _check_artifact(path, row, hash_artifact, found)
    if missing and (found.artifacts or runs_dir is not None):
        found.complain(f"{len(missing)} run artifacts are not in {folder}, among them {missing[0]}")
    elif missing:
        found.notes.append(
            f"the run artifacts are not in {folder} any more: their hashes were not checked"
        )


def _check_artifact(
    path: str, row: EpisodeResult, hash_artifact: HashArtifact, found: Problems
) -> None:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_ARTIFACT_BYTES)
        artifact = json.loads(data)
        hashes = hash_artifact(artifact)
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
