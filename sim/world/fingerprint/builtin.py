"""How Python's own types are written by the walk: containers, functions, iterators.

Rules for this file:

1. A list, a dictionary and a deque are written in their order; a set has none.
2. A function is its code, its defaults and what its cells hold; and the module variables that it uses, where they are
   not constant (rule 4 of `sim.world.fingerprint.types`).
3. An iterator is what it says of itself when it is pickled: what it goes through, and how far it is.
4. What a class is derived from may be overridden there: only the type's own methods are asked.
"""

from __future__ import annotations

import _random
import _struct
import _thread
import collections
import contextvars
import datetime
import decimal
import functools
import io
import itertools
import operator
import re
import sys
import types as python
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.codes import names_of, text_of_code, used
from sim.world.fingerprint.instances import write_unknown
from sim.world.fingerprint.plain import Heads, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

FED = frozenset({"zlib.Compress", "zlib.Decompress"})
"""Types that only their connection feeds, in the standard library."""
SKIP = frozenset(
    {
        "asyncio.selector_events._SelectorTransport._sock_fd",
        "asyncio.selector_events._SelectorTransport._loop",
        "asyncio.events.Handle._loop",
        "asyncio.events.Handle._repr",
        "asyncio.events.Handle._source_traceback",
        "asyncio.events.TimerHandle._scheduled",
        "sim.world.loop.SimTask._number",
    }
)
"""Attributes that tell nothing."""


# Containers.

_LIST, _DICT, _SET, _FROZENSET, _DEQUE, _FIELDS = map(Heads, (b"[", b"{", b"=", b"%", b"~", b"^"))
_BYTEARRAY, _MEMORY = head("bytearray"), head("memory")


def _list(walk: Walk, value: list[Any]) -> Iterable[Any]:
    walk.write(_LIST[len(value)])
    return value


def _dict(walk: Walk, value: dict[Any, Any]) -> Iterable[Any]:
    walk.write(_DICT[len(value)])
    return (*value, *value.values()) if value else ()


def _set(walk: Walk, value: set[Any]) -> Iterable[Any]:
    walk.write(_SET[len(value)])
    if value:
        walk.unordered(list(value))
    return ()


def _frozenset(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_FROZENSET[frozenset.__len__(value)])
    walk.unordered([*frozenset.__iter__(value)])
    return ()


def _deque(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_DEQUE[len(value)])
    return (value.maxlen, *value) if value else (value.maxlen,)


def _derived_deque(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_DEQUE[collections.deque.__len__(value)])
    return (value.maxlen, *collections.deque.__iter__(value))


def _derived_list(walk: Walk, value: Any) -> Iterable[Any]:
    return _list(walk, [*list.__iter__(value)])


def _derived_dict(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_DICT[dict.__len__(value)])
    return (*dict.keys(value), *dict.values(value))


def _derived_set(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_SET[set.__len__(value)])
    walk.unordered([*set.__iter__(value)])
    return ()


def _derived_tuple(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_FIELDS[tuple.__len__(value)])
    return tuple.__iter__(value)


def _ordered_dict(walk: Walk, value: Any) -> Iterable[Any]:
    """It has an order of its own, which `move_to_end` changes."""
    return (*_derived_dict(walk, value), *collections.OrderedDict.__iter__(value))


def _default_dict(walk: Walk, value: Any) -> Iterable[Any]:
    return (*_derived_dict(walk, value), value.default_factory)


def _derived(kind: Any) -> Handler:
    """A class derived from a type of values."""

    def write(_walk: Walk, value: Any) -> Iterable[Any]:
        return (kind.__getnewargs__(value)[0],)

    return write


def _bytearray(walk: Walk, value: bytearray) -> Iterable[Any]:
    walk.write(_BYTEARRAY)
    return (bytes(value),)


def _memory(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_MEMORY)
    return (value.tobytes(), value.format, tuple(value.shape))


# Functions.

_FUNCTION, _CELL, _EMPTY_CELL = map(head, ("function", "cell", "empty cell"))


def _function(walk: Walk, value: Any) -> Iterable[Any]:
    module = value.__module__ if isinstance(value.__module__, str) else None
    _, token, names = walk.types.code(value.__code__, module)
    walk.write(_FUNCTION)
    walk.write(token)
    return (
        *used(walk, names, value.__globals__),
        *(value.__closure__ or ()),
        value.__defaults__,
        value.__kwdefaults__,
        value.__dict__ or None,
    )


def _cell(walk: Walk, value: Any) -> Iterable[Any]:
    try:
        found = value.cell_contents
    except ValueError:
        walk.write(_EMPTY_CELL)
        return ()
    walk.write(_CELL)
    return (found,)


# The rest.

_WEAK, _UUID = head("weak"), head("UUID")


def _parts(kind: str, *names: str) -> Handler:
    """What is told by some attributes."""
    begin = head(kind)
    together = operator.attrgetter(*names)

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        walk.write(begin)
        return (together(value),) if len(names) == 1 else together(value)

    return write


def _told(kind: str, tell: Callable[[Any], Any]) -> Handler:
    """What is told by one thing."""
    begin = head(kind)

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        walk.write(begin)
        return (tell(value),)

    return write


def _wrapped(_walk: Walk, value: Any) -> Iterable[Any]:
    return (type(value), getattr(value, "__func__", None) or value.__wrapped__)


