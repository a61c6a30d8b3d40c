"""The gateway as the harness sees it: a process that is there as long as the slice."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Final

from tracecore.errors import EngineError
from tracecore.gateway.models import Model, keys_of, read_models
from tracecore.gateway.session import REPLAY, Calling
from tracecore.record import as_dict
from tracecore.records import GatewayAddress, JsonObject

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
