"""Simulated sockets beyond what they share with real ones: names, families, and what they refuse."""

from __future__ import annotations

import errno
import selectors
import socket
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import BoundaryError
from sim.world import names
from sim.world.sockets import SimSocket, fromfd, socketpair
from sim.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def settle(world: World) -> None:
    while heads := world.agenda.heads():
        heads[0].deliver()  # type: ignore[union-attr]


def nonblocking(world: World, *args: Any) -> SimSocket:
    sock = SimSocket(world, *args)
    sock.setblocking(False)
    return sock


def connected(world: World, *args: Any) -> tuple[SimSocket, SimSocket]:
    listener, client = nonblocking(world, *args), nonblocking(world, *args)
    listener.bind(("localhost", 80))
    listener.listen()
    assert client.connect_ex(("", 80)) == errno.EINPROGRESS
    settle(world)
    server, _ = listener.accept()
    server.setblocking(False)
    return client, server


def refused(world: World, pattern: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """It raises, it names this file, and the world remembers it."""
    world.refused = world.failed = None
    with pytest.raises(BoundaryError, match=pattern) as caught:
        function(*args, **kwargs)
    assert world.refused is caught.value
    assert __file__ in str(caught.value)


def test_descriptors_are_none_of_the_operating_systems(world: World) -> None:
    one, two = SimSocket(world), SimSocket(world)
    assert one.fileno() != two.fileno()
    assert min(one.fileno(), two.fileno()) > 2**20
    assert world.descriptors.socket(one.fileno()) is one
    fd = one.fileno()
    one.close()
    refused(world, f"descriptor {fd} is not a simulated socket", world.descriptors.socket, fd)


def test_repr_has_no_address_of_an_object(world: World) -> None:
    sock = SimSocket(world)
    assert repr(sock) == f"<simulated socket fd={sock.fileno()} laddr=None endpoint=None>"
    sock.bind(("127.0.0.1", 80))
    sock.close()
    assert repr(sock) == "<simulated socket closed laddr=('127.0.0.1', 80) endpoint=None>"


def test_a_context_manager(world: World) -> None:
    with SimSocket(world) as sock:
        assert sock.fileno() > 0
    assert sock.fileno() == -1


def test_type_flags_and_protocol(world: World) -> None:
    sock = SimSocket(world, socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    assert sock.gettimeout() == 0.0
    assert SimSocket(world).gettimeout() is None
    assert SimSocket(world).getblocking()


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (
            (socket.AF_INET, socket.SOCK_DGRAM),
            "type SOCK_DGRAM was asked for inside a world. Only TCP and Unix streams",
        ),
        ((socket.AF_INET, socket.SOCK_RAW), "type SOCK_RAW"),
        ((socket.AF_PACKET, socket.SOCK_STREAM), "family AF_PACKET"),
        ((-1, -1, -1, 3), r"descriptor 3 is not a simulated socket"),
    ],
)
def test_what_is_no_tcp_is_refused(world: World, args: tuple[int, ...], pattern: str) -> None:
    refused(world, pattern, SimSocket, world, *args)


def test_what_is_not_simulated_is_refused_by_name(world: World) -> None:
    client, _ = connected(world)
    for name in ("sendto", "recvfrom", "recvmsg", "sendfile", "makefile"):
        refused(world, rf"socket\.{name} is not simulated", getattr, client, name)
    refused(world, "ancillary data", client.sendmsg, [b"x"], [(1, 2, b"")])
    with pytest.raises(AttributeError, match="no attribute 'recvv'"):
        client.recvv  # noqa: B018
    assert not hasattr(client, "__nothing__")


