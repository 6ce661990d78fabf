"""The canonical walk over live objects: what it writes is equal for two worlds that differ in nothing but names.

Theory of operation
===================

The walk begins at roots in an order that means something (scripts in the order of their start, then processes) and goes
breadth first. What it meets for the first time gets the next number and is written later; what it met before is written
as its number. So identity is kept and addresses are not: two graphs of objects give the same text if and only if one
can be laid on the other.

Rules for this file:

1. A value without identity (numbers, text, bytes, tuples, bound methods) is written as it is. Everything else is a number.
2. A set has no order: its members are written in the order of their numbers. Members that only the set knows are put in
   order by a walk of their own from each; so sets are left to the end, when nearly all members have numbers.
3. What a run counts is no value: the port of a connection, the number of an application's call; nor is a UUID, which is
   drawn to be a name. It is written as the
   order in which the walk met it. The same goes for moments on the world's two clocks, which are written as distances
   from now; other floats are written as they are, which at worst tells two equal states apart.
4. Nothing is called that code under test defines: no `__eq__`, `__hash__`, `__repr__` or property.
5. What a handler makes itself is a tuple, or kept with `temporary`: an address that is used again would be taken for an
   object that was met.
6. What cannot be seen into and is not known by what was fed to it is written as a token that was never written
   before: two such states are never taken for one.

What is written is a flat list of marshal's types, because marshal and BLAKE2 are fast and in C. References are floats
there and floats are complex numbers, so that neither can be taken for an integer.
"""

from __future__ import annotations

import marshal
from collections import deque
from hashlib import blake2b
from types import MethodType
from typing import TYPE_CHECKING, Any

from sim.world.clock import EPOCH, MONOTONIC
from sim.world.fingerprint.plain import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.world.endpoint import Endpoint
    from sim.world.fingerprint.types import Types
    from sim.world.world import World


CANONICAL_MARSHAL = 2
"""From version 3 on, marshal writes shared objects as references, and so tells by identity what is equal."""
FAR = 1e8
"""Virtual seconds behind which a float is not taken for a moment."""
BUDGET = 5_000
"""Objects that the walk from a set's member may meet."""
COMPOUND = frozenset({tuple, MethodType})
"""What is written as a value, of whose parts some may be objects."""
PORTS = range(32_768, 61_000)
PORTS_AS_TEXT = frozenset(map(str, PORTS))


