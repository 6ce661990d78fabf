"""Simulated `socket` objects: the kernel's endpoints behind the standard library's interface.

Rules for this file:

1. Errors are the operating system's: the same `OSError` with the same number as a real socket gives there.
2. Nothing blocks. A socket may be in blocking mode; a call that would then really wait is refused, because in a world
   everything happens on one thread and what it waits for could never come.
3. What is not simulated is refused by name: datagrams, ancillary data, descriptors of real files, Unix paths.

What an observer could notice: buffer sizes are those of `SO_SNDBUF` and `SO_RCVBUF` to the byte, where Linux also
counts its own bookkeeping; a socket that nobody closes is closed when its process ends, not when it is collected.
"""

from __future__ import annotations

import errno
import os
import socket as real
import struct
from typing import TYPE_CHECKING, Any

from sim.world.kernel import ANY, RECEIVE_BUFFER, SEND_BUFFER
from sim.world.names import numeric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.world.kernel import Address, Endpoint, Listener
    from sim.world.world import World

LEAST_SEND_BUFFER, LEAST_RECEIVE_BUFFER = 4_608, 2_304
_SNDBUF = (real.SOL_SOCKET, real.SO_SNDBUF)
_RCVBUF = (real.SOL_SOCKET, real.SO_RCVBUF)
_FAMILIES = (real.AF_INET, real.AF_INET6, real.AF_UNIX)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class SimSocket:
    """A TCP socket of a world. Arguments and methods are those of `socket.socket`."""

    def __init__(
        self,
        world: World,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        *,
        endpoint: Endpoint | None = None,
    ) -> None:
        if fileno is not None:
            raise world.refuse(f"socket.socket(fileno={fileno}) was called inside a world. Pass host and port instead.")
        self.family = real.AddressFamily(real.AF_INET if family == -1 else family)
        kind = real.SOCK_STREAM if type == -1 else type
        self.type = real.SocketKind(kind & ~(real.SOCK_NONBLOCK | real.SOCK_CLOEXEC))
        self.proto = real.IPPROTO_TCP if proto in (-1, 0) and self.family != real.AF_UNIX else max(proto, 0)
        if self.type != real.SOCK_STREAM or self.family not in _FAMILIES:
            raise world.refuse(
                f"a socket of family {self.family.name} and type {self.type.name} was asked for inside a world. "
                "Only TCP is simulated: switch the protocol that needs it off (QUIC, statsd, ...)."
            )
        self._world = world
        self.owner = world.process if world.processes else None
        """The process that has it."""
        self._fd = world.new_fd(self)
        self._address: Address | None = None
        self._endpoint = endpoint
        self._listener: Listener | None = None
        self._told = endpoint is not None
        """Whether the program knows that it is connected."""
        self._timeout: float | None = 0.0 if kind & real.SOCK_NONBLOCK else real.getdefaulttimeout()
        self._options: dict[tuple[int, int], Any] = {}

    @property
    def paired(self) -> bool:
        """Whether `socketpair` made it."""
        return self._endpoint is not None and self._endpoint.name == "pair"

    # Being a descriptor.

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd == -1:
            return
        self._world.drop_fd(self._fd)
        self._fd = -1
        if self._endpoint is not None:
            self._endpoint.close(linger_zero=self._linger_zero())
        if self._listener is not None:
            self._listener.close()
        if self._address is not None:
            self._world.kernel.bound.discard(self._address)

    def detach(self) -> int:
        raise self._world.refuse("socket.detach() was called inside a world. Simulated sockets have no descriptor.")

    def __enter__(self) -> SimSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._fd == -1 else f"fd={self._fd}"
        return f"<simulated socket {state} laddr={self._address} endpoint={self._endpoint and self._endpoint.name}>"

    # Blocking, inheritance, options.

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, value: float | None) -> None:
        self._alive()
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def set_inheritable(self, inheritable: bool) -> None:
        """Nothing inherits in a world."""

    def get_inheritable(self) -> bool:
        return False

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None) -> None:
        self._alive()
        if (level, option) == _SNDBUF:
            value = max(2 * int(value), LEAST_SEND_BUFFER)
        elif (level, option) == _RCVBUF:
            value = max(2 * int(value), LEAST_RECEIVE_BUFFER)
        self._options[level, option] = value
        self._size(self._endpoint or self._listener)

    def _size(self, owner: Endpoint | Listener | None) -> None:
        """Give an endpoint or a listener the buffers that were asked for."""
        if owner is not None:
            owner.send_size = self._options.get(_SNDBUF, owner.send_size)
            owner.receive_size = self._options.get(_RCVBUF, owner.receive_size)

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        self._alive()
        value: Any = self._options.get((level, option))
        if value is None and level == real.SOL_SOCKET:
            value = self._own_option(option)
        if buflen and not isinstance(value, (bytes, bytearray)):
            return int(value or 0).to_bytes(4, "little").ljust(buflen, b"\0")[:buflen]
        return 0 if value is None else value

    def _own_option(self, option: int) -> int | None:
        endpoint = self._endpoint
        if option == real.SO_ERROR:
            number = endpoint.error if endpoint is not None else 0
            if endpoint is not None:
                endpoint.error = 0
            return number
        known: dict[int, int] = {
            real.SO_TYPE: int(self.type),
            real.SO_SNDBUF: SEND_BUFFER,
            real.SO_RCVBUF: RECEIVE_BUFFER,
            real.SO_ACCEPTCONN: int(self._listener is not None),
            getattr(real, "SO_DOMAIN", 39): int(self.family),
            getattr(real, "SO_PROTOCOL", 38): int(self.proto),
        }
        return known.get(option)

    def _linger_zero(self) -> bool:
        linger = self._options.get((real.SOL_SOCKET, real.SO_LINGER))
        if not isinstance(linger, (bytes, bytearray)):
            return False
        on, seconds = struct.unpack("ii", linger[:8])
        return bool(on) and seconds == 0

    # Addresses.

    def bind(self, address: Any) -> None:
        self._alive()
        if self.family == real.AF_UNIX:
            raise self._world.refuse(f"a Unix socket was bound to {address!r} inside a world. Bind to host and port.")
        if self._address is not None or self._endpoint is not None:
            raise _error(errno.EINVAL)
        self._address = self._world.kernel.bind(self._parse(address))

    def getsockname(self) -> Any:
        self._alive()
        local = self._endpoint.local if self._endpoint is not None else self._address
        return self._format(local if local is not None else (ANY, 0))

    def getpeername(self) -> Any:
        self._alive()
        if self._endpoint is None or not self._endpoint.established:
            raise _error(errno.ENOTCONN)
        return self._format(self._endpoint.remote)

    def _parse(self, address: Any) -> Address:
        """A host and a port, as the program gave them.

        Raises:
            BoundaryError: the host is a name.
        """
        return numeric(self._world, address[0], passive=True), int(address[1])

    def _format(self, address: Address) -> Any:
        if self.family == real.AF_UNIX:
            return ""
        if self.family == real.AF_INET6:
            return ("::" if address[0] == ANY else address[0], address[1], 0, 0)
        return address

    # Connections.

    def listen(self, backlog: int = 128) -> None:
        self._alive()
        if self._endpoint is not None:
            raise _error(errno.EINVAL)
        if self._listener is not None:
            self._listener.backlog = max(backlog, 0)
            return
        if self._address is None:
            self._address = self._world.kernel.bind((ANY, 0))
        self._listener = self._world.kernel.listen(self._address, backlog)
        self._listener.label = self._world.current_name
        self._listener.watcher = self._world.touch
        self._size(self._listener)

    def accept(self) -> tuple[SimSocket, Any]:
        self._alive()
        if self._listener is None:
            raise _error(errno.EINVAL)
        try:
            endpoint = self._listener.accept()
        except BlockingIOError:
            raise self._would_block("accept") from None
        endpoint.watcher = self._world.touch
        sock = SimSocket(self._world, self.family, self.type, self.proto, endpoint=endpoint)
        sock._options = dict(self._options)
        return sock, self._format(endpoint.remote)

    def connect(self, address: Any) -> None:
        number = self.connect_ex(address)
        if number:
            raise _error(number)

    def connect_ex(self, address: Any) -> int:
        self._alive()
        if self.family == real.AF_UNIX:
            raise self._world.refuse(f"a Unix socket was connected to {address!r} inside a world. Use host and port.")
        if self._listener is not None:
            return errno.EISCONN
        if self._endpoint is not None:
            return self._connect_again(self._endpoint)
        host, port = self._parse(address)
        if self._timeout != 0.0:
            raise self._world.refuse(
                f"a blocking connect to {host}:{port} was called inside a world. Await asyncio.open_connection() or "
                "loop.create_connection() instead; nothing real is reached either way."
            )
        host = {ANY: "127.0.0.1", "::": "::1"}.get(host, host)
        local = self._address or self._world.kernel.ephemeral("::1" if ":" in host else "127.0.0.1")
        self._endpoint = self._world.kernel.connect(local, (host, port))
        self._endpoint.watcher = self._world.touch
        self._size(self._endpoint)
        return errno.EINPROGRESS

    def _connect_again(self, endpoint: Endpoint) -> int:
        """What another `connect` says: what became of the first one, once; after a failure it may be tried anew."""
        if endpoint.connected:
            told, self._told = self._told, True
            return errno.EISCONN if told else 0
        if not endpoint.reset:
            return errno.EALREADY
        self._endpoint = None
        return endpoint.error or errno.ECONNABORTED

    def shutdown(self, how: int) -> None:
        endpoint = self._connected()
        if how not in (real.SHUT_RD, real.SHUT_WR, real.SHUT_RDWR):
            raise _error(errno.EINVAL)
        if how != real.SHUT_WR:
            endpoint.shut_read()
        if how != real.SHUT_RD:
            endpoint.shut_write()
        self._world.touch()

    # Bytes.

    def send(self, data: Any, flags: int = 0) -> int:
        endpoint = self._connected(errno.EPIPE)
        try:
            return endpoint.send(bytes(data))
        except BlockingIOError:
            raise self._would_block("send") from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        data = bytes(data)
        if self.send(data) < len(data):
            raise self._would_block("sendall")

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        if ancdata or address is not None:
            raise self._world.refuse("socket.sendmsg() with ancillary data or an address was called inside a world.")
        return self.send(b"".join(buffers))

    def recv(self, size: int, flags: int = 0) -> bytes:
        if size < 0:
            raise ValueError("negative buffersize in recv")
        if size == 0:
            return b""
        endpoint = self._connected()
        try:
            return endpoint.receive(size, peek=bool(flags & real.MSG_PEEK))
        except BlockingIOError:
            raise self._would_block("recv") from None

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def _alive(self) -> None:
        if self._fd == -1:
            raise _error(errno.EBADF)

    def _connected(self, otherwise: int = errno.ENOTCONN) -> Endpoint:
        self._alive()
        if self._endpoint is None:
            raise _error(otherwise)
        return self._endpoint

    def _would_block(self, method: str) -> Exception:
        """Rule 2."""
        if self._timeout == 0.0:
            return _error(errno.EAGAIN)
        return self._world.refuse(
            f"a blocking socket.{method}() had to wait inside a world. Use asyncio's streams, or setblocking(False)."
        )

    def __getattr__(self, name: str) -> Any:
        if hasattr(real.socket, name) and not name.startswith("__"):
            raise self._world.refuse(f"socket.{name} is not simulated and was used inside a world.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # What the selector asks.

    def readable(self) -> bool:
        """Whether reading or accepting would not block."""
        source = self._endpoint or self._listener
        return self._fd != -1 and (source is None or source.readable)

    def writable(self) -> bool:
        """Whether writing would not block; for a connecting socket, whether the attempt is decided."""
        if self._endpoint is None:
            return self._fd != -1 and self._listener is None
        return self._fd != -1 and self._endpoint.writable


def socketpair(world: World) -> tuple[SimSocket, SimSocket]:
    """Two connected sockets between which bytes take no time: an event loop's way to wake itself."""
    one, two = world.kernel.pair()
    one.watcher = two.watcher = world.touch
    return (
        SimSocket(world, real.AF_UNIX, real.SOCK_STREAM, endpoint=one),
        SimSocket(world, real.AF_UNIX, real.SOCK_STREAM, endpoint=two),
    )
