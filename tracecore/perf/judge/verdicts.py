"""The answer that a summary gives: whether to ship, and why, in words. Of older summaries, what
their figures allow.
"""

from typing import Any, Final

from tracecore.record import record
from tracecore.records import JsonObject

HEADLINES: Final = {
    0: "Good",
    1: "Episodes failed",
    3: "A gate is breached",
    4: "The run could not be finished",
    5: "Incomplete",
    130: "Interrupted",
}


@record
class Answer:
    """The verdict as it is shown."""

    exit_code: int
    headline: str
    advice: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    thresholds: tuple[JsonObject, ...]  # text, observed, limit, margin, status, severity
    gate: str  # what the slice was held against, in words

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against the slice."""
        return self.exit_code == 0


def answer_of(summary: JsonObject) -> Answer:
    """The verdict block of a summary, or what its counts say where it has none."""
    verdict = summary.get("verdict")
    if not isinstance(verdict, dict) or not isinstance(verdict.get("exit_code"), int):
        verdict = derived_verdict(summary)
    exit_code = verdict["exit_code"]
    thresholds = tuple(
        one for one in verdict.get("thresholds") or () if isinstance(one, dict) and "text" in one
    )
    return Answer(
        exit_code=exit_code,
        headline=HEADLINES.get(exit_code, f"Exit code {exit_code}"),
        advice=_advice(exit_code, gated=bool(thresholds)),
        reasons=_texts(verdict.get("reasons")),
        warnings=_texts(verdict.get("warnings")),
        thresholds=thresholds,
        gate=_gate(verdict, thresholds),
    )


def derived_verdict(summary: JsonObject) -> JsonObject:
    """Exit code and reasons, from the counts alone."""
    finished, failed = summary["episodes"], summary["failure_count"]
    asked = summary.get("episodes_requested", finished)
    found: list[tuple[int, str]] = []
    if summary.get("interrupted"):
        found.append((130, f"The slice was interrupted after {finished} of {asked} episodes."))
    elif finished < asked or not finished:
        found.append((5, f"{asked - finished} of {asked} episodes have no result."))
    if failed:
        found.append((1, f"{failed} of {finished} episodes failed."))
    found = found or [(0, f"All {finished} episodes succeeded.")]
    return {"exit_code": found[0][0], "reasons": [reason for _, reason in found]}


def _advice(exit_code: int, *, gated: bool) -> str:
    if exit_code == 0:
        return (
            "Ship it."
            if gated
            else "No episode failed. No gate was asked for: latency and size are for you to judge."
        )
    if exit_code in {1, 3}:
        return "Do not ship before each reason below is understood."
    return "This slice decides nothing: finish or repeat it."


def _gate(verdict: JsonObject, thresholds: tuple[JsonObject, ...]) -> str:
    if verdict.get("gate_off"):
        return "The gate was switched off."
    if not thresholds:
        return "No gate was asked for."
    profile = verdict.get("profile")
    return (
        f"The built-in profile for {profile} slices, and what was added to it."
        if profile
        else "The thresholds given."
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
