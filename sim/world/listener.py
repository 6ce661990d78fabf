"""A listening address of a world, and the connections that wait there to be accepted.

The rules are those of `sim.world.kernel`: one connection more than `backlog` may wait (3), and a listener that is
closed resets whoever waits (4).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from sim.world.endpoint import RECEIVE_BUFFER, SEND_BUFFER, Address, Endpoint, Flag, Segment, nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.kernel import Kernel


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
        "woken",
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
        self.woken = 0
        """As an endpoint's."""

    @property
    def readable(self) -> bool:
        """Whether `accept` would not block."""
        return bool(self.queue)

    def enqueue(self, endpoint: Endpoint) -> None:
        """Let a connection wait to be accepted; the watcher is still to be told."""
        if not self.queue:
            self.kernel.wakes += 1
            self.woken = self.kernel.wakes
        self.queue.append(endpoint)

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
