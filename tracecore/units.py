"""Measured values as people read them: with a unit, and never more digits than mean something."""

from typing import Final, Literal

Unit = Literal["count", "seconds", "duration", "bytes", "percent", "rate", "number"]

NONE_TEXT: Final = "\N{EN DASH}"  # where a figure is not known
WRITTEN_OUT: Final = 1e15  # from here on, digits in front of the point mean nothing


def figure_text(unit: Unit, value: object) -> str:
    """``value`` in ``unit``; a dash for what is no number.

    ``duration`` is for seconds that may be hours, ``percent`` takes a share, ``rate`` is per
    second.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NONE_TEXT
    match unit:
        case "count":
            return f"{value:,.0f}"
        case "seconds":
            return seconds_text(value)
        case "duration":
            return duration_text(value) if value >= 60 else seconds_text(value)
        case "bytes":
            return bytes_text(value)
        case "percent":
            return f"{value * 100:.4g} %"
        case "rate":
            return f"{value:.1f}/s"
        case _:
            return number_text(value)


def unit_of(metric: str) -> Unit:
    """The unit of a metric, by its name: ``max_wall_clock_s``, ``run_artifacts.total_bytes``."""
    words = metric.rpartition(".")[2].split("_")
    if words[-1] == "s":
        return "seconds"
    if "bytes" in words:
        return "bytes"
    if words[-1] == "rate":
        return "percent"
    if words[-1] == "eps":
        return "rate"
    return "number"


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
