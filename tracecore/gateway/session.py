"""The calls of one episode, as the gateway sees them: its limits, what is new, and its recording.

A recording is one canonical JSON file per agent, task and seed; no key, token or other header of a
request is in it. Its answers are given by request, and in order.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from tracecore import canon
from tracecore.clock import monotonic_s
from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.gateway.calls import Answer, Call, Request, trace_entry
from tracecore.record import as_dict, record
from tracecore.records import JsonObject, ModelLimits
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
RECORD: Final = "record"
REPLAY: Final = "replay"


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


@record
class Calling:
    """How calls are answered."""

    mode: str  # live, record or replay
    recordings: str  # folder
    is_delayed: bool  # whether replay keeps the recorded delays


class Session:
    """One episode's calls.

    Attributes:
        failure: Why the episode cannot go on: a request that was not recorded.

    Raises:
        InputError: A recording was asked for, and there is none.
    """

    def __init__(self, key: EpisodeKey, limits: ModelLimits, calling: Calling) -> None:
        self._key, self._limits, self._calling = key, limits, calling
        is_replay = calling.mode == REPLAY
        self._recording = Recording(calling.recordings, key) if is_replay else None
        self._calls: list[Call] = []
        self._taken = 0
        self._bytes = 0  # of calls that have ended
        self._open = 0
        self._wait_s = self._since_s = 0.0
        self.failure: str | None = None

    def refusal(self) -> str | None:
        """Why the next call is not made, if a limit of the episode is used up."""
        limits = self._limits
        if limits.calls is not None and len(self._calls) >= limits.calls:
            return f"all {limits.calls} model calls of the episode are used"
        if limits.bytes is not None and self._bytes >= limits.bytes:
            return f"{self._bytes} of {limits.bytes} bytes of model calls of the episode are used"
        if limits.wait_s is not None and self._waited_s() >= limits.wait_s:
            return f"the episode has waited {limits.wait_s:g} s for models, as long as it may"
        return None

    def refuse(self, request: Request, status: int, words: str) -> None:
        """Keep a call that is not passed on."""
        number, answer = len(self._calls), Answer(status, failure=words)
        self._calls.append(Call(request, answer, number, is_refused=True))

    @contextlib.contextmanager
    def call(self, request: Request) -> Iterator[Answer | None]:
        """A call, for as long as the agent waits for it: its answer, which a replayed call has
        already; ``None`` where the request was not recorded, which ends the episode.
        """
        number, answer = len(self._calls), Answer()
        if self._recording is not None:
            found = self._recording.take(request)
            if found is None:
                words = f"model call {number + 1}: {self._recording.nearest(request)}"
                self.failure = self.failure or words
                self.refuse(request, 409, self.failure)
                yield None
                return
            number, answer = found
        call = Call(request, answer, number)
        # From its begin on: an agent may go on with the last event of a stream.
        self._calls.append(call)
        if not self._open:
            self._since_s = monotonic_s()
        self._open += 1
        try:
            yield answer
        finally:
            self._wait_s = self._waited_s()
            self._since_s = monotonic_s()
            self._open -= 1
            self._bytes += call.bytes

    def take(self) -> JsonObject:
        """What is new since the last time, and what all calls come to.

        The entries stand in the order of the recording, or in that in which the calls began: which
        of two at a time is answered first is a matter of luck.
        """
        new, self._taken = self._calls[self._taken :], len(self._calls)
        return {
            "entries": [trace_entry(call) for call in sorted(new, key=lambda call: call.number)],
            "calls": len(self._calls),
            "bytes": self._bytes,
            "wait_s": self._waited_s(),
            "failure": self.failure,
        }

    def close(self) -> None:
        """The episode has ended; its recording is written, where that was asked for, in the place
        of an older one.

        Raises:
            OutputError: It could not be.
        """
        if self._calling.mode != RECORD:
            return
        calls = [
            {
                "request": call.request.as_json(),
                "answer": {**as_dict(call.answer), "failure": call.answer.problem},
            }
            for call in self._calls
            if not call.is_refused
        ]
        document = {"format": FORMAT, **as_dict(self._key), "calls": calls}
        path = os.path.join(self._calling.recordings, self._key.file_name)
        os.makedirs(self._calling.recordings, exist_ok=True)
        write_atomic(path, canon.encode(document) + b"\n")

    def _waited_s(self) -> float:
        """In which at least one call was open."""
        return self._wait_s + (monotonic_s() - self._since_s if self._open else 0.0)
