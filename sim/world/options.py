"""Socket options and message flags: which a world answers for, and which it refuses.

An option is one of: a buffer size, which Linux doubles and which bounds real bytes; SO_LINGER, whose zero resets;
one of `DEFAULTS`, which is kept and told again, and changes nothing that anybody could see in a world (nothing is
lost, so nothing is kept alive; nothing waits for more, so nothing is hurried); or refused.
"""

from __future__ import annotations

import errno
import os
import socket as real
import struct
from typing import TYPE_CHECKING, Any

from sim.world.kernel import RECEIVE_BUFFER, SEND_BUFFER
from sim.world.unix import UNIX_BUFFER

if TYPE_CHECKING:
    from sim.world.description import Description
    from sim.world.world import World

LEAST_SEND_BUFFER, LEAST_RECEIVE_BUFFER = 4_608, 2_304
UNCONNECTED_SEND_BUFFER = 16_384
SNDBUF = (real.SOL_SOCKET, real.SO_SNDBUF)
RCVBUF = (real.SOL_SOCKET, real.SO_RCVBUF)
LINGER = (real.SOL_SOCKET, real.SO_LINGER)
REUSEPORT = (real.SOL_SOCKET, getattr(real, "SO_REUSEPORT", 15))
REUSEADDR = (real.SOL_SOCKET, real.SO_REUSEADDR)
V6ONLY = (real.IPPROTO_IPV6, real.IPV6_V6ONLY)


def _table() -> dict[tuple[int, int], int]:
    rows: tuple[tuple[int, str, int], ...] = (
        (real.SOL_SOCKET, "SO_REUSEADDR", 0),
        (real.SOL_SOCKET, "SO_REUSEPORT", 0),
        (real.SOL_SOCKET, "SO_KEEPALIVE", 0),
        (real.SOL_SOCKET, "SO_BROADCAST", 0),
        (real.SOL_SOCKET, "SO_PRIORITY", 0),
        (real.SOL_SOCKET, "SO_LINGER", 0),
        (real.IPPROTO_TCP, "TCP_NODELAY", 0),
        (real.IPPROTO_TCP, "TCP_QUICKACK", 1),
        (real.IPPROTO_TCP, "TCP_KEEPIDLE", 7_200),
        (real.IPPROTO_TCP, "TCP_KEEPINTVL", 75),
        (real.IPPROTO_TCP, "TCP_KEEPCNT", 9),
        (real.IPPROTO_IP, "IP_TOS", 0),
        (real.IPPROTO_IPV6, "IPV6_V6ONLY", 0),
        (real.IPPROTO_IPV6, "IPV6_TCLASS", 0),
    )
    return {(level, getattr(real, name)): default for level, name, default in rows if hasattr(real, name)}


DEFAULTS = _table()
"""Options that are kept, with what they are if nobody sets them."""
SEND_FLAGS = int(real.MSG_NOSIGNAL | real.MSG_DONTWAIT | real.MSG_MORE)
RECEIVE_FLAGS = int(real.MSG_PEEK | real.MSG_DONTWAIT | real.MSG_NOSIGNAL)


def set_option(world: World, file: Description, level: int, option: int, value: Any) -> None:
    """`setsockopt`.

    Raises:
        BoundaryError: what it changes is not simulated.
        OSError: EOPNOTSUPP: an option of TCP on a Unix socket.
    """
    key = level, option
    _require_level(file, level)
    if key == SNDBUF:
        value = max(2 * int(value), LEAST_SEND_BUFFER)
    elif key == RCVBUF:
        value = max(2 * int(value), LEAST_RECEIVE_BUFFER)
    elif key not in DEFAULTS:
        raise world.refuse(
            f"socket.setsockopt({level}, {option}, {value!r}) was called inside a world. What that option changes is "
            "not simulated: leave it unset."
        )
    file.options[key] = value
    size(file)


def get_option(world: World, file: Description, level: int, option: int, buflen: int) -> Any:
    """`getsockopt`.

    Raises:
        BoundaryError: a world has no answer.
        OSError: EOPNOTSUPP: an option of TCP on a Unix socket.
    """
    _require_level(file, level)
    value = file.options.get((level, option), DEFAULTS.get((level, option)))
    if value is None and level == real.SOL_SOCKET:
        value = _own(file, option)
    if value is None:
        raise world.refuse(
            f"socket.getsockopt({level}, {option}) was called inside a world, which has no answer to it."
        )
    if buflen and not isinstance(value, (bytes, bytearray)):
        return int(value).to_bytes(4, "little").ljust(buflen, b"\0")[:buflen]
    return value


def size(file: Description) -> None:
    """Give an endpoint or a listener the buffers that were asked for.

    Linux keeps the other half of a receive buffer for its own bookkeeping. A Unix socket has no window: there the
    writer's buffer is all that counts.
    """
    owner = file.endpoint or file.listener
    if owner is not None:
        owner.send_size = file.options.get(SNDBUF, owner.send_size)
        if RCVBUF in file.options:
            owner.receive_size = file.options[RCVBUF] // 2


def lingers_zero(file: Description) -> bool:
    """Whether `close` is to reset the connection."""
    linger = file.options.get(LINGER)
    if not isinstance(linger, (bytes, bytearray)):
        return False
    on, seconds = struct.unpack("ii", linger[:8])
    return bool(on) and seconds == 0


def require_flags(world: World, method: str, flags: int, known: int) -> None:
    """Refuse message flags that are not simulated (MSG_OOB, MSG_TRUNC, MSG_WAITALL, ...)."""
    if flags & ~known:
        raise world.refuse(f"socket.{method}() with flags {real.MsgFlag(flags)!r} was called inside a world.")


def _require_level(file: Description, level: int) -> None:
    if file.family == real.AF_UNIX and level != real.SOL_SOCKET:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _own(file: Description, option: int) -> int | None:
    endpoint = file.endpoint
    if option == real.SO_ERROR:
        number = endpoint.error if endpoint is not None else 0
        if endpoint is not None:
            endpoint.error = 0
        return number
    unix = file.family == real.AF_UNIX
    connected = endpoint is not None and endpoint.connected
    known: dict[int, int] = {
        real.SO_TYPE: int(real.SOCK_STREAM),
        real.SO_SNDBUF: UNIX_BUFFER if unix else SEND_BUFFER if connected else UNCONNECTED_SEND_BUFFER,
        real.SO_RCVBUF: UNIX_BUFFER if unix else RECEIVE_BUFFER,
        real.SO_ACCEPTCONN: int(file.listener is not None),
        getattr(real, "SO_DOMAIN", 39): int(file.family),
        getattr(real, "SO_PROTOCOL", 38): 0 if unix else int(real.IPPROTO_TCP),
    }
    return known.get(option)