def write_reduced(_walk: Walk, value: Any) -> Iterable[Any]:
    """What pickles itself in full."""
    _, *parts = value.__reduce__()
    return (type(value), len(parts), *parts)


def _repr(_walk: Walk, value: Any) -> Iterable[Any]:
    return (type(value), repr(value))


def _weak(walk: Walk, value: Any) -> Iterable[Any]:
    walk.write(_WEAK)
    return (value(),)


def _proxy(walk: Walk, value: Any) -> Iterable[Any]:
    """A weak proxy hides what it stands for; a bound method that is asked of it does not. Its text tells whether it is that."""
    try:
        found = value.__init__.__self__
    except ReferenceError:
        walk.write(_WEAK)
        return (None,)
    except AttributeError:
        found = None
    kind: Any = type(value)
    if kind.__repr__(value).endswith(f" at {id(found):#x}>"):
        walk.write(_WEAK)
        return (found,)
    return write_unknown(walk, value)


def _uuid(walk: Walk, value: uuid.UUID) -> Iterable[Any]:
    walk.write(_UUID)
    walk.write(walk.number(value.int))
    return ()


def _local(_walk: Walk, value: Any) -> Iterable[Any]:
    """What this thread has there; a world has one thread. A class derived from it may have code that is run when it is asked."""
    return (type(value), value.__dict__)


def _buffer(_walk: Walk, value: Any) -> Iterable[Any]:
    return (type(value), value.closed, *(() if value.closed else (value.getvalue(), value.tell())))


_NOTHING: dict[Any, Any] = {}
_VIEWS: tuple[Any, ...] = (_NOTHING.keys(), _NOTHING.values(), _NOTHING.items())
_ITERABLE: tuple[Any, ...] = ((), [], "", "ä", b"", bytearray(), set(), range(0), range(1 << 70), *_VIEWS)
_ITERATORS = {*(type(iter(c)) for c in _ITERABLE), *(type(reversed(c)) for c in (*_VIEWS, []))}


HANDLERS: dict[type, Handler] = {
    list: _list,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    collections.deque: _deque,
    collections.defaultdict: _default_dict,
    collections.OrderedDict: _ordered_dict,
    python.MappingProxyType: _told("mapping", dict),
    bytearray: _bytearray,
    memoryview: _memory,
    python.FunctionType: _function,
    python.BuiltinFunctionType: _parts("built-in", "__qualname__", "__self__"),
    type(object().__str__): _parts("built-in", "__qualname__", "__self__"),
    functools.partial: _parts("partial", "func", "args", "keywords"),
    staticmethod: _wrapped,
    classmethod: _wrapped,
    type(functools.lru_cache(names_of)): _wrapped,
    property: _parts("property", "fget", "fset", "fdel"),
    python.CellType: _cell,
    weakref.ref: _weak,
    weakref.WeakMethod: _told("weak method", weakref.WeakMethod.__call__),
    uuid.UUID: _uuid,
    weakref.ProxyType: _proxy,
    weakref.CallableProxyType: _proxy,
    _thread.LockType: _told("lock", _thread.LockType.locked),
    type(_thread.RLock()): _told("rlock", lambda value: value._is_owned()),
    io.BytesIO: _buffer,
    io.StringIO: _buffer,
    python.SimpleNamespace: _told("namespace", vars),
    operator.itemgetter: write_reduced,
    operator.attrgetter: write_reduced,
    operator.methodcaller: write_reduced,
    itertools.count: _repr,
    enumerate: write_reduced,
    zip: write_reduced,
    map: write_reduced,
    filter: write_reduced,
    reversed: write_reduced,
    **dict.fromkeys(_ITERATORS, write_reduced),
    **dict.fromkeys(map(type, _VIEWS), _told("view", list)),
}
"""By type."""

EXACT: dict[type, Handler] = {
    _struct.Struct: _parts("struct", "format"),
    _thread._local: _local,
}
"""The same, of types that hide something in what is derived from them."""

BASES: dict[type, Handler] = {
    **HANDLERS,
    list: _derived_list,
    dict: _derived_dict,
    set: _derived_set,
    collections.deque: _derived_deque,
    tuple: _derived_tuple,
    str: _derived(str),
    bytes: _derived(bytes),
    int: _derived(int),
    float: _derived(float),
    _random.Random: _told("random", _random.Random.getstate),
}
"""By type, how what is derived from it in a class is written; that writes its own attributes, too."""


def _repr_of(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _attribute_of_class(value: Any) -> str:
    return f"{type(value).__name__} {value.__objclass__.__qualname__}.{value.__name__}"


CONSTANTS: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys(
        (
            range,
            slice,
            re.Pattern,
            datetime.datetime,
            datetime.date,
            datetime.time,
            datetime.timedelta,
            datetime.timezone,
            decimal.Decimal,
            type(NotImplemented),
        ),
        _repr_of,
    ),
    python.CodeType: text_of_code,
    contextvars.ContextVar: lambda value: f"variable {value.name}",
    type(sys.version_info): repr,
    type(vars(collections.namedtuple("_One", "one"))["one"]): lambda _: "tuple getter",
    **dict.fromkeys(
        (
            python.MethodDescriptorType,
            python.WrapperDescriptorType,
            python.GetSetDescriptorType,
            python.MemberDescriptorType,
            python.ClassMethodDescriptorType,
        ),
        _attribute_of_class,
    ),
}
"""Types that are written as a value, and what that is."""
