from tracecore.perf.documents.losses import Losses
from tracecore.record import replace


def kept(tmp_path, row):
    data = b'{"artifact_hash":"%b"}' % row.artifact_hash.encode()
    (tmp_path / row.artifact).write_bytes(data)
    return replace(row, artifact_bytes=len(data))


def test_one_that_has_vanished_is_named_and_its_row_has_none(tmp_path, make_row):
    rows = [kept(tmp_path, make_row(0)), make_row(1, artifact=None)]
    losses = Losses(str(tmp_path))
    assert list(losses.check(rows)) == rows
    assert losses.sentence([]) is None
    assert list(losses.check([make_row(2)])) == [make_row(2, artifact=None)]
    assert losses.sentence([]) == f"1 run artifacts have vanished: {make_row(2).artifact}"


def test_one_that_was_cut_or_replaced_is_named(tmp_path, make_row):
    rows = [kept(tmp_path, make_row(n)) for n in range(6)]
    for row in rows[:5]:
        path = tmp_path / row.artifact
        path.write_bytes(path.read_bytes()[:-1] if row is rows[0] else b"x" * row.artifact_bytes)
    losses = Losses(str(tmp_path))
    assert list(losses.check(rows)) == rows
    sentence = losses.sentence([])
    assert sentence.startswith("5 run artifacts are not as they were written: ")
    assert sentence.endswith(f"{rows[2].artifact} and 2 more")


def test_rows_that_could_not_be_read_are_named_by_their_episodes(make_row):
    losses = Losses(None)
    assert list(losses.check([make_row(0)])) == [make_row(0)]
    assert losses.sentence([3, 8]) == "2 rows of the journal are damaged: episode 4, episode 9"
