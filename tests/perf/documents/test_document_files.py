import json
import multiprocessing
import os
import resource
import stat
import zipfile

import pytest

from tracecore.errors import OptionError, OutputError
from tracecore.files import write_atomic_stream
from tracecore.perf.documents import files
from tracecore.perf.documents import files as bundle_module
from tracecore.perf.documents.files import (
    check_writable,
    file_names,
    reserve_stamp,
    write_documents,
    write_series,
)
from tracecore.perf.slice.journal import create_journal
from tracecore.perf.slice.journal_file import journal_path

STAMP = "20260131T235959Z"
EPOCH_S = 1769903999.9  # of STAMP, and most of a second


def write_slice(folder, *, compress=True, **changes):
    write_series(str(folder), STAMP, [b"[\n", b'{"episode": 1}', b"\n]\n"])
    documents = {
        "manifest": {"episodes": 1},
        "summary": {"reason": "é\ud800"},
        "metrics": [{"run_count": 1}],
        **changes,
    }
    return write_documents(str(folder), STAMP, compress=compress, **documents)


def test_a_stamp_is_the_utc_second_and_two_slices_in_one_take_two(tmp_path):
    first = reserve_stamp(str(tmp_path), epoch_s=EPOCH_S)
    assert os.listdir(tmp_path) == [os.path.basename(journal_path("", STAMP))]
    stamps = [first, *(reserve_stamp(str(tmp_path), epoch_s=EPOCH_S) for _ in range(2))]
    assert stamps == [STAMP, "20260201T000000Z", "20260201T000001Z"]
    now = reserve_stamp(str(tmp_path))
    assert (len(now), now[8], now[15]) == (16, "T", "Z")


def test_the_journal_takes_the_reservation_over(tmp_path):
    path = journal_path(str(tmp_path), reserve_stamp(str(tmp_path), epoch_s=EPOCH_S))
    create_journal(path, {}, 1).remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["manifest", "series", "bundle"])
def test_the_stamp_of_a_finished_slice_is_taken_and_no_reservation_stays(tmp_path, kind):
    (tmp_path / file_names(STAMP, compress=True)[kind]).touch()
    assert reserve_stamp(str(tmp_path), epoch_s=EPOCH_S) == "20260201T000000Z"
    assert not os.path.exists(journal_path(str(tmp_path), STAMP))


def reserve_many(folder, results):
    results.send([reserve_stamp(folder, epoch_s=EPOCH_S) for _ in range(25)])


def test_processes_that_start_together_never_share_a_stamp(tmp_path):
    processes = [in_a_process(reserve_many, str(tmp_path)) for _ in range(4)]
    assert len({stamp for answer in processes for stamp in answer()}) == 100


