import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from helpers.episodes import Plan
from hypothesis import given
from hypothesis import strategies as st

from tracecore import canon
from tracecore.records import AgentSource, Job, JsonObject, Outcome, Settings
from tracecore.runtime.agent.client import InProcessAgent
from tracecore.runtime.env import Environment
from tracecore.runtime.episode import Agent, run_episode
from tracecore.runtime.sandbox import Sandbox, SandboxViolation
from tracecore.runtime.task.catalog import PACKAGE_FOLDER, find_agent, find_task
from tracecore.runtime.task.task import Task, compile_task

SEEDS = range(100)
SOME_SEEDS = SEEDS[:20]
FILES, API, CHAIN, TRIAGE = (
    "filesystem_hidden_config@1",
    "rate_limited_api@1",
    "rate_limited_chain@1",
    "log_alert_triage@1",
)
PROMISED = {  # task -> suite, steps, tool calls, the output that is asked for
    FILES: ("filesystem", 200, 40, "API_KEY"),
    API: ("api", 120, 40, "ACCESS_TOKEN"),
    CHAIN: ("api", 140, 60, "ACCESS_TOKEN"),
    TRIAGE: ("operations", 160, 45, "ALERT_CODE"),
}
HIDDEN = {FILES: "api_key", API: "token", CHAIN: "token", TRIAGE: "alert_code"}
SOLVERS = [
    ("agents/toy_agent.py", FILES),
    ("agents/scripted_llm_agent.py", FILES),
    ("agents/rate_limit_agent.py", API),
    ("agents/chain_agent.py", CHAIN),
    ("agents/ops_triage_agent.py", TRIAGE),
]


found_task = cache(find_task)


@pytest.fixture(autouse=True)
def interpreter_as_before() -> Iterator[None]:
    """Task and agent code run in this very process, which they are allowed to change."""
    path, writes_no_bytecode = list(sys.path), sys.dont_write_bytecode
    yield
    sys.path[:], sys.dont_write_bytecode = path, writes_no_bytecode
    sys.modules.pop("tracecore_agent", None)
    for ref in PROMISED:
        compile_task(found_task(ref)).modules.uninstall()


def artifact_of(outcome):
    return canon.decode(outcome.artifact)


def play(
    task_ref: str, seed: int, agent: AgentSource, start: Callable[[Job], Agent] = InProcessAgent
) -> Outcome:
    job = Job(0, "0" * 32, agent, found_task(task_ref), seed, Settings(runs_dir=""))
    return run_episode(job, start)


def replay(task_ref: str, seed: int, actions: list[JsonObject]) -> Outcome:
    return play(
        task_ref,
        seed,
        AgentSource("replay.py", "/replay.py", "sha256:"),
        lambda _job: Plan(*actions),
    )


def call(name: str, **args: Any) -> JsonObject:
    return {"type": name, "args": args}


class World:
    """A task at a seed, laid open."""

    def __init__(self, task_ref: str, seed: int) -> None:
        self.task: Task = compile_task(found_task(task_ref)).execute()
        manifest = self.task.manifest
        self.env = Environment(Sandbox(manifest.filesystem_roots, manifest.network_hosts))
        assert self.task.setup is not None
        assert self.task.set_env is not None
        self.task.setup(seed, self.env)
        self.task.set_env(self.env)
        self.answer: str = self.env.get_hidden_state(HIDDEN[task_ref])
        self.output = PROMISED[task_ref][3]

    def do(self, name: str, **args: Any) -> JsonObject:
        action = call(name, **args)
        assert self.task.surface.why_invalid(action) is None
        result = canon.decode(self.task.surface.call(action))
        assert isinstance(result, dict)
        return result

    def api(self, endpoint: str, payload: Any = None) -> JsonObject:
        return self.do("call_api", endpoint=endpoint, payload=payload)

    def judge(self, answer: Any) -> JsonObject:
        self.do("set_output", key=self.output, value=answer)
        return self.task.validate(self.env)

    def paths(self, folder: str = "/app") -> list[str]:
        found = []
        for path in self.env.list_dir(folder):
            found += self.paths(path) or [path]
        return found

    def texts(self) -> dict[str, str]:
        return {path: self.env.read_file(path) for path in self.paths()}


