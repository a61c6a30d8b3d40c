"""Who looks on while episodes run: the progress, and the samples."""

from collections.abc import Sequence
from typing import Final

from tracecore.perf.host.samples import Samples
from tracecore.perf.show.progress import REDRAW_S, Progress
from tracecore.records import EpisodeResult, Running


class Watch:
    """Tells the progress and the samples, if there are any, what happens."""

    def __init__(self, progress: Progress, samples: Samples | None) -> None:
        self._progress, self._samples = progress, samples

    def add(self, row: EpisodeResult) -> None:
        """An episode has finished."""
        self._progress.add(row)
        if self._samples:
            self._samples.add(row)

    def look(self, running: Sequence[Running]) -> None:
        """Time has gone by; ``running`` is what runs now."""
        self._progress.look(running)
        if self._samples:
            self._samples.look(len(running))

    def close(self) -> None:
        """No episode runs any more. Closing twice is fine."""
        self._progress.close()
        if self._samples:
            self._samples.finish()


TICK_S: Final = REDRAW_S  # between two looks; each onlooker decides for itself what is due
