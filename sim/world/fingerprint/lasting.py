"""What stands for the same thing in each world of a search, or at each look at one world, and so is found out once.

Rules for this file:

1. What is kept for a search does not change: singletons, text, classes and functions of modules whose variables are
   constant. A world, or what is made in one, is not kept: somebody may look whether it has died.
2. What is kept for a world are values that nobody can know to be dead or alive, and that are written alike at each look:
   numbers, text, bytes, and tuples of these; no names that a run counts, and no moments.
3. What has an address here is held, so that nothing else can have that address.
   For the same reason nothing is let go while a walk is under way.
4. A text that was kept before the run counted it as a name is no text any more: then all text is forgotten.
5. There are limits; behind them, things are found out each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.world.fingerprint.plain import ABSENT, SINGLETONS, TUPLE, plain

if TYPE_CHECKING:
    from sim.world.world import World

MOST = 4_096
"""Texts, headers and other things that are kept for a search, and values that are kept for a world: of each so many."""
LONGEST = 64
"""Characters of the longest text that is kept for a search, or bytes of the longest header."""


class Lasting:
    """What stands for things, by address. It lasts for a whole search."""

    __slots__ = ("_held", "_here", "_here_held", "_names", "_pairs", "_tokens", "texts")

    def __init__(self) -> None:
        self._tokens = {id(ABSENT): b"-"}
        self._tokens |= {id(value): plain(value) if value != () else TUPLE[0] for value in SINGLETONS}
        self._held: list[Any] = []
        self.texts: dict[str, bytes] = {}
        """What stands for texts, by themselves."""
        self._pairs: dict[tuple[bytes, bytes], bytes] = {}
        self._here: dict[int, bytes] = {}
        """What stands for things in one world."""
        self._here_held: list[Any] = []
        self._names = 0

    def forget_world(self) -> None:
        """Another world will be looked at, or none."""
        self._here_held.clear()
        self._here = {}
        self._names = 0

    def of(self, world: World) -> dict[int, bytes]:
        """What a walk over this world may begin with, while no other is under way."""
        counted = world.trace.counted
        if len(counted) != self._names or not self._here or len(self._here_held) > MOST:
            self.forget_world()
            self._names = len(counted)
            if not self.texts.keys().isdisjoint(counted):
                addresses = {id(text) for text in self.texts}
                self._tokens = {address: token for address, token in self._tokens.items() if address not in addresses}
                self.texts.clear()
            self._here = self._tokens.copy()
        return self._here.copy()

    def keep(self, value: Any, token: bytes) -> bytes:
        """Keep for the search what stands for a value. Returns that."""
        if len(self._held) < MOST:
            self._held.append(value)
            self._tokens[id(value)] = self._here[id(value)] = token
        return token

    def keep_text(self, value: str) -> bytes:
        """Keep what stands for a text that is no counted name. Returns that."""
        token = self.texts.get(value)
        if token is None:
            token = plain(value)
            if len(value) <= LONGEST and len(self.texts) < MOST:
                self.texts[value] = self._tokens[id(value)] = self._here[id(value)] = token
                return token
        return self.keep_here(value, token)

    def keep_pair(self, value: tuple[bytes, bytes]) -> bytes:
        """Keep what stands for two bytes: a header, and most headers are the same in each run. Returns that."""
        token = self._pairs.get(value)
        if token is None:
            token = TUPLE[2] + plain(value[0]) + plain(value[1])
            if len(token) <= LONGEST and len(self._pairs) < MOST:
                self._pairs[value] = token
        return self.keep_here(value, token)

    def keep_here(self, value: Any, token: bytes) -> bytes:
        """Keep for this world what stands for a value (rule 2). Returns that."""
        self._here_held.append(value)
        self._here[id(value)] = token
        return token
