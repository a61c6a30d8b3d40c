import os
import pathlib
import subprocess

import pytest
from helpers.slices import commit_all

from tracecore.errors import OptionError, UsageError
from tracecore.perf.compare import worktrees
from tracecore.perf.compare.worktrees import clean_environment, two_sides


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    for number in range(2):
        (folder / "file").write_text(str(number))
        commit_all(folder, str(number))
    return folder


def test_a_commit_that_a_shallow_clone_lacks_is_refused_with_the_remedy(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{clone}", shallow], check=True)
    with (
        pytest.raises(OptionError, match="a shallow one: `git fetch --unshallow` brings"),
        two_sides(str(shallow), "HEAD~1"),
    ):
        pass
    with pytest.raises(OptionError) as caught, two_sides(str(clone), "nowhere"):
        pass
    assert "shallow" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_what_git_refuses_is_told_in_its_own_words_to_the_end(clone: pathlib.Path) -> None:
    os.chown(clone, 65534, 65534)
    os.chown(clone / ".git", 65534, 65534)
    with pytest.raises(UsageError) as caught, two_sides(str(clone), "main"):
        pass
    assert str(caught.value).endswith(f"git config --global --add safe.directory {clone}")


def test_a_place_that_cannot_hold_a_worktree_is_not_told_as_a_bad_commit(
    clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("")
    monkeypatch.setattr(worktrees.tempfile, "mkdtemp", lambda **_named: str(occupied))
    with (
        pytest.raises(UsageError, match=r"^--base: git worktree: .*occupied"),
        two_sides(str(clone), "main"),
    ):
        pass


def test_what_configures_git_is_passed_on_and_what_leads_it_elsewhere_is_not() -> None:
    configured = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_SSH": "ssh"}
    led_away = {"GIT_DIR": "/x", "GIT_INDEX_FILE": "/x", "GITHUB_OUTPUT": "/x"}
    assert clean_environment({**configured, **led_away, "PATH": "/bin"}) == {
        **configured,
        "PATH": "/bin",
    }
