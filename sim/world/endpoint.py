"""One side of a TCP connection of a world: its buffers, its window, and how it ends.

Theory of operation
===================

Bytes that a program writes go to its endpoint's send buffer, leave it as `Segment`s while the peer's window has room,
are *in flight* in a `Channel` (one for each direction, first in first out), and reach the peer's receive buffer when
somebody calls `Channel.deliver`.

Rules for this file:

1. Nothing here knows what time it is. Nothing here asks for a choice. Nothing is delivered but by `deliver`.
2. A channel is first in, first out, as TCP is. Different channels know nothing of one another.
3. What is acknowledged is what was delivered: bytes in flight and bytes that the peer has not read yet both count
   against the peer's window, and a segment is only made while it fits. So a delivery can never overflow.
4. `close()` with unread bytes sends RST, and so does a segment with data that reaches an endpoint which was closed,
   or shut down in both directions (RFC 9293, 3.10.7, and what Linux does). An RST never overtakes what the same side
   sent before it.
5. What an RST leaves: bytes already in the receive buffer can still be read; then one ECONNRESET, then end of file.
   Writing gives ECONNRESET while that error was not yet reported, else EPIPE. If FIN had come before the RST, reading
   gives end of file and no error, writing EPIPE. What is in the send buffer is gone. The connection has no peer name
   any more and cannot be shut down; neither can one of which both FINs have arrived.

Each rule was measured on Linux; the conformance tests run on real loopback sockets and on these.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from sim.world.channel import DATA, FIN, RST, SYN, Channel, Flag, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world.kernel import Kernel

__all__ = [
    "MSS",
    "RECEIVE_BUFFER",
    "SEND_BUFFER",
    "Address",
    "Channel",
    "Endpoint",
    "Flag",
    "Segment",
    "join",
    "nobody",
]

Address: TypeAlias = "tuple[str, int]"

MSS = 65_483
"""Bytes in one segment: the loopback interface's MTU of 65,536 without headers."""
SEND_BUFFER = 3_939_840
"""What SO_SNDBUF of a new loopback connection is on Linux 6.18 if nobody sets it."""
RECEIVE_BUFFER = 131_072