def test_a_call_that_would_have_to_wait_is_refused(world: World) -> None:
    client, server = connected(world)
    for timeout in (None, 5.0):
        client.settimeout(timeout)
        refused(world, r"a blocking socket\.recv\(\) had to wait", client.recv, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        refused(world, r"a blocking socket\.sendall\(\) had to wait", client.sendall, bytes(10_000))
        refused(world, r"a blocking socket\.send\(\) had to wait", client.send, b"x")
        settle(world)
        server.recv(100_000)
    listener = SimSocket(world)
    listener.listen()
    refused(world, r"a blocking socket\.accept\(\) had to wait", listener.accept)
    refused(world, r"a blocking connect to 93\.184\.216\.34:80", SimSocket(world).connect, ("93.184.216.34", 80))
    assert not world.agenda.heads(), "nothing was sent"


def test_a_blocking_socket_works_while_it_need_not_wait(world: World) -> None:
    client, server = connected(world)
    client.setblocking(True)
    server.setblocking(True)
    client.sendall(b"hello")
    settle(world)
    assert server.recv(10) == b"hello"


def test_sendall_of_a_non_blocking_socket_writes_what_fits(world: World) -> None:
    client, server = connected(world)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pytest.raises(BlockingIOError):
        client.sendall(bytes(5_000))
    settle(world)
    assert server.recv(10_000) == bytes(4_608)


def test_timeouts(world: World) -> None:
    sock = SimSocket(world)
    with pytest.raises(ValueError, match="Timeout value out of range"):
        sock.settimeout(-1)
    sock.settimeout(2.5)
    assert sock.gettimeout() == 2.5


def test_version_6(world: World) -> None:
    listener, client = nonblocking(world, socket.AF_INET6), nonblocking(world, socket.AF_INET6)
    listener.bind(("::", 80))
    listener.listen()
    assert listener.getsockname() == ("::", 80, 0, 0)
    client.connect_ex(("::1", 80, 0, 0))
    settle(world)
    server, address = listener.accept()
    assert server.getsockname() == client.getpeername() == ("::1", 80, 0, 0)
    assert client.getsockname() == address == server.getpeername()
    assert address[0] == "::1"


def test_any_address_of_version_6_takes_version_4_too(world: World) -> None:
    listener, client = nonblocking(world, socket.AF_INET6), nonblocking(world)
    listener.bind(("::", 80))
    listener.listen()
    client.connect_ex(("127.0.0.1", 80))
    settle(world)
    assert client.getpeername() == ("127.0.0.1", 80)


def test_connecting_from_a_bound_address_frees_it_in_the_end(world: World) -> None:
    client = nonblocking(world)
    client.bind(("127.0.0.1", 4_000))
    client.connect_ex(("127.0.0.1", 80))
    assert client.getsockname() == ("127.0.0.1", 4_000)
    assert ("127.0.0.1", 4_000) in world.kernel.bound
    client.close()
    assert ("127.0.0.1", 4_000) not in world.kernel.bound


def test_a_pair_takes_no_time(world: World) -> None:
    one, two = socketpair(world)
    one.send(b"x")
    assert two.recv(1) == b"x"
    assert one.paired
    assert not SimSocket(world).paired
    assert one.getsockname() == ""


def test_listening_again_changes_the_backlog(world: World) -> None:
    listener = nonblocking(world)
    listener.listen(0)
    listener.listen(5)
    clients = [nonblocking(world) for _ in range(3)]
    for client in clients:
        client.connect_ex(listener.getsockname())
    settle(world)
    assert all(client.ready(WRITE) for client in clients)


def test_a_closed_socket_is_never_ready(world: World) -> None:
    client, server = connected(world)
    server.close()
    settle(world)
    assert client.ready(READ | WRITE) == READ | WRITE
    client.close()
    assert client.ready(READ | WRITE) == 0


def test_a_socket_that_is_not_connected_is_ready_as_on_linux(world: World) -> None:
    sock = nonblocking(world)
    assert sock.ready(READ | WRITE) == READ | WRITE
    sock.listen()
    assert sock.ready(READ | WRITE) == 0


def test_shutting_down_wakes_a_selector(world: World) -> None:
    client, _ = connected(world)
    before = world.touched
    client.shutdown(socket.SHUT_RD)
    assert world.touched > before
    assert client.ready(READ)


# Names.


@pytest.mark.parametrize(
    ("host", "passive", "address"),
    [
        ("localhost", False, "127.0.0.1"),
        ("simulated", False, "127.0.0.1"),
        (None, False, "127.0.0.1"),
        ("", False, "127.0.0.1"),
        (None, True, "0.0.0.0"),
        ("", True, "0.0.0.0"),
        ("::", True, "::"),
        ("10.1.2.3", False, "10.1.2.3"),
        (b"10.1.2.3", False, "10.1.2.3"),
        ("0:0::1", False, "::1"),
        ("fe80::1%eth0", False, "fe80::1"),
    ],
)
def test_addresses(world: World, host: Any, passive: bool, address: str) -> None:
    assert names.numeric(world, host, passive=passive) == address


@pytest.mark.parametrize("host", ["example.org", "1.2.3", "1.2.3.4.5", "db", b"db"])
def test_other_names_are_not_known(world: World, host: Any) -> None:
    refused(world, r"the name b?'.*' was looked up inside a world", names.numeric, world, host)
    refused(world, "was looked up", names.getaddrinfo, world, host, 80)
    refused(world, "was looked up", nonblocking(world).connect, (host, 80))


def test_getaddrinfo(world: World) -> None:
    tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    v4 = [(socket.AF_INET, *tcp, ("127.0.0.1", 80))]
    assert names.getaddrinfo(world, "localhost", 80) == v4
    assert names.getaddrinfo(world, b"localhost", "80", type=socket.SOCK_STREAM) == v4
    assert names.getaddrinfo(world, None, None, flags=socket.AI_PASSIVE)[0][4] == ("0.0.0.0", 0)
    assert names.getaddrinfo(world, "::1", 80) == [(socket.AF_INET6, *tcp, ("::1", 80, 0, 0))]
    assert names.getaddrinfo(world, "::", 80)[0][4] == ("::", 80, 0, 0)
    assert names.getaddrinfo(world, "::1", 80, family=socket.AF_INET6)[0][0] == socket.AF_INET6
    udp = names.getaddrinfo(world, "127.0.0.1", 53, type=socket.SOCK_DGRAM)
    assert udp == [(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", ("127.0.0.1", 53))]


@pytest.mark.parametrize(
    "args", [("::1", 80, socket.AF_INET), ("127.0.0.1", 80, socket.AF_INET6), ("127.0.0.1", "http")]
)
def test_getaddrinfo_fails_as_the_real_one(world: World, args: tuple[Any, ...]) -> None:
    with pytest.raises(socket.gaierror):
        names.getaddrinfo(world, *args)


def test_this_machine(world: World) -> None:
    assert names.getfqdn(world) == "simulated"
    assert names.getfqdn(world, "0.0.0.0") == "simulated"
    assert names.getfqdn(world, "example.org") == "example.org"
    assert names.gethostbyname(world, "localhost") == "127.0.0.1"
    assert names.getnameinfo(world, ("127.0.0.1", 80), 0) == ("127.0.0.1", "80")


# What is refused, because its effect is not simulated.


@pytest.mark.parametrize("option", ["SO_REUSEPORT", "SO_REUSEADDR"])
def test_two_sockets_at_one_address(world: World, option: str) -> None:
    one, two = nonblocking(world), nonblocking(world)
    for sock in (one, two):
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
    one.bind(("127.0.0.1", 80))
    refused(world, f"was bound a second time, with {option}. Two sockets", two.bind, ("127.0.0.1", 80))


def test_shutting_down_a_listener(world: World) -> None:
    sock = nonblocking(world)
    sock.listen()
    refused(world, r"socket\.shutdown\(\) of a listener", sock.shutdown, socket.SHUT_RD)


@pytest.mark.parametrize(
    ("level", "option"),
    [
        (socket.SOL_SOCKET, socket.SO_OOBINLINE),
        (socket.SOL_SOCKET, socket.SO_RCVLOWAT),
        (socket.SOL_SOCKET, socket.SO_BINDTODEVICE),
        (socket.IPPROTO_TCP, socket.TCP_CORK),
        (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
        (socket.IPPROTO_TCP, socket.TCP_FASTOPEN),
        (socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    ],
)
def test_options_that_would_change_something(world: World, level: int, option: int) -> None:
    sock = nonblocking(world)
    refused(world, rf"socket\.setsockopt\({int(level)}, {int(option)}, 1\)", sock.setsockopt, level, option, 1)
    refused(world, rf"socket\.getsockopt\({int(level)}, {int(option)}\)", sock.getsockopt, level, option)


def test_flags_that_would_change_something(world: World) -> None:
    client, _ = connected(world)
    refused(world, r"socket\.send\(\) with flags .*MSG_OOB", client.send, b"x", socket.MSG_OOB)
    for flag in (socket.MSG_OOB, socket.MSG_WAITALL, socket.MSG_TRUNC):
        refused(world, r"socket\.recv\(\) with flags ", client.recv, 1, flag)


def test_real_descriptors_are_refused(world: World) -> None:
    refused(world, "descriptor 0 is not a simulated socket", fromfd, world, 0, socket.AF_INET, socket.SOCK_STREAM)


def test_a_descriptor_that_was_given_up_is_ready_as_before(world: World) -> None:
    client, server = connected(world)
    server.send(b"x")
    settle(world)
    keeper = world.descriptors.socket(client.detach())
    assert keeper is not client
    assert keeper.ready(READ)
    assert not client.ready(READ)
    again = fromfd(world, keeper.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    assert again.recv(1) == b"x"


# Unix sockets.


def test_who_may_connect_to_a_path(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, path = nonblocking(world, socket.AF_UNIX), str(tmp_path / "socket")
    listener.bind(path)
    listener.listen(10)
    node = world.kernel.paths.find(path)
    assert node is not None
    for user, group, mode, expected in (
        (0, 0, 0, 0),
        (7, 7, 0o200, 0),
        (7, 7, 0o577, errno.EACCES),
        (8, 7, 0o020, 0),
        (8, 7, 0o707, errno.EACCES),
        (8, 8, 0o002, 0),
        (8, 8, 0o775, errno.EACCES),
    ):
        node.uid, node.gid, node.mode = 7, 7, mode
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        monkeypatch.setattr("os.getegid", lambda group=group: group)
        assert nonblocking(world, socket.AF_UNIX).connect_ex(path) == expected, (user, group, mode)


def test_what_a_unix_connection_is_called(world: World, tmp_path: Path) -> None:
    listener, client, path = nonblocking(world, socket.AF_UNIX), SimSocket(world, socket.AF_UNIX), str(tmp_path / "s")
    listener.bind(path)
    listener.listen()
    client.connect(path)
    server, _ = listener.accept()
    client.send(b"abc")
    assert [(e.kind, e.actor) for e in world.trace.events] == [("tcp.send", "unix"), ("tcp.deliver", "world")]
    assert world.trace.events[1].cause == world.trace.events[0].seq
    assert repr(listener) == f"<simulated socket fd={listener.fileno()} laddr={path!r} endpoint=None>"
    assert server.recv(3) == b"abc"


def test_a_path_is_in_no_real_directory(world: World, tmp_path: Path) -> None:
    nonblocking(world, socket.AF_UNIX).bind(str(tmp_path / "socket"))
    assert list(tmp_path.iterdir()) == []
