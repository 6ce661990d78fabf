"""A kernel connection as native tasks use it: read and write by waiting for readiness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.world.fiber import Signal

if TYPE_CHECKING:
    from sim.world.kernel import Endpoint

READ_SIZE = 65_536


class Stream:
    """One side of a connection, for fibers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._changed = Signal()
        endpoint.watcher = self._changed.fire

    @property
    def gone(self) -> bool:
        """Whether the peer has closed or reset the connection, as far as this side was told."""
        return self._endpoint.eof or self._endpoint.reset

    @property
    def unread(self) -> bool:
        """Whether bytes wait to be read."""
        return self._endpoint.unread > 0

    @property
    def readable(self) -> bool:
        """Whether `read` would not wait."""
        return self._endpoint.readable

    async def read(self) -> bytes:
        """The next bytes; b"" at end of file.

        Raises:
            OSError: the peer reset the connection.
        """
        while not self._endpoint.readable:
            await self._changed
        return self._endpoint.receive(READ_SIZE)

    async def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            OSError: the connection is gone.
        """
        while data:
            sent = self.write_some(data)
            data = data[sent:]
            if not sent:
                await self._changed

    def write_some(self, data: bytes) -> int:
        """Write as much of `data` as there is room for. Returns how much.

        Raises:
            OSError: the connection is gone.
        """
        try:
            return self._endpoint.send(data)
        except BlockingIOError:
            return 0

    @property
    def closed(self) -> bool:
        """Whether this side closed it."""
        return self._endpoint.closed

    async def changed(self) -> None:
        """Wait until something happens to the connection, or somebody calls `wake`."""
        await self._changed

    def wake(self) -> None:
        """Have those who wait in `changed` look again."""
        self._changed.fire()

    def close(self) -> None:
        """Close it: FIN, or RST if something was not read."""
        self._endpoint.close()
