"""Which core a worker keeps to."""

import os

import pytest

from tracecore.batch import crew
from tracecore.batch.crew import claim_core


def test_two_batches_share_no_core_while_another_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    # Numbers that no harness beside this test can claim: processes have ids of their own.
    numbers = [10_000 + os.getpid() * 2, 10_001 + os.getpid() * 2]
    monkeypatch.setattr(crew, "usable_cores", lambda: numbers)
    claims = [claim_core(), claim_core()]
    assert [claim[0] for claim in claims if claim] == numbers
    assert claim_core() is None
    for core, held in [claim for claim in claims if claim]:
        held.close()
        again = claim_core()
        assert again
        assert again[0] == core
        claims.append(again)  # else the next round would be given it again
    for _core, held in filter(None, claims):
        held.close()
