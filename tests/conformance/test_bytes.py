"""Bytes: how many a writer gets rid of, how they arrive, and what readiness says of it."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from .arms import accepted, connected, fails, read_all, write_until_full

if TYPE_CHECKING:
    from .arms import Net

# In order, whatever the sizes.


def test_bytes_in_order_whatever_the_sizes(net: Net) -> None:
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


def test_nothing(net: Net) -> None:
    client, server = connected(net)
    assert client.send(b"") == 0
    assert server.recv(0) == b""
    net.settle()
    assert fails(errno.EAGAIN, server.recv, 1)
    with pytest.raises(ValueError, match="negative buffersize in recv"):
        server.recv(-1)


def test_gathered_writes(net: Net) -> None:
    client, server = connected(net)
    assert client.sendmsg([b"ab", bytearray(b"c"), memoryview(b"de")]) == 5
    client.sendall(b"f")
    net.settle()
    assert server.recv(10) == b"abcdef"


def test_small_writes_are_read_in_one(net: Net) -> None:
    client, server = connected(net)
    for number in range(20):
        client.send(bytes([number]) * 100)
    net.settle()
    assert server.recv(10_000) == b"".join(bytes([n]) * 100 for n in range(20))


def test_a_write_is_read_in_as_many_parts_as_one_likes(net: Net) -> None:
    client, server = connected(net)
    client.send(bytes(range(100)))
    net.settle()
    assert b"".join(server.recv(7) for _ in range(15)) == bytes(range(100))
    assert fails(errno.EAGAIN, server.recv, 7)


def test_one_large_write_arrives_as_many_reads(net: Net) -> None:
    client, server = connected(net)
    data = bytes(range(250)) * 4_000
    assert client.send(data) == len(data), "it fits into the buffers"
    reads = read_all(net, server)
    assert len(reads) > 1
    assert b"".join(reads) == data


def test_peeking_takes_nothing(net: Net) -> None:
    client, server = connected(net)
    assert fails(errno.EAGAIN, server.recv, 1, socket.MSG_PEEK)
    client.send(b"abc")
    client.send(b"def")
    net.settle()
    for _ in range(2):
        assert server.recv(5, socket.MSG_PEEK) == b"abcde"
    assert server.recv(10) == b"abcdef"
    client.shutdown(socket.SHUT_WR)
    net.settle()
    assert server.recv(5, socket.MSG_PEEK) == b""


def test_not_waiting_is_a_flag_too(net: Net) -> None:
    client, server = connected(net, send=4_096, receive=4_096)
    client.setblocking(True)
    server.setblocking(True)
    assert fails(errno.EAGAIN, server.recv, 1, socket.MSG_DONTWAIT)
    client.setblocking(False)
    write_until_full(net, client, bytes(1_000))
    client.setblocking(True)
    assert fails(errno.EAGAIN, client.send, b"x", socket.MSG_DONTWAIT)


# How much.


def test_a_write_takes_what_there_is_room_for(net: Net) -> None:
    client, server = connected(net)
    data = bytes(range(250)) * 256_000
    taken = client.send(data)
    assert 2_000_000 < taken < 5_000_000
    got = b"".join(read_all(net, server))
    assert len(got) == taken, "and nothing of the rest"
    assert got == data[:taken]


def test_a_full_writer_is_told_to_try_again(net: Net) -> None:
    client, _ = connected(net)
    assert net.ready(client) == "w"
    write_until_full(net, client, bytes(100_000))
    assert net.ready(client) == ""
    assert fails(errno.EAGAIN, client.send, b"x")
    assert fails(errno.EAGAIN, client.sendmsg, [b"x"])
    assert fails(errno.EAGAIN, client.sendall, b"x")


@pytest.mark.parametrize("chunk", [1_000, 10_000, 100_000, 1_000_000])
def test_what_is_written_to_a_reader_that_stalls(net: Net, chunk: int) -> None:
    """Linux tunes its buffers by itself: before 6.18 the send buffer began at 2.6 MB, and it may come to 4.2 MB."""
    client, _ = connected(net)
    assert 2_600_000 < write_until_full(net, client, bytes(chunk)) < 4_500_000


def test_what_waits_unread_is_bounded_by_the_receive_buffer(net: Net) -> None:
    client, server = connected(net)
    client.send(bytes(2_000_000))
    net.settle()
    assert 60_000 < len(server.recv(1 << 22)) <= 131_072


def test_small_buffers_hold_what_was_asked_for(net: Net) -> None:
    """The send buffer twice, as `getsockopt` says; of the receive buffer, half goes to bookkeeping."""
    client, server = connected(net, send=4_096, receive=4_096)
    written = write_until_full(net, client, bytes(1_000))
    assert 8_192 <= written <= 8_192 + 4_096 + 1_000, "Linux lets the last write take a little more"
    assert sum(map(len, read_all(net, server))) == written
    assert "w" in net.ready(client)


def test_a_larger_receive_buffer_takes_more_of_a_writer(net: Net) -> None:
    small, _ = connected(net, send=4_096, receive=4_096)
    large, _ = connected(net, send=4_096, receive=100_000)
    assert write_until_full(net, large, bytes(1_000)) > write_until_full(net, small, bytes(1_000)) + 50_000


def test_a_larger_send_buffer_takes_more_of_a_writer(net: Net) -> None:
    small, _ = connected(net, send=4_096, receive=4_096)
    large, _ = connected(net, send=100_000, receive=4_096)
    more = write_until_full(net, large, bytes(20_000)) - write_until_full(net, small, bytes(20_000))
    assert 120_000 < more < 250_000


def test_reading_everything_lets_the_writer_go_on(net: Net) -> None:
    client, server = connected(net)
    written = write_until_full(net, client, bytes(100_000))
    assert sum(map(len, read_all(net, server))) == written
    assert net.ready(client) == "w"
    assert write_until_full(net, client, bytes(100_000)) > 2_600_000


def test_reading_a_little_does_not_make_a_writer_ready(net: Net) -> None:
    """A third of the send buffer has to be free again; `send` itself would take some bytes before."""
    client, server = connected(net)
    write_until_full(net, client, bytes(100_000))
    for _ in range(5):
        server.recv(10_000)
        net.settle()
    assert net.ready(client) == ""


def test_a_writer_goes_on_while_the_reader_reads(net: Net) -> None:
    client, server = connected(net)
    data = bytes(range(250)) * 40_000
    written = 0
    read = bytearray()
    while len(read) < len(data):
        while written < len(data):
            try:
                written += client.send(data[written : written + 99_999])
            except BlockingIOError:
                break
        read += b"".join(read_all(net, server))
    assert read == data


# Readiness.


def test_unread_bytes_are_reported_again_and_again(net: Net) -> None:
    client, server = connected(net)
    assert net.ready(server) == "w"
    client.send(b"abc")
    net.settle()
    for _ in range(3):
        assert net.ready(server) == "rw"
    server.recv(2)
    assert net.ready(server) == "rw"
    server.recv(1)
    assert net.ready(server) == "w"


def test_an_end_of_file_is_reported_for_ever(net: Net) -> None:
    client, server = connected(net)
    client.close()
    net.settle()
    for _ in range(3):
        assert net.ready(server) == "rw"
        assert server.recv(1) == b""


def test_who_waits_to_be_accepted_is_reported_until_it_is(net: Net) -> None:
    listener = net.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    assert net.ready(listener) == ""
    clients = [net.socket() for _ in range(2)]
    for client in clients:
        client.connect_ex(listener.getsockname())
    net.settle()
    assert net.ready(listener) == "r"
    accepted(net, listener)
    assert net.ready(listener) == "r"
    accepted(net, listener)
    assert net.ready(listener) == ""


def test_everyone_who_has_bytes_is_ready(net: Net) -> None:
    pairs = [connected(net) for _ in range(4)]
    for number in (3, 1):
        pairs[number][0].send(b"x")
    net.settle()
    assert [net.ready(server) for _, server in pairs] == ["w", "rw", "w", "rw"]


def test_a_fresh_socket_is_ready_and_a_listener_is_not(net: Net) -> None:
    sock = net.socket()
    assert net.ready(sock) == "rw"
    sock.listen()
    assert net.ready(sock) == ""
