"""The simulated TCP/IP of a world: its addresses, listeners and connections. Pure state: no clock, no choice.

Theory of operation
===================

A program binds an address, listens, and accepts; another connects. What happens between two connected endpoints is
in `sim.world.endpoint`; here is how they find one another. A connection begins with a SYN in flight like any other
segment. Who delivers it, and when, is the world's business: the kernel never delivers by itself, and so it never
decides an order.

Rules for this file:

1. Nothing here knows what time it is. Nothing here asks for a choice.
2. A SYN that finds nobody listening is answered with RST: connection refused.
3. As on Linux, one connection more than `backlog` may wait to be accepted. A SYN that finds the queue full is lost
   and sent again: here, as soon as somebody accepts. Until then the connecting side just waits.
4. A listener that is closed resets whoever waits to be accepted.

Simplifications, and what an observer could notice: the third packet of the handshake is not modelled, so both sides
are connected at the moment when the SYN is delivered; acknowledgements and window updates take no time, so a
writer learns of freed space at the instant when the reader reads; nothing is lost, duplicated or reordered within a
direction, because TCP would hide it; a port is free again as soon as its listener is closed (no TIME_WAIT), and two
listeners cannot share one (no SO_REUSEPORT); all hosts of a world share its addresses.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from sim.world.endpoint import (
    MSS,
    RECEIVE_BUFFER,
    SEND_BUFFER,
    Address,
    Channel,
    Endpoint,
    Flag,
    Segment,
    join,
    nobody,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ANY",
    "EPHEMERAL_PORTS",
    "MSS",
    "RECEIVE_BUFFER",
    "SEND_BUFFER",
    "Address",
    "Channel",
    "Endpoint",
    "Flag",
    "Kernel",
    "Listener",
    "Segment",
]

ANY = "0.0.0.0"
"""The wildcard address; it stands for IPv6's too."""
EPHEMERAL_PORTS = range(32_768, 61_000)


class Listener:
    """A listening address and the connections that wait to be accepted."""

    __slots__ = (
        "address",
        "backlog",
        "kernel",
        "label",
        "queue",
        "receive_size",
        "send_size",
        "turned_away",
        "watcher",
    )

    def __init__(self, kernel: Kernel, address: Address, backlog: int) -> None:
        self.kernel = kernel
        self.label = ""
        self.address = address
        self.backlog = backlog
        self.receive_size = RECEIVE_BUFFER
        self.send_size = SEND_BUFFER
        self.queue: deque[Endpoint] = deque()
        self.turned_away: deque[Endpoint] = deque()
        """Whose SYN found the queue full (rule 3)."""
        self.watcher: Callable[[], None] = nobody

    @property
    def readable(self) -> bool:
        """Whether `accept` would not block."""
        return bool(self.queue)

    def accept(self) -> Endpoint:
        """The connection that waits longest.

        Raises:
            BlockingIOError: none waits.
        """
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        endpoint = self.queue.popleft()
        if self.turned_away:
            self._send_again(self.turned_away.popleft())
        return endpoint

    def close(self) -> None:
        """Stop listening (rule 4)."""
        if self.kernel.listeners.get(self.address) is self:
            del self.kernel.listeners[self.address]
        while self.queue:
            self.queue.popleft().abort()
        while self.turned_away:
            self._send_again(self.turned_away.popleft())

    def _send_again(self, near: Endpoint) -> None:
        if not near.closed:
            self.kernel.put_in_flight(near.outbound, Segment(Flag.SYN))


class Kernel:
    """All listeners and connections of a world.

    Args:
        on_flight: called with a channel and the segment that was just put into it.
    """

    def __init__(self, on_flight: Callable[[Channel, Segment], None]) -> None:
        self._on_flight = on_flight
        self.listeners: dict[Address, Listener] = {}
        self.bound: set[Address] = set()
        self._next_port = count()
        self._connections = 0

    def ephemeral(self, host: str) -> Address:
        """An address on `host` with a port that nobody has bound.

        Raises:
            OSError: EADDRNOTAVAIL.
        """
        for _ in EPHEMERAL_PORTS:
            address = (host, EPHEMERAL_PORTS[next(self._next_port) % len(EPHEMERAL_PORTS)])
            if not self._taken(address):
                return address
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def bind(self, address: Address) -> Address:
        """Reserve an address; port 0 means any.

        Raises:
            OSError: EADDRINUSE.
        """
        if address[1] == 0:
            address = self.ephemeral(address[0])
        elif self._taken(address):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bound.add(address)
        return address

    def _taken(self, address: Address) -> bool:
        host, port = address
        if address in self.bound or (ANY, port) in self.bound:
            return True
        return host == ANY and any(port == other for _, other in self.bound)

    def listen(self, address: Address, backlog: int) -> Listener:
        """Begin to accept connections at a bound address."""
        listener = self.listeners[address] = Listener(self, address, max(backlog, 0))
        return listener

    def connect(self, local: Address, remote: Address, label: str = "") -> Endpoint:
        """Put a SYN from `local` to `remote` in flight. Returns the connecting side, not yet connected."""
        self._connections += 1
        near = Endpoint(self, f"connection {self._connections}", local, remote)
        near.label = label
        far = Endpoint(self, near.name, remote, local)
        join(near, far)
        self.put_in_flight(near.outbound, Segment(Flag.SYN))
        return near

    def pair(self) -> tuple[Endpoint, Endpoint]:
        """Two connected endpoints, as `socketpair` makes them."""
        one, two = Endpoint(self, "pair", ("", 0), ("", 0)), Endpoint(self, "pair", ("", 0), ("", 0))
        join(one, two)
        one.connected = two.connected = True
        return one, two

    # What the parts of a kernel use.

    def put_in_flight(self, channel: Channel, segment: Segment) -> None:
        """Send a segment on its way."""
        channel.put(segment)
        self._on_flight(channel, segment)

    def _arrive_syn(self, far: Endpoint) -> None:
        near = far.outbound.target
        if near.closed:
            return
        listener = self.listeners.get(far.local) or self.listeners.get((ANY, far.local[1]))
        if listener is None:
            far.reset = far.closed = True
            self.put_in_flight(far.outbound, Segment(Flag.RST))
            return
        if len(listener.queue) > listener.backlog:
            listener.turned_away.append(near)
            return
        near.connected = far.connected = True
        far.label = listener.label
        far.receive_size, far.send_size = listener.receive_size, listener.send_size
        listener.queue.append(far)
        near.watcher()
        listener.watcher()
