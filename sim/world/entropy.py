"""A world's entropy: seeded, so the same in each run.

Each script has entropy of its own, and so what one draws does not depend on when another does; the processes share
the world's.

Two streams that know nothing of one another: one for the `random` module's global functions, whose state programs
may seed and read, and one for the operating system's (`os.urandom`, and through it uuid and secrets). Drawing from
one leaves the other as it was.
"""

from __future__ import annotations

import random

_Random = random.Random


class _System(_Random):
    """A generator that counts how far it is; each number that `Random` makes of bits comes by this method."""

    drawn = 0

    def getrandbits(self, k: int, /) -> int:
        self.drawn += (k + 31) // 32
        return super().getrandbits(k)


class Entropy:
    """Both streams, from one integer seed and the name of whose they are ("": the world's).

    A stream begins when somebody first draws from it: most scripts never do, and a generator costs more than they.
    """

    __slots__ = ("_random", "_seed", "_system")

    def __init__(self, seed: int = 0, name: str = "") -> None:
        self._seed = f"{seed} {name}".rstrip()
        self._random: _Random | None = None
        self._system: _System | None = None

    @property
    def random(self) -> _Random:
        """What the `random` module's global functions draw from."""
        if self._random is None:
            self._random = _Random(f"random {self._seed}")
        return self._random

    @property
    def system(self) -> _System:
        """What stands for the operating system's generator."""
        if self._system is None:
            self._system = _System(f"system {self._seed}")
        return self._system

    def drawn(self) -> tuple[int, int]:
        """Two numbers that tell how far the streams are."""
        system = self._system.drawn if self._system is not None else 0
        return system, hash(self._random.getstate()) if self._random is not None else 0

    def urandom(self, size: int) -> bytes:
        """`size` bytes, as `os.urandom` gives them."""
        if size < 0:
            raise ValueError("negative argument not allowed")
        return self.system.randbytes(size)
