"""Percentiles of numbers that are still coming, in little memory."""

import math
from typing import Final

GROWTH: Final = 1.02  # of a bucket's end over its start
LEAST: Final = 1e-6  # everything up to here shares the first bucket
BUCKETS: Final = 1400  # up to about 1e6


class Sketch:
    """Counts positive numbers in buckets that grow by 2 percent: every percentile is within 1
    percent of the true one.

    Takes 11 kB however many numbers come. For what is shown while a slice runs; the summary has the
    exact values.
    """

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, value: float) -> None:
        """Take one more number."""
        place = int(math.log(value / LEAST) / _LOG_GROWTH) if value > LEAST else 0
        self._counts[min(place, BUCKETS - 1)] += 1
        self._total += 1

    def percentiles(self, *percents: float) -> list[float]:
        """The nearest-rank percentiles, to 1 percent; ``percents`` ascend.

        Raises:
            ValueError: There are no numbers yet.
        """
        if not self._total:
            raise ValueError("no values to take a percentile of")
        found: list[float] = []
        passed = 0
        for place, count in enumerate(self._counts):
            passed += count
            while (
                count
                and len(found) < len(percents)
                and passed * 100 >= percents[len(found)] * self._total
            ):
                found.append(LEAST * GROWTH ** (place + 0.5))
        return found


_LOG_GROWTH: Final = math.log(GROWTH)