# --- every task ---


@pytest.mark.parametrize("task_ref", PROMISED)
def test_a_task_is_what_its_description_promises(task_ref: str) -> None:
    suite, steps, tool_calls, output = PROMISED[task_ref]
    manifest = World(task_ref, 0).task.manifest
    assert (manifest.suite, manifest.budgets.steps, manifest.budgets.tool_calls) == (
        suite,
        steps,
        tool_calls,
    )
    assert output in manifest.description
    assert "\n" not in manifest.description


@pytest.mark.parametrize(("agent_ref", "task_ref"), SOLVERS)
def test_an_agent_solves_its_task_at_every_seed_within_half_of_the_tool_calls(
    agent_ref: str, task_ref: str
) -> None:
    agent, tool_calls = find_agent(agent_ref), PROMISED[task_ref][2]
    for seed in SEEDS:
        outcome = play(task_ref, seed, agent)
        assert outcome.termination_reason == "success", (seed, outcome.failure_reason)
        assert 5 <= outcome.steps_used <= 14, seed
        assert outcome.tool_calls_used <= tool_calls / 2, seed


@pytest.mark.parametrize(("agent_ref", "task_ref"), SOLVERS)
def test_a_seed_gives_the_same_artifact_every_time(agent_ref: str, task_ref: str) -> None:
    agent = find_agent(agent_ref)
    first, again, other = (artifact_of(play(task_ref, seed, agent)) for seed in (42, 42, 43))
    assert first["artifact_hash"] == again["artifact_hash"]
    assert first["trace_hash"] != other["trace_hash"]


