"""The boundary: inside a world, what a program asks of its surroundings is answered by the world or refused.

Theory of operation
===================

`Boundary` replaces functions of the standard library (the clocks of `time` and `datetime`, entropy, sockets, signal
handlers, log records, what starts threads and processes) by *dispatchers*. A dispatcher asks which world runs **in
this thread**: none, and it calls the original; some, and the world answers. So a Jupyter kernel's other threads
notice nothing, and neither does this thread between two runs. What has no virtual counterpart (threads, subprocesses,
real sleep) is refused with `BoundaryError`, in this thread, inside a run, and nowhere else. What is answered and how
is in `sim.world.answers`, the classes are in `sim.world.disguise`.

Rules for this file:

1. Every replacement is undone by the last `close()`, in every module that holds it.
2. A dispatcher does one thing: choose between the original and the world.
3. Nothing real is let through silently. What is refused is also noted in `world.refused`, because the code under
   test may swallow the exception: the run then still ends with it.

How references are found: a module that wrote `from time import time` holds the original function itself. On
opening, every loaded module is looked through for such references and they are replaced; on closing, every module is
looked through for dispatchers, so that modules imported in between are cleaned too. Where a module knows one of the
patched modules at all, its functions' defaults (`def f(clock=time.monotonic)`) and its classes' attributes
(`clock = staticmethod(time.time)`) are looked through as well. All this takes some tens of milliseconds, and happens
once for a whole search, not for each run.

Rejected: replacing C type slots (`datetime.datetime.now` in place) works, but in every thread and by undocumented
means. Not seen by this boundary: references in closures, instances and containers; `now()` of classes that were
derived from `datetime` before it was opened; extension modules that read clocks or entropy by themselves (OpenSSL's
own randomness, so the bytes of a TLS connection; NumPy's global generator); a real `threading.Lock` that is never
released. The local time zone is the machine's. `Divergence` is the net below.
"""

from __future__ import annotations

import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from sim.world import abandon, answers, disguise
from sim.world.active import activated, active, current_world, get_ident

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Boundary", "activated", "current_world"]


class Dispatcher:
    """Stands in for a function written in C. Like that, and unlike a Python function, it is not a descriptor."""

    def __init__(self, original: Any, inside: Callable[..., Any]) -> None:
        self.__wrapped__ = original
        self._inside = inside
        self.__name__ = original.__name__
        self.__qualname__ = original.__qualname__
        self.__module__ = original.__module__
        self.__doc__ = original.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        world = active.get(get_ident())
        return self.__wrapped__(*args, **kwargs) if world is None else self._inside(world, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __eq__(self, other: object) -> bool:
        """It is found in sets of functions, such as `os.supports_dir_fd`."""
        return self is other or self.__wrapped__ is other

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __reduce__(self) -> str:
        return str(self.__name__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def _dispatch(original: Any, inside: Callable[..., Any]) -> Any:
    """Something that calls `inside(world, ...)` in a world and `original(...)` elsewhere."""
    if not isinstance(original, types.FunctionType):
        return Dispatcher(original, inside)

    def dispatcher(*args: Any, **kwargs: Any) -> Any:
        world = active.get(get_ident())
        return original(*args, **kwargs) if world is None else inside(world, *args, **kwargs)

    dispatcher.__name__ = original.__name__
    dispatcher.__qualname__ = original.__qualname__
    dispatcher.__module__ = original.__module__
    dispatcher.__doc__ = original.__doc__
    dispatcher.__wrapped__ = original  # type: ignore[attr-defined]
    return dispatcher


class Boundary:
    """The replacements, from construction to `close()`. Boundaries of several threads share them."""

    _open = 0
    _lock = threading.Lock()
    _replaced: dict[int, tuple[Any, Any]] = {}  # noqa: RUF012 - shared on purpose, guarded by the lock
    _methods: list[tuple[type, str, Any]] = []  # noqa: RUF012

    def __init__(self) -> None:
        self._closed = False
        with Boundary._lock:
            if Boundary._open == 0:
                Boundary._install()
            Boundary._open += 1

    def close(self) -> None:
        """Undo the replacements if no other boundary is open. Closing twice does no harm."""
        with Boundary._lock:
            if self._closed:
                return
            self._closed = True
            Boundary._open -= 1
            if Boundary._open == 0:
                Boundary._remove()

    def __enter__(self) -> Boundary:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @classmethod
    def _install(cls) -> None:
        replaced: dict[int, tuple[Any, Any]] = {}
        for module, name, inside in answers.functions():
            original = getattr(module, name, None)
            if original is not None:
                replaced[id(original)] = (original, _dispatch(original, inside))
        for real, ours in disguise.PAIRS:
            replaced[id(real)] = (real, ours)
        for owner, name, inside in answers.methods():
            original = owner.__dict__[name]
            cls._methods.append((owner, name, original))
            if isinstance(original, classmethod):
                setattr(owner, name, classmethod(_dispatch(original.__func__, inside)))
            else:
                setattr(owner, name, _dispatch(original, inside))
        disguise.put_on()
        abandon.listen()
        cls._replaced = replaced
        _rewrite(replaced)

    @classmethod
    def _remove(cls) -> None:
        _rewrite({id(new): (new, original) for original, new in cls._replaced.values()})
        disguise.take_off()
        abandon.stop_listening()
        while cls._methods:
            owner, name, original = cls._methods.pop()
            setattr(owner, name, original)


_OURS = __name__.rpartition(".")[0]


def _rewrite(table: dict[int, tuple[Any, Any]]) -> None:
    """In every loaded module, replace each reference to a key of `table` (by identity) by its value."""
    sources = {id(module) for module, _, _ in answers.functions()}
    sought = sources | table.keys()
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_OURS):
            continue
        try:
            namespace: dict[str, Any] = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue
        known = sought.intersection(map(id, list(namespace.values())))
        if not known <= sources:
            for name, value in list(namespace.items()):
                entry = table.get(id(value))
                if entry is not None and entry[0] is value:
                    namespace[name] = entry[1]
        if known or id(module) in sources:
            _rewrite_deeper(module_name, namespace, table)


def _rewrite_deeper(module_name: str, namespace: dict[str, Any], table: dict[int, tuple[Any, Any]]) -> None:
    """The same in the defaults of a module's functions, and in its classes."""
    for thing in list(namespace.values()):
        if type(thing) is types.FunctionType:
            if thing.__module__ == module_name:
                _rewrite_defaults(thing, table)
        elif isinstance(thing, type) and thing.__module__ == module_name:
            for name, value in list(vars(thing).items()):
                held = value.__func__ if type(value) is staticmethod else value
                if type(held) is types.FunctionType:
                    _rewrite_defaults(held, table)
                entry = table.get(id(held))
                if entry is not None and entry[0] is held and thing.__flags__ & _HEAP_TYPE:
                    type.__setattr__(thing, name, entry[1] if held is value else staticmethod(entry[1]))


_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class that was made at run time, and so can be changed."""


def _rewrite_defaults(function: types.FunctionType, table: dict[int, tuple[Any, Any]]) -> None:
    if function.__defaults__ is not None and any(id(d) in table for d in function.__defaults__):
        function.__defaults__ = tuple(_swapped(d, table) for d in function.__defaults__)
    keywords = function.__kwdefaults__
    if keywords is not None:
        for name, value in keywords.items():
            keywords[name] = _swapped(value, table)


def _swapped(value: Any, table: dict[int, tuple[Any, Any]]) -> Any:
    entry = table.get(id(value))
    return entry[1] if entry is not None and entry[0] is value else value
