"""Thresholds while a slice runs: what they ask of its rows, and whether one ends it early."""

from collections.abc import Sequence
from typing import Final

from tracecore.perf.documents.rows import series_row
from tracecore.perf.documents.summary import Summary
from tracecore.perf.judge.aggregates import SeriesAggregates, ThresholdStatus, evaluate
from tracecore.perf.judge.gate import summary_of
from tracecore.perf.judge.thresholds import Threshold
from tracecore.records import EpisodeResult, JsonObject

CHECK_EVERY: Final = 100  # an aborting threshold is looked at when a hundredth more has finished


class AbortWatch:
    """Looks, as episodes finish, whether a threshold with ``abort = true`` has failed.

    Costs nothing where there is none.
    """

    def __init__(self, thresholds: Sequence[Threshold], episodes: int) -> None:
        self._thresholds = [threshold for threshold in thresholds if threshold.abort]
        self._episodes = episodes
        self._summary, self._readings = Summary(), GateReadings(self._thresholds)
        self._finished = self._next_look = 0

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
        self._summary.add(row)
        self._readings.add(row)
        self._finished += 1
        if self._finished < self._next_look and self._finished < self._episodes:
            return None
        # A percentile costs more the longer the slice is: looked for as often, it would cost more
        # than the episodes do.
        self._next_look = self._finished + max(1, self._finished // CHECK_EVERY)
        return self._look()

    def _look(self) -> ThresholdStatus | None:
        document = summary_of(self._summary, self._episodes)
        for threshold in self._thresholds:
            if self._finished >= max(1, threshold.delay_episodes):
                status = self._readings.status(threshold, document)
                if status.status == "failed":
                    return status
        return None


class GateReadings:
    """What thresholds ask of the series, gathered row by row."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._aggregates = SeriesAggregates(thresholds)
        self._is_needed = any(threshold.metric is not None for threshold in thresholds)

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode."""
        if self._is_needed:
            cpu_s = row.cpu_user_s + row.cpu_sys_s
            self._aggregates.add({**series_row(row), "cpu_s": cpu_s or None})

    def status(self, threshold: Threshold, summary_document: JsonObject) -> ThresholdStatus:
        """How one of the thresholds comes out."""
        return evaluate(threshold, summary_document, self._aggregates)
