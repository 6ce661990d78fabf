"""IP addresses between a program, which gives and gets them by its socket's family, and the kernel, which has one form.

The kernel knows a host as text: an IPv4 address, an IPv6 address, or one of its wildcards. An IPv4 peer of an IPv6
socket is told as `::ffff:a.b.c.d`, and can be given so.
"""

from __future__ import annotations

import ipaddress
import socket as real
from typing import TYPE_CHECKING, Any

from sim.world.kernel import ANY, ANY_6, ANY_6_ONLY
from sim.world.names import HOSTNAME, numeric
from sim.world.options import V6ONLY

if TYPE_CHECKING:
    from sim.world.description import Description
    from sim.world.kernel import Address
    from sim.world.world import World


def parse(world: World, file: Description, address: Any, *, passive: bool = False) -> Address:
    """A host and a port, as the program gave them to a socket.

    Raises:
        BoundaryError: the host is a name.
        socket.gaierror: the address is of another family than the socket.
        TypeError, OverflowError: what was given is no address, or no port.
    """
    if not isinstance(address, tuple):
        raise TypeError(f"{file.family.name} address must be tuple, not {type(address).__name__}")
    host, port = address[0], int(address[1])
    if not 0 <= port <= 65_535:
        raise OverflowError("port must be 0-65535.")
    text = numeric(world, host, passive=passive)
    if file.family == real.AF_INET6:
        if host in ("", None, "localhost", HOSTNAME):
            text = {ANY: ANY_6, "127.0.0.1": "::1"}[text]
        if ":" not in text:
            raise _other_family()
        mapped = ipaddress.IPv6Address(text).ipv4_mapped
        if mapped is not None:
            return str(mapped), port
        if text == ANY_6 and passive:
            text = unbound(file)[0]
    elif ":" in text:
        raise _other_family()
    return text, port


def unbound(file: Description) -> Address:
    """The address that a socket has before anybody gives it one: the wildcard, port 0."""
    if file.family != real.AF_INET6:
        return ANY, 0
    return ANY_6_ONLY if file.options.get(V6ONLY) else ANY_6, 0


def present(file: Description, address: Address) -> Any:
    """An address, as a socket of that family tells it."""
    host, port = address
    if file.family != real.AF_INET6:
        return address
    if host == ANY_6_ONLY:
        host = ANY_6
    return (host if ":" in host else f"::ffff:{host}", port, 0, 0)


def _other_family() -> real.gaierror:
    return real.gaierror(real.EAI_ADDRFAMILY, "Address family for hostname not supported")
