import json
import os
import stat
import zipfile

import pytest
from helpers.rows import as_series
from helpers.tables import rows
from hypothesis import given
from hypothesis import strategies as st

from tracecore.errors import InputError
from tracecore.perf.documents import archive
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.documents.files import DOCUMENTS
from tracecore.perf.documents.rows import series_chunks

STAMP = "20260131T120000Z"


ROW = {"agent": "agents/toy_agent.py", "task_ref": "filesystem_hidden_config@1", "seed": 42}
MANIFEST = {"episodes": 3, "workers": 2, "strict_spec": False, "scenario": [ROW]}
SUMMARY = {"episodes": 3, "success_count": 3, "failure_count": 0, "summary": {}}


def documents(make_row):
    return {
        "manifest": json.dumps(MANIFEST).encode(),
        "summary": json.dumps(SUMMARY).encode(),
        "metrics": b"[]",
        "series": b"".join(series_chunks(make_row(index) for index in range(3))),
    }


def write_files(folder, content, stamp=STAMP):
    folder.mkdir(exist_ok=True)
    for kind, data in content.items():
        (folder / f"perf-{kind}-{stamp}.json").write_bytes(data)
    return str(folder / f"perf-summary-{stamp}.json")


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as bundle:
        for name, data in members:
            bundle.writestr(name, data)
    return str(path)


def named(content, stamp=STAMP):
    return [(f"perf-{kind}-{stamp}.json", data) for kind, data in content.items()]


@pytest.fixture
def content(make_row):
    return documents(make_row)


def complaint(path, *, series=False):
    with pytest.raises(InputError) as raised:
        read_all(path) if series else read_sets(path)
    return str(raised.value)


def complaint_of(tmp_path, content, kind, data):
    """The complaint about a set, of which one document has other bytes."""
    line = complaint(
        write_files(tmp_path / "files", {**content, kind: data}), series=kind == "series"
    )
    assert f"perf-{kind}-{STAMP}.json" in line
    return line


def read_all(path):
    return [list(one.series()) for one in read_sets(path)]


def test_a_summary_a_zip_and_a_folder_give_the_same_set(tmp_path, content, make_row):
    summary = write_files(tmp_path / "files", content)
    bundle = write_zip(tmp_path / "any-name.zip", named(content))
    for path in (summary, bundle, str(tmp_path / "files")):
        (one,) = read_sets(path)
        assert (one.stamp, one.manifest["workers"], one.summary["episodes"]) == (STAMP, 2, 3)
        assert one.metrics == []
        assert list(one.series()) == [make_row(index) for index in range(3)]


def test_a_folder_holds_several_sets_and_a_zip_beside_its_files_counts_once(tmp_path, content):
    folder = tmp_path / "perf"
    write_files(folder, content, "b")
    write_zip(folder / "perf-artifacts-b.zip", named(content, "b"))
    write_zip(folder / "perf-artifacts-a.zip", named(content, "a"))
    (folder / ".perf-journal-c.jsonl").write_text("not read")
    assert [(one.stamp, os.path.basename(one.path)) for one in read_sets(str(folder))] == [
        ("a", "perf-artifacts-a.zip"),
        ("b", "perf"),
    ]


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_missing_document_is_named(tmp_path, content, kind):
    write_files(tmp_path / "files", content)
    (tmp_path / "files" / f"perf-{kind}-{STAMP}.json").unlink()
    assert f"perf-{kind}-{STAMP}.json: found" in complaint(str(tmp_path / "files"), series=True)
    bundle = write_zip(
        tmp_path / "z.zip", [member for member in named(content) if kind not in member[0]]
    )
    assert f"z.zip: perf-{kind}-<stamp>.json: found nothing" in complaint(bundle)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{place}perf-series-{STAMP}.json" for place in ("../", "/", "a/")),
        *("evil.sh", f"perf-series-{STAMP}.json\n", "perf-series-.json"),
        f"perf-report-{STAMP}.json",
    ],
)
def test_a_zip_with_any_other_member_is_refused(tmp_path, content, name):
    for members in ([*named(content), (name, b"[]")], [(name, b"[]"), *named(content)]):
        assert "member: found" in complaint(write_zip(tmp_path / "z.zip", members))


