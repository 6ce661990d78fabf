"""Unix stream sockets of a world: their paths, and the connections between them.

Theory of operation
===================

A Unix socket is no network. `connect` finds a listener by its path or fails, at once; what is written is in the
peer's receive queue when `send` returns. `socketpair` makes such connections, too.

Rules for this file:

1. Everything takes effect at once: it is delivered by whoever sends it, and there is no choice in it. Only what goes
   from or to a *script* is in flight, like TCP: that stands for the time which its process takes to write or to read.
2. The writer's buffer bounds what the reader has not read yet. A writer is ready again when a quarter is left of it.
3. Who writes to a peer that has closed, or has shut down for reading, gets EPIPE; there is no answer that comes back
   later, as with TCP. `close()` with unread bytes gives the peer ECONNRESET, once, behind what it still has to read.
   SO_LINGER changes nothing. A peer keeps its name, whatever happens.
4. A path is a file of the world's own: `os.stat`, `os.chmod`, `os.chown` and `os.unlink` find it, the real file system
   never holds it. It stays when its socket is closed; then connecting is refused, and binding needs an unlink before.
   A connection more than `backlog` may wait; for the next one `connect` gives EAGAIN.

Simplifications, and what an observer could notice: buffers count bytes, where Linux also counts its own bookkeeping
(some 700 bytes for each write); a path is made with mode 0755, as under the usual umask, and is only known by the
name it was bound to, not by links or in directory listings.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from sim.world.endpoint import Endpoint, Flag, Segment, join
from sim.world.listener import Listener

if TYPE_CHECKING:
    from sim.world.kernel import Kernel

UNIX_BUFFER = 212_992
"""SO_SNDBUF and SO_RCVBUF of a Unix socket."""
LONGEST_PATH = 107
Path: TypeAlias = "str | bytes"
"""A path as `getsockname` gives it: text, or bytes for the abstract names, which begin with a null byte."""
_DEVICE = 0xA51
_NOBODY = ""


class UnixEndpoint(Endpoint):
    """One side of a Unix connection."""

    __slots__ = ("gone", "path", "peer_path")

    def __init__(self, kernel: Kernel, name: str, path: Path = _NOBODY, peer_path: Path = _NOBODY) -> None:
        super().__init__(kernel, name, (os.fsdecode(path), 0), (os.fsdecode(peer_path), 0))
        self.address = self.local[0].replace("\0", "@") or "unix"
        self.path = path
        self.peer_path = peer_path
        self.receive_size = self.send_size = UNIX_BUFFER
        self.connected = True
        self.gone = False
        """Whether it was seen that the peer has closed."""

    @property
    def instant(self) -> bool:
        """Rule 1."""
        return not (self.scripted or self.outbound.target.scripted)

    @property
    def established(self) -> bool:
        """Rule 3: for ever."""
        return True

    @property
    def readable(self) -> bool:
        return bool(self.unread or self.eof or self.gone or self.error or self.read_shut)

    @property
    def writable(self) -> bool:
        """Rule 2."""
        if self._ended():
            return True
        return (self.outbound.target.unread + self.outbound.in_flight) * 4 <= self.send_size

    @property
    def room(self) -> int:
        return max(0, self.send_size - self.outbound.target.unread - self.outbound.in_flight)

    def _ended(self) -> bool:
        return self.fin_queued or self.gone or self.outbound.target.read_shut

    def send(self, data: bytes, label: str = "") -> int:
        """Give the peer as many bytes of `data` as there is room for. Returns their number.

        Raises:
            BlockingIOError: there is no room.
            BrokenPipeError: rule 3; or this side was shut down for writing.
        """
        if self._ended():
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not data:
            return 0
        room = self.room
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        taken = bytes(data[:room])
        self.kernel.put_in_flight(self.outbound, Segment(Flag.DATA, taken, label))
        return len(taken)

    def receive(self, limit: int, *, peek: bool = False) -> bytes:
        """As with TCP. The peer is ready to write again as rule 2 says."""
        peer = self.outbound.target
        stalled = not peer.writable
        data = super().receive(limit, peek=peek)
        if stalled and peer.writable:
            peer.wake()
        return data

    def _receive_nothing(self) -> bytes:
        self._raise_error()
        if self.eof or self.gone or self.read_shut:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def shut_write(self) -> None:
        if not self.fin_queued:
            self.fin_queued = self.fin_sent = True
            self.kernel.put_in_flight(self.outbound, Segment(Flag.FIN))

    def shut_read(self) -> None:
        self.read_shut = True
        self.outbound.target.watcher()

    def close(self, *, linger_zero: bool = False) -> None:
        self._leave(Flag.RST if self.unread else Flag.CLOSE)

    def abort(self) -> None:
        self._leave(Flag.RST)

    def _leave(self, flag: Flag) -> None:
        if self.closed:
            return
        self.closed = True
        self.receive_buffer.clear()
        self.unread = 0
        self.kernel.put_in_flight(self.outbound, Segment(flag))

    def _arrive(self, segment: Segment) -> None:
        if self.closed:
            return
        flag, was_ready = segment.flag, self.readable
        if flag is Flag.DATA:
            if not self.read_shut:
                self.receive_buffer.append(segment.data)
                self.unread += len(segment.data)
        elif flag is Flag.FIN:
            self.eof = True
        else:
            self.gone = True
            if flag is Flag.RST:
                self.reset = True
                self.error = errno.ECONNRESET
        if was_ready:
            self.watcher()
        else:
            self.wake()


class UnixListener(Listener):
    """A socket that listens at a path."""

    __slots__ = ("node",)

    def __init__(self, kernel: Kernel, node: Node, backlog: int) -> None:
        super().__init__(kernel, (os.fsdecode(node.path), 0), backlog)
        self.receive_size = self.send_size = UNIX_BUFFER
        self.node = node

    def close(self) -> None:
        self.node.listener = None
        while self.queue:
            self.queue.popleft().abort()


class Node:
    """A path and what is behind it: rule 4."""

    __slots__ = ("gid", "listener", "mode", "number", "path", "uid")

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.mode = 0o755
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.listener: Listener | None = None

    def stat(self) -> os.stat_result:
        """What `os.stat` says of it."""
        return os.stat_result((stat.S_IFSOCK | self.mode, self.number, _DEVICE, 1, self.uid, self.gid, 0, 0, 0, 0))

    def may_write(self) -> bool:
        """Whether this user may connect to it."""
        user = os.geteuid()
        if user == 0:
            return True
        if user == self.uid:
            return bool(self.mode & stat.S_IWUSR)
        return bool(self.mode & (stat.S_IWGRP if os.getegid() == self.gid else stat.S_IWOTH))


class Paths:
    """All Unix sockets of a kernel that can be found by name."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._nodes: dict[Path, Node] = {}
        self._numbers = count(1)

    def find(self, path: Any) -> Node | None:
        """The socket at a path, if one of this world is there. Any argument that `os.stat` takes may be asked for."""
        if not self._nodes or isinstance(path, int):
            return None
        return self._nodes.get(_key(name_of(path)))

    def bind(self, path: Any) -> Node:
        """Make a path; an empty one stands for an abstract name that nobody has.

        Raises:
            OSError: EADDRINUSE, ENOENT (its directory is not there), ENAMETOOLONG.
        """
        name = name_of(path)
        number = next(self._numbers)
        if not name:
            name = b"\0%05x" % number
        if len(os.fsencode(name)) > LONGEST_PATH:
            raise OSError("AF_UNIX path too long")
        key = _key(name)
        if key in self._nodes:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if isinstance(key, str):
            if os.path.lexists(key):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            if not os.path.isdir(os.path.dirname(key)):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        node = self._nodes[key] = Node(name, number)
        return node

    def unlink(self, node: Node) -> None:
        """Remove the name. What is connected, or waits to be accepted, goes on."""
        self._nodes.pop(_key(node.path), None)

    def released(self, node: Node) -> None:
        """The socket that was bound there is closed: an abstract name goes with it, a path stays."""
        if isinstance(node.path, bytes) and self._nodes.get(node.path) is node:
            del self._nodes[node.path]

    def listen(self, node: Node, backlog: int) -> Listener:
        """Begin to accept connections."""
        listener = node.listener = UnixListener(self._kernel, node, max(backlog, 0))
        return listener

    def connect(self, path: Any, local: Path = _NOBODY, label: str = "") -> UnixEndpoint:
        """Connect, at once. Returns the connecting side.

        Raises:
            OSError: ENOENT, EACCES, ECONNREFUSED, or EAGAIN if as many wait as may.
        """
        node = self.find(path)
        name = name_of(path)
        if node is None:
            missing = isinstance(name, str) and not os.path.exists(name)
            number = errno.ENOENT if missing else errno.ECONNREFUSED
            raise OSError(number, os.strerror(number))
        if not node.may_write():
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        listener = node.listener
        if listener is None:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if len(listener.queue) > listener.backlog:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        called = self._kernel.name_connection()
        near = UnixEndpoint(self._kernel, called, local, node.path)
        far = UnixEndpoint(self._kernel, called, node.path, local)
        near.label, far.label = label, listener.label
        far.send_size = listener.send_size
        join(near, far)
        listener.enqueue(far)
        listener.watcher()
        return near


def unix_pair(kernel: Kernel) -> tuple[UnixEndpoint, UnixEndpoint]:
    """Two connected endpoints, as `socketpair` makes them."""
    one, two = UnixEndpoint(kernel, "pair"), UnixEndpoint(kernel, "pair")
    join(one, two)
    return one, two


def name_of(path: Any) -> Path:
    """A path as the kernel would give it back.

    Raises:
        TypeError: it is neither text, nor bytes, nor a path object.
    """
    name: Path
    if isinstance(path, (bytes, bytearray, memoryview)):
        name = bytes(path)
        return name if name[:1] == b"\0" else os.fsdecode(name)
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"a bytes-like object is required, not {type(path).__name__!r}")
    name = os.fsdecode(path)
    return os.fsencode(name) if name[:1] == "\0" else name


def _key(name: Path) -> Path:
    return name if isinstance(name, bytes) else os.path.abspath(name)
