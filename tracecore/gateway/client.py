"""The gateway as other processes see it: started by the harness, asked by episodes."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final

from tracecore import frames
from tracecore.errors import EngineError
from tracecore.gateway.models import Model, keys_of, read_models
from tracecore.gateway.recordings import EpisodeKey
from tracecore.gateway.session import REPLAY, Calling
from tracecore.record import as_dict
from tracecore.records import GatewayAddress, JsonObject, ModelLimits

PACKAGE_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLOSE_PATIENCE_S: Final = 5.0


@contextlib.contextmanager
def open_gateway(path: str | None, calling: Calling) -> Iterator[GatewayAddress]:
    """A gateway to the models of a file, and to what agents are allowed to reach; to that alone
    where no file is given.

    Raises:
        InputError: The file is wrong, or a key that it names is not set.
        EngineError: The gateway could not be started.
    """
    models = () if path is None else read_models(path)
    # Replay needs no key, and so reads none.
    keys = {} if calling.mode == REPLAY else keys_of(models, os.environ, path or "")
    with run_gateway(models, keys, calling) as address:
        yield address


@contextlib.contextmanager
def run_gateway(
    models: tuple[Model, ...], keys: dict[str, str | None], calling: Calling
) -> Iterator[GatewayAddress]:
    """A gateway in a process of its own, until the end of the ``with`` block.

    Raises:
        EngineError: It could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="tracecore-gateway-") as folder:
        address = GatewayAddress(
            os.path.join(folder, "control"),
            secrets.token_hex(16),
            tuple((model.name, model.base_url_env, model.api_key_env) for model in models),
        )
        setup = {
            "control": address.control,
            "secret": address.secret,
            "models": [as_dict(model) for model in models],
            "keys": keys,
            "calling": as_dict(calling),
        }
        process = _start(setup)
        try:
            yield address
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(CLOSE_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(setup: JsonObject) -> "subprocess.Popen[bytes]":
    code = (
        f"import sys; sys.path[:0] = [{PACKAGE_ROOT!r}];"
        " from tracecore.gateway.server import serve; serve()"
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the harness's to hear
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout as answers:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(setup).encode("ascii") + b"\n")
            process.stdin.flush()
        if answers.readline() != b"ready\n":
            process.stdin.close()
            raise EngineError(f"the model gateway did not start: exit code {process.wait()}")
    return process


class GatewayError(Exception):
    """The gateway has refused, in words, or is gone."""


class SessionLine:
    """The session of an episode, open until it is closed.

    Attributes:
        token: By which the agent's calls are told from those of others.

    Raises:
        GatewayError: The gateway has no recording of the episode, or is gone.
    """

    def __init__(self, address: GatewayAddress, key: EpisodeKey, limits: ModelLimits) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._line.connect(address.control)
            request = {"secret": address.secret, "do": "open", **as_dict(key)}
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

    def close(self, *, keep: bool) -> None:
        """End the session; with ``keep``, its recording is written where one is asked for.

        Raises:
            GatewayError: It could not be written.
        """
        try:
            if keep:
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
    address: GatewayAddress, listener_fd: int, relay_to: tuple[str, int] | None = None
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
