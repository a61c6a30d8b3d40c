"""One episode as lines that a person reads: what it did, step by step, or how it differs from the
one on record.

All text of agents and tasks goes through ``one_line``: it cannot move the cursor, and stays in its
line.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from tracecore.errors import MISSING, one_line
from tracecore.perf.show.page import (
    Badge,
    Bullets,
    Code,
    Section,
    Sentence,
    Soft,
    Status,
    sections_of,
)
from tracecore.perf.show.terminal import LOG_WIDTH, write_text
from tracecore.records import EpisodeResult, JsonObject
from tracecore.runtime.replay import Difference
from tracecore.units import figure_text, seconds_text

ACTION_WIDTH: Final = 44
RESULT_WIDTH: Final = 60
VALUE_WIDTH: Final = 100
MODEL_TEXT_WIDTH: Final = 160
CONTEXT: Final = 30  # characters that two long texts have in common and are shown before they part


def episode_lines(artifact: JsonObject, row: EpisodeResult) -> list[str]:
    """What happened in an episode, and how it ended.

    Args:
        artifact: Its run artifact.
        row: Its row, which under strict spec may be a failure although the episode was a success.
    """
    steps = f"{row.steps_used} of {row.steps_budget} steps"
    calls = f"{row.tool_calls_used} of {row.tool_calls_budget} tool calls"
    return [
        _headline(artifact, row),
        *_line("because", _reason(artifact, row)),
        *_line("agent", row.agent),
        *_line("task", f"{row.task_ref}, seed {row.seed}"),
        *_line("used", f"{steps}, {calls}, {seconds_text(row.wall_clock_s)}"),
        *_model_calls(row),
        *_step_lines(artifact["action_trace"]),
        *write_text(_what_it_left(artifact)).splitlines(),
        *_line("hash", row.artifact_hash),
    ]


def _headline(artifact: JsonObject, row: EpisodeResult) -> str:
    if row.success:
        return "success"
    if artifact["success"]:
        return "failed: its artifact is invalid"
    reason, kind = artifact["termination_reason"], artifact["failure_type"]
    return one_line(f"failed: {reason}" if kind == reason else f"failed: {reason} ({kind})")


def _reason(artifact: JsonObject, row: EpisodeResult) -> str:
    if artifact["success"]:
        return row.error or _why(artifact)
    return artifact["failure_reason"] or "no reason given"


def _model_calls(row: EpisodeResult) -> list[str]:
    if not row.llm_trace_entries:
        return []
    volume = f"{row.prompt_bytes} bytes out, {row.completion_bytes} in, {row.tokens_used} tokens"
    waited = f", {seconds_text(row.model_wait_s)} waited" if row.model_calls else ""
    return _line("model calls", f"{row.llm_trace_entries}, {volume}{waited}")


def _step_lines(trace: list[JsonObject]) -> Iterator[str]:
    yield (
        f"  step  latency   {'action':<{ACTION_WIDTH}}  result" if trace else "  no step was taken"
    )
    for entry in trace:
        latency = seconds_text(entry["telemetry"]["action_metrics"]["latency_ms"] / 1000)
        action = _cut(_action_text(entry["action"]), ACTION_WIDTH)
        result = _cut(_result_text(entry), RESULT_WIDTH)
        yield f"  {entry['step']:>4}  {latency:<8}  {action:<{ACTION_WIDTH}}  {result}"


def _action_text(action: JsonObject) -> str:
    name, args = action.get("type"), action.get("args")
    if not isinstance(name, str):
        return (
            "no action:"
            f" {action['repr'] if isinstance(action.get('repr'), str) else json_text(action)}"
        )
    if isinstance(args, dict):
        return " ".join([name, *(f"{key}={json_text(value)}" for key, value in args.items())])
    return name if args is None else f"{name} {json_text(args)}"


def _result_text(entry: JsonObject) -> str:
    error, result = entry["telemetry"]["action_metrics"]["error"], entry["result"]
    if error is not None:
        return f"error  {error}"
    if not isinstance(result, dict) or not isinstance(result.get("ok"), bool):
        return f"ok     {json_text(result)}"
    rest = {key: value for key, value in result.items() if key != "ok"}
    if result["ok"]:
        return f"ok     {json_text(rest)}" if rest else "ok"
    words = rest.get("error")
    return f"error  {words if isinstance(words, str) and len(rest) == 1 else json_text(rest)}"


# --- the story


def story(artifact: JsonObject, width: int = LOG_WIDTH, *, has_colour: bool = False) -> str:
    """An episode from its run artifact alone: the task, every step with what it gave, and the end;
    no line ends the text.
    """
    trace = artifact["action_trace"]
    first = trace[0]["observation"] if trace else {}
    task = (first.get("task") or {}).get("description")
    seconds = figure_text("duration", artifact.get("wall_clock_elapsed_s"))
    status: Status = "good" if artifact["success"] else "bad"
    ended = (Badge(status, artifact["termination_reason"]), f": {_why(artifact)}")
    used = ", ".join(
        f"{artifact[f'{name}_used']} of {artifact['budgets'][name]} {name.replace('_', ' ')}"
        for name in ("steps", "tool_calls")
    )
    sections = sections_of(
        Section("episode", "", (Sentence(f"{artifact['task_ref']}, seed {artifact['seed']}"),)),
        Section("task", "", (Sentence(str(task)),)) if task else None,
        Section("agent", "", (Sentence(artifact["agent_ref"]),)),
        Section("debugged", "", (Sentence("in one process: no evidence"),))
        if artifact.get("debug")
        else None,
        Section("began", "", (Sentence(f"{artifact['started_at']}, and took {seconds}"),)),
        *(_step_section(entry) for entry in trace),
        Section("ended", "", (Sentence(ended), Sentence(f"after {used}"))),
        *_what_it_left(artifact),
        Section("hash", "", (Sentence(Code(artifact["artifact_hash"])),)),
    )
    return write_text(sections, width, has_colour=has_colour)


def _why(artifact: JsonObject) -> str:
    default = "the validator said ok" if artifact["success"] else "no reason given"
    return str(artifact["failure_reason"] or artifact["validator"].get("message") or default)


def _step_section(entry: JsonObject) -> Section:
    latency = seconds_text(entry["telemetry"]["action_metrics"]["latency_ms"] / 1000)
    calls = [Sentence(Soft(_model_text(one))) for one in entry.get("llm_trace") or ()]
    did = Sentence(_action_text(entry["action"])), Sentence(f"{_result_text(entry)}  ({latency})")
    return Section(f"step {entry['step']}", "", (*calls, *did))


def _model_text(call: JsonObject) -> str:
    request, response = call.get("request") or {}, call.get("response") or {}
    answer = response.get("completion") if response.get("success") else response.get("error")
    prompt, completion = (
        _cut(json_text(text), MODEL_TEXT_WIDTH) for text in (request.get("prompt"), answer)
    )
    return f"{request.get('provider')}/{request.get('model')}: {prompt} gave {completion}"


def _what_it_left(artifact: JsonObject) -> tuple[Section, ...]:
    """The traceback, and what agent and task printed."""
    output = artifact.get("output") or {}
    texts = {"traceback": artifact.get("error_traceback")}
    texts |= {f"{name} said": output.get(name) for name in ("agent", "task")}
    return tuple(
        Section(name, "", (Bullets(tuple(map(Code, text.splitlines()))),))
        for name, text in texts.items()
        if text
    )


# --- two runs


def comparison_lines(
    path: str, old: JsonObject, new: JsonObject, difference: Difference | None
) -> list[str]:
    """Whether two runs of one episode agree, and if not, where they part and what may be behind it.

    Args:
        path: The file of the recorded one.
        old: Its artifact.
        new: The artifact of the other.
        difference: The first of their differences.
    """
    path, notes = one_line(path), _notes(old, new, difference)
    if difference is None:
        return [f"{path}: agrees", *_line("hash", old["artifact_hash"]), *notes]
    if difference.is_runtime_alone:
        what = f"{path}: same behaviour under another runtime"
        return [what, *_line("trace hash", old["trace_hash"]), *notes]
    same = " (trace_hash agrees)" if old["trace_hash"] == new["trace_hash"] else ""
    return [f"{path}: differs{same}", *difference_lines(difference), *notes]


def _notes(old: JsonObject, new: JsonObject, difference: Difference | None) -> list[str]:
    """All that went into the runs and is not the same."""
    then, now = _runtime_text(old), _runtime_text(new)
    is_timed_out = "timeout" in {old["termination_reason"], new["termination_reason"]}
    notes = {
        "the agent's file has changed since": old["agent_hash"] != new["agent_hash"],
        "the task's folder has changed since": old["task_hash"] != new["task_hash"],
        f"the runtime was {then}, and is {now}: artifact_hash cannot agree": then != now,
        "how far an episode gets until its time is over depends on the machine": is_timed_out
        and not (difference is None or difference.is_runtime_alone),
    }
    return [line for note, holds in notes.items() if holds for line in _line("note", note)]


def _runtime_text(artifact: JsonObject) -> str:
    identity = artifact["runtime_identity"]
    commit = (identity["git_sha"] or "no commit")[:12]
    return f"{identity['name']} {identity['version']} at {commit}"


def difference_lines(difference: Difference) -> list[str]:
    """Where two runs part, with what was there and what is now."""
    place = "" if difference.step is None else f"step {difference.step}"
    where = " ".join(filter(None, [place, difference.field]))
    old, new = _texts_around(difference)
    return [f"  {_cut(where, VALUE_WIDTH)}", *_line("then", old), *_line("now", new)]


def _texts_around(difference: Difference) -> tuple[str, str]:
    """Both values, cut so that the place where they part is in sight."""
    if not difference.field:
        return _step_text(difference.old), _step_text(difference.new)
    old, new = _value_text(difference.old), _value_text(difference.new)
    same = next(
        (place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )
    skipped = max(0, same - CONTEXT) if max(len(old), len(new)) > VALUE_WIDTH else 0
    mark = "…" if skipped else ""
    return _cut(mark + old[skipped:], VALUE_WIDTH), _cut(mark + new[skipped:], VALUE_WIDTH)


def _step_text(entry: Any) -> str:
    return "no such step" if entry is MISSING else _cut(_action_text(entry["action"]), VALUE_WIDTH)


def _value_text(value: Any) -> str:
    return "nothing" if value is MISSING else json_text(value)


# --- text


def json_text(value: Any) -> str:
    """``value`` as it stands in the artifact."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):  # as in errors.describe
        return "a value too large to show"


def _line(name: str, text: str) -> list[str]:
    return [f"  {name:<11} {one_line(text)}"]


def _cut(text: str, width: int) -> str:
    # First to about the width: escaping each character of a megabyte takes its time.
    text = one_line(text[: width + 1])
    return text if len(text) <= width else text[: width - 1] + "…"
