import os
import pathlib
import shutil
from collections.abc import Callable

import pytest

from tracecore.errors import TaskError
from tracecore.runtime.task.folder import hash_folder, read_folder

MakeTask = Callable[..., pathlib.Path]


def test_the_same_files_have_the_same_hash_wherever_they_lie(
    make_task: MakeTask, tmp_path: pathlib.Path
) -> None:
    folder = make_task(files={"data/b.txt": "b", "data/a.txt": "a"})
    shutil.copytree(folder, tmp_path / "copy")
    assert hash_folder(str(folder)) == hash_folder(str(tmp_path / "copy"))
    assert hash_folder(str(folder)).startswith("sha256:")
    assert len(hash_folder(str(folder))) == 71


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "actions.py").write_text("x = 1"),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "data.txt").rename(folder / "data.txu"),
        lambda folder: (folder / "data.txt").unlink(),
        lambda folder: (folder / ".hidden").touch(),
        lambda folder: (folder / os.fsdecode(b"not utf-8 \xff")).touch(),
    ],
)
def test_any_change_of_name_or_content_changes_the_hash(
    make_task: MakeTask, change: Callable[[pathlib.Path], object]
) -> None:
    folder = make_task(files={"data.txt": "1"})
    before = hash_folder(str(folder))
    change(folder)
    assert hash_folder(str(folder)) != before


def test_bytes_cannot_move_between_names_and_contents(tmp_path: pathlib.Path) -> None:
    folders = [{"ab": "c"}, {"a": "bc"}, {"a": "", "b": "c"}, {"a": "b", "c": ""}, {"a/b": "c"}]
    hashes = set()
    for number, files in enumerate(folders):
        for name, content in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        hashes.add(hash_folder(str(tmp_path / str(number))))
    assert len(hashes) == len(folders)


def test_bytecode_does_not_count(make_task: MakeTask) -> None:
    folder = make_task()
    before = hash_folder(str(folder))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "actions.cpython-311.pyc").write_bytes(b"x")
    (folder / "actions.pyc").write_bytes(b"x")
    assert hash_folder(str(folder)) == before


def test_manifest_and_python_are_kept_as_they_were_read(make_task: MakeTask) -> None:
    folder = make_task(files={"lib/x.py": "X = 1", "data.bin": b"\0"})
    kept = read_folder(str(folder)).kept
    assert sorted(kept) == ["actions.py", "lib/x.py", "setup.py", "task.toml", "validate.py"]
    assert kept["lib/x.py"] == b"X = 1"


def test_a_link_in_a_folder_or_to_it_counts_as_what_it_points_to(
    make_task: MakeTask, tmp_path: pathlib.Path
) -> None:
    folder = make_task(files={"data/a.txt": "a"})
    shutil.copytree(folder / "data", folder / "more")
    with_copy = hash_folder(str(folder))
    shutil.rmtree(folder / "more")
    (folder / "more").symlink_to("data")
    (tmp_path / "door").symlink_to(folder)
    assert hash_folder(str(folder)) == hash_folder(str(tmp_path / "door")) == with_copy


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/passwd", "leaves the task's folder"),
        ("..", "leaves the task's folder"),
        ("../world-2/x", "leaves the task's folder"),
        (".", "go in circles"),
        ("nothing", "No such file"),
        ("link", "No such file|symbolic links"),
    ],
)
def test_a_link_that_leaves_or_leads_nowhere_is_refused(
    make_task: MakeTask, target: str, words: str
) -> None:
    folder = make_task()
    make_task("world-2", files={"x": ""})
    (folder / "link").symlink_to(target)
    with pytest.raises(TaskError, match=words):
        hash_folder(str(folder))


def test_a_pipe_is_refused_rather_than_waited_for_and_a_missing_folder_named(
    make_task: MakeTask, tmp_path: pathlib.Path
) -> None:
    folder = make_task()
    os.mkfifo(folder / "pipe.py")
    with pytest.raises(TaskError, match=r"pipe\.py: found 'something that is no regular file'"):
        hash_folder(str(folder))
    with pytest.raises(TaskError, match="none: found 'No such file"):
        hash_folder(str(tmp_path / "none"))


def test_links_alone_are_followed_to_where_they_lead(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task(files={f"data/{number}.txt": "x" for number in range(20)})
    (folder / "link.txt").symlink_to("data/1.txt")
    resolved, realpath = [], os.path.realpath

    def count(path: str) -> str:
        resolved.append(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", count)
    hash_folder(str(folder))
    assert resolved == [str(folder), str(folder / "link.txt")]
