"""The kernel's rules, each told once and held against two kernels: Linux's on loopback, and the simulated one.

A test gets a `Net`: it makes non-blocking sockets and lets everything that was sent arrive. What it may not do is look
behind the sockets.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from sim.world.sockets import SimSocket
from sim.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINGER_ZERO = struct.pack("ii", 1, 0)


class Net(Protocol):
    """One of the two kernels."""

    def socket(self) -> Any:
        """A new TCP socket, non-blocking."""

    def settle(self) -> None:
        """Wait until everything that was sent has arrived."""

    def ready(self, sock: Any) -> str:
        """Which of r(eadable) and w(ritable) a selector would report."""


class Loopback:
    """Linux."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []

    def socket(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        self.made.append(sock)
        return sock

    def keep(self, sock: socket.socket) -> socket.socket:
        self.made.append(sock)
        return sock

    def settle(self) -> None:
        time.sleep(0.02)

    def ready(self, sock: socket.socket) -> str:
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        events = poll.poll(0)
        mask = events[0][1] if events else 0
        return ("r" if mask & ~select.POLLOUT else "") + ("w" if mask & ~select.POLLIN else "")

    def close(self) -> None:
        for sock in self.made:
            sock.close()


class Simulated:
    """The world's kernel, delivering first in, first out."""

    def __init__(self) -> None:
        self.world = World()

    def socket(self) -> SimSocket:
        sock = SimSocket(self.world)
        sock.setblocking(False)
        return sock

    def keep(self, sock: SimSocket) -> SimSocket:
        return sock

    def settle(self) -> None:
        while heads := self.world.agenda.heads():
            heads[0].deliver()  # type: ignore[union-attr]

    def ready(self, sock: SimSocket) -> str:
        return ("r" if sock.readable() else "") + ("w" if sock.writable() else "")

    def close(self) -> None:
        self.world.close()


@pytest.fixture(params=[pytest.param(Loopback, id="linux"), pytest.param(Simulated, id="simulated")])
def net(request: pytest.FixtureRequest) -> Iterator[Any]:
    kernel = request.param()
    yield kernel
    kernel.close()


def listening(net: Any, backlog: int = 10) -> Any:
    listener = net.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


def connecting(net: Any, address: Any) -> Any:
    sock = net.socket()
    assert sock.connect_ex(address) == errno.EINPROGRESS
    return sock


def accepted(net: Any, listener: Any) -> Any:
    sock, _ = listener.accept()
    sock.setblocking(False)
    return net.keep(sock)


def connected(net: Any) -> tuple[Any, Any]:
    """A client's and a server's side."""
    listener = listening(net)
    client = connecting(net, listener.getsockname())
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


def write_until_full(sock: Any, chunk: bytes, times: int) -> tuple[int, int]:
    """How many writes began, and how many bytes they wrote, before one would have blocked."""
    total = 0
    for number in range(times):
        try:
            total += sock.send(chunk)
        except BlockingIOError:
            return number, total
    return times, total


# Addresses.


def test_names(net: Any) -> None:
    listener = listening(net)
    host, port = listener.getsockname()
    assert host == "127.0.0.1"
    assert port > 0
    client = connecting(net, (host, port))
    net.settle()
    server, address = listener.accept()
    net.keep(server)
    assert server.getsockname() == client.getpeername() == (host, port)
    assert server.getpeername() == client.getsockname() == address
    assert fails(errno.ENOTCONN, listener.getpeername)


def test_a_socket_that_was_not_bound(net: Any) -> None:
    sock = net.socket()
    assert sock.getsockname() == ("0.0.0.0", 0)
    sock.listen()
    host, port = sock.getsockname()
    assert host == "0.0.0.0"
    assert port > 0


def test_an_address_in_use(net: Any) -> None:
    listener = listening(net)
    other = net.socket()
    assert fails(errno.EADDRINUSE, other.bind, listener.getsockname())
    assert fails(errno.EADDRINUSE, other.bind, ("0.0.0.0", listener.getsockname()[1]))
    other.bind(("127.0.0.1", 0))
    assert fails(errno.EINVAL, other.bind, ("127.0.0.1", 0))


def test_a_port_is_free_again_when_its_listener_is_closed(net: Any) -> None:
    listener = listening(net)
    address = listener.getsockname()
    listener.close()
    again = net.socket()
    again.bind(address)
    again.listen()


def test_what_only_some_sockets_can_do(net: Any) -> None:
    client, server = connected(net)
    listener, fresh = listening(net), net.socket()
    assert fails(errno.EINVAL, fresh.accept)
    assert fails(errno.ENOTCONN, fresh.recv, 1)
    assert fails(errno.EPIPE, fresh.send, b"x")
    assert fails(errno.ENOTCONN, fresh.shutdown, socket.SHUT_WR)
    assert fails(errno.EINVAL, client.listen)
    assert fails(errno.EINVAL, server.accept)
    assert client.connect_ex(("127.0.0.1", 1)) == 0, "it tells what became of the first connect, once"
    assert fails(errno.EISCONN, client.connect, ("127.0.0.1", 1))
    assert fails(errno.EISCONN, server.connect, ("127.0.0.1", 1))
    assert fails(errno.EISCONN, listener.connect, ("127.0.0.1", 1))
    assert fails(errno.EINVAL, client.shutdown, 7)
    assert fails(errno.EAGAIN, listener.accept)


def test_use_after_close(net: Any) -> None:
    client, _ = connected(net)
    client.close()
    client.close()
    assert client.fileno() == -1
    for call in (
        lambda: client.send(b"x"),
        lambda: client.sendall(b"x"),
        lambda: client.recv(1),
        lambda: client.recv_into(bytearray(1)),
        client.getsockname,
        client.getpeername,
        client.accept,
        client.listen,
        lambda: client.bind(("127.0.0.1", 0)),
        lambda: client.connect(("127.0.0.1", 1)),
        lambda: client.shutdown(socket.SHUT_WR),
        lambda: client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        lambda: client.setblocking(False),
    ):
        assert fails(errno.EBADF, call)


# Connecting.


def test_nobody_listens(net: Any) -> None:
    closed = listening(net)
    address = closed.getsockname()
    closed.close()
    sock = connecting(net, address)
    net.settle()
    assert net.ready(sock) == "rw"
    assert so_error(sock) == errno.ECONNREFUSED
    assert so_error(sock) == 0
    assert sock.recv(1) == b""
    assert fails(errno.EPIPE, sock.send, b"x")


def test_refused_as_connect_tells_it(net: Any) -> None:
    closed = listening(net)
    address = closed.getsockname()
    closed.close()
    sock = connecting(net, address)
    net.settle()
    assert sock.connect_ex(address) == errno.ECONNREFUSED
    assert sock.connect_ex(address) == errno.EINPROGRESS
    net.settle()
    assert so_error(sock) == errno.ECONNREFUSED
    assert sock.connect_ex(address) == errno.ECONNABORTED


def test_refused_as_recv_tells_it(net: Any) -> None:
    closed = listening(net)
    address = closed.getsockname()
    closed.close()
    sock = connecting(net, address)
    net.settle()
    assert fails(errno.ECONNREFUSED, sock.recv, 1)
    assert sock.recv(1) == b""
    assert fails(errno.ENOTCONN, sock.getpeername)


def test_the_backlog_takes_one_more_than_it_says(net: Any) -> None:
    listener = listening(net, backlog=1)
    clients = []
    for _ in range(3):
        clients.append(connecting(net, listener.getsockname()))
        net.settle()
    assert [net.ready(c) for c in clients] == ["w", "w", ""]
    third = clients[2]
    assert fails(errno.ENOTCONN, third.getpeername)
    assert fails(errno.EALREADY, third.connect, listener.getsockname())
    assert fails(errno.EAGAIN, third.send, b"x")
    assert fails(errno.EAGAIN, third.recv, 1)
    assert so_error(third) == 0


def test_connections_are_accepted_in_order(net: Any) -> None:
    listener = listening(net)
    clients = []
    for _ in range(3):
        clients.append(connecting(net, listener.getsockname()))
        net.settle()
    assert net.ready(listener) == "r"
    assert [accepted(net, listener).getpeername() for _ in clients] == [c.getsockname() for c in clients]
    assert net.ready(listener) == ""


def test_a_closed_listener_resets_who_waits(net: Any) -> None:
    listener = listening(net)
    client = connecting(net, listener.getsockname())
    net.settle()
    listener.close()
    net.settle()
    assert fails(errno.ECONNRESET, client.recv, 1)
    assert client.recv(1) == b""


def test_closed_before_it_was_accepted(net: Any) -> None:
    listener = listening(net)
    client = connecting(net, listener.getsockname())
    net.settle()
    name = client.getsockname()
    client.send(b"early")
    client.close()
    net.settle()
    server = accepted(net, listener)
    assert server.getpeername() == name
    assert server.recv(10) == b"early"
    assert server.recv(10) == b""


def test_reset_before_it_was_accepted(net: Any) -> None:
    listener = listening(net)
    client = connecting(net, listener.getsockname())
    net.settle()
    name = client.getsockname()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    client.close()
    net.settle()
    server, address = listener.accept()
    server.setblocking(False)
    net.keep(server)
    assert address == name
    assert fails(errno.ENOTCONN, server.getpeername)
    assert fails(errno.ECONNRESET, server.recv, 1)


# Bytes.


def test_bytes_in_order_whatever_the_sizes(net: Any) -> None:
    client, server = connected(net)
    for size in (1, 10, 3, 7):
        client.send(bytes([size]) * size)
    net.settle()
    assert net.ready(server) == "rw"
    expected = b"".join(bytes([n]) * n for n in (1, 10, 3, 7))
    assert server.recv(5, socket.MSG_PEEK) == expected[:5]
    assert server.recv(5) == expected[:5]
    buffer = bytearray(4)
    assert server.recv_into(buffer) == 4
    assert server.recv_into(memoryview(buffer)[1:], 2) == 2
    assert buffer == expected[5:6] + expected[9:11] + expected[8:9]
    assert server.recv(100) == expected[11:]
    assert net.ready(server) == "w"
    assert fails(errno.EAGAIN, server.recv, 1)


def test_nothing(net: Any) -> None:
    client, server = connected(net)
    assert client.send(b"") == 0
    assert server.recv(0) == b""
    net.settle()
    assert fails(errno.EAGAIN, server.recv, 1)
    with pytest.raises(ValueError, match="negative buffersize in recv"):
        server.recv(-1)


def test_gathered_writes(net: Any) -> None:
    client, server = connected(net)
    assert client.sendmsg([b"ab", bytearray(b"c"), memoryview(b"de")]) == 5
    client.sendall(b"f")
    net.settle()
    assert server.recv(10) == b"abcdef"


def test_a_writer_is_bounded_by_the_buffers_and_goes_on_when_they_are_read(net: Any) -> None:
    client, server = connected(net)
    chunk = bytes(range(250)) * 40
    writes, written = write_until_full(client, chunk, 2_000)
    assert writes < 2_000
    assert fails(errno.EAGAIN, client.send, chunk)
    assert "w" not in net.ready(client)
    net.settle()
    read = bytearray()
    while len(read) < 2_000 * len(chunk):
        if not server_ready(net, server):
            net.settle()
        while server_ready(net, server):
            read += server.recv(1 << 20)
        while written < 2_000 * len(chunk):
            offset = written % len(chunk)
            try:
                written += client.send(chunk[offset:])
            except BlockingIOError:
                break
    assert read == chunk * 2_000


def server_ready(net: Any, server: Any) -> bool:
    return "r" in net.ready(server)


def test_a_partial_write(net: Any) -> None:
    client, server = connected(net)
    data = bytes(64_000_000)
    taken = client.send(data)
    assert 0 < taken < len(data)
    net.settle()
    got = 0
    while server_ready(net, server):
        got += len(server.recv(1 << 20))
        net.settle()
    assert got == taken


# Ends.


def test_fin_comes_behind_the_data(net: Any) -> None:
    client, server = connected(net)
    client.send(b"last")
    client.close()
    net.settle()
    assert net.ready(server) == "rw"
    assert server.recv(10) == b"last"
    assert server.recv(10) == b""
    assert server.recv(10) == b""
    assert net.ready(server) == "rw"


def test_half_close(net: Any) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    client.shutdown(socket.SHUT_WR)
    net.settle()
    assert server.recv(1) == b""
    assert fails(errno.EPIPE, client.send, b"x")
    server.send(b"still")
    net.settle()
    assert client.recv(10) == b"still"
    assert client.getpeername() == server.getsockname()


def test_close_with_unread_bytes_resets(net: Any) -> None:
    client, server = connected(net)
    server.send(b"before")
    client.send(b"unread")
    net.settle()
    server.close()
    net.settle()
    assert net.ready(client) == "rw"
    assert client.recv(3) == b"bef"
    assert client.recv(10) == b"ore"
    assert fails(errno.ECONNRESET, client.recv, 10)
    assert client.recv(10) == b""
    assert fails(errno.EPIPE, client.send, b"x")
    assert so_error(client) == 0


def test_a_reset_is_told_once_by_whoever_asks_first(net: Any) -> None:
    for ask in (
        lambda c: fails(errno.ECONNRESET, c.send, b"x"),
        lambda c: fails(errno.ECONNRESET, c.send, b""),
        lambda c: so_error(c) == errno.ECONNRESET,
    ):
        client, server = connected(net)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        server.close()
        net.settle()
        assert client.recv(0) == b""
        assert ask(client)
        assert client.recv(1) == b""
        assert fails(errno.EPIPE, client.send, b"x")
        assert net.ready(client) == "rw"


def test_data_after_close_is_answered_with_a_reset(net: Any) -> None:
    client, server = connected(net)
    server.send(b"bye")
    server.close()
    net.settle()
    assert client.send(b"1") == 1
    net.settle()
    assert client.recv(10) == b"bye"
    assert client.recv(10) == b""
    assert fails(errno.EPIPE, client.send, b"2")


def test_a_reset_behind_a_fin_is_a_broken_pipe(net: Any) -> None:
    client, server = connected(net)
    server.close()
    net.settle()
    client.send(b"1")
    net.settle()
    assert so_error(client) == errno.EPIPE
    assert client.recv(1) == b""


def test_linger_zero(net: Any) -> None:
    client, server = connected(net)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    server.send(b"before")
    server.close()
    net.settle()
    assert client.recv(10) == b"before"
    assert fails(errno.ECONNRESET, client.recv, 10)


def test_lingering_some_seconds_is_no_reset(net: Any) -> None:
    client, server = connected(net)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    server.close()
    net.settle()
    assert client.recv(10) == b""


def test_what_a_reset_connection_is_called(net: Any) -> None:
    client, server = connected(net)
    name = client.getsockname()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    server.close()
    net.settle()
    assert fails(errno.ENOTCONN, client.getpeername)
    assert fails(errno.ENOTCONN, client.shutdown, socket.SHUT_WR)
    assert client.getsockname() == name


def test_both_fins_end_it(net: Any) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    net.settle()
    for sock in (client, server):
        assert fails(errno.ENOTCONN, sock.getpeername)
        assert fails(errno.ENOTCONN, sock.shutdown, socket.SHUT_WR)
        assert fails(errno.EPIPE, sock.send, b"x")
        assert sock.recv(1) == b""


def test_shut_down_for_reading(net: Any) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_RD)
    assert "r" in net.ready(client)
    assert client.recv(1) == b""
    server.send(b"late")
    net.settle()
    assert client.recv(10) == b"late"
    assert client.recv(10) == b""
    assert server.send(b"more") == 4


