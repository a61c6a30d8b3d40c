"""Which core a worker keeps to."""

from tracecore.batch.cores import Cores, usable_cores


def test_two_batches_share_no_core_while_another_is_free() -> None:
    one, other = Cores(), Cores()
    mine = [core for _ in usable_cores() if (core := one.claim()) is not None]
    assert len(set(mine)) == len(mine)
    assert other.claim() is None  # what is not ours, other harnesses have
    for core in mine:
        one.release(core)
        assert other.claim() == core
        other.release(core)


def test_a_core_that_everybody_wants_is_no_reason_to_fail() -> None:
    Cores().pin(0, None)
