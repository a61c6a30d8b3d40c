"""Whether the perf files of a slice agree: with their series, with each other, with their zip, and
with the run artifacts.

The series is the witness: summary and metrics are made from it again, by the same code as after the
    run, and compared.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tracecore.errors import InputError, describe, one_line
from tracecore.perf.documents.archive import DOCUMENTS, ArchivedSet, Readable, read_sets
from tracecore.perf.documents.metrics import Metrics
from tracecore.perf.documents.summary import Summary
from tracecore.perf.judge.verdict_check import VerdictCheck
from tracecore.record import field, field_names, has_default, mutable_record
from tracecore.records import EpisodeResult, JsonObject, Usage
from tracecore.runtime.artifact import artifact_hash, trace_hash

INDEX: Final = "index.json"
PROBLEMS_SHOWN: Final = 50
READ_BYTES: Final = 1 << 16
LARGEST_ARTIFACT_BYTES: Final = 1 << 28
# of sums of doubles, which may have been added up in another order
RELATIVE_TOLERANCE: Final = 1e-9

# From a whole run artifact to its artifact hash and its trace hash.
HashArtifact = Callable[[JsonObject], tuple[str, str]]

_USAGE_FIELDS: Final = field_names(Usage)
_ROW_FIELDS: Final = tuple(name for name in field_names(EpisodeResult) if name != "usage")
_OPTIONAL_FIELDS: Final = frozenset(
    name for name in field_names(EpisodeResult) if has_default(EpisodeResult, name)
)
# where the series says it otherwise
_SERIES_NAMES: Final = {"index": "episode_index", "artifact_name": "artifact"}
_ARTIFACT_FIELDS: Final = (
    "run_id",
    "agent",
    "task_ref",
    "seed",
    "termination_reason",
    "steps_used",
    "tool_calls_used",
)


@mutable_record
class Findings:
    """What verifying a set has come to."""

    problems: list[str] = field(default_factory=list)
    hidden: int = 0  # further problems, beyond those that are told
    episodes: int = 0  # rows of the series
    artifacts: int = 0  # run artifacts whose hashes were computed again
    files: int = 0  # files compared byte for byte, or by their hash in an index
    notes: list[str] = field(default_factory=list)  # what could not be checked, and why

    def complain(self, text: str) -> None:
        """Take down something that does not agree."""
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(one_line(text))
        else:
            self.hidden += 1


def verify_path(path: str, runs_dir: str | None = None) -> tuple[list[str], JsonObject]:
    """Recompute what the perf files at ``path`` say; what does not agree, and what was verified.

    Raises:
        InputError: The files cannot be read.
    """
    return verify_sets(
        path, lambda artifact: (artifact_hash(artifact), trace_hash(artifact)), runs_dir
    )


def verify_sets(
    path: str, hash_artifact: HashArtifact, runs_dir: str | None = None
) -> tuple[list[str], JsonObject]:
    """Verify every set at ``path``.

    Args:
        path: As :func:`tracecore.perf.documents.archive.read_sets` takes it.
        hash_artifact: How run artifacts are hashed.
        runs_dir: Where they lie; where the summary says, by default, if they are still there.

    Returns:
        What does not agree, as sentences, and for stdout what was verified.

    Raises:
        InputError: The files cannot be read at all.
    """
    problems: list[str] = []
    told: list[JsonObject] = []
    for archived in read_sets(path):
        found = verify_set(archived, hash_artifact, runs_dir)
        problems += [f"{archived.stamp}: {problem}" for problem in found.problems]
        problems += [f"{archived.stamp}: and {found.hidden} more"] if found.hidden else []
        checked = {
            "episodes": found.episodes,
            "run_artifacts": found.artifacts,
            "files": found.files,
        }
        told.append(
            {
                "stamp": archived.stamp,
                "path": archived.path,
                "checked": checked,
                "notes": found.notes,
            }
        )
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    indexed = Findings()
    _check_index(folder, indexed)
    return problems + indexed.problems, {"sets": told, "indexed_files": indexed.files}


def verify_set(
    archived: ArchivedSet, hash_artifact: HashArtifact, runs_dir: str | None = None
) -> Findings:
    """Verify one set; see :func:`verify_sets`."""
    found = Findings()
    try:
        _check_documents(archived, found)
        _check_zip(archived, found)
        _check_artifacts(archived, hash_artifact, runs_dir, found)
    except InputError as error:
        found.complain(str(error))
    return found


# --- documents against the series ------------------------------------------------------------------------------------


def _check_documents(archived: ArchivedSet, found: Findings) -> None:
    said = archived.summary
    summary, metrics, verdict = Summary(), Metrics(), VerdictCheck(said)
    for row in _rows(archived, found):
        summary.add(row)
        metrics.add(row)
        verdict.add(row)
    if archived.manifest.get("stamp", archived.stamp) != archived.stamp:
        found.complain(f"the manifest is of slice {describe(archived.manifest['stamp'])}")
    _compare(
        "manifest.episodes",
        archived.manifest["episodes"],
        said.get("episodes_requested", found.episodes),
        found,
    )
    _compare(
        "manifest.workers", archived.manifest["workers"], said["summary"].get("workers"), found
    )
    if "system_samples" in archived.manifest:
        _compare(
            "manifest.system_samples",
            archived.manifest["system_samples"],
            said.get("system_samples"),
            found,
        )
    again = summary.document(
        episodes_requested=said.get("episodes_requested", found.episodes),
        workers=said["summary"].get("workers", 0),
        runs_root=(said.get("run_artifacts") or {}).get("root", ""),
        system_samples=said.get("system_samples") or {},
        elapsed_s=said.get("elapsed_s"),
        episodes_run=_episodes_run(said, found),
        interrupted=bool(said.get("interrupted")),
    )
    _compare("summary", {name: said.get(name) for name in again}, again, found)
    _compare(
        "metrics",
        [_only(one, other) for one, other in _pair(archived.metrics, metrics.document())],
        metrics.document(),
        found,
    )
    _check_verdict(verdict, found)


def _rows(archived: ArchivedSet, found: Findings) -> Iterator[EpisodeResult]:
    """The rows as the episodes left them; each is held against the scenario."""
    scenario = archived.manifest["scenario"]
    for said in archived.series():
        found.episodes += 1
        index = said["episode_index"]
        planned = scenario[index % len(scenario)]
        name = f"series, episode {index + 1}"
        expected = {
            "episode": index + 1,
            "agent": planned["agent"],
            "task_ref": planned["task_ref"],
            "seed": planned["seed"] + index,
        }
        _compare(name, {key: said.get(key) for key in expected}, expected, found)
        if said["success"] is not (said["error"] is None):
            found.complain(
                f"{name}: success is {said['success']}, error is {describe(said['error'])}"
            )
        yield row_of(said)


def row_of(said: Mapping[str, Any]) -> EpisodeResult:
    """The row that an object of the series was made from; what may be left out of the series has
    its default.

    Raises:
        InputError: A field is missing, as in series of other versions.
    """
    try:
        names = {name: _SERIES_NAMES.get(name, name) for name in _ROW_FIELDS}
        values = {
            name: said[key]
            for name, key in names.items()
            if key in said or name not in _OPTIONAL_FIELDS
        }
        return EpisodeResult(**values, usage=Usage(**{name: said[name] for name in _USAGE_FIELDS}))
    except KeyError as error:
        expected = (
            f"the field {error.args[0]}, without which summary and metrics cannot be made again"
        )
        raise InputError(
            "series", f"episode {said['episode_index'] + 1}", "a row of another version", expected
        ) from error


def _episodes_run(said: JsonObject, found: Findings) -> int:
    """How many ran within the time that the throughput is of: all, or of a resumed slice the rest,
    which may be none.
    """
    rate, elapsed_s = said["summary"].get("throughput_eps"), said.get("elapsed_s")
    if rate is None and isinstance(elapsed_s, int | float):
        return 0
    if not isinstance(rate, int | float) or not isinstance(elapsed_s, int | float):
        return found.episodes
    ran = round(rate * elapsed_s)
    if not 0 < ran <= found.episodes:
        found.complain(
            f"summary.summary.throughput_eps: {rate} for {elapsed_s} s come to {ran} episodes of"
            f" {found.episodes}"
        )
    return ran


def _check_verdict(verdict: VerdictCheck, found: Findings) -> None:
    for place, said, again in verdict.differences():
        _compare(place, said, again, found)
    for complaint in verdict.complaints():
        found.complain(complaint)
    found.notes += [
        f"a threshold of another version was not checked: {text}" for text in verdict.unknown
    ]


def _pair(
    said: list[JsonObject], again: list[JsonObject]
) -> Iterator[tuple[JsonObject, JsonObject]]:
    for place, one in enumerate(said):
        yield one, again[place] if place < len(again) else one


def _only(said: JsonObject, again: JsonObject) -> JsonObject:
    return {name: said.get(name) for name in again}


def _compare(name: str, said: Any, again: Any, found: Findings) -> None:
    """Complain about every leaf in which the two differ."""
    if isinstance(said, dict) and isinstance(again, dict):
        for key in {**again, **said}:
            if key not in said or key not in again:
                where = "the file lacks it" if key not in said else "the series does not give it"
                found.complain(f"{name}.{key}: {where}")
            else:
                _compare(f"{name}.{key}", said[key], again[key], found)
    elif isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
        for place, (one, other) in enumerate(zip(said, again, strict=True)):
            _compare(f"{name}[{place}]", one, other, found)
    elif not _agree(said, again):
        found.complain(f"{name}: says {describe(said)}, should be {describe(again)}")


def _agree(said: Any, again: Any) -> bool:
    if isinstance(said, float) and isinstance(again, float):
        return math.isclose(said, again, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return type(said) is type(again) and bool(said == again)


# --- files -----------------------------------------------------------------------------------------------------------


def _check_zip(archived: ArchivedSet, found: Findings) -> None:
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
        if _sha256(inside.open(kind)) != _sha256(open(path, "rb")):  # noqa: SIM115  (closed there)
            found.complain(f"{kind}: {inside.names[kind]} and {path} differ")


def _sha256(file: Readable) -> str:
    digest = hashlib.sha256()
    with contextlib.closing(file):
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _check_index(folder: str, found: Findings) -> None:
    """The files that an index of published slices names are there, with the hashes that it gives."""
    path = os.path.join(folder, INDEX)
    if not os.path.exists(path):
        return
    try:
        with open(path, "rb") as file:
            files = {
                name: said["sha256"]
                for name, said in json.loads(file.read(1 << 24))["files"].items()
            }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            path, "files", str(error), "an object from file names to {sha256, bytes}"
        ) from error
    for name, said_sha256 in files.items():
        found.files += 1
        if os.path.basename(name) != name:
            found.complain(f"{path}: {describe(name)} is no name of a file beside it")
            continue
        try:
            with open(os.path.join(folder, name), "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            found.complain(f"{path}: {name} cannot be read: {error.strerror}")
            continue
        if sha256 != said_sha256:
            found.complain(
                f"{path}: {name} has sha256 {sha256}, the index says {describe(said_sha256)}"
            )


# --- run artifacts ---------------------------------------------------------------------------------------------------


def _check_artifacts(
    archived: ArchivedSet, hash_artifact: HashArtifact, runs_dir: str | None, found: Findings
) -> None:
    folder = (
        (archived.summary.get("run_artifacts") or {}).get("root", "")
        if runs_dir is None
        else runs_dir
    )
    missing: list[str] = []
    for row in archived.series():
        name = row.get("artifact")
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
    path: str, row: JsonObject, hash_artifact: HashArtifact, found: Findings
) -> None:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_ARTIFACT_BYTES)
        artifact = json.loads(data)
        hashes = hash_artifact(artifact)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        found.complain(f"{path}: cannot be read as a run artifact: {type(error).__name__}: {error}")
        return
    _compare(
        path,
        {name: artifact.get(name) for name in _ARTIFACT_FIELDS},
        {name: row.get(name) for name in _ARTIFACT_FIELDS},
        found,
    )
    _compare(f"{path}: its size", len(data), row["artifact_bytes"], found)
    for name, computed in zip(("artifact_hash", "trace_hash"), hashes, strict=True):
        _compare(f"{path}: {name} in the series", row.get(name), computed, found)
        _compare(f"{path}: {name} in the artifact", artifact.get(name), computed, found)
