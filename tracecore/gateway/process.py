"""The gateway as the harness sees it: a process that is there as long as the slice."""

import contextlib
import os
import secrets
import select
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Final

from tracecore import descendants, processes
from tracecore.errors import EngineError
from tracecore.gateway.models import Model, keys_of, read_models
from tracecore.gateway.session import REPLAY, Calling
from tracecore.records import GatewayAddress

CLOSE_PATIENCE_S: Final = 5.0
FOLDER_BYTES_MOST: Final = 64  # a socket's name has 107 bytes at the most
CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # whom it trusts, where that was set


def open_gateway(
    path: str | None, calling: Calling
) -> contextlib.AbstractContextManager[GatewayAddress]:
    """A gateway to the models of a file, and to what agents are allowed to reach; to that alone
    where no file is given.

    Raises:
        InputError: The file is wrong, or a key that it names is not set.
        EngineError: The gateway could not be started.
    """
    models = () if path is None else read_models(path)
    # Replay needs no key, and so reads none.
    keys = {} if calling.mode == REPLAY else keys_of(models, os.environ, path or "")
    return run_gateway(models, keys, calling)


@contextlib.contextmanager
def run_gateway(
    models: tuple[Model, ...], keys: dict[str, str | None], calling: Calling
) -> Iterator[GatewayAddress]:
    """A gateway in a process of its own, until the end of the ``with`` block.

    Raises:
        EngineError: It could not be started.
    """
    is_long = len(os.fsencode(tempfile.gettempdir())) > FOLDER_BYTES_MOST
    place = "/tmp" if is_long else None  # noqa: S108  (for a new folder, which is ours alone)
    with tempfile.TemporaryDirectory(prefix="tracecore-gateway-", dir=place) as folder:
        address = GatewayAddress(
            os.path.join(folder, "control"),
            secrets.token_hex(16),
            tuple((model.name, model.base_url_env, model.api_key_env) for model in models),
        )
        setup = {
            "control": address.control,
            "secret": address.secret,
            "models": models,
            "keys": keys,
            "calling": calling,
            "environment": {name: os.environ[name] for name in CERTIFICATES if name in os.environ},
        }
        leash_r, leash_w = os.pipe()
        ready_r, ready_w = os.pipe()
        ready = select.poll()
        ready.register(ready_r, select.POLLIN)
        with open(ready_r, "rb", 0) as ready_pipe, open(leash_w, "wb", 0) as leash:
            pid = _start(setup, leash_r, ready_w)
            try:
                if not ready_pipe.read(1):
                    raise EngineError("the model gateway did not start")
                yield address
            finally:
                leash.close()
                if not ready.poll(CLOSE_PATIENCE_S * 1000):  # its end closes that, too
                    descendants.kill_group(pid)
                os.waitpid(pid, 0)


def _start(setup: dict[str, Any], leash_r: int, ready_w: int) -> int:
    fds = (leash_r, ready_w)
    try:
        return processes.spawn(_serve, (setup, *fds), keep_fds=fds, errors=True)
    except OSError as error:
        raise EngineError(f"the model gateway did not start: {error}") from error
    finally:
        for fd in fds:
            os.close(fd)


def _serve(setup: dict[str, Any], leash_r: int, ready_w: int) -> None:
    os.environ.update(setup["environment"])
    from tracecore.gateway.server import serve  # noqa: PLC0415 - brings asyncio

    try:
        serve(setup, leash_r, ready_w)
    finally:
        # Of a harness that was killed, which cannot remove it.
        shutil.rmtree(os.path.dirname(setup["control"]), ignore_errors=True)
