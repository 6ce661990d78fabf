"""The two arms of the conformance suite: Linux's kernel on loopback, and a world's.

A test's body does not know on which arm it runs. What it may use is here: at socket level a `Net`, which makes
non-blocking sockets and lets everything that was sent arrive; at asyncio level an `Arm`, which runs a coroutine.

Linux has no way to ask whether everything has arrived. `Loopback.settle` stays on one processor, whose loopback queue
is first in first out, sends a byte through a connection of its own behind whatever is under way, and waits until it is
there and no queue of any socket has changed for a few such bytes; or, where bytes are not acknowledged because the
peer stalls or holds an acknowledgement back, for longer than Linux does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import select
import selectors
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.events import LoggedError, LoggedWarning
from sim.world.sockets import SimSocket
from sim.world.world import Settings, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

T = TypeVar("T")
LINGER_ZERO = struct.pack("ii", 1, 0)
DEADLINE = 20.0
"""Seconds behind which a real arm is held to hang."""
_STILL_ROUNDS = 3
_STILL_SECONDS = 0.25
"""Longer than Linux holds back an acknowledgement, or a segment for which the window is a little too small."""


def _has_six() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


SIX = _has_six()


class Net(Protocol):
    """One of the two kernels."""

    def socket(self, family: int = socket.AF_INET) -> Any:
        """A new stream socket, non-blocking."""

    def keep(self, sock: Any) -> Any:
        """Close this one in the end, too."""

    def adopt(self, fd: int) -> Any:
        """A socket that takes a descriptor over."""

    def settle(self) -> None:
        """Wait until everything that was sent has arrived."""

    def ready(self, sock: Any) -> str:
        """Which of r(eadable) and w(ritable) a selector would report."""

    def path(self, name: str) -> str:
        """A path for a Unix socket."""

    def os(self, name: str, *args: Any) -> Any:
        """Call a function of `os` where this kernel answers."""


class Loopback:
    """Linux."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._made: list[socket.socket] = []
        self._processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._processors)})
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            self._near = socket.create_connection(listener.getsockname())
            self._far, _ = listener.accept()

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        if family == socket.AF_INET6 and not SIX:
            pytest.skip("this machine has no IPv6")
        sock = self.keep(socket.socket(family))
        sock.setblocking(False)
        return sock

    def keep(self, sock: socket.socket) -> socket.socket:
        self._made.append(sock)
        return sock

    def adopt(self, fd: int) -> socket.socket:
        return self.keep(socket.socket(fileno=fd))

    def settle(self) -> None:
        began = changed = time.monotonic()
        before, still = None, 0
        while still < _STILL_ROUNDS or (self._outstanding(before) and time.monotonic() < changed + _STILL_SECONDS):
            assert time.monotonic() < began + DEADLINE, "loopback does not come to rest"
            self._near.sendall(b"?")
            assert self._far.recv(1) == b"?"
            now = [self._state(sock) for sock in self._made if sock.fileno() != -1]
            if now == before:
                still += 1
                select.select([], [], [], 0.001 if still > _STILL_ROUNDS else 0.0)
            else:
                before, still, changed = now, 0, time.monotonic()

    def _outstanding(self, states: Any) -> bool:
        """Whether somebody waits for an acknowledgement."""
        return any(unacknowledged > 0 for _, unacknowledged, _ in states)

    def _state(self, sock: socket.socket) -> tuple[Any, ...]:
        """How much it has to read, how much of what it wrote is not acknowledged, and its readiness."""
        queues = []
        for what in (termios.FIONREAD, termios.TIOCOUTQ):
            try:
                queues.append(struct.unpack("i", fcntl.ioctl(sock, what, bytes(4)))[0])
            except OSError:
                queues.append(-1)
        return (*queues, self.ready(sock))

    def ready(self, sock: socket.socket) -> str:
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        events = poll.poll(0)
        mask = events[0][1] if events else 0
        return ("r" if mask & ~select.POLLOUT else "") + ("w" if mask & ~select.POLLIN else "")

    def path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def os(self, name: str, *args: Any) -> Any:
        return getattr(os, name)(*args)

    def close(self) -> None:
        for sock in (*self._made, self._near, self._far):
            sock.close()
        os.sched_setaffinity(0, self._processors)


