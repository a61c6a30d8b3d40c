"""Which core a worker keeps to."""

import os

import pytest

from tracecore.batch import cores
from tracecore.batch.cores import Cores


def test_two_batches_share_no_core_while_another_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    # Numbers that no harness beside this test can claim: processes have ids of their own.
    numbers = [10_000 + os.getpid() * 2, 10_001 + os.getpid() * 2]
    monkeypatch.setattr(cores, "usable_cores", lambda: numbers)
    one, other = Cores(), Cores()
    assert [one.claim(), one.claim(), one.claim()] == [*numbers, None]
    assert other.claim() is None
    for core in numbers:
        one.release(core)
        assert other.claim() == core
    for core in numbers:
        other.release(core)


def test_a_core_that_everybody_wants_is_no_reason_to_fail() -> None:
    Cores().pin(0, None)
