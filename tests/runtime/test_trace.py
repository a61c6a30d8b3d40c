from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracecore import canon
from tracecore.records import JsonObject
from tracecore.runtime import spec
from tracecore.runtime.agent.host import AgentHost
from tracecore.runtime.artifact import EpisodeFacts
from tracecore.runtime.foreign.stable_text import WORDS_MOST, stable_words
from tracecore.runtime.trace import (
    TOKENS_MOST,
    LlmTotals,
    StepRecord,
    stable_entry,
    take_llm_entries,
    trace_entry,
)

PROMPT, COMPLETION = "Où est la clé ?", "Là 🔑"
KEYS = ["request", "response", "prompt", "completion", "tokens_used", "provider", "metadata", "x"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


def model_call(
    *, request: JsonObject | None = None, response: JsonObject | None = None
) -> JsonObject:
    who = {"provider": "acme", "model": "m-1", "shim_used": False}
    asked = {"prompt": PROMPT, "metadata": {"version": "3"}}
    given = {"completion": COMPLETION, "tokens_used": 7, "timestamp": "2026-01-31T12:00:00Z"}
    return {
        "request": {**who, **asked, **(request or {})},
        "response": {**who, **given, **(response or {})},
    }


def take(offered: Any, redaction: str = "off") -> tuple[list[JsonObject] | None, LlmTotals]:
    totals = LlmTotals()
    return take_llm_entries(offered, redaction, totals), totals


# --- what an agent appended ---


class Notes:
    """Appends to its ``llm_trace`` what it is told to, or begins a new one."""

    def __init__(self, steps: list[list[Any]], *, new_lists: bool) -> None:
        self.steps, self.new_lists = iter(steps), new_lists
        self.llm_trace: Any = []

    def reset(self, _task_spec: Any) -> None:
        self.llm_trace.append("before the first step")

    def observe(self, observation: Any) -> None:
        pass

    def act(self) -> JsonObject:
        if self.new_lists:
            self.llm_trace = []
        self.llm_trace.extend(next(self.steps))
        return {"type": "look"}


def offers(agent: Any, steps: int) -> list[Any]:
    host = AgentHost(lambda: agent, 1 << 20, "/agent.py")
    host.reset({})
    return [canon.decode(host.step({}))["did"]["llm_trace"] for _ in range(steps)]


@pytest.mark.parametrize(
    ("new_lists", "first"), [(False, ["before the first step", "a", "b"]), (True, ["a", "b"])]
)
def test_a_step_has_what_was_appended_in_it_and_not_the_running_list(new_lists, first):
    found = offers(Notes([["a", "b"], [], ["c"]], new_lists=new_lists), 3)
    assert found == [first, [], ["c"]]


@pytest.mark.parametrize("value", [None, "text", {"request": {}}, ("a",), 7])
def test_a_trace_that_is_no_list_is_none(value):
    agent = Notes([[], []], new_lists=False)
    agent.act = lambda: setattr(agent, "llm_trace", value) or {"type": "look"}
    assert offers(agent, 2) == [None, None]
    assert take(value)[0] is None


# --- redaction and bytes ---


@pytest.mark.parametrize(
    ("redaction", "prompt", "completion"),
    [
        ("off", PROMPT, COMPLETION),
        ("partial", "[redacted]:15", "[redacted]:4"),
        ("full", "[redacted]", "[redacted]"),
    ],
)
def test_a_prompt_and_its_completion_are_redacted_and_their_bytes_counted_before(
    redaction, prompt, completion
):
    (entry,), totals = take([model_call()], redaction)
    assert (entry["request"]["prompt"], entry["response"]["completion"]) == (prompt, completion)
    assert entry["request"]["metadata"] == {"version": "3"}
    assert (totals.prompt_bytes, totals.completion_bytes) == (
        len(PROMPT.encode()),
        len(COMPLETION.encode()),
    )


@pytest.mark.parametrize(
    "secret", ["tell nobody", ["tell nobody"], {"messages": ["tell nobody"]}, 17.25, True]
)
@pytest.mark.parametrize("redaction", ["partial", "full"])
def test_nothing_of_a_prompt_is_left_whatever_it_is(secret, redaction):
    (entry,), _ = take(
        [model_call(request={"prompt": secret}, response={"completion": secret})], redaction
    )
    assert entry["request"]["prompt"].startswith("[redacted]")
    assert entry["response"]["completion"].startswith("[redacted]")
    assert "nobody" not in str(entry)


@pytest.mark.parametrize("redaction", ["off", "partial", "full"])
def test_where_there_is_no_completion_there_is_nothing_to_redact(redaction):
    (entry,), totals = take(
        [model_call(response={"completion": None, "success": False, "error": "503"})], redaction
    )
    assert entry["response"]["completion"] is None
    assert entry["response"]["error"] == "503"
    assert totals.completion_bytes == 0


# --- junk ---


@pytest.mark.parametrize(
    "junk", [None, 7, "text", [], {}, {"request": 1, "response": []}, {"other": {"prompt": "x"}}]
)
def test_an_entry_that_is_no_model_call_counts_as_an_empty_one(junk):
    entries, totals = take([junk])
    assert entries == [{"request": {"prompt": None}, "response": {"completion": None}}]
    assert (totals.entries, totals.tokens_used) == (1, 0)
    assert (totals.prompt_bytes, totals.completion_bytes) == (0, 0)
    assert list(totals.models) == [("unknown", "unknown", "unknown")]


@given(st.lists(JSON, max_size=4), st.sampled_from(["off", "partial", "full"]))
def test_whatever_an_agent_offers_makes_a_valid_entry_and_sums_that_are_counts(offered, redaction):
    before = canon.encode(offered)
    entries, totals = take(offered, redaction)
    assert entries is not None
    assert canon.encode(offered) == before
    check = spec.load_check("llm_call")
    assert [check(entry) for entry in canon.decode(canon.encode(entries)) if check(entry)] == []
    assert totals.entries == len(offered)
    assert min(totals.prompt_bytes, totals.completion_bytes, totals.tokens_used) >= 0
    assert totals.tokens_used <= TOKENS_MOST * len(offered)
    assert all(isinstance(name, str) for model in totals.models for name in model)


# --- tokens ---


@pytest.mark.parametrize("tokens", [7, 0, 2**53])
def test_tokens_that_can_be_true_are_counted(tokens):
    assert tokens_of(tokens) == tokens


@pytest.mark.parametrize("tokens", [2**53 + 1, 2**63 - 1, -1, True, 1.0, "7", None, [7]])
def test_tokens_that_cannot_be_true_are_written_and_not_counted(tokens):
    assert tokens_of(tokens) == 0


def tokens_of(tokens: Any) -> int:
    """What a call with so many tokens adds to the sum."""
    (entry, _), totals = take(
        [model_call(response={"tokens_used": tokens}), model_call(response={"tokens_used": 5})]
    )
    assert entry["response"]["tokens_used"] == tokens
    assert type(totals.tokens_used) is int
    return totals.tokens_used - 5


# --- models and mocks ---


def test_models_are_listed_once_in_the_order_in_which_they_were_met():
    requests = [
        {"model": "z"},
        {"model": "a", "metadata": None},
        {"model": "z", "shim_used": True},
        {"provider": ["odd"], "model": None, "shim_used": "yes"},
    ]
    _, totals = take([model_call(request=request) for request in requests])
    unknown = ("unknown", "unknown", "3")
    assert list(totals.models) == [("acme", "z", "3"), ("acme", "a", "unknown"), unknown]
    assert list(totals.mocks) == ["acme"]


def test_totals_grow_over_the_steps_of_an_episode():
    facts = EpisodeFacts()
    for offered in ([model_call()], None, [model_call()] * 2):
        take_llm_entries(offered, "off", facts.llm)
    assert (facts.llm.entries, facts.llm.tokens_used) == (3, 21)
    assert facts.llm.prompt_bytes == 3 * len(PROMPT.encode())


# --- the entry ---


def record(**fields: Any) -> StepRecord:
    usual: dict[str, Any] = {
        "step": 3,
        "action_ts": "2026-01-31T12:00:00.000000Z",
        "observation": b'{"step":3}',
        "action": b'{"args":{},"type":"look"}',
        "result": b'{"ok":true}',
        "io_audit": [{"type": "net", "host": "example.org"}],
        "llm_trace": [model_call()],
        "steps_left": 4,
        "tool_calls_left": 2,
        "tool_calls_spent": 1,
        "latency_ms": 0.125,
        "error": None,
    }
    return StepRecord(**{**usual, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"llm_trace": None, "io_audit": []},
        {"llm_trace": [], "error": "it went \ud800 wrong", "latency_ms": 1e-7},
        {"latency_ms": 1e22},
    ],
)
def test_an_entry_is_canonical_and_valid_and_its_stable_part_is_what_is_read_back_from_it(fields):
    entry = trace_entry(record(**fields))
    read = canon.decode(entry.whole)
    assert canon.encode(read) == entry.whole
    assert spec.load_check("trace_entry")(read) == []
    assert canon.encode(stable_entry(read)) == entry.stable
    assert read["budget_after_step"] == {"steps": 4, "tool_calls": 2}
    assert read["budget_delta"] == {"steps": 1, "tool_calls": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"action_ts": "2027-01-31T12:00:00.000000Z"},
        {"latency_ms": 9.5},
        {"llm_trace": [model_call(response={"timestamp": "2027-01-31T12:00:00Z"})]},
    ],
)
def test_times_are_not_stable(fields):
    assert trace_entry(record(**fields)).stable == trace_entry(record()).stable
    assert trace_entry(record(**fields)).whole != trace_entry(record()).whole


