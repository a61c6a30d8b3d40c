"""A gateway in its own process between agents and a stand-in for model APIs."""

import contextlib
import http.client
import json
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.models import KEY, StandIn, stand_in

from tracecore.gateway.client import GatewayError, SessionLine, hand_over
from tracecore.gateway.models import Model
from tracecore.gateway.process import run_gateway
from tracecore.gateway.session import Calling
from tracecore.records import GatewayAddress, ModelLimits

pytest.importorskip("aiohttp")
EPISODE = {"agent": "agents/llm.py", "task_ref": "world@1", "seed": 7}
Live = tuple[GatewayAddress, pathlib.Path]
CHAT = "/openai/chat/completions"
MESSAGES = "/openai/messages"


@pytest.fixture(scope="module")
def model() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


class Door:
    """A running gateway, with a listening socket as the agent of one episode sees it."""

    def __init__(self, address: GatewayAddress, limits: ModelLimits) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.port: int = listener.getsockname()[1]
            hand_over(address, listener.fileno())
        self.session = SessionLine(address, EPISODE, limits)

    def call(
        self, prompt: str, path: str = CHAT, *, token: str | None = None, **more: Any
    ) -> tuple[int, str]:
        """Status and body of one call, in the form that its path has."""
        body = {"model": "m-1", "messages": [{"role": "user", "content": prompt}], **more}
        if path.endswith("/responses"):
            body = {"model": "m-1", "input": prompt, **more}
        given = self.session.token if token is None else token
        is_messages = path == MESSAGES
        headers = {"x-api-key": given} if is_messages else {"Authorization": f"Bearer {given}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@contextlib.contextmanager
def running(upstream: str, folder: pathlib.Path, mode: str = "live") -> Iterator[GatewayAddress]:
    models = (Model("openai", upstream, "KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"),)
    calling = Calling(mode, str(folder), is_delayed=False)
    with run_gateway(models, {"openai": KEY}, calling) as address:
        yield address


@pytest.fixture(scope="module")
def live(model: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One gateway for all tests that keep nothing, and the folder in which nothing is kept."""
    folder = tmp_path_factory.mktemp("live")
    with running(model.url, folder) as address:
        yield address, folder


@contextlib.contextmanager
def opened(
    address: GatewayAddress,
    limits: ModelLimits = ModelLimits(),  # noqa: B008  (frozen)
) -> Iterator[Door]:
    agent = Door(address, limits)
    try:
        yield agent
    finally:
        agent.session.close()


@contextlib.contextmanager
def door(upstream: str, folder: pathlib.Path, mode: str) -> Iterator[Door]:
    with running(upstream, folder, mode) as address, opened(address) as agent:
        yield agent


def test_a_call_reaches_the_model_with_the_key_and_comes_back(model: StandIn, live: Live) -> None:
    with opened(live[0]) as agent:
        status, body = agent.call("hello")
        told = agent.session.take()
    assert status == 200
    assert json.loads(body)["choices"][0]["message"]["content"] == "echo hello"
    path, headers, _body = model.seen[-1]
    assert (path, headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert agent.session.token not in str(model.seen[-1])
    assert (told["calls"], told["failure"]) == (1, None)
    assert told["entries"][0]["request"]["model"] == "m-1"
    assert list(live[1].iterdir()) == []


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/openai/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_model_text_and_tokens_are_read_from_each_form(
    model: StandIn, live: Live, path: str, stream: bool
) -> None:
    more = {"stream": True} if stream else {}
    with opened(live[0]) as agent:
        assert agent.call("a word", path, **more)[0] == 200
        response = agent.session.take()["entries"][0]["response"]
    assert response["model"] == "m-1"
    assert response["completion"].strip() == "echo a word"
    assert response["tokens_used"] == 7
    expected = "x-api-key" if path == MESSAGES else "authorization"
    assert KEY in model.seen[-1][1][expected]


def test_only_the_token_of_a_running_episode_opens(model: StandIn, live: Live) -> None:
    seen = len(model.seen)
    with opened(live[0]) as agent:
        assert agent.call("hello", token="guessed")[0] == 401
        assert agent.call("hello", token=KEY)[0] == 401
        assert agent.call("hello", "/another/chat/completions")[0] == 404
    assert len(model.seen) == seen


def test_a_recorded_episode_is_replayed_without_a_model(
    model: StandIn, tmp_path: pathlib.Path
) -> None:
    stream = {"stream": True}
    tokens: list[str] = []
    calls = [("one", CHAT, {}), ("two", CHAT, stream), ("one", CHAT, {}), ("a", MESSAGES, {})]

    def call_all(upstream: str, mode: str) -> tuple[list[tuple[int, str]], list[Any]]:
        with door(upstream, tmp_path, mode) as agent:
            answers = [agent.call(prompt, path, **more) for prompt, path, more in calls]
            tokens.append(agent.session.token)
            return answers, agent.session.take()["entries"]

    recorded = call_all(model.url, "record")
    recording = next(tmp_path.iterdir())
    text = recording.read_text()
    assert not [secret for secret in (KEY, *tokens) if secret in text]
    assert call_all("http://127.0.0.1:9/v1", "replay") == recorded
    assert recording.read_text() == text


def test_a_request_that_was_not_recorded_ends_the_episode_with_the_first_difference(
    model: StandIn, tmp_path: pathlib.Path
) -> None:
    without = pytest.raises(GatewayError, match="expected a recording of this episode")
    with without, door(model.url, tmp_path, "replay"):
        raise AssertionError
    with door(model.url, tmp_path, "record") as agent:
        agent.call("one")
    with door(model.url, tmp_path, "replay") as agent:
        status, body = agent.call("another")
        told = agent.session.take()
    assert status == 409
    assert json.loads(body)["error"]["code"] == "model_call_unrecorded"
    words = 'body.messages[0].content: found "another", recorded "one"'
    assert told["failure"] == f"model call 1: {words}"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ModelLimits(calls=1), "all 1 model calls of the episode are used"),
        (ModelLimits(bytes=10), "of 10 bytes of model calls of the episode are used"),
        (ModelLimits(wait_s=0.0), "the episode has waited 0 s for models"),
    ],
)
def test_a_limit_is_refused_in_the_form_of_the_api_and_stands_in_the_trace(
    live: Live, limits: ModelLimits, words: str
) -> None:
    with opened(live[0], limits) as agent:
        if limits.wait_s is None:
            assert agent.call("one")[0] == 200
        status, body = agent.call("two", MESSAGES)
        entry = agent.session.take()["entries"][-1]
    assert status == 429
    assert words in json.loads(body)["error"]["message"]
    assert json.loads(body)["type"] == "error"  # Anthropic's form
    assert words in entry["response"]["error"]
    assert entry["response"]["success"] is False


def test_an_answer_that_breaks_off_breaks_off_for_the_agent(live: Live) -> None:
    with opened(live[0]) as agent:
        with pytest.raises((http.client.HTTPException, OSError)):
            agent.call("break")
        error = agent.session.take()["entries"][0]["response"]["error"]
    assert error.startswith("the model's answer broke off")


def test_what_goes_wrong_with_the_model_is_an_answer_in_the_form_of_the_api(
    live: Live, tmp_path: pathlib.Path
) -> None:
    with opened(live[0]) as agent:
        assert [agent.call(f"status {status}")[0] for status in (429, 500)] == [429, 500]
        entries = agent.session.take()["entries"]
    errors = [entry["response"]["error"] for entry in entries]
    assert errors == ["HTTP 429: as asked", "HTTP 500: as asked"]
    with door("http://127.0.0.1:9/v1", tmp_path, "live") as agent:
        status, body = agent.call("hello")
    assert status == 502
    assert json.loads(body)["error"]["code"] == "api_connection_error"


def test_a_stalled_stream_ends_with_its_agent(live: Live) -> None:
    with opened(live[0]) as agent:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "stall"}]})
        with socket.create_connection(("127.0.0.1", agent.port)) as line:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {agent.session.token}"
            line.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            assert b"200" in line.recv(100)
        while agent.session.take()["calls"] == 0:
            pass
    assert agent.port


def test_an_allowed_host_is_reached_through_the_same_door_however_long_a_temporary_folders_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("deep" * 30)))
    (tmp_path / ("deep" * 30)).mkdir()
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        run_gateway((), {}, Calling("live", str(tmp_path), is_delayed=False)) as address,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        hand_over(address, listener.fileno(), ("127.0.0.1", service.getsockname()[1]))
        with socket.create_connection(listener.getsockname()) as agent:
            agent.sendall(b"ping")
            other, _ = service.accept()
            with other:
                assert other.recv(10) == b"ping"
                other.sendall(b"pong")
                assert agent.recv(10) == b"pong"
                agent.shutdown(socket.SHUT_WR)
                assert other.recv(10) == b""
