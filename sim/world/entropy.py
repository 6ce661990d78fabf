"""The world's entropy: seeded, so the same in each run.

Two streams that know nothing of one another: one for the `random` module's global functions, whose state programs
may seed and read, and one for the operating system's (`os.urandom`, and through it uuid and secrets). Drawing from
one leaves the other as it was.
"""

from __future__ import annotations

import random

_Random = random.Random


class Entropy:
    """Both streams of one world, from one integer seed."""

    __slots__ = ("random", "system")

    def __init__(self, seed: int = 0) -> None:
        self.random = _Random(f"random {seed}")
        self.system = _Random(f"system {seed}")

    def urandom(self, size: int) -> bytes:
        """`size` bytes, as `os.urandom` gives them."""
        if size < 0:
            raise ValueError("negative argument not allowed")
        return self.system.randbytes(size)