@pytest.mark.parametrize("task_ref", PROMISED)
def test_any_integer_is_a_seed_and_no_two_share_an_answer(task_ref: str) -> None:
    seeds = [-1, 10**18, *SEEDS]
    assert len({World(task_ref, seed).answer for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("task_ref", PROMISED)
def test_the_validator_passes_the_answer_under_its_name_and_nothing_else(task_ref: str) -> None:
    for seed in SOME_SEEDS:
        world = World(task_ref, seed)
        answer = world.answer
        assert answer not in json.dumps([world.task.manifest.description, world.judge("guess")])
        words = ("", answer[:-1], answer + " ", answer.swapcase())
        for wrong in (*words, None, True, [answer], {"value": answer}):
            assert World(task_ref, seed).judge(wrong)["ok"] is False, wrong
        assert World(task_ref, seed).judge(answer)["ok"] is True
    world = World(task_ref, 5)
    for key in (world.output.lower(), HIDDEN[task_ref], "ok"):
        world.do("set_output", key=key, value=world.answer)
        assert world.task.validate(world.env)["ok"] is False


@pytest.mark.parametrize(
    ("task_ref", "reason"),
    [
        (FILES, "logic_failure"),
        (TRIAGE, "logic_failure"),
        (API, "success"),
        (CHAIN, "success"),
    ],
)
def test_a_second_guess_comes_too_late_where_few_answers_are_possible(
    task_ref: str, reason: str
) -> None:
    output, answer = PROMISED[task_ref][3], World(task_ref, 5).answer
    guesses = [call("set_output", key=output, value=value) for value in ("guess", answer)]
    outcome = replay(task_ref, 5, guesses)
    assert outcome.termination_reason == reason
    assert outcome.steps_used == (2 if reason == "success" else 1)


# --- worlds of files ---

TEXTS = st.text() | st.sampled_from(
    ["/app", "/app/README.md", "/app/logs", "API_KEY", "api_key", "alert_code", "=", ""]
)


@pytest.mark.parametrize("task_ref", [FILES, TRIAGE])
@given(st.data())
def test_only_reading_the_right_file_shows_the_answer(task_ref: str, data: st.DataObject) -> None:
    world = World(task_ref, 5)
    name = data.draw(st.sampled_from(sorted(world.task.surface.parameters)))
    args = {parameter: data.draw(TEXTS) for parameter in world.task.surface.parameters[name]}
    holders = {path for path, text in world.texts().items() if world.answer in text}
    assert len(holders) == 1
    try:
        result = world.do(name, **args)
    except SandboxViolation as violation:
        result = {"ok": False, "violation": str(violation)}
    assert world.answer not in json.dumps(result)


@pytest.mark.parametrize("task_ref", [FILES, TRIAGE])
def test_a_path_that_is_not_there_is_an_answer_and_one_outside_a_violation(task_ref: str) -> None:
    world = World(task_ref, 5)
    for name, path in (("read_file", "nothing"), ("read_file", ""), ("list_dir", "nothing")):
        assert world.do(name, path=f"/app/{path}")["ok"] is False
    for name in ("read_file", "list_dir"):
        with pytest.raises(SandboxViolation):
            world.do(name, path="/app/../etc/passwd")


LIST_APP, READ_README = call("list_dir", path="/app"), call("read_file", path="/app/README.md")
ASK_TOKEN, WAIT = call("call_api", endpoint="/token"), call("wait", seconds=1)
ASKED = {"type": "net", "host": "api.example.test"}


@pytest.mark.parametrize(
    ("task_ref", "action", "audit"),
    [
        (FILES, LIST_APP, [{"type": "fs", "op": "list_dir", "path": "/app"}]),
        (FILES, READ_README, [{"type": "fs", "op": "read_file", "path": "/app/README.md"}]),
        (API, ASK_TOKEN, [ASKED]),
        (CHAIN, ASK_TOKEN, [ASKED]),
        (API, WAIT, []),
    ],
)
def test_a_step_has_what_it_read_and_which_host_it_asked_in_its_audit(
    task_ref: str, action: JsonObject, audit: list[JsonObject]
) -> None:
    assert artifact_of(replay(task_ref, 5, [action]))["action_trace"][0]["io_audit"] == audit


def key_in(text: str) -> str:
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith("API_KEY="))


def test_the_readme_names_the_file_in_use_among_three_that_look_alike() -> None:
    names, folders, ranks, stages = set(), set(), set(), set()
    for seed in SOME_SEEDS:
        world = World(FILES, seed)
        texts = world.texts()
        hidden = {path: text for path, text in texts.items() if "/." in path}
        stage = texts["/app/README.md"].partition("In use: ")[2].splitlines()[0]
        (right,) = [path for path, text in hidden.items() if stage in text.splitlines()]
        assert key_in(hidden[right]) == world.answer
        assert [len(key_in(text)) for text in hidden.values()] == [len(world.answer)] * 3
        decoys = {key_in(text) for text in texts.values() if "API_KEY=" in text} - {world.answer}
        assert len(decoys) == 3
        for decoy in decoys:
            assert World(FILES, seed).judge(decoy)["terminal"] is True
        folder, _, name = right.rpartition("/")
        names.add(name)
        folders.add(folder)
        ranks.add(list(hidden).index(right))
        stages.add(stage)
    assert len(names) == len(SOME_SEEDS)
    assert folders == {"/app/config", "/app/deploy", "/app/service"}
    assert (ranks, len(stages)) == ({0, 1, 2}, 3)


def test_extract_value_reads_what_it_is_given_and_nothing_else() -> None:
    world = World(FILES, 5)
    assert world.do("extract_value", content="A=1\n B = 2=3 \n", key="B") == {
        "ok": True,
        "value": "2=3",
    }
    assert world.do("extract_value", content="A=1\nno equals sign", key="API_KEY")["ok"] is False
    assert world.env.audit[-1]["op"] == "write_file"  # the last of setup's


def test_one_alert_alone_is_critical_and_open_and_the_code_of_every_other_is_refused() -> None:
    places = set()
    for seed in SOME_SEEDS:
        world = World(TRIAGE, seed)
        alerts = world.env.read_file("/app/logs/alerts.log").splitlines()
        (open_one,) = [line for line in alerts if "severity=critical status=open" in line]
        places.add(alerts.index(open_one))
        words = " ".join(world.texts().values()).split()
        codes = {word[5:] for word in words if word.startswith("code=")}
        assert len(codes) == 5
        for decoy in codes - {world.answer}:
            assert World(TRIAGE, seed).judge(decoy)["terminal"] is True
    assert places == set(range(5))


# --- services with a limiter ---


def right_payload(world: World) -> JsonObject:
    payload: JsonObject = world.api("/docs")["body"]["/token"]["payload"]
    return payload


def begin_handshake(world: World) -> tuple[JsonObject, int]:
    """What a commit has to give, and the seconds to wait between two calls."""
    world.api("/handshake")
    pending: JsonObject = world.env.get_hidden_state("pending")["answer"]
    return pending, world.env.get_hidden_state("interval_s")


@pytest.mark.parametrize("task_ref", [API, CHAIN])
@pytest.mark.parametrize("seconds", [0, -1, 61, 1.5, True, "3", None, 1e308, [1]])
def test_time_moves_by_whole_seconds_forward_only(task_ref: str, seconds: Any) -> None:
    world = World(task_ref, 5)
    assert world.do("wait", seconds=seconds)["ok"] is False
    assert world.do("wait", seconds=60) == {"ok": True, "now": 60}


def test_the_payload_depends_on_the_seed_and_another_one_is_refused() -> None:
    payloads = [right_payload(World(API, seed)) for seed in SEEDS]
    assert len({json.dumps(payload) for payload in payloads}) == len(SEEDS)
    world = World(API, 0)
    world.do("wait", seconds=60)
    for wrong in (None, {}, payloads[1], {**payloads[0], "more": 1}, "x", [], {"client_id": True}):
        assert world.api("/token", wrong)["status"] == 400
    assert world.api("/token", payloads[0])["status"] == 503  # what was refused used up nothing
    assert world.api("/", payloads[0])["status"] == 404


def test_the_token_takes_a_wait_a_failure_and_another_wait() -> None:
    for seed in SOME_SEEDS:
        world = World(API, seed)
        payload = right_payload(world)
        for status in (503, 200):
            limited = world.api("/token", payload)
            assert limited["status"] == 429
            world.do("wait", seconds=limited["retry_after"])
            assert world.api("/token", payload)["status"] == status


def test_retry_after_is_not_a_second_too_long() -> None:
    for seed in SOME_SEEDS:
        world = World(API, seed)
        payload = right_payload(world)
        for left in range(world.api("/token", payload)["retry_after"], 0, -1):
            assert world.api("/token", payload)["retry_after"] == left
            world.do("wait", seconds=1)
        assert world.api("/token", payload)["status"] == 503


WAITS = st.integers(1, 5)
ENDPOINTS = st.sampled_from(
    ["/token", "/handshake", "/handshake_commit", "/docs", "/", "/../token"]
)
GUESSES = st.sampled_from(
    [None, {}, [], "x", {"session": None}, {"handshake_id": None, "phrase": None}]
)


@pytest.mark.parametrize("task_ref", [API, CHAIN])
@given(st.integers(0, 50), st.lists(WAITS | st.tuples(ENDPOINTS, GUESSES), max_size=40))
def test_no_order_of_calls_with_guessed_payloads_gives_token_or_session(
    task_ref: str, seed: int, moves: list[Any]
) -> None:
    world = World(task_ref, seed)
    for move in moves:
        result = world.do("wait", seconds=move) if isinstance(move, int) else world.api(*move)
        assert world.answer not in json.dumps(result)
        assert "session" not in result.get("body", {})


@given(st.integers(0, 50), st.lists(WAITS | st.just("/token"), max_size=40))
def test_no_order_of_calls_gives_the_token_before_both_intervals_are_over(
    seed: int, moves: list[Any]
) -> None:
    world = World(API, seed)
    payload, interval_s, now_s = right_payload(world), world.env.get_hidden_state("interval_s"), 0
    for move in moves:
        if isinstance(move, int):
            now_s = world.do("wait", seconds=move)["now"]
        elif world.answer in json.dumps(world.api(move, payload)):
            assert now_s >= 2 * interval_s


def test_the_handshake_never_shows_the_filled_phrase() -> None:
    for seed in SOME_SEEDS:
        world = World(CHAIN, seed)
        shown = world.api("/handshake")
        phrase = world.env.get_hidden_state("pending")["answer"]["phrase"]
        assert phrase not in json.dumps(shown)
        assert shown["body"]["template"].format(**shown["body"]["words"]) == phrase


def test_a_wrong_phrase_or_another_handshakes_id_opens_no_session() -> None:
    refusal = {"ok": False, "status": 403, "error": "wrong_phrase"}  # and not a word more
    world = World(CHAIN, 5)
    answer, interval_s = begin_handshake(world)
    world.do("wait", seconds=interval_s)
    assert world.api("/handshake_commit", {**answer, "phrase": answer["phrase"] + "x"}) == refusal
    world = World(CHAIN, 5)
    answer, _ = begin_handshake(world)
    world.do("wait", seconds=interval_s)
    begin_handshake(world)
    world.do("wait", seconds=interval_s)
    assert world.api("/handshake_commit", answer) == refusal  # the newer handshake has replaced it


def test_a_handshake_lasts_until_its_last_second_and_no_longer() -> None:
    for seed in SOME_SEEDS:
        for late, status in ((0, 200), (1, 410)):
            world = World(CHAIN, seed)
            expires_in = world.api("/handshake")["body"]["expires_in"]
            world.do("wait", seconds=expires_in - 1 + late)
            answer = world.env.get_hidden_state("pending")["answer"]
            assert world.api("/handshake_commit", answer)["status"] == status


def test_a_handshake_is_committed_once_and_its_session_gives_the_token_behind_one_failure() -> None:
    for seed in SOME_SEEDS:
        world = World(CHAIN, seed)
        answer, interval_s = begin_handshake(world)
        world.do("wait", seconds=interval_s)
        session = world.api("/handshake_commit", answer)["body"]["session"]
        assert world.api("/token", {"session": session})["status"] == 429
        for status in (503, 200):
            world.do("wait", seconds=interval_s)
            assert world.api("/token", {"session": session})["status"] == status
        world.do("wait", seconds=interval_s)
        assert world.api("/handshake_commit", answer)["status"] == 409


def test_an_agent_that_was_too_slow_can_begin_again() -> None:
    agent = find_agent("agents/chain_agent.py")

    class Dawdler(InProcessAgent):
        """Sleeps through its first handshake."""

        def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
            action, llm_trace = super().step(observation, deadline_s)
            return (
                call("wait", seconds=60) if canon.decode(observation)["step"] == 3 else action
            ), llm_trace

    outcome = play(CHAIN, 7, agent, Dawdler)
    errors = [
        (entry["result"] or {}).get("error") for entry in artifact_of(outcome)["action_trace"]
    ]
    assert "handshake_expired" in errors
    assert outcome.termination_reason == "success"


# --- the agent around a model ---


def test_the_scripted_agent_keeps_one_complete_record_per_model_call_with_all_it_knows() -> None:
    trace = artifact_of(play(FILES, 42, find_agent("agents/scripted_llm_agent.py")))["action_trace"]
    for entry in trace:
        (record,) = entry["llm_trace"]
        request, response = record["request"], record["response"]
        assert set(request) == {"provider", "model", "prompt", "shim_used", "metadata"}
        assert set(response) == {
            *("provider", "model", "completion", "success", "error"),
            *("tokens_used", "calls_used", "shim_used", "timestamp"),
        }
        assert json.loads(response["completion"]) == entry["action"]
        characters = len(request["prompt"]) + len(response["completion"])
        assert characters <= 4 * response["tokens_used"] < characters + 4
        assert PROMISED[FILES][3] in request["prompt"]
        result = json.dumps(entry["observation"]["last_action_result"])
        assert result in request["prompt"] or entry["step"] == 1


def test_the_bundled_scenario_file_names_what_is_bundled() -> None:
    with open(f"{PACKAGE_FOLDER}/agents/scripted_llm_scenario.toml", "rb") as file:
        rows = tomllib.load(file)["scenario"]
    assert len({row["seed"] for row in rows}) == len(rows) == 2
    for row in rows:
        assert set(row) == {"agent", "task_ref", "seed"}
        assert (
            play(row["task_ref"], row["seed"], find_agent(row["agent"])).termination_reason
            == "success"
        )