@pytest.mark.parametrize(
    "fields",
    [
        {"step": 4},
        {"observation": b"{}"},
        {"action": b"{}"},
        {"result": b"null"},
        {"io_audit": []},
        {"llm_trace": None},
        {"llm_trace": [model_call(request={"timestamp": "now"})]},
        {"llm_trace": [model_call(response={"completion": "else"})]},
        {"steps_left": 5},
        {"tool_calls_left": 1},
        {"tool_calls_spent": 0},
        {"error": "no"},
    ],
)
def test_everything_else_is_stable(fields):
    assert trace_entry(record(**fields)).stable != trace_entry(record()).stable


# --- words ---


def test_an_address_does_not_show_in_words():
    first, second = (stable_words(f"{object()!r} and {[object()]!r}") for _ in range(2))
    assert first == second == "<object object at 0x…> and [<object object at 0x…>]"


@pytest.mark.parametrize("text", ["", "0x1f", "10x12345", "0xyz", "x" * WORDS_MOST])
def test_words_that_are_none_of_that_stay_as_they_are(text):
    assert stable_words(text) == text


@given(st.text(max_size=3), st.integers(0, 3 * WORDS_MOST))
@example("x", WORDS_MOST + 1)
def test_words_have_a_bounded_length_and_end_where_they_were_cut_off(text, count):
    words = stable_words(text * count)
    assert len(words) <= WORDS_MOST
    assert words.endswith("…") or len(text * count) <= WORDS_MOST
    assert stable_words(words) == words
