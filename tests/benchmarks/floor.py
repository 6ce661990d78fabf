"""The floor of rows A to E: the least that any simulator does which lets one thing happen at a time, on asyncio as it is.

A bare selector, bare sockets, a clock, and one queue of what is under way. Whenever the loop is idle, the oldest thing
arrives, and the loop runs until it is idle again, so that each arrival could have been another one. That is all: no
trace, no choice, no link, no window or buffer, no reset, no boundary around the standard library, one process. What it
leaves out can only cost more, so no simulator of this kind is faster than this one by more than how it is written.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import selectors
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Net:
    """What all sockets of a run share."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.flying: collections.deque[Callable[[], None]] = collections.deque()
        self.listeners: dict[int, Sock] = {}
        self.suspects: dict[int, Sock] = {}
        self.fds = 1_000_000


class Sock:
    """A socket that is always connected, or listens."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, net: Net, port: int = 0) -> None:
        self.net = net
        self.port = port
        net.fds += 1
        self.fd = net.fds
        self.peer: Sock | None = None
        self.arrived: collections.deque[bytes] = collections.deque()
        self.queue: collections.deque[Sock] = collections.deque()
        self.connected = False
        self.eof = self.listening = False

    def fileno(self) -> int:
        return self.fd

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", self.peer.port if self.peer is not None else 0

    def setblocking(self, _flag: bool) -> None: ...

    def setsockopt(self, *_args: Any) -> None: ...

    def gettimeout(self) -> float:
        return 0.0

    def bind(self, address: tuple[str, int]) -> None:
        self.port = address[1]

    def listen(self, _backlog: int = 0) -> None:
        self.listening = True
        self.net.listeners[self.port] = self

    def accept(self) -> tuple[Sock, tuple[str, int]]:
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "")
        sock = self.queue.popleft()
        return sock, sock.getpeername()

    def connect(self, address: tuple[str, int]) -> None:
        listener = self.net.listeners[address[1]]
        far = Sock(self.net, address[1])
        self.peer, far.peer, far.connected = far, self, True

        def arrive() -> None:
            self.connected = True
            listener.queue.append(far)
            self.net.suspects[listener.fd] = listener
            self.net.suspects[self.fd] = self

        self.net.flying.append(arrive)
        raise BlockingIOError(errno.EINPROGRESS, "")

    def getsockopt(self, *_args: Any) -> int:
        return 0

    def send(self, data: Any) -> int:
        peer, taken = self.peer, bytes(data)
        assert peer is not None

        def arrive() -> None:
            peer.arrived.append(taken)
            peer.net.suspects[peer.fd] = peer

        self.net.flying.append(arrive)
        return len(taken)

    def recv(self, _size: int) -> bytes:
        if self.arrived:
            return self.arrived.popleft()
        if self.eof:
            return b""
        raise BlockingIOError(errno.EAGAIN, "")

    def shutdown(self, _how: int) -> None:
        self._end()

    def close(self) -> None:
        self.net.suspects.pop(self.fd, None)
        if self.listening:
            self.net.listeners.pop(self.port, None)
        elif self.fd >= 0:
            self._end()
        self.fd = -1

    def _end(self) -> None:
        peer = self.peer
        if peer is not None and self.connected:
            self.connected = False

            def arrive() -> None:
                peer.eof = True
                peer.net.suspects[peer.fd] = peer

            self.net.flying.append(arrive)


class Selector(selectors.BaseSelector):
    """Where one thing happens when the loop is idle."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self.keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys[fileobj]

    def get_map(self) -> Any:
        return self.keys

    def close(self) -> None:
        self.keys.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        net = self.net
        if not net.suspects and timeout != 0:
            if net.flying:
                net.flying.popleft()()
            elif timeout is not None:
                net.now += timeout
        ready = []
        for fd, sock in tuple(net.suspects.items()):
            key = self.keys.get(fd)
            events = 0
            if key is not None:
                if key.events & READ and (sock.arrived or sock.eof or sock.queue):
                    events = READ
                if key.events & WRITE and sock.connected:
                    events |= WRITE
            if events:
                ready.append((key, events))
            else:
                del net.suspects[fd]
        return ready  # type: ignore[return-value]


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, with such sockets for servers and clients, as far as the rows need them."""

    def __init__(self) -> None:
        self.net = Net()
        super().__init__(Selector(self.net))

    def time(self) -> float:
        return self.net.now

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        sock: Any = Sock(self.net, port)
        return await super().create_server(factory, sock=sock, **kwargs)

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        sock: Any = Sock(self.net)
        await self.sock_connect(sock, (host, port))
        return await super().create_connection(factory, sock=sock, **kwargs)

    def add_signal_handler(self, *_args: Any) -> None: ...

    def remove_signal_handler(self, _number: int) -> bool:
        return True


def run(program: Callable[[str], Any]) -> None:
    """Run a program to its end."""
    loop = Loop()
    try:
        loop.run_until_complete(program("127.0.0.1"))
    finally:
        loop.close()
