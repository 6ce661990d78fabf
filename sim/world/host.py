"""Scripted hosts: clients written as coroutines over plain byte connections, without an event loop."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, TypeVar

from sim.world.events import TcpClosed
from sim.world.fiber import Signal, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sim.world.kernel import Address, Endpoint
    from sim.world.world import World

T = TypeVar("T")


class Connection:
    """A scripted host's side of a TCP connection; `host` is that host."""

    def __init__(self, host: Host, endpoint: Endpoint) -> None:
        self.host = host
        self._endpoint = endpoint
        self._changed = Signal()
        self._said_closed = False
        self.stalled = False
        """Whether this side does not read (a fault)."""
        endpoint.watcher = self._changed.fire

    def send(self, data: bytes, label: str = "") -> None:
        """Write `data`; one call is one segment (up to the MSS), and `label` is what people read for it.

        Raises:
            ConnectionResetError, BrokenPipeError: the peer is gone, or this side has closed.
            BlockingIOError: the send buffer has no room for all of it; nothing was written.
        """
        endpoint = self._endpoint
        if (
            len(data) > endpoint.room
            and endpoint.connected
            and not (endpoint.error or endpoint.reset or endpoint.fin_queued)
        ):
            raise BlockingIOError(
                errno.EAGAIN,
                f"{self.host.name} writes {len(data):,} bytes, and the send buffer has room for {endpoint.room:,}, "
                "because the peer does not read. Await drained() between smaller writes",
            )
        endpoint.send(data, label)

    async def drained(self, *, within: float | None = None) -> bool:
        """Wait until everything that was written is under way; False if it is not `within` so many virtual seconds."""
        left = self.host.countdown(within)
        while self._endpoint.queued:
            if not await self.host.wait(self._changed, left()):
                return False
        return True

    async def receive(self, limit: int = 65_536, *, within: float | None = None) -> bytes | None:
        """The next bytes; b"" at end of file, or after this side has closed; None if nothing came `within` seconds.

        Raises:
            ConnectionResetError: the peer reset the connection.
        """
        endpoint = self._endpoint
        left = self.host.countdown(within)
        while (self.stalled or not endpoint.readable) and not endpoint.closed:
            if not await self.host.wait(self._changed, left()):
                return None
        if endpoint.closed:
            return b""
        try:
            data = endpoint.receive(limit)
        except ConnectionResetError:
            self._closed("reset")
            raise
        if not data:
            self._closed("eof")
        return data

    def _closed(self, how: str) -> None:
        if not self._said_closed:
            self._said_closed = True
            self.host.world.trace.record(TcpClosed, self.host.name, how)

    def shut_write(self) -> None:
        """Say that nothing more will be sent (FIN); reading goes on."""
        self._endpoint.shut_write()

    def close(self) -> None:
        """Close both directions: FIN, or RST if bytes that arrived were not read."""
        self._endpoint.close()
        self._changed.fire()

    def abort(self) -> None:
        """Reset the connection."""
        self._endpoint.abort()
        self._changed.fire()

    @property
    def name(self) -> str:
        """The kernel's name for it."""
        return self._endpoint.name

    @property
    def closed(self) -> bool:
        """Whether this side has closed it."""
        return self._endpoint.closed

    @property
    def write_shut(self) -> bool:
        """Whether this side has said that it will send nothing more."""
        return self._endpoint.fin_queued

    @property
    def connected(self) -> bool:
        """Whether the connection was established and not reset."""
        return self._endpoint.connected and not self._endpoint.reset

    # What faults do.

    def stall(self) -> None:
        """Have this side read nothing until `resume`, whatever arrives."""
        self.stalled = True

    def resume(self) -> None:
        """Have it read again."""
        self.stalled = False
        self._changed.fire()

    def cut_off(self) -> None:
        """Have the network reset the connection for both sides."""
        endpoint = self._endpoint
        endpoint.inbound.clear()
        endpoint.error = errno.ECONNRESET
        endpoint.outbound.clear()
        endpoint._send_reset()
        endpoint.wake()

    def fall_silent(self) -> None:
        """Lose what is under way. It stays unacknowledged: who waits for room in a buffer waits for ever."""
        self._endpoint.inbound.segments.clear()
        self._endpoint.outbound.segments.clear()


def _for_ever() -> None:
    return None


class _Relay:
    """Stands in a signal's queue for a fiber that waits at a gate."""

    __slots__ = ("_gate", "came")

    def __init__(self, gate: Signal) -> None:
        self._gate = gate
        self.came = False
        """Whether the signal came."""

    def resume(self) -> None:
        self.came = True
        self._gate.fire()


class Host:
    """A simulated machine that a script runs on: what a client's coroutine may use."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.world.clock.now

    async def connect(self, address: Address | str) -> Connection:
        """Open a TCP connection, or one to a Unix socket's path.

        Raises:
            ConnectionRefusedError: nobody listens at `address`.
            OSError: what else `connect` says of a path: there is none, it is forbidden, or the backlog is full.
        """
        kernel = self.world.kernel
        if isinstance(address, str):
            endpoint: Endpoint = kernel.paths.connect(address, label=self.name)
            endpoint.scripted = True
            return Connection(self, endpoint)
        endpoint = kernel.connect(kernel.ephemeral("127.0.0.1"), address, label=self.name)
        endpoint.scripted = True
        connection = Connection(self, endpoint)
        self.world.connections.append(connection)
        while not endpoint.connected:
            await connection._changed
            if endpoint.reset:
                self.world.trace.record(TcpClosed, self.name, "refused")
                raise ConnectionRefusedError(f"nobody listens at {address[0]}:{address[1]}")
        return connection

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await sleep(self.world, seconds)

    def countdown(self, within: float | None) -> Callable[[], float | None]:
        """A function that tells how many of `within` virtual seconds are left, from now on; never less than 0.

        With None it always tells None: there is no limit. For whoever waits several times for one thing.
        """
        if within is None:
            return _for_ever
        deadline = self.now + within
        return lambda: max(deadline - self.now, 0.0)

    async def wait(self, signal: Signal, within: float | None) -> bool:
        """Wait for a signal, at most `within` virtual seconds (None: for ever). Returns whether it came."""
        if within is None:
            await signal
            return True
        gate = Signal()
        relay: Any = _Relay(gate)
        signal.add(relay)
        timer = self.world.call_later(within, gate.fire)
        await gate
        timer.cancel()
        signal.discard(relay)
        return bool(relay.came)

    def choose(self, options: Sequence[T], about: str) -> T:
        """One of `options`: the search tries each."""
        return options[self.world.choices.choose(len(options), f"{self.name}: {about}")]

    def in_any_order(self, items: Iterable[T]) -> Iterator[T]:
        """Each of `items` once, in an order that the search chooses, one choice at a time."""
        rest = list(items)
        while rest:
            yield rest.pop(self.world.choices.choose(len(rest), f"{self.name}: which of {len(rest)} next"))
