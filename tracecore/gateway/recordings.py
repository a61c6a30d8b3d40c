"""Calls of an episode as a file, and their answers out of it: by request, and in order.

One canonical JSON file per agent, task and seed; no key, token or other header of a request is
in it.
"""

import json
import os
import re
from typing import Any, Final

from tracecore import canon
from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.gateway.calls import Answer, Call, Request
from tracecore.record import record
from tracecore.records import JsonObject

FORMAT: Final = "tracecore-recording-v1"
FILE_BYTES_MOST: Final = 256 << 20


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


def write_recording(folder: str, key: EpisodeKey, calls: list[Call]) -> None:
    """Write the calls of an episode; an older recording of it is replaced.

    Raises:
        OutputError: It could not be written.
    """
    document = {
        "format": FORMAT,
        "agent": key.agent,
        "task_ref": key.task_ref,
        "seed": key.seed,
        "calls": [_call_document(call) for call in calls if call.refused is None],
    }
    os.makedirs(folder, exist_ok=True)
    write_atomic(os.path.join(folder, key.file_name), canon.encode(document) + b"\n")


def _call_document(call: Call) -> JsonObject:
    answer = call.answer
    return {
        "request": call.request.as_json(),
        "answer": {
            "status": answer.status,
            "content_type": answer.content_type,
            "headers": [list(header) for header in answer.headers],
            "parts": [list(part) for part in answer.parts],
            "failure": answer.failure,
        },
    }


class Recording:
    """The calls of an episode that were recorded, each to be given once.

    Raises:
        InputError: There is no recording of this episode, or it is damaged.
    """

    def __init__(self, folder: str, key: EpisodeKey) -> None:
        self.path = os.path.join(folder, key.file_name)
        self._left = _read(self.path)

    def take(self, request: Request) -> Answer | None:
        """The first answer left that was recorded for such a request."""
        wanted = request.as_json()
        for place, (recorded, answer) in enumerate(self._left):
            if recorded == wanted:
                del self._left[place]
                return answer
        return None

    def nearest(self, request: Request) -> str:
        """What differs first between a request and the recording that would have come next."""
        if not self._left:
            return "no call is left in its recording"
        path, found, recorded = _first_difference(request.as_json(), self._left[0][0])
        return f"{path}: found {_short(found)}, recorded {_short(recorded)}"


def _read(path: str) -> list[tuple[JsonObject, Answer]]:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MOST + 1)
    except FileNotFoundError as error:
        raise InputError(path, "", "no recording", "one of this episode") from error
    except OSError as error:
        raise InputError(path, "", str(error), f"a recording ({FORMAT})") from error
    try:
        document = json.loads(data)
        calls = [(call["request"], _answer(call["answer"])) for call in document["calls"]]
        found = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(path, "", str(error), f"a recording ({FORMAT})") from error
    if found != FORMAT or len(data) > FILE_BYTES_MOST:
        raise InputError(path, "format", found, f"{FORMAT}, of at most {FILE_BYTES_MOST} bytes")
    return calls


def _answer(document: JsonObject) -> Answer:
    return Answer(
        status=int(document["status"]),
        content_type=str(document["content_type"]),
        parts=tuple((float(after_s), str(text)) for after_s, text in document["parts"]),
        headers=tuple((str(name), str(value)) for name, value in document["headers"]),
        failure=None if document["failure"] is None else str(document["failure"]),
    )


def _first_difference(found: Any, recorded: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(found, dict) and isinstance(recorded, dict):
        for key in [*found, *(key for key in recorded if key not in found)]:
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
