"""The gateway as episodes and workers see it. Imports little: workers are forked from."""

import json
import socket
from collections.abc import Sequence
from typing import Any

from tracecore import frames
from tracecore.errors import EngineError
from tracecore.record import as_dict
from tracecore.records import GatewayAddress, JsonObject, ModelLimits


class GatewayError(Exception):
    """The gateway has refused, in words, or is gone."""


class SessionLine:
    """The session of an episode, open until it is closed.

    Args:
        address: Of the gateway.
        episode: Its ``agent`` and ``task_ref``, as referenced, and its ``seed``.
        limits: What it may use.

    Attributes:
        token: By which the agent's calls are known from those of others.

    Raises:
        GatewayError: The gateway has no recording of the episode, or is gone.
    """

    def __init__(self, address: GatewayAddress, episode: JsonObject, limits: ModelLimits) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._line.connect(address.control)
            request = {"secret": address.secret, "do": "open", **episode}
            self.token: str = self._ask({**request, "limits": as_dict(limits)})["token"]
        except OSError as error:
            self._line.close()
            raise GatewayError(f"the model gateway is gone: {error.strerror}") from error
        except GatewayError:
            self._line.close()
            raise

    def take(self) -> JsonObject:
        """The calls since the last time as ``entries`` of an llm_trace, ``calls``, ``bytes`` and
        ``wait_s`` of all, and ``failure``.

        Raises:
            GatewayError: The gateway is gone.
        """
        return self._ask({"do": "take"})

    def close(self) -> None:
        """End the session; its recording is written where one is asked for.

        Raises:
            GatewayError: It could not be written.
        """
        try:
            self._ask({"do": "close"})
        finally:
            self._line.close()

    def _ask(self, request: JsonObject) -> JsonObject:
        fd = self._line.fileno()
        try:
            frames.write_message(fd, json.dumps(request).encode("ascii"))
            answer: JsonObject = json.loads(frames.read_message(fd))
        except (OSError, frames.ChannelClosed) as error:
            raise GatewayError("the model gateway is gone") from error
        if "error" in answer:
            raise GatewayError(answer["error"])
        return answer


def hand_over(
    address: GatewayAddress, listener_fd: int, relay_to: Sequence[Any] | None = None
) -> None:
    """Give the gateway a listening socket: for models, or for one host and port.

    Raises:
        EngineError: The gateway is gone.
    """
    request: dict[str, Any] = {"secret": address.secret, "do": "listen", "relay": relay_to}
    message = frames.pack(json.dumps(request).encode("ascii"))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(address.control)
            socket.send_fds(line, [message], [listener_fd])
            frames.read_message(line.fileno())
    except (OSError, frames.ChannelClosed) as error:
        raise EngineError("the model gateway is gone") from error


def environment_of(
    models: tuple[tuple[str, str, str], ...], address: str, token: str
) -> dict[str, str]:
    """What an agent finds in its environment: for each model an address and a token.

    Args:
        models: Name, and the variables for address and token.
        address: ``host:port`` at which the agent reaches the gateway.
        token: Of its episode.
    """
    found: dict[str, str] = {}
    for name, base_url_env, api_key_env in models:
        found[base_url_env] = f"http://{address}/{name}"
        found[api_key_env] = token
    return found