def test_a_zip_with_a_member_twice_or_of_another_stamp_is_refused(tmp_path, content):
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = write_zip(tmp_path / "twice.zip", [*named(content), named(content)[0]])
    assert "each once" in complaint(twice)
    mixed = [*named(content)[:3], *named(content, "other")[3:]]
    assert "one stamp" in complaint(write_zip(tmp_path / "mixed.zip", mixed))


def test_a_zip_of_a_link_an_odd_compression_or_a_password_is_refused(tmp_path, content):
    members = named(content)
    link = zipfile.ZipInfo(members[0][0])
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "a link" in complaint(
        write_zip(tmp_path / "link.zip", [(link, b"/etc/passwd"), *members[1:]])
    )
    assert "compression" in complaint(write_zip(tmp_path / "bz.zip", members, zipfile.ZIP_BZIP2))
    data = bytearray((tmp_path / "bz.zip").read_bytes().replace(b"\x0c\x00", b"\x08\x00"))
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    assert "encrypted" in complaint(str(tmp_path / "locked.zip"))


def test_a_zip_of_very_many_members_is_not_even_listed(tmp_path):
    path = tmp_path / "many.zip"
    write_zip(path, [(f"{number:060}", b"") for number in range(12_000)], zipfile.ZIP_STORED)
    assert "far too long" in complaint(str(path))


def test_what_is_larger_than_its_bound_is_not_read(tmp_path, content, monkeypatch):
    bomb = {**content, "metrics": b"[" + b" " * 50_000_000 + b"]"}
    assert "50000002 bytes out of" in complaint(write_zip(tmp_path / "z.zip", named(bomb)))
    monkeypatch.setattr(archive, "MAX_ROW_BYTES", 100_000)
    row = {**json.loads(content["series"])[0], "error": "x" * 1_000_000}
    assert "a longer line" in complaint_of(tmp_path, content, "series", as_series([row]))
    monkeypatch.setattr(archive, "MAX_DOCUMENT_BYTES", 1000)
    large = {**content, "metrics": b"[" + os.urandom(5000).hex().encode() + b"]"}
    assert "more than 1000 bytes" in complaint(write_zip(tmp_path / "z.zip", named(large)))


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        *rows("""
    summary  | {"episodes": 3, "episodes": 4} | episodes: found 'this key twice'
    summary  | {"episodes": NaN}              | found 'NaN'
    summary  | {"episodes": 1e999}            | found '1e999'
    summary  | {"episodes": 3                 | valid JSON
    summary  | []                             | an object
    summary  | {"episodes": "3"}              | episodes: found '3', expected a whole number
    summary  | {"episodes": true}             | episodes: found True, expected a whole number
    metrics  | [1]                            | [0]: found 1, expected an object
    metrics  | {}                             | a list of objects
        """),
        ("summary", "[" * 100_000, "very deep nesting"),
        ("summary", '{"episodes": 1' + "0" * 5000 + "}", "thousands of digits"),
    ],
)
def test_a_damaged_document_is_refused_by_file_and_field(tmp_path, content, kind, text, words):
    assert words in complaint_of(tmp_path, content, kind, text.encode())


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    rows("""
    summary  | {"success_count": 1}               | the sum of
    summary  | {"episodes_requested": "all"}      | episodes_requested: found 'all', expected a
    summary  | {"interrupted": "no"}              | interrupted: found 'no', expected true or false
    summary  | {"run_artifacts": "x"}             | run_artifacts: found 'x', expected an object
    summary  | {"run_artifacts": {"root": true}}  | run_artifacts.root: found True
    summary  | {"summary": {"workers": "2"}}      | summary.workers: found '2'
    summary  | {"verdict": {"exit_codes": [null]}} | verdict.exit_codes: found [None]
    summary  | {"failure_reasons": {"a": -1}}     | failure_reasons: found {'a': -1}
    manifest | {"strict_spec": 0}                 | strict_spec: found 0
    manifest | {"scenario": []}                   | scenario: found []
    manifest | {"scenario": [{}]}                 | scenario[0].agent: found nothing
    manifest | {"scenario": [{"agent": "a", "task_ref": "t@1", "seed": 0, "task_hash": ["x"]}]} \
| scenario[0].task_hash: found ['x']
    manifest | {"runtime_identity": {"git_sha": [1]}} | git_sha: found [1], expected text or null
    manifest | {"runtime_identity": {"version": {}}}  | runtime_identity.version: found {}
    manifest | {"host": {"git_sha": {}}}          | host.git_sha: found {}
    manifest | {"parts": [{}]}                    | parts[0].began_at: found nothing
    manifest | {"stamp": 7}                       | stamp: found 7, expected text
    """),
)
def test_a_fact_of_the_wrong_kind_is_refused_by_file_and_field(
    tmp_path, content, kind, change, words
):
    document = {**json.loads(content[kind]), **json.loads(change)}
    assert words in complaint_of(tmp_path, content, kind, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("field", "value", "words"),
    rows("""
    wall_clock_s  | -1            | [1].wall_clock_s: found -1
    wall_clock_s  | "fast"        | [1].wall_clock_s: found 'fast'
    success       | 1             | [1].success: found 1, expected true or false
    seed          | 1.5           | [1].seed: found 1.5
    episode_index | 0             | [1].episode_index: found 0, expected more than 0
    trace_hash    | 7             | [1].trace_hash: found 7
    cpu_user_s    | null          | [1].cpu_user_s: found None
    steps_budget  | {}            | [1].steps_budget: found {}
    allow         | {"read": "x"} | [1].allow.read: found 'x'
    """),
)
def test_a_row_that_cannot_be_is_refused_by_place_and_field(tmp_path, content, field, value, words):
    series = json.loads(content["series"])
    series[1][field] = json.loads(value)
    assert words in complaint_of(tmp_path, content, "series", as_series(series))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.replace(b'"seed": 43', b'"seed": NaN'), "[1]: found 'NaN'"),
        (lambda data: data.replace(b'"seed": 43', b'"seed": 4, "seed": 4'), "'this key twice'"),
        (lambda data: data[:-20], "a row on every line"),
        (lambda data: data + b"[]", "nothing behind the list"),
        (lambda data: data.replace(b"},", b"}", 1), "nothing behind the list"),
        (lambda data: data[:-2], "nothing behind the list but its end"),
        (lambda data: data.replace(b"toy", b"t\xffy", 1), "UTF-8"),
        (lambda _: b"[]\n", "0 rows"),
        (lambda _: b"", "found nothing"),
        (lambda _: b"[\n1\n]\n", "an object"),
        (lambda _: b"{}", "a row on every line"),
        (lambda data: data[:-3] + b',\n{"episode_index": 9}\n]\n', "a further row"),
    ],
)
def test_a_damaged_series_is_refused(tmp_path, content, change, words):
    assert words in complaint_of(tmp_path, content, "series", change(content["series"]))


