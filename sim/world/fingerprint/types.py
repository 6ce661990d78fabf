"""How each type of object is written by the walk: found out once for each type, from what it is made of.

Rules for this file:

1. A class of Python's is written by what its instances hold: `__dict__` and slots, with the class's name.
2. A type written in C is known by name (`builtin`, `exceptions`, `hints`, `frames`), or it hides something. Whether it
   does is told by its size: a type whose instances are larger than their bases, slots and dictionaries explain has fields
   of its own.
3. What hides something is written by what was fed to it, where the subject says that its connection alone feeds it
   (parsers, compressors); otherwise as what was never seen before.
4. Modules and classes are constant, except those of the application: their variables are written where a function
   that uses them is met. The standard library, the engine, and packages that the subject names are held to keep
   nothing in variables of modules and classes, nor on functions, from one event to the next.
5. How a type is written does not depend on which types were met before it.
"""

from __future__ import annotations

import collections
import enum
import sys
import types as python
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.world.fingerprint import builtin, exceptions, frames, hints
from sim.world.fingerprint.codes import names_of, text_of_code
from sim.world.fingerprint.instances import instances, write_class, write_fed, write_frozen, write_unknown
from sim.world.fingerprint.lasting import Lasting
from sim.world.fingerprint.plain import Heads, label
from sim.world.fingerprint.walk import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.world.fingerprint.walk import Walk

Handler: TypeAlias = "Callable[[Walk, Any], Iterable[Any]]"
"""How an object is written: it may write to the walk, and returns what is written behind that, its parts."""
Way: TypeAlias = "Callable[[Walk, Any], bytes | None]"
"""What stands for a value; None if it is an object."""

_POINTER = 8
_MANAGED_WEAKREF, _MANAGED_DICT = 1 << 3, 1 << 4
"""Bits of `__flags__` in Python's header files; earlier Pythons leave them unset."""
_NEVER = Heads(b"!")
_ENGINE = frozenset({"sim", "models"})
_BUILTINS = frozenset({"builtins", "__builtin__"})
_LOGGING = ("logging.Logger", "logging.RootLogger", "logging.PlaceHolder", "logging.Manager")


@attrs.frozen
class Knowledge:
    """What is known of the code in a world that cannot be found out by looking at it.

    Attributes:
        constant: top-level packages that keep nothing in module or class variables from one event to the next.
        fed: types, as `module.name`, whose state is a function of what their connection carried.
        frozen: types, as `module.name`, whose instances do not change once they are made in a run, and are made alike in
            each (configuration). They are written as numbers alone.
        skip: attributes that tell nothing, as `module.class.attribute`.
        pickled: types written in C, as `module.name`, that say when they are pickled all that they were made of, and whose
            instances do not change. They are written as that.
    """

    constant: frozenset[str] = frozenset()
    fed: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    pickled: frozenset[str] = frozenset()


