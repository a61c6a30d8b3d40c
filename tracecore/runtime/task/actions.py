"""The action surface of a task: what an agent may do, and why an action is invalid."""

from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from tracecore import canon
from tracecore.errors import TaskError, one_line
from tracecore.record import record

Action = Callable[..., Any]

_NO_ARGS: dict[str, Any] = {}
_SET_ENV = "set_env"  # the one public function of an action module that is no action
_SHOWN = 120  # characters of names that a message repeats
_HAS_ANY_KEYWORDS = 0x08  # CO_VARKEYWORDS
# CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR: calling it runs nothing
_IS_NO_PLAIN_CALL = 0x20 | 0x80 | 0x200


class ActionSurface:
    """The actions of one task.

    Args:
        functions: Name of the action to its function.

    Attributes:
        parameters: Name of the action to the names of its parameters, in order.

    Raises:
        TaskError: A function cannot be called with arguments by name.
    """

    __slots__ = ("_functions", "_signatures", "parameters")

    def __init__(self, functions: Mapping[str, Action]) -> None:
        self._functions = dict(functions)
        self._signatures = {
            name: _read_signature(name, function) for name, function in functions.items()
        }
        self.parameters = {
            name: list(signature.names) for name, signature in self._signatures.items()
        }

    def why_invalid(self, action: object) -> tuple[str, str] | None:
        """Why ``action`` cannot be executed: the reason, and one bounded line of words; None if it
        can.

        Reasons, in the order of the checks: ``action_must_be_dict``, ``invalid_action_type``,
            ``unknown_action``,
        ``args_must_be_dict``, ``missing_arg``, ``unexpected_arg``. The words are the same for the
        same action always.
        """
        # one look at the usual case, which every step takes
        if type(action) is dict and type(name := action.get("type")) is str:
            signature = self._signatures.get(name)
            args = action.get("args")
            if args is None:
                args = _NO_ARGS
            if signature is not None and type(args) is dict:
                given = args.keys()
                if given >= signature.needed and given <= signature.known:
                    return None
        return self._explain(action)

    def _explain(self, action: object) -> tuple[str, str] | None:
        if not isinstance(action, dict):
            return "action_must_be_dict", f"the action is {_kind(action)}, expected an object"
        name = action.get("type")
        if not isinstance(name, str):
            found = _kind(name) if "type" in action else "missing"
            return "invalid_action_type", f"the action's type is {found}, expected a string"
        signature = self._signatures.get(name)
        if signature is None:
            return "unknown_action", self._unknown(name)
        args = action.get("args")
        if args is not None and not isinstance(args, dict):
            return "args_must_be_dict", f"the args of {name} are {_kind(args)}, expected an object"
        return signature.why_invalid(name, args or {})

    def _unknown(self, name: str) -> str:
        import difflib  # noqa: PLC0415 - of use here alone

        nearest = difflib.get_close_matches(name[:_SHOWN], self._functions, cutoff=0.4)
        hint = f"; nearest: {_shown(nearest)}" if nearest else ""
        return (
            f"there is no action {_shown([name])}, expected one of {_shown(self._functions)}{hint}"
        )

    def call(self, action: Mapping[str, Any]) -> bytes:
        """Execute an action that is valid; what its function returns, as canonical JSON: what task
        code changes in it later must not show. What it raises is passed on.
        """
        return canon.encode_foreign(self._functions[action["type"]](**(action.get("args") or {})))


def public_functions(module: ModuleType) -> dict[str, Action]:
    """The actions that ``module`` offers: its public functions, in order, without ``set_env`` and
    what it imports.
    """
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and name != _SET_ENV
    }


@record
class _Signature:
    names: tuple[str, ...]
    known: frozenset[str]  # the same
    required: tuple[str, ...]  # those without a default
    needed: frozenset[str]  # the same
    takes_any: bool  # has **kwargs

    def why_invalid(self, action: str, args: Mapping[Any, Any]) -> tuple[str, str] | None:
        expected = f"args {_shown(self.names)}" if self.names else "no args"
        if missing := [name for name in self.required if name not in args]:
            return "missing_arg", f"{action} lacks {_shown(missing)}, expected {expected}"
        unexpected = [
            name
            for name in args
            if name not in self.names and not (self.takes_any and isinstance(name, str))
        ]
        if unexpected:
            words = f"{action} takes no {_shown(unexpected)}, expected {expected}"
            return "unexpected_arg", words
        return None


# Read from the code object: the inspect module is far heavier than the four facts that are needed.
def _read_signature(name: str, function: Action) -> _Signature:
    function = _innermost(function)
    code = function.__code__
    if code.co_posonlyargcount:
        expected = "parameters that can be given by name"
        raise TaskError(code.co_filename, name, "positional-only parameters", expected)
    if code.co_flags & _IS_NO_PLAIN_CALL:
        found = "an async function or a generator"
        raise TaskError(code.co_filename, name, found, "a plain function")
    positional = code.co_varnames[: code.co_argcount]
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = function.__kwdefaults__ or {}
    names = positional + by_name
    required = positional[: len(positional) - len(function.__defaults__ or ())]
    required += tuple([parameter for parameter in by_name if parameter not in defaults])
    return _Signature(
        names=names,
        known=frozenset(names),
        required=required,
        needed=frozenset(required),
        takes_any=bool(code.co_flags & _HAS_ANY_KEYWORDS),
    )


def _innermost(function: Action) -> FunctionType:
    """The function that a decorator made with functools.wraps stands for: its parameters are the
    real ones.
    """
    while isinstance(wrapped := getattr(function, "__wrapped__", None), FunctionType):
        function = wrapped
    assert isinstance(function, FunctionType)
    return function


def _kind(value: object) -> str:
    """What ``value`` is, in JSON's words: a repr could be huge, or hold an address that differs
    from run to run.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a Python {type(value).__name__}"[:_SHOWN]


def _shown(names: Iterable[object]) -> str:
    text = ", ".join(name[:_SHOWN] if isinstance(name, str) else _kind(name) for name in names)
    return one_line(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…") or "''"
