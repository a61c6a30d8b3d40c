"""The calls of one episode, as the gateway sees them: its limits, its recording, what is new."""

from typing import Final

from tracecore.gateway.calls import Answer, Call, Request, trace_entry
from tracecore.gateway.recordings import EpisodeKey, Recording, write_recording
from tracecore.record import record
from tracecore.records import JsonObject, ModelLimits

LIVE: Final = "live"
RECORD: Final = "record"
REPLAY: Final = "replay"


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
        self._bytes = 0
        self._wait_s = 0.0
        self.failure: str | None = None

    def refusal(self) -> str | None:
        """Why the next call is not made, if a limit of the episode is used up."""
        limits, made = self._limits, len(self._calls)
        if limits.calls is not None and made >= limits.calls:
            return f"all {limits.calls} model calls of the episode are used"
        if limits.bytes is not None and self._bytes >= limits.bytes:
            return f"{self._bytes} of {limits.bytes} bytes of model calls of the episode are used"
        if limits.wait_s is not None and self._wait_s >= limits.wait_s:
            return f"the episode has waited {limits.wait_s:g} s for models, as long as it may"
        return None

    def replayed(self, request: Request) -> Answer | None:
        """The recorded answer; none where the request was not recorded, which ends the episode."""
        assert self._recording is not None
        answer = self._recording.take(request)
        if answer is None and self.failure is None:
            number = len(self._calls) + 1
            self.failure = f"model call {number}: {self._recording.nearest(request)}"
        return answer

    def add(self, call: Call) -> None:
        """A call has ended."""
        self._calls.append(call)
        self._bytes += call.bytes
        self._wait_s += call.wait_s

    def take(self) -> JsonObject:
        """What is new since the last time, and what all calls come to."""
        new, self._taken = self._calls[self._taken :], len(self._calls)
        return {
            "entries": [trace_entry(call) for call in new],
            "calls": len(self._calls),
            "bytes": self._bytes,
            "wait_s": self._wait_s,
            "failure": self.failure,
        }

    def close(self) -> None:
        """The episode has ended; its recording is written, where that was asked for.

        Raises:
            OutputError: It could not be.
        """
        if self._calling.mode == RECORD:
            write_recording(self._calling.recordings, self._key, self._calls)
