"""How instances of classes are written by the walk, and classes themselves: by attributes and slots.

A class of Python's gets a handler of its own, made once (`instances`). Nearly all instances of one class have the same
attributes in the same order; so a handler remembers the names that it saw last, and what stands for them.
"""

from __future__ import annotations

import gc
import types as python
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.plain import ABSENT, head, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk

_CLASS = head("class")
_FED = head("fed")
_FROZEN = head("frozen")


def instances(
    cls: type, token: bytes | None, slots: tuple[Any, ...], inner: Handler | None, skip: frozenset[str]
) -> Handler:
    """How instances of a class of Python's are written.

    Args:
        cls: the class.
        token: what stands for it in every world; None if it is an object like others.
        slots: descriptors of its slots, those of its bases among them.
        inner: how what it is derived from is written.
        skip: names of attributes and slots that are left out.
    """
    slots = tuple(slot for slot in slots if slot.__name__ not in skip)
    dictionary = next((vars(c)["__dict__"].__get__ for c in cls.__mro__ if _keeps_dict(c)), None)
    get_slots = _getter(cls, slots)
    if token is not None and inner is None:
        if dictionary is None:
            return _by_slots(token, get_slots)
        if not slots and not skip:
            return _by_dictionary(token, dictionary)
    begin = head("instance") if token is None else token
    shapes: dict[tuple[str, ...], tuple[bytes, Callable[[Any], Iterable[Any]]]] = {}

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        walk.write(begin)
        parts: list[Any] = [cls] if token is None else []
        if inner is not None:
            parts += inner(walk, value)
        if dictionary is not None:
            attributes = dictionary(value)
            names = tuple(attributes)
            shape = shapes.get(names)
            if shape is None:
                shape = shapes[names] = _shape(names, skip)
            text, pick = shape
            walk.write(text)
            parts += pick(attributes)
        parts += get_slots(value)
        return parts

    return write


def _shape(names: tuple[str, ...], skip: frozenset[str]) -> tuple[bytes, Callable[[Any], Iterable[Any]]]:
    """What stands for attributes of these names, and what picks their values."""
    kept = [name for name in names if name not in skip]
    text = label(repr(kept))
    if len(kept) == len(names):
        return text, dict.values
    if len(kept) > 1:
        return text, itemgetter(*kept)
    return text, lambda attributes: [attributes[name] for name in kept]


def _by_dictionary(token: bytes, dictionary: Callable[[Any], dict[str, Any]]) -> Handler:
    """For instances that have a dictionary and nothing else."""
    known: dict[tuple[str, ...], bytes] = {}
    last: tuple[str, ...] | None = None
    begin = b""

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        nonlocal last, begin
        attributes = dictionary(value)
        names = tuple(attributes)
        if names != last:
            last, begin = names, known.get(names) or known.setdefault(names, token + label(repr(names)))
        walk.write(begin)
        return attributes.values()

    return write


def _by_slots(token: bytes, get_slots: Callable[[Any], Iterable[Any]]) -> Handler:
    """For instances that have slots and nothing else."""

    def write(walk: Walk, value: Any) -> Iterable[Any]:
        walk.write(token)
        return get_slots(value)

    return write


def _getter(cls: type, slots: tuple[Any, ...]) -> Callable[[Any], Iterable[Any]]:
    """What reads slots. It is in C, if none is unset, and if reading an attribute calls nothing but its descriptor."""
    if not slots:
        return lambda _: ()
    each = each_of(slots)
    names = [slot.__name__ for slot in slots]
    asked = _found(cls, "__getattr__") is not None or _found(cls, "__getattribute__") is not _found(
        object, "__getattribute__"
    )
    if len(slots) < 2 or asked or any(_found(cls, slot.__name__) is not slot for slot in slots):
        return each
    together: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)

    def at_once(value: Any) -> Iterable[Any]:
        try:
            return together(value)
        except AttributeError:
            return each(value)

    return at_once


def each_of(descriptors: Iterable[Any]) -> Callable[[Any], list[Any]]:
    """What asks descriptors one by one, of which some may have nothing to say."""
    getters = [descriptor.__get__ for descriptor in descriptors]

    def each(value: Any) -> list[Any]:
        found = []
        for get in getters:
            try:
                found.append(get(value))
            except AttributeError:
                found.append(ABSENT)
        return found

    return each


def _found(cls: type, name: str) -> Any:
    """What a class says of an attribute, without asking it."""
    return next((vars(c)[name] for c in cls.__mro__ if name in vars(c)), None)


def _keeps_dict(cls: type) -> bool:
    return type(vars(cls).get("__dict__")) is python.GetSetDescriptorType


def write_class(walk: Walk, cls: Any) -> Iterable[Any]:
    """A class that was made in a run, or one of the application's: its functions and variables."""
    parts = [cls.__qualname__, len(cls.__bases__), *cls.__bases__]
    for name, value in list(vars(cls).items()):
        if (not name.startswith("__") and name != "_abc_impl") or isinstance(value, python.FunctionType):
            parts += (name, value)
    parts.append(ABSENT)
    walk.write(_CLASS)
    return parts


def write_frozen(walk: Walk, value: Any) -> Iterable[Any]:
    """What does not change."""
    walk.write(_FROZEN)
    return (type(value),)


def write_unknown(walk: Walk, value: Any) -> Iterable[Any]:
    """What hides something."""
    walk.write(walk.types.never(type(value)))
    return ()


def write_fed(walk: Walk, value: Any) -> Iterable[Any]:
    """What its connection alone feeds."""
    walk.write(_FED)
    history = walk.history(walk.owner)
    if history is None:
        walk.write(walk.types.never(type(value)))
    referents = gc.get_referents(value)
    return (type(value), history, len(referents), *referents)
