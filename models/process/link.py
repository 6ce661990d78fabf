"""The link between the coordinator and the server process: two files in a directory that both know.

- `events`, a FIFO from the server process: JSON lines, one for each event of the recorder and a few notes.
- `progress`, a few bytes of shared memory from the coordinator: how many outer steps are done, and whether the
  plan is given up. Shared memory, because the server process must be able to look at it while it holds Python's
  global lock without a pause, and any system call would give the lock away.

Both sides stamp what they see with the monotonic clock, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from typing import TYPE_CHECKING, Any

from models.asgi import events as asgi_events
from sim.world.trace import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS: dict[str, type[Event]] = {
    k.kind: k for k in vars(asgi_events).values() if isinstance(k, type) and issubclass(k, Event) and k is not Event
}
"""What the recorder can send, by the event's name."""

_FREE = 4


class SharedProgress:
    """The shared memory.

    Args:
        path: the file behind it.
        create: whether this side makes it.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.write(fd, bytes(mmap.PAGESIZE))
            self._memory = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)

    @property
    def outer(self) -> int:
        """How many outer steps are done. Reading it makes no system call."""
        return int.from_bytes(self._memory[0:_FREE], "little")

    @outer.setter
    def outer(self, count: int) -> None:
        self._memory[0:_FREE] = count.to_bytes(_FREE, "little")

    @property
    def free(self) -> bool:
        """Whether the plan is given up and nothing is held back any more."""
        return self._memory[_FREE] != 0

    def set_free(self) -> None:
        """Give the plan up."""
        self._memory[_FREE] = 1

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()


def event_line(kind: type[Event], actor: str, fields: tuple[Any, ...]) -> bytes:
    """An event of now, as a line."""
    return _line({"event": kind.kind, "actor": actor, "fields": [_pack(f) for f in fields]})


def note_line(note: str, **fields: Any) -> bytes:
    """A note of now, as a line."""
    return _line({"note": note, **fields})


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps({"t": time.monotonic(), **record}, separators=(",", ":")).encode() + b"\n"


def fields_of(record: dict[str, Any]) -> list[Any]:
    """The fields of an event's line, as the recorder gave them."""
    return [_unpack(f) for f in record["fields"]]


class Lines:
    """Cuts a stream of bytes into complete lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream."""
        if self._rest:
            yield self._rest
            self._rest = b""


def _pack(value: Any) -> Any:
    """`value` as JSON types, with bytes and tuples recognizable."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": bytes(value).decode("latin-1")}
    if isinstance(value, tuple):
        return {"$tuple": [_pack(v) for v in value]}
    if isinstance(value, dict):
        return {"$dict": [[_pack(k), _pack(v)] for k, v in value.items()]}
    if isinstance(value, list):
        return [_pack(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return repr(value)


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return value["$bytes"].encode("latin-1")
    if "$tuple" in value:
        return tuple(_unpack(v) for v in value["$tuple"])
    return {_unpack(k): _unpack(v) for k, v in value["$dict"]}