@pytest.mark.parametrize(
    "hows", [[socket.SHUT_RDWR], [socket.SHUT_WR, socket.SHUT_RD], [socket.SHUT_RD, socket.SHUT_WR]]
)
def test_shut_down_both_ways_data_is_answered_with_a_reset(net: Any, hows: list[int]) -> None:
    client, server = connected(net)
    for how in hows:
        client.shutdown(how)
    net.settle()
    assert server.recv(1) == b""
    server.send(b"late")
    net.settle()
    assert fails(errno.EPIPE, server.send, b"x")
    assert fails(errno.ECONNRESET, client.recv, 1)
    assert client.recv(1) == b""


# Options.


def test_buffer_sizes_are_doubled_and_have_a_least(net: Any) -> None:
    sock = net.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9_000)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 20_000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 18_000
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 4_608
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2_304


def test_small_buffers_hold_less(net: Any) -> None:
    listener = net.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = net.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client.connect_ex(listener.getsockname())
    net.settle()
    server = accepted(net, listener)
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 8_192
    _, written = write_until_full(client, bytes(1_000), 1_000)
    assert 4_096 <= written <= 200_000
    net.settle()
    got = 0
    while got < written:
        got += len(server.recv(1 << 20))
        net.settle()
    assert got == written
    assert "w" in net.ready(client)


def test_what_an_accepted_socket_inherits(net: Any) -> None:
    listener = listening(net)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    client = connecting(net, listener.getsockname())
    net.settle()
    server = accepted(net, listener)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    server.close()
    net.settle()
    assert fails(errno.ECONNRESET, client.recv, 1)


def test_what_a_socket_says_of_itself(net: Any) -> None:
    listener, fresh = listening(net), net.socket()
    assert (fresh.family, fresh.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert fresh.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    assert fresh.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 4) == struct.pack("i", 1)
    assert fresh.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
    assert fresh.getblocking() is False
    assert fresh.gettimeout() == 0.0
