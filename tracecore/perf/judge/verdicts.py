"""The verdict on a slice: the gravest exit code that holds and every reason in a sentence, and the
answer that a summary with a verdict gives.
"""

from collections.abc import Sequence
from typing import Any

from tracecore.exit_codes import (
    EXIT_BREACHED,
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_GOOD,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_UNWRITTEN,
    HEADLINES,
)
from tracecore.perf.judge.aggregates import ThresholdStatus, figure_text
from tracecore.perf.judge.gate import Gate
from tracecore.record import as_dict, record
from tracecore.records import JsonObject, Verdict


@record
class Evidence:
    """What a slice is judged by, beside its summary."""

    statuses: tuple[ThresholdStatus, ...] = ()
    trouble: str | None = None  # why the run could not go on
    aborted: str | None = None  # the threshold that ended it early
    breaches: tuple[str, ...] = ()  # of a comparison, as sentences: each counts as a failed gate
    warnings: tuple[str, ...] = ()  # of a comparison, as sentences


def judge(summary: JsonObject, evidence: Evidence) -> Verdict:
    """The verdict on a slice: the gravest exit code that holds, and every reason in a sentence.

    Args:
        summary: The summary document: ``episodes``, ``episodes_requested``, ``interrupted``,
            ``failure_count`` and ``failure_reasons`` are looked at.
        evidence: Everything else.
    """
    breaches = [*_broken(evidence.statuses, "fail"), *evidence.breaches]
    found = {
        EXIT_UNWRITTEN: _trouble(evidence),
        EXIT_INTERRUPTED: _interruption(summary),
        EXIT_INCOMPLETE: _gaps(summary, evidence),
        EXIT_FAILED: _failures(summary),
        EXIT_BREACHED: breaches,
    }
    codes = tuple(code for code in EXIT_CODES if found.get(code)) or (EXIT_GOOD,)
    reasons = [reason for code in codes for reason in found.get(code, ())] or _praise(
        summary, evidence
    )
    return Verdict(
        exit_code=codes[0],
        exit_codes=codes,
        reasons=tuple(reasons),
        breaches=tuple(breaches),
        warnings=(*_broken(evidence.statuses, "warn"), *evidence.warnings),
        thresholds=tuple(map(threshold_document, evidence.statuses)),
    )


def verdict_document(verdict: Verdict, gate: Gate) -> JsonObject:
    """The ``verdict`` block of the summary."""
    return {
        "exit_code": verdict.exit_code,
        "exit_codes": list(verdict.exit_codes),
        "profile": gate.profile,
        "gate_off": gate.is_off,
        "reasons": list(verdict.reasons),
        "breaches": list(verdict.breaches),
        "warnings": list(verdict.warnings),
        "thresholds": list(verdict.thresholds),
    }


def threshold_document(status: ThresholdStatus) -> JsonObject:
    """One of the ``thresholds`` of the ``verdict`` block."""
    margin = None if status.margin is None else status.margin + 0.0  # which makes 0.0 of -0.0
    return {**as_dict(status), "margin": margin}


def _trouble(evidence: Evidence) -> list[str]:
    return [f"The run could not go on: {evidence.trouble}."] if evidence.trouble else []


def _interruption(summary: JsonObject) -> list[str]:
    finished, asked = summary["episodes"], summary.get("episodes_requested", summary["episodes"])
    return (
        [f"The slice was interrupted after {finished} of {asked} episodes."]
        if summary.get("interrupted")
        else []
    )


def _gaps(summary: JsonObject, evidence: Evidence) -> list[str]:
    finished, asked = summary["episodes"], summary.get("episodes_requested", summary["episodes"])
    if finished >= asked:
        return []
    if evidence.aborted:
        return [
            (
                f"The threshold {evidence.aborted} ended the slice after {finished} of {asked}"
                " episodes."
            )
        ]
    return [f"{asked - finished} of {asked} episodes have no result."]


def _failures(summary: JsonObject) -> list[str]:
    failed, finished = summary["failure_count"], summary["episodes"]
    if not failed:
        return []
    reason, count = next(iter(summary["failure_reasons"].items()))
    return [f"{failed} of {finished} episodes failed; most often ({count}): {reason}."]


def _broken(statuses: Sequence[ThresholdStatus], severity: str) -> list[str]:
    return [
        _sentence(status)
        for status in statuses
        if status.severity == severity and status.status != "passed"
    ]


def _sentence(status: ThresholdStatus) -> str:
    if status.observed is None or status.margin is None:
        return f"{status.text} has no data to judge, which counts as a breach."
    distance = (
        f"which is off by {figure_text(abs(status.margin))}"
        if status.margin
        else "which is the limit itself"
    )
    return f"{status.text} does not hold: observed {figure_text(status.observed)}, {distance}."


def _praise(summary: JsonObject, evidence: Evidence) -> list[str]:
    reasons = [f"All {summary['episodes']} episodes succeeded."]
    held = sum(status.status == "passed" for status in evidence.statuses)
    if held:
        reasons.append(f"{held} of {len(evidence.statuses)} thresholds hold.")
    return reasons


# --- the answer of a summary


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
        verdict = verdict_document(judge(summary, Evidence()), Gate())
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
