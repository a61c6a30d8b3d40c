"""A run artifact read back from its file: is it what it claims to be, and does another run of its
episode agree with it?
"""

from typing import Any, Final

from tracecore import strict
from tracecore.errors import MISSING, InputError
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.runtime import spec
from tracecore.runtime.artifact import artifact_hash, stable_head, trace_hash
from tracecore.runtime.trace import stable_entry

FILE_BYTES_MOST: Final = 64 << 20
PROBLEMS_MOST: Final = 20  # of one artifact: more are not read
READABLE: Final = f"a regular file of at most {FILE_BYTES_MOST >> 20} MiB that can be read"

# Two artifacts are compared in this order, and else by name: what comes first is
# the cause of what follows. Which runtime it was comes last of all: if that is what is found,
# nothing else differs.
RUNTIME_KEYS: Final = ("harness_version", "runtime_identity")
FIRST_KEYS: Final = ("task_hash", "agent_hash", "observation", "llm_trace", "action", "result")
LAST_KEYS: Final = ("trace_hash", *RUNTIME_KEYS)
RANK: Final = {
    **{key: place - len(FIRST_KEYS) for place, key in enumerate(FIRST_KEYS)},
    **{key: place + 1 for place, key in enumerate(LAST_KEYS)},
}


@record
class Difference:
    """The first place in which two artifacts differ."""

    step: int | None  # 1-based place in the trace; None: outside it
    field: str  # path below the step, or below the artifact; "" where one of them has no such step
    old: Any  # MISSING where there is nothing
    new: Any

    @property
    def is_runtime_alone(self) -> bool:
        """Whether all that differs is which tracecore ran the episode."""
        return self.step is None and self.field.partition(".")[0] in RUNTIME_KEYS


def first_difference(old: JsonObject, new: JsonObject) -> Difference | None:
    """Where two valid artifacts first differ in what every run of the same inputs must repeat.

    The trace comes first, step by step; then what stands outside it. ``None`` means that their
    artifact hashes agree.
    """
    old_trace, new_trace = old["action_trace"], new["action_trace"]
    for place, (old_entry, new_entry) in enumerate(zip(old_trace, new_trace, strict=False)):
        if found := _first_in(stable_entry(old_entry), stable_entry(new_entry)):
            return Difference(place + 1, *found)
    shorter = min(len(old_trace), len(new_trace))
    if len(old_trace) != len(new_trace):
        return Difference(shorter + 1, "", _item(old_trace, shorter), _item(new_trace, shorter))
    found = _first_in(stable_head(old), stable_head(new))
    return None if found is None else Difference(None, *found)


def _first_in(old: JsonObject, new: JsonObject) -> tuple[str, Any, Any] | None:
    """Path, old and new value of the first leaf that differs."""
    # a stack: what tasks return may be nested deeply
    waiting: list[tuple[str, Any, Any]] = [("", old, new)]
    while waiting:
        path, a, b = waiting.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(
                a.keys() | b.keys(), key=lambda key: (RANK.get(key, 0), key), reverse=True
            )
            waiting += [
                (f"{path}.{key}".lstrip("."), a.get(key, MISSING), b.get(key, MISSING))
                for key in keys
            ]
        elif isinstance(a, list) and isinstance(b, list):
            places = reversed(range(max(len(a), len(b))))
            waiting += [(f"{path}[{place}]", _item(a, place), _item(b, place)) for place in places]
        elif not _is_same(a, b):
            return path, a, b
    return None


def _item(values: list[Any], place: int) -> Any:
    return values[place] if place < len(values) else MISSING


def _is_same(old: Any, new: Any) -> bool:
    # By type and repr: 1, 1.0 and true are equal to Python, and so are 0.0 and -0.0, but their JSON
    # is not.
    return type(old) is type(new) and (old is new or repr(old) == repr(new))


# --- reading ---


def read_artifact(path: str) -> tuple[JsonObject, list[str]]:
    """The artifact in the file ``path``, and what is wrong with it.

    Returns:
        The artifact and ``[]`` if it is valid and both its hashes are those of what it holds; else
        ``{}`` and the problems, a line each.

    Raises:
        InputError: The file cannot be read.
    """
    data = strict.read_file(path, FILE_BYTES_MOST, READABLE)
    try:
        artifact = strict.parse_json(path, data)
    except InputError as error:
        where = f"{error.field}: " if error.field else ""
        return {}, [f"found no JSON ({where}{error.found}), expected a run artifact"]
    try:
        found = spec.problems(artifact, PROBLEMS_MOST) or _hash_problems(artifact)
    except RecursionError:
        found = ["found very deep nesting, expected a run artifact"]
    return (artifact, []) if not found else ({}, found)


def _hash_problems(artifact: JsonObject) -> list[str]:
    actual = {"artifact_hash": artifact_hash(artifact), "trace_hash": trace_hash(artifact)}
    return [
        f"$.{name}: found {artifact[name]!r}, expected {value!r}, the hash of what it holds"
        for name, value in actual.items()
        if artifact[name] != value
    ]