class Types:
    """How each type is written. It lasts for a whole search.

    Args:
        knowledge: what the subject says of its code.
        handlers: of the world's own types.
        constants: of types that are written as a value: a function from an object to a text.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        handlers: dict[type, Handler],
        constants: dict[type, Callable[[Any], str]],
    ) -> None:
        self._knowledge = knowledge
        self._constant_packages = sys.stdlib_module_names | _BUILTINS | _ENGINE | knowledge.constant
        known = {**frames.HANDLERS, **exceptions.HANDLERS, **hints.HANDLERS, **handlers}
        self._bases = {**builtin.BASES, **exceptions.BASES, **known}
        self.handlers: dict[type, Handler] = {**builtin.HANDLERS, **builtin.EXACT, **known, type: write_class}
        self.ways: dict[type, Way | None] = _Ways(self._learn)
        """By each type that was met: what stands for its instances as values; None if they never are values."""
        self.ways.update(dict.fromkeys(self.handlers))
        self.ways.update(WAYS)
        self.ways.update({kind: _telling(tell) for kind, tell in (builtin.CONSTANTS | constants).items()})
        self.ways.update(
            {
                type: self._class,
                python.FunctionType: self._function,
                python.BuiltinFunctionType: self._builtin_function,
                python.ModuleType: self._named,
            }
        )
        self.lasting = Lasting()
        self.ordered = False
        """Whether the order of timers that are due at one moment is written."""
        self.blind: collections.Counter[str] = collections.Counter()
        """Types of which states were not taken for others they may have been, and how often."""
        self.codes: dict[int, tuple[Any, bytes, tuple[str, ...]]] = {}
        """What `code` said of a code object, by its address."""
        self.layouts: dict[tuple[int, int, int, tuple[str, ...] | None], frames.Layout] = {}
        """What is known of frames: by the address of their code, their position, how many things they hold, and the names
        that are bound, if these are not all."""

    # What is written as a value.

    def is_constant(self, module: str | None) -> bool:
        """Rule 4: whether a module's variables need not be looked at."""
        return (module or "").partition(".")[0] in self._constant_packages

    def is_engine(self, module: str | None) -> bool:
        """Whether a module is one of the engine's, or of the models that stand for programs."""
        return (module or "").partition(".")[0] in _ENGINE

    def _token_of_class(self, cls: type) -> bytes | None:
        """What stands for a class in every world; None if it has to be looked into."""
        module = cls.__module__ if isinstance(cls.__module__, str) else None
        if "<locals>" in cls.__qualname__ or not self.is_constant(module):
            return None
        return label(f"class {module}.{cls.__qualname__}")

    def _class(self, _walk: Walk, cls: type) -> bytes | None:
        token = self._token_of_class(cls)
        return token and self.lasting.keep(cls, token)

    def _function(self, _walk: Walk, function: Any) -> bytes | None:
        """What stands for a function that holds nothing; None for another."""
        if function.__closure__ is not None or function.__dict__:
            return None
        _, token, names = self.code(function.__code__, function.__module__)
        if names or not self.is_constant(function.__module__):
            return None
        return token if "<locals>" in function.__qualname__ else self.lasting.keep(function, token)

    def _builtin_function(self, _walk: Walk, function: Any) -> bytes | None:
        owner = function.__self__
        if type(owner) is not python.ModuleType:
            return None
        return self.lasting.keep(function, label(f"builtin {owner.__name__}.{function.__name__}"))

    def _named(self, _walk: Walk, value: Any) -> bytes:
        """A module or a logger."""
        name = vars(value).get("__name__") or vars(value).get("name")
        return self.lasting.keep(value, label(f"{type(value).__name__} {name}"))

    def _member(self, _walk: Walk, value: enum.Enum) -> bytes:
        token = label(f"{_full_name(type(value))}.{value._name_}")
        return token if "<locals>" in type(value).__qualname__ else self.lasting.keep(value, token)

    def code(self, code: Any, module: str | None) -> tuple[Any, bytes, tuple[str, ...]]:
        """A code object, what stands for it, and the global names in it that have to be looked at."""
        found = self.codes.get(id(code))
        if found is None:
            names = () if self.is_constant(module) else tuple(dict.fromkeys(names_of(code)))
            token = label(text_of_code(code))
            found = self.codes[id(code)] = (code, token, names)
        return found

    def never(self, what: type) -> bytes:
        """A token that was not written since `blind` was empty. It follows from that alone, which a checkpoint keeps."""
        self.blind[_full_name(what)] += 1
        return _NEVER[sum(self.blind.values())]

    # Types that were not met before.

    def _learn(self, cls: type) -> None:
        """Find out how instances of `cls` are written."""
        self.handlers[cls] = self._make(cls)
        self.ways.setdefault(cls, None)

    def _make(self, cls: type) -> Handler:
        if issubclass(cls, type):
            self.ways[cls] = self._class
            return write_class
        if issubclass(cls, enum.Enum):
            self.ways[cls] = self._member
        elif issubclass(cls, python.ModuleType) or _full_name(cls) in _LOGGING:
            self.ways[cls] = self._named
        names = {_full_name(c) for c in cls.__mro__}
        if names & self._knowledge.frozen:
            return write_frozen
        if _full_name(cls) in self._knowledge.pickled:
            return builtin.write_reduced
        if names & frames.TRANSPARENT:
            return frames.write_referents
        if names & self._knowledge.fed or names & builtin.FED:
            return write_fed
        base = next((c for c in cls.__mro__ if c in self._bases), object)
        if any(_hides(c) for c in cls.__mro__[: cls.__mro__.index(base)]):
            return write_unknown
        skip = frozenset(n.rpartition(".")[2] for n in self._skipped(cls))
        return instances(cls, self._token_of_class(cls), self._slots(cls, base), self._bases.get(base), skip)

    def _skipped(self, cls: type) -> set[str]:
        every = self._knowledge.skip | builtin.SKIP
        return {n for n in every if n.rpartition(".")[0] in {_full_name(c) for c in cls.__mro__}}

    def _slots(self, cls: type, base: type) -> tuple[Any, ...]:
        slots = []
        for c in cls.__mro__[: cls.__mro__.index(base)]:
            slots += [d for n, d in vars(c).items() if type(d) is python.MemberDescriptorType and n != "__weakref__"]
        return tuple(sorted(slots, key=lambda d: d.__qualname__))


class _Ways(dict[type, "Way | None"]):
    """Ways by type; a type that is not there is learnt."""

    __slots__ = ("_learn",)

    def __init__(self, learn: Callable[[type], None]) -> None:
        self._learn = learn

    def __missing__(self, cls: type) -> Way | None:
        self._learn(cls)
        return self[cls]


def _telling(tell: Callable[[Any], str]) -> Way:
    """A value that is told by a text."""
    return lambda _walk, value: label(tell(value))


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _hides(cls: type) -> bool:
    """Rule 2: whether a class adds fields of its own to those of its base.

    A member of a type written in C may be a single byte, so it explains nothing; a slot of Python's is a pointer. From
    Python 3.11 or 3.12 on, dictionaries and weak references are often kept in front of an object, and explain nothing either.
    """
    base = cls.__base__
    if base is None:
        return False
    own, flags = vars(cls), cls.__flags__
    slots = sum(type(d) is python.MemberDescriptorType for d in own.values()) if "__slots__" in own else 0
    dictionary = "__dict__" in own and not flags & _MANAGED_DICT
    weak = "__weakref__" in own and not flags & _MANAGED_WEAKREF
    return cls.__basicsize__ - base.__basicsize__ > (slots + dictionary + weak) * _POINTER or (
        cls.__itemsize__ != base.__itemsize__
    )
