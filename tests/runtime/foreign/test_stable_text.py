import os
import traceback

import pytest

from tracecore.runtime.foreign.stable_text import PACKAGE_FOLDER, describe_error, without_places

HERE = [("/home/a b/agents", ""), ("/srv/tasks/world", "world@1")]


@pytest.mark.parametrize(
    ("text", "stable"),
    [
        ("open /home/a b/agents/words.txt", "open words.txt"),
        ("in '/home/a b/agents'", "in '.'"),
        ("/srv/tasks/world/setup.py:3", "world@1/setup.py:3"),
        ("/srv/tasks/world", "world@1"),
        ("(--/srv/tasks/world/x)", "(--world@1/x)"),
        # other folders whose names begin or end alike
        ("/srv/tasks/worlds/x", "/srv/tasks/worlds/x"),
        ("/mnt/srv/tasks/world/x", "/mnt/srv/tasks/world/x"),
        ("/home/a b/agents-old/x", "/home/a b/agents-old/x"),
        (f"{PACKAGE_FOLDER}/canon.py", "tracecore/canon.py"),
        (f"File {traceback.__file__}", "File lib/traceback.py"),
        ("no path at all", "no path at all"),
    ],
)
def test_paths_of_this_machine_go_by_what_stands_for_them(text: str, stable: str) -> None:
    assert without_places(text, HERE) == stable


def test_a_folder_is_known_by_its_real_name_and_by_its_repr_too(tmp_path) -> None:
    real = tmp_path / "it's real\\"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    places = [(str(link), "")]
    for path in (link / "x", real / "x"):
        assert without_places(f"open {path}", places) == "open x"
        assert without_places(repr(str(path)), places).strip("'\"") == "x"


def test_the_root_stands_for_nothing() -> None:
    assert without_places("open /app/x", [("/", "")]) == "open /app/x"


def test_an_error_is_described_whatever_its_class_does() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert describe_error(Odd(), []) == ("Odd", "(its message cannot be read)")
    missing = FileNotFoundError(2, "No such file", "/srv/tasks/world/" + "d" * 600)
    kind, message = describe_error(missing, HERE)
    assert kind == "FileNotFoundError"
    assert message.startswith("[Errno 2] No such file: 'world@1/ddd")
    assert len(message) == 500
    assert os.sep in message
