"""Whether the verdict of archived perf files follows from what they say: every threshold is held
against the series again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tracecore.errors import ThresholdError, describe
from tracecore.perf.judge.aggregates import LARGEST, ThresholdStatus
from tracecore.perf.judge.gate import (
    EXIT_BREACHED,
    EXIT_CODES,
    EXIT_UNWRITTEN,
    GateReadings,
    series_fields,
    summary_paths,
    threshold_document,
)
from tracecore.perf.judge.thresholds import Threshold, parse_threshold
from tracecore.perf.judge.verdicts import derived_verdict
from tracecore.perf.slice.second_runs import DIFFERENCES_SHOWN
from tracecore.record import replace
from tracecore.records import EpisodeResult, JsonObject

COMPARED: Final = ("observed", "limit", "margin", "status")


class VerdictCheck:
    """Takes the rows of the series, and then says what of the summary's verdict does not follow
    from them.

    Attributes:
        unknown: Thresholds that this version does not know, and cannot hold against anything.
    """

    def __init__(self, summary: JsonObject) -> None:
        self._summary = summary
        verdict = summary.get("verdict")
        self._verdict: JsonObject = verdict if isinstance(verdict, dict) else {}
        self._thresholds, self.unknown = _parse(_objects(self._verdict.get("thresholds")))
        self._readings = GateReadings([threshold for threshold, _ in self._thresholds])

    def add(self, row: EpisodeResult) -> None:
        """Take one row."""
        self._readings.add(row)

    def differences(self) -> list[tuple[str, Any, Any]]:
        """Where the summary says one thing and should say another: the place, and both."""
        found = [*_miscounted_findings(self._summary), *_miscounted_determinism(self._summary)]
        for threshold, said in self._thresholds:
            status = self._readings.status(threshold, self._summary)
            again = threshold_document(replace(status, severity=said.get("severity")))
            name = f"summary.verdict.thresholds: {threshold.text}: "
            found += [
                (name + field, _as_float(said.get(field)), _as_float(again[field]))
                for field in COMPARED
            ]
        return found

    def complaints(self) -> list[str]:
        """What is wrong with the exit codes, as sentences: they may know more than the counts do,
        and must not know less.
        """
        if not self._verdict:
            return []
        code, codes = self._verdict.get("exit_code"), self._verdict.get("exit_codes")
        codes = codes if isinstance(codes, list) and codes else [code]
        told = f"summary.verdict: exit codes {describe(codes)}"
        least = derived_verdict(self._summary)["exit_code"]
        complaints = []
        if least and least not in codes and EXIT_UNWRITTEN not in codes:
            complaints.append(f"{told}, the counts call for {least}")
        is_breached = self._is_breached()
        if is_breached and EXIT_BREACHED not in codes:
            complaints.append(f"{told}, the gates call for {EXIT_BREACHED}")
        if not is_breached and EXIT_BREACHED in codes and not self.unknown:
            complaints.append(f"{told}, but no gate is broken")
        gravest = next((one for one in EXIT_CODES if one in codes), None)
        if code != gravest:
            complaints.append(f"{told}, of which {describe(code)} is not the gravest")
        return complaints

    def _is_breached(self) -> bool:
        compared = self._summary.get("comparison")
        of_comparison = bool(compared.get("breaches")) if isinstance(compared, dict) else False
        return (of_comparison and not self._verdict.get("gate_off")) or any(
            _is_breach(self._readings.status(threshold, self._summary), said)
            for threshold, said in self._thresholds
        )


def _parse(said: Sequence[JsonObject]) -> tuple[list[tuple[Threshold, JsonObject]], list[str]]:
    paths, fields = summary_paths(), series_fields()
    known: list[tuple[Threshold, JsonObject]] = []
    unknown: list[str] = []
    for one in said:
        text = str(one.get("text"))
        try:
            known.append(
                (parse_threshold(text, "summary.verdict", paths=paths, fields=fields), one)
            )
        except ThresholdError:
            unknown.append(text)
    return known, unknown


def _as_float(value: Any) -> Any:
    """Numbers as numbers, whether or not they were written with a point."""
    return float(value) if isinstance(value, int | float) and abs(value) <= LARGEST else value


def _is_breach(status: ThresholdStatus, said: JsonObject) -> bool:
    return status.status != "passed" and said.get("severity") != "warn"


def _miscounted_findings(summary: JsonObject) -> list[tuple[str, Any, Any]]:
    counts = summary.get("finding_counts")
    if not isinstance(counts, dict):
        return []
    told = Counter(str(one.get("id")) for one in _objects(summary.get("findings")))
    return [
        (f"summary.finding_counts.{kind}", counts.get(kind), told[kind])
        for kind in {**counts, **told}
        if told[kind] or counts.get(kind) is not None
    ]


def _miscounted_determinism(summary: JsonObject) -> list[tuple[str, Any, Any]]:
    determinism = summary.get("determinism")
    if not isinstance(determinism, dict) or not isinstance(determinism.get("differing"), int):
        return []
    told, shown = determinism["differing"], len(_objects(determinism.get("differences")))
    return (
        []
        if shown == min(told, DIFFERENCES_SHOWN)
        else [("summary.determinism.differing", told, shown)]
    )


def _objects(value: Any) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
