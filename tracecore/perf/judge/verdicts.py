"""The verdict on a slice: the gravest exit code that holds and every reason in a sentence, and the
answer that a summary with a verdict gives.
"""

import re
from collections.abc import Sequence
from typing import Final

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
from tracecore.perf.judge.aggregates import ThresholdStatus
from tracecore.perf.judge.gate import Gate
from tracecore.record import as_dict, record
from tracecore.records import JsonObject, Verdict
from tracecore.units import Unit, figure_text, unit_of

NO_ANSWER: Final = "NO ANSWER"


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
    found = {**_reasons(summary, evidence), EXIT_BREACHED: breaches}
    codes = tuple(code for code in EXIT_CODES if found.get(code)) or (EXIT_GOOD,)
    reasons = [reason for code in codes for reason in found.get(code, ())]
    return Verdict(
        exit_code=codes[0],
        exit_codes=codes,
        reasons=tuple(reasons or _good(summary, evidence)),
        breaches=tuple(breaches),
        warnings=(*_broken(evidence.statuses, "warn"), *evidence.warnings),
        thresholds=tuple(map(as_dict, evidence.statuses)),
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


def _reasons(summary: JsonObject, evidence: Evidence) -> dict[int, list[str]]:
    """What speaks against the slice by itself, by exit code."""
    finished, failed = summary["episodes"], summary["failure_count"]
    asked = summary.get("episodes_requested", finished)
    found: dict[int, list[str]] = {}
    if evidence.trouble:
        found[EXIT_UNWRITTEN] = [f"The run could not go on: {evidence.trouble}."]
    if summary.get("interrupted"):
        interruption = f"The slice was interrupted after {finished} of {asked} episodes."
        found[EXIT_INTERRUPTED] = [interruption]
    if finished < asked:
        gap = f"{asked - finished} of {asked} episodes have no result."
        if evidence.aborted:
            ended = f"ended the slice after {finished} of {asked} episodes."
            gap = f"The threshold {evidence.aborted} {ended}"
        found[EXIT_INCOMPLETE] = [gap]
    if failed:
        reason, count = next(iter(summary["failure_reasons"].items()))
        most = f"most often ({count}): {reason}."
        found[EXIT_FAILED] = [f"{failed} of {finished} episodes failed; {most}"]
    return found


def _broken(statuses: Sequence[ThresholdStatus], severity: str) -> list[str]:
    return [
        _sentence(status)
        for status in statuses
        if status.severity == severity and status.status != "passed"
    ]


def _sentence(status: ThresholdStatus) -> str:
    if status.observed is None or status.margin is None:
        return f"{status.text} has no data to judge, which counts as a breach."
    unit = unit_of_threshold(status.text)
    observed, limit, off = (
        figure_text(unit, value) for value in (status.observed, status.limit, abs(status.margin))
    )
    distance = f"off by {off}" if status.margin else "which is the limit itself"
    against = "of" if "<" in status.text else "against"
    return f"{status.text} does not hold: {observed} {against} {limit}, {distance}."


def unit_of_threshold(text: str) -> Unit:
    """The unit of what a threshold bounds: ``wall_clock_s{agent=a}:p(95) <= 1`` bounds seconds."""
    found = re.match(r"\s*([\w.]+)(?:\{.*?\})?(?::(\w+))?", text)
    if not found or found[2] == "count":
        return "number"
    return "percent" if found[2] == "rate" else unit_of(found[1])


def _good(summary: JsonObject, evidence: Evidence) -> list[str]:
    reasons = [f"All {summary['episodes']} episodes succeeded."]
    held = sum(status.status == "passed" for status in evidence.statuses)
    if held:
        reasons.append(f"{held} of {len(evidence.statuses)} thresholds hold.")
    return [*reasons, times_sentence(summary)]


def times_sentence(summary: JsonObject) -> str:
    """The second of the two answers: what is known of times and work, which a good slice alone
    does not give.
    """
    comparison = summary.get("comparison")
    if not comparison:
        return "Times were not judged: no baseline was given."
    return f"Compared with the baseline: {comparison.get('answer') or comparison.get('verdict')}."


# --- the answer of a summary


@record
class Answer:
    """The verdict as it is shown."""

    exit_code: int
    word: str  # PASS, FAIL or NO ANSWER
    headline: str
    advice: str
    correctness: str  # the first answer: episodes, thresholds, determinism
    times: str  # the second: work and times, against a baseline
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
    verdict = summary.get("verdict") or {}
    if "exit_code" not in verdict:
        verdict = verdict_document(judge(summary, Evidence()), Gate())
    exit_code, word = verdict["exit_code"], word_of(summary, verdict["exit_code"])
    thresholds = tuple(one for one in verdict.get("thresholds", ()) if "text" in one)
    return Answer(
        exit_code=exit_code,
        word=word,
        headline=HEADLINES.get(exit_code, f"Exit code {exit_code}") if word != NO_ANSWER else word,
        advice=_advice(exit_code, word, summary, is_gated=bool(thresholds)),
        correctness=_correctness(summary, thresholds),
        times=times_sentence(summary),
        reasons=tuple(verdict.get("reasons", ())),
        warnings=tuple(verdict.get("warnings", ())),
        thresholds=thresholds,
        gate=_gate(verdict, thresholds),
    )


def word_of(summary: JsonObject, exit_code: int) -> str:
    """PASS, FAIL or NO ANSWER: the last where a comparison was asked for and came to none."""
    if exit_code:
        return "FAIL"
    asked = (summary.get("comparison") or {}).get("headline")
    return NO_ANSWER if asked == NO_ANSWER else "PASS"


def _advice(exit_code: int, word: str, summary: JsonObject, *, is_gated: bool) -> str:
    if exit_code in {EXIT_FAILED, EXIT_BREACHED}:
        return "Do not ship before each reason below is understood."
    if exit_code:
        return "This slice decides nothing: finish or repeat it."
    if word == NO_ANSWER:
        return "Nothing speaks against it, and the comparison is not answered yet: see its legs."
    if not summary.get("comparison"):
        gate = "" if is_gated else " No gate was asked for either: size is for you to judge."
        return f"Nothing speaks against it; times were not judged: no baseline was given.{gate}"
    return "Ship it." if is_gated else "Nothing got worse. No gate was asked for."


def _correctness(summary: JsonObject, thresholds: Sequence[JsonObject]) -> str:
    finished, failed = summary["episodes"], summary["failure_count"]
    parts = [f"{finished - failed:,} of {finished:,} episodes succeeded"]
    if thresholds:
        held = sum(one.get("status") == "passed" for one in thresholds)
        parts.append(f"{held} of {len(thresholds)} thresholds hold")
    determinism = summary.get("determinism") or {}
    if determinism.get("checked"):
        differing, checked = determinism.get("differing") or 0, determinism["checked"]
        parts.append(f"{checked - differing} of {checked} second runs agree")
    return "; ".join(parts) + "."


def _gate(verdict: JsonObject, thresholds: tuple[JsonObject, ...]) -> str:
    if verdict.get("gate_off"):
        return "The gate was switched off."
    if not thresholds:
        return "No gate was asked for."
    profile = verdict.get("profile")
    if not profile:
        return "The thresholds given."
    about = f"The built-in profile for {profile} slices, and what was added to it."
    if profile == "large":
        about += (
            " Its success rate is no licence to fail: it is the lowest that 24 successes of 24"
            " leave open, and any failed episode is exit 1 by itself."
        )
    return about
