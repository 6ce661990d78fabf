"""What descriptors that were duplicated from one another have in common: POSIX's *open file description*.

`dup()` gives a second descriptor for the same connection: both read the same bytes, both see it in the same mode, and
the connection is closed when the last of them is.
"""

from __future__ import annotations

import socket as real
from typing import TYPE_CHECKING, Any

from sim.world.options import lingers_zero

if TYPE_CHECKING:
    from sim.world.kernel import Address, Endpoint, Kernel, Listener
    from sim.world.unix import Node


class Description:
    """One socket, whatever number of descriptors it has.

    Args:
        kernel: where it is bound, listens and connects.
        family: IPv4, IPv6 or Unix.
        endpoint: its connection, if it has one from the beginning.
    """

    __slots__ = (
        "address",
        "descriptors",
        "endpoint",
        "family",
        "kernel",
        "listener",
        "node",
        "nonblocking",
        "options",
        "told",
    )

    def __init__(self, kernel: Kernel, family: real.AddressFamily, endpoint: Endpoint | None = None) -> None:
        self.kernel = kernel
        self.family = family
        self.endpoint = endpoint
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
            self.kernel.bound.discard(self.address)
        if self.node is not None:
            self.kernel.paths.released(self.node)
