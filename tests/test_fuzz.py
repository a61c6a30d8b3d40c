import importlib.util
import pathlib
from types import ModuleType

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "scripts" / "dev" / "fuzz_readers.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "target",
    ["message", "frames", "scenario.json", "scenario.toml", "manifest", "threshold", "journal"],
)
def test_a_reader_takes_or_refuses_whatever_it_is_fed(
    target: str, fuzz: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = fuzz.fuzz(target, seed=1, inputs=1500)
    assert counts["findings"] == 0, capsys.readouterr().out


def test_a_finding_is_told(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        fuzz, "open_target", lambda _name, _folder: (lambda data: data.decode("utf-8"), (b"\xff",))
    )
    assert fuzz.fuzz("message", seed=1, inputs=20)["findings"] > 0
    assert "UnicodeDecodeError" in capsys.readouterr().out
