"""``tracecore check-task``: a line for each thing that is wrong, and an exit code."""

import pathlib

import pytest
from helpers.faults import PLAIN_TASK

from tracecore.__main__ import main


def test_each_folder_is_checked_and_the_gravest_exit_code_left(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert main(["check-task", str(nowhere), str(PLAIN_TASK)]) == 2
    said = capsys.readouterr()
    assert f"{nowhere}: found 'No such file or directory'" in said.err
    lines = said.out.splitlines()
    assert all(line.startswith(f"{PLAIN_TASK}: ") for line in lines)
    assert any("look has no annotation for path" in line for line in lines)
    assert main(["check-task", str(PLAIN_TASK)]) == 1
    assert capsys.readouterr().err == ""


def test_a_folder_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-task"]) == 2
    assert "required: DIR" in capsys.readouterr().err
