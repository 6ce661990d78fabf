"""How each type of object is written by the walk: found out once for each type, from what it is made of.

Rules for this file:

1. A class of Python's is written by what its instances hold: `__dict__` and slots, with the class's name.
2. A type written in C is known here by name, or it hides something. Whether it does is told by its size: a type whose
   instances are larger than their bases, slots and dictionaries explain has fields of its own.
3. What hides something is written by what was fed to it, where the subject says that its connection alone feeds it
   (parsers, compressors); otherwise as what was never seen before.
4. Modules and classes are constant, except those of the application: their variables are written where a function
   that uses them is met. The standard library, the engine, and packages that the subject names are held to keep
   nothing in variables of modules and classes from one event to the next.
"""

from __future__ import annotations

import collections
import enum
import itertools
import sys
import types as python
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.world.fingerprint import builtin, frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.fingerprint.walk import Walk

Handler: TypeAlias = "Callable[[Walk, Any], None]"

_POINTER = 8
_ENGINE = frozenset({"sim", "models", "builtins", "__builtin__"})
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
    """

    constant: frozenset[str] = frozenset()
    fed: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()


class Types:
    """The handlers, by type. It lasts for a whole search.

    Args:
        knowledge: what the subject says of its code.
        handlers: of the world's own types.
        constants: of types that are written as a value; a function from an object to that, or None if it is not.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        handlers: dict[type, Handler],
        constants: dict[type, Callable[[Any], Any]],
    ) -> None:
        self._knowledge = knowledge
        self._constant_packages = sys.stdlib_module_names | _ENGINE | knowledge.constant
        self.handlers: dict[type, Handler] = {**builtin.HANDLERS, **frames.HANDLERS, **handlers}
        self.constant: dict[type, Callable[[Any], Any] | None] = {
            **dict.fromkeys(self.handlers),
            type: self._class,
            python.FunctionType: self._function,
            **builtin.CONSTANTS,
            **constants,
        }
        """By each type that was met: how its instances are written as a value; None if they never are."""
        self.ordered = False
        """Whether the order of timers that are due at one moment is written."""
        self.blind: collections.Counter[str] = collections.Counter()
        """Types of which states were not taken for others they may have been, and how often."""
        self._shapes: dict[tuple[str, ...], int] = {}
        self._classes: dict[type, Any] = {}
        self.codes: dict[int, tuple[Any, str, tuple[str, ...]]] = {}
        """What `code` said of a code object, by its address."""
        self._tokens = itertools.count()

    # Names.

    def is_constant(self, module: str | None) -> bool:
        """Rule 4: whether a module's variables need not be looked at."""
        return (module or "").partition(".")[0] in self._constant_packages

    def _class(self, cls: type) -> Any:
        """What stands for a class; None if it has to be looked into."""
        found = self._classes.get(cls)
        if found is None:
            module = cls.__module__ if isinstance(cls.__module__, str) else None
            if "<locals>" in cls.__qualname__ or not self.is_constant(module):
                return None
            found = self._classes[cls] = f"class {module}.{cls.__qualname__}"
        return found

    def _function(self, function: Any) -> Any:
        """What stands for a function that holds nothing; None for another."""
        if function.__closure__ is not None or function.__dict__:
            return None
        _, token, names = self.code(function.__code__, function.__module__)
        return token if not names and self.is_constant(function.__module__) else None

    def shape(self, names: tuple[str, ...]) -> int:
        """A number for a tuple of names, which means the same in each process."""
        found = self._shapes.get(names)
        if found is None:
            found = self._shapes[names] = builtin.number_of(repr(names))
        return found

    def code(self, code: Any, module: str | None) -> tuple[Any, str, tuple[str, ...]]:
        """A code object, what stands for it, and the global names in it that have to be looked at."""
        found = self.codes.get(id(code))
        if found is None:
            names = () if self.is_constant(module) else tuple(dict.fromkeys(builtin.names_of(code)))
            token = f"{code.co_filename}:{code.co_firstlineno}:{code.co_name}:{len(code.co_code)}"
            found = self.codes[id(code)] = (code, token, names)
        return found

    def never(self, what: type) -> tuple[str, int]:
        """A token that was never written before."""
        self.blind[_full_name(what)] += 1
        return ("never", next(self._tokens))

    # Types that were not met before.

    def learn(self, cls: type) -> None:
        """Find out how instances of `cls` are written."""
        self.handlers[cls] = self._make(cls)
        self.constant.setdefault(cls, None)

    def _make(self, cls: type) -> Handler:
        if issubclass(cls, type):
            self.constant[cls] = self._class
            return builtin.write_class
        if issubclass(cls, enum.Enum):
            self.constant[cls] = _member
        elif issubclass(cls, python.ModuleType) or _full_name(cls) in _LOGGING:
            self.constant[cls] = _named
        names = {_full_name(c) for c in cls.__mro__}
        if names & self._knowledge.frozen:
            return builtin.write_frozen
        if names & frames.TRANSPARENT:
            return frames.write_referents
        if names & self._knowledge.fed or names & builtin.FED:
            return builtin.write_fed
        base = next((c for c in cls.__mro__ if c in builtin.BASES or c in self.handlers), object)
        if any(_hides(c) for c in cls.__mro__[: cls.__mro__.index(base)]):
            return builtin.write_unknown
        inner = self.handlers.get(base) if base in self.handlers else builtin.BASES.get(base)
        skip = frozenset(n.rpartition(".")[2] for n in self._skipped(cls))
        return builtin.instances(cls, self._slots(cls, base), inner, skip)

    def _skipped(self, cls: type) -> set[str]:
        every = self._knowledge.skip | builtin.SKIP
        return {n for n in every if n.rpartition(".")[0] in {_full_name(c) for c in cls.__mro__}}

    def _slots(self, cls: type, base: type) -> tuple[Any, ...]:
        slots = []
        for c in cls.__mro__[: cls.__mro__.index(base)]:
            slots += [d for n, d in vars(c).items() if type(d) is python.MemberDescriptorType and n != "__weakref__"]
        return tuple(sorted(slots, key=lambda d: d.__qualname__))


def _member(value: enum.Enum) -> str:
    return f"{_full_name(type(value))}.{value._name_}"


def _named(value: Any) -> str:
    """A module or a logger."""
    return f"{type(value).__name__} {vars(value).get('__name__') or vars(value).get('name')}"


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _hides(cls: type) -> bool:
    """Rule 2: whether a class adds fields of its own to those of its base."""
    base = cls.__base__
    if base is None:
        return False
    own = vars(cls)
    slots = sum(type(d) is python.MemberDescriptorType for d in own.values())
    explained = slots + ("__dict__" in own) + ("__weakref__" in own)
    return cls.__basicsize__ - base.__basicsize__ > explained * _POINTER or cls.__itemsize__ != base.__itemsize__
