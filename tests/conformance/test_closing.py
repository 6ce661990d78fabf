"""Ends of connections: FIN, half-close and RST, and what each side sees of them."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from .arms import LINGER_ZERO, connected, fails, read_all, read_until_reset, so_error, write_until_full

if TYPE_CHECKING:
    from .arms import Net


def test_fin_comes_behind_the_data(net: Net) -> None:
    client, server = connected(net)
    client.send(b"last")
    client.close()
    net.settle()
    assert net.ready(server) == "rw"
    assert server.recv(10) == b"last"
    assert server.recv(10) == b""
    assert server.recv(10) == b""
    assert net.ready(server) == "rw"


def test_half_close(net: Net) -> None:
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


def test_close_with_unread_bytes_resets(net: Net) -> None:
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


def test_a_reset_is_told_once_by_whoever_asks_first(net: Net) -> None:
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


def test_data_after_close_is_answered_with_a_reset(net: Net) -> None:
    client, server = connected(net)
    server.send(b"bye")
    server.close()
    net.settle()
    assert client.send(b"1") == 1
    net.settle()
    assert client.recv(10) == b"bye"
    assert client.recv(10) == b""
    assert fails(errno.EPIPE, client.send, b"2")


def test_a_reset_behind_a_fin_is_a_broken_pipe(net: Net) -> None:
    client, server = connected(net)
    server.close()
    net.settle()
    client.send(b"1")
    net.settle()
    assert so_error(client) == errno.EPIPE
    assert client.recv(1) == b""


def test_linger_zero(net: Net) -> None:
    client, server = connected(net)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    server.send(b"before")
    server.close()
    net.settle()
    assert client.recv(10) == b"before"
    assert fails(errno.ECONNRESET, client.recv, 10)


def test_lingering_some_seconds_is_no_reset(net: Net) -> None:
    client, server = connected(net)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    server.close()
    net.settle()
    assert client.recv(10) == b""


def test_what_a_reset_connection_is_called(net: Net) -> None:
    client, server = connected(net)
    name = client.getsockname()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    server.close()
    net.settle()
    assert fails(errno.ENOTCONN, client.getpeername)
    assert fails(errno.ENOTCONN, client.shutdown, socket.SHUT_WR)
    assert client.getsockname() == name


def test_both_fins_end_it(net: Net) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    net.settle()
    for sock in (client, server):
        assert fails(errno.ENOTCONN, sock.getpeername)
        assert fails(errno.ENOTCONN, sock.shutdown, socket.SHUT_WR)
        assert fails(errno.EPIPE, sock.send, b"x")
        assert sock.recv(1) == b""


def test_shut_down_for_reading(net: Net) -> None:
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
def test_shut_down_both_ways_data_is_answered_with_a_reset(net: Net, hows: list[int]) -> None:
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


def test_half_close_by_the_server(net: Net) -> None:
    client, server = connected(net)
    server.send(b"all I have")
    server.shutdown(socket.SHUT_WR)
    net.settle()
    assert client.recv(20) == b"all I have"
    assert client.recv(20) == b""
    assert client.send(b"thanks") == 6
    net.settle()
    assert server.recv(20) == b"thanks"
    client.close()
    net.settle()
    assert server.recv(20) == b""


def test_what_was_written_comes_before_the_fin(net: Net) -> None:
    """Also what has not left the send buffer yet, because the reader stalls."""
    for end in (lambda s: s.shutdown(socket.SHUT_WR), lambda s: s.close()):
        client, server = connected(net)
        written = write_until_full(net, client, bytes(100_000))
        end(client)
        net.settle()
        assert sum(map(len, read_all(net, server))) == written
        assert server.recv(1) == b""


def test_a_fin_is_no_reset_although_this_side_has_written(net: Net) -> None:
    client, server = connected(net)
    server.send(b"unread by the client until it is closed")
    client.send(b"x")
    net.settle()
    assert server.recv(1) == b"x"
    server.close()
    net.settle()
    assert client.recv(100).startswith(b"unread")
    assert client.recv(100) == b""
    assert so_error(client) == 0


def test_a_reset_discards_what_was_not_sent_yet(net: Net) -> None:
    """The server writes 2 MB and closes, and a client that was slow to read says one byte more: most of it is lost."""
    client, server = connected(net)
    assert server.send(bytes(2_000_000)) == 2_000_000
    server.close()
    net.settle()
    assert client.send(b"x") == 1
    net.settle()
    got = read_until_reset(client)
    assert 60_000 < got <= 131_072


def test_a_slow_reader_that_says_nothing_gets_all_of_it(net: Net) -> None:
    client, server = connected(net)
    assert server.send(bytes(2_000_000)) == 2_000_000
    server.close()
    assert sum(map(len, read_all(net, client))) == 2_000_000
    assert client.recv(1) == b""


def test_linger_zero_discards_what_was_not_sent_yet(net: Net) -> None:
    client, server = connected(net)
    written = write_until_full(net, server, bytes(100_000))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    server.close()
    net.settle()
    got = read_until_reset(client)
    assert got < written - 1_000_000


def test_a_reset_frees_a_writer_that_was_full(net: Net) -> None:
    client, server = connected(net)
    write_until_full(net, client, bytes(100_000))
    assert net.ready(client) == ""
    server.close()
    net.settle()
    assert net.ready(client) == "rw"
    assert fails(errno.ECONNRESET, client.send, b"x")
    assert fails(errno.EPIPE, client.send, b"x")


def test_bytes_read_to_the_last_are_no_reason_for_a_reset(net: Net) -> None:
    client, server = connected(net)
    client.send(b"read to the last")
    net.settle()
    assert server.recv(100) == b"read to the last"
    server.close()
    net.settle()
    assert client.recv(1) == b""


def test_one_unread_byte_is_one(net: Net) -> None:
    client, server = connected(net)
    client.send(b"all but one")
    net.settle()
    assert len(server.recv(10)) == 10
    server.close()
    net.settle()
    assert fails(errno.ECONNRESET, client.recv, 1)


def test_an_unread_fin_is_none(net: Net) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    net.settle()
    server.close()
    net.settle()
    assert client.recv(1) == b""
    assert so_error(client) == 0


def test_both_close_at_once(net: Net) -> None:
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    net.settle()
    client.close()
    server.close()
    net.settle()


def test_data_after_both_halves_were_shut_by_the_peer_and_read(net: Net) -> None:
    """Half-close lets the other side write for ever, until the socket itself is closed."""
    client, server = connected(net)
    client.shutdown(socket.SHUT_WR)
    net.settle()
    for _ in range(3):
        assert server.send(b"on and on") == 9
        net.settle()
        assert client.recv(100) == b"on and on"
    client.close()
    server.send(b"into the void")
    net.settle()
    assert fails(errno.EPIPE, server.send, b"x")


def test_the_first_write_to_a_closed_peer_succeeds(net: Net) -> None:
    client, server = connected(net)
    server.close()
    net.settle()
    assert net.ready(client) == "rw"
    assert client.send(b"nobody reads this") == 17
    net.settle()
    assert fails(errno.EPIPE, client.send, b"nor this")
    assert fails(errno.ENOTCONN, client.shutdown, socket.SHUT_RDWR)


def test_shutting_down_a_socket_that_was_reset(net: Net) -> None:
    client, server = connected(net)
    client.send(b"unread")
    net.settle()
    server.close()
    net.settle()
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        assert fails(errno.ENOTCONN, client.shutdown, how)
