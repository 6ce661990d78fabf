"""The selector of a world's event loops: readiness of simulated sockets, and the place where the world moves.

Each iteration of asyncio's loop begins with `select(timeout)`:

- `timeout` is 0: there are callbacks to run, this is an *iteration boundary*. With granularity `iteration` the
  world may deliver something here (a choice); with `turn` nothing happens.
- `timeout` is positive or None: the loop is idle. If nothing but this loop's own next timer can happen, the clock
  jumps to it at once. Otherwise the world decides what happens next: here, if this loop is the only one
  (`sim.world.running`), else the loop is stopped for it.

`select` never waits. As with epoll, its answer is in the order in which the sockets became ready.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.world.clock import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.world.loop import SimLoop
    from sim.world.sockets import SimSocket
    from sim.world.world import World

LIVELOCK_ITERATIONS = 100_000
"""Iterations of a loop at one moment of virtual time behind which it is held to spin for ever."""
_INFINITY = float("inf")
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_WANTED = (_READ, _WRITE, _READ | _WRITE)
_NOTHING: list[tuple[selectors.SelectorKey, int]] = []


class SimSelector(selectors.BaseSelector):
    """What `asyncio.SelectorEventLoop` is given in place of epoll."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clock = world.clock
        self._agenda = world.agenda
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._socks: dict[int, SimSocket] = {}
        self._map = _Map(self)
        self.suspects: dict[int, None] = {}
        """The descriptors that were ready when they were last looked at, or of which something has changed since. No
        other is ready."""
        self._attended = self._agenda.iterating or world.striker is not None or world.lookout is not None
        """Whether iteration boundaries may matter to anybody."""
        self._exact = self._moment = 0.0
        self.spins = 0
        """Iterations since the loop was last idle."""
        self.loop: SimLoop
        self.go_on: Callable[[], bool] | None = None
        """Lets the next thing happen while the loop is idle. False: the loop is to stop."""

    def lookup(self, fileobj: Any) -> int:
        """The descriptor of a registered object, which may have been closed since."""
        if type(fileobj) is int and fileobj in self._keys:
            return fileobj
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
        if fd < 0:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise ValueError(f"Invalid file descriptor: {fd}")
        return fd

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if events not in _WANTED:
            raise ValueError(f"Invalid events: {events!r}")
        fd = self.lookup(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        sock = self._socks[fd] = self._world.descriptors.socket(fd)
        sock._file.watched.append((self, fd))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self.suspects[fd] = None
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = self.lookup(fileobj)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        self._socks.pop(fd)._file.watched.remove((self, fd))
        self.suspects.pop(fd, None)
        return self._keys.pop(fd)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = self.lookup(fileobj)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        key = self._keys[fd] = selectors.SelectorKey(self._keys[fd].fileobj, fd, events, data)
        self.suspects[fd] = None
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._keys.get(fileobj) if type(fileobj) is int else self._map.get(fileobj)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def close(self) -> None:
        self.suspects.clear()
        self._keys.clear()
        self._socks.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; see the module's docstring for what else happens here."""
        agenda = self._agenda
        if timeout == 0:
            self.spins += 1
            if self._attended or self.spins > LIVELOCK_ITERATIONS:
                self._boundary()
            return self._ready() if self.suspects else _NOTHING
        if self.suspects:
            ready = self._ready()
            if ready:
                self.spins += 1
                if agenda.armed:
                    agenda.iterated(idle=False)
                if self.spins > LIVELOCK_ITERATIONS:
                    agenda.iteration(self.spins)
                return ready
        self.spins = 0
        if agenda.armed:
            agenda.iterated(idle=True)
        until = self._until(timeout) if timeout is not None else _INFINITY
        if until < agenda.leap_limit and not agenda.lanes:
            self._clock.now = until
            if not self.loop.ticking:
                self.loop.fired = until
            if self._world.lookout is not None:
                self.loop.note_ties()
        else:
            self.loop.idle_until = until
            if self.go_on is not None and self.go_on():
                self.spins = 1
                return self._ready() if self.suspects else _NOTHING
            self.loop.stop()
        return _NOTHING

    def _boundary(self) -> None:
        """An iteration boundary, where somebody attends to it."""
        agenda = self._agenda
        if agenda.armed:
            agenda.iterated(idle=False)
        if self._world.lookout is not None:
            self.loop.note_ties()
        if (agenda.iterating and agenda.lanes) or self.spins > LIVELOCK_ITERATIONS:
            agenda.iteration(self.spins)

    def _until(self, timeout: float) -> float:
        """The moment behind `timeout`. It is mostly that of the last time, and rounding costs."""
        exact = self._clock.now + timeout
        if exact != self._exact:
            self._exact, self._moment = exact, moment(exact)
        return self._moment

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        suspects = self.suspects
        if len(suspects) == 1:
            (fd,) = suspects
            key = self._keys[fd]
            events = self._socks[fd].ready(key.events)
            if events:
                return [(key, events)]
            suspects.clear()
            return _NOTHING
        ready = []
        for fd in tuple(suspects):
            key = self._keys[fd]
            events = self._socks[fd].ready(key.events)
            if events:
                ready.append((key, events))
            else:
                del suspects[fd]
        if len(ready) > 1:
            ready.sort(key=lambda one: self._socks[one[0].fd].woken)
        return ready


class _Map(Mapping[Any, selectors.SelectorKey]):
    """What is registered, by file object or descriptor."""

    def __init__(self, selector: SimSelector) -> None:
        self._selector = selector

    def __len__(self) -> int:
        return len(self._selector._keys)

    def get(self, fileobj: Any, default: Any = None) -> Any:
        """As a mapping's; asyncio asks with descriptors, for each reader and writer that it adds."""
        if type(fileobj) is int and fileobj >= 0:
            return self._selector._keys.get(fileobj, default)
        return super().get(fileobj, default)

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        try:
            return self._selector._keys[self._selector.lookup(fileobj)]
        except (KeyError, ValueError):
            raise KeyError(f"{fileobj!r} is not registered") from None

    def __iter__(self) -> Iterator[int]:
        return iter(self._selector._keys)
