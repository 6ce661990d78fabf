"""What descriptors that were duplicated from one another have in common: POSIX's *open file description*.

`dup()` gives a second descriptor for the same connection: both read the same bytes, both see it in the same mode, and
the connection is closed when the last of them is.
"""

from __future__ import annotations

import socket as real
from typing import TYPE_CHECKING, Any

from sim.world.options import lingers_zero

if TYPE_CHECKING:
    from sim.world.kernel import Address, Endpoint, Listener
    from sim.world.selector import SimSelector
    from sim.world.unix import Node
    from sim.world.world import World


class Description:
    """One socket, whatever number of descriptors it has.

    Args:
        world: in whose kernel it is bound, listens and connects.
        family: IPv4, IPv6 or Unix.
        endpoint: its connection, if it has one from the beginning.
    """

    __slots__ = (
        "address",
        "descriptors",
        "endpoint",
        "family",
        "listener",
        "node",
        "nonblocking",
        "options",
        "told",
        "watched",
        "world",
    )

    def __init__(self, world: World, family: real.AddressFamily, endpoint: Endpoint | None = None) -> None:
        self.world = world
        self.family = family
        self.endpoint = endpoint
        if endpoint is not None:
            endpoint.watcher = self.changed
        self.listener: Listener | None = None
        self.address: Address | None = None
        self.node: Node | None = None
        """The path that a Unix socket is bound to."""
        self.options: dict[tuple[int, int], Any] = {}
        self.told = endpoint is not None
        """Whether the program knows that it is connected."""
        self.nonblocking = False
        """O_NONBLOCK."""
        self.descriptors = 1
        self.watched: list[tuple[SimSelector, int]] = []
        """The descriptors that selectors watch."""

    def changed(self) -> None:
        """Note that its readiness may have changed."""
        self.world.touched += 1
        for selector, fd in self.watched:
            selector.suspects[fd] = None

    def release(self) -> None:
        """One descriptor less; with the last one it is closed."""
        self.descriptors -= 1
        if self.descriptors:
            return
        if self.endpoint is not None:
            self.endpoint.close(linger_zero=lingers_zero(self))
        if self.listener is not None:
            self.listener.close()
        if self.address is not None:
            self.world.kernel.bound.discard(self.address)
        if self.node is not None:
            self.world.kernel.paths.released(self.node)
