"""The gateway of a slice or an episode, where its agents may call models or reach hosts."""

import contextlib
import os

from tracecore.command_line.options import require_packages
from tracecore.errors import OptionError
from tracecore.perf.slice.options import RunOptions
from tracecore.records import GatewayAddress


def reach_models(
    options: RunOptions, *, reaches_hosts: bool
) -> contextlib.AbstractContextManager[GatewayAddress | None]:
    """A gateway until the end of the ``with`` block; ``None`` where nothing is to be reached.

    Args:
        options: Which models, and how they are called.
        reaches_hosts: Whether an agent may reach a host and port.

    Raises:
        InputError: The file of models, or an option that goes with it, is wrong.
        EngineError: The gateway could not be started.
    """
    if options.models is None and options.model_calls != "live":
        raise OptionError("--model-calls", "", options.model_calls, "--models with it")
    if options.models is None and not reaches_hosts:
        return contextlib.nullcontext()
    if options.models is not None:
        require_packages("--models", "aiohttp")
    from tracecore.gateway.process import open_gateway  # noqa: PLC0415
    from tracecore.gateway.session import Calling  # noqa: PLC0415

    calling = Calling(
        mode=options.model_calls,
        recordings=os.path.abspath(options.recordings),
        is_delayed=options.model_delay == "recorded",
    )
    return open_gateway(options.models, calling)
