"""Values in words that are the same in two runs as far as the runs are: for telling where two executions part.

Rules for this file:

1. No code of the program is called: no `__repr__`, no property, no iterator of its own.
2. What says nothing of a run is left out: addresses, the order of a set, the insides of what is not the program's own.
3. The text is bounded, however large the value is.
"""

from __future__ import annotations

import itertools
import sys
import types
import zlib
from typing import TYPE_CHECKING, Any

from sim.world.blame import OWN, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEEPEST = 4
"""Containers in containers that are looked into."""
MOST = 400
"""Values of which one text tells."""
LONGEST = 200
"""Characters of a text or of bytes that are shown; the rest is in a checksum."""


def told(value: object) -> str:
    """`value` in words."""
    return _Teller().tell(value, DEEPEST)


class _Teller:
    """One text in the making: what is left to tell, and which objects it is inside."""

    def __init__(self) -> None:
        self.left = MOST
        self.inside: set[int] = set()

    def tell(self, value: Any, depth: int) -> str:
        kind = type(value)
        self.left -= 1
        if kind in _PLAIN:
            return _clipped(repr(value))
        how = next((how for base, how in _CONTAINERS if issubclass(kind, base)), None)
        if how is None:
            for base in _PLAIN:
                if issubclass(kind, base):
                    return f"{kind.__name__}({_clipped(base.__repr__(value))})"
            if issubclass(kind, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
                return str(getattr(value, "__qualname__", value.__name__))
            how = _attributes if _own(kind) or issubclass(kind, BaseException) else None
        if how is None or depth == 0 or self.left <= 0 or id(value) in self.inside:
            return f"<{kind.__name__}>"
        self.inside.add(id(value))
        text = how(self, value, depth - 1)
        self.inside.discard(id(value))
        return text if kind in _BUILT_IN else f"{kind.__name__}{text}"

    def each(self, values: Iterator[Any], depth: int) -> Iterator[str]:
        """The texts of as many as may be told."""
        for value in values:
            if self.left <= 0:
                yield "..."
                return
            yield self.tell(value, depth)


def _list(teller: _Teller, value: list[Any], depth: int) -> str:
    return f"[{', '.join(teller.each(list.__iter__(value), depth))}]"


def _tuple(teller: _Teller, value: tuple[Any, ...], depth: int) -> str:
    return f"({', '.join(teller.each(tuple.__iter__(value), depth))})"


def _set(teller: _Teller, value: set[Any] | frozenset[Any], depth: int) -> str:
    iterate = set.__iter__ if isinstance(value, set) else frozenset.__iter__
    count = len(list(iterate(value)))  # type: ignore[arg-type]
    if count > teller.left:
        return f"{{{count} members}}"
    return "{" + ", ".join(sorted(teller.each(iterate(value), depth))) + "}"  # type: ignore[arg-type]


def _dict(teller: _Teller, value: dict[Any, Any], depth: int) -> str:
    texts: list[str] = []
    for key in dict.__iter__(value):
        if teller.left <= 0:
            texts.append("...")
            break
        texts.append(f"{teller.tell(key, depth)}: {teller.tell(dict.__getitem__(value, key), depth)}")
    return "{" + ", ".join(texts) + "}"


def _attributes(teller: _Teller, value: object, depth: int) -> str:
    found = list(_held(value))
    if isinstance(value, BaseException):
        found.insert(0, ("args", _ARGS.__get__(value)))
    texts = [
        f"{name}={text}" for (name, _), text in zip(found, teller.each((v for _, v in found), depth), strict=False)
    ]
    return f"({', '.join(texts)})"


def _held(value: object) -> Iterator[tuple[str, object]]:
    """What an object's dictionary and slots hold."""
    own = next((vars(base)["__dict__"] for base in type(value).__mro__ if "__dict__" in vars(base)), None)
    if isinstance(own, types.GetSetDescriptorType):
        yield from list(own.__get__(value, type(value)).items())
    for base in type(value).__mro__:
        for name, slot in list(vars(base).items()):
            if isinstance(slot, types.MemberDescriptorType) and _own(base):
                try:
                    yield name, slot.__get__(value, type(value))
                except AttributeError:
                    continue


def _own(kind: type) -> bool:
    """Whether a class is the program's own."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and rank(file) == OWN


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}...#{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


_PLAIN: tuple[Any, ...] = (bool, int, float, complex, str, bytes, bytearray, type(None), range, slice, itertools.count)
_ARGS = BaseException.__dict__["args"]
_BUILT_IN = (list, tuple, set, frozenset, dict)
_CONTAINERS: tuple[tuple[type, Callable[[_Teller, Any, int], str]], ...] = (
    (dict, _dict),
    (list, _list),
    (tuple, _tuple),
    (set, _set),
    (frozenset, _set),
)
