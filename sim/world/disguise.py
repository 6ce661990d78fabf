"""Classes that have to stay classes while a boundary is open: sockets and datetime.

`isinstance`, `issubclass`, subclassing, annotations and pickling go on working with the names that modules hold, for
real objects and for simulated ones. What an observer could notice: `type(x) is datetime.datetime` is false.
"""

from __future__ import annotations

import _socket
import copyreg
import datetime as datetime_module
import socket
from typing import Any

from sim.world.active import current_world
from sim.world.sockets import SimSocket

RealSocket = socket.socket
RealRawSocket = _socket.socket
RealDatetime = datetime_module.datetime


class _SocketType(type):
    """`socket.socket` while a boundary is open: a simulated one in a world, the real one elsewhere."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not Socket:
            return super().__call__(*args, **kwargs)
        world = current_world()
        return RealSocket(*args, **kwargs) if world is None else SimSocket(world, *args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Socket:
            return isinstance(instance, (RealSocket, SimSocket))
        return type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, (RealSocket, SimSocket)) if cls is Socket else type.__subclasscheck__(cls, subclass)


class Socket(RealSocket, metaclass=_SocketType):
    __doc__ = RealSocket.__doc__
    __slots__ = ()


class _RawSocketType(type):
    """`_socket.socket`, from which the other is made: refused in a world, because its methods cannot be simulated."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        world = current_world()
        if world is not None:
            raise world.refuse("_socket.socket() was called inside a world. Use socket.socket().")
        return RealRawSocket(*args, **kwargs) if cls is RawSocket else super().__call__(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is RawSocket:
            return isinstance(instance, (RealRawSocket, SimSocket))
        return type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is RawSocket:
            return issubclass(subclass, (RealRawSocket, SimSocket))
        return type.__subclasscheck__(cls, subclass)


class RawSocket(RealRawSocket, metaclass=_RawSocketType):
    __doc__ = RealRawSocket.__doc__
    __slots__ = ()


class _DatetimeType(type):
    """`datetime.datetime` while a boundary is open: only the methods that read the clock differ.

    `today()` and `date.today()` need no help: they call `time.time` by name.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return RealDatetime(*args, **kwargs) if cls is Datetime else super().__call__(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, RealDatetime) if cls is Datetime else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, RealDatetime) if cls is Datetime else type.__subclasscheck__(cls, subclass)

    def __getattribute__(cls, name: str) -> Any:
        if name in ("now", "utcnow"):
            world = current_world()
            if world is not None:
                made: Any = RealDatetime if cls is Datetime else cls
                seconds = world.clock.wall()
                if name == "now":
                    return lambda tz=None: made.fromtimestamp(seconds, tz)
                return lambda: made.fromtimestamp(seconds, datetime_module.timezone.utc).replace(tzinfo=None)
        if cls is Datetime and not name.startswith("__"):
            return getattr(RealDatetime, name)
        return super().__getattribute__(name)


class Datetime(RealDatetime, metaclass=_DatetimeType):
    __doc__ = RealDatetime.__doc__
    __slots__ = ()


for _ours, _theirs in ((Socket, RealSocket), (RawSocket, RealRawSocket), (Datetime, RealDatetime)):
    _ours.__module__, _ours.__name__, _ours.__qualname__ = _theirs.__module__, _theirs.__name__, _theirs.__qualname__

PAIRS: tuple[tuple[type, type], ...] = ((RealSocket, Socket), (RealRawSocket, RawSocket), (RealDatetime, Datetime))
"""Each real class with the one that stands in for it."""


def put_on() -> None:
    """Let real datetimes be pickled under the name that now belongs to the stand-in."""
    copyreg.pickle(RealDatetime, _reduce)


def take_off() -> None:
    """Undo `put_on`."""
    copyreg.dispatch_table.pop(RealDatetime, None)


def _reduce(value: datetime_module.datetime) -> tuple[Any, ...]:
    return (Datetime, value.__reduce_ex__(2)[1])
