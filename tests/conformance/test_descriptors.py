"""Descriptors: duplicates, descriptors given up and taken over, and use after close."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from .arms import connected, fails, listening

if TYPE_CHECKING:
    from .arms import Net


def test_use_after_close(net: Net) -> None:
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


def test_a_duplicate_is_the_same_connection(net: Net) -> None:
    client, server = connected(net)
    again = net.keep(client.dup())
    assert again.fileno() != client.fileno()
    assert (again.family, again.type, again.proto) == (client.family, client.type, client.proto)
    assert again.getpeername() == client.getpeername()
    assert again.gettimeout() == 0.0
    client.send(b"one ")
    again.send(b"two")
    server.send(b"for both")
    net.settle()
    assert server.recv(10) == b"one two"
    assert (client.recv(4), again.recv(10)) == (b"for ", b"both")
    assert net.ready(client) == net.ready(again) == "w"


def test_only_the_last_duplicate_closes(net: Net) -> None:
    client, server = connected(net)
    again = net.keep(client.dup())
    client.close()
    net.settle()
    assert net.ready(server) == "w"
    assert fails(errno.EAGAIN, server.recv, 1)
    again.send(b"still open")
    again.close()
    net.settle()
    assert server.recv(20) == b"still open"
    assert server.recv(20) == b""


def test_shutting_down_a_duplicate_shuts_down_both(net: Net) -> None:
    client, server = connected(net)
    again = net.keep(client.dup())
    again.shutdown(socket.SHUT_WR)
    net.settle()
    assert server.recv(1) == b""
    assert fails(errno.EPIPE, client.send, b"x")


def test_duplicates_share_their_options(net: Net) -> None:
    client, _ = connected(net)
    again = net.keep(client.dup())
    again.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_duplicate_listener_accepts_in_turn(net: Net) -> None:
    listener = listening(net)
    again = net.keep(listener.dup())
    clients = [net.socket() for _ in range(2)]
    for client in clients:
        client.connect_ex(listener.getsockname())
        net.settle()
    first, _ = listener.accept()
    second, _ = again.accept()
    net.keep(first)
    net.keep(second)
    assert [first.getpeername(), second.getpeername()] == [client.getsockname() for client in clients]
    listener.close()
    late = net.socket()
    late.connect_ex(again.getsockname())
    net.settle()
    assert net.ready(late) == "w"
    net.keep(again.accept()[0])


def test_a_port_is_free_when_the_last_duplicate_is_closed(net: Net) -> None:
    listener = listening(net)
    again = net.keep(listener.dup())
    address = listener.getsockname()
    listener.close()
    assert fails(errno.EADDRINUSE, net.socket().bind, address)
    again.close()
    net.socket().bind(address)


def test_a_descriptor_that_was_given_up_stays_open(net: Net) -> None:
    client, server = connected(net)
    fd = client.detach()
    assert client.fileno() == -1
    assert fails(errno.EBADF, client.send, b"x")
    client.close()
    net.settle()
    assert fails(errno.EAGAIN, server.recv, 1)
    taken = net.adopt(fd)
    assert taken.fileno() == fd
    assert (taken.family, taken.type, taken.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.send(b"taken over")
    net.settle()
    assert server.recv(20) == b"taken over"
    taken.close()
    net.settle()
    assert server.recv(1) == b""


def test_a_closed_socket_gives_up_no_descriptor(net: Net) -> None:
    sock = net.socket()
    sock.close()
    assert sock.detach() == -1


def test_a_descriptor_that_was_taken_over_is_still_non_blocking(net: Net) -> None:
    """Python does not ask the kernel, and says that it blocks."""
    client, _ = connected(net)
    taken = net.adopt(client.detach())
    assert taken.gettimeout() is None
    assert fails(errno.EAGAIN, taken.recv, 1)


def test_a_descriptor_can_be_closed_without_its_socket(net: Net) -> None:
    client, server = connected(net)
    net.os("close", client.detach())
    net.settle()
    assert server.recv(1) == b""


def test_a_bare_descriptor_can_be_duplicated(net: Net) -> None:
    client, server = connected(net)
    taken = net.adopt(net.os("dup", client.fileno()))
    taken.setblocking(False)
    client.close()
    taken.send(b"the other one")
    net.settle()
    assert server.recv(20) == b"the other one"


def test_leaving_a_with_statement_closes(net: Net) -> None:
    client, server = connected(net)
    with client as same:
        assert same is client
    net.settle()
    assert client.fileno() == -1
    assert server.recv(1) == b""


def test_attributes_that_are_none(net: Net) -> None:
    assert not hasattr(net.socket(), "recvv")
