"""How Python's own types are written by the walk: containers, functions, iterators, exceptions.

Rules for this file:

1. A list, a dictionary and a deque are written in their order; a set has none.
2. A function is its code, its defaults and what its cells hold; and the module variables that it uses, where they are
   not constant (rule 4 of `sim.world.fingerprint.types`).
3. An iterator is what it says of itself when it is pickled: what it goes through, and how far it is.
4. An exception is its type, arguments, cause, context and attributes. Its traceback is left out.
"""

from __future__ import annotations

import _thread
import collections
import contextvars
import datetime
import decimal
import functools
import gc
import io
import itertools
import operator
import re
import sys
import types as python
import uuid
import weakref
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.plain import ABSENT, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def number_of(text: str) -> int:
    """A number for a text, the same in each process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True)


def names_of(code: Any) -> Iterator[str]:
    """The global names and attributes that a code object and those inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is python.CodeType:
            yield from names_of(constant)


# Instances, and what is derived from Python's types.


def instances(cls: type, slots: tuple[Any, ...], inner: Handler | None, skip: frozenset[str]) -> Handler:
    """How instances of a class of Python's are written."""
    getters = [slot.__get__ for slot in slots if slot.__name__ not in skip]
    dictionary = next((vars(c)["__dict__"].__get__ for c in cls.__mro__ if _keeps_dict(c)), None)

    def write(walk: Walk, value: Any) -> None:
        out, token = walk.out, walk.token
        out.append(token(cls))
        if inner is not None:
            inner(walk, value)
        if dictionary is not None:
            attributes = dictionary(value)
            if skip:
                attributes = {n: v for n, v in attributes.items() if n not in skip}
            out.append(walk.types.shape(tuple(attributes)))
            walk.put(*attributes.values())
        for get in getters:
            try:
                v = get(value)
            except AttributeError:
                v = ABSENT
            out.append(v if type(v) in PLAIN else token(v))

    return write


def _keeps_dict(cls: type) -> bool:
    return type(vars(cls).get("__dict__")) is python.GetSetDescriptorType


def write_class(walk: Walk, cls: Any) -> None:
    """A class that was made in a run, or one of the application's: its functions and variables."""
    walk.out.append(f"class {cls.__qualname__}")
    for base in cls.__bases__:
        walk.put(base)
    for name, value in list(vars(cls).items()):
        if (not name.startswith("__") and name != "_abc_impl") or isinstance(value, python.FunctionType):
            walk.put(name, value)


def write_frozen(walk: Walk, value: Any) -> None:
    """What does not change."""
    walk.put(type(value))


def write_unknown(walk: Walk, value: Any) -> None:
    """What hides something."""
    walk.put(walk.types.never(type(value)))


def write_fed(walk: Walk, value: Any) -> None:
    """What its connection alone feeds."""
    history = walk.history(walk.owner)
    walk.put(type(value), history if history is not None else walk.types.never(type(value)))
    walk.put(*gc.get_referents(value))


# Containers.


def _list(walk: Walk, value: Any) -> None:
    if value:
        walk.put(len(value), *list.__iter__(value))
    else:
        walk.out.append(0)


def _dict(walk: Walk, value: Any) -> None:
    if value:
        walk.put(len(value), *dict.keys(value), *dict.values(value))
    else:
        walk.out.append(0)


def _set(walk: Walk, value: Any) -> None:
    walk.out.append(len(value))
    if value:
        walk.unordered(list(value) if type(value) in (set, frozenset) else list(set.__iter__(value)))


def _frozenset(walk: Walk, value: Any) -> None:
    walk.out.append(len(value))
    walk.unordered(frozenset.__iter__(value))


def _deque(walk: Walk, value: Any) -> None:
    walk.out += (value.maxlen, len(value))
    if value:
        walk.put(*collections.deque.__iter__(value))


def _default_dict(walk: Walk, value: Any) -> None:
    walk.put(value.default_factory)
    _dict(walk, value)


def _derived_tuple(walk: Walk, value: Any) -> None:
    walk.put(*tuple.__iter__(value))


def _derived(kind: Any) -> Handler:
    """A class derived from a type of values."""

    def write(walk: Walk, value: Any) -> None:
        walk.put(kind.__getnewargs__(value)[0])

    return write


def _bytearray(walk: Walk, value: Any) -> None:
    walk.out.append(bytes(value))


def _memory(walk: Walk, value: Any) -> None:
    walk.put(value.tobytes(), value.format, tuple(value.shape))


def _exception(walk: Walk, value: BaseException) -> None:
    walk.put(value.args, value.__cause__, value.__context__, value.__suppress_context__)
    if isinstance(value, StopIteration):
        walk.put(value.value)
    if isinstance(value, OSError):
        walk.put(value.errno, value.strerror)


# Functions.


def _function(walk: Walk, value: Any) -> None:
    module = value.__module__ if isinstance(value.__module__, str) else None
    write_code(walk, value.__code__, value.__globals__, module)
    walk.put(value.__defaults__)
    for cell in value.__closure__ or ():
        walk.put(cell)
    if value.__kwdefaults__:
        walk.put(value.__kwdefaults__)
    if value.__dict__:
        walk.put(value.__dict__)


def write_code(walk: Walk, code: Any, variables: dict[str, Any], module: str | None) -> None:
    """A code object, and the variables that it uses where they are not constant."""
    _, token, names = walk.types.code(code, module)
    walk.out.append(token)
    for name in names:
        if name not in variables:
            continue
        found = variables[name]
        walk.put(name, found)
        if type(found) is python.ModuleType and not walk.types.is_constant(found.__name__):
            inside = vars(found)
            for other in names:
                if other in inside:
                    walk.put(other, inside[other])


