"""Whether the machine was too busy for times to mean much: with something else, or with the slice
itself.
"""

from typing import Final

from tracecore.perf.findings.columns import Columns
from tracecore.perf.findings.finding import Finding
from tracecore.perf.host.noise import HostNoise

LOAD_PER_CPU: Final = 1.25
STEAL_SHARE: Final = 0.02
BUSY_SHARE: Final = 0.90  # of all CPU time between the first start and the last end


def noisy_host(host: HostNoise) -> list[Finding] | None:
    """Whether the machine was too busy with something else for its times to mean much."""
    signs = {
        "load1_before": (
            _beyond(host.load1_before, LOAD_PER_CPU * (host.cpus_total or 0))
            if _is_still_busy(host)
            else None
        ),
        "steal_share": _beyond(host.steal_share, STEAL_SHARE),
    }
    if host.load1_before is None and host.steal_share is None:
        return None
    seen = {name: sign for name, sign in signs.items() if sign}
    if not seen:
        return []
    words = "; ".join(_NOISE_WORDS[name].format(*sign) for name, sign in seen.items())
    evidence = {
        name: {"observed": observed, "limit": limit} for name, (observed, limit) in seen.items()
    }
    return [
        Finding(
            "noisy_host",
            "warn",
            f"The machine was not quiet: {words}. Times of this slice say little.",
            evidence,
        )
    ]


def _is_still_busy(host: HostNoise) -> bool:
    """Whether a high load is one of now: the average of a minute still holds the slice that ended a
    moment ago.
    """
    return bool(host.cpus_total) and (
        host.running_before is None or host.running_before >= (host.cpus_total or 0)
    )


_NOISE_WORDS: Final = {
    "load1_before": "{:.3g} processes wanted to run in the minute before, {:.3g} is the limit",
    "steal_share": "{:.1%} of CPU time went to other guests, {:.0%} is the limit",
}


def _beyond(observed: float | None, limit: float | None) -> tuple[float, float] | None:
    return (
        (observed, limit)
        if observed is not None and limit is not None and observed > limit
        else None
    )


def oversubscribed(columns: Columns, host: HostNoise) -> list[Finding] | None:
    """Whether more episodes were in flight than CPUs, and had them all to do: each then waits for
    its turn, and its times are those of the queue.
    """
    cpus, slots = host.cpus_usable, columns.slots
    if not cpus or columns.span_s is None:
        return None
    share = columns.cpu_s / (columns.span_s * cpus) if columns.span_s > 0 else 0.0
    if slots <= cpus or share < BUSY_SHARE:
        return []
    text = (
        f"{slots} episodes were in flight on {cpus} CPUs and kept them busy {share:.0%} of the"
        " time: they waited for each other, and their wall clocks hold that."
    )
    evidence = {"slots": slots, "cpus_usable": cpus, "busy_share": share, "limit": BUSY_SHARE}
    return [Finding("oversubscribed", "info", text, evidence)]
