import pathlib
from collections.abc import Callable

import pytest
from helpers.folders import write_task

MakeTask = Callable[..., pathlib.Path]


@pytest.fixture
def make_task(tmp_path: pathlib.Path) -> MakeTask:
    """Write a task's folder below the test's own, and give it back."""

    def make(
        task_id: str = "world",
        files: dict[str, str | bytes] | None = None,
        *,
        under: str = "tasks_dir",
        **options: object,
    ) -> pathlib.Path:
        return write_task(tmp_path / under / task_id, files, **options)

    return make