def test_a_zip_whose_series_is_torn_is_refused_by_name(tmp_path, content):
    path = write_zip(tmp_path / "z.zip", named(content), zipfile.ZIP_STORED)
    data = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(data.replace(b'"seed": 43', b'"seed": 44', 1))
    assert "perf-series" in complaint(path, series=True)
    (tmp_path / "z.zip").write_bytes(data[: len(data) // 2])
    assert "z.zip" in complaint(path)


@pytest.mark.parametrize("name", ["nothing-here", "perf-series-x.json", "other.json", "a\0b"])
def test_what_is_no_set_is_refused_by_name(tmp_path, content, name):
    assert "no perf files" in complaint(str(tmp_path))
    if name.endswith("json"):
        (tmp_path / name).write_text("{}")
    assert name.replace("\0", "\\x00") in complaint(str(tmp_path / name))
    summary = write_files(tmp_path / "files", content)
    series = tmp_path / "files" / f"perf-series-{STAMP}.json"
    series.unlink()
    os.mkfifo(series)
    assert "no regular file" in complaint(summary, series=True)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_set_or_an_input_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "z.zip"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_sets(str(path))


@given(text=st.text(alphabet='[]{},:"0eE.-n \\u', max_size=40))
def test_any_text_is_a_series_or_an_input_error(tmp_path_factory, make_row, text):
    content = {**documents(make_row), "series": text.encode()}
    with pytest.raises(InputError):
        read_all(write_files(tmp_path_factory.mktemp("any") / "files", content))