def in_a_process(function, *arguments):
    """Begin it in a process of its own; gives what waits for its answer."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(*arguments, theirs))
    process.start()
    theirs.close()

    def answer():
        found = ours.recv()
        process.join()
        ours.close()
        return found

    return answer


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    with pytest.raises(
        OptionError, match="none: found 'No such file or directory', expected a folder"
    ):
        reserve_stamp(str(tmp_path / "none"))


def test_the_manifest_lists_the_files_and_the_bundle_only_where_there_is_one(tmp_path):
    names = {kind: f"perf-{kind}-{STAMP}.json" for kind in files.DOCUMENTS}
    plain = write_slice(tmp_path, compress=False)
    assert plain == {kind: str(tmp_path / name) for kind, name in names.items()}
    assert sorted(os.listdir(tmp_path)) == sorted(names.values())
    manifest = json.loads((tmp_path / names["manifest"]).read_bytes())
    assert manifest == {"episodes": 1, "artifact_set": names}
    summary = (tmp_path / names["summary"]).read_bytes()
    assert json.loads(summary) == {"reason": "é\ud800"}
    assert (summary[:4], summary[-2:]) == (b"{\n  ", b"}\n")
    write_slice(tmp_path, summary={"second": True})
    bundled = json.loads((tmp_path / names["manifest"]).read_bytes())
    assert bundled == {**manifest, "bundle": f"perf-artifacts-{STAMP}.zip"}
    assert json.loads((tmp_path / names["summary"]).read_bytes()) == {"second": True}


def test_the_same_documents_make_the_same_zip_of_the_four_byte_for_byte(tmp_path):
    zips = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = write_slice(tmp_path / name)
        with open(paths["bundle"], "rb") as file:
            zips.append(file.read())
        with zipfile.ZipFile(paths["bundle"]) as bundle:
            assert bundle.testzip() is None
            assert [member.filename for member in bundle.infolist()] == [
                os.path.basename(paths[kind]) for kind in files.DOCUMENTS
            ]
            for member in bundle.infolist():
                assert bundle.read(member) == (tmp_path / name / member.filename).read_bytes()
                assert member.external_attr >> 16 == 0o644
    assert zips[0] == zips[1]


@pytest.mark.parametrize("offset", [0, 75, 90])
def test_a_zip_that_comes_back_damaged_is_not_published(tmp_path, monkeypatch, offset):
    def add_and_damage(bundle, name, path):
        add_member(bundle, name, path)
        bundle.fp.flush()
        os.pwrite(bundle.fp.fileno(), b"\xff\xff\xff\xff", offset)

    add_member = bundle_module._add_member
    monkeypatch.setattr(bundle_module, "_add_member", add_and_damage)
    with pytest.raises(OutputError, match="damaged"):
        write_slice(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if ".zip" in name]


def test_a_nan_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_slice(tmp_path, summary={"rate": float("nan")})
    assert f"perf-summary-{STAMP}.json" not in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def run_out_of_space(folder, write, results):
    """In a process of its own, because the limit stays: no file may grow beyond 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        write(folder)
    except OutputError as error:
        results.send(str(error))
    results.close()


def write_long_series(folder):
    write_series(folder, STAMP, (b"x" * 100 for _ in range(10_000)))


def write_long_bundle(folder):
    for kind in files.DOCUMENTS:
        with open(os.path.join(folder, file_names(STAMP, compress=False)[kind]), "wb") as file:
            file.write(os.urandom(60_000))
    members = {
        name: os.path.join(folder, name) for name in file_names(STAMP, compress=False).values()
    }
    files.fill_atomic(
        os.path.join(folder, "bundle.zip"), lambda fd: bundle_module.fill_bundle(fd, members)
    )


@pytest.mark.parametrize(
    ("write", "missing"),
    [(write_long_series, f"perf-series-{STAMP}.json"), (write_long_bundle, "bundle.zip")],
)
def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, write, missing):
    assert "File too large" in in_a_process(run_out_of_space, str(tmp_path), write)()
    assert missing not in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_a_long_stream_arrives_whole(tmp_path):
    chunks = [os.urandom(size) for size in (1, 100_000, 0, 7, 65_536, 300_000)]
    path = tmp_path / "stream"
    write_atomic_stream(str(path), iter(chunks))
    assert path.read_bytes() == b"".join(chunks)
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("name", ["file", "file/below", "nul\0"])
def test_what_cannot_be_a_folder_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(
        OptionError, match="expected a folder in which files can be written, linked and renamed"
    ):
        check_writable(str(tmp_path / name))


def test_folders_made_before_one_that_fails_are_gone_again(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="file/below: found"):
        check_writable(f"{tmp_path}/a/b/", f"{tmp_path}/old/c", f"{tmp_path}/file/below")
    assert sorted(os.listdir(tmp_path)) == ["file", "old"]
    assert os.listdir(tmp_path / "old") == []


@pytest.mark.parametrize("call", ["write", "link", "replace"])
def test_a_folder_that_refuses_one_of_the_three_is_named_and_left_clean(
    tmp_path, monkeypatch, call
):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OptionError, match="found 'Read-only file system'"):
            check_writable(str(tmp_path))
    assert os.listdir(tmp_path) == []
