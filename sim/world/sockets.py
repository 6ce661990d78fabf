"""Simulated `socket` objects: the kernel's endpoints behind the standard library's interface.

Rules for this file:

1. Errors are the operating system's: the same `OSError` with the same number as a real socket gives there.
2. Nothing blocks. A socket may be in blocking mode; a call that would then really wait is refused, because in a world
   everything happens on one thread and what it waits for could never come.
3. What is not simulated is refused by name: datagrams, ancillary data, descriptors of real files, and the options and
   flags that `sim.world.options` does not know.

What an observer could notice: buffer sizes are those of `SO_SNDBUF` and half of `SO_RCVBUF` to the byte, where Linux
reckons with its own bookkeeping; a socket that nobody closes is closed when its process ends, not when it is collected.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket as real
from typing import TYPE_CHECKING, Any

from sim.world import options
from sim.world.addresses import parse, present, unbound
from sim.world.description import Description
from sim.world.kernel import ANY, ANY_6

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sim.world.kernel import Endpoint
    from sim.world.world import World

_FAMILIES = {-1: real.AF_INET, real.AF_INET: real.AF_INET, real.AF_INET6: real.AF_INET6, real.AF_UNIX: real.AF_UNIX}
_HOW = real.SOCK_NONBLOCK | real.SOCK_CLOEXEC
"""What may be asked of a new socket beside its kind."""
_PEEK = int(real.MSG_PEEK)
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class SimSocket:
    """A stream socket of a world. Arguments and methods are those of `socket.socket`."""

    _file: Description

    def __init__(
        self,
        world: World,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        *,
        file: Description | None = None,
    ) -> None:
        self._timeout: float | None = real.getdefaulttimeout()
        if fileno is not None:
            held: SimSocket = world.descriptors.socket(fileno)
            file, family = held._file, held._file.family
        kind = real.SOCK_STREAM if type == -1 else type
        self.family = _FAMILIES.get(family) or real.AddressFamily(family)
        self.type = real.SOCK_STREAM if kind == real.SOCK_STREAM else real.SocketKind(kind & ~_HOW)
        self.proto = real.IPPROTO_TCP if proto in (-1, 0) and family != real.AF_UNIX else max(proto, 0)
        if self.type is not real.SOCK_STREAM or family not in _FAMILIES:
            raise world.refuse(
                f"a socket of family {self.family.name} and type {self.type.name} was asked for inside a world. "
                "Only TCP and Unix streams are simulated: switch the protocol that needs it off (QUIC, statsd, ...)."
            )
        self._world = world
        self.owner = world.process if world.processes else None
        """The process that has it."""
        self._file = file if file is not None else Description(world, self.family)
        if kind != real.SOCK_STREAM and kind & real.SOCK_NONBLOCK:
            self._timeout = 0.0
            self._file.nonblocking = True
        if fileno is None:
            self._fd = world.descriptors.new(self)
        else:
            self._fd = fileno
            world.descriptors.hold(fileno, self)

    @property
    def paired(self) -> bool:
        """Whether `socketpair` made it."""
        endpoint = self._file.endpoint
        return endpoint is not None and endpoint.name == "pair"

    # Being a descriptor.

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd == -1:
            return
        self._world.descriptors.drop(self._fd)
        self._fd = -1
        self._file.release()
        self._world.touched += 1

    def detach(self) -> int:
        """Give the descriptor up without closing it; `socket.socket(fileno=...)` takes it over."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            keeper = SimSocket.__new__(SimSocket)
            keeper.__dict__.update(self.__dict__, _fd=fd)
            self._world.descriptors.hold(fd, keeper)
        return fd

    def dup(self) -> SimSocket:
        self._alive()
        self._file.descriptors += 1
        sock = SimSocket(self._world, self.family, self.type, self.proto, file=self._file)
        sock._timeout = self._timeout
        return sock

    def __enter__(self) -> SimSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._fd == -1 else f"fd={self._fd}"
        file = self._file
        where: object = file.address if file.node is None else file.node.path
        return f"<simulated socket {state} laddr={where!r} endpoint={file.endpoint and file.endpoint.name}>"

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
        self._file.nonblocking = value is not None

    def gettimeout(self) -> float | None:
        return self._timeout

    def set_inheritable(self, inheritable: bool) -> None:
        """Nothing inherits in a world."""

    def get_inheritable(self) -> bool:
        return False

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None) -> None:
        self._alive()
        options.set_option(self._world, self._file, level, option, value)
        self._file.changed()

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        self._alive()
        return options.get_option(self._world, self._file, level, option, buflen)

    # Addresses.

    def bind(self, address: Any) -> None:
        self._alive()
        file = self._file
        if file.address is not None or file.node is not None or file.endpoint is not None:
            raise _error(errno.EINVAL)
        if self.family == real.AF_UNIX:
            file.node = self._world.kernel.paths.bind(address)
            return
        where = parse(self._world, file, address, passive=True)
        try:
            file.address = self._world.kernel.bind(where)
        except OSError:
            for option, name in ((options.REUSEPORT, "SO_REUSEPORT"), (options.REUSEADDR, "SO_REUSEADDR")):
                if file.options.get(option) and not (name == "SO_REUSEADDR" and self._world.kernel.listens_at(where)):
                    raise self._world.refuse(
                        f"{address!r} was bound a second time, with {name}. Two sockets that share an address are not "
                        "simulated: close the first, or bind to another port."
                    ) from None
            raise

    def getsockname(self) -> Any:
        self._alive()
        file = self._file
        if self.family == real.AF_UNIX:
            return file.node.path if file.node is not None else getattr(file.endpoint, "path", "")
        local = file.endpoint.local if file.endpoint is not None else file.address
        return present(file, local if local is not None else unbound(file))

    def getpeername(self) -> Any:
        self._alive()
        endpoint = self._file.endpoint
        if endpoint is None or not endpoint.established:
            raise _error(errno.ENOTCONN)
        return self._name_of_peer(endpoint)

    def _name_of_peer(self, endpoint: Endpoint) -> Any:
        if self.family == real.AF_UNIX:
            return endpoint.peer_path  # type: ignore[attr-defined]
        return present(self._file, endpoint.remote)

    # Connections.

    def listen(self, backlog: int = 128) -> None:
        self._alive()
        file, kernel = self._file, self._world.kernel
        if file.endpoint is not None:
            raise _error(errno.EINVAL)
        if file.listener is not None:
            file.listener.backlog = max(backlog, 0)
            return
        if self.family == real.AF_UNIX:
            if file.node is None:
                raise _error(errno.EINVAL)
            file.listener = kernel.paths.listen(file.node, backlog)
        else:
            if file.address is None:
                file.address = kernel.bind(unbound(file))
            file.listener = kernel.listen(file.address, backlog)
        file.listener.label = self._world.current_name
        file.listener.watcher = file.changed
        options.size(file)

    def accept(self) -> tuple[SimSocket, Any]:
        self._alive()
        listener = self._file.listener
        if listener is None:
            raise _error(errno.EINVAL)
        try:
            endpoint = listener.accept()
        except BlockingIOError:
            raise self._would_block("accept") from None
        file = Description(self._world, self.family, endpoint)
        file.options = dict(self._file.options)
        return SimSocket(self._world, self.family, self.type, self.proto, file=file), self._name_of_peer(endpoint)

    def connect(self, address: Any) -> None:
        number = self.connect_ex(address)
        if number:
            raise _error(number)

    def connect_ex(self, address: Any) -> int:
        self._alive()
        file = self._file
        if file.listener is not None:
            return errno.EINVAL if self.family == real.AF_UNIX else errno.EISCONN
        if file.endpoint is not None:
            return self._connect_again(file.endpoint)
        kernel = self._world.kernel
        if self.family == real.AF_UNIX:
            try:
                file.endpoint = kernel.paths.connect(address, file.node.path if file.node is not None else "")
            except OSError as exc:
                return exc.errno or errno.EINVAL
            file.told = True
        else:
            host, port = parse(self._world, file, address)
            if self._timeout != 0.0:
                raise self._world.refuse(
                    f"a blocking connect to {host}:{port} was called inside a world. Await asyncio.open_connection() or "
                    "loop.create_connection() instead; nothing real is reached either way."
                )
            host = {ANY: "127.0.0.1", ANY_6: "::1"}.get(host, host)
            local = file.address or kernel.ephemeral("::1" if ":" in host else "127.0.0.1")
            file.endpoint = kernel.connect(local, (host, port))
        file.endpoint.watcher = file.changed
        options.size(file)
        return 0 if file.told else errno.EINPROGRESS

    def _connect_again(self, endpoint: Endpoint) -> int:
        """What another `connect` says: what became of the first one, once; after a failure it may be tried anew."""
        file = self._file
        if endpoint.connected:
            told, file.told = file.told, True
            return errno.EISCONN if told else 0
        if not endpoint.reset:
            return errno.EALREADY
        file.endpoint = None
        return endpoint.error or errno.ECONNABORTED

    def shutdown(self, how: int) -> None:
        self._alive()
        if self.family == real.AF_UNIX and self._file.endpoint is None and how in range(3):
            return
        if self._file.listener is not None:
            raise self._world.refuse("socket.shutdown() of a listener was called inside a world. Close it instead.")
        endpoint = self._connected()
        if how not in (real.SHUT_RD, real.SHUT_WR, real.SHUT_RDWR):
            raise _error(errno.EINVAL)
        if how != real.SHUT_WR:
            endpoint.shut_read()
        if how != real.SHUT_RD:
            endpoint.shut_write()
        self._file.changed()

    # Bytes.

    def send(self, data: Any, flags: int = 0) -> int:
        if flags:
            options.require_flags(self._world, "send", flags, options.SEND_FLAGS)
        endpoint = self._file.endpoint
        if endpoint is None or self._fd == -1:
            endpoint = self._connected(errno.ENOTCONN if self.family == real.AF_UNIX else errno.EPIPE)
        try:
            return endpoint.send(bytes(data))
        except BlockingIOError:
            raise self._would_block("send", flags) from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        data = bytes(data)
        if self.send(data, flags) < len(data):
            raise self._would_block("sendall", flags)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        if ancdata or address is not None:
            raise self._world.refuse("socket.sendmsg() with ancillary data or an address was called inside a world.")
        return self.send(b"".join(buffers), flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags:
            options.require_flags(self._world, "recv", flags, options.RECEIVE_FLAGS)
        if size <= 0:
            if size < 0:
                raise ValueError("negative buffersize in recv")
            return b""
        endpoint = self._file.endpoint
        if endpoint is None or self._fd == -1:
            endpoint = self._connected(errno.EINVAL if self.family == real.AF_UNIX else errno.ENOTCONN)
        try:
            return endpoint.receive(size, peek=bool(flags & _PEEK)) if flags else endpoint.receive(size)
        except BlockingIOError:
            raise self._would_block("recv", flags) from None

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
        if self._file.endpoint is None:
            raise _error(otherwise)
        return self._file.endpoint

    def _would_block(self, method: str, flags: int = 0) -> Exception:
        """Rule 2. A descriptor that was taken over may be non-blocking without Python's knowledge."""
        if self._timeout == 0.0 or flags & real.MSG_DONTWAIT or (self._timeout is None and self._file.nonblocking):
            return _error(errno.EAGAIN)
        return self._world.refuse(
            f"a blocking socket.{method}() had to wait inside a world. Use asyncio's streams, or setblocking(False)."
        )

    def __getattr__(self, name: str) -> Any:
        if hasattr(real.socket, name) and not name.startswith("__"):
            raise self._world.refuse(f"socket.{name} is not simulated and was used inside a world.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # What the selector asks.

    @property
    def woken(self) -> int:
        """When it last became ready, counted through the kernel."""
        file = self._file
        source = file.endpoint or file.listener
        return source.woken if source is not None else 0

    def ready(self, wanted: int) -> int:
        """Which of these events of `selectors` it is ready for.

        Reading: reading or accepting would not block. Writing: writing would not, or, for a connecting socket, the attempt
        is decided.
        """
        if self._fd == -1:
            return 0
        endpoint = self._file.endpoint
        if endpoint is None:
            listener = self._file.listener
            return wanted if listener is None else wanted & _READ if listener.readable else 0
        events = _READ if wanted & _READ and endpoint.readable else 0
        return events | _WRITE if wanted & _WRITE and endpoint.writable else events


def socketpair(world: World) -> tuple[SimSocket, SimSocket]:
    """Two connected sockets between which bytes take no time: an event loop's way to wake itself."""
    one, two = world.kernel.pair()
    return (
        SimSocket(world, real.AF_UNIX, real.SOCK_STREAM, file=Description(world, real.AF_UNIX, one)),
        SimSocket(world, real.AF_UNIX, real.SOCK_STREAM, file=Description(world, real.AF_UNIX, two)),
    )


def fromfd(world: World, fd: int, _family: int, _type: int, _proto: int = 0) -> SimSocket:
    """`socket.fromfd`: a duplicate of a simulated descriptor.

    Raises:
        BoundaryError: the descriptor is a real one.
    """
    return world.descriptors.socket(fd).dup()
