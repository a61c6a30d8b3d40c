"""What a finding is.

Every rule that makes one asks for two things at once: that chance does not explain what is seen,
and that it is large enough to matter. Tests alone cry wolf: on identical slices a plain test for
drift at p < .05 fired in five cases of six, since neighbouring episodes share the state of the
machine. A rule gives None where there is too little to look at.
"""

from collections.abc import Sequence
from typing import Final

from tracecore.perf.findings.columns import Columns
from tracecore.record import record
from tracecore.records import JsonObject

EPISODES_SHOWN: Final = 10
CHANCE: Final = 0.01  # of any false alarm among the tests of one rule, by Holm
LEAST_CLUSTERED: Final = 3  # episodes


@record
class Finding:
    """Something that a reader of the slice should know."""

    id: str  # which rule
    severity: str  # "fail", "warn" or "info"
    text: str  # in a sentence
    evidence: JsonObject  # the figures behind it
    episodes: tuple[int, ...] = ()  # 1-based; the worst first, ten at most
    repro_place: int | None = None  # of the episode that shows it best; None: the whole slice does


def shown(columns: Columns, places: Sequence[int]) -> tuple[int, ...]:
    """The numbers of the first episodes at these places."""
    return tuple(columns.episode(place) for place in places[:EPISODES_SHOWN])
