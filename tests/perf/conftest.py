from collections.abc import Callable

import pytest
from helpers import rows

from tracecore.records import EpisodeResult


@pytest.fixture(scope="session")
def make_row() -> Callable[..., EpisodeResult]:
    return rows.make_row
