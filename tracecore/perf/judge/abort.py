"""Whether a threshold ends a slice early."""

from collections.abc import Sequence
from typing import Final

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.judge.aggregates import ThresholdStatus, evaluate
from tracecore.perf.judge.thresholds import Threshold
from tracecore.records import EpisodeResult

CHECK_EVERY: Final = 100  # an aborting threshold is looked at when a hundredth more has finished


class AbortWatch:
    """Looks, as episodes finish, whether a threshold with ``abort = true`` has failed.

    Costs nothing where there is none.
    """

    def __init__(self, thresholds: Sequence[Threshold], episodes: int) -> None:
        self._thresholds = [threshold for threshold in thresholds if threshold.abort]
        self._episodes = episodes
        self._rows, self._next_look = Rows(), 0

    @property
    def is_watching(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._thresholds)

    def add(self, row: EpisodeResult) -> ThresholdStatus | None:
        """Count one finished episode; gives the threshold that ends the slice now. Missing data
        ends nothing yet.
        """
        if not self._thresholds:
            return None
        self._rows.add(row)
        finished = len(self._rows)
        if finished < self._next_look and finished < self._episodes:
            return None
        # A look costs more the longer the slice is: taken as often, it would cost more than the
        # episodes do.
        self._next_look = finished + max(1, finished // CHECK_EVERY)
        document = summary_document(self._rows, SliceFacts(episodes_requested=self._episodes))
        statuses = (
            evaluate(threshold, document, self._rows)
            for threshold in self._thresholds
            if finished >= threshold.delay_episodes
        )
        return next((status for status in statuses if status.status == "failed"), None)
