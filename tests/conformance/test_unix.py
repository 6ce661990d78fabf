"""Unix stream sockets: paths, and connections that are no network."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

import pytest

from .arms import LINGER_ZERO, accepted, fails, so_error

if TYPE_CHECKING:
    from .arms import Net

UNIX = socket.AF_UNIX


def listening(net: Net, name: str = "socket", backlog: int = 10) -> Any:
    listener = net.socket(UNIX)
    listener.bind(net.path(name))
    listener.listen(backlog)
    return listener


def connected(net: Net) -> tuple[Any, Any]:
    path = net.path("pair")
    listener, client = listening(net, "pair"), net.socket(UNIX)
    assert client.connect_ex(path) == 0
    server = accepted(net, listener)
    listener.close()
    net.os("unlink", path)
    return client, server


# Paths.


def test_names_are_paths(net: Net) -> None:
    listener, client = listening(net), net.socket(UNIX)
    path = net.path("socket")
    assert client.getsockname() == ""
    client.connect(path)
    server, address = listener.accept()
    net.keep(server)
    assert listener.getsockname() == server.getsockname() == client.getpeername() == path
    assert address == client.getsockname() == server.getpeername() == ""


def test_a_client_may_have_a_path_too(net: Net) -> None:
    listener, client = listening(net), net.socket(UNIX)
    client.bind(net.path("client"))
    client.connect(net.path("socket"))
    server, address = listener.accept()
    net.keep(server)
    assert address == server.getpeername() == client.getsockname() == net.path("client")


def test_paths_may_be_bytes(net: Net) -> None:
    listener = net.socket(UNIX)
    listener.bind(os.fsencode(net.path("socket")))
    listener.listen()
    assert listener.getsockname() == net.path("socket")
    net.socket(UNIX).connect(os.fsencode(net.path("socket")))


def test_a_path_is_a_file(net: Net) -> None:
    path = net.path("socket")
    assert fails(errno.ENOENT, net.os, "stat", path)
    listener = listening(net)
    assert stat.S_ISSOCK(net.os("stat", path).st_mode)
    assert stat.S_ISSOCK(net.os("lstat", path).st_mode)
    net.os("chmod", path, 0o600)
    net.os("chown", path, os.geteuid(), -1)
    assert stat.S_IMODE(net.os("stat", path).st_mode) == 0o600
    assert net.os("stat", path).st_uid == os.geteuid()
    assert fails(errno.EADDRINUSE, net.socket(UNIX).bind, path)
    listener.close()


def test_who_may_not_write_to_a_path_may_not_connect(net: Net) -> None:
    listening(net)
    net.os("chmod", net.path("socket"), 0)
    expected = 0 if os.geteuid() == 0 else errno.EACCES
    assert net.socket(UNIX).connect_ex(net.path("socket")) == expected


def test_a_path_stays_when_its_socket_is_closed(net: Net) -> None:
    path = net.path("socket")
    listening(net).close()
    assert stat.S_ISSOCK(net.os("stat", path).st_mode)
    assert net.socket(UNIX).connect_ex(path) == errno.ECONNREFUSED
    assert fails(errno.EADDRINUSE, net.socket(UNIX).bind, path)
    net.os("unlink", path)
    listening(net)
    assert net.socket(UNIX).connect_ex(path) == 0


@pytest.mark.parametrize("function", ["unlink", "remove"])
def test_a_path_can_be_removed_while_somebody_listens(net: Net, function: str) -> None:
    path = net.path("socket")
    listener, client = listening(net), net.socket(UNIX)
    client.connect(path)
    net.os(function, path)
    assert fails(errno.ENOENT, net.os, function, path)
    assert net.socket(UNIX).connect_ex(path) == errno.ENOENT
    server = accepted(net, listener)
    client.send(b"goes on")
    net.settle()
    assert server.recv(10) == b"goes on"


def test_two_sockets_of_one_name_one_after_the_other(net: Net) -> None:
    first = listening(net)
    net.os("unlink", net.path("socket"))
    second = listening(net)
    net.socket(UNIX).connect(net.path("socket"))
    assert (net.ready(first), net.ready(second)) == ("", "r")


def test_there_is_nothing_at_a_path(net: Net) -> None:
    assert net.socket(UNIX).connect_ex(net.path("nothing")) == errno.ENOENT


def test_there_is_another_file_at_a_path(net: Net) -> None:
    with open(net.path("file"), "w"):
        pass
    assert net.socket(UNIX).connect_ex(net.path("file")) == errno.ECONNREFUSED
    assert fails(errno.EADDRINUSE, net.socket(UNIX).bind, net.path("file"))
    assert net.socket(UNIX).connect_ex(net.path("")) == errno.ECONNREFUSED, "it is a directory"


def test_a_path_needs_its_directory(net: Net) -> None:
    assert fails(errno.ENOENT, net.socket(UNIX).bind, net.path("nowhere/socket"))


def test_a_path_is_short(net: Net) -> None:
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        net.socket(UNIX).bind("/" + "x" * 108)


def test_a_path_is_no_tuple(net: Net) -> None:
    with pytest.raises(TypeError):
        net.socket(UNIX).bind(("127.0.0.1", 80))


def test_abstract_names(net: Net) -> None:
    listener, client = net.socket(UNIX), net.socket(UNIX)
    name = f"\0asgi-sim-{os.getpid()}"
    listener.bind(name)
    listener.listen()
    assert listener.getsockname() == name.encode()
    assert client.connect_ex(name) == 0
    assert client.getpeername() == name.encode()
    listener.close()
    net.socket(UNIX).bind(name)


def test_an_empty_name_is_an_abstract_one_that_nobody_has(net: Net) -> None:
    one, two = net.socket(UNIX), net.socket(UNIX)
    one.bind("")
    two.bind("")
    assert len(one.getsockname()) == len(two.getsockname()) == 6
    assert one.getsockname()[:1] == b"\0"
    assert one.getsockname() != two.getsockname()


# Connecting.


def test_connecting_takes_no_time(net: Net) -> None:
    listener, client = listening(net), net.socket(UNIX)
    assert client.connect_ex(net.path("socket")) == 0
    assert net.ready(client) == "w"
    assert net.ready(listener) == "r"
    assert client.connect_ex(net.path("socket")) == errno.EISCONN
    assert client.send(b"early") == 5
    assert accepted(net, listener).recv(10) == b"early"


def test_bound_is_not_listening(net: Net) -> None:
    sock = net.socket(UNIX)
    sock.bind(net.path("socket"))
    assert net.socket(UNIX).connect_ex(net.path("socket")) == errno.ECONNREFUSED


def test_who_finds_the_backlog_full_is_told_to_try_again(net: Net) -> None:
    listener = listening(net, backlog=1)
    clients = [net.socket(UNIX) for _ in range(3)]
    assert [client.connect_ex(net.path("socket")) for client in clients] == [0, 0, errno.EAGAIN]
    assert fails(errno.ENOTCONN, clients[2].getpeername)
    accepted(net, listener)
    assert clients[2].connect_ex(net.path("socket")) == 0


def test_a_closed_listener_resets_who_waits(net: Net) -> None:
    listener, client = listening(net), net.socket(UNIX)
    client.connect(net.path("socket"))
    listener.close()
    assert net.ready(client) == "rw"
    assert fails(errno.ECONNRESET, client.recv, 1)
    assert client.recv(1) == b""
    assert fails(errno.EPIPE, client.send, b"x")


def test_closed_before_it_was_accepted(net: Net) -> None:
    listener, client = listening(net), net.socket(UNIX)
    client.connect(net.path("socket"))
    client.send(b"early")
    client.close()
    server = accepted(net, listener)
    assert server.recv(10) == b"early"
    assert server.recv(10) == b""
    assert fails(errno.EPIPE, server.send, b"x")


def test_what_only_some_sockets_can_do(net: Net) -> None:
    fresh, (client, server) = net.socket(UNIX), connected(net)
    listener = listening(net)
    assert fails(errno.EINVAL, fresh.recv, 1)
    assert fails(errno.ENOTCONN, fresh.send, b"x")
    assert fails(errno.ENOTCONN, fresh.getpeername)
    assert fails(errno.EINVAL, fresh.accept)
    assert fails(errno.EINVAL, fresh.listen)
    assert fails(errno.EINVAL, client.listen)
    assert fails(errno.EINVAL, server.accept)
    assert fails(errno.EINVAL, listener.bind, net.path("other"))
    assert fails(errno.EAGAIN, listener.accept)
    assert fails(errno.EINVAL, listener.connect, net.path("socket"))
    fresh.shutdown(socket.SHUT_WR)


# Bytes.


def test_bytes_are_there_at_once(net: Net) -> None:
    client, server = connected(net)
    for number in range(20):
        client.send(bytes([number]) * 100)
    assert net.ready(server) == "rw"
    assert server.recv(150, socket.MSG_PEEK) == bytes([0]) * 100 + bytes([1]) * 50
    assert len(server.recv(10_000)) == 2_000
    assert net.ready(server) == "w"
    assert fails(errno.EAGAIN, server.recv, 1)


def test_a_writer_is_bounded_by_its_own_buffer(net: Net) -> None:
    client, server = connected(net)
    taken = client.send(bytes(1_000_000))
    assert 200_000 < taken < 240_000
    assert fails(errno.EAGAIN, client.send, b"x")
    assert net.ready(client) == ""
    assert len(server.recv(1 << 20)) == taken
    assert net.ready(client) == "w"


def test_a_writer_is_ready_when_three_quarters_are_free(net: Net) -> None:
    client, server = connected(net)
    total = 0
    while "w" in net.ready(client):
        total += client.send(bytes(1_000))
    while True:
        try:
            total += client.send(bytes(1_000))
        except BlockingIOError:
            break
    left = total
    while "w" not in net.ready(client):
        left -= len(server.recv(1_000))
    assert total * 0.20 < left < total * 0.26


# Ends.


def test_close(net: Net) -> None:
    client, server = connected(net)
    server.send(b"bye")
    server.close()
    assert net.ready(client) == "rw"
    assert fails(errno.EPIPE, client.send, b"x")
    assert client.recv(10) == b"bye"
    assert client.recv(10) == b""
    assert so_error(client) == 0


def test_close_with_unread_bytes(net: Net) -> None:
    client, server = connected(net)
    client.send(b"unread")
    server.send(b"before")
    server.close()
    assert fails(errno.EPIPE, client.send, b"x")
    assert client.recv(10) == b"before"
    assert fails(errno.ECONNRESET, client.recv, 10)
    assert client.recv(10) == b""


def test_a_reset_is_told_once(net: Net) -> None:
    client, server = connected(net)
    client.send(b"unread")
    server.close()
    assert so_error(client) == errno.ECONNRESET
    assert so_error(client) == 0
    assert client.recv(10) == b""


@pytest.mark.parametrize("linger", [LINGER_ZERO, struct.pack("ii", 1, 5)])
def test_lingering_means_nothing(net: Net, linger: bytes) -> None:
    client, server = connected(net)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    server.close()
    assert client.recv(1) == b""


def test_half_close(net: Net) -> None:
    client, server = connected(net)
    client.send(b"last")
    client.shutdown(socket.SHUT_WR)
    client.shutdown(socket.SHUT_WR)
    assert fails(errno.EPIPE, client.send, b"x")
    assert server.recv(10) == b"last"
    assert server.recv(10) == b""
    server.send(b"still")
    assert client.recv(10) == b"still"
    assert net.ready(client) == "w"


def test_half_close_and_then_unread_bytes(net: Net) -> None:
    client, server = connected(net)
    client.send(b"unread")
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    server.close()
    assert fails(errno.ECONNRESET, client.recv, 1)
    assert client.recv(1) == b""


def test_shut_down_for_reading_the_peer_cannot_write(net: Net) -> None:
    client, server = connected(net)
    server.send(b"early")
    client.shutdown(socket.SHUT_RD)
    assert fails(errno.EPIPE, server.send, b"late")
    assert net.ready(server) == "w"
    assert client.recv(10) == b"early"
    assert client.recv(10) == b""


def test_both_halves_shut_and_still_a_name(net: Net) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    assert client.getpeername() == server.getsockname()
    assert net.ready(client) == "rw"
    client.shutdown(socket.SHUT_RDWR)
    server.close()
    assert client.getpeername()


def test_duplicates(net: Net) -> None:
    client, server = connected(net)
    again = net.keep(client.dup())
    client.close()
    again.send(b"one of two")
    assert server.recv(20) == b"one of two"
    taken = net.adopt(again.detach())
    assert taken.family == UNIX
    taken.close()
    assert server.recv(1) == b""