class Simulated:
    """The world's kernel, delivering first in, first out."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.world = World()

    def socket(self, family: int = socket.AF_INET) -> SimSocket:
        sock = SimSocket(self.world, family)
        sock.setblocking(False)
        return sock

    def keep(self, sock: SimSocket) -> SimSocket:
        return sock

    def adopt(self, fd: int) -> SimSocket:
        return SimSocket(self.world, fileno=fd)

    def settle(self) -> None:
        while heads := self.world.agenda.heads():
            heads[0].deliver()  # type: ignore[union-attr]

    def ready(self, sock: SimSocket) -> str:
        return ("r" if sock.ready(selectors.EVENT_READ) else "") + ("w" if sock.ready(selectors.EVENT_WRITE) else "")

    def path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def os(self, name: str, *args: Any) -> Any:
        found: list[Any] = []

        def call() -> None:
            try:
                found.append((getattr(os, name)(*args), None))
            except OSError as exc:
                found.append((None, exc))

        self.world._inside(call)
        result, error = found[0]
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self.world.close()


# What bodies at socket level share.


def listening(net: Net, backlog: int = 10, address: Any = ("127.0.0.1", 0), family: int = socket.AF_INET) -> Any:
    listener = net.socket(family)
    listener.bind(address)
    listener.listen(backlog)
    return listener


def connecting(net: Net, address: Any, family: int = socket.AF_INET) -> Any:
    sock = net.socket(family)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    return sock


def accepted(net: Net, listener: Any) -> Any:
    sock, _ = listener.accept()
    sock.setblocking(False)
    return net.keep(sock)


def connected(net: Net, *, send: int = 0, receive: int = 0) -> tuple[Any, Any]:
    """A client's and a server's side; the client's SO_SNDBUF and the server's SO_RCVBUF, if they are to be set."""
    listener, client = net.socket(), net.socket()
    if receive:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    if send:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    net.settle()
    server = accepted(net, listener)
    listener.close()
    return client, server


def fails(number: int, function: Callable[..., Any], *args: Any) -> bool:
    """Whether it raises that very error."""
    try:
        result = function(*args)
    except OSError as exc:
        assert exc.errno == number, f"{errno.errorcode[exc.errno or 0]} instead of {errno.errorcode[number]}"
        return True
    raise AssertionError(f"{result!r} instead of {errno.errorcode[number]}")


def so_error(sock: Any) -> int:
    number: int = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return number


def write_until_full(net: Net, sock: Any, chunk: bytes, times: int = 100_000) -> int:
    """How many bytes are written before nothing more is taken, even when all that can arrive has."""
    total = 0
    for _ in range(times):
        try:
            total += sock.send(chunk)
        except BlockingIOError:
            net.settle()
            try:
                total += sock.send(chunk)
            except BlockingIOError:
                return total
    return total


def read_all(net: Net, sock: Any, limit: int = 1 << 20) -> list[bytes]:
    """Everything that comes until there is nothing more, or the end of file, read by read."""
    reads = []
    net.settle()
    while "r" in net.ready(sock):
        data = sock.recv(limit)
        if not data:
            break
        reads.append(data)
        net.settle()
    return reads


def read_until_reset(sock: Any) -> int:
    """How many bytes can be read before ECONNRESET, which has to come."""
    got = 0
    try:
        while data := sock.recv(1 << 20):
            got += len(data)
    except ConnectionResetError:
        return got
    raise AssertionError(f"end of file behind {got:,} bytes instead of ECONNRESET")


# At asyncio level.


class Arm(Protocol):
    """Where a coroutine runs."""

    warnings: list[str]
    """What asyncio logged from warning up."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `main` on an event loop of this arm to its end."""

    def path(self, name: str) -> str:
        """A path for a Unix socket."""


class LinuxArm:
    """Stock asyncio on real sockets."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.warnings: list[str] = []

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(main(), DEADLINE)

        logger, handler = logging.getLogger("asyncio"), logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warnings.append(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            return asyncio.run(bounded())
        finally:
            logger.removeHandler(handler)

    def path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def close(self) -> None:
        gc.collect()


class SimulatedArm:
    """Stock asyncio on the world's sockets.

    Args:
        picks: a schedule; behind it every pick is 0.
        settings: of the world.
    """

    def __init__(self, directory: str, picks: Sequence[int] = (), **settings: Any) -> None:
        self.warnings: list[str] = []
        self._directory = directory
        self._picks = picks
        self._settings = {"settle": 0.0, **settings}
        self._boundary = Boundary()
        self.choices: Choices | None = None

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        def play(world: World) -> None:
            process = world.start_process("main", main)
            ended = world.run_until(lambda: process.exited, within=world.settings.horizon)
            assert ended, "the body has not ended"

        self.choices = Choices(self._picks)
        with World(self.choices, Settings(**self._settings)) as world:
            world.run(play)
            self.warnings += [e.message for e in world.trace.events if isinstance(e, (LoggedWarning, LoggedError))]
            (process,) = world.processes
            if process.exit_reason is not None:
                raise process.exit_reason
            return process.main.result()  # type: ignore[no-any-return]

    def path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def close(self) -> None:
        self._boundary.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is so: some iterations of the loop, or some time."""
    for _ in range(5):
        if condition():
            return
        await asyncio.sleep(0)
    while not condition():
        await asyncio.sleep(0.002)
