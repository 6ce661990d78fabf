"""Options: sizes, what accepted sockets inherit, and what a socket says of itself."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from .arms import LINGER_ZERO, accepted, connected, connecting, fails, listening

if TYPE_CHECKING:
    from .arms import Net


def test_buffer_sizes_are_doubled_and_have_a_least(net: Net) -> None:
    sock = net.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9_000)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 20_000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 18_000
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 4_608
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2_304


def test_what_an_accepted_socket_inherits(net: Net) -> None:
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


def test_what_a_socket_says_of_itself(net: Net) -> None:
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


def test_small_writes_need_no_delay_and_may_ask_for_none(net: Net) -> None:
    client, server = connected(net)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(b"a")
    client.send(b"b")
    net.settle()
    assert server.recv(10) == b"ab"


def test_what_options_are_if_nobody_sets_them(net: Net) -> None:
    sock = net.socket()
    assert [
        sock.getsockopt(level, option)
        for level, option in (
            (socket.SOL_SOCKET, socket.SO_REUSEADDR),
            (socket.SOL_SOCKET, socket.SO_REUSEPORT),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.SOL_SOCKET, socket.SO_RCVBUF),
            (socket.SOL_SOCKET, socket.SO_DOMAIN),
            (socket.SOL_SOCKET, socket.SO_PROTOCOL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        )
    ] == [0, 0, 0, 131_072, socket.AF_INET, socket.IPPROTO_TCP, 7_200, 75, 9]


def test_options_are_kept(net: Net) -> None:
    sock = net.socket()
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    ):
        sock.setsockopt(level, option, value)
        assert sock.getsockopt(level, option) == value


def test_a_unix_socket_has_no_options_of_tcp(net: Net) -> None:
    sock = net.socket(socket.AF_UNIX)
    assert fails(errno.EOPNOTSUPP, sock.setsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert fails(errno.EOPNOTSUPP, sock.getsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 212_992
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 212_992


@pytest.mark.parametrize("value", [-1.0, -5.0])
def test_a_timeout_is_not_negative(net: Net, value: float) -> None:
    with pytest.raises(ValueError, match="Timeout value out of range"):
        net.socket().settimeout(value)
