import dataclasses
import pickle
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.record import (
    as_dict,
    field,
    field_names,
    has_default,
    mutable_record,
    record,
    replace,
)


@record
class Point:
    """A place."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


@record
class Named(Point):
    name: str = "n"

    def greeting(self) -> str:
        return f"{self.name} at {self.x}"


@record
class Holder:
    point: Point
    more: list[Any] = field(default_factory=list)


@mutable_record
class Tally:
    count: int = 0
    seen: dict[str, int] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class StandardPoint:
    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


values = st.tuples(
    st.integers(), st.integers(), st.lists(st.text(max_size=3), max_size=3).map(tuple)
)


@given(values, values)
def test_it_compares_hashes_and_shows_itself_as_a_frozen_dataclass_does(
    one: Any, other: Any
) -> None:
    assert (Point(*one) == Point(*other)) is (StandardPoint(*one) == StandardPoint(*other))
    assert hash(Point(*one)) == hash(StandardPoint(*one))
    assert repr(Point(*one)) == repr(StandardPoint(*one)).replace("StandardPoint", "Point")
    assert as_dict(Point(*one)) == dataclasses.asdict(StandardPoint(*one))


@given(values)
def test_it_pickles_at_every_protocol(one: Any) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Point(*one), protocol)) == Point(*one)
        assert pickle.loads(pickle.dumps(Named(*one, name="m"), protocol)) == Named(*one, name="m")


def test_fields_are_given_in_order_or_by_name() -> None:
    assert Point(1) == Point(x=1, y=2) == Point(1, tags=())
    for arguments, named in (((), {}), ((1, 2, (), 4), {}), ((1,), {"z": 1}), ((1,), {"x": 1})):
        with pytest.raises(TypeError, match="__init__"):
            Point(*arguments, **named)


def test_its_fields_cannot_be_set_added_or_deleted() -> None:
    point = Point(1)
    for attempt in (
        lambda: setattr(point, "x", 3),
        lambda: setattr(point, "z", 3),
        lambda: delattr(point, "x"),
    ):
        with pytest.raises(AttributeError, match="Point is frozen"):
            attempt()
    assert point == Point(1)


def test_a_mutable_one_can_be_set_and_is_equal_to_itself_alone() -> None:
    tally = Tally()
    tally.count += 1
    assert tally.count == 1
    assert tally != Tally(1)
    assert {tally, Tally(1)} > {tally}
    with pytest.raises(AttributeError):
        tally.other = 1  # type: ignore[attr-defined]


def test_a_made_default_is_made_anew() -> None:
    first, second = Tally(), Tally()
    first.seen["a"] = 1
    assert second.seen == {}
    assert Holder(Point(1)).more is not Holder(Point(1)).more


def test_a_subclass_has_the_fields_of_its_base_first() -> None:
    assert field_names(Named) == Named.__match_args__ == ("x", "y", "tags", "name")
    assert [name for name in field_names(Named) if not has_default(Named, name)] == ["x"]
    assert Named(1, name="m").greeting() == "m at 1"
    assert Named(1) != Point(1)
    assert not hasattr(Named(1), "__dict__")


def test_a_changed_copy_leaves_the_first_alone() -> None:
    point = Point(1, tags=("a",))
    assert replace(point, y=5) == Point(1, 5, ("a",))
    assert point == Point(1, 2, ("a",))
    with pytest.raises(TypeError):
        replace(point, z=1)


def test_named_tuples_stay_what_they_are() -> None:
    class Key(NamedTuple):
        row: Any
        seed: int

    (kept,) = as_dict(Holder(Point(1), [Key(Point(1), 3)]))["more"]
    assert kept == Key({"x": 1, "y": 2, "tags": ()}, 3)
    assert kept.seed == 3


def test_records_within_become_dictionaries_too() -> None:
    inner = {"x": 1, "y": 2, "tags": ()}
    assert as_dict(Holder(Point(1), [Point(1), (Point(1),), {"p": Point(1)}])) == {
        "point": inner,
        "more": [inner, (inner,), {"p": inner}],
    }


def test_it_keeps_its_words_and_its_place() -> None:
    assert (Point.__doc__, Point.__module__, Point.__qualname__) == ("A place.", __name__, "Point")


def test_defining_records_loads_no_introspection() -> None:
    code = (
        "import sys, tracecore.records; print(sorted({'dataclasses', 'inspect', 'ast', 'dis'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
