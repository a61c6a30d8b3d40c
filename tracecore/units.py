"""Measured values as people read them: with a unit, and never more digits than mean something."""

from collections.abc import Callable
from typing import Any, Final, Literal

Unit = Literal["count", "seconds", "duration", "bytes", "percent", "rate", "number"]

NONE_TEXT: Final = "\N{EN DASH}"  # where a figure is not known
WRITTEN_OUT: Final = 1e15  # from here on, digits in front of the point mean nothing


def figure_text(unit: Unit, value: object) -> str:
    """``value`` in ``unit``; a dash for what is no number.

    ``duration`` is for seconds that may be hours, ``percent`` takes a share, ``rate`` is per
    second.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _WRITERS[unit](value) if is_number else NONE_TEXT


def unit_of(metric: str) -> Unit:
    """The unit of a metric, by its name: ``max_wall_clock_s``, ``run_artifacts.total_bytes``."""
    words = metric.rpartition(".")[2].split("_")
    if "bytes" in words and words[-1] != "s":
        return "bytes"
    return _UNIT_OF_LAST_WORD.get(words[-1], "number")


def number_text(value: float) -> str:
    """A number without a unit: whole ones to the last digit, in thousands; others to six digits."""
    if abs(value) >= WRITTEN_OUT:
        return f"{value:.6g}"
    whole = value == round(value) or abs(value) >= 1e6
    return f"{value:,.0f}" if whole else f"{value:,.6g}"


def duration_text(seconds: float) -> str:
    """``42s``, ``3m05s`` or ``2h07m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def seconds_text(seconds: float) -> str:
    """A measured time with three digits that mean something: ``12.3 ms`` or ``1.23 s``."""
    return f"{seconds * 1000:.3g} ms" if abs(seconds) < 0.9995 else f"{seconds:.4g} s"


def bytes_text(count: float) -> str:
    """``831 B``, ``10.2 kB``, ``1.5 MB``: powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def counted(count: int, noun: str) -> str:
    """``1 worker``, ``4 workers``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


_WRITERS: Final[dict[Unit, Callable[[Any], str]]] = {
    "count": "{:,.0f}".format,
    "seconds": seconds_text,
    "duration": lambda value: duration_text(value) if value >= 60 else seconds_text(value),
    "bytes": bytes_text,
    "percent": lambda value: f"{value * 100:.4g} %",
    "rate": "{:.1f}/s".format,
    "number": number_text,
}
_UNIT_OF_LAST_WORD: Final[dict[str, Unit]] = {"s": "seconds", "rate": "percent", "eps": "rate"}
