"""The action surface of a task: what an agent may do, and why an action is invalid."""

from collections.abc import Callable, Iterable, KeysView, Mapping
from types import FunctionType, ModuleType, NoneType
from typing import Any

from tracecore import canon
from tracecore.errors import TaskError, one_line
from tracecore.record import record

Function = Callable[..., Any]

_SET_ENV = "set_env"  # the one public function of an action module that is no action
_SHOWN = 120  # characters of names that a message repeats
_HAS_ANY_KEYWORDS = 0x08  # CO_VARKEYWORDS
# CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR: calling it runs nothing
_IS_NO_PLAIN_CALL = 0x20 | 0x80 | 0x200
_KINDS = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class ActionSurface:
    """The actions of one task.

    Args:
        functions: Name of the action to its function.

    Attributes:
        parameters: Name of the action to the names of its parameters, in order.

    Raises:
        TaskError: A function cannot be called with arguments by name.
    """

    __slots__ = ("_actions", "parameters")

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._actions = {name: _read_action(name, function) for name, function in functions.items()}
        self.parameters = {name: list(known.names) for name, known in self._actions.items()}

    def why_invalid(self, action: object) -> tuple[str, str] | None:
        """Why ``action`` cannot be executed: the reason, and one bounded line of words; None if it
        can.

        Reasons, in the order of the checks: ``action_must_be_dict``, ``invalid_action_type``,
            ``unknown_action``,
        ``args_must_be_dict``, ``missing_arg``, ``unexpected_arg``. The words are the same for the
        same action always.
        """
        if not isinstance(action, dict):
            return "action_must_be_dict", f"the action is {_kind(action)}, expected an object"
        name = action.get("type")
        if not isinstance(name, str):
            found = _kind(name) if "type" in action else "missing"
            return "invalid_action_type", f"the action's type is {found}, expected a string"
        known = self._actions.get(name)
        if known is None:
            return "unknown_action", self._unknown(name)
        args = action.get("args")
        if args is None:
            args = {}
        if not isinstance(args, dict):
            return "args_must_be_dict", f"the args of {name} are {_kind(args)}, expected an object"
        if known.required <= args.keys() <= known.names:
            return None
        return known.why_invalid(name, args)

    def _unknown(self, name: str) -> str:
        import difflib  # noqa: PLC0415 - of use here alone

        nearest = difflib.get_close_matches(name[:_SHOWN], self._actions, cutoff=0.4)
        hint = f"; nearest: {_shown(nearest)}" if nearest else ""
        return f"there is no action {_shown([name])}, expected one of {_shown(self._actions)}{hint}"

    def call(self, action: Mapping[str, Any]) -> bytes:
        """Execute an action that is valid; what its function returns, as canonical JSON: what task
        code changes in it later must not show. What it raises is passed on.
        """
        function = self._actions[action["type"]].function
        return canon.encode_foreign(function(**(action.get("args") or {})))


def public_functions(module: ModuleType) -> dict[str, Function]:
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
class _Action:
    function: Function
    names: KeysView[str]  # of its parameters, in order
    required: KeysView[str]  # those without a default
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
def _read_action(name: str, function: Function) -> _Action:
    inner = _innermost(function)
    code = inner.__code__
    if code.co_posonlyargcount:
        expected = "parameters that can be given by name"
        raise TaskError(code.co_filename, name, "positional-only parameters", expected)
    if code.co_flags & _IS_NO_PLAIN_CALL:
        found = "an async function or a generator"
        raise TaskError(code.co_filename, name, found, "a plain function")
    positional = code.co_varnames[: code.co_argcount]
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    required = positional[: len(positional) - len(inner.__defaults__ or ())]
    required += tuple([one for one in by_name if one not in (inner.__kwdefaults__ or ())])
    return _Action(
        function=function,
        names=dict.fromkeys(positional + by_name).keys(),
        required=dict.fromkeys(required).keys(),
        takes_any=bool(code.co_flags & _HAS_ANY_KEYWORDS),
    )


def _innermost(function: Function) -> FunctionType:
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
    return _KINDS.get(type(value)) or f"a Python {type(value).__name__}"[:_SHOWN]


def _shown(names: Iterable[object]) -> str:
    text = ", ".join(name[:_SHOWN] if isinstance(name, str) else _kind(name) for name in names)
    return one_line(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…") or "''"
