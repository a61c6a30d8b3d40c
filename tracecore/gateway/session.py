"""The calls of one episode, as the gateway sees them: its limits, and what is new."""

import contextlib
from collections.abc import Iterator
from typing import Final

from tracecore.clock import monotonic_s
from tracecore.gateway.calls import Answer, Call, Request, trace_entry
from tracecore.gateway.recording import EpisodeKey, Recording, write_recording
from tracecore.record import record
from tracecore.records import JsonObject, ModelLimits

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
        if self._calling.mode == RECORD:
            write_recording(self._calling.recordings, self._key, self._calls)

    def _waited_s(self) -> float:
        """In which at least one call was open."""
        return self._wait_s + (monotonic_s() - self._since_s if self._open else 0.0)
