"""Virtual time: it stands still while code runs and jumps when nothing else can happen.

Moments are kept to the nanosecond. Sums of floats differ in their last bits by the way they were made; so rounded,
moments that are equal on paper (a timer of 0.2 s, two sleeps of 0.1 s, a latency of 0.2 s) are equal here too.
"""

from __future__ import annotations

EPOCH = 1_717_718_400.0
"""What `time.time()` says when a world begins: 2024-06-07 00:00 UTC."""
MONOTONIC = 1_000.0
"""What `time.monotonic()` and `loop.time()` say then. It differs from `EPOCH`, so that mixing clocks shows."""


def moment(seconds: float) -> float:
    """A point of virtual time, to the nanosecond."""
    return round(seconds, 9)


class Clock:
    """Seconds since the world began; only the world moves it, only forward, and from one `moment` to another."""

    __slots__ = ("jumped", "now")

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.jumped = 0.0
        """Seconds by which the wall clock was set ahead."""

    def monotonic(self) -> float:
        """Seconds of the world's monotonic clock."""
        return MONOTONIC + self.now

    def wall(self) -> float:
        """Seconds since the Unix epoch on the world's wall clock."""
        return EPOCH + self.now + self.jumped