class Walk:
    """One walk over one world.

    Args:
        world: the world.
        types: how each type is written.
        names: what stands for a name that a run counted, by the name; asked once for each name.
        history: what stands for all that happened on a connection, for what only its bytes can tell of.
    """

    __slots__ = ("_kinds", "_mono", "_names", "_wall", "budget", "counted", "history", "keep", "later", "names", "out", "owner",
                 "queue", "seen", "sockets", "types", "world")  # fmt: skip

    def __init__(
        self,
        world: World,
        types: Types,
        names: Callable[[str], Any],
        history: Callable[[Endpoint | None], Any],
    ) -> None:
        self.world = world
        self.types = types
        self.names = names
        self.history = history
        self.out: list[Any] = []
        self.seen: dict[int, float] = {}
        self.queue: deque[tuple[Any, Endpoint | None]] = deque()
        self.later: list[tuple[Any, Endpoint | None]] = []
        self.keep: list[Any] = []
        """What only this walk holds; without it an address could be met twice."""
        self.owner: Endpoint | None = None
        """The connection whose objects are being written."""
        self.counted: dict[Any, Any] = {}
        self.sockets = {
            id(sock._file.endpoint): sock for sock in world._fds.values() if sock._file.endpoint is not None
        }
        self.budget = 0
        self._names = world.trace.counted
        self._kinds = types.constant
        self._mono = MONOTONIC + world.clock.now
        self._wall = EPOCH + world.clock.now

    # Writing.

    def put(self, *values: Any) -> None:
        """Write values. Nearly all of a walk's time is spent here."""
        write, seen, names, kinds = self.out.append, self.seen, self._names, self._kinds
        for value in values:
            kind = type(value)
            if kind in PLAIN or (kind is str and value not in names):
                write(value)
                continue
            known = seen.get(id(value))
            if known is None:
                if kinds.get(kind, self) is None:
                    known = seen[id(value)] = float(len(seen))
                    self.queue.append((value, self.owner))
                else:
                    known = self.token(value)
            write(known)

    def token(self, value: Any) -> Any:
        """What stands for a value."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is str:
            return self.name(value) if value in self._names else value
        known = self.seen.get(id(value))
        if known is not None:
            return known
        if kind is tuple:
            return self._tuple(value)
        if kind is float:
            return self._float(value)
        if kind is MethodType:
            return ("method", self.token(value.__func__), self.token(value.__self__))
        constant = self._constant(value, kind)
        if constant is not None:
            return constant
        number = self.seen[id(value)] = float(len(self.seen))
        self.queue.append((value, self.owner))
        return number

    def _constant(self, value: Any, kind: type) -> Any:
        """What stands for an object that is written as a value; None if it is not. Both are so from the first time on.

        It is not for what is `COMPOUND`: `put` takes what was learnt here for objects with an identity.
        """
        if kind not in self.types.handlers:
            self.types.learn(kind)
        constant = self._kinds[kind]
        return constant(value) if constant is not None else None

    def name(self, name: str) -> Any:
        """What stands for a name that the run counted (rule 3)."""
        found = self.counted.get(name)
        if found is None:
            found = self.counted[name] = ("name", len(self.counted), self.names(name))
        return found

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        if len(value) == 2 and type(value[0]) is str:
            port = value[1]
            if type(port) is int and port in PORTS:
                return (value[0], self.number(value))
            if type(port) is str and port in PORTS_AS_TEXT:
                return (value[0], "text", self.number((value[0], int(port))))
        return tuple([v if type(v) in PLAIN else self.token(v) for v in value])

    def number(self, drawn: Any) -> Any:
        """What stands for something that a run counted or drew to have a name (rule 3): a port, a UUID."""
        found = self.counted.get(drawn)
        if found is None:
            found = self.counted[drawn] = ("number", len(self.counted))
        return found

    def _float(self, value: float) -> complex:
        if value >= MONOTONIC:
            if value < MONOTONIC + FAR:
                return complex(round(value - self._mono, 9), 1.0)
            if value >= EPOCH - FAR:
                return complex(round(value - self._wall, 6), 2.0)
        return complex(value, 0.0)

    def distance(self, when: float) -> complex:
        """How far a moment of virtual time is from now."""
        return complex(round(when - self.world.clock.now, 9), 1.0)

    def temporary(self, value: Any) -> Any:
        """`value`, which nothing else holds, kept alive until the walk is over."""
        self.keep.append(value)
        return value

    # Walking.

    def run(self) -> None:
        """Write everything that can be reached from what was written."""
        queue, handlers, out = self.queue, self.types.handlers, self.out
        while True:
            while queue:
                if self.budget and len(self.seen) > self.budget:
                    out.append("budget")
                    return
                value, self.owner = queue.popleft()
                handlers[type(value)](self, value)
            if not self.later:
                return
            value, self.owner = self.later.pop(0)
            self._unordered(value)

    def unordered(self, members: Iterable[Any]) -> None:
        """Write members that have no order, later (rule 2)."""
        out = self.out
        out.append("set")
        self.later.append((self.temporary(list(members)), self.owner))

    def _unordered(self, members: list[Any]) -> None:
        """Rule 2. A member's own walk writes numbers that this walk has given as they are."""
        written, known, new = [], [], []
        for member in members:
            kind = type(member)
            if kind in PLAIN or kind is str or kind is float:
                written.append(self.token(member))
            elif id(member) in self.seen:
                known.append(self.seen[id(member)])
            else:
                value = self._constant(member, kind) if kind not in COMPOUND else None
                if value is None:
                    new.append(member)
                else:
                    written.append(value)
        if len(written) > 1:
            written.sort(key=_text)
        if len(new) > 1:
            new.sort(key=self._own)
        self.out.append(("members", *written, *sorted(known)))
        self.put(*new)

    def _own(self, member: Any) -> bytes:
        walk = Walk(self.world, self.types, self.names, self.history)
        walk.seen = dict(self.seen)
        walk.counted = dict(self.counted)
        walk.budget = len(self.seen) + BUDGET if not self.budget else self.budget
        walk.owner = self.owner
        walk.put(member)
        if self.budget:
            return walk.digest()
        walk.run()
        return walk.digest()

    def digest(self) -> bytes:
        """Sixteen bytes that stand for what was written."""
        return blake2b(marshal.dumps(self.out, CANONICAL_MARSHAL), digest_size=16).digest()


def _text(written: Any) -> tuple[str, bytes]:
    return type(written).__name__, marshal.dumps(written, CANONICAL_MARSHAL)
