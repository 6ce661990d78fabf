"""`select.poll` in a world: for looking whether a socket is ready, as connection pools do before they use one again.

To look is allowed (a timeout of 0), and so is what is ready; to wait is not, because only the world's selector knows how
time passes. Answers come in the order of registration.
"""

from __future__ import annotations

import select
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.world.world import World

EVERYTHING = select.POLLIN | select.POLLPRI | select.POLLOUT


class SimPoll:
    """What `select.poll()` returns in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._masks: dict[int, int] = {}

    def register(self, fileobj: Any, mask: int = EVERYTHING) -> None:
        self._masks[_descriptor(fileobj)] = mask

    def modify(self, fileobj: Any, mask: int) -> None:
        fd = _descriptor(fileobj)
        if fd not in self._masks:
            raise FileNotFoundError(2, "No such file or directory")
        self._masks[fd] = mask

    def unregister(self, fileobj: Any) -> None:
        del self._masks[_descriptor(fileobj)]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """What is ready. `timeout` is in milliseconds, as there; only 0 is possible while nothing is."""
        ready = [(fd, events) for fd, mask in self._masks.items() if (events := self._events(fd, mask))]
        if not ready and timeout != 0:
            raise self._world.refuse(
                f"select.poll() had to wait (timeout={timeout!r}) inside a world. Await something instead, or look with "
                "a timeout of 0."
            )
        return ready

    def _events(self, fd: int, mask: int) -> int:
        sock = self._world.descriptors.socket(fd)
        events = select.POLLIN if mask & select.POLLIN and sock.ready(selectors.EVENT_READ) else 0
        return events | (select.POLLOUT if mask & select.POLLOUT and sock.ready(selectors.EVENT_WRITE) else 0)


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