class Endpoint:
    """One side of a connection: its buffers and what it knows of the other side."""

    __slots__ = (
        "address",
        "closed",
        "connected",
        "eof",
        "error",
        "fin_arrived",
        "fin_queued",
        "fin_sent",
        "inbound",
        "kernel",
        "label",
        "local",
        "name",
        "outbound",
        "queued",
        "read_shut",
        "receive_buffer",
        "receive_size",
        "remote",
        "reset",
        "scripted",
        "send_buffer",
        "send_size",
        "unread",
        "watcher",
        "woken",
    )

    def __init__(self, kernel: Kernel, name: str, local: Address, remote: Address) -> None:
        self.kernel = kernel
        self.name = name
        self.local = local
        self.address = "%s:%d" % local
        """`local`, for people."""
        self.remote = remote
        self.inbound: Channel
        self.outbound: Channel
        self.receive_buffer: deque[bytes] = deque()
        self.unread = 0
        self.receive_size = RECEIVE_BUFFER
        self.send_buffer: deque[tuple[bytes, str]] = deque()
        self.queued = 0
        self.send_size = SEND_BUFFER
        self.label = ""
        self.connected = False
        self.eof = False
        self.error = 0
        self.reset = False
        self.closed = False
        self.read_shut = False
        self.scripted = False
        self.fin_queued = False
        self.fin_sent = False
        self.fin_arrived = False
        self.watcher: Callable[[], None] = nobody
        self.woken = 0
        """When it last became ready, counted through the kernel: a selector tells of sockets in that order."""

    @property
    def instant(self) -> bool:
        """Whether what it sends is there at once, and nobody has to deliver it."""
        return False

    # What a program may ask.

    @property
    def place(self) -> str:
        """Who this is, for people: the label, or the address where there is none."""
        return self.label or self.address

    @property
    def established(self) -> bool:
        """Whether it has a peer: connected, not reset, and not ended by a FIN in each direction (rule 5)."""
        return self.connected and not self.reset and not (self.eof and self.fin_arrived)

    @property
    def readable(self) -> bool:
        """Whether `receive` would not block."""
        return bool(self.unread or self.eof or self.error or self.reset or self.read_shut)

    @property
    def writable(self) -> bool:
        """Whether `send` would not block. As on Linux, a third of the buffer has to be free again."""
        if self.error or self.reset or self.fin_queued:
            return True
        return self.connected and (self.queued + self.outbound.in_flight) * 3 <= self.send_size * 2

    @property
    def room(self) -> int:
        """How many bytes `send` would take now."""
        return max(0, self.send_size - self.queued - self.outbound.in_flight)

    def send(self, data: bytes, label: str = "") -> int:
        """Take as many bytes of `data` as the send buffer has room for. Returns their number.

        Raises:
            BlockingIOError: the buffer is full, or the connection is not yet established.
            ConnectionResetError, BrokenPipeError: rule 5; or this side was shut down for writing.
        """
        if self.error:
            self._raise_error()
        if self.reset or self.fin_queued:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not data:
            return 0
        room = self.send_size - self.queued - self.outbound.in_flight if self.connected else 0
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        size = len(data)
        if size > room:
            data, size = data[:room], room
        taken = bytes(data)
        outbound = self.outbound
        peer = outbound.target
        if not self.queued and size <= MSS and size <= peer.receive_size - peer.unread - outbound.in_flight:
            self.kernel.put_in_flight(outbound, Segment(DATA, taken, label))
        else:
            self.send_buffer.append((taken, label))
            self.queued += size
            self._transmit()
        return size

    def receive(self, limit: int, *, peek: bool = False) -> bytes:
        """At most `limit` bytes from the receive buffer; b"" at end of file.

        Raises:
            BlockingIOError: nothing has arrived.
            ConnectionResetError: rule 5.
        """
        if limit <= 0:
            return b""
        if not self.unread:
            return self._receive_nothing()
        buffer = self.receive_buffer
        if len(buffer) == 1 and self.unread <= limit:
            if peek:
                return buffer[0]
            data = buffer.popleft()
            self.unread = 0
            if self.outbound.target.send_buffer:
                self._open_window()
            return data
        parts: list[bytes] = []
        got = 0
        for part in buffer:
            parts.append(part[: limit - got])
            got += len(parts[-1])
            if got >= limit:
                break
        if not peek:
            self._consume(got)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive_nothing(self) -> bytes:
        if self.eof:
            return b""
        self._raise_error()
        if self.read_shut or self.reset:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def shut_write(self) -> None:
        """SHUT_WR: a FIN behind whatever is still to be sent.

        Raises:
            OSError: ENOTCONN (rule 5).
        """
        self._require_established()
        if not self.fin_queued:
            self.fin_queued = True
            self._transmit()

    def shut_read(self) -> None:
        """SHUT_RD: reading gives end of file where it would block. The peer is told nothing.

        Raises:
            OSError: ENOTCONN (rule 5).
        """
        self._require_established()
        self.read_shut = True

    def close(self, *, linger_zero: bool = False) -> None:
        """Give the connection up: FIN, or RST if bytes are unread (rule 4) or SO_LINGER is zero."""
        if self.closed:
            return
        self.closed = True
        if not self.connected:
            self.reset = True
        elif not self.reset:
            if self.unread or linger_zero:
                self._send_reset()
            elif not self.fin_queued:
                self.fin_queued = True
                self._transmit()
        self.receive_buffer.clear()
        self.unread = 0

    def abort(self) -> None:
        """RST now, whatever is unread."""
        self.close(linger_zero=True)

    # What happens to it.

    def wake(self) -> None:
        """Tell whoever watches that it has become ready."""
        self.kernel.wakes += 1
        self.woken = self.kernel.wakes
        self.watcher()

    def _arrive(self, segment: Segment) -> None:
        flag = segment.flag
        if flag is DATA and not (self.reset or self.closed or self.read_shut):
            was_ready = bool(self.unread or self.eof or self.error)
            self.receive_buffer.append(segment.data)
            self.unread += len(segment.data)
            if was_ready:
                self.watcher()
            else:
                self.wake()
            return
        was_ready = self.readable
        if flag is SYN:
            self.kernel._arrive_syn(self)
            return
        if flag is RST:
            self._arrive_reset()
            return
        if self.reset:
            return
        if flag is FIN:
            self.eof = True
        elif self.closed:
            self._send_reset()
        elif self.read_shut and self.fin_sent:
            self._send_reset()
            self.error = errno.ECONNRESET
        else:
            self.receive_buffer.append(segment.data)
            self.unread += len(segment.data)
        if was_ready:
            self.watcher()
        else:
            self.wake()

    def _arrive_reset(self) -> None:
        if self.reset:
            return
        self.reset = True
        if not self.connected:
            self.error = errno.ECONNREFUSED
        else:
            self.error = errno.EPIPE if self.eof else errno.ECONNRESET
        self._drop_unsent()
        self.outbound.clear()
        self.wake()

    def _send_reset(self) -> None:
        self.reset = True
        self._drop_unsent()
        self.kernel.put_in_flight(self.outbound, Segment(RST))

    def _drop_unsent(self) -> None:
        self.send_buffer.clear()
        self.queued = 0

    def _transmit(self) -> None:
        """Move what fits into the peer's window from the send buffer into flight, then FIN if it is due."""
        peer = self.outbound.target
        buffer = self.send_buffer
        if buffer:
            window = peer.receive_size - peer.unread - self.outbound.in_flight
            while buffer and window > 0:
                data, label = buffer[0]
                if len(data) <= window and len(data) <= MSS:
                    part = data
                    buffer.popleft()
                else:
                    part = data[: min(window, MSS)]
                    buffer[0] = (data[len(part) :], label)
                window -= len(part)
                self.queued -= len(part)
                self.kernel.put_in_flight(self.outbound, Segment(DATA, part, label))
        if self.fin_queued and not buffer and not self.fin_sent:
            self.fin_sent = True
            self.kernel.put_in_flight(self.outbound, Segment(FIN))

    def _consume(self, count: int) -> None:
        self.unread -= count
        buffer = self.receive_buffer
        if not self.unread:
            buffer.clear()
            count = 0
        while count:
            part = buffer.popleft()
            if len(part) > count:
                buffer.appendleft(part[count:])
                break
            count -= len(part)
        if self.outbound.target.send_buffer:
            self._open_window()

    def _open_window(self) -> None:
        """There is room again for what the peer has to send."""
        peer = self.outbound.target
        peer._transmit()
        peer.wake()

    def _raise_error(self) -> None:
        if self.error:
            number, self.error = self.error, 0
            raise OSError(number, os.strerror(number))

    def _require_established(self) -> None:
        if not self.established:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))


def join(one: Endpoint, two: Endpoint) -> None:
    """Lay the channels between two endpoints."""
    one.outbound = two.inbound = Channel(one, two)
    two.outbound = one.inbound = Channel(two, one)


def nobody() -> None:
    """The watcher of an endpoint that nobody watches."""
