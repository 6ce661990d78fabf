"""Connecting: refused, backlog, and what becomes of who left before it was accepted."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from .arms import LINGER_ZERO, accepted, connected, connecting, fails, listening, so_error

if TYPE_CHECKING:
    from .arms import Net


def test_what_only_some_sockets_can_do(net: Net) -> None:
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


def test_nobody_listens(net: Net) -> None:
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


def test_refused_as_connect_tells_it(net: Net) -> None:
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


def test_refused_as_recv_tells_it(net: Net) -> None:
    closed = listening(net)
    address = closed.getsockname()
    closed.close()
    sock = connecting(net, address)
    net.settle()
    assert fails(errno.ECONNREFUSED, sock.recv, 1)
    assert sock.recv(1) == b""
    assert fails(errno.ENOTCONN, sock.getpeername)


def test_the_backlog_takes_one_more_than_it_says(net: Net) -> None:
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


def test_connections_are_accepted_in_order(net: Net) -> None:
    listener = listening(net)
    clients = []
    for _ in range(3):
        clients.append(connecting(net, listener.getsockname()))
        net.settle()
    assert net.ready(listener) == "r"
    assert [accepted(net, listener).getpeername() for _ in clients] == [c.getsockname() for c in clients]
    assert net.ready(listener) == ""


def test_a_closed_listener_resets_who_waits(net: Net) -> None:
    listener = listening(net)
    client = connecting(net, listener.getsockname())
    net.settle()
    listener.close()
    net.settle()
    assert fails(errno.ECONNRESET, client.recv, 1)
    assert client.recv(1) == b""


def test_closed_before_it_was_accepted(net: Net) -> None:
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


def test_reset_before_it_was_accepted(net: Net) -> None:
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


def test_connecting_is_under_way_and_then_writable(net: Net) -> None:
    listener = listening(net)
    client = connecting(net, listener.getsockname())
    net.settle()
    assert net.ready(client) == "w"
    assert so_error(client) == 0
    assert client.send(b"before it was accepted") == 22
    net.settle()
    assert accepted(net, listener).recv(100) == b"before it was accepted"


def test_room_in_the_backlog_lets_the_next_one_in(net: Net) -> None:
    listener = listening(net, backlog=0)
    first = connecting(net, listener.getsockname())
    net.settle()
    assert net.ready(first) == "w"
    server = accepted(net, listener)
    second = connecting(net, listener.getsockname())
    net.settle()
    assert net.ready(second) == "w"
    assert server.getpeername() == first.getsockname()


def test_listening_again_changes_the_backlog(net: Net) -> None:
    listener = listening(net, backlog=0)
    listener.listen(3)
    clients = []
    for _ in range(4):
        clients.append(connecting(net, listener.getsockname()))
        net.settle()
    assert [net.ready(client) for client in clients] == ["w"] * 4


def test_accepted_sockets_do_not_inherit_non_blocking(net: Net) -> None:
    listener = listening(net)
    connecting(net, listener.getsockname())
    net.settle()
    sock, _ = listener.accept()
    net.keep(sock)
    assert sock.getblocking()
    assert sock.gettimeout() is None


def test_who_was_accepted_stays_when_the_listener_is_closed(net: Net) -> None:
    client, server = connected(net)
    late = connecting(net, server.getsockname())
    net.settle()
    assert so_error(late) == errno.ECONNREFUSED
    server.send(b"still here")
    net.settle()
    assert client.recv(100) == b"still here"
