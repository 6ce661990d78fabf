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
   drawn to be a name. It is written as the order in which the walk met it. Nor are moments on the world's two clocks:
   they are written as distances from now. Other floats are written as they are, which at worst tells two equal states
   apart.
4. Nothing is called that code under test defines: no `__eq__`, `__hash__`, `__repr__` or property.
5. What was met is held until the walk is over, because an address that is used again would be taken for what was there
   before. Then all is let go.
6. What cannot be seen into and is not known by what was fed to it is written as a token that was never written
   before: two such states are never taken for one.

What is written is a text of bytes, in tokens of which each tells where it ends; its digest is the fingerprint. A handler
(`sim.world.fingerprint.types`) writes a head, which says what kind of thing this is and of how many parts, and returns
the parts. What stands for a part is looked up by its address. What is written alike each time (small integers, classes,
text, headers) is found there from the beginning: see `sim.world.fingerprint.lasting`. So the two loops of `run` are
all that happens to most parts, and nearly all that a walk costs.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from struct import Struct
from types import MethodType
from typing import TYPE_CHECKING, Any

from sim.world.clock import EPOCH, MONOTONIC
from sim.world.fingerprint.plain import NUMBERS, TUPLE, Heads, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.endpoint import Endpoint
    from sim.world.fingerprint.types import Types, Way
    from sim.world.world import World


FAR = 1e8
"""Virtual seconds behind which a float is not taken for a moment."""
BUDGET = 5_000
"""Objects that the walk from a set's member may go to."""
ATOMS = frozenset({type(None), bool, int, str, bytes})
"""Parts of tuples that are written alike at each look at a world (rule 2 of `sim.world.fingerprint.lasting`)."""
COMPOUND = frozenset({tuple, MethodType})
"""What is written as a value, of whose parts some may be objects. In a set they are put in order as objects are."""
PORTS = range(32_768, 61_000)
PORTS_AS_TEXT = frozenset(map(str, PORTS))

_LATER, _MEMBERS = Heads(b"&"), Heads(b"|")
_NAME = Heads(b"n")
_COUNTED = Heads(b"c")
_DOUBLE = Struct("<d").pack


