"""The recorded calls of an episode: one canonical JSON file per agent, task and seed.

No key, token or other header of a request is in it. Its answers are given by request, and in order.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import Any, Final

from tracecore import canon
from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.gateway.calls import Answer, Call, Request
from tracecore.record import as_dict, record
from tracecore.strict import (
    AMOUNT,
    COUNT,
    LIST,
    OBJECT,
    TEXT,
    Kind,
    check_fields,
    or_null,
    parse_json,
    read_file,
)

FORMAT: Final = "tracecore-recording-v1"
FORM: Final = f"a recording of this episode ({FORMAT})"
FILE_BYTES_MOST: Final = 256 << 20


def _pairs(first: Kind, second: Kind) -> Kind:
    return (
        lambda value: (
            isinstance(value, list)
            and all(
                isinstance(pair, list)
                and len(pair) == 2
                and first[0](pair[0])
                and second[0](pair[1])
                for pair in value
            )
        ),
        f"pairs of {first[1]} and {second[1]}",
    )


_ANSWER: Final = {
    "status": COUNT,
    "content_type": TEXT,
    "headers": _pairs(TEXT, TEXT),
    "parts": _pairs(AMOUNT, TEXT),
    "failure": or_null(TEXT),
}


@record
class EpisodeKey:
    """What decides which calls an episode makes."""

    agent: str  # as referenced
    task_ref: str
    seed: int

    @property
    def file_name(self) -> str:
        """Of its recording."""
        agent = re.sub(r"[^A-Za-z0-9]+", "-", os.path.basename(self.agent).removesuffix(".py"))
        digest = canon.digest([self.agent, self.task_ref, self.seed]).removeprefix("sha256:")[:8]
        return f"{agent[:40]}-{self.task_ref.replace('@', '-')[:80]}-{self.seed}-{digest}.json"


class Recording:
    """The calls of an episode that were recorded, each to be given once.

    Raises:
        InputError: There is no recording of this episode, or it is damaged.
    """

    def __init__(self, folder: str, key: EpisodeKey) -> None:
        path = os.path.join(folder, key.file_name)
        document = parse_json(path, read_file(path, FILE_BYTES_MOST, FORM))
        check_fields(path, "", document, {"format": TEXT, "calls": LIST})
        if document["format"] != FORMAT:
            raise InputError(path, "format", document["format"], FORMAT)
        self._left: list[tuple[int, Any, Answer]] = []
        for number, call in enumerate(document["calls"]):
            where = f"calls[{number}]"
            check_fields(path, where, call, {"request": OBJECT, "answer": OBJECT})
            answer = check_fields(path, f"{where}.answer", call["answer"], _ANSWER)
            known = Answer(**{name: answer[name] for name in _ANSWER})
            self._left.append((number, call["request"], known))

    def take(self, request: Request) -> tuple[int, Answer] | None:
        """The first answer left that was recorded for such a request, and its place."""
        wanted = request.as_json()
        found = next((one for one in self._left if one[1] == wanted), None)
        if found is None:
            return None
        self._left.remove(found)
        number, _request, answer = found
        return number, answer

    def nearest(self, request: Request) -> str:
        """What differs first between a request and the recording that would have come next."""
        if not self._left:
            return "no call is left in its recording"
        path, found, recorded = _first_difference(request.as_json(), self._left[0][1])
        return f"{path}: found {_short(found)}, recorded {_short(recorded)}"


def write_recording(folder: str, key: EpisodeKey, calls: Sequence[Call]) -> None:
    """Write the calls of an episode, in the place of an older recording of it.

    Raises:
        OutputError: It could not be written.
    """
    kept = [
        {
            "request": call.request.as_json(),
            "answer": {**as_dict(call.answer), "failure": call.answer.problem},
        }
        for call in calls
        if not call.is_refused
    ]
    document = {"format": FORMAT, **as_dict(key), "calls": kept}
    os.makedirs(folder, exist_ok=True)
    write_atomic(os.path.join(folder, key.file_name), canon.encode(document) + b"\n")


def _first_difference(found: Any, recorded: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(found, dict) and isinstance(recorded, dict):
        for key in {**found, **recorded}:
            if found.get(key) != recorded.get(key):
                below = f"{path}.{key}" if path else key
                return _first_difference(found.get(key), recorded.get(key), below)
    if isinstance(found, list) and isinstance(recorded, list):
        for place, (one, other) in enumerate(zip(found, recorded, strict=False)):
            if one != other:
                return _first_difference(one, other, f"{path}[{place}]")
        return f"{path}: length", len(found), len(recorded)
    return path or "request", found, recorded


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else text[:119] + "…"
