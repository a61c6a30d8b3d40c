import pytest

from tracecore import errors


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "found",
    [16**5000, -(16**5000), {"seed": [16**5000]}, nested(100_000)],
    ids=["huge", "negative", "inside", "deep"],
)
def test_what_python_refuses_to_print_is_described_in_words(found: object) -> None:
    assert errors.describe(found) == "a value too large to show"
    assert errors.describe(found, 10) == "a value t…"
    assert str(errors.InputError("rows.json", "seed", found, "an integer")) == (
        "rows.json: seed: found a value too large to show, expected an integer"
    )
