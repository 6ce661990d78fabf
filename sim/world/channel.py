"""What is in flight between two endpoints: segments, in a channel for each direction.

A channel is first in, first out. Whoever calls `deliver` decides when its oldest segment arrives; nothing here does
(the rules are in `sim.world.endpoint`).
"""

from __future__ import annotations

import enum
import functools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.world.endpoint import Endpoint


class Flag(enum.Enum):
    """What a segment is for."""

    SYN = "SYN"
    DATA = "data"
    FIN = "FIN"
    RST = "RST"
    CLOSE = "close"
    """Both directions are given up; only Unix sockets tell this from FIN (`sim.world.unix`)."""


DATA, SYN, FIN, RST = Flag.DATA, Flag.SYN, Flag.FIN, Flag.RST
"""Before Python 3.12, asking an enum for its member costs as much as a call."""


@functools.lru_cache(maxsize=1_000)
def _size(count: int) -> str:
    return f"{count} bytes"


class Segment:
    """What travels: its kind, its bytes and what the sender called it, or else what it is.

    The rest is the world's: when it entered flight, in which interval of virtual time it may arrive, the trace event that
    sent it, and its way, for people: from whom, to whom, on which connection. The kernel neither sets nor reads them.
    """

    __slots__ = ("data", "earliest", "flag", "label", "latest", "order", "sent_by", "way")

    earliest: float
    latest: float
    order: int
    sent_by: int | None
    way: tuple[str, str, str]

    def __init__(self, flag: Flag, data: bytes = b"", label: str = "") -> None:
        self.flag = flag
        self.data = data
        self.label = label or (_size(len(data)) if flag is DATA else flag.value)

    def __str__(self) -> str:
        return self.label


class Channel:
    """One direction of a connection: the segments in flight from `source` to `target`. The kernel puts them there."""

    __slots__ = ("in_flight", "segments", "source", "target")

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        self.source = source
        self.target = target
        self.segments: deque[Segment] = deque()
        self.in_flight = 0
        """Bytes in those segments."""

    def clear(self) -> None:
        """Lose everything in flight."""
        self.segments.clear()
        self.in_flight = 0

    def deliver(self) -> Segment:
        """Take the oldest segment in flight and hand it to the target. Returns it."""
        segment = self.segments.popleft()
        source = self.source
        stalled = segment.flag is DATA and not source.writable
        self.in_flight -= len(segment.data)
        self.target._arrive(segment)
        if segment.flag is FIN:
            source.fin_arrived = True
        if stalled and source.writable:
            source.wake()
        return segment
