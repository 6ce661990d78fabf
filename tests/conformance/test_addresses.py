"""Addresses: names, ports, wildcards, and the two families of IP."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from .arms import accepted, connecting, fails, listening, so_error

if TYPE_CHECKING:
    from .arms import Net


def test_names(net: Net) -> None:
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


def test_a_socket_that_was_not_bound(net: Net) -> None:
    sock = net.socket()
    assert sock.getsockname() == ("0.0.0.0", 0)
    sock.listen()
    host, port = sock.getsockname()
    assert host == "0.0.0.0"
    assert port > 0


def test_an_address_in_use(net: Net) -> None:
    listener = listening(net)
    other = net.socket()
    assert fails(errno.EADDRINUSE, other.bind, listener.getsockname())
    assert fails(errno.EADDRINUSE, other.bind, ("0.0.0.0", listener.getsockname()[1]))
    other.bind(("127.0.0.1", 0))
    assert fails(errno.EINVAL, other.bind, ("127.0.0.1", 0))


def test_a_port_is_free_again_when_its_listener_is_closed(net: Net) -> None:
    listener = listening(net)
    address = listener.getsockname()
    listener.close()
    again = net.socket()
    again.bind(address)
    again.listen()


def test_port_0_is_a_port_of_its_own_for_everybody(net: Net) -> None:
    ports = {listening(net).getsockname()[1] for _ in range(20)}
    assert len(ports) == 20
    assert min(ports) >= 1_024


def test_a_client_gets_a_port_of_its_own_and_an_address_that_is_no_wildcard(net: Net) -> None:
    listener = listening(net)
    clients = [connecting(net, listener.getsockname()) for _ in range(5)]
    names = [client.getsockname() for client in clients]
    assert len(set(names)) == 5
    assert {host for host, _ in names} == {"127.0.0.1"}
    assert listener.getsockname()[1] not in {port for _, port in names}


def test_connecting_to_the_wildcard_reaches_this_machine(net: Net) -> None:
    listener = listening(net, address=("0.0.0.0", 0))
    client = connecting(net, ("0.0.0.0", listener.getsockname()[1]))
    net.settle()
    assert client.getpeername() == ("127.0.0.1", listener.getsockname()[1])
    assert accepted(net, listener).getsockname() == client.getpeername()


def test_an_empty_host_is_the_wildcard(net: Net) -> None:
    assert listening(net, address=("", 0)).getsockname()[0] == "0.0.0.0"
    assert listening(net, address=("", 0), family=socket.AF_INET6).getsockname()[0] == "::"


def test_a_wildcard_takes_connections_to_each_address(net: Net) -> None:
    port = listening(net, address=("0.0.0.0", 0)).getsockname()[1]
    for host in ("127.0.0.1", "127.0.0.2"):
        client = connecting(net, (host, port))
        net.settle()
        assert client.getpeername() == (host, port)


def test_one_port_on_two_addresses(net: Net) -> None:
    one = listening(net)
    two = listening(net, address=("127.0.0.2", one.getsockname()[1]))
    client = connecting(net, two.getsockname())
    net.settle()
    assert net.ready(one) == ""
    assert accepted(net, two).getpeername() == client.getsockname()


def test_connecting_from_a_chosen_address(net: Net) -> None:
    listener = listening(net)
    client = net.socket()
    client.bind(("127.0.0.1", 0))
    name = client.getsockname()
    client.connect_ex(listener.getsockname())
    net.settle()
    assert client.getsockname() == accepted(net, listener).getpeername() == name


@pytest.mark.parametrize("reuse", [0, 1])
def test_a_port_that_somebody_listens_at_is_in_use(net: Net, reuse: int) -> None:
    """SO_REUSEADDR or not."""
    listener, other = net.socket(), net.socket()
    for sock in (listener, other):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    assert fails(errno.EADDRINUSE, other.bind, listener.getsockname())


def test_a_server_can_start_again_at_its_port(net: Net) -> None:
    """With SO_REUSEADDR, whatever connections are left of the last time."""
    listener = net.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    address = listener.getsockname()
    client = connecting(net, address)
    net.settle()
    server = accepted(net, listener)
    server.close()
    listener.close()
    net.settle()
    again = net.socket()
    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    again.bind(address)
    again.listen()
    assert client.recv(1) == b""
    late = connecting(net, address)
    net.settle()
    assert net.ready(late) == "w"


def test_a_bound_port_is_free_when_its_socket_is_closed(net: Net) -> None:
    sock, other = net.socket(), net.socket()
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    assert fails(errno.EADDRINUSE, other.bind, address)
    sock.close()
    other.bind(address)


def test_bound_is_not_listening(net: Net) -> None:
    sock = net.socket()
    sock.bind(("127.0.0.1", 0))
    client = connecting(net, sock.getsockname())
    net.settle()
    assert so_error(client) == errno.ECONNREFUSED


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_has_sixteen_bits(net: Net, port: int) -> None:
    with pytest.raises(OverflowError, match="port must be 0-65535"):
        net.socket().bind(("127.0.0.1", port))


@pytest.mark.parametrize("address", ["127.0.0.1", None, 80])
def test_an_address_is_a_tuple(net: Net, address: object) -> None:
    for call in (net.socket().bind, net.socket().connect):
        with pytest.raises(TypeError):
            call(address)


# IPv6.

SIX = socket.AF_INET6


def test_names_of_version_6_have_four_parts(net: Net) -> None:
    listener = listening(net, address=("::1", 0), family=SIX)
    host, port, *rest = listener.getsockname()
    assert (host, *rest) == ("::1", 0, 0)
    client = connecting(net, ("::1", port), family=SIX)
    net.settle()
    server = accepted(net, listener)
    assert server.family == SIX
    assert server.getsockname() == client.getpeername() == ("::1", port, 0, 0)
    assert server.getpeername() == client.getsockname()
    assert client.getsockname()[0] == "::1"


def test_the_name_before_bind_of_version_6(net: Net) -> None:
    sock = net.socket(SIX)
    assert sock.getsockname() == ("::", 0, 0, 0)
    sock.listen()
    assert sock.getsockname()[0] == "::"
    assert sock.getsockname()[1] > 0


def test_the_wildcard_of_version_6_takes_version_4_under_a_mapped_name(net: Net) -> None:
    listener = listening(net, address=("::", 0), family=SIX)
    port = listener.getsockname()[1]
    four, six = connecting(net, ("127.0.0.1", port)), connecting(net, ("::1", port), family=SIX)
    net.settle()
    assert {accepted(net, listener).getpeername()[:2] for _ in range(2)} == {
        ("::ffff:127.0.0.1", four.getsockname()[1]),
        six.getsockname()[:2],
    }


def test_a_mapped_address_reaches_version_4(net: Net) -> None:
    listener = listening(net)
    client = connecting(net, ("::ffff:127.0.0.1", listener.getsockname()[1]), family=SIX)
    net.settle()
    assert client.getpeername() == ("::ffff:127.0.0.1", listener.getsockname()[1], 0, 0)
    assert accepted(net, listener).getpeername() == ("127.0.0.1", client.getsockname()[1])


def test_the_wildcards_of_both_versions_overlap(net: Net) -> None:
    listener = listening(net, address=("::", 0), family=SIX)
    assert fails(errno.EADDRINUSE, net.socket().bind, ("0.0.0.0", listener.getsockname()[1]))
    assert fails(errno.EADDRINUSE, net.socket().bind, ("127.0.0.1", listener.getsockname()[1]))


def test_version_6_only(net: Net) -> None:
    """What asyncio asks for: then each version has its own listener at the same port."""
    six, four = net.socket(SIX), net.socket()
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    six.bind(("::", 0))
    six.listen()
    port = six.getsockname()[1]
    assert six.getsockname() == ("::", port, 0, 0)
    refused = connecting(net, ("127.0.0.1", port))
    net.settle()
    assert so_error(refused) == errno.ECONNREFUSED
    four.bind(("0.0.0.0", port))
    four.listen()
    connecting(net, ("127.0.0.1", port))
    net.settle()
    assert (net.ready(six), net.ready(four)) == ("", "r")
    connecting(net, ("::1", port), family=SIX)
    net.settle()
    assert net.ready(six) == "r"


def test_a_listener_of_version_4_does_not_take_version_6(net: Net) -> None:
    port = listening(net, address=("0.0.0.0", 0)).getsockname()[1]
    client = connecting(net, ("::1", port), family=SIX)
    net.settle()
    assert so_error(client) == errno.ECONNREFUSED


def test_an_address_of_the_other_version_is_none(net: Net) -> None:
    for family, host in ((socket.AF_INET, "::1"), (SIX, "127.0.0.1")):
        for call in (net.socket(family).bind, net.socket(family).connect):
            with pytest.raises(socket.gaierror, match="Address family for hostname not supported"):
                call((host, 80))