class Walk:
    """One walk over one world.

    Args:
        world: the world.
        types: how each type is written.
        names: what stands for a name that a run counted, by the name; asked once for each name.
        history: what stands for all that happened on a connection, for what only its bytes can tell of.
        seen: what stands for things before anything was met, by address; it becomes the walk's own.
    """

    __slots__ = ("_begun", "_held", "_limit", "_mono", "_queue", "_unordered", "_wall", "counted", "history", "names", "owner",
                 "seen", "sockets", "text", "types", "world", "write")  # fmt: skip

    def __init__(
        self,
        world: World,
        types: Types,
        names: Callable[[str], tuple[Any, ...]],
        history: Callable[[Endpoint | None], Any],
        seen: dict[int, bytes],
    ) -> None:
        self.world = world
        self.types = types
        self.names = names
        self.history = history
        self.text: list[bytes] = []
        self.write = self.text.append
        self.seen = seen
        """What stands for what was met, by its address."""
        self.owner: Endpoint | None = None
        """The connection whose objects are being written."""
        self.counted: dict[Any, bytes] = {}
        self.sockets = {id(sock._file.endpoint): sock for sock in world.descriptors if sock._file.endpoint is not None}
        self._queue: list[tuple[Any, Endpoint | None]] = []
        """What has a number, in that order, and whose it is."""
        self._begun = 0
        """How many of these were gone to."""
        self._held: list[Any] = []
        """What was written as a value, and has to keep its address (rule 5)."""
        self._limit: int | None = None
        self._unordered: list[tuple[list[Any], Endpoint | None]] = []
        self._mono = MONOTONIC + world.clock.now
        self._wall = EPOCH + world.clock.now

    # Writing.

    def put(self, *values: Any) -> None:
        """Write values. A handler returns them instead."""
        get, token, write = self.seen.get, self.token, self.write
        for value in values:
            write(get(id(value)) or token(value))

    def token(self, value: Any) -> bytes:
        """What stands for a value."""
        found = self.seen.get(id(value))
        if found is None:
            way = self.types.ways[type(value)]
            found = None if way is None else way(self, value)
            if found is None:
                found = NUMBERS[len(self._queue)]
                self._queue.append((value, self.owner))
            else:
                self._held.append(value)
            self.seen[id(value)] = found
        return found

    def name(self, name: str) -> bytes:
        """What stands for a name that the run counted (rule 3)."""
        found = self.counted.get(name)
        if found is None:
            found = self.counted[name] = _NAME[len(self.counted)]
            found = self.counted[name] = found + b"".join(map(self.token, self.names(name)))
        return found

    def number(self, drawn: Any) -> bytes:
        """What stands for something that a run counted or drew to have a name (rule 3): a port, a UUID."""
        found = self.counted.get(drawn)
        if found is None:
            found = self.counted[drawn] = _COUNTED[len(self.counted)]
        return found

    def distance(self, when: float) -> complex:
        """How far a moment of virtual time is from now."""
        return complex(round(when - self.world.clock.now, 9), 1.0)

    # Walking.

    def run(self) -> None:
        """Write everything that can be reached from what was written."""
        queue, handlers, ways = self._queue, self.types.handlers, self.types.ways
        seen, write, push = self.seen, self.write, self._queue.append
        get, hold = seen.get, self._held.append
        while True:
            ahead = islice(queue, self._begun, self._limit)
            for value, self.owner in ahead:
                for part in handlers[type(value)](self, value):
                    token = get(id(part))
                    if token is None:
                        way = ways[type(part)]
                        token = None if way is None else way(self, part)
                        if token is None:
                            token = NUMBERS[len(queue)]
                            push((part, self.owner))
                        else:
                            hold(part)
                        seen[id(part)] = token
                    write(token)
            if self._limit is not None and len(queue) > self._limit:
                write(b"budget")
                return
            self._begun = len(queue)
            if not self._unordered:
                return
            members, self.owner = self._unordered.pop(0)
            self._write_members(members)

    def unordered(self, members: list[Any]) -> None:
        """Write members that have no order, later (rule 2)."""
        self.write(_LATER[len(members)])
        self._unordered.append((members, self.owner))

    def _write_members(self, members: list[Any]) -> None:
        """Rule 2. A member's own walk writes numbers that this walk has given as they are."""
        written: list[bytes] = []
        new = []
        for member in members:
            kind = type(member)
            token = None
            if kind not in COMPOUND:
                token = self.seen.get(id(member))
                way = self.types.ways[kind]
                if token is None and way is not None:
                    token = way(self, member)
            if token is None:
                new.append(member)
            else:
                written.append(token)
        if len(written) > 1:
            written.sort()
        if len(new) > 1:
            new.sort(key=self._own)
        self.write(_MEMBERS[len(written)])
        self.text += written
        self.put(*new)

    def _own(self, member: Any) -> bytes:
        walk = Walk(self.world, self.types, self.names, self.history, self.seen.copy())
        walk.counted = dict(self.counted)
        walk.owner = self.owner
        walk._queue = list(self._queue)
        walk._begun = len(self._queue)
        walk._limit = walk._begun + BUDGET if self._limit is None else self._limit
        walk.put(member)
        if self._limit is None:
            walk.run()
        return walk.end()

    def end(self) -> bytes:
        """Sixteen bytes that stand for what was written. Nothing is held any longer (rule 5)."""
        self._queue.clear()
        self._held.clear()
        self._unordered.clear()
        return blake2b(b"".join(self.text), digest_size=16).digest()


# How values without identity are written (rule 1).


def _plain(walk: Walk, value: Any) -> bytes:
    return walk.types.lasting.keep_here(value, plain(value))


def _str(walk: Walk, value: str) -> bytes:
    if value in walk.world.trace.counted:
        return walk.name(value)
    return walk.types.lasting.keep_text(value)


def _float(walk: Walk, value: float) -> bytes:
    if value >= MONOTONIC:
        if value < MONOTONIC + FAR:
            return b"m" + _DOUBLE(round(value - walk._mono, 9) + 0.0)
        if value >= EPOCH - FAR:
            return b"w" + _DOUBLE(round(value - walk._wall, 6) + 0.0)
    return walk.types.lasting.keep_here(value, b"g" + _DOUBLE(value))


def _tuple(walk: Walk, value: tuple[Any, ...]) -> bytes:
    lasting = walk.types.lasting
    length = len(value)
    if length == 2:
        first, second = value
        if type(first) is str:
            if type(second) is int and second in PORTS:
                return b"a" + walk.token(first) + walk.number(value)
            if type(second) is str and second in PORTS_AS_TEXT:
                return b"A" + walk.token(first) + walk.number((first, int(second)))
        elif type(first) is bytes and type(second) is bytes:
            return lasting.keep_pair(value)
    get, token = walk.seen.get, walk.token
    text = TUPLE[length] + b"".join([get(id(part)) or token(part) for part in value])
    if ATOMS.issuperset(map(type, value)) and walk.world.trace.counted.isdisjoint(value):
        return lasting.keep_here(value, text)
    return text


def _method(walk: Walk, value: MethodType) -> bytes:
    get = walk.seen.get
    function, owner = value.__func__, value.__self__
    return b"M" + (get(id(function)) or walk.token(function)) + (get(id(owner)) or walk.token(owner))


WAYS: dict[type, Way] = {
    **dict.fromkeys((type(None), bool, type(...), int, bytes, complex), _plain),
    str: _str,
    float: _float,
    tuple: _tuple,
    MethodType: _method,
}
"""By type."""
