"""Records: small classes of named values, frozen unless declared otherwise.

What ``dataclasses.dataclass(frozen=True, slots=True)`` gives, for a tenth of the time: every
process of a slice defines dozens of these before it does anything, and the standard module brings
``inspect`` and all below it into each of them.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

T = TypeVar("T")


def field(*, default_factory: Callable[[], T]) -> T:
    """A field whose default is made anew for each record."""
    return cast("T", _Made(default_factory))


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a record of ``cls``, whose annotations are its fields.

    It has slots, a constructor that takes the fields in order or by name, a ``repr``, and pickles.
    It compares and hashes by value, and its fields cannot be set. A subclass that is a record too
    has the fields of its base first.
    """
    built = _build(
        cls,
        {
            "__setattr__": _refuse_to_set,
            "__delattr__": _refuse_to_set,
            "__eq__": _equals,
            "__hash__": _hash,
        },
    )
    return cast("type[T]", built)


@dataclass_transform(field_specifiers=(field,))
def mutable_record(cls: type[T]) -> type[T]:
    """The same, with fields that can be set; two of them are equal when they are one."""
    return cast("type[T]", _build(cls, {}))


def replace(one: T, **changes: Any) -> T:
    """A record like ``one`` but for ``changes``."""
    return type(one)(**{**{name: getattr(one, name) for name in field_names(type(one))}, **changes})


def as_dict(one: Any) -> dict[str, Any]:
    """The fields of ``one`` by name, with the records in it, in tuples, lists and dictionaries too,
    as dictionaries.
    """
    return {name: _plain(getattr(one, name)) for name in field_names(type(one))}


def field_names(cls: type) -> tuple[str, ...]:
    """The fields of a record's class, in order."""
    return cast("tuple[str, ...]", cls.__match_args__)  # type: ignore[attr-defined]


def has_default(cls: type, name: str) -> bool:
    """Whether a record of ``cls`` can be made without ``name``."""
    return name in cls.__record_defaults__  # type: ignore[attr-defined]


class _Made:
    """Stands for a default that is made when it is needed."""

    __slots__ = ("factory",)

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory


def _build(cls: type, methods: dict[str, Any]) -> type:
    # The class's own, whether Python keeps them in its namespace or makes them when asked (3.14).
    own = tuple(cls.__annotations__)
    inherited: tuple[str, ...] = getattr(cls, "__match_args__", ())
    names = (*inherited, *(name for name in own if name not in inherited))
    defaults = {
        **getattr(cls, "__record_defaults__", {}),
        **{name: cls.__dict__[name] for name in own if name in cls.__dict__},
    }
    left_out = {*own, "__dict__", "__weakref__"}
    namespace = {
        "__repr__": _repr,
        "__reduce__": _reduce,
        **methods,
        **{name: value for name, value in cls.__dict__.items() if name not in left_out},
        "__slots__": tuple(name for name in own if name not in inherited),
        "__match_args__": names,
        "__record_defaults__": defaults,
    }
    # Slots are laid out when a class is made: this one takes the place of the one that was written.
    built = type(cls)(cls.__name__, cls.__bases__, namespace)
    built.__init__ = _constructor(built, names, defaults)  # type: ignore[misc]
    return built


def _constructor(cls: type, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    # Written out, as `dataclasses` does it too: a loop over names would cost every record that is
    # made. Names are identifiers, since they were annotations. A slot is set through its
    # descriptor: the record's own setting is refused.
    known: dict[str, Any] = {}
    parameters, lines = [], []
    for name in names:
        known[f"_set_{name}"] = getattr(cls, name).__set__
        parameter, value = name, name
        if name in defaults:
            default = known[f"_default_{name}"] = defaults[name]
            parameter = f"{name}=_default_{name}"
            if isinstance(default, _Made):
                known[f"_make_{name}"] = default.factory
                value = f"_make_{name}() if {name} is _default_{name} else {name}"
        parameters.append(parameter)
        lines.append(f"_set_{name}(self, {value})")
    # One line: a tracer, such as one that counts work, stops at each.
    exec(f"def __init__(self, {', '.join(parameters)}): {'; '.join(lines) or 'pass'}", known)  # noqa: S102
    constructor = known["__init__"]
    constructor.__qualname__ = f"{cls.__qualname__}.__init__"
    return constructor


def _values(one: Any) -> tuple[Any, ...]:
    return tuple([getattr(one, name) for name in one.__match_args__])


def _repr(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({fields})"


def _equals(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


def _refuse_to_set(self: Any, name: str, *_value: Any) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: its {name} cannot be set")


def _plain(value: Any) -> Any:
    if hasattr(value, "__record_defaults__"):
        return as_dict(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, tuple):
        inner = tuple(map(_plain, value))
        return type(value)(*inner) if hasattr(value, "_fields") else inner  # a named one stays that
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value
