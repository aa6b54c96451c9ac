"""What a pickle holds, read without running any of it: an interpreter that only ever builds
containers, numbers, text, and the places of tensors.

Where Python's own would look up a class or call a function, a few of torch's are known by name;
every other becomes an `Unopened`, whatever the file wants with it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tsuzuku.core.trees import is_list

MOST_STEPS = 2_000_000
"""A state of ten thousand tensors takes a fifth of it."""
MOST_AXES = 64
LONGEST = 120
"""Characters of a class's name."""

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
SETS = ("set", "frozenset")
REBUILT = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
TUPLES = ("torch.Size", *(f"{b}.{s}" for b in ("builtins", "__builtin__") for s in SETS))
"""What becomes a tuple: protocol 2 has the names of Python 2."""


class NoOutline(ValueError):
    """The bytes are no pickle, or one that cannot be read in this way."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor is: in the storage `key`, of `count` values of `dtype`."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    key: str
    count: int


@dataclass(frozen=True)
class Unopened:
    """Something of a class or function that is not looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


def outline(pickled: bytes) -> Any:
    """The contents: dicts, lists, tuples, plain values, `Stored` and `Unopened`.

    Raises NoOutline for what is damaged, without end, or not made by torch.
    """
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if step > MOST_STEPS:
                raise NoOutline("it has too many parts")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.do(opcode.name, argument)
    except NoOutline:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise NoOutline("its contents make no sense") from None
    raise NoOutline("it ends too early")


_CONSTANTS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"),
    }
)
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
_PUT = ("BINPUT", "LONG_BINPUT", "PUT")
_GET = ("BINGET", "LONG_BINGET", "GET")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in _PUT:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GET:
            stack.append(self._memo[int(argument)])
        elif name == "MARK":
            self._marks.append(stack)
            self.stack = []
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise NoOutline("its contents make no sense")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        match name:
            case "TUPLE":
                items = self._marked()
                self.stack.append(tuple(items))
            case "LIST":
                items = self._marked()
                self.stack.append(items)
            case "DICT":
                items = self._marked()
                self.stack.append({})
                _fill(self.stack[-1], items)
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = [self.stack.pop()] if name == "APPEND" else self._marked()
                if isinstance(self.stack[-1], list):
                    self.stack[-1] += items
            case "SETITEM" | "SETITEMS":
                items = self._marked() if name == "SETITEMS" else self._popped(2)
                _fill(self.stack[-1], items)
            case "GLOBAL":
                self.stack.append(_named(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                module, attribute = self._popped(2)
                self.stack.append(_named(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                called, arguments = self._popped(2)
                self.stack.append(_made(called, arguments))
            case "NEWOBJ_EX":
                called, _, _ = self._popped(3)
                self.stack.append(_made(called, None))
            case "BUILD":  # a state of its own: of an OrderedDict or of what is not opened
                self._popped(1)
            case "BINPERSID":
                self.stack.append(_storage(self.stack.pop()))
            case _:
                raise NoOutline(f"it uses {name}, which torch does not")

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self._marks.pop()
        return items

    def _popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise NoOutline("its contents make no sense")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items


def _fill(target: Any, items: list[Any]) -> None:
    """Set keys and values, which alternate; a key that is a container would take forever to hash
    if the file wants it to, and no state has one."""
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str | int | float | bytes | None):
                target[key] = value


def _named(name: str) -> Unopened:
    """A class by a name that can be shown, whatever the file calls it."""
    return Unopened("".join(c if c.isprintable() else "?" for c in name[:LONGEST]))


def _made(called: Any, arguments: Any) -> Any:
    """What a call would return, if it is one of the few that are known."""
    name = called.name if isinstance(called, Unopened) else "something"
    if is_list(arguments):
        given = arguments
        if name in REBUILT and len(given) >= 4 and isinstance(given[0], _Storage):
            return _stored(given[0], *given[1:4])
        if name in PARAMETERS and given and isinstance(given[0], Stored):
            return given[0]
        if name == "collections.OrderedDict" and not given:
            return {}
        if name in TUPLES and len(given) == 1:
            return tuple(given[0])
    return Unopened(name)


def _storage(called: Any) -> Any:
    kind, cls, key, _, count = called
    dtype = STORAGES.get(cls.name.removeprefix("torch.")) if isinstance(cls, Unopened) else None
    if kind != "storage" or not isinstance(key, str) or not _counts((count,)):
        raise NoOutline("its contents make no sense")
    if dtype is None:
        return Unopened(cls.name if isinstance(cls, Unopened) else "a storage")
    return _Storage(dtype, key, count)


def _stored(storage: _Storage, offset: Any, shape: Any, stride: Any) -> Stored:
    if not (isinstance(shape, tuple | list) and isinstance(stride, tuple | list)):
        raise NoOutline("its contents make no sense")
    axes, steps = tuple[int, ...](shape), tuple[int, ...](stride)  # pyright: ignore[reportUnknownArgumentType]
    if len(axes) != len(steps) or len(axes) > MOST_AXES or not _counts((offset, *axes, *steps)):
        raise NoOutline("its contents make no sense")
    stored = Stored(storage.dtype, axes, steps, offset, storage.key, storage.count)
    if values(axes):
        last = offset + sum((n - 1) * s for n, s in zip(axes, steps, strict=True))
        if values(axes) > storage.count or last >= storage.count:
            raise NoOutline(f"it holds a tensor of {list(axes)} without all its values")
    return stored


def _counts(numbers: Iterable[Any]) -> bool:
    return all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)


def values(shape: Iterable[int]) -> int:
    """How many values a tensor of that shape has."""
    count = 1
    for n in shape:
        count *= n
    return count
