"""The table of a world's open sockets, by descriptor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.world.process import Process
    from sim.world.sockets import SimSocket
    from sim.world.world import World

FIRST = 1_000_000_000
"""Descriptors of simulated sockets begin behind those that an operating system gives out."""


class Descriptors:
    """All processes of a world share one table: no descriptor is given out twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sockets: dict[int, SimSocket] = {}
        self._last = FIRST

    def __iter__(self) -> Iterator[SimSocket]:
        """The open sockets, oldest first."""
        return iter(list(self._sockets.values()))

    def new(self, sock: SimSocket) -> int:
        """A descriptor for a new socket."""
        self._last += 1
        self._sockets[self._last] = sock
        return self._last

    def hold(self, fd: int, sock: SimSocket) -> None:
        """Let another object have a descriptor that stays open."""
        self._sockets[fd] = sock

    def drop(self, fd: int) -> None:
        """Forget a closed socket's descriptor."""
        self._sockets.pop(fd, None)

    def find(self, fd: int) -> SimSocket | None:
        """The simulated socket behind a descriptor, if it is one."""
        return self._sockets.get(fd)

    def socket(self, fd: int) -> SimSocket:
        """The socket behind a descriptor.

        Raises:
            BoundaryError: it is none of a simulated socket.
        """
        sock = self._sockets.get(fd)
        if sock is None:
            raise self._world.refuse(
                f"descriptor {fd} is not a simulated socket and was used as one. A real descriptor has no place here: "
                "pass host and port, or a path."
            )
        return sock

    def of(self, process: Process) -> list[SimSocket]:
        """The open sockets of a process, oldest first, without those of `socketpair`."""
        return [sock for sock in self._sockets.values() if sock.owner is process and not sock.paired]
