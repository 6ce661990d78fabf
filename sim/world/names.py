"""Names and addresses: a world has no name server, so it knows numeric addresses and `localhost`."""

from __future__ import annotations

import functools
import ipaddress
import socket as real
from typing import TYPE_CHECKING, Any

from sim.world.kernel import ANY

if TYPE_CHECKING:
    from sim.world.world import World

HOSTNAME = "simulated"


def numeric(world: World, host: Any, *, passive: bool = False) -> str:
    """The address that `host` stands for; an empty one is the wildcard if `passive`, else the loopback.

    Raises:
        BoundaryError: it is a name.
    """
    text = host.decode() if isinstance(host, (bytes, bytearray)) else host
    if text is None or text == "":
        return ANY if passive else "127.0.0.1"
    if text in ("localhost", HOSTNAME):
        return "127.0.0.1"
    try:
        return _canonical(text)
    except ValueError:
        raise world.refuse(
            f"the name {host!r} was looked up inside a world. Only numeric addresses and 'localhost' are known here: "
            "let the scenario provide what lives behind that name."
        ) from None


@functools.lru_cache(maxsize=1_024)
def _canonical(text: str) -> str:
    return str(ipaddress.ip_address(text.partition("%")[0]))


def getaddrinfo(
    world: World,
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, ...]]:
    """`socket.getaddrinfo`, for TCP.

    Raises:
        BoundaryError: `host` is a name.
        socket.gaierror: the port is a name, or the address is of another family.
    """
    text = numeric(world, host, passive=bool(flags & real.AI_PASSIVE))
    if family == real.AF_INET6 and host in (None, "", "localhost", HOSTNAME):
        text = {ANY: "::", "127.0.0.1": "::1"}[text]
    try:
        number = int(port or 0)
    except ValueError:
        raise real.gaierror(real.EAI_SERVICE, "Servname not supported for ai_socktype") from None
    six = ":" in text
    if family not in (real.AF_UNSPEC, real.AF_INET6 if six else real.AF_INET):
        raise real.gaierror(real.EAI_ADDRFAMILY, "Address family for hostname not supported")
    kind = real.SocketKind(type or real.SOCK_STREAM)
    protocol = proto or (real.IPPROTO_TCP if kind == real.SOCK_STREAM else real.IPPROTO_UDP)
    where: tuple[Any, ...] = (text, number, 0, 0) if six else (text, number)
    return [(real.AF_INET6 if six else real.AF_INET, kind, protocol, "", where)]


def gethostbyname(world: World, host: Any) -> str:
    """`socket.gethostbyname`."""
    return numeric(world, host)


def getfqdn(_world: World, name: str = "") -> str:
    """`socket.getfqdn`: what it was given, or this machine's name."""
    return name if name not in ("", ANY, "::") else HOSTNAME


def getnameinfo(_world: World, where: tuple[Any, ...], _flags: int) -> tuple[str, str]:
    """`socket.getnameinfo`: always numeric, because nothing here has a name."""
    return str(where[0]), str(where[1])
