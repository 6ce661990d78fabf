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
direction, because TCP would hide it; a port is free again as soon as its listener is closed, with or without
SO_REUSEADDR (no TIME_WAIT); all hosts of a world share its addresses. Who waits in a listener's queue and how its close
resets them is in `sim.world.listener`; Unix sockets, which are no network, are in `sim.world.unix`.
"""

from __future__ import annotations

import errno
import os
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
)
from sim.world.listener import Listener
from sim.world.unix import Paths, UnixEndpoint, unix_pair

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ANY",
    "ANY_6",
    "ANY_6_ONLY",
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
"""The wildcard of IPv4."""
ANY_6 = "::"
"""The wildcard of IPv6, which takes IPv4 connections too."""
ANY_6_ONLY = "::/IPV6_V6ONLY"
"""The same with IPV6_V6ONLY, which does not."""
_FAMILIES = {ANY: (4,), ANY_6: (4, 6), ANY_6_ONLY: (6,)}
EPHEMERAL_PORTS = range(32_768, 61_000)


class Kernel:
    """All listeners and connections of a world.

    Args:
        on_flight: called with a channel and the segment that was just put into it.
    """

    def __init__(self, on_flight: Callable[[Channel, Segment], None]) -> None:
        self._on_flight = on_flight
        self.listeners: dict[Address, Listener] = {}
        self.bound: set[Address] = set()
        self.paths = Paths(self)
        self.wakes = 0
        """How often something has become ready."""
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
        if address in self.bound:
            return True
        if host in _FAMILIES:
            return any(port == other_port and _overlap(host, other) for other, other_port in self.bound)
        return any((wild, port) in self.bound and _overlap(host, wild) for wild in _FAMILIES)

    def listen(self, address: Address, backlog: int) -> Listener:
        """Begin to accept connections at a bound address."""
        listener = self.listeners[address] = Listener(self, address, max(backlog, 0))
        return listener

    def connect(self, local: Address, remote: Address, label: str = "") -> Endpoint:
        """Put a SYN from `local` to `remote` in flight. Returns the connecting side, not yet connected."""
        near = Endpoint(self, self.name_connection(), local, remote)
        near.label = label
        far = Endpoint(self, near.name, remote, local)
        join(near, far)
        self.put_in_flight(near.outbound, Segment(Flag.SYN))
        return near

    def pair(self) -> tuple[UnixEndpoint, UnixEndpoint]:
        """Two connected endpoints, as `socketpair` makes them."""
        return unix_pair(self)

    # What the parts of a kernel use.

    def name_connection(self) -> str:
        """A name for a new connection."""
        self._connections += 1
        return f"connection {self._connections}"

    def put_in_flight(self, channel: Channel, segment: Segment) -> None:
        """Send a segment on its way."""
        channel.segments.append(segment)
        channel.in_flight += len(segment.data)
        self._on_flight(channel, segment)

    def _arrive_syn(self, far: Endpoint) -> None:
        near = far.outbound.target
        if near.closed:
            return
        listener = self._listener_at(far.local)
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
        listener.enqueue(far)
        near.wake()
        listener.watcher()

    def listens_at(self, address: Address) -> bool:
        """Whether somebody listens at an address, or at one of those that a wildcard stands for."""
        host, port = address
        return any(port == other_port and _overlap(host, other) for other, other_port in self.listeners)

    def _listener_at(self, address: Address) -> Listener | None:
        host, port = address
        for candidate in (host, *_FAMILIES):
            listener = self.listeners.get((candidate, port))
            if listener is not None and _overlap(host, candidate):
                return listener
        return None


def _overlap(one: str, other: str) -> bool:
    """Whether two hosts, of which one may be a wildcard, have an address in common."""
    if one == other:
        return True
    if one not in _FAMILIES and other not in _FAMILIES:
        return False
    families = [_FAMILIES.get(host, (6 if ":" in host else 4,)) for host in (one, other)]
    return any(family in families[1] for family in families[0])