def _cell(walk: Walk, value: Any) -> None:
    try:
        walk.put(value.cell_contents)
    except ValueError:
        walk.put("empty")


def _builtin(walk: Walk, value: Any) -> None:
    walk.put(value.__qualname__, value.__self__)


def _partial(walk: Walk, value: Any) -> None:
    walk.put("partial", value.func, value.args, value.keywords)


def _wrapped(walk: Walk, value: Any) -> None:
    walk.put(type(value), getattr(value, "__func__", None) or value.__wrapped__)


def _property(walk: Walk, value: Any) -> None:
    walk.put("property", value.fget, value.fset, value.fdel)


# The rest.


def _reduced(walk: Walk, value: Any) -> None:
    """What pickles itself in full."""
    walk.put(type(value).__name__)
    for part in walk.temporary(value.__reduce__())[1:]:
        walk.put(walk.temporary(part))


def _repr(walk: Walk, value: Any) -> None:
    walk.put(type(value).__name__, repr(value))


def _weak(walk: Walk, value: Any) -> None:
    walk.put("weak", value())


def _proxy(walk: Walk, value: Any) -> None:
    """A weak proxy hides what it stands for; a bound method that is asked of it does not. Its text tells whether it is that."""
    try:
        found = value.__init__.__self__
    except ReferenceError:
        walk.put("weak", None)
        return
    except AttributeError:
        found = None
    kind: Any = type(value)
    if kind.__repr__(value).endswith(f" at {id(found):#x}>"):
        walk.put("weak", found)
    else:
        write_unknown(walk, value)


def _uuid(walk: Walk, value: uuid.UUID) -> None:
    walk.put("UUID", walk.number(value.int))


def _lock(walk: Walk, value: Any) -> None:
    walk.put("lock", value.locked())


def _rlock(walk: Walk, value: Any) -> None:
    walk.put("rlock", value._is_owned())


def _buffer(walk: Walk, value: Any) -> None:
    walk.put(value.getvalue(), value.tell()) if not value.closed else walk.put("closed")


def _random(walk: Walk, value: Any) -> None:
    walk.put(number_of(repr(value.getstate())))


_NOTHING: dict[Any, Any] = {}
_VIEWS: tuple[Any, ...] = (_NOTHING.keys(), _NOTHING.values(), _NOTHING.items())
_ITERABLE: tuple[Any, ...] = ((), [], "", "ä", b"", bytearray(), set(), range(0), range(1 << 70), *_VIEWS)
_ITERATORS = {*(type(iter(c)) for c in _ITERABLE), *(type(reversed(c)) for c in (*_VIEWS, []))}


def _view(walk: Walk, value: Any) -> None:
    walk.put(walk.temporary(list(value)))


HANDLERS: dict[type, Handler] = {
    list: _list,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    collections.deque: _deque,
    collections.defaultdict: _default_dict,
    collections.OrderedDict: _dict,
    python.MappingProxyType: lambda walk, value: _dict(walk, dict(value)),
    bytearray: _bytearray,
    memoryview: _memory,
    python.FunctionType: _function,
    python.BuiltinFunctionType: _builtin,
    type(object().__str__): _builtin,
    functools.partial: _partial,
    staticmethod: _wrapped,
    classmethod: _wrapped,
    type(functools.lru_cache(number_of)): _wrapped,
    property: _property,
    python.CellType: _cell,
    weakref.ref: _weak,
    weakref.WeakMethod: lambda walk, value: walk.put("weak method", walk.temporary(value())),
    uuid.UUID: _uuid,
    weakref.ProxyType: _proxy,
    weakref.CallableProxyType: _proxy,
    _thread.LockType: _lock,
    type(_thread.RLock()): _rlock,
    io.BytesIO: _buffer,
    io.StringIO: _buffer,
    python.SimpleNamespace: lambda walk, value: walk.put(vars(value)),
    operator.itemgetter: _reduced,
    operator.attrgetter: _reduced,
    operator.methodcaller: _reduced,
    itertools.count: _repr,
    enumerate: _reduced,
    zip: _reduced,
    map: _reduced,
    filter: _reduced,
    reversed: _reduced,
    **dict.fromkeys(_ITERATORS, _reduced),
    **dict.fromkeys(map(type, _VIEWS), _view),
}
"""By type. Classes derived from these are written so, with their own attributes."""

BASES: dict[type, Handler] = {
    tuple: _derived_tuple,
    str: _derived(str),
    bytes: _derived(bytes),
    int: _derived(int),
    float: _derived(float),
    BaseException: _exception,
}
"""Further types that classes are derived from."""


def _repr_of(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _attribute_of_class(value: Any) -> str:
    return f"{type(value).__name__} {value.__objclass__.__qualname__}.{value.__name__}"


def _builtin_function(value: Any) -> str | None:
    owner = value.__self__
    return f"builtin {owner.__name__}.{value.__name__}" if type(owner) is python.ModuleType else None


CONSTANTS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(
        (
            complex,
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
    python.BuiltinFunctionType: _builtin_function,
    python.ModuleType: lambda value: f"module {value.__name__}",
    python.CodeType: lambda value: f"code {value.co_filename}:{value.co_firstlineno}:{value.co_name}",
    contextvars.ContextVar: lambda value: f"variable {value.name}",
    type(sys.version_info): repr,
    type(vars(collections.namedtuple("_One", "one"))["one"]): lambda value: "tuple getter",
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
"""Types that are written as a value."""
